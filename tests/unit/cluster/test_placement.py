"""Where keys live is a pure function of the document."""

from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster.document import State
from gkv.cluster.placement import Placement
from gkv.model import Node, Roles
from gkv.ring import NOBODY
from tests.documents import document, lines

NODES = tuple(Node(f"n{i}", f"http://127.0.0.1:{9000 + i}") for i in range(3))
DOCUMENT = document(NODES)
KEYS = [f"key{i}" for i in range(100)]


def test_with_one_copy_the_owner_is_primary() -> None:
    placement = Placement.of(DOCUMENT)
    for key in KEYS:
        owner = placement.ring.owner(key)
        assert placement.primary(key) == owner
        assert placement.preference(key) == [owner]
        assert placement.roles[placement.list_of(key)] == Roles((owner.id,), (), owner.id, (owner.id,))
    assert placement.split(KEYS) == placement.ring.split(KEYS)


def test_preference_has_as_many_nodes_as_there_are_copies() -> None:
    placement = Placement.of(replace(DOCUMENT, replicas=2))
    for key in KEYS:
        first, second = placement.preference(key)
        assert first == placement.primary(key) != second


@pytest.mark.parametrize("changes", [{"state": State.DOWN}, {"state": State.FILLING, "empty": True}], ids=["down", "empty"])
def test_key_of_a_member_that_does_not_act_has_no_primary_and_nobody_acts(changes: dict[str, Any]) -> None:
    members = tuple(replace(line, **changes) if line.id == "n1" else line for line in DOCUMENT.members)
    placement = Placement.of(replace(DOCUMENT, members=members), Placement.of(DOCUMENT))
    ring = placement.ring
    lost = [key for key in KEYS if ring.owner(key) == NODES[1]]
    assert [key for key in KEYS if placement.primary(key) is None] == lost
    assert [key for key in KEYS if not placement.roles[placement.list_of(key)].acting] == lost
    assert placement.preference(lost[0]) == [NODES[1]]
    [*_, (node, _, keys)] = placement.split(KEYS)
    assert node is NOBODY
    assert keys == lost


def test_member_that_is_back_with_its_directory_answers_before_it_is_up() -> None:
    filling = tuple(replace(line, state=State.FILLING) for line in DOCUMENT.members)
    placement = Placement.of(replace(DOCUMENT, members=filling))
    assert [placement.primary(key) for key in KEYS] == [placement.ring.owner(key) for key in KEYS]


def test_member_that_the_ring_does_not_have_yet_owns_nothing() -> None:
    joining = replace(DOCUMENT, members=(*DOCUMENT.members[:2], replace(DOCUMENT.members[2], weight=0.0)))
    assert {Placement.of(joining).primary(key) for key in KEYS} == set(NODES[:2])


def test_ring_is_built_anew_only_when_members_or_vnodes_are_others() -> None:
    first = Placement.of(DOCUMENT)
    assert Placement.of(replace(DOCUMENT, epoch=8), first).ring is first.ring
    for other in (replace(DOCUMENT, members=lines(NODES[:2])), replace(DOCUMENT, vnodes=17)):
        again = Placement.of(other, first)
        assert again.ring is not first.ring
        assert again.primary("hi") == Placement.of(other).primary("hi")


def test_placement_cannot_be_changed() -> None:
    placement = Placement.of(DOCUMENT)
    with pytest.raises(AttributeError):
        placement.copies = 2  # type: ignore[misc]
