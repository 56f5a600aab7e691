"""Planned moves: who is asked to hold, and when the move is made."""

from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster.document import Document, Layout, State
from gkv.cluster.duties import duties
from gkv.cluster.placement import Placement
from gkv.cluster.plans import GoOn, Plan, Plans, moved
from gkv.replication.events import pair_of
from gkv.replication.takeover import Takeovers
from tests.documents import with_copies as document

UP, FILLING = State.UP, State.FILLING
DOWN = {"state": State.DOWN, "left": 3}
ALL = document()

FILLED = document({"a": {"state": FILLING, "left": 3}})
PROMOTED = replace(ALL, epoch=8)
BEFORE = Placement.of(FILLED)


def proposed(plans: Plans, now: float) -> tuple[Document | None, list[Plan | GoOn]]:
    return plans.propose(FILLED, PROMOTED, BEFORE, now)


def test_plan_names_to_each_primary_the_lists_that_it_gives_away() -> None:
    lists = moved(BEFORE, Placement.of(PROMOTED, BEFORE))
    assert set(lists) == {"b", "c"}
    for primary, ones in lists.items():
        assert all(one.preference[0] == "a" and one.primary == primary for one in ones)
    after, sent = proposed(Plans(5), 1.0)
    assert after is None
    plans = [one for one in sent if isinstance(one, Plan)]
    assert {one.to: one.lists for one in plans} == lists
    assert {(one.order, one.number >> 32, one.incarnation) for one in plans} == {(FILLED.order, 5, ord(x)) for x in "bc"}


def test_move_is_made_when_all_primaries_hold() -> None:
    plans = Plans(5)
    _, sent = proposed(plans, 1.0)
    number = sent[0].number
    for wrong in (("b", 1, number, FILLED.order), ("b", ord("b"), 1, FILLED.order), ("b", ord("b"), number, (1, 6))):
        plans.held(*wrong)
    plans.held("c", ord("c"), number, FILLED.order)
    assert proposed(plans, 1.1) == (None, [])
    plans.held("b", ord("b"), number, FILLED.order)
    assert proposed(plans, 1.1) == (PROMOTED, [])


def test_plan_that_is_not_answered_is_given_up_and_the_fourth_time_the_move_is_made_without() -> None:
    plans = Plans(5)
    now = 1.0
    for _ in range(3):
        after, sent = proposed(plans, now)
        assert (after, {type(one) for one in sent}) == (None, {Plan})
        assert proposed(plans, now + 0.19) == (None, [])
        after, gone = proposed(plans, now + 0.21)
        assert (after, [(one.number, one.to) for one in gone]) == (None, [(one.number, one.to) for one in sent])
        assert {type(one) for one in gone} == {GoOn}
        assert proposed(plans, now + 0.6)[1] == []
        now += 1.0
    assert proposed(plans, now) == (PROMOTED, [])
    plans.enacted(PROMOTED)
    assert proposed(plans, now)[0] is None


def test_plan_for_what_is_not_due_any_more_is_given_up() -> None:
    plans = Plans(5)
    proposed(plans, 1.0)
    assert {type(one) for one in plans.give_up()} == {GoOn}
    assert plans.give_up() == []
    _, first = proposed(plans, 1.1)
    _, sent = plans.propose(FILLED, replace(PROMOTED, removed=(1,)), BEFORE, 1.2)
    assert [type(one) for one in sent] == [GoOn, GoOn, Plan, Plan]
    assert sent[0].number == first[0].number != sent[2].number


def test_late_answer_to_an_earlier_plan_counts_for_nothing() -> None:
    plans = Plans(5)
    _, sent = proposed(plans, 1.0)
    plans.enacted(replace(FILLED, epoch=8))
    for name in "bc":
        plans.held(name, ord(name), sent[0].number, FILLED.order)
    assert {type(one) for one in proposed(plans, 1.1)[1]} == {Plan}


def test_move_that_concerns_no_primary_needs_no_plan() -> None:
    weightless = document({"d": {"weight": 0.0, "state": FILLING}}, "abcd")
    after = replace(weightless, epoch=8, members=(*weightless.members[:3], replace(weightless.members[3], state=UP)))
    assert Plans(5).propose(weightless, after, Placement.of(weightless), 1.0) == (after, [])


def test_end_of_a_change_of_the_ring_is_a_move_of_the_lists_whose_primary_is_another() -> None:
    four = Layout(tuple((one, 1.0) for one in "abcd"), 16, 3)
    coming = replace(document({"d": {"weight": 0.0}}, "abcd"), next=four, next_since=7)
    before = Placement.of(coming)
    lists = moved(before, Placement.of(document(ids="abcd"), before))
    assert all(one.coming[0] == "d" and one.primary == primary for primary, ones in lists.items() for one in ones)
    assert set(lists) == set("abc")


@pytest.mark.parametrize(
    ("ids", "changes", "weights", "copies"),
    [
        pytest.param("abcd", {"d": {"weight": 0.0}}, "abcd", 3, id="one joins"),
        pytest.param("abcd", {}, "abc", 3, id="one leaves"),
        pytest.param("abcd", {"d": DOWN}, "abc", 3, id="one that is down is removed"),
        pytest.param("abc", {}, "abccc", 3, id="one has another weight"),
        pytest.param("abcd", {"d": DOWN}, "abccd", 2, id="another weight while one is down"),
        pytest.param("abcd", {"a": DOWN}, "abcd", 3, id="more copies while one is down"),
    ],
)
def test_nothing_is_taken_over_at_the_end_of_a_change_that_did_not_pause(
    ids: str, changes: dict[str, dict[str, Any]], weights: str, copies: int
) -> None:
    """A process that keeps a key at its list takes that over with all others, if some of them come to it."""
    layout = Layout(tuple((one, float(weights.count(one))) for one in sorted(set(weights))), 16, copies)
    old = document(changes, ids, replicas=2 if "a" in changes else copies, min_in_sync=1)
    coming = replace(old, epoch=8, next=layout, next_since=8)
    lines = tuple(replace(one, weight=dict(layout.weights).get(one.id, 0.0)) for one in old.members)
    new = replace(old, epoch=9, replicas=copies, members=lines)
    before = Placement.of(coming)
    after = Placement.of(new, before)
    assert after.lists is before.coming
    lists, kept_by_none = moved(before, after), True
    for me in ids:
        takeovers, known, then = Takeovers(), duties(coming, before, me), duties(new, after, me)
        takeovers.adopt(duties(old, Placement.of(old), me), replace(known, order=(1, 99)), serves=True)
        for granter in ids:
            takeovers.named(granter, (), known)
        takeovers.open_ready()
        kept = takeovers.adopt(replace(known, order=(1, 8)), then, serves=True)
        taken = {one.preference for one in then.own if one.primary == me and pair_of(one) not in kept}
        own = [one for one in known.own if one.primary == me]
        assert {pair_of(one) for one in own if one.coming in taken} <= {pair_of(one) for one in lists.get(me, ())}
        kept_by_none = kept_by_none and not kept
    assert not kept_by_none
