"""The outcome of a write that depends on what is there: decided on the newest admitted record of its
key, at the moment of its admission.

What is decided goes on as a plain write. A write that comes to nothing is a read of that record.
"""

from dataclasses import dataclass

from gkv.model import Damage, Effect, Record, Value, Version
from gkv.replication.conditions import Condition
from gkv.replication.counters import NoSum, add
from gkv.replication.expiry import is_due


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about one key: `effect` is None when it is to be written, and else says why
    not. `expired` if nothing is written and the value that is there is due: its tombstone goes first.
    """

    effect: Effect | None
    value: Value | None = None
    expires: int = 0
    present: Version | None = None
    total: int | None = None
    expired: bool = False


def judge_write(
    found: Record | Damage | None, now: int, condition: Condition | None, value: Value | None, expires: int
) -> Verdict:
    """Decide about a set or, without a value, a delete."""
    if condition is None:
        return Verdict(None, value, expires)
    if isinstance(found, Damage):
        return _UNREADABLE
    record = _there(found, now)
    present = None if record is None else record.tag
    if condition.holds(present):
        return Verdict(None, value, expires)
    return Verdict(Effect.CONDITION, present=present, expired=_expired(found, now))


def judge_add(found: Record | Damage | None, now: int, delta: int, expires: int | None) -> Verdict:
    """Decide about an addition; without `expires` the value keeps its own."""
    if isinstance(found, Damage):
        return _UNREADABLE
    record = _there(found, now)
    total = add(None if record is None else record.value, delta)
    if isinstance(total, NoSum):
        return Verdict(_NO_SUM[total])
    if expires is None:
        expires = 0 if record is None else record.expires
    return Verdict(None, b"%d" % total, expires, total=total)


def judge_touch(found: Record | Damage | None, now: int, expires: int) -> Verdict:
    """Decide about another expiry."""
    if isinstance(found, Damage):
        return _UNREADABLE
    record = _there(found, now)
    if record is None:
        return Verdict(Effect.MISSING, expired=_expired(found, now))
    return Verdict(None, record.value, expires)


_UNREADABLE = Verdict(Effect.UNREADABLE)
"""Of a damaged record nothing is known, so nothing is decided on it."""
_NO_SUM = {NoSum.WRONG_TYPE: Effect.WRONG_TYPE, NoSum.TOO_MANY_DIGITS: Effect.TOO_MANY_DIGITS}


def _there(found: Record | None, now: int) -> Record | None:
    """Return the record if it has a value that is not due."""
    return None if found is None or found.value is None or is_due(found, now) else found


def _expired(found: Record | None, now: int) -> bool:
    return found is not None and is_due(found, now)
