"""Preference lists: against a slow, plain definition; zones; what a node that joins changes."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.cluster.lists import Lists, choose
from gkv.model import Node
from gkv.ring import build

KEYS = [f"key{i}" for i in range(60)]
ZONES = ["", "", "x", "y", "z"]

_weights = st.sampled_from([0.1, 0.5, 1.0, 3.0])
_clusters = st.lists(st.tuples(_weights, st.sampled_from(ZONES)), min_size=1, max_size=8)
"""Of each node its weight and zone."""


def nodes_of(cluster: list[tuple[float, str]]) -> tuple[tuple[Node, ...], dict[str, str]]:
    nodes = tuple(Node(f"n{i}", f"http://h:{9000 + i}", weight) for i, (weight, _) in enumerate(cluster))
    return nodes, {node.id: zone for node, (_, zone) in zip(nodes, cluster, strict=True) if zone}


def by_definition(nodes: tuple[Node, ...], vnodes: int, copies: int, zones: Mapping[str, str], key: str) -> tuple[str, ...]:
    """Go clockwise from a key: take who is there first in its zone; fill up with the others."""
    clockwise = [node.id for node in build(nodes, vnodes).preference(key, len(nodes))]
    chosen: list[str] = []
    for one in clockwise:
        if len(chosen) < copies and not (one in zones and zones[one] in [zones.get(other) for other in chosen]):
            chosen.append(one)
    for one in clockwise:
        if len(chosen) < copies and one not in chosen:
            chosen.append(one)
    return tuple(chosen)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(_clusters, st.integers(1, 5), st.sampled_from([1, 5, 16]))
def test_lists_are_those_of_the_plain_definition(cluster, copies, vnodes):
    nodes, zones = nodes_of(cluster)
    lists = Lists.of(nodes, vnodes, copies, zones)
    assert len(set(lists.lists)) == len(lists.lists)
    assert set(lists.by_token) == set(range(len(lists.lists)))
    for key in KEYS:
        assert lists.lists[lists.place(key)] == by_definition(nodes, vnodes, copies, zones, key)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(_clusters, _weights, st.sampled_from(ZONES), st.integers(1, 5))
def test_node_that_joins_changes_only_lists_that_it_is_in(cluster, weight, zone, copies):
    nodes, zones = nodes_of(cluster)
    before = Lists.of(nodes, 16, copies, zones)
    after = Lists.of((*nodes, Node("new", "http://h:1", weight)), 16, copies, zones | ({"new": zone} if zone else {}))
    for key in KEYS:
        now = after.lists[after.place(key)]
        before_it = before.lists[before.place(key)]
        assert "new" in now or now == before_it
        assert [one for one in now if one != "new"] == [one for one in before_it if one in now]


@pytest.mark.parametrize(
    "zones", [[""], ["x", "y", "z"], ["x", "y", "z", "w", ""], ["x", "y"]], ids=["none", "three", "some", "two"]
)
@pytest.mark.parametrize("copies", [2, 3])
def test_lists_of_many_nodes_are_those_of_the_plain_definition(zones, copies):
    weights = [1.0, 0.5, 2.0]
    nodes, zoned = nodes_of([(weights[i % 3], zones[i % len(zones)]) for i in range(60)])
    nodes = tuple(sorted(nodes, key=lambda node: node.id))
    lists = Lists.of(nodes, 8, copies, zoned)
    assert len(set(lists.lists)) == len(lists.lists)
    assert set(lists.by_token) == set(range(len(lists.lists)))
    for key in [f"key{i}" for i in range(1_000)]:
        assert lists.lists[lists.place(key)] == by_definition(nodes, 8, copies, zoned, key)


def test_each_zone_is_in_a_list_once_while_there_are_enough_and_all_are_in_it_when_there_are_too_few():
    nodes, zones = nodes_of([(1.0, zone) for zone in "aabbcc"])
    for copies, distinct in ((2, 2), (3, 3), (5, 3)):
        for one in Lists.of(nodes, 64, copies, zones).lists:
            assert len(one) == len(set(one)) == copies
            assert len({zones[node_id] for node_id in one[:distinct]}) == distinct


def test_nodes_without_a_zone_share_none():
    assert choose((0, 1, 2), ("", "", ""), 2) == (0, 1)
    assert choose((0, 1, 2), ("a", "", "a"), 3) == (0, 1, 2)
    assert choose((0, 1, 2), ("a", "a", ""), 3) == (0, 2, 1)


def test_ring_and_lists_are_made_once():
    nodes, zones = nodes_of([(1.0, "x"), (1.0, "y"), (1.0, "")])
    first = Lists.of(nodes, 16, 2, zones)
    assert Lists.of(nodes, 16, 2, zones, (None, first)) is first
    for copies, others in ((3, zones), (2, {})):
        again = Lists.of(nodes, 16, copies, others, (first,))
        assert again is not first
        assert again.ring is first.ring


@pytest.mark.parametrize("copies", [1, 3])
def test_list_has_all_nodes_when_there_are_fewer_than_copies(copies):
    [one] = Lists.of((Node("a"),), 16, copies, {}).lists
    assert one == ("a",)
