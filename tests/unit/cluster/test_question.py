"""The question to all others before an eviction."""

from gkv.cluster.placement import Placement
from gkv.cluster.question import Question
from tests.documents import with_copies as document

ALL = document()
PLACED = Placement.of(ALL)

B, NONE = frozenset("b"), frozenset[str]()


def test_all_others_are_asked_and_the_eviction_is_decided_when_all_have_answered() -> None:
    question = Question()
    assert question.ask(B, NONE, ALL, PLACED, 1.0) == set("ac")
    assert not question.decided(B, PLACED, 1.0)
    question.heard("a")
    assert not question.decided(B, PLACED, 1.01)
    question.heard("c")
    assert question.decided(B, PLACED, 1.01)


def test_question_waits_50_ms_for_an_answer() -> None:
    question = Question()
    assert question.ask(B, B, ALL, PLACED, 1.0) == set("abc")
    question.heard("a")
    assert not question.decided(B, PLACED, 1.04)
    assert question.decided(B, PLACED, 1.06)


def test_question_that_could_not_be_asked_is_not_waited_for() -> None:
    question = Question()
    question.ask(B, B, ALL, PLACED, 1.0)
    question.heard("a")
    question.missing("b")
    question.missing("c")
    assert question.decided(B, PLACED, 1.0)


def test_while_a_list_would_be_left_to_silent_members_it_is_asked_again_until_one_answers_or_they_are_dead_too() -> None:
    question = Question()
    question.ask(B, B, ALL, PLACED, 1.0)
    assert not question.decided(B, PLACED, 1.06)
    assert question.ask(B, B, ALL, PLACED, 1.06) == set("ac")
    assert question.ask(B, B, ALL, PLACED, 1.1) == set()
    everybody = frozenset("abc")
    assert question.decided(everybody, PLACED, 1.5)
    assert not question.decided(frozenset("ab"), PLACED, 1.5)
    question.heard("c")
    assert question.decided(frozenset("ab"), PLACED, 1.5)


def test_answer_to_an_earlier_question_counts_for_nothing() -> None:
    question = Question()
    question.ask(B, B, ALL, PLACED, 1.0)
    question.heard("a")
    question.heard("c")
    question.close()
    question.ask(B, B, ALL, PLACED, 2.0)
    assert not question.decided(B, PLACED, 2.9)


def test_with_one_copy_only_the_silent_are_asked() -> None:
    one = document(replicas=1, min_in_sync=1)
    question = Question()
    assert question.ask(B, NONE, one, None, 1.0) == set()
    assert question.decided(B, None, 1.0)
    question.close()
    assert question.ask(B, B, one, None, 1.0) == B
    question.missing("b")
    assert question.decided(B, None, 1.0)
