"""Changes of the document: pure, so a table and a machine over everything that can come together."""

import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gkv.cluster.callin import CallIn
from gkv.cluster.changes import Look, change, move
from gkv.cluster.document import Document, Layout, Member, State
from gkv.cluster.placement import Placement
from gkv.cluster.refusals import refused, refused_loss
from gkv.model import Node
from tests.documents import CLUSTER

UP, FILLING, DOWN = State.UP, State.FILLING, State.DOWN
NODES = {name: Node(name, f"http://127.0.0.1:{9000 + place}") for place, name in enumerate("abc")}


def line(name: str, **changes: Any) -> Member:
    """Return a line that is up; the incarnation of each member is its letter."""
    return replace(Member(name, NODES[name].url, incarnation=ord(name), directory=ord(name)), **changes)


def document(*members: Member, epoch: int = 7, **parts: Any) -> Document:
    return Document(CLUSTER, epoch, members, 16, **parts)


BOTH = document(line("a"), line("b"))


def call(name: str, before: Document = BOTH, **changes: Any) -> CallIn:
    """Return the call of the process in a member's line, by which `before` is in force there."""
    return replace(CallIn(NODES[name], ord(name), cluster=CLUSTER, order=before.order, digest=before.digest), **changes)


def look(*calls: CallIn, **more: Any) -> Look:
    return Look({one.id: one for one in calls}, **more)


def of(before: Document, seen: Look) -> Look:
    """Return a look at calls that mean this document where they have its order."""
    calls = {
        name: replace(one, digest=before.digest if one.order == before.order else "f" * 16) for name, one in seen.calls.items()
    }
    return replace(seen, calls=calls)


def lines_after(before: Document, seen: Look) -> dict[str, Member]:
    after = change(before, seen)
    assert after is not None
    assert after.epoch == before.epoch + 1
    return {member.id: member for member in after.members}


A, B = line("a"), line("b")
DOWN_B = line("b", state=DOWN, left=5, since=5)

TABLE: dict[str, tuple[Document, Look, Member | None]] = {
    "all call in": (BOTH, look(call("a"), call("b")), None),
    "one is silent": (BOTH, look(call("a"), silent=frozenset("b")), replace(B, state=DOWN, left=8, since=8)),
    "all are silent": (BOTH, look(silent=frozenset("ab")), None),
    "one has ended, though nobody is heard": (BOTH, look(ended=frozenset([ord("b")])), replace(B, state=DOWN, left=8, since=8)),
    "a filling one is silent": (
        document(A, line("b", state=FILLING, left=5, empty=True)),
        look(call("a"), silent=frozenset("b")),
        line("b", state=DOWN, left=5, empty=True, since=8),
    ),
    "another process with its directory": (
        BOTH,
        look(call("a"), call("b", incarnation=1, ran=(9, ord("b"), 1))),
        replace(B, state=FILLING, incarnation=1, directory=1, left=8, rank=1, since=8),
    ),
    "another process with another directory": (
        BOTH,
        look(call("a"), call("b", incarnation=1, ran=(9, 1))),
        replace(B, state=FILLING, incarnation=1, left=8, empty=True, since=8),
    ),
    "another process in memory, as before": (
        document(A, line("b", volatile=True)),
        look(call("b", incarnation=1, volatile=True)),
        line("b", volatile=True, state=FILLING, incarnation=1, directory=1, left=8, rank=1, since=8),
    ),
    "another process in memory, where there was a disk": (
        BOTH,
        look(call("b", incarnation=1, volatile=True)),
        replace(B, volatile=True, state=FILLING, incarnation=1, left=8, empty=True, since=8),
    ),
    "an empty one that restarts stays empty": (
        document(A, line("b", state=FILLING, empty=True, directory=5)),
        look(call("b", incarnation=1, ran=(ord("b"), 1))),
        line("b", state=FILLING, incarnation=1, empty=True, directory=5, since=8),
    ),
    "the right directory is back where an empty one was": (
        document(A, line("b", state=FILLING, empty=True, directory=5)),
        look(call("b", incarnation=1, ran=(5, 1))),
        line("b", state=FILLING, incarnation=1, directory=1, since=8),
    ),
    "one that was only silent": (document(A, DOWN_B), look(call("b")), replace(DOWN_B, state=FILLING, rank=1, since=8)),
    "one that has ended calls late": (document(A, DOWN_B), look(call("b"), ended=frozenset([ord("b")])), None),
    "one that was removed": (document(A, DOWN_B, removed=(ord("b"),)), look(call("b")), None),
    "a filling one reports": (document(A, line("b", state=FILLING)), look(call("b")), replace(B, since=8)),
    "a filling one reports another epoch": (document(A, line("b", state=FILLING)), look(call("b", order=(1, 6))), None),
    "a filling one reports another generation": (document(A, line("b", state=FILLING)), look(call("b", order=(2, 7))), None),
    "a filling one reports another cluster": (document(A, line("b", state=FILLING)), look(call("b", cluster="f" * 32)), None),
    "an empty one reports": (document(A, line("b", state=FILLING, empty=True)), look(call("b")), None),
    "its loss is accepted, and it reports": (
        document(A, line("b", state=FILLING, empty=True, left=5, directory=5)),
        look(call("b"), accepted=("b",)),
        replace(B, rank=1, since=8),
    ),
    "its loss is accepted while it is away": (
        document(A, line("b", state=DOWN, empty=True, left=5)),
        look(accepted=("b",)),
        line("b", state=DOWN, rank=1, since=8),
    ),
    "it speaks TLS now": (
        BOTH,
        look(call("b", node=Node("b", "https://127.0.0.1:9001"))),
        replace(B, url="https://127.0.0.1:9001", since=8),
    ),
}


@pytest.mark.parametrize(("before", "seen", "expected"), TABLE.values(), ids=TABLE.keys())
def test_change_of_a_line(before: Document, seen: Look, expected: Member | None) -> None:
    after = change(before, of(before, seen))
    assert (None if after is None else after.member("b")) == expected
    if after is not None:
        assert after == replace(before, epoch=8, members=(A, expected))


def test_all_that_is_due_at_one_look_is_one_epoch_and_those_that_left_together_are_tied_until_one_is_back() -> None:
    seen = look(call("a", incarnation=1, ran=(ord("a"),)), call("b", incarnation=2, ran=(ord("b"),)))
    after = lines_after(BOTH, seen)
    assert {(one.state, one.left) for one in after.values()} == {(FILLING, 8)}
    assert [after[name].rank for name in "ab"] == [1, 0]


# -- the ring

TWO = Layout((("a", 1.0), ("b", 1.0)), 16)
THREE = Layout((("a", 1.0), ("b", 1.0), ("c", 1.0)), 16)
NEWCOMER = call("c", cluster=None, order=(0, 0))
FIRST = document(line("a", weight=0.0, since=7), line("b", weight=0.0, since=7), next=TWO, next_since=7)
JOINING = document(A, B, line("c", weight=0.0, since=7), next=THREE, next_since=7)
READY = (call("a"), call("b"))


def test_first_members_join_in_two_epochs() -> None:
    first = change(document(epoch=6), look(*(call(name, cluster=None, order=(0, 0)) for name in "ab")))
    assert first == FIRST
    second = change(first, look(*(call(name, first) for name in "ab")))
    assert second == document(line("a", since=8), line("b", since=8), epoch=8)


def test_key_that_a_first_member_holds_does_not_keep_the_ring_from_coming() -> None:
    after = change(FIRST, of(FIRST, look(call("a", records=1), call("b"))))
    assert after is not None
    assert after.has_ring


WAITS = {
    "a member has not reported": (call("a"),),
    "a member has reported an older document": (call("a"), call("b", order=(1, 6))),
}
TAKEN_BACK = {
    "a member is silent": look(call("a"), silent=frozenset("b")),
    "a member has ended": look(*READY, ended=frozenset([ord("b")])),
    "a member is another process": look(call("a"), call("b", incarnation=1)),
    "it has been so for too long": look(call("a"), overdue=True),
    "an operator says so": look(*READY, take_back=True),
}


@pytest.mark.parametrize("calls", WAITS.values(), ids=WAITS.keys())
def test_first_ring_waits(calls: tuple[CallIn, ...]) -> None:
    assert change(FIRST, of(FIRST, look(*calls))) is None


@pytest.mark.parametrize("seen", TAKEN_BACK.values(), ids=TAKEN_BACK.keys())
def test_first_ring_is_taken_back(seen: Look) -> None:
    after = change(FIRST, of(FIRST, seen))
    assert after is not None
    assert (after.epoch, after.next, after.members) == (8, None, ())


def test_member_with_another_document_of_the_same_order_has_not_reported() -> None:
    calls = of(FIRST, look(*READY)).calls
    assert change(FIRST, Look(calls)) is not None
    assert change(FIRST, Look({**calls, "b": replace(calls["b"], digest="0" * 16)})) is None


BEGINS = {
    "members hold nothing": (call("a"), call("b")),
    "members hold keys": (call("a", records=1), call("b", records=9)),
    "a member was not heard": (call("a"),),
    "a member is another process": (call("a"), call("b", incarnation=1, ran=(ord("b"), 1))),
}


@pytest.mark.parametrize("calls", BEGINS.values(), ids=BEGINS.keys())
def test_newcomer_begins_a_change_of_a_ring_with_one_copy(calls: tuple[CallIn, ...]) -> None:
    after = change(BOTH, look(*calls, NEWCOMER))
    assert after is not None
    assert (after.next, after.next_since, after.member("c")) == (THREE, 8, line("c", weight=0.0, since=8))
    assert after.copies_records


def test_change_with_one_copy_is_no_end_of_its_own_nor_taken_back_while_it_may_go_on() -> None:
    """Its end is a planned move, and a member that is away is waited for."""
    assert change(JOINING, of(JOINING, look(*READY, call("c", records=1, ready=True)))) is None
    after = change(JOINING, of(JOINING, look(call("a"), call("c"), silent=frozenset("b"))))
    assert after is not None
    assert (after.next, lines_after(JOINING, look(call("a"), call("c"), silent=frozenset("b")))["b"].state) == (THREE, DOWN)
    for given_up in (look(*READY, overdue=True), look(*READY, call("c"), take_back=True)):
        back = change(JOINING, of(JOINING, given_up))
        assert back == replace(JOINING, epoch=8, members=(A, B), next=None)


def down(name: str, before: Document) -> Document:
    """Return a document by which a member is down since the epoch before."""
    gone = {"state": DOWN, "left": 6}
    return replace(before, members=tuple(replace(one, **gone) if one.id == name else one for one in before.members))


ENDS: dict[str, tuple[Document, dict[str, Any], str, bool]] = {
    "the newcomer is ready": (JOINING, {"ready": True}, "abc", True),
    "it is not": (JOINING, {}, "abc", False),
    "it is by another epoch": (JOINING, {"ready": True, "order": (1, 6)}, "abc", False),
    "a member is not heard just now": (JOINING, {"ready": True}, "ac", True),
    "the newcomer is not heard": (JOINING, {}, "ab", False),
    "the newcomer is down": (down("c", JOINING), {"ready": True}, "abc", False),
    "a member is down, which keeps its keys": (down("b", JOINING), {"ready": True}, "ac", False),
    "no newcomer, and who learns has not": (
        replace(BOTH, next=replace(TWO, weights=(("a", 1.0), ("b", 2.0)))),
        {},
        "ab",
        False,
    ),
}


@pytest.mark.parametrize(("before", "report", "heard", "ends"), ENDS.values(), ids=ENDS.keys())
def test_end_of_a_change_with_one_copy(before: Document, report: dict[str, Any], heard: str, ends: bool) -> None:
    calls = [call(name, before, **(report if name == "c" else {})) for name in heard]
    after = move(before, look(*calls), Placement.of(before))
    if ends:
        assert after == document(A, B, line("c", since=8), epoch=8)
    else:
        assert after is None or after.next == before.next


def test_newcomer_that_is_down_holds_up_a_change_though_others_have_each_of_its_keys_to_come() -> None:
    """Its keys would have a copy less from the first moment on."""
    three = {"replicas": 3, "min_in_sync": 2}
    before = replace(JOINING, next=replace(THREE, replicas=3), **three)
    ready = [call(name, before, ready=True) for name in "ab"]
    assert move(before, look(*ready, call("c", before, ready=True)), Placement.of(before)) is not None
    gone = down("c", before)
    assert move(gone, look(*(call(name, gone, ready=True) for name in "ab")), Placement.of(gone)) is None


def test_member_is_admitted_by_the_rules_of_copies_while_a_ring_with_one_copy_changes() -> None:
    gone = down("b", JOINING)
    back = call("b", gone)
    reaches_all = replace(back, reached=(ord("a"), ord("c")))
    assert change(gone, look(call("a", gone), call("c", gone), back)) is None
    assert change(gone, look(call("a", gone), call("c", gone), reaches_all, paused=frozenset("b"))) is None
    assert lines_after(gone, look(call("a", gone), call("c", gone), reaches_all))["b"].state is FILLING
    rests = document(A, replace(DOWN_B, left=5))
    assert lines_after(rests, look(call("a", rests), call("b", rests), paused=frozenset("b")))["b"].state is FILLING


REFUSED = {
    "a stranger's url": (call("c", node=Node("c", NODES["a"].url)), 409),
    "a member's id elsewhere": (call("a", node=Node("a", "http://127.0.0.1:9009")), 409),
    "another cluster's records": (call("c", cluster="f" * 32, bare=False), 409),
    "another cluster's records under a member's name": (call("a", cluster="f" * 32, bare=False, incarnation=1), 409),
    "a newcomer's own keys": (call("c", records=7), 409),
    "too few tokens": (call("c", node=Node("c", NODES["c"].url, 0.01)), 422),
}


@pytest.mark.parametrize(("one", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_call_that_cannot_be_granted_is_refused_and_changes_nothing(one: CallIn, status: int) -> None:
    calls = {"a": call("a"), "b": call("b"), one.id: one}
    error = refused(BOTH, one, calls)
    assert error is not None
    assert error.status == status
    assert change(BOTH, Look(calls)) is None


def test_loss_of_who_is_not_empty_cannot_be_accepted() -> None:
    assert refused_loss(BOTH, "a") is not None
    assert refused_loss(BOTH, "x") is not None
    up, down = refused_loss(BOTH, "a"), refused_loss(document(A, DOWN_B), "b")
    assert up is not None
    assert down is not None
    assert ("Start it" in up.detail, "Start it" in down.detail) == (False, True)
    assert refused_loss(document(A, line("b", empty=True, state=FILLING)), "b") is None


def test_newcomer_with_a_pause_is_not_joined() -> None:
    assert change(BOTH, look(*READY, NEWCOMER, put_off=frozenset([ord("c")]))) is None


def steps_of(count: int) -> int:
    """Return the lines of Python that run while a look finds that many members calling in as others than before."""
    many = [Member(f"m{i:04}", f"http://127.0.0.1:{i + 1}", incarnation=i + 1, directory=i + 1) for i in range(count)]
    before = Document(CLUSTER, 7, tuple(many), 1)
    calls = {
        one.id: CallIn(one.node, one.incarnation + count, cluster=CLUSTER, order=before.order, ran=(one.directory,))
        for one in many
    }
    steps = 0

    def step(_frame: Any, _event: str, _argument: Any) -> Any:
        nonlocal steps
        steps += 1
        return step

    traced = sys.gettrace()
    sys.settrace(step)
    try:
        after = change(before, Look(calls))
    finally:
        sys.settrace(traced)
    assert after is not None
    assert all(member.state is FILLING for member in after.members)
    return steps


def test_look_costs_in_proportion_to_the_members() -> None:
    assert steps_of(400) < 5 * steps_of(100)


# -- a machine


class Members(RuleBasedStateMachine):
    """An authority that looks, and processes that start on directories, die, fall silent and report what they have heard."""

    def __init__(self) -> None:
        super().__init__()
        self.document = document(line("a"), line("b"), line("c"), epoch=7)
        self.ran = {name: [ord(name)] for name in "abc"}
        """What the directory lists in which the next process of each member starts."""
        self.right = {name: ord(name) for name in "abc"}
        """The last process that acted for each member; its directory is the right one."""
        self.alive = {name: ord(name) for name in "abc"}
        self.heard = dict.fromkeys("abc", self.document)
        self.lost = dict.fromkeys("abc", False)
        """Whether a member runs without its directory, by nobody's word."""
        self.accepted: set[str] = set()
        self.ended: set[int] = set()
        self._next = 1_000

    def calls(self, *, only: str = "abc") -> dict[str, CallIn]:
        return {
            name: CallIn(
                NODES[name],
                self.alive[name],
                cluster=CLUSTER,
                order=self.heard[name].order,
                digest=self.heard[name].digest,
                records=3,
                bare=False,
                ran=tuple(self.ran[name]),
            )
            for name in only
            if self.alive[name]
        }

    def look(self, **more: Any) -> None:
        after = change(self.document, Look(ended=frozenset(self.ended), accepted=tuple(self.accepted), **more))
        self.accepted.clear()
        if after is not None:
            assert after.epoch == self.document.epoch + 1
            assert after.follows(self.document)
            self.document = after

    @rule(name=st.sampled_from("abc"))
    def kill(self, name: str) -> None:
        self.alive[name] = 0

    @rule(name=st.sampled_from("abc"))
    def reap(self, name: str) -> None:
        if self.alive[name]:
            self.ended.add(self.alive[name])
            self.alive[name] = 0

    @rule(name=st.sampled_from("abc"), same=st.booleans())
    def start(self, name: str, same: bool) -> None:
        if not self.alive[name]:
            if not same:
                self.ran[name] = []
                self.lost[name] = True
            self._next += 1
            self.alive[name] = self._next
            self.ran[name] = [*self.ran[name], self._next]

    @rule(name=st.sampled_from("abc"))
    def hear(self, name: str) -> None:
        self.heard[name] = self.document

    @rule(silent=st.sets(st.sampled_from("abc")))
    def see(self, silent: set[str]) -> None:
        calls = self.calls()
        self.look(
            calls={name: one for name, one in calls.items() if name not in silent},
            silent=frozenset(silent | (set("abc") - set(calls))),
        )

    @rule(name=st.sampled_from("abc"))
    def accept(self, name: str) -> None:
        if refused_loss(self.document, name) is None:
            self.accepted.add(name)
            self.lost[name] = False
            self.look(calls=self.calls())

    @rule()
    def heal(self) -> None:
        """All run, call in within one look and hear what there is: they are up within four epochs, unless they lost data."""
        for name in "abc":
            self.start(name, same=True)
        before = self.document.epoch
        for _ in range(6):
            self.look(calls=self.calls())
            self.heard = dict.fromkeys("abc", self.document)
        assert self.document.epoch <= before + 4
        for member in self.document.members:
            assert member.state is (FILLING if member.empty else UP)
            assert member.incarnation == self.alive[member.id]
            assert member.empty or not self.lost[member.id], "a loss was cured by nobody's word"

    @invariant()
    def nobody_acts_without_its_directory(self) -> None:
        for member in self.document.members:
            assert not (member.empty and member.acts)
            if member.acts and member.incarnation == self.alive[member.id]:
                assert not self.lost[member.id], "who has lost its directory acts by nobody's word"

    @invariant()
    def document_can_be_read(self) -> None:
        assert Document.from_json(self.document.to_json()) == self.document


Members.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestMembers = Members.TestCase
