"""The authority's judgement over time, with copies."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gkv.cluster.callin import CallIn
from gkv.cluster.complaints import Complaint
from gkv.cluster.document import Document, Layout, State
from gkv.cluster.judge import Action, Ask, Enact, Judge
from gkv.cluster.losses import Outlook
from gkv.cluster.placement import Placement
from gkv.cluster.plans import GoOn, Plan
from gkv.cluster.ring_pauses import NEWCOMER_WITHIN
from gkv.duties import Fault
from gkv.errors import MemberConflict
from gkv.model import Node
from tests.documents import CLUSTER, with_copies

UP, FILLING, DOWN = State.UP, State.FILLING, State.DOWN


class World:
    """Members that call in every quarter of a second, and an authority that looks ten times a second."""

    def __init__(self, document: Document) -> None:
        self.now = 100.0
        self.judge = Judge(document, 5, self.now, deadline=2.0)
        self.alive = {one.id: one.incarnation for one in document.members if one.state is not DOWN}
        """The process of each member that runs."""
        self.ran = {one.id: [one.incarnation] for one in document.members}
        self.equal: set[str] = set()
        """Members that report that they are equal."""
        self.deaf: set[tuple[str, str]] = set()
        """Who does not reach whom."""
        self.holds = 1
        """Keys that each holds."""
        self.holding = True
        """Whether primaries answer plans."""
        self.sent: list[Plan | GoOn] = []
        self.epochs: list[tuple[float, Document]] = []
        self.said: list[str] = []
        """Why members went."""
        self._incarnations = 1_000

    @property
    def document(self) -> Document:
        return self.judge.document

    def states(self) -> str:
        """Return the first letters of the states."""
        return "".join(one.state.value[0] for one in self.document.members)

    def start(self, name: str, *, same: bool = True) -> None:
        self._incarnations += 1
        self.alive[name] = self._incarnations
        self.ran[name] = [*self.ran[name], self._incarnations] if same else [self._incarnations]

    def call(self, name: str, **more: Any) -> bool:
        """Have a member call in; return whether that says anything new."""
        line = self.document.member(name)
        known = {one.id: one.incarnation for one in self.document.members}
        reached = [inc for one, inc in self.alive.items() if inc == known.get(one) and (name, one) not in self.deaf]
        current = line is not None and line.incarnation == self.alive[name]
        return self.judge.heard(
            CallIn(
                Node(name, f"http://{name}:1"),
                self.alive[name],
                cluster=CLUSTER,
                order=more.pop("order", self.document.order),
                digest=self.document.digest,
                records=self.holds,
                bare=not self.holds,
                ran=() if current else tuple(self.ran[name]),
                reached=tuple(reached),
                equal=name in self.equal,
                ready=name in self.equal,
                **more,
            ),
            self.now,
        )

    def look(self, *, stores: bool = True) -> list[Action]:
        """Look once, and do what is to be done."""
        actions = self.judge.look(self.now)
        for action in actions:
            if isinstance(action, Ask):
                for member in action.members:
                    if member.id in self.alive:
                        self.judge.answered(member.id, self.alive[member.id], self.now)
            elif isinstance(action, Enact):
                if stores:
                    self.epochs.append((self.now, action.document))
                    self.judge.enacted(action.document, self.now)
                    self.said += self.judge.departures
            else:
                self.sent.append(action)
                if isinstance(action, Plan) and self.holding:
                    self.judge.held(action.to, action.incarnation, action.number, action.order)
        return actions

    def run(self, seconds: float, *, silent: str = "") -> None:
        for step in range(round(seconds * 20)):
            self.now += 0.05
            if step % 5 == 0:
                for name in self.alive:
                    if name not in silent:
                        self.call(name)
            self.look()

    def complain(self, by: str, about: str) -> bool:
        return self.judge.complained(Complaint(by, self.alive[by], about, self.alive[about], self.document.order), self.now)


def world(changes: dict[str, dict[str, Any]] | None = None, ids: str = "abc", **parts: Any) -> World:
    made = World(with_copies(changes, ids, **parts))
    made.run(0.5)
    assert made.epochs == []
    return made


def test_member_that_died_is_evicted_after_a_second() -> None:
    one = world()
    start = one.now
    del one.alive["b"]
    one.run(1.3)
    [(when, document)] = one.epochs
    assert one.states() == "udu"
    assert 0.7 < when - start < 1.2
    assert [line.left for line in document.members] == [0, 8, 0]


def silent(one: World) -> None:
    del one.alive["b"]


def complained_of(one: World) -> None:
    one.deaf = {("a", "b"), ("b", "a")}
    one.complain("a", "b")


def ended(one: World) -> None:
    del one.alive["b"]
    one.judge.ended(ord("b"))


DEPARTURES = {
    "it has not called in for a second, and did not answer": silent,
    "a says that it does not answer": complained_of,
    "its process has ended": ended,
    "it is being stopped, and has asked to leave": lambda one: one.judge.leaves("b", one.alive["b"], one.document.order),
    "another process has called in as this member": lambda one: one.start("b"),
    "its own disk does not come to the end of a commit, as it says itself": lambda one: one.call(
        "b", complaints=(("b", "slow-disk"),)
    ),
}


@pytest.mark.parametrize(("why", "leave"), DEPARTURES.items())
def test_line_says_once_why_a_member_has_gone(why: str, leave: Callable[[World], object]) -> None:
    one = world()
    leave(one)
    one.run(2.0)
    assert one.said == [f"member b goes: {why}"]


def test_silent_member_that_answers_stays() -> None:
    one = world()
    one.run(3.0, silent="b")
    assert one.epochs == []


@pytest.mark.parametrize("copies", [1, 3])
def test_member_that_answers_stays_though_it_has_not_called_since_the_start(copies: int) -> None:
    one = World(with_copies(replicas=copies))
    one.run(3.0, silent="b")
    assert one.epochs == []
    del one.alive["b"]
    one.run(1.5)
    assert one.states() == "udu"


def test_nothing_is_decided_while_another_document_may_have_to_be_in_force_first() -> None:
    one = world()
    del one.alive["b"]
    one.now += 0.4
    one.judge.look(one.now, waits=True)
    for _ in range(10):
        one.now += 0.2
        one.call("a")
        assert one.judge.look(one.now, waits=True) == []
    assert any(isinstance(action, Ask) for action in one.look())


def test_those_that_die_one_after_the_other_leave_together_where_a_list_would_be_left_to_the_dead() -> None:
    one = world(ids="abcd")
    del one.alive["a"]
    one.run(0.25)
    del one.alive["b"], one.alive["c"]
    one.run(2.0)
    assert [document.epoch for _, document in one.epochs] == [8]
    assert [line.left for line in one.document.members] == [8, 8, 8, 0]


def test_authority_that_hears_nobody_evicts_nobody() -> None:
    one = world()
    one.alive.clear()
    one.run(5.0)
    assert one.epochs == []


def test_member_that_does_not_answer_another_goes_after_a_moment_and_stays_out_until_it_reaches_all() -> None:
    one = world()
    one.deaf = {("a", "b"), ("b", "a")}
    assert one.complain("a", "b")
    one.run(0.05)
    assert one.states() == "uuu"
    one.run(0.15)
    assert one.states() == "udu"
    one.run(5.0)
    assert one.states() == "udu"
    one.deaf.clear()
    one.run(0.5)
    assert one.states() == "ufu"


def test_member_that_goes_again_and_again_is_admitted_later_each_time() -> None:
    one = world()
    waits = []
    for _ in range(4):
        one.complain("a", "b")
        while one.states() != "udu":
            one.run(0.05)
        gone = one.now
        while one.states() != "ufu":
            one.run(0.05)
        waits.append(one.now - gone)
    assert waits == sorted(waits)
    assert waits[0] < 0.15 < waits[1] < 0.4 <= waits[2] < 0.8 <= waits[3]


def test_member_of_a_list_for_which_nobody_acts_does_not_wait() -> None:
    one = world({"a": {"state": DOWN, "left": 3}, "c": {"state": DOWN, "left": 3}})
    for _ in range(6):
        one.alive.pop("b", None)
        one.alive["a"] = ord("a")
        one.deaf = {("a", "b"), ("a", "c")}
        one.judge.ended(ord("b") if not one.epochs else one.ran["b"][-1])
        one.run(0.25)
        one.start("b")
        start = one.now
        one.run(0.3)
        line = one.document.member("b")
        assert line is not None
        assert (line.state, line.incarnation, one.now - start < 0.5) == (FILLING, one.alive["b"], True)


def test_promotion_waits_until_the_primaries_hold() -> None:
    one = world({"a": {"state": FILLING, "left": 3}})
    one.equal = {"a"}
    one.run(0.3)
    assert one.states() == "uuu"
    assert {type(action) for action in one.sent} == {Plan}
    assert {action.to for action in one.sent} == set("bc")
    assert len(one.epochs) == 1


def test_promotion_is_made_without_the_fourth_time() -> None:
    one = world({"a": {"state": FILLING, "left": 3}})
    one.equal, one.holding, start = {"a"}, False, one.now
    one.run(3.0)
    assert one.states() == "uuu"
    assert len({action.number for action in one.sent}) == 3
    assert sum(isinstance(action, GoOn) for action in one.sent) == 6
    assert 3 * 0.2 + 2 * 0.5 < one.epochs[0][0] - start < 2.5


def test_what_is_due_at_once_goes_before_a_planned_move_and_ends_its_plan() -> None:
    one = world({"a": {"state": FILLING, "left": 3}}, "abcd")
    one.equal, one.holding = {"a"}, False
    one.run(0.1)
    assert one.sent
    one.complain("b", "c")
    one.run(0.2)
    assert [line.state for line in one.document.members] == [FILLING, UP, DOWN, UP]
    number = one.sent[0].number
    for action in one.sent:
        one.judge.held(action.to, action.incarnation, number, (1, 7))
    one.run(0.05)
    assert one.document.member("a").state is FILLING  # type: ignore[union-attr]


def test_report_that_is_taken_back_ends_the_plan() -> None:
    one = world({"a": {"state": FILLING, "left": 3}})
    one.equal, one.holding = {"a"}, False
    one.run(0.1)
    one.equal = set()
    one.call("a")
    one.look()
    assert [type(action) for action in one.sent] == [Plan, Plan, GoOn, GoOn]
    one.run(3.0)
    assert one.states() == "fuu"


def test_complaint_in_a_call_counts() -> None:
    one = world()
    assert one.call("a", complaints=(("b", "silent"), ("x", "silent")))
    one.run(0.3)
    assert [line.state for line in one.epochs[0][1].members] == [UP, DOWN, UP]


def test_member_that_complains_of_its_own_disk_goes_and_comes_back() -> None:
    """A2, A3: it does not ask to leave, which would be for good."""
    one = world()
    assert one.call("a", complaints=(("a", "slow-disk"),))
    one.run(0.3)
    assert [line.state for line in one.epochs[0][1].members] == [DOWN, UP, UP]
    assert one.states() == "fuu"


def test_complaint_of_a_call_under_an_older_document_counts_for_nothing() -> None:
    one = world()
    one.call("a", complaints=(("b", "silent"),), order=(1, 6))
    one.run(0.5)
    assert one.epochs == []


def test_call_of_a_process_that_leaves_has_it_leave_at_once() -> None:
    one = world()
    assert one.call("b", leaves=True)
    one.look()
    one.look()
    assert one.states() == "udu"


def test_process_that_asks_to_leave_goes_at_once_and_the_next_one_comes_without_a_pause() -> None:
    one = world()
    for _ in range(3):
        inc = one.alive["b"]
        assert not one.judge.leaves("b", inc, (1, 1))
        assert not one.judge.leaves("b", 1, one.document.order)
        assert one.judge.leaves("b", inc, one.document.order)
        one.run(0.1)
        assert one.states() == "udu"
        one.run(0.5)
        assert one.states() == "udu"
        one.start("b")
        one.run(0.3)
        assert one.states() == "ufu"
        one.equal = {"b"}
        one.run(0.3)
        assert one.states() == "uuu"


def test_process_that_has_ended_is_evicted_and_written_down() -> None:
    one = world()
    del one.alive["b"]
    one.judge.ended(ord("b"))
    one.run(0.1)
    assert (one.states(), one.document.ended) == ("udu", (ord("b"),))


def test_loss_is_accepted_when_all_that_was_promised_has_run_out() -> None:
    one = world({"a": {"state": FILLING, "left": 3}, "c": {"state": FILLING, "left": 3}})
    one.judge.ended(ord("b"))
    del one.alive["b"]
    one.run(0.2)
    assert one.states() == "fdf"
    with pytest.raises(MemberConflict, match="still answers"):
        one.judge.accept_loss("b", one.now)
    one.run(1.1)
    with pytest.raises(MemberConflict, match="no key waits"):
        one.judge.accept_loss("a", one.now)
    one.judge.accept_loss("b", one.now, dry_run=True)
    one.run(3.0)
    assert one.document.member("b").left == 8  # type: ignore[union-attr]
    heard = one.now
    one.judge._promises.note(one.document, (ord("b"),), heard)  # as another member may say that it was answered
    one.run(1.1)
    one.judge.accept_loss("b", one.now)
    while one.document.member("b").left:  # type: ignore[union-attr]
        one.run(0.05)
        assert one.now - heard < 4.0
    assert one.now - heard > 1.05 + 2.0


def test_loss_that_is_accepted_is_shown_until_it_counts_and_a_second_word_changes_nothing() -> None:
    one = world({"a": {"state": FILLING, "left": 3}, "c": {"state": FILLING, "left": 4}})
    one.judge.ended(ord("b"))
    del one.alive["b"]
    one.run(1.5)
    assert one.judge.accept_loss("b", one.now, dry_run=True) == Outlook(("c",), ("a", "b"))
    assert one.judge.loss_in("b", one.now) is None
    first = one.judge.accept_loss("b", one.now)
    before = one.judge.loss_in("b", one.now)
    assert before is not None
    one.run(0.5)
    assert one.judge.accept_loss("b", one.now) == first == Outlook(("c",), ("a", "b"))
    assert one.judge.loss_in("b", one.now) == pytest.approx(before - 0.5)
    one.run(before - 0.6)
    assert one.document.member("b").left == 8  # type: ignore[union-attr]
    one.run(0.3)
    assert (one.document.member("b").left, one.judge.loss_in("b", one.now)) == (0, None)  # type: ignore[union-attr]


@pytest.mark.parametrize("order", ["abc", "cab", "bca"])
def test_losses_accepted_at_the_same_look_count_in_the_order_of_the_words(order: str) -> None:
    empty = {"state": FILLING, "left": 3, "empty": True, "directory": 1}
    one = world(dict.fromkeys("abc", empty))
    told = [one.judge.accept_loss(name, one.now) for name in order]
    assert [each.acts for each in told] == [(), (), (order[-1],)]
    assert one.judge.accept_loss(order[0], one.now) == told[-1]  # a word that comes again takes no other place
    one.run(0.1)
    assert [line.id for line in one.document.members if not line.empty] == [order[-1]]


def test_loss_of_a_process_that_was_silent_since_its_admission_is_not_accepted_any_sooner() -> None:
    one = world({"a": {"state": FILLING, "left": 3}, "b": {"state": DOWN, "left": 5}, "c": {"state": FILLING, "left": 3}})
    one.run(5.0)
    one.start("b")
    while one.document.member("b").state is DOWN:  # type: ignore[union-attr]
        one.run(0.05)
    admitted = one.now
    del one.alive["b"]
    one.run(1.4)
    assert one.states() == "fdf"
    one.judge.accept_loss("b", one.now)
    while one.document.member("b").left:  # type: ignore[union-attr]
        one.run(0.05)
    assert one.now - admitted > 1.05 + 2.0 - 0.1


def test_member_is_removed_in_three_steps_and_its_directory_does_not_come_back() -> None:
    one = world({"d": {"state": DOWN, "left": 3}}, "abcd")
    with pytest.raises(MemberConflict):
        one.judge.remove("a", one.now)
    one.judge.remove("d", one.now)
    one.equal = set("abc")
    one.run(5.0)
    assert one.document.next is None
    assert [line.id for line in one.document.members] == ["a", "b", "c"]
    assert one.document.removed == (ord("d"),)


def test_ring_changes_by_a_word_and_is_taken_back_by_another() -> None:
    one = world({"d": {"weight": 0.0}}, "abcd")
    layout = Layout(tuple((name, 1.0) for name in "abcd"), 16, 3)
    with pytest.raises(MemberConflict):
        one.judge.take_back()
    one.judge.change_ring(layout)
    one.run(6.0)
    assert one.document.next == layout
    with pytest.raises(MemberConflict):
        one.judge.change_ring(layout)
    one.judge.take_back()
    one.run(0.2)
    assert (one.document.next, one.states()) == (None, "uuu")


def test_member_that_is_about_to_be_removed_comes_into_no_ring_and_one_that_comes_is_not_removed() -> None:
    """A ring would wait for its process in vain."""
    one = world({"d": {"weight": 0.0, "state": DOWN, "left": 3}}, "abcd")
    layout = Layout(tuple((name, 1.0) for name in "abcd"), 16, 3)
    one.judge.remove("d", one.now)
    with pytest.raises(MemberConflict, match="d is about to be removed"):
        one.judge.change_ring(layout)
    for weight in (0.0, 1.0):
        other = world({"d": {"weight": weight, "state": DOWN, "left": 3}}, "abcd")
        other.judge.change_ring(replace(layout, replicas=2))
        with pytest.raises(MemberConflict, match="another ring is about to come"):
            other.judge.remove("d", other.now)


def test_member_that_is_being_removed_is_not_admitted_with_an_empty_directory_either() -> None:
    one = world({"d": {"state": DOWN, "left": 3}}, "abcd")
    one.judge.remove("d", one.now)
    one.start("d", same=False)
    one.run(4.0)
    assert one.document.next is not None
    assert one.states() == "uuud"


def test_member_whose_process_is_back_before_its_removal_has_begun_stays() -> None:
    """The word was about one that is gone; what has promised something is neither waited for nor kept out for ever."""
    one = world({"d": {"state": DOWN, "left": 3}}, "abcd")
    one.judge.remove("d", one.now)
    one.alive["d"] = ord("d")
    one.equal = set("abcd")
    one.run(6.0)
    assert (one.document.next, one.document.removed, one.states()) == (None, (), "uuuu")


def test_removal_that_has_begun_ends_though_the_word_is_forgotten_and_the_process_calls() -> None:
    one = world({"d": {"state": DOWN, "left": 3, "weight": 0.0}}, "abcd")
    one.judge = Judge(replace(one.document, removed=(ord("d"),)), 5, one.now, deadline=2.0)
    one.alive["d"] = ord("d")
    one.run(2.0)
    assert [line.id for line in one.document.members] == ["a", "b", "c"]


def test_answer_of_another_process_is_none() -> None:
    one = world()
    one.judge.ended(ord("b"))
    assert [type(action) for action in one.judge.look(one.now)] == [Ask]
    for name in "ac":
        one.judge.answered(name, 1, one.now)
    assert one.judge.look(one.now + 0.06)[1:] == []
    one.judge.answered("a", ord("a"), one.now)
    assert [type(action) for action in one.judge.look(one.now + 0.07)] == [Enact]


def test_removal_is_given_up_with_its_ring() -> None:
    one = world({"d": {"state": DOWN, "left": 3}}, "abcd")
    one.judge.remove("d", one.now)
    one.run(4.0)
    assert one.document.next is not None
    one.judge.take_back()
    one.run(1.0)
    assert (one.document.next, [node.id for node in one.document.nodes]) == (None, list("abcd"))


def test_first_members_of_a_cluster_with_copies_make_its_ring() -> None:
    one = World(Document(CLUSTER, 1, (), 16, replicas=3))
    for name in "abc":
        one.ran[name] = []
        one.start(name)
    one.holds = 0
    one.equal = set("abc")
    one.run(1.0)
    assert (one.states(), len(one.document.nodes), one.document.next) == ("uuu", 3, None)


def test_min_in_sync_is_set() -> None:
    one = world()
    for wrong in (0, 4):
        with pytest.raises(MemberConflict):
            one.judge.set_min_in_sync(wrong)
    one.judge.set_min_in_sync(3)
    one.run(0.2)
    assert one.document.min_in_sync == 3
    assert len(one.epochs) == 1


def test_document_that_could_not_be_written_is_due_still_and_nothing_else_is_decided_meanwhile() -> None:
    one = world()
    one.judge.ended(ord("b"))
    one.look(stores=False)
    one.look(stores=False)
    assert one.look(stores=False) == []
    one.judge.not_enacted()
    one.run(0.2)
    assert (one.states()[1], one.document.epoch) == ("d", 8)


def test_another_document_in_force_takes_the_place_of_what_was_decided() -> None:
    one = world()
    one.judge.ended(ord("b"))
    for _ in range(2):
        one.look(stores=False)
    one.judge.enacted(replace(one.document, generation=2, epoch=9), one.now)
    one.run(0.2)
    assert (one.states()[1], one.document.order) == ("d", (2, 10))


def test_with_one_copy_a_complaint_counts_and_who_goes_by_it_is_back_at_once() -> None:
    one = world(replicas=1, min_in_sync=1)
    assert one.complain("a", "b")
    one.run(0.5)
    assert (one.said, one.states()) == (["member b goes: a says that it does not answer"], "uuu")


def test_with_one_copy_nobody_goes_by_its_own_disk() -> None:
    one = world(replicas=1, min_in_sync=1)
    assert one.judge.complained(Complaint("a", ord("a"), "a", ord("a"), one.document.order, Fault.SLOW_DISK), one.now)
    one.run(0.5)
    assert one.epochs == []


@pytest.mark.parametrize("copies", [1, 3])
def test_newcomer_that_stays_away_holds_up_a_change_for_a_minute_and_is_none_then(copies: int) -> None:
    one = world(replicas=copies, min_in_sync=1)
    one.start("d", same=False)
    one.holds = 0
    one.run(0.5)
    assert one.document.next is not None
    one.holds, one.equal = 1, set("abc")
    del one.alive["d"]
    start = one.now
    one.run(59.0)
    assert (one.document.next is not None, one.states()) == (True, "uuud")
    one.run(4.0)
    assert (one.document.next, one.states()) == (None, "uuu")
    assert NEWCOMER_WITHIN < one.epochs[-1][0] - start < NEWCOMER_WITHIN + 2.0
    one.start("d", same=False)
    one.holds, one.equal = 0, set("abcd")
    one.run(6.0)
    assert (one.document.next, len(one.document.nodes)) == (None, 4)


def test_newcomer_that_is_back_is_filled_and_becomes_a_member() -> None:
    one = world(replicas=1, min_in_sync=1)
    one.start("d", same=False)
    one.holds = 0
    one.run(0.5)
    one.holds = 1
    del one.alive["d"]
    one.run(3.0)
    assert one.states() == "uuud"
    one.start("d")
    one.equal = set("abcd")
    one.run(3.0)
    assert (one.document.next, one.states(), len(one.document.nodes)) == (None, "uuuu", 4)


def test_first_ring_waits_for_all_that_are_expected() -> None:
    one = World(Document(CLUSTER, 1, (), 16))
    one.judge.ring_pauses.expect("abc", one.now + 5.0)
    one.holds = 0
    for name in "abc":
        one.ran[name] = []
        one.start(name)
        one.run(1.0)
        assert len(one.document.nodes) == (3 if name == "c" else 0)
    assert [len(document.nodes) for _, document in one.epochs] == [0, 3]


# -- a machine


class Members(RuleBasedStateMachine):
    """Processes that die, are cut off, start on their own directories or on others, write and fill.

    What is settled is on the disks of `holders`, by list. Nobody loses more than its own disk.
    """

    def __init__(self) -> None:
        super().__init__()
        self.world = World(replace(with_copies({}, "abcd"), vnodes=2))
        self.holders = {one.preference: set(one.preference) for one in self.roles()}
        self.silent: set[str] = set()
        self.wiped: set[str] = set()
        self.checked = 0

    def roles(self) -> Any:
        placement = self.world.judge.placement
        assert placement is not None
        return placement.roles

    def there(self, name: str) -> bool:
        """Return whether the process in a member's line runs, and may answer others."""
        line = self.world.document.member(name)
        return line is not None and line.state is not DOWN and self.world.alive.get(name) == line.incarnation

    def pass_time(self, steps: int) -> None:
        for _ in range(steps):
            self.world.now += 0.05
            self.world.equal = set()
            for name in self.world.alive:
                mine = [one for one in self.roles() if name in one.preference]
                if all(one.primary and (name in one.acting or name in self.holders[one.preference]) for one in mine):
                    self.world.equal.add(name)
            for name in sorted(self.world.alive):
                if name not in self.silent:
                    self.world.call(name)
            for _ in range(2):
                self.world.look()

    @rule(steps=st.integers(1, 8))
    def wait(self, steps: int) -> None:
        self.pass_time(steps)

    @rule(names=st.sets(st.sampled_from("abcd"), min_size=1))
    def kill(self, names: set[str]) -> None:
        for name in names:
            self.world.alive.pop(name, None)

    @rule(name=st.sampled_from("abcd"))
    def reap(self, name: str) -> None:
        if name in self.world.alive:
            self.world.judge.ended(self.world.alive.pop(name))

    @rule(name=st.sampled_from("abcd"))
    def start(self, name: str) -> None:
        if name not in self.world.alive:
            self.world.start(name)

    @rule(name=st.sampled_from("abcd"))
    def start_empty(self, name: str) -> None:
        if name not in self.world.alive and not self.wiped - {name}:
            self.wiped.add(name)
            self.world.start(name, same=False)
            for holders in self.holders.values():
                holders.discard(name)

    @rule(name=st.sampled_from("abcd"))
    def leave(self, name: str) -> None:
        if self.there(name):
            self.world.judge.leaves(name, self.world.alive[name], self.world.document.order)
            self.pass_time(3)
            del self.world.alive[name]

    @rule(names=st.sets(st.sampled_from("abcd"), max_size=2))
    def cut_off(self, names: set[str]) -> None:
        self.silent = names

    @rule(pairs=st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), max_size=3))
    def cut(self, pairs: set[tuple[str, str]]) -> None:
        self.world.deaf = {pair for pair in pairs if pair[0] != pair[1]}

    @rule(by=st.sampled_from("abcd"), about=st.sampled_from("abcd"))
    def complain(self, by: str, about: str) -> None:
        if by in self.world.alive and about in self.world.alive:
            self.world.complain(by, about)

    @rule(holding=st.booleans())
    def answer_plans(self, holding: bool) -> None:
        self.world.holding = holding

    @rule()
    def write(self) -> None:
        """Something is settled in each list whose acting members and learners all answer, on their disks alone."""
        for one in self.roles():
            if one.primary and all(self.there(name) for name in (*one.acting, *one.learners)):
                self.holders[one.preference] = {*one.acting, *self.holders[one.preference].intersection(one.learners)}

    @rule()
    def fill(self) -> None:
        for one in self.roles():
            if one.primary and self.there(one.primary):
                self.holders[one.preference].update(name for name in one.learners if self.there(name))

    @invariant()
    def who_acts_has_all_that_was_settled(self) -> None:
        for one in self.roles():
            assert set(one.acting) - self.wiped <= self.holders[one.preference]
        for member in self.world.document.members:
            line = Placement.of(self.world.document, self.world.judge.placement)
            assert not (member.empty and any(member.id in one.acting for one in line.roles))

    @invariant()
    def document_can_be_read(self) -> None:
        for _, document in self.world.epochs[self.checked :]:
            assert Document.from_json(document.to_json()) == document
        self.checked = len(self.world.epochs)

    @rule()
    def heal(self) -> None:
        """All run and reach each other: all are up, but in lists whose last one is back without its directory."""
        self.silent, self.world.deaf, self.world.holding = set(), set(), True
        for name in "abcd":
            self.start(name)
        for _ in range(100):
            self.pass_time(10)
            self.fill()
            if self.world.states() == "uuuu":
                self.wiped.clear()
                return
        assert self.wiped, self.world.document


Members.TestCase.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
TestMembers = Members.TestCase
