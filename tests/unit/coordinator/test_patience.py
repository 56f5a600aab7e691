"""Batches of keys that have copies: what is asked again, where, and until when.

The coordinator, its view and its documents are real; nodes answer as each test says.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any

import gevent
import pytest

from gkv.cluster.document import Document, State
from gkv.cluster.view import View
from gkv.coordinator import Channels, Coordinator, Written
from gkv.coordinator.failures import INDETERMINATE, NO_PRIMARY, TOO_FEW_COPIES, UNREACHABLE
from gkv.model import Damage, Effect, KeyFailure, Node, NodeRefusal, Op, Outcome, Record, Version
from gkv.net.call import Call, Lane
from gkv.wire.batch import DAMAGED_KEY
from gkv.wire.meta import Found
from gkv.wire.ops import Adopt, Await, Effects, Fetch, Get, Here, PutOff, Records, Refused, Values, WriteRequest, read_request
from tests.documents import with_copies

DEADLINE = 1.0
KEYS = [f"key{i}" for i in range(24)]
UP = with_copies()
VERSION = Version(7, 1)
Reply = bytes | tuple[Outcome, bool] | None
"""A frame, or an outcome and whether the node may have seen the call; None: no answer comes."""


def without(document: Document, *names: str) -> Document:
    """Return the document that follows, by which members are down."""
    epoch = document.epoch + 1
    down = [replace(member, state=State.DOWN, left=epoch) if member.id in names else member for member in document.members]
    return replace(document, epoch=epoch, members=tuple(down))


def well(request: Any) -> bytes:
    """Answer as a node that has all keys and does all that it is asked."""
    match request:
        case Get():
            return Values([b"1"] * len(request.keys)).write()
        case Fetch():
            return Records([None] * len(request.keys)).write()
        case WriteRequest():
            return Effects.of([Effect.CREATED] * len(request.keys), VERSION).write()
        case _:
            return Here(0).write()


class Scripted:
    """A node. `answers` is asked for each request; the requests are kept."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answers: Callable[[Any], Reply] = well

    def submit(self, call: Call) -> None:
        request = read_request(call.frame)
        self.asked.append(request)
        reply = self.answers(request)
        if isinstance(reply, bytes):
            call.sent = True
            call.finish(Outcome.ANSWERED, reply)
        elif reply is not None:
            outcome, call.sent = reply
            call.finish(outcome)
        else:
            call.sent = True


class Cluster(Channels):
    """Three nodes, each of which may be the primary of a key, and a coordinator."""

    def __init__(self, document: Document = UP, **limits: int) -> None:
        super().__init__(DEADLINE)
        self.nodes = {member.id: Scripted() for member in document.members}
        self.view = View()
        self.view.adopt(document)
        self.coordinator = Coordinator(self.view, self, DEADLINE, **limits)

    def to(self, node: Node) -> Scripted:
        return self.nodes[node.id]

    def fail_over(self, *names: str, after: float = 0.1) -> None:
        """Have members down by a document that comes in a while."""
        assert self.view.document is not None
        gevent.spawn_later(after, self.view.adopt, without(self.view.document, *names))

    def get(self) -> dict[str, Any]:
        batch = self.coordinator.router().of_keys(Op.GET, KEYS)
        return dict(json.loads(batch.render_get(self.coordinator.read(batch))[0]))

    def set(self) -> Written:
        body = json.dumps([{"key": key, "value": 1} for key in KEYS]).encode()
        return self.coordinator.write(self.coordinator.router().read(Op.SET, body))

    def counts(self) -> list[int]:
        """Return how often each key was asked for of anybody."""
        asked = [
            key for node in self.nodes.values() for request in node.asked if hasattr(request, "keys") for key in request.keys
        ]
        return [asked.count(key) for key in KEYS]


def failed(written: Written) -> set[KeyFailure]:
    return set(written.failed.values())


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("outcome", [Outcome.UNREACHABLE, Outcome.LOST])
def test_read_goes_to_the_next_primary_as_soon_as_there_is_one(outcome: Outcome, sent: bool) -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda _: (outcome, sent)
    cluster.fail_over("a")
    began = monotonic()
    found = cluster.get()
    assert len(found["existedKey"]) == len(KEYS)
    assert "failedKey" not in found
    assert monotonic() - began < 0.5
    assert len(cluster.nodes["a"].asked) < 10, "the waiting did not spin"


def test_read_leaves_a_node_that_says_nothing_once_a_document_says_that_it_is_gone() -> None:
    cluster = Cluster()
    cluster.nodes["b"].answers = lambda _: None
    cluster.fail_over("b")
    began = monotonic()
    assert "failedKey" not in cluster.get()
    assert monotonic() - began < 0.5
    assert not cluster.view.watchers


def test_read_waits_for_a_node_that_is_there_by_a_newer_document_too() -> None:
    cluster = Cluster()
    calls: list[Call] = []
    late = cluster.nodes["b"]
    late.submit = calls.append  # type: ignore[method-assign]
    cluster.fail_over("a", after=0.05)

    def answer() -> None:
        [call] = calls
        call.finish(Outcome.ANSWERED, well(read_request(call.frame)))

    gevent.spawn_later(0.15, answer)
    assert "failedKey" not in cluster.get()


def test_write_goes_to_the_next_primary_if_nothing_was_begun() -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda _: (Outcome.UNREACHABLE, False)
    cluster.fail_over("a")
    written = cluster.set()
    assert written.failed == {}
    assert written.keys == len(KEYS)


@pytest.mark.promise("I18")
@pytest.mark.parametrize("sent", [False, True])
def test_write_that_waits_for_a_node_that_is_gone_goes_elsewhere_only_if_no_byte_of_it_was_sent(sent: bool) -> None:
    cluster = Cluster()

    def take(call: Call) -> None:
        call.sent = sent

    cluster.nodes["b"].submit = take  # type: ignore[method-assign]
    cluster.fail_over("b")
    began = monotonic()
    written = cluster.set()
    assert failed(written) == ({INDETERMINATE} if sent else set())
    assert (monotonic() - began < 0.5) is not sent


@pytest.mark.promise("I18")
@pytest.mark.parametrize("outcome", [Outcome.UNREACHABLE, Outcome.LOST, Outcome.ANSWERED])
def test_write_that_may_have_been_begun_is_handed_to_nobody_else(outcome: Outcome) -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda _: (outcome, True)
    cluster.fail_over("a", after=0.0)
    written = cluster.set()
    assert failed(written) == {INDETERMINATE}
    assert cluster.counts() == [1] * len(KEYS)


@pytest.mark.promise("I18")
def test_of_a_write_only_what_was_not_begun_is_routed_anew() -> None:
    cluster = Cluster()

    def half(request: Any) -> bytes:
        if len(cluster.nodes["a"].asked) > 1:
            return well(request)
        letters = [Effect.NOT_BEGUN if place % 2 else Effect.INDETERMINATE for place in range(len(request.keys))]
        return Effects.of(letters, VERSION).write()

    cluster.nodes["a"].answers = half
    written = cluster.set()
    first, second = cluster.nodes["a"].asked
    assert second.keys == first.keys[1::2]
    assert written.failed == dict.fromkeys(first.keys[::2], INDETERMINATE)
    assert written.keys == len(KEYS) - len(written.failed)


def test_conditions_and_effects_of_a_part_stay_with_their_keys() -> None:
    cluster = Cluster()
    letters = [Effect.CONDITION, Effect.NOT_BEGUN, Effect.REPLACED, Effect.CONDITION]

    def some(request: Any) -> bytes:
        if len(cluster.nodes["a"].asked) > 1:
            return well(request)
        rest = [Effect.NOT_BEGUN] * (len(request.keys) - len(letters))
        return Effects.of([*letters, *rest], VERSION, [None, Version(3, 3)]).write()

    cluster.nodes["a"].answers = some
    written = cluster.set()
    keys = cluster.nodes["a"].asked[0].keys
    assert {key: failure.present for key, failure in written.failed.items()} == {keys[0]: None, keys[3]: Version(3, 3)}  # type: ignore[attr-defined]
    effects = written.effects()
    assert effects[KEYS.index(keys[2])] is Effect.REPLACED
    assert effects[KEYS.index(keys[1])] is Effect.CREATED


def test_answer_that_is_put_off_is_asked_for_in_a_lane_of_its_own_until_it_comes() -> None:
    cluster = Cluster()
    node = cluster.nodes["a"]
    lanes: list[Lane] = []
    begun: list[Any] = []
    submit = node.submit

    def note(call: Call) -> None:
        lanes.append(call.lane)
        submit(call)

    def put_off(request: Any) -> bytes:
        if not isinstance(request, Await):
            begun.append(request)
            return PutOff(7).write()
        assert request.ticket == 7
        return PutOff(7).write() if lanes.count(Lane.AWAITED) % 3 else well(begun[-1])

    node.submit = note  # type: ignore[method-assign]
    node.answers = put_off
    assert "failedKey" not in cluster.get()
    written = cluster.set()
    assert (written.failed, written.keys) == ({}, len(KEYS))
    assert lanes == [Lane.READ, *[Lane.AWAITED] * 3, Lane.WRITE, *[Lane.AWAITED] * 3]
    assert cluster.counts() == [2] * len(KEYS)


@pytest.mark.promise("I18")
@pytest.mark.parametrize(
    "reply",
    [
        (Outcome.UNREACHABLE, False),
        (Outcome.LOST, True),
        (Outcome.OVERLOADED, False),
        None,
        *[Refused(reason).write() for reason in (NodeRefusal.FAILED, NodeRefusal.STALE, NodeRefusal.NOT_BEGUN)],
    ],
)
def test_write_that_was_put_off_is_handed_to_nobody_else_whatever_comes_in_place_of_its_answer(reply: Reply) -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda request: reply if isinstance(request, Await) else PutOff(7).write()
    cluster.fail_over("a")
    assert failed(cluster.set()) == {INDETERMINATE}
    assert cluster.counts() == [1] * len(KEYS)


def test_read_that_was_put_off_by_a_node_that_is_gone_goes_to_the_next_primary() -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda request: None if isinstance(request, Await) else PutOff(7).write()
    cluster.fail_over("a")
    began = monotonic()
    assert "failedKey" not in cluster.get()
    assert monotonic() - began < 0.5


@pytest.mark.parametrize("refusal", [NodeRefusal.NOT_BEGUN, NodeRefusal.LATE])
def test_request_that_nobody_has_begun_until_its_deadline_was_late(refusal: NodeRefusal) -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda _: Refused(refusal).write()
    assert {row["code"] for row in cluster.get()["failedKey"]} == {"timeout"}
    assert {failure.code for failure in cluster.set().failed.values()} == {"not-applied"}


@pytest.mark.parametrize("refusal", [NodeRefusal.NOT_BEGUN, NodeRefusal.NOT_ACTING])
def test_refused_read_and_write_wait_for_the_next_document(refusal: NodeRefusal) -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda _: Refused(refusal).write()
    cluster.fail_over("a")
    assert cluster.set().failed == {}
    cluster.fail_over("b")
    assert "failedKey" not in cluster.get()


def test_document_that_a_node_shows_is_taken_over_and_counts_at_once() -> None:
    cluster = Cluster()
    later = without(UP, "b")
    for node in cluster.nodes.values():
        node.answers = lambda request: (
            well(request) if request.era == later.era else Refused(NodeRefusal.STALE, later.to_json()).write()
        )
    began = monotonic()
    assert cluster.set().failed == {}
    assert cluster.view.document == later
    assert monotonic() - began < 0.1
    assert len(cluster.nodes["b"].asked) == 1


def test_node_that_is_behind_is_given_the_document() -> None:
    cluster = Cluster()
    node = cluster.nodes["a"]

    def behind(request: Any) -> bytes:
        if isinstance(request, Adopt) or any(isinstance(one, Adopt) for one in node.asked):
            return well(request)
        return Refused(NodeRefusal.STALE, None).write()

    node.answers = behind
    assert cluster.set().failed == {}


def test_node_that_refuses_for_ever_is_asked_a_bounded_number_of_times_until_the_deadline() -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda request: (
        well(request) if isinstance(request, Adopt) else Refused(NodeRefusal.STALE, UP.to_json()).write()
    )
    began = monotonic()
    assert {failure.code for failure in cluster.set().failed.values()} == {"epoch"}
    assert DEADLINE - 0.1 < monotonic() - began < DEADLINE + 0.5
    assert len(cluster.nodes["a"].asked) < 20


def test_keys_without_a_primary_wait_for_one() -> None:
    cluster = Cluster(without(UP, "a", "b", "c"))
    gone = cluster.view.document
    assert gone is not None
    back = replace(gone, epoch=gone.epoch + 1, members=tuple(replace(one, state=State.UP) for one in gone.members))
    gevent.spawn_later(0.1, cluster.view.adopt, back)
    assert cluster.set().failed == {}


def test_keys_without_a_primary_until_the_deadline_are_told_so() -> None:
    cluster = Cluster(without(UP, "a", "b", "c"))
    began = monotonic()
    found = cluster.get()
    assert {row["code"] for row in found["failedKey"]} == {NO_PRIMARY.code}
    assert failed(cluster.set()) == {NO_PRIMARY}
    assert 2 * DEADLINE - 0.2 < monotonic() - began < 2 * DEADLINE + 1
    assert cluster.counts() == [0] * len(KEYS)


def test_node_that_cannot_be_reached_and_stays_a_member_is_told_at_the_deadline() -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda _: (Outcome.UNREACHABLE, False)
    found = cluster.get()
    assert {row["code"] for row in found["failedKey"]} == {UNREACHABLE.code}
    assert {failure.code for failure in cluster.set().failed.values()} == {"not-applied"}


def test_no_more_requests_wait_than_may() -> None:
    cluster = Cluster(without(UP, "a", "b", "c"), most_waiting=3)
    waiting = [gevent.spawn(cluster.set) for _ in range(3)]
    gevent.sleep(0.1)
    assert cluster.coordinator.patience.waiting == 3
    began = monotonic()
    assert failed(cluster.set()) == {NO_PRIMARY}
    assert monotonic() - began < 0.1
    gevent.joinall(waiting)
    assert cluster.coordinator.patience.waiting == 0


@pytest.mark.parametrize(
    ("effect", "code"),
    [(Effect.TOO_FEW_COPIES, TOO_FEW_COPIES.code), (Effect.BUSY, "overloaded"), (Effect.UNREADABLE, "damaged")],
)
def test_write_that_the_primary_refuses_is_told_at_once(effect: Effect, code: str) -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda request: Effects.of([effect] * len(request.keys)).write()
    written = cluster.set()
    assert {failure.code for failure in written.failed.values()} == {code}
    assert len(cluster.nodes["a"].asked) == 1
    assert written.keys == len(KEYS) - len(written.failed)


def test_node_whose_disk_is_full_is_named() -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda request: Effects.of(
        [Effect.FULL_COPY] * len(request.keys), full=["c"] * len(request.keys)
    ).write()
    assert {(one.code, one.status, one.node) for one in cluster.set().failed.values()} == {("disk-full", 507, "c")}


# -- reads that any copy may answer


def age_of(request: Any) -> bytes:
    """Answer a peek as a copy that has heard its primary 40 ms ago."""
    return Records([Record(VERSION, b"1")] * len(request.keys), 1, 40).write()


def test_any_copy_answers_a_stale_read_and_others_those_whose_node_is_not_there() -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = lambda _: (Outcome.UNREACHABLE, False)
    cluster.nodes["b"].answers = lambda _: Refused(NodeRefusal.STALE, None).write()
    cluster.nodes["c"].answers = age_of
    for _ in range(10):
        peeked = cluster.coordinator.peek(KEYS)
        assert [isinstance(one, Found) for one in peeked.found] == [True] * len(KEYS)
        assert peeked.age == 40
    assert len(cluster.nodes["c"].asked) == 10


def test_stale_read_asks_nobody_who_does_not_act_and_misses_nothing_that_nobody_has_answered() -> None:
    cluster = Cluster(without(UP, "a", "b"))
    cluster.nodes["c"].answers = lambda _: (Outcome.UNREACHABLE, False)
    assert {*cluster.coordinator.peek(KEYS).found} == {UNREACHABLE}
    assert cluster.nodes["a"].asked == cluster.nodes["b"].asked == []
    assert {*Cluster(without(UP, "a", "b", "c")).coordinator.peek(KEYS).found} == {NO_PRIMARY}


def test_stale_read_does_not_wait_for_a_node_until_its_deadline_while_there_are_others() -> None:
    cluster = Cluster()
    cluster.nodes["a"].answers = cluster.nodes["b"].answers = lambda _: None
    cluster.nodes["c"].answers = age_of
    began = monotonic()
    assert None not in cluster.coordinator.peek(KEYS).found
    assert monotonic() - began < DEADLINE


def test_stale_read_of_a_damaged_copy_is_answered_by_one_that_is_intact() -> None:
    cluster = Cluster()
    damaged = Records([Damage.DAMAGED, *[Record(VERSION, b"1")] * (len(KEYS) - 1)], 1, 40)
    for name in "ab":
        cluster.nodes[name].answers = lambda request: damaged.write() if len(request.keys) == len(KEYS) else ALL_DAMAGED.write()
    cluster.nodes["c"].answers = age_of
    for _ in range(10):
        assert [isinstance(one, Found) for one in cluster.coordinator.peek(KEYS).found] == [True] * len(KEYS)
    cluster.nodes["c"].answers = cluster.nodes["a"].answers
    found = cluster.coordinator.peek(KEYS).found
    assert [isinstance(one, Found) for one in found] == [False, *[True] * (len(KEYS) - 1)]
    assert found[0] == DAMAGED_KEY


ALL_DAMAGED = Records([Damage.DAMAGED], 1, 40)
"""Of a key that is asked for alone."""


def test_what_is_due_at_a_copy_is_not_shown() -> None:
    cluster = Cluster()
    for node in cluster.nodes.values():
        node.answers = lambda request: Records([Record(VERSION, b"1", 5)] * len(request.keys), 5).write()
    peeked = cluster.coordinator.peek(KEYS)
    assert {*peeked.found} == {None}
    assert peeked.age is None
