"""Is a history linearizable: is there one order of its operations, for each key, that explains every
answer? Pure.

Linearizability is local, so each key is judged alone (Herlihy, Wing: Linearizability, 1990). A
verdict is always right: a search that would take too long raises GaveUp, and its run is invalid.
What is wrong is shown by a history as small as can be found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tests.linearizability.history import NEVER, Ending, Kind, Offence, Operation, by_key, integer
from tests.linearizability.search import GaveUp, Search, overwrites

MAX_STEPS_SMALLER = 30_000
"""Operations that are tried in the search for an order of a smaller history, which may fail."""


def check(history: Iterable[Operation]) -> list[Offence]:
    """Return what is wrong with a history, at most one offence for each key.

    >>> from tests.linearizability.history import Operation, Kind
    >>> put = Operation("k", Kind.PUT, call=1, back=2, value="1")
    >>> [found.what for found in check([put, Operation("k", Kind.READ, call=3, back=4, value="2")])]
    ['no order of these operations explains their answers']
    """
    return [offence for key, operations in by_key(history).items() if (offence := _judge(key, operations))]


def _judge(key: str, operations: Sequence[Operation]) -> Offence | None:
    if twice := _version_of_two(operations):
        return Offence(key, "two writes, or two values, have the same version", twice, len(operations))
    at = Search(operations).run()
    if at is None:
        return None
    until = [one for one in operations if one.call <= at.back]
    what = "no order of these operations explains their answers"
    return Offence(key, what, _with_writers(_smallest(until), until), len(until))


def _version_of_two(operations: Iterable[Operation]) -> list[Operation]:
    """Return two operations that give one version to different things, if there are any."""
    writers: dict[str, Operation] = {}
    values: dict[str, Operation] = {}
    for one in operations:
        if one.ending is not Ending.DONE or one.version is None:
            continue
        if one.kind is not Kind.READ and (other := writers.setdefault(one.version, one)) is not one:
            return [other, one]
        if one.value is not None and values.setdefault(one.version, one).value != one.value:
            return [values[one.version], one]
    return []


def _smallest(operations: Sequence[Operation]) -> list[Operation]:
    """Return a small part of a key's history that is still refused.

    A good history stays a good one when all is left out that was over before a write, when an
    operation is left out that changed nothing, and when the answer to a write is forgotten. A write
    whose outcome may as well be unknown is not shown, unless somebody has seen its value.
    """
    kept = dict(enumerate(operations))
    start = _begin_late(kept)
    _leave_out(kept, [place for place, one in kept.items() if not _changed(one)])
    done = [place for place, one in kept.items() if _changed(one) and one.ending is Ending.DONE and place != start]
    _leave_out(kept, done, forget=True)
    seen = {one.value for one in kept.values() if not _changed(one) or one.kind is Kind.ADD} - {None}
    counted = any(integer(value) is not None for value in seen)
    may_go = [
        place
        for place, one in kept.items()
        if one.ending is Ending.UNKNOWN and one.value not in seen and not (counted and one.kind is Kind.ADD)
    ]
    _leave_out(kept, may_go)
    return [operations[place] for place in sorted(kept)]


def _begin_late(kept: dict[int, Operation]) -> int | None:
    """Leave out all that was over before some write, the last for which the rest is refused; return
    its place.

    The write depends on nothing, and no operation of known outcome was under way with it: so
    whatever it was that was left out, nothing of it was there any more.
    """
    until = -NEVER
    starts: list[tuple[int, Operation]] = []
    for place, one in kept.items():  # by the time of their calls
        if starts and one.call <= starts[-1][1].back and one.ending in _KNOWN:
            starts.pop()
        if one.call > until and _changed(one) and one.ending is Ending.DONE and overwrites(replace(one, existed=None)):
            starts.append((place, one))
        if one.ending in _KNOWN:
            until = max(until, one.back)
    for start, one in reversed(starts):
        rest = {place: other for place, other in kept.items() if other.ending is Ending.UNKNOWN or other.call > one.call}
        rest[start] = replace(one, existed=None)
        if _is_refused([other for _, other in sorted(rest.items())]):
            kept.clear()
            kept.update(sorted(rest.items()))
            return start
    return None


_KNOWN = set(Ending) - {Ending.UNKNOWN, Ending.REFUSED}


def _changed(one: Operation) -> bool:
    """Return whether an operation may have changed something."""
    return one.kind is not Kind.READ and one.ending in (Ending.DONE, Ending.UNKNOWN)


def _leave_out(kept: dict[int, Operation], removable: Sequence[int], *, forget: bool = False) -> None:
    """Leave out as many operations at these places as can be, or only forget their answers, so that
    the rest is refused.
    """
    size = max(1, len(removable) // 2)
    while removable:
        left: list[int] = []
        for start in range(0, len(removable), size):
            chosen = removable[start : start + size]
            fewer = {place: one for place, one in kept.items() if place not in chosen}
            if forget:
                fewer = dict(sorted((fewer | {place: _forgotten(kept[place]) for place in chosen}).items()))
            if _is_refused(list(fewer.values())):
                kept.clear()
                kept.update(fewer)
            else:
                left += chosen
        if size == 1:
            return
        removable, size = left, max(1, size // 2)


def _is_refused(operations: Sequence[Operation]) -> bool:
    try:
        return Search(operations, MAX_STEPS_SMALLER).run() is not None
    except GaveUp:
        return False


def _forgotten(one: Operation) -> Operation:
    value = None if one.kind is Kind.ADD else one.value
    expiry = one.expiry and replace(one.expiry, latest=NEVER)
    return replace(
        one, back=NEVER, ending=Ending.UNKNOWN, value=value, version=None, existed=None, expiry=expiry, code="whatever it was"
    )


def _with_writers(shown: Sequence[Operation], operations: Sequence[Operation]) -> list[Operation]:
    """Return the operations to be shown, and the writes whose values they have seen, refused ones
    too.
    """
    seen = {one.value for one in shown if one.kind is Kind.READ and one.value is not None}
    here = {id(one) for one in shown}
    writers = [one for one in operations if one.kind is Kind.PUT and one.value in seen and id(one) not in here]
    return sorted([*shown, *writers], key=lambda one: one.call)
