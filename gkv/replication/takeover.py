"""Taking over: when a process may serve the keys of a list as their primary (T1, T2, T3, M3).

Every list whose primary it becomes is closed until all granters have said which keys are unsettled
(T1) and no grant of its own keeps it waiting (T2). Then the list is open, and those keys are
written anew (T3). A newer document begins all that is not open from the beginning.
"""

from collections.abc import Iterable

from gkv.duties import Duties
from gkv.replication.events import Pair, pair_of


class _Taking:
    """A list that is being taken over."""

    __slots__ = ("keys", "unheard")

    def __init__(self, granters: Iterable[str]) -> None:
        self.unheard = set(granters)
        """Granters that have not said which keys are unsettled."""
        self.keys: set[str] = set()
        """Those that were named."""


class Takeovers:
    """The lists that one process is the primary of, by identity."""

    def __init__(self) -> None:
        self.opened = 0
        """Lists that were opened, ever."""
        self._open: dict[Pair, int] = {}
        self._taking: dict[Pair, _Taking] = {}

    def reign(self, pair: Pair) -> int | None:
        """Return the number of the time for which a list has been open without a break, None if it is not open."""
        return self._open.get(pair)

    def adopt(self, before: Duties, after: Duties, serves: bool) -> set[Pair]:
        """Go on under another document; return the lists that stay open.

        `serves` says whether this process may be a primary by the new one.
        """
        was_open, self._open, self._taking = self._open, {}, {}
        known, same = self._sources(before, after), _is_same(before, after)
        for roles in after.own:
            if not serves or roles.primary != after.me:
                continue
            pair = pair_of(roles)
            sources = known.get(pair if same else roles.preference)
            if self._goes_on(before, after) and sources and all(source in was_open for source in sources):
                self._open[pair] = max(was_open[source] for source in sources)
            else:
                self._taking[pair] = _Taking(roles.granters)
        return set(self._open)

    def _goes_on(self, before: Duties, after: Duties) -> bool:
        """Return whether a list that was open may stay so: not after a gap in the epochs (M3, F20)."""
        return after.order == (before.order[0], before.order[1] + 1)

    def _sources(self, before: Duties, after: Duties) -> dict[Pair | tuple[str, ...], list[Pair]]:
        """Return the lists in which the keys of a list were before: by identity where that stands for the same keys as before,
        else by preference. This process is in all of them, or was to be. One look for all lists: a look for each took 13 s for
        a node of 100 with 655 vnodes.
        """
        sources: dict[Pair | tuple[str, ...], list[Pair]] = {}
        if after.ring in (before.ring, before.next):
            for one in before.own:
                pair = pair_of(one)
                to = pair if _is_same(before, after) else one.preference if after.ring == before.ring else one.coming
                sources.setdefault(to, []).append(pair)
        return sources

    def unheard(self) -> set[str]:
        """Return the granters that have not said which keys are unsettled."""
        return {granter for taking in self._taking.values() for granter in taking.unheard}

    def named(self, granter: str, keys: Iterable[str], duties: Duties) -> None:
        """Note a granter's answer under the document of now."""
        for taking in self._taking.values():
            taking.unheard.discard(granter)
        for key in keys:
            known = self._taking.get(pair_of(duties.roles_of(key)))
            if known is not None:
                known.keys.add(key)

    @property
    def busy(self) -> bool:
        """Whether any list is being taken over."""
        return bool(self._taking)

    @property
    def waiting(self) -> int:
        """How many lists are being taken over."""
        return len(self._taking)

    @property
    def ready(self) -> bool:
        """Whether some list waits for nothing but grants."""
        return any(not taking.unheard for taking in self._taking.values())

    def open_ready(self) -> dict[Pair, set[str]]:
        """Open the lists of which every granter was heard; return them, with the keys that are to be written anew.

        REQUIRES: no grant keeps this process waiting.
        """
        ready = {pair: taking.keys for pair, taking in self._taking.items() if not taking.unheard}
        for pair in ready:
            del self._taking[pair]
            self.opened += 1
            self._open[pair] = self.opened
        return ready


def _is_same(before: Duties, after: Duties) -> bool:
    """Return whether the keys of each list are those of before."""
    return (after.ring, after.next) == (before.ring, before.next)
