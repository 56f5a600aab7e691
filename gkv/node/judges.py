"""The decision about each item of a client's write, on the newest record of its key. Pure."""

from collections.abc import Callable

from gkv.model import Damage, Record
from gkv.replication.admission import Verdict, judge_add, judge_touch, judge_write
from gkv.replication.conditions import Condition
from gkv.wire.ops import Add, Delete, Set, Touch

Judge = Callable[[int, Record | Damage | None, int], Verdict]
"""Decides about the item at a place of a request, on the newest record of its key, at a moment."""


def judge_of(request: Set | Delete | Add | Touch) -> Judge:
    """Return what decides about the items of a request. Raise ValueError when a condition cannot be read."""
    if isinstance(request, Add):
        return _adds(request)
    return _touches(request) if isinstance(request, Touch) else _writes(request)


def _writes(request: Set | Delete) -> Judge:
    conditions = [None if text is None else Condition.parse(text) for text in request.conditions]
    values = request.values if isinstance(request, Set) else ()
    ttls = request.ttls if isinstance(request, Set) else ()

    def judge(place: int, found: Record | Damage | None, now: int) -> Verdict:
        expires = now + ttls[place] if ttls and ttls[place] else 0
        condition = conditions[place] if conditions else None
        return judge_write(found, now, condition, values[place] if values else None, expires)

    return judge


def _adds(request: Add) -> Judge:
    def judge(place: int, found: Record | Damage | None, now: int) -> Verdict:
        ttl = request.ttls[place] if request.ttls else None
        return judge_add(found, now, request.deltas[place], None if ttl is None else ttl and now + ttl)

    return judge


def _touches(request: Touch) -> Judge:
    def judge(place: int, found: Record | Damage | None, now: int) -> Verdict:
        return judge_touch(found, now, request.ttls[place] and now + request.ttls[place])

    return judge
