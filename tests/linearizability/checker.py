"""Is a history linearizable: is there one order of its operations, for each key, that explains every
answer? Pure.

Linearizability is local, so each key is judged alone (Herlihy, Wing: Linearizability, 1990). A
verdict is always right: a search that would take too long raises GaveUp, and its run is invalid.
What is wrong is shown by a history as small as can be found.
"""

from collections.abc import Iterable, Sequence

from tests.linearizability.history import Ending, Kind, Offence, Operation, by_key
from tests.linearizability.search import Search
from tests.linearizability.smaller import Smaller


def check(history: Iterable[Operation]) -> list[Offence]:
    """Return what is wrong with a history, at most one offence for each key.

    >>> from tests.linearizability.history import Operation, Kind
    >>> put = Operation("k", Kind.PUT, call=1, back=2, value="1")
    >>> [found.what for found in check([put, Operation("k", Kind.READ, call=3, back=4, value="2")])]
    ['no order of these operations explains their answers']
    """
    return [offence for key, operations in by_key(history).items() if (offence := _judge(key, operations))]


def _judge(key: str, operations: Sequence[Operation]) -> Offence | None:
    if twice := version_of_two(operations):
        return Offence(key, "two writes, or two values, have the same version", twice, len(operations))
    search = Search(operations)
    at = search.run()
    if at is None:
        return None
    until = [one for one in operations if one.call <= at.back]
    shown, is_enough = Smaller(until, search.steps).found()
    what = "no order of these operations explains their answers"
    if not is_enough:
        what += ", nor do the others, of which some could explain it, had they had another outcome"
    return Offence(key, what, _with_writers(shown, until), len(until))


def version_of_two(operations: Iterable[Operation]) -> list[Operation]:
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


def _with_writers(shown: Sequence[Operation], operations: Sequence[Operation]) -> list[Operation]:
    """Return the operations to be shown, and the writes whose values they have seen, refused ones
    too.
    """
    seen = {one.value for one in shown if one.kind is Kind.READ and one.value is not None}
    here = {id(one) for one in shown}
    writers = [one for one in operations if one.kind is Kind.PUT and one.value in seen and id(one) not in here]
    return sorted([*shown, *writers], key=lambda one: one.call)
