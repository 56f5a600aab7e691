"""The share of the keys that a node's weight gives it."""

import math
from dataclasses import replace

import pytest

from gkv.cluster.coverage import arcs_of
from gkv.cluster.document import Document, Member
from gkv.cluster.lists import Lists
from gkv.ring import DEFAULT_VNODES, build
from tests.documents import CLUSTER

WEIGHTS = (0.5, 1.0, 2.0, 4.0, 3.0, 1.5)


def cluster(count: int, shift: int, zones: str = "") -> Document:
    lines = []
    for place in range(count):
        weight, zone = WEIGHTS[(place + shift) % len(WEIGHTS)], zones[place % len(zones)] if zones else ""
        lines.append(Member(f"127.0.0.1:{9000 + place}", f"http://127.0.0.1:{9000 + place}", weight, zone))
    return Document(CLUSTER, 7, tuple(sorted(lines, key=lambda one: one.id)), replicas=3)


def near(weight: float) -> float:
    """Return by how much of its share a node's may differ: 5 %, and for few tokens what three standard deviations are."""
    return max(0.05, 3 / math.sqrt(DEFAULT_VNODES * weight))


@pytest.mark.parametrize("count", range(3, 17))
def test_share_of_keys_is_within_5_percent_of_the_weights(count: int) -> None:
    """A node of weight 0.5 has 2,048 tokens, by which its share scatters with 2.2 %: one in 40 is beyond."""
    for shift in range(0, len(WEIGHTS), 2):
        nodes = cluster(count, shift).nodes
        shares, total = build(nodes).shares(), sum(node.weight for node in nodes)
        for node in nodes:
            assert shares[node.id] == pytest.approx(node.weight / total, rel=near(node.weight)), (shift, node)


def copies_of(document: Document) -> dict[str, float]:
    """Return by id the share of all copies."""
    lists = Lists.of(document.nodes, document.vnodes, document.replicas, document.zones)
    copies = dict.fromkeys([node.id for node in document.nodes], 0.0)
    for preference, arc in zip(lists.lists, arcs_of(lists), strict=True):
        for one in preference:
            copies[one] += arc / len(preference) / (1 << 64)
    return copies


@pytest.mark.parametrize("count", [6, 9, 16])
def test_each_of_as_many_zones_as_copies_has_the_same_and_its_nodes_share_that_by_their_weights(count: int) -> None:
    """Which is all that can be: of every key there is a copy in each zone, whatever a zone weighs."""
    document = cluster(count, 0, "xyz")
    copies = copies_of(document)
    for zone in "xyz":
        nodes = [line for line in document.members if line.zone == zone]
        weight = sum(line.weight for line in nodes)
        assert sum(copies[line.id] for line in nodes) == pytest.approx(1 / 3)
        for line in nodes:
            assert copies[line.id] == pytest.approx(line.weight / weight / 3, rel=near(line.weight))


def test_share_of_copies_follows_the_weights_the_less_the_fewer_nodes_there_are() -> None:
    """No node has a key twice, so the next node has what a heavy one's neighbours would give it; with as many nodes as copies
    all have the same. The figures are those of docs/operations.md.
    """
    for count, least, most in ((3, -0.42, 1.34), (6, -0.20, 0.34), (16, -0.08, 0.11)):
        document = cluster(count, 0)
        copies, total = copies_of(document), sum(line.weight for line in document.members)
        off = [copies[line.id] * total / line.weight - 1 for line in document.members]
        assert least < min(off) < least / 2
        assert most / 2 < max(off) < most
    even = copies_of(Document(CLUSTER, 7, tuple(replace(line, weight=1.0) for line in document.members), replicas=3))
    assert all(share == pytest.approx(1 / 16, rel=0.05) for share in even.values())
