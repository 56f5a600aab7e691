"""A small part of a key's history that nothing explains, found in one that nothing explains.

A good history stays a good one when all is left out that was over before a write, when an operation
is left out that changed nothing, and when the answer to a write is forgotten: so what is left is
enough to refuse the whole. A write whose outcome may as well be unknown is not shown, unless
somebody has seen its value. Where that is too little to make it short, writes are left out as if
they had had no effect, and that is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tests.linearizability.history import NEVER, Ending, Kind, Operation, integer
from tests.linearizability.search import GaveUp, Search, overwrites

MAX_STEPS = 100_000
"""Operations that are tried in all searches for a smaller history together, twice: a few seconds."""
SHORT = 20
"""Operations that somebody can look through."""
_KNOWN = set(Ending) - {Ending.UNKNOWN, Ending.REFUSED}


class Smaller:
    """The search in one history; what was tried in vain only makes the result larger."""

    def __init__(self, operations: Sequence[Operation], steps: int) -> None:
        """`operations` are by the time of their calls; to refuse all of them took so many steps."""
        self._operations = operations
        self._kept = dict(enumerate(operations))
        self._most = 2 * steps + 1_000
        self._steps_left = MAX_STEPS
        self._shown = {one.value for one in operations if one.kind is Kind.READ} - {None}

    def found(self) -> tuple[list[Operation], bool]:
        """Return a history as small as was found, and whether it is refused by itself, whatever became
        of the others.
        """
        whole = self._kept
        is_enough = self._without_bystanders()
        if not is_enough:
            short, self._kept, self._steps_left = self._kept, whole, MAX_STEPS
            start = self._begin_late()
            self._leave_out([place for place, one in self._kept.items() if not _changed(one)])
            self._leave_out([place for place, one in self._kept.items() if _is_done(one) and place != start], forget=True)
            self._leave_out([place for place, one in self._kept.items() if self._is_bystander(one)])
            is_enough = len(self._kept) <= SHORT
            if not is_enough:
                self._kept = short
        return [self._operations[place] for place in sorted(self._kept)], is_enough

    def _without_bystanders(self) -> bool:
        """Leave out writes as if they had never taken effect, which is fast; return whether what is
        left is refused although they may take effect at any time.
        """
        bystanders = {place: one for place, one in self._kept.items() if self._is_bystander(one)}
        self._kept = {place: one for place, one in self._kept.items() if place not in bystanders}
        start = self._begin_late()
        self._leave_out([place for place, one in self._kept.items() if not _changed(one)])
        self._shown = {one.value for one in self._kept.values() if one.kind is Kind.READ} - {None}
        before = self._kept
        may_go = [place for place, one in before.items() if _is_done(one) and place != start and one.value not in self._shown]
        self._leave_out(may_go)
        self._leave_out([place for place, one in self._kept.items() if self._is_bystander(one)])
        left = self._kept
        bystanders |= {place: _forgotten(one) for place, one in before.items() if place not in left}
        is_enough = self._take(left | bystanders)
        self._kept = left
        return is_enough

    def _is_bystander(self, one: Operation) -> bool:
        """Return whether a write's outcome is unknown, and nobody shows what it has written."""
        is_counted = one.kind is Kind.ADD and any(integer(value) is not None for value in self._shown)
        return one.ending is Ending.UNKNOWN and one.value not in self._shown and not is_counted

    def _begin_late(self) -> int | None:
        """Leave out all that was over before some write, the last for which the rest is refused;
        return its place.

        The write depends on nothing, and no operation of known outcome was under way with it: so
        whatever it was that was left out, nothing of it was there any more.
        """
        until = -NEVER
        starts: list[tuple[int, Operation]] = []
        for place, one in self._kept.items():
            if starts and one.call <= starts[-1][1].back and one.ending in _KNOWN:
                starts.pop()
            if one.call > until and _changed(one) and one.ending is Ending.DONE and overwrites(replace(one, existed=None)):
                starts.append((place, one))
            if one.ending in _KNOWN:
                until = max(until, one.back)
        for start, one in reversed(starts):
            rest = {
                place: other for place, other in self._kept.items() if other.ending is Ending.UNKNOWN or other.call > one.call
            }
            if self._take(rest | {start: replace(one, existed=None)}):
                return start
        return None

    def _leave_out(self, removable: Sequence[int], *, forget: bool = False) -> None:
        """Leave out as many operations at these places as can be, or only forget their answers."""
        size = max(1, len(removable) // 2)
        while removable:
            left: list[int] = []
            for start in range(0, len(removable), size):
                chosen = set(removable[start : start + size])
                fewer = {place: one for place, one in self._kept.items() if place not in chosen}
                if forget:
                    fewer |= {place: _forgotten(self._kept[place]) for place in chosen}
                if not self._take(fewer):
                    left += sorted(chosen)
            if size == 1:
                return
            removable, size = left, max(1, size // 2)

    def _take(self, fewer: Mapping[int, Operation]) -> bool:
        """Go on with these operations if they are refused."""
        ordered = dict(sorted(fewer.items()))
        search = Search(list(ordered.values()), min(self._most, self._steps_left))
        try:
            is_refused = search.run() is not None
        except GaveUp:
            is_refused = False
        self._steps_left -= search.steps
        if is_refused:
            self._kept = ordered
        return is_refused


def _changed(one: Operation) -> bool:
    """Return whether an operation may have changed something."""
    return one.kind is not Kind.READ and one.ending in (Ending.DONE, Ending.UNKNOWN)


def _is_done(one: Operation) -> bool:
    """Return whether an operation has certainly changed something."""
    return _changed(one) and one.ending is Ending.DONE


def _forgotten(one: Operation) -> Operation:
    """Return a write without its answer."""
    value = None if one.kind is Kind.ADD else one.value
    expiry = one.expiry and replace(one.expiry, latest=NEVER)
    return replace(one, back=NEVER, ending=Ending.UNKNOWN, value=value, version=None, existed=None, expiry=expiry)
