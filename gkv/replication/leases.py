"""The leases that a primary has: what was granted to its own process, and by which (section "A read").

A granter promises to let nobody take over, itself in the first place, until a lease has run out. So
a primary that has a lease of every granter knows that it still is the only one.
"""

from collections.abc import Iterable

from gkv.duties import Duties


class Leases:
    """By granter, the newest lease."""

    def __init__(self) -> None:
        self._until: dict[str, tuple[int, float]] = {}

    def granted(self, granter: str, incarnation: int, sent: float, lease: float) -> None:
        """Note the answer to something that was sent at that time: a lease counts from there, not from the answer."""
        known = self._until.get(granter)
        until = sent + lease
        if known is None or known[0] != incarnation or known[1] < until:
            self._until[granter] = (incarnation, until)

    def missing(self, granters: Iterable[str], duties: Duties, now: float) -> list[str]:
        """Return those of the granters whose lease is not valid now, as their processes are by this document."""
        return [one for one in granters if not self._valid(one, duties, now)]

    def until(self, granters: Iterable[str], duties: Duties) -> float:
        """Return until when all these granters' leases are valid, infinity without a granter, 0 if one has given none."""
        found = [self._until.get(one, (None, 0.0)) for one in granters]
        right = [duties.incarnation_of(one) for one in granters]
        return min(
            [until if given == by else 0.0 for (given, until), by in zip(found, right, strict=True)], default=float("inf")
        )

    def _valid(self, granter: str, duties: Duties, now: float) -> bool:
        known = self._until.get(granter)
        return known is not None and now < known[1] and known[0] == duties.incarnation_of(granter)
