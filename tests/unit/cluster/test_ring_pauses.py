"""The pauses before a ring that was taken back is to come again: the time is an argument."""

from dataclasses import replace

from gkv.cluster.callin import CallIn
from gkv.cluster.changes import Look
from gkv.cluster.document import Document, Layout, Member, State
from gkv.cluster.ring_pauses import FIRST as FIRST_PAUSE
from gkv.cluster.ring_pauses import FIRST_WITHIN, LONGEST, NEWCOMER_WITHIN, RingPauses
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
    return Look(calls(*members, document=document, records=records), **more)  # type: ignore[arg-type]


def calls(*members: Member, document: Document = JOINING, records: int = 0) -> dict[str, CallIn]:
    return {
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


def at(pauses: RingPauses, now: float) -> frozenset[int]:
    return pauses.at(BOTH, {}, now)


def paused(after: Document, seen: Look, before: Document = JOINING) -> frozenset[int]:
    pauses = RingPauses()
    pauses.note(before, after, seen, 100.0)
    return at(pauses, 100.0)


def test_newcomer_that_did_not_report_has_a_pause() -> None:
    assert paused(BOTH, look(A, B, overdue=True)) == {ord("c")}
    assert paused(BOTH, look(A, B)) == {ord("c")}
    assert paused(BOTH, look(A, B, C, silent=frozenset("c"))) == {ord("c")}
    assert paused(BOTH, look(A, B, C, ended=frozenset([ord("c")]))) == {ord("c")}


def test_newcomer_that_has_been_filled_in_part_and_reported_has_none() -> None:
    seen = look(A, B, silent=frozenset("c"))
    assert paused(BOTH, replace(seen, silent=frozenset(), calls={**seen.calls, **calls(C, records=1)})) == frozenset()


def test_newcomer_that_reported_has_a_pause_only_if_the_ring_was_to_come_for_too_long() -> None:
    assert paused(BOTH, look(A, C)) == frozenset()
    assert paused(BOTH, look(A, C, overdue=True)) == {ord("c")}


def test_of_two_newcomers_the_one_that_reported_has_no_pause() -> None:
    d = replace(C, id="d", url="http://127.0.0.1:9009", incarnation=ord("d"))
    four = replace(THREE, weights=(*THREE.weights, ("d", 1.0)))
    both = replace(JOINING, members=(*JOINING.members, replace(d, weight=0.0)), next=four)
    assert paused(BOTH, look(A, B, d, document=both, overdue=True), both) == {ord("c")}


def test_ring_that_has_come_or_is_still_to_come_gives_nobody_a_pause() -> None:
    assert paused(replace(JOINING, epoch=9, members=(A, B, C), next=None), look(A, B, C)) == frozenset()
    assert paused(JOINING, look(A, B)) == frozenset()
    assert paused(replace(BOTH, epoch=10), look(A), BOTH) == frozenset()


def test_pause_grows_up_to_the_longest_ends_and_is_forgotten() -> None:
    pauses, now, lengths = RingPauses(), 100.0, []
    for _ in range(9):
        pauses.note(JOINING, BOTH, look(A, B), now)
        lengths.append(pauses.left(ord("c"), now))
        assert at(pauses, now + lengths[-1] - 0.1) == {ord("c")}
        now += lengths[-1]
        assert at(pauses, now) == frozenset()
        assert pauses.left(ord("c"), now) == 0
    assert lengths == [FIRST_PAUSE * 2**k for k in range(7)] + [LONGEST] * 2
    now += 700
    pauses.note(BOTH, BOTH, look(A, B), now)
    pauses.note(JOINING, BOTH, look(A, B), now)
    assert pauses.left(ord("c"), now) == FIRST_PAUSE


def test_join_that_an_operator_has_taken_back_is_not_begun_again_for_that_process() -> None:
    pauses = RingPauses()
    pauses.note(JOINING, BOTH, look(A, B, C, take_back=True), 100.0)
    assert at(pauses, 1e9) == {C.incarnation}
    assert pauses.left(C.incarnation, 1e9) == float("inf")


NONE = Document(CLUSTER, 1, (), 16)
FIRST = Document(CLUSTER, 2, (replace(A, weight=0.0),), 16, next=Layout((("a", 1.0),), 16), next_since=2)


def test_first_ring_waits_for_the_nodes_that_are_expected_and_no_longer_than_it_may() -> None:
    pauses = RingPauses()
    assert pauses.at(NONE, calls(A), 100.0) == frozenset()
    pauses.expect(["a", "b"], 105.0)
    assert pauses.at(NONE, calls(A), 104.9) == {A.incarnation}
    assert pauses.left(A.incarnation, 104.9) == 0.0  # so it is not refused meanwhile
    assert pauses.at(NONE, calls(A, B), 101.0) == frozenset()
    assert pauses.at(NONE, calls(A, B, C), 101.0) == frozenset()
    assert pauses.at(NONE, calls(A), 105.0) == frozenset()
    assert pauses.at(BOTH, calls(C), 101.0) == frozenset()


def overdue_after(pauses: RingPauses, document: Document, now: float) -> float:
    """Return the whole seconds from `now` on after which a ring that is to come has waited too long; 1,000 for never."""
    return next((second for second in range(1_000) if pauses.is_overdue(document, now + second)), 1_000)


def test_first_ring_is_overdue_by_itself_and_another_one_by_a_newcomer_that_is_down() -> None:
    away = {"state": State.DOWN, "left": 7}
    without_c = replace(JOINING, members=(A, B, replace(C, weight=0.0, **away)))
    without_b = replace(JOINING, members=(A, replace(B, **away), replace(C, weight=0.0)))
    assert overdue_after(RingPauses(), FIRST, 100.0) == FIRST_WITHIN + 1
    assert overdue_after(RingPauses(), without_c, 100.0) == NEWCOMER_WITHIN + 1
    for waits in (JOINING, without_b, BOTH, NONE):
        assert overdue_after(RingPauses(), waits, 100.0) == 1_000


def test_newcomer_that_was_back_meanwhile_has_all_the_time_again() -> None:
    pauses = RingPauses()
    away = replace(JOINING, members=(A, B, replace(C, weight=0.0, state=State.DOWN, left=7)))
    for start in (100.0, 200.0):
        for second in range(int(NEWCOMER_WITHIN)):
            assert not pauses.is_overdue(away, start + second)
        assert not pauses.is_overdue(JOINING, start + NEWCOMER_WITHIN)
