"""The arcs of a list, against the place of each key's list."""

from bisect import bisect_right
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from gkv.cluster import arcs as arcs_module
from gkv.cluster.arcs import LAST, arcs
from gkv.cluster.lists import Lists
from gkv.cluster.placement import Placement
from gkv.model import Node
from gkv.ring import token
from tests.documents import changing, document

NODES = tuple(Node(f"n{i}", f"http://127.0.0.1:{9000 + i}") for i in range(5))
THREE = document(NODES[:4], replicas=3)
KEYS = [f"key{i}" for i in range(2_000)]


def changes() -> dict[str, Any]:
    """Return documents: with one ring, and with two."""
    joined = document(NODES, replicas=3)
    other = replace(changing(THREE), next=joined.layout, members=joined.members)
    return {
        "one copy": document(NODES),
        "three copies": THREE,
        "one node": document(NODES[:1]),
        "a node joins": other,
        "more copies": replace(changing(document(NODES[:4])), next=THREE.layout),
        "nothing but the number of vnodes": replace(changing(THREE), next=replace(THREE.layout, vnodes=7)),
    }


@pytest.mark.parametrize("name", changes())
@pytest.mark.parametrize("at_once", [3, 2_048])
def test_arcs_of_all_lists_have_each_token_once_and_its_keys_that_list(name: str, at_once: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(arcs_module, "_TOKENS_AT_ONCE", at_once)
    one = changes()[name]
    placement = Placement.of(one)
    found = {}
    for place, roles in enumerate(placement.roles):
        mine = [arc for arc in arcs(placement, roles.preference, roles.coming, 0) if arc.mine]
        assert mine, roles
        assert all(before.last < after.first for before, after in pairwise(mine))
        found |= {arc.first: (arc.last, place) for arc in mine}
    ends = sorted(found)
    assert ends[0] == 0
    assert found[ends[-1]][0] == LAST
    assert all(found[first][0] + 1 == after for first, after in pairwise(ends))
    for key in KEYS:
        first = ends[bisect_right(ends, token(key)) - 1]
        assert found[first][1] == placement.list_of(key), key


@pytest.mark.parametrize("name", ["three copies", "a node joins"])
def test_arcs_from_a_token_on_are_the_rest_of_all(name: str) -> None:
    placement = Placement.of(changes()[name])
    found = [(roles, list(arcs(placement, roles.preference, roles.coming, 0))) for roles in placement.roles]
    roles, every = max(found, key=lambda one: sum(arc.mine for arc in one[1]))
    every = [arc for arc in every if arc.mine]
    for start in [0, 1, every[3].first - 1, every[3].first, every[3].first + 1, every[3].last, every[3].last + 1, LAST]:
        rest = [(max(arc.first, start), arc.last) for arc in every if arc.last >= start]
        assert [(arc.first, arc.last) for arc in arcs(placement, roles.preference, roles.coming, start) if arc.mine] == rest


def test_equal_tokens_are_the_first_ones() -> None:
    class Same:
        tokens = (5, 9, 9, 20)

    lists = Lists(Same(), 1, (), (("a",), ("b",)), (0, 0, 1, 1))  # type: ignore[arg-type]  # a ring with tokens that no names have
    placement = replace(Placement.of(THREE), lists=lists)
    assert [arc[:3] for arc in arcs(placement, ("a",), (), 0) if arc.mine] == [(0, 5, True), (6, 9, True), (21, LAST, True)]
    assert [arc[:3] for arc in arcs(placement, ("b",), (), 0) if arc.mine] == [(10, 20, True)]


@pytest.mark.parametrize(("preference", "coming"), [(("n0", "n1", "n9"), ()), (("n0", "n1", "n2"), ("n0",))])
def test_list_that_there_is_not_has_no_arcs(preference: tuple[str, ...], coming: tuple[str, ...]) -> None:
    assert list(arcs(Placement.of(THREE), preference, coming, 0)) == []
