"""The pause before a member is admitted again."""

import pytest

from gkv.cluster.admission_pauses import AdmissionPauses
from gkv.cluster.document import State
from tests.documents import with_copies as document

FILLING, DOWN = State.FILLING, State.DOWN
ALL = document()

B_DOWN, B_FILLING = document({"b": {"state": DOWN}}), document({"b": {"state": FILLING}})
NOBODY: frozenset[int] = frozenset()


def test_pauses_begin_with_none_and_double_to_half_a_minute() -> None:
    pauses = AdmissionPauses(ALL, 0.0)
    now, found = 0.0, []
    for _ in range(11):
        pauses.follow(ALL, B_DOWN, NOBODY, now)
        end = now
        while "b" in pauses.running(B_DOWN, end):
            end += 0.1
        found.append(round(end - now, 3))
        now = end
        pauses.follow(B_DOWN, B_FILLING, NOBODY, now)
        pauses.follow(B_FILLING, ALL, NOBODY, now)
    assert found == pytest.approx([0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0], abs=0.11)


def test_pause_of_one_that_would_go_now_is_known_before() -> None:
    pauses = AdmissionPauses(ALL, 0.0)
    assert pauses.running(ALL, 1.0) == set()
    pauses.follow(ALL, B_DOWN, NOBODY, 1.0)
    pauses.follow(B_DOWN, ALL, NOBODY, 2.0)
    assert pauses.running(ALL, 601.9) == {"b"}
    assert pauses.running(ALL, 602.1) == set()


def test_another_process_in_a_line_is_an_end_too() -> None:
    pauses = AdmissionPauses(ALL, 0.0)
    pauses.follow(ALL, document({"b": {"state": FILLING, "incarnation": 9}}), NOBODY, 1.0)
    assert pauses.running(ALL, 1.1) == {"b"}


def test_ten_minutes_up_are_a_new_beginning_and_ten_minutes_down_are_not() -> None:
    pauses = AdmissionPauses(ALL, 0.0)
    for now in (1.0, 2.0):
        pauses.follow(ALL, B_DOWN, NOBODY, now)
        pauses.follow(B_DOWN, ALL, NOBODY, now)
    pauses.follow(ALL, B_DOWN, NOBODY, 602.1)
    assert pauses.running(B_DOWN, 602.1) == set()
    pauses.follow(B_DOWN, B_FILLING, NOBODY, 1_300.0)
    pauses.follow(B_FILLING, B_DOWN, NOBODY, 1_301.0)
    assert pauses.running(B_DOWN, 1_301.1) == {"b"}


def test_end_that_was_asked_for_makes_no_pause_and_doubles_none() -> None:
    pauses = AdmissionPauses(ALL, 0.0)
    for now in (1.0, 2.0, 3.0):
        pauses.follow(ALL, B_DOWN, frozenset([ord("b")]), now)
        assert pauses.running(B_DOWN, now) == set()
        pauses.follow(B_DOWN, ALL, NOBODY, now)
    assert pauses.running(ALL, 3.1) == set()
