"""Who counts as silent: the time is an argument."""

from dataclasses import replace

from gkv.cluster.callin import CallIn
from gkv.cluster.document import State
from gkv.cluster.liveness import Liveness
from gkv.model import Node
from tests.documents import document

A, B = (Node(name, f"http://127.0.0.1:{9000 + place}") for place, name in enumerate("ab"))
BOTH = document([A, B])


def looks(liveness: Liveness, start: float, end: float) -> None:
    """Look all the time, ten times a second."""
    for step in range(round((end - start) * 10) + 1):
        liveness.look(start + step / 10, "ab")


def test_member_is_silent_a_second_after_its_last_call_and_not_before() -> None:
    liveness = Liveness(100)
    liveness.heard(CallIn(A, 1), 100.5)
    looks(liveness, 100, 101.6)
    assert liveness.silent(BOTH, 100.9) == frozenset()
    assert liveness.silent(BOTH, 101.4) == {"b"}
    assert liveness.silent(BOTH, 101.6) == {"a", "b"}
    assert set(liveness.recent(101.4)) == {"a"}


def test_nobody_is_silent_before_a_second_after_the_start() -> None:
    assert Liveness(100).silent(BOTH, 100.99) == frozenset()


def test_member_that_is_down_is_not_silent() -> None:
    down = replace(BOTH, members=(BOTH.members[0], replace(BOTH.members[1], state=State.DOWN)))
    assert Liveness(100).silent(down, 200) == {"a"}


def test_time_in_which_nobody_looked_does_not_count() -> None:
    liveness = Liveness(100)
    looks(liveness, 100, 101.5)
    liveness.look(104.5, "ab")  # it stood still itself
    assert liveness.silent(BOTH, 105.4) == frozenset()
    assert liveness.silent(BOTH, 105.5) == {"a", "b"}


def test_call_is_news_when_it_says_something_else() -> None:
    liveness = Liveness(0)
    assert liveness.heard(CallIn(A, 1), 1)
    assert not liveness.heard(CallIn(A, 1), 2)
    assert liveness.heard(CallIn(A, 1, order=(1, 2)), 3)


def test_call_of_a_process_that_another_has_replaced_counts_for_nothing() -> None:
    liveness = Liveness(0)
    liveness.heard(CallIn(A, 1, ran=(7, 1)), 1)
    liveness.heard(CallIn(A, 2, ran=(7, 1, 2)), 2)
    for late in (7, 1):
        assert not liveness.heard(CallIn(A, late), 3)
    assert liveness.recent(2.5)["a"].incarnation == 2
    assert liveness.heard(CallIn(A, 2, order=(1, 2)), 2.6)
    assert not liveness.is_up("a", 3.7)


def test_incarnations_of_a_directory_are_remembered_when_they_are_told_once() -> None:
    liveness = Liveness(0)
    liveness.heard(CallIn(A, 1, ran=(7, 1)), 1)
    liveness.heard(CallIn(A, 1, order=(1, 2)), 2)
    assert liveness.recent(2)["a"].ran == (7, 1)


def test_stranger_is_forgotten_after_a_while() -> None:
    liveness = Liveness(0)
    liveness.heard(CallIn(Node("x", "http://127.0.0.1:1"), 1), 1)
    looks(liveness, 1, 32)
    assert liveness.last("x") is None


def test_answer_to_a_question_counts_as_heard_from_the_process_that_is_known() -> None:
    liveness = Liveness(0)
    liveness.heard(CallIn(A, 1), 1)
    liveness.answered("a", 2, 5)
    assert not liveness.is_up("a", 5)
    liveness.answered("a", 1, 5)
    assert liveness.is_up("a", 5)


def test_answer_of_a_member_that_has_not_called_counts_and_is_forgotten_like_a_call() -> None:
    liveness = Liveness(0)
    liveness.answered("a", 1, 5)
    assert liveness.is_up("a", 5)
    assert (liveness.last("a"), liveness.recent(5)) == (None, {})
    looks(liveness, 5, 36)
    assert not liveness.is_up("a", 36)


def test_late_call_of_an_older_process_does_not_shut_the_later_one_out() -> None:
    """Whoever listens only since a moment ago may hear the later process first: it says which ran before it, and goes on
    calling where that says nothing.
    """
    liveness = Liveness(0)
    assert liveness.heard(CallIn(A, 2, ran=(1, 2)), 0.1)
    assert not liveness.heard(CallIn(A, 1), 0.2)
    assert liveness.recent(0.3)["a"].incarnation == 2

    strangers = Liveness(0)
    assert strangers.heard(CallIn(A, 2), 0.1)
    assert strangers.heard(CallIn(A, 1), 0.2)
    assert not strangers.heard(CallIn(A, 2), 0.5), "the other one still counts as the later one"
    assert strangers.heard(CallIn(A, 2), 1.3)
