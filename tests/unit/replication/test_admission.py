"""What is decided on the newest record of a key: a table, and a register against a plain dict."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from gkv.model import Blob, Damage, Effect, Record, Value, Version
from gkv.replication.admission import Verdict, judge_add, judge_touch, judge_write
from gkv.replication.conditions import ANY_VALUE, NO_VALUE, Condition
from gkv.replication.expiry import DueTime

NOW = 1_000
V1, V2, V3 = (Version(1, counter) for counter in (1, 2, 3))
LIVE = Record(V1, b"1")
DUE = Record(V1, b"1", NOW)
LATER = Record(V1, b"1", NOW + 1)
GONE = Record(V1, None)
ANEW = Record(V2, b"1", 0, V1)
IS_V1, IS_V2 = Condition.one_of([V1]), Condition.one_of([V2])

WRITES = [
    (None, None, True, None),
    (LIVE, None, True, None),
    (Damage.DAMAGED, None, True, None),
    (None, NO_VALUE, True, None),
    (None, ANY_VALUE, False, None),
    (None, IS_V1, False, None),
    (LIVE, NO_VALUE, False, V1),
    (LIVE, ANY_VALUE, True, None),
    (LIVE, IS_V1, True, None),
    (LIVE, IS_V2, False, V1),
    (LIVE, Condition.none_of([V1]), False, V1),
    (LIVE, Condition.none_of([V2]), True, None),
    (LATER, IS_V1, True, None),
    (ANEW, IS_V1, True, None),
    (ANEW, IS_V2, False, V1),
    (GONE, NO_VALUE, True, None),
    (GONE, IS_V1, False, None),
    (DUE, NO_VALUE, True, None),
    (DUE, ANY_VALUE, False, None),
    (DUE, IS_V1, False, None),
]


@pytest.mark.parametrize(("found", "condition", "holds", "present"), WRITES)
@pytest.mark.parametrize("value", [b"2", None], ids=["set", "delete"])
def test_write_is_done_when_its_condition_holds(
    found: Record | Damage | None, condition: Condition | None, holds: bool, present: Version | None, value: Value | None
) -> None:
    verdict = judge_write(found, NOW, condition, value, 77)
    if holds:
        assert verdict == Verdict(None, value, 77)
    else:
        assert verdict == Verdict(Effect.CONDITION, present=present, expired=found is DUE)


ADDITIONS = [
    (None, 5, None, Verdict(None, b"5", 0, total=5)),
    (None, 5, 77, Verdict(None, b"5", 77, total=5)),
    (LIVE, -3, None, Verdict(None, b"-2", 0, total=-2)),
    (LATER, 1, None, Verdict(None, b"2", NOW + 1, total=2)),
    (LATER, 1, 0, Verdict(None, b"2", 0, total=2)),
    (DUE, 1, None, Verdict(None, b"1", 0, total=1)),
    (GONE, 0, None, Verdict(None, b"0", 0, total=0)),
    (Record(V1, b'"7"'), 1, None, Verdict(Effect.WRONG_TYPE)),
    (Record(V1, Blob(b"7", "text/plain")), 1, None, Verdict(Effect.WRONG_TYPE)),
    (Record(V1, b"999999999999999999"), 1, None, Verdict(Effect.TOO_MANY_DIGITS)),
]


@pytest.mark.parametrize(("found", "delta", "expires", "verdict"), ADDITIONS)
def test_addition(found: Record | None, delta: int, expires: int | None, verdict: Verdict) -> None:
    assert judge_add(found, NOW, delta, expires) == verdict


TOUCHES = [
    (LIVE, Verdict(None, b"1", 77)),
    (LATER, Verdict(None, b"1", 77)),
    (None, Verdict(Effect.MISSING)),
    (GONE, Verdict(Effect.MISSING)),
    (DUE, Verdict(Effect.MISSING, expired=True)),
]


@pytest.mark.parametrize(("found", "verdict"), TOUCHES)
def test_touch(found: Record | None, verdict: Verdict) -> None:
    assert judge_touch(found, NOW, 77) == verdict


def test_nothing_is_added_to_or_touched_that_is_damaged() -> None:
    unreadable = Verdict(Effect.UNREADABLE)
    assert judge_add(Damage.DAMAGED, NOW, 1, None) == judge_touch(Damage.DAMAGED, NOW, 1) == unreadable


@pytest.mark.parametrize("condition", [ANY_VALUE, NO_VALUE, IS_V1])
def test_no_condition_is_decided_on_what_is_damaged(condition: Condition) -> None:
    assert judge_write(Damage.DAMAGED, NOW, condition, b"2", 0) == Verdict(Effect.UNREADABLE)
    assert judge_write(Damage.DAMAGED, NOW, None, b"2", 0) == Verdict(None, b"2", 0), "which repairs it"


class Register(RuleBasedStateMachine):
    """One key: what the judges make of it, and what a plain variable would."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.record: Record | None = None
        self.given = 0
        self.value: bytes | None = None
        self.version = 0
        self.ends = 0

    def there(self) -> bool:
        return self.value is not None and not 0 < self.ends <= self.now

    def apply(self, verdict: Verdict) -> None:
        if verdict.effect is None or verdict.expired:
            self.given += 1
            self.record = Record(Version(1, self.given), verdict.value, verdict.expires)

    @rule(by=st.sampled_from([1, 5]))
    def time_passes(self, by: int) -> None:
        self.now += by

    @rule(
        value=st.sampled_from([None, b"1", b"22", b'"x"']),
        back=st.none() | st.sampled_from([0, 0, 1]),
        life=st.sampled_from([0, 4]),
    )
    def write(self, value: bytes | None, back: int | None, life: int) -> None:
        condition = (
            None if back is None else Condition.one_of([Version(1, self.version - back)]) if self.version > back else NO_VALUE
        )
        holds = back is None or (self.there() and back == 0 if self.version > back else not self.there())
        verdict = judge_write(self.record, self.now, condition, value, life and self.now + life)
        assert (verdict.effect is None) == holds
        self.apply(verdict)
        if holds:
            self.value, self.version, self.ends = value, self.given, life and self.now + life
        elif verdict.expired:
            self.value = None
            assert not self.there()
        else:
            assert verdict.present == (Version(1, self.version) if self.there() else None)

    @rule(delta=st.integers(-5, 5))
    def add(self, delta: int) -> None:
        verdict = judge_add(self.record, self.now, delta, None)
        was = self.there()
        if was and self.value == b'"x"':
            assert verdict.effect is Effect.WRONG_TYPE
            return
        total = delta + (int(self.value or 0) if was else 0)
        assert verdict.total == total
        self.apply(verdict)
        self.value, self.version, self.ends = b"%d" % total, self.given, self.ends if was else 0

    @rule(life=st.sampled_from([0, 3, 9]))
    def touch(self, life: int) -> None:
        was = self.there()
        verdict = judge_touch(self.record, self.now, life and self.now + life)
        assert (verdict.effect is None) == was
        self.apply(verdict)
        if was:
            self.version, self.ends = self.given, life and self.now + life


def test_register_agrees_with_a_plain_variable() -> None:
    run_state_machine_as_test(
        Register, settings=settings(max_examples=100, stateful_step_count=30, deadline=None, derandomize=True)
    )


def test_due_time_follows_what_passes_and_no_jump_of_the_wall_clock() -> None:
    time = DueTime(wall=5_000, elapsed=100)
    assert (time.at(100), time.at(350)) == (5_000, 5_250)
    assert time.difference(wall=5_250, elapsed=350) == 0
    assert time.difference(wall=3_605_250, elapsed=350) == 3_600_000
    assert time.at(400) == 5_300
    time.take_over(wall=3_605_300, elapsed=400)
    assert (time.at(401), time.difference(3_605_301, 401)) == (3_605_301, 0)
