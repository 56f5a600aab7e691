"""Where keys live is a pure function of the document."""

from dataclasses import replace

import pytest

from gkv.cluster.document import Document
from gkv.cluster.placement import Placement
from gkv.model import Node
from gkv.ring import NO_PLACE, NOBODY

NODES = tuple(Node(f"n{i}", f"http://127.0.0.1:{9000 + i}") for i in range(3))
DOCUMENT = Document("0123456789abcdef" * 2, 7, NODES, 16)
KEYS = [f"key{i}" for i in range(100)]


def test_with_one_copy_the_owner_is_primary_and_gets_the_writes() -> None:
    placement = Placement.of(DOCUMENT)
    for key in KEYS:
        owner = placement.ring.owner(key)
        assert placement.primary(key) == owner
        assert placement.preference(key) == placement.writers(key) == [owner]
    assert placement.split(KEYS) == placement.ring.split(KEYS)


def test_preference_has_as_many_nodes_as_there_are_copies() -> None:
    placement = replace(Placement.of(DOCUMENT), copies=2)
    for key in KEYS:
        first, second = placement.preference(key)
        assert first == placement.primary(key) != second


def test_key_without_a_primary_has_none_and_gets_no_writes() -> None:
    placement = Placement.of(DOCUMENT)
    ring = placement.ring
    placement = replace(placement, primaries=ring.places([NO_PLACE if place == 1 else place for place in ring.owners]))
    lost = [key for key in KEYS if ring.owner(key) == NODES[1]]
    assert [key for key in KEYS if placement.primary(key) is None] == lost
    assert [key for key in KEYS if not placement.writers(key)] == lost
    assert placement.preference(lost[0]) == [NODES[1]]
    [*_, (node, _, keys)] = placement.split(KEYS)
    assert node is NOBODY
    assert keys == lost


def test_ring_is_built_anew_only_when_members_or_vnodes_are_others() -> None:
    first = Placement.of(DOCUMENT)
    assert Placement.of(replace(DOCUMENT, epoch=8), first).ring is first.ring
    for other in (replace(DOCUMENT, members=NODES[:2]), replace(DOCUMENT, vnodes=17)):
        again = Placement.of(other, first)
        assert again.ring is not first.ring
        assert again.primary("hi") == Placement.of(other).primary("hi")


def test_placement_cannot_be_changed() -> None:
    placement = Placement.of(DOCUMENT)
    with pytest.raises(AttributeError):
        placement.copies = 2  # type: ignore[misc]
