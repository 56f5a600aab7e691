"""The part of a document that a member's machines know."""

from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster.document import State
from gkv.cluster.duties import duties
from gkv.cluster.placement import Placement
from tests.documents import with_copies


def test_lists_of_keys_are_those_of_the_placement_however_many_and_often_asked_for() -> None:
    document = with_copies()
    placement = Placement.of(document)
    known = duties(document, placement, "a")
    keys = [f"k{number}" for number in range(10_000)]
    wanted = [placement.roles[placement.list_of(key)] for key in keys]
    assert [known.roles_of(key) for key in keys] == wanted
    assert [known.roles_of(key) for key in reversed(keys)] == wanted[::-1]


@pytest.mark.promise("I20")
@pytest.mark.parametrize(
    ("changes", "first"),
    [({}, True), ({"state": State.DOWN, "left": 5}, False), ({"left": 5}, False), ({"rank": 1}, False)],
    ids=["never gone", "down", "back", "acting as its loss was accepted"],
)
def test_line_says_whether_a_process_before_may_have_granted_what_runs_still(changes: dict[str, Any], first: bool) -> None:
    document = with_copies({"b": changes})
    assert duties(document, Placement.of(document), "a").lines["b"].first is first


def test_own_lists_are_those_that_the_member_is_in_or_will_be() -> None:
    document = with_copies({"e": {"weight": 0.0}}, "abcde")
    weights = tuple((one, 1.0) for one in "abcde")
    changing = replace(document, epoch=8, next=replace(document.layout, weights=weights), next_since=8)
    for each in (document, changing):
        placement = Placement.of(each)
        for me in "ae":
            known = duties(each, placement, me)
            assert list(known.own) == [one for one in placement.roles if me in one.preference or me in one.coming]
            assert 0 <= len(known.own) < len(known.roles)
