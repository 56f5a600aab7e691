"""The pauses before a ring that was taken back is to come again: the time is an argument."""

from dataclasses import replace

from gkv.cluster.callin import CallIn
from gkv.cluster.changes import Look
from gkv.cluster.document import Document, Layout, Member
from gkv.cluster.ring_pauses import FIRST, LONGEST, RingPauses
from gkv.model import Node
from tests.documents import CLUSTER

A, B, C = (
    Member(name, f"http://127.0.0.1:{9000 + place}", incarnation=ord(name), directory=ord(name))
    for place, name in enumerate("abc")
)
BOTH = Document(CLUSTER, 9, (A, B), 16)
THREE = Layout((("a", 1.0), ("b", 1.0), ("c", 1.0)), 16)
JOINING = Document(CLUSTER, 8, (A, B, replace(C, weight=0.0)), 16, next=THREE, next_since=8)


def look(*members: Member, document: Document = JOINING, records: int = 0, **more: object) -> Look:
    """Return a look at which these members have reported the document."""
    calls = {
        one.id: CallIn(
            Node(one.id, one.url),
            one.incarnation,
            cluster=CLUSTER,
            order=document.order,
            digest=document.digest,
            records=records,
        )
        for one in members
    }
    return Look(calls, **more)  # type: ignore[arg-type]


def paused(after: Document, seen: Look, before: Document = JOINING) -> frozenset[int]:
    pauses = RingPauses()
    pauses.note(before, after, seen, 100.0)
    return pauses.at(100.0)


def test_newcomer_that_did_not_report_has_a_pause() -> None:
    assert paused(BOTH, look(A, B, overdue=True)) == {ord("c")}
    assert paused(BOTH, look(A, B)) == {ord("c")}
    assert paused(BOTH, look(A, B, C, silent=frozenset("c"))) == {ord("c")}
    assert paused(BOTH, look(A, B, C, ended=frozenset([ord("c")]))) == {ord("c")}


def test_newcomer_with_keys_has_a_pause() -> None:
    seen = look(A, B)
    assert paused(BOTH, replace(seen, calls={**seen.calls, **look(C, records=1).calls})) == {ord("c")}


def test_newcomer_that_reported_has_a_pause_only_if_the_ring_was_to_come_for_too_long() -> None:
    assert paused(BOTH, look(A, C)) == frozenset()
    assert paused(BOTH, look(A, C, overdue=True)) == {ord("c")}


def test_of_two_newcomers_the_one_that_reported_has_no_pause() -> None:
    d = replace(C, id="d", url="http://127.0.0.1:9009", incarnation=ord("d"))
    four = replace(THREE, weights=(*THREE.weights, ("d", 1.0)))
    both = replace(JOINING, members=(*JOINING.members, replace(d, weight=0.0)), next=four)
    assert paused(BOTH, look(A, B, d, document=both, overdue=True), both) == {ord("c")}


def test_member_that_asked_for_another_weight_and_did_not_report_has_a_pause() -> None:
    heavier = replace(BOTH, epoch=8, next=Layout((("a", 1.0), ("b", 2.0)), 16), next_since=8)
    assert paused(BOTH, look(A, document=heavier), heavier) == {ord("b")}


def test_ring_that_has_come_or_is_still_to_come_gives_nobody_a_pause() -> None:
    assert paused(replace(JOINING, epoch=9, members=(A, B, C), next=None), look(A, B, C)) == frozenset()
    assert paused(JOINING, look(A, B)) == frozenset()
    assert paused(replace(BOTH, epoch=10), look(A), BOTH) == frozenset()


def test_pause_grows_up_to_the_longest_ends_and_is_forgotten() -> None:
    pauses, now, lengths = RingPauses(), 100.0, []
    for _ in range(9):
        pauses.note(JOINING, BOTH, look(A, B), now)
        lengths.append(pauses.left(ord("c"), now))
        assert pauses.at(now + lengths[-1] - 0.1) == {ord("c")}
        now += lengths[-1]
        assert pauses.at(now) == frozenset()
        assert pauses.left(ord("c"), now) == 0
    assert lengths == [FIRST * 2**k for k in range(7)] + [LONGEST] * 2
    now += 700
    pauses.note(BOTH, BOTH, look(A, B), now)
    pauses.note(JOINING, BOTH, look(A, B), now)
    assert pauses.left(ord("c"), now) == FIRST


def test_join_that_an_operator_has_taken_back_is_not_begun_again_for_that_process() -> None:
    pauses = RingPauses()
    pauses.note(JOINING, BOTH, look(A, B, C, take_back=True), 100.0)
    assert pauses.at(1e9) == {C.incarnation}
    assert pauses.left(C.incarnation, 1e9) == float("inf")
