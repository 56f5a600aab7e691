"""Planned moves at a primary, SIGTERM, questions without an answer, and damaged records."""

import pytest

from gkv.duties import Fault
from gkv.model import Damage, Record
from gkv.replication.actions import Complain, Leave, Paused
from gkv.replication.events import PauseAsked
from gkv.replication.pause import LONGEST, MOST_PLANS, Pause, Step, Stopping
from gkv.replication.questions import Questions
from gkv.replication.recovery import Recovered, Recoveries
from tests.duties import version

ABC, ACD = (("a", "b", "c"), ()), (("a", "c", "d"), ())
ASKED = PauseAsked(3, 8, (ABC,))


def test_pause_holds_its_lists_and_is_answered_once_nothing_is_under_way() -> None:
    pause = Pause()
    pause.begin(ASKED, 8, 0.0)
    assert (pause.holds(ABC), pause.holds(ACD)) == (True, False)
    assert pause.quiet({ABC, ACD}) is None
    assert pause.quiet({ACD}) == Paused(3, 8)
    assert pause.quiet({ACD}) is None
    assert pause.holds(ABC)


@pytest.mark.parametrize(
    ("release", "held"),
    [
        pytest.param(lambda pause: pause.go_on(3), False, id="go on"),
        pytest.param(lambda pause: pause.go_on(2), True, id="go on with another plan"),
        pytest.param(lambda pause: pause.release(), False, id="a newer document"),
        pytest.param(lambda pause: pause.tick(0.49), True, id="0.49 s"),
        pytest.param(lambda pause: pause.tick(0.5), False, id="0.5 s"),
    ],
)
def test_pause_ends(release: object, held: bool) -> None:
    pause = Pause()
    pause.begin(ASKED, 8, 0.0)
    assert release(pause) is not held  # type: ignore[operator]
    assert pause.holds(ABC) is held


def test_pause_of_another_epoch_holds_nothing() -> None:
    pause = Pause()
    pause.begin(ASKED, 9, 0.0)
    assert not pause.active


def test_plan_that_is_repeated_is_answered_again_and_held_for_no_longer() -> None:
    pause = Pause()
    for at in (0.0, 0.2, 0.4):
        pause.begin(ASKED, 8, at)
        assert pause.quiet(set()) == Paused(3, 8)
    assert pause.tick(0.5)
    pause.begin(ASKED, 8, 0.6)
    assert not pause.active


def test_plans_of_one_document_hold_for_a_bounded_time_and_those_of_the_next_one_too() -> None:
    pause = Pause()
    held = 0.0
    for number in range(100):
        pause.begin(PauseAsked(number, 8, (ABC,)), 8, number * 0.4)
        held += 0.4 * pause.active
        pause.tick((number + 1) * 0.4)
    assert held <= MOST_PLANS * LONGEST
    pause.release()
    pause.begin(PauseAsked(200, 9, (ABC,)), 9, 100.0)
    assert pause.holds(ABC)


@pytest.mark.parametrize(
    ("looks", "asked", "step"),
    [
        pytest.param([(0.0, True, True)], [None], Step.HOLDING, id="waits for what is under way"),
        pytest.param([(0.0, True, False)], [Leave(8)], Step.HOLDING, id="asks to leave"),
        pytest.param([(0.0, True, False), (0.05, True, False), (0.1, True, False)], [Leave(8), None, Leave(8)], Step.HOLDING),
        pytest.param([(0.0, True, False), (0.1, False, False)], [Leave(8), None], Step.GONE, id="is down"),
        pytest.param([(1.0, True, True)], [None], Step.GONE, id="after 1 s in any case"),
    ],
)
def test_stop_holds_lets_settle_leaves_and_ends(
    looks: list[tuple[float, bool, bool]], asked: list[Leave | None], step: Step
) -> None:
    stopping = Stopping()
    assert not stopping.holds
    stopping.begin(0.0)
    assert stopping.holds
    assert [stopping.look(serves, busy, 8, at) for at, serves, busy in looks] == asked
    assert stopping.step is step


# -- questions


@pytest.mark.parametrize(
    ("told", "at", "complaints"),
    [
        pytest.param([], 0.7, [], id="not yet"),
        pytest.param([], 1.0, [Complain("b", Fault.SILENT)], id="A2: silent"),
        pytest.param(["answer"], 1.0, [], id="answered"),
        pytest.param(["working 0.5"], 1.2, [], id="slow is not dead"),
        pytest.param(["working 9.9"], 1.2, [], id="a long commit is shown"),
        pytest.param(["working 10"], 1.2, [Complain("b", Fault.SLOW_DISK)], id="and is a complaint after 10 s"),
        pytest.param(["working 10", "answer"], 1.2, [], id="unless it has ended"),
        pytest.param(["other"], 1.0, [Complain("b", Fault.SILENT)], id="somebody else has answered"),
        pytest.param(["document"], 1.0, [], id="a new document begins anew"),
    ],
)
def test_member_is_complained_of_that_owes_an_answer(told: list[str], at: float, complaints: list[Complain]) -> None:
    questions = Questions()
    number = questions.ask("b", 0.0)
    for word in told:
        if word == "answer":
            assert questions.answered(number, "b") is not None
        elif word == "other":
            assert questions.answered(number, "c") is None
        elif word == "document":
            questions.begin_anew()
        else:
            questions.working(number, "b", float(word.split()[1]))
    assert _last_of(questions, at) == complaints
    assert questions.complaints(at + 0.005) == []
    assert questions.complaints(at + 0.25) == complaints


def test_later_question_does_not_make_an_older_silence_shorter() -> None:
    questions = Questions()
    questions.ask("b", 0.0)
    number = questions.ask("b", 0.9)
    assert _last_of(questions, 1.0) == [Complain("b", Fault.SILENT)]
    questions.answered(number, "b")
    assert questions.complaints(1.5) == []
    questions.ask("b", 1.5)
    assert _last_of(questions, 2.4) == []


def _last_of(questions: Questions, until: float) -> list[Complain]:
    """Return the complaints at that time, after looks before."""
    for step in range(1, int(until * 4)):
        questions.complaints(step / 4)
    return questions.complaints(until)


@pytest.mark.parametrize(
    ("looks", "silent_at"),
    [
        pytest.param([0.1, 3.0, 3.1, 3.5], 3.65, id="it has listened for 0.1 s and stood still for 2.9 s, as if for 0.25 s"),
        pytest.param([0.4, 0.85], 1.0, id="a look that is a little late counts"),
        pytest.param([2.0], 2.75, id="from the question on"),
        pytest.param([0.4, 1.0, 1.3], 1.35, id="for 0.6 s"),
    ],
)
def test_time_in_which_this_process_stood_still_is_not_anothers_silence(looks: list[float], silent_at: float) -> None:
    """A2: answers that have come meanwhile are not read yet at its first look."""
    questions = Questions()
    questions.complaints(-60.0)
    questions.ask("b", 0.0)
    for at in looks:
        assert questions.complaints(at) == []
    for step in range(int((silent_at - looks[-1]) * 10 - 0.5)):
        assert questions.complaints(looks[-1] + step / 10) == []
    assert questions.complaints(silent_at - 0.001) == []
    assert questions.complaints(silent_at + 0.001) == [Complain("b", Fault.SILENT)]


def test_process_that_is_steadily_slow_complains_after_some_looks() -> None:
    """Else nobody would ever tell of a member that it alone cannot reach."""
    questions = Questions()
    questions.ask("b", 0.0)
    assert [len(questions.complaints(0.7 * look)) for look in range(1, 6)] == [0, 0, 0, 1, 1]


def test_nobody_is_complained_of_for_a_question_that_is_owed_no_answer() -> None:
    questions = Questions()
    questions.ask("b", 0.0, owed=False)
    assert questions.complaints(9.0) == []
    assert not questions.waiting


def test_lost_question_gives_back_what_it_told() -> None:
    questions = Questions()
    questions.ask("b", 0.0, (version(1),))
    assert questions.lost(2.0) == []
    assert [asked.settled for asked in questions.lost(2.1)] == [(version(1),)]
    assert questions.lost(2.1) == []


# -- damaged records

ABSENT = Recovered("k", None, absent=True)


@pytest.mark.parametrize(
    ("answers", "end"),
    [
        pytest.param([("b", Record(version(1), b"1")), ("c", Record(version(2), b"2"))], Record(version(2), b"2"), id="max"),
        pytest.param([("b", Damage.DAMAGED), ("c", Record(version(2), None))], Record(version(2), None), id="intact"),
        pytest.param([("b", None), ("c", Damage.DAMAGED)], None, id="none intact"),
        pytest.param([("b", None), ("c", None)], ABSENT, id="none there"),
    ],
)
def test_recovery_takes_the_greatest_intact_record(
    answers: list[tuple[str, Record | Damage | None]], end: Record | Recovered | None
) -> None:
    recoveries = Recoveries()
    assert recoveries.begin("k", ("b", "c"), 0.0)
    assert not recoveries.begin("k", ("b", "c"), 0.0)
    recoveries.asked("k", "b", 1)
    recoveries.asked("k", "c", 2)
    assert recoveries.found("c", 1, Record(version(9), b"of nobody who was asked this")) is None
    ends = [recoveries.found(member, number, found) for number, (member, found) in enumerate(answers, 1)]
    assert ends == [None, end if isinstance(end, Recovered) else Recovered("k", end)]
    assert recoveries.lost == (set() if end else {"k"})


def test_recovery_is_given_up_when_somebody_does_not_answer() -> None:
    recoveries = Recoveries()
    recoveries.begin("k", ("b", "c"), 0.0)
    recoveries.asked("k", "b", 1)
    recoveries.found("b", 1, Record(version(1), b"1"))
    assert recoveries.tick(0.9) == []
    assert recoveries.tick(1.0) == [Recovered("k", None)]
    assert recoveries.wakes_at == float("inf")
    assert recoveries.lost == {"k"}
    recoveries.begin_anew()
    assert recoveries.lost == set()


def test_stop_wants_a_tick_only_when_time_alone_can_change_anything() -> None:
    """While a write was under way, a tick was wanted at once, again and again."""
    stopping = Stopping()
    stopping.begin(5.0)
    stopping.look(True, True, 8, 5.0)
    assert stopping.wakes_at == 6.0
    stopping.look(True, False, 8, 5.2)
    assert stopping.wakes_at == pytest.approx(5.3)
