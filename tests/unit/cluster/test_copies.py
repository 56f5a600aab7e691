"""Changes of the document with copies: what is due, and what is not."""

from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster.callin import CallIn
from gkv.cluster.changes import Look, change, leaving, move
from gkv.cluster.document import Document, Durability, Layout, Member, State
from gkv.cluster.placement import Placement
from gkv.cluster.refusals import refused, refused_layout, refused_loss, refused_removal
from gkv.model import Node
from tests.documents import CLUSTER
from tests.documents import with_copies as document

UP, FILLING, DOWN = State.UP, State.FILLING, State.DOWN


def line(name: str, **changes: Any) -> Member:
    """Return a line that is up; the incarnation of each member is its letter."""
    return replace(Member(name, f"http://{name}:1", incarnation=ord(name), directory=ord(name)), **changes)


def call(name: str, before: Document, **changes: Any) -> CallIn:
    """Return the call of the process in a member's line, which has reached all others."""
    reached = tuple(one.incarnation for one in before.members)
    node, digest = Node(name, f"http://{name}:1"), before.digest
    known = CallIn(node, ord(name), cluster=CLUSTER, order=before.order, digest=digest, bare=False, reached=reached)
    return replace(known, **{"records": 3, **changes})


def look(before: Document, *others: CallIn, only: str = "abc", **more: Any) -> Look:
    calls = {one: call(one, before) for one in only} | {one.id: one for one in others}
    return Look(calls, **more)


def b_of(after: Document | None) -> dict[str, Any] | None:
    """Return how b's line differs from one that is up."""
    if after is None:
        return None
    found, usual = after.member("b"), line("b")
    assert found is not None
    return {name: getattr(found, name) for name in Member.__slots__ if getattr(found, name) != getattr(usual, name)}


def other(name: str, before: Document, **changes: Any) -> CallIn:
    """Return the call of another process, on the right directory."""
    return call(name, before, **{"incarnation": 9, "ran": (ord(name), 9), **changes})


B_DOWN = document({"b": {"state": DOWN, "left": 5}})
B_FILLING = document({"b": {"state": FILLING, "left": 5, "empty": True}})
WENT = {"state": DOWN, "left": 8, "since": 8}
BACK = {"state": FILLING, "left": 5, "rank": 1, "since": 8}
ALL = document()
ASYNC = document(durability=Durability.ASYNC)
TABLE: dict[str, tuple[Document, Look, dict[str, Any] | None]] = {
    "A1: it is silent": (ALL, look(ALL, silent=frozenset("b")), WENT),
    "A1: a filling one is silent": (
        B_FILLING,
        look(B_FILLING, silent=frozenset("b")),
        {"state": DOWN, "left": 5, "empty": True, "since": 8},
    ),
    "A1: it asks to leave, and its process does not come back": (ALL, look(ALL, leaving=frozenset([ord("b")])), WENT),
    "A2: it is complained of, and not back at once": (ALL, look(ALL, accused=frozenset("b")), WENT),
    "A3: it has called all": (B_DOWN, look(B_DOWN), BACK),
    "A3: it has not called one that is up": (B_DOWN, look(B_DOWN, call("b", B_DOWN, reached=(ord("a"),))), None),
    "A3: it has not called one that is down": (
        document({"b": {"state": DOWN, "left": 5}, "c": {"state": DOWN, "left": 4}}),
        look(B_DOWN, call("b", B_DOWN, reached=(ord("a"),)), only="ab"),
        BACK,
    ),
    "A3: its pause runs": (B_DOWN, look(B_DOWN, paused=frozenset("b")), None),
    "A3: another process, on its directory": (
        ALL,
        look(ALL, other("b", ALL)),
        {"state": FILLING, "incarnation": 9, "directory": 9, "left": 8, "rank": 1, "since": 8},
    ),
    "A3: another process that must wait is evicted first": (ALL, look(ALL, other("b", ALL), paused=frozenset("b")), WENT),
    "A3: another directory is empty": (
        B_DOWN,
        look(B_DOWN, other("b", B_DOWN, ran=(9,))),
        {"state": FILLING, "incarnation": 9, "empty": True, "left": 5, "since": 8},
    ),
    "A3: an empty one that restarts on its own directory is empty still": (
        B_FILLING,
        look(B_FILLING, other("b", B_FILLING, ran=(8, 9))),
        {"state": FILLING, "incarnation": 9, "empty": True, "left": 5, "since": 8},
    ),
    "A3: one in memory comes back empty, and no directory is right": (
        document({"b": {"volatile": True}}),
        look(ALL, other("b", ALL, volatile=True)),
        {"state": FILLING, "incarnation": 9, "empty": True, "volatile": True, "directory": 0, "left": 8, "since": 8},
    ),
    "A3: so does one whose acknowledged writes may be lost": (
        ASYNC,
        look(ASYNC, other("b", ASYNC)),
        {"state": FILLING, "incarnation": 9, "empty": True, "directory": 0, "left": 8, "since": 8},
    ),
    "A3: but not after an orderly end": (
        ASYNC,
        look(ASYNC, other("b", ASYNC, orderly=True)),
        {"state": FILLING, "incarnation": 9, "directory": 9, "left": 8, "rank": 1, "since": 8},
    ),
    "A3: a zone changes with the ring only": (B_DOWN, look(B_DOWN, call("b", B_DOWN, zone="x")), BACK),
    "A6: the last one is lost": (
        document({"a": {"state": DOWN, "left": 5}, "b": {"state": DOWN, "left": 6}, "c": {"state": FILLING, "left": 4}}),
        look(ALL, only="c", accepted=("b",)),
        {"state": DOWN, "since": 8},
    ),
    "A6: one that is not the last one is not lost": (
        document({"a": {"state": DOWN, "left": 6}, "b": {"state": DOWN, "left": 5}, "c": {"state": FILLING, "left": 4}}),
        look(ALL, only="c", accepted=("b",)),
        None,
    ),
    "A6: an empty last one has nothing while others have something": (
        document({"a": {"state": DOWN, "left": 5}, "b": {"state": FILLING, "left": 6, "empty": True}, "c": {"state": DOWN}}),
        look(ALL, only="b", accepted=("b",)),
        {"state": FILLING, "empty": True, "since": 8},
    ),
    "A6: an empty last one acts with what it has when nobody has more": (
        document(
            {"a": {"state": DOWN}, "b": {"state": FILLING, "left": 6, "empty": True, "directory": 3}, "c": {"state": DOWN}}
        ),
        look(ALL, only="b", accepted=("b",)),
        {"state": FILLING, "rank": 1, "since": 8},
    ),
}


@pytest.mark.parametrize(("before", "seen", "expected"), TABLE.values(), ids=TABLE.keys())
def test_change_of_a_line_with_copies(before: Document, seen: Look, expected: dict[str, Any] | None) -> None:
    assert b_of(change(before, seen)) == expected


PROMOTED = {"since": 8, "left": 5}
PROMOTIONS: dict[str, tuple[Document, dict[str, Any], dict[str, Any] | None]] = {
    "A4: it is equal": (B_FILLING, {"equal": True}, PROMOTED),
    "A4: the directory of an empty one is the right one from then on": (
        document({"b": {"state": FILLING, "left": 5, "empty": True, "directory": 3}}),
        {"equal": True},
        PROMOTED,
    ),
    "A4: it is not equal yet": (B_FILLING, {}, None),
    "F17: it is equal by another epoch": (B_FILLING, {"equal": True, "order": (1, 6)}, None),
    "F2: a list of its has no primary": (
        document({"b": {"state": FILLING, "left": 5}, "a": {"state": FILLING, "left": 6}, "c": {"state": DOWN, "left": 7}}),
        {"equal": True},
        None,
    ),
    "A4: the last one has nobody to be equal to": (
        document({"b": {"state": FILLING, "left": 7}, "a": {"state": FILLING, "left": 6}, "c": {"state": DOWN, "left": 5}}),
        {"equal": True},
        {"since": 8, "left": 7},
    ),
    "A4: the ring does not have it yet": (document({"b": {"state": FILLING, "weight": 0.0}}), {}, {"since": 8, "weight": 0.0}),
}


@pytest.mark.parametrize(("before", "report", "expected"), PROMOTIONS.values(), ids=PROMOTIONS.keys())
def test_promotion_with_copies(before: Document, report: dict[str, Any], expected: dict[str, Any] | None) -> None:
    calls = {one.id: call(one.id, before, records=0) for one in before.members if one.state is not DOWN}
    seen = Look(calls | {"b": call("b", before, records=0, **report)})
    assert change(before, seen) is None
    assert b_of(move(before, seen, Placement.of(before))) == expected


def test_report_of_another_process_promotes_nobody() -> None:
    seen = look(B_FILLING, other("b", B_FILLING, equal=True))
    assert b_of(move(B_FILLING, seen, Placement.of(B_FILLING))) is None


def test_those_that_left_together_are_ranked_in_the_order_of_their_return() -> None:
    before = document({one: {"state": DOWN, "left": 5} for one in "abcd"}, "abcd")
    ranks = []
    for name in "cadb":
        after = change(before, look(before, only=name))
        assert after is not None
        before = after
        line_of = before.member(name)
        assert line_of is not None
        ranks.append(line_of.rank)
        before = replace(before, members=tuple(replace(one, state=DOWN) for one in before.members))
    assert ranks == [3, 2, 1, 0]


def test_rank_is_kept_when_its_member_goes_and_is_back() -> None:
    before = document({"b": {"state": DOWN, "left": 5, "rank": 2}, "a": {"state": FILLING, "left": 5, "rank": 1}})
    assert b_of(change(before, look(before))) == BACK | {"rank": 2}


def test_all_that_go_at_one_look_leave_together() -> None:
    after = change(ALL, look(ALL, other("a", ALL, reached=()), silent=frozenset("b"), only="c"))
    assert after is not None
    assert [(one.state, one.left) for one in after.members] == [(DOWN, 8), (DOWN, 8), (UP, 0)]


def test_who_hears_nobody_evicts_nobody() -> None:
    assert change(ALL, Look({}, silent=frozenset("abc"))) is None
    assert leaving(ALL, Look({}, silent=frozenset("abc"))) == set("abc")


def test_process_that_ended_is_written_down_with_copies_only() -> None:
    after = change(ALL, look(ALL, ended=frozenset([ord("b"), 77])))
    assert after is not None
    assert (after.ended, b_of(after)) == ((ord("b"),), WENT)
    assert change(after, look(after, ended=frozenset([ord("b"), 77]))) is None
    one = document(replicas=1, min_in_sync=1)
    alone = change(one, look(one, ended=frozenset([ord("b")])))
    assert alone is not None
    assert alone.ended == ()


# -- the ring


def layout(ids: str, **parts: Any) -> Layout:
    return Layout(tuple((one, 1.0) for one in ids), 16, **{"replicas": 3, **parts})


FOUR = document({"d": {"weight": 0.0}}, "abcd")
COMING = replace(FOUR, next=layout("abcd"), next_since=7)


def test_ring_changes_by_a_word_while_members_hold_keys() -> None:
    after = change(FOUR, look(FOUR, only="abcd", wanted=layout("abcd")))
    assert after == replace(FOUR, epoch=8, next=layout("abcd"), next_since=8)


READY: dict[str, tuple[Document, dict[str, Any], bool]] = {
    "A5: who comes in is ready": (COMING, {"ready": True}, True),
    "A5: it is not": (COMING, {}, False),
    "A5: it is by another epoch": (COMING, {"ready": True, "order": (1, 6)}, False),
    "A5: it is another process": (COMING, {"ready": True, "incarnation": 9}, False),
    "A5: nobody of a list is up": (
        replace(COMING, members=tuple(replace(one, state=FILLING, left=3) for one in COMING.members)),
        {"ready": True},
        False,
    ),
}


@pytest.mark.parametrize(("before", "report", "switches"), READY.values(), ids=READY.keys())
def test_ring_that_is_to_come(before: Document, report: dict[str, Any], switches: bool) -> None:
    seen = look(before, call("d", before, **report), only="abcd")
    after = move(before, seen, Placement.of(before))
    if switches:
        assert after == replace(FOUR, epoch=8, members=(*FOUR.members[:3], line("d", since=8)), next_since=0)
    else:
        assert after is None or after.next == before.next


def test_ring_that_is_to_come_is_taken_back_by_a_word_or_when_it_has_waited_too_long_but_not_as_a_member_goes() -> None:
    calls = {one: call(one, COMING) for one in "abd"}
    after = change(COMING, Look(calls, frozenset("c")))
    assert after is not None
    assert after.next == COMING.next
    for given_up in ({"take_back": True}, {"overdue": True}):
        back = change(COMING, Look(calls, **given_up))
        assert back == replace(COMING, epoch=8, members=FOUR.members[:3], next=None)


def test_number_of_copies_changes_with_the_ring_and_its_default_with_it() -> None:
    one = document(replicas=1, min_in_sync=1)
    coming = change(one, look(one, wanted=layout("abc", zones=(("a", "x"),))))
    assert coming is not None
    assert coming.copies_records
    ready = Look({name: call(name, coming, ready=True) for name in "abc"})
    after = move(coming, ready, Placement.of(coming))
    assert after is not None
    assert (after.replicas, after.min_in_sync, after.next, after.zones) == (3, 2, None, {"a": "x"})


def test_member_that_is_removed_leaves_the_ring_and_then_the_document_and_does_not_come_back() -> None:
    before = document({"d": {"state": DOWN, "left": 5}}, "abcd")
    coming = change(before, look(before, removed=frozenset("d")))
    assert coming is not None
    assert (coming.next, coming.removed) == (layout("abc"), (ord("d"),))
    back = change(coming, Look({one: call(one, coming) for one in "abc"}, take_back=True))
    assert back is not None
    assert (back.next, back.removed) == (None, ())  # or nobody would answer for its keys if it is the last one
    ready = Look({name: call(name, coming, ready=True) for name in "abc"}, removed=frozenset("d"))
    assert change(coming, ready) is None
    switched = move(coming, ready, Placement.of(coming))
    assert switched is not None
    assert [node.id for node in switched.nodes] == ["a", "b", "c"]
    gone = change(switched, look(switched, removed=frozenset("d")))
    # A ring that somebody asks for at that very moment does not name it any more, nor anybody else who is none.
    both = change(switched, look(switched, removed=frozenset("d"), wanted=layout("abcdx")))
    assert both == gone
    assert gone is not None
    assert [one.id for one in gone.members] == ["a", "b", "c"]
    for late in (call("d", gone), other("d", gone)):
        error = refused(gone, late, {late.id: late})
        assert error is not None
        assert "removed" in str(error)


def test_word_that_cannot_be_granted_is_refused() -> None:
    down = document({"b": {"state": DOWN, "left": 5}})
    placement = Placement.of(down)
    assert refused_removal(down, "b") is None
    assert refused_removal(down, "b", placement) is None
    last = document({"a": {"state": DOWN, "left": 4}, "b": {"state": DOWN, "left": 5}, "c": {"state": DOWN, "left": 3}})
    assert refused_removal(last, "a", Placement.of(last)) is None
    for no in (
        refused_removal(last, "b", Placement.of(last)),
        refused_removal(down, "a"),
        refused_removal(down, "x"),
        refused_removal(replace(COMING, members=(*down.members, FOUR.members[3])), "b"),
    ):
        assert no is not None
    assert refused_removal(document({"b": {"state": DOWN}}, replicas=1, min_in_sync=1), "b") is not None
    for no in (refused_loss(down, "b", placement), refused_loss(down, "a", placement), refused_loss(down, "x", placement)):
        assert no is not None
    assert refused_layout(FOUR, layout("abcd")) is None
    for no in (refused_layout(COMING, layout("abc")), refused_layout(ALL, layout("abx")), refused_layout(ALL, layout(""))):
        assert no is not None
    one = document(replicas=1, min_in_sync=1)
    assert refused_layout(one, layout("ab", replicas=1)) is None
    assert refused_layout(replace(one, next=layout("ab", replicas=1), next_since=7), layout("abc", replicas=1)) is not None


# -- newcomers


def newcomer(name: str, before: Document, **changes: Any) -> CallIn:
    fresh = {"records": 0, "bare": True, "order": (0, 0), "digest": "", "cluster": None, "reached": ()}
    return call(name, before, **fresh | changes)


def test_newcomer_begins_a_change_of_the_ring_while_members_hold_keys_and_some_are_down() -> None:
    for before in (ALL, B_DOWN):
        after = change(before, look(before, newcomer("d", before, zone="x"), silent=frozenset()))
        assert after is not None
        assert after.next == layout("abcd", zones=(("d", "x"),))
        assert after.member("d") == line("d", weight=0.0, zone="x", since=8)


def test_newcomer_waits_while_another_change_is_under_way() -> None:
    late = newcomer("e", COMING)
    assert change(COMING, look(COMING, late, only="abcd")) is None
    error = refused(COMING, late, {"e": late})
    assert error is not None
    assert error.retryable
    assert str(error) == "e cannot join while another change of the ring is under way: d joins"


def test_newcomer_of_a_change_that_is_under_way_cannot_be_removed_as_the_change_would_wait_for_it_in_vain() -> None:
    gone = COMING.with_member(line("d", weight=0.0, state=State.DOWN, left=8))
    error = refused_removal(gone, "d")
    assert "another ring is to come already" in str(error)
    assert refused_removal(replace(gone, next=None), "d") is None


def test_newcomer_that_holds_keys_or_was_removed_or_is_too_heavy_is_refused() -> None:
    for late in (
        newcomer("d", ALL, records=1, bare=False, cluster=CLUSTER),
        newcomer("d", ALL, node=Node("d", "http://d:1", 100_000.0)),
    ):
        error = refused(ALL, late, {"d": late})
        assert error is not None
        assert not error.retryable
        assert change(ALL, look(ALL, late)) is None


def test_weight_and_zone_that_a_member_is_started_with_are_not_asked_for() -> None:
    other_weight = call("b", ALL, node=Node("b", "http://b:1", 2.0), zone="x", records=0)
    assert refused(ALL, other_weight, {}) is None
    assert change(ALL, look(ALL, other_weight)) is None
    nothing = [call(one, ALL, records=0) for one in "ac"]
    assert change(ALL, look(ALL, other_weight, *nothing)) is None


LEFT = document({"d": {"weight": 0.0}}, "abcd")
GOES: dict[str, tuple[Document, dict[str, Any], bool]] = {
    "it holds nothing": (LEFT, {"spare": True}, True),
    "it holds keys": (LEFT, {}, False),
    "it does not know that it has left": (LEFT, {"spare": True, "order": (1, 6)}, False),
    "it is another process": (LEFT, {"spare": True, "incarnation": 9, "ran": (ord("d"), 9)}, False),
    "the ring is to have it": (COMING, {"spare": True}, False),
    "the ring has it": (document(ids="abcd"), {"spare": True}, False),
}


@pytest.mark.parametrize(("before", "said", "goes"), GOES.values(), ids=GOES.keys())
def test_line_of_a_member_that_no_ring_has_goes_when_it_holds_nothing(
    before: Document, said: dict[str, Any], goes: bool
) -> None:
    after = change(before, look(before, call("d", before, **said), only="abcd"))
    if not goes:
        assert after is None or after.member("d") is not None
        return
    assert after == replace(before, epoch=8, members=before.members[:3], removed=(ord("d"),))
    again = newcomer("d", after, incarnation=9, ran=(ord("d"), 9))
    assert change(after, look(after, again)) is None
    empty = newcomer("d", after, incarnation=9, ran=(9,))
    joins = change(after, look(after, empty))
    assert joins is not None
    assert joins.next == layout("abcd")
