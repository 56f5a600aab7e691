"""Where keys live is a pure function of the document."""

from bisect import bisect_left
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.cluster.document import Document, Layout, Member, State
from gkv.cluster.duties import duties
from gkv.cluster.placement import Placement
from gkv.duties import Line, Roles
from gkv.model import Node
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


# -- roles

UP, FILLING, DOWN = State.UP, State.FILLING, State.DOWN
ACTING: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = {
    "all are up": ({}, ("a", "b", "c"), ()),
    "the first is down": ({"a": {"state": DOWN, "left": 5}}, ("b", "c"), ()),
    "the first fills": ({"a": {"state": FILLING, "left": 5}}, ("b", "c"), ("a",)),
    "an empty one fills": ({"b": {"state": FILLING, "left": 5, "empty": True}}, ("a", "c"), ("b",)),
    "the last one is back": (
        {"a": {"state": DOWN, "left": 5}, "b": {"state": FILLING, "left": 7}, "c": {"state": FILLING, "left": 6}},
        ("b",),
        ("c",),
    ),
    "the last one is away": (
        {"a": {"state": FILLING, "left": 5}, "b": {"state": DOWN, "left": 7}, "c": {"state": FILLING, "left": 6}},
        (),
        ("a", "c"),
    ),
    "the last one is empty": (
        {
            "a": {"state": FILLING, "left": 5},
            "b": {"state": FILLING, "left": 7, "empty": True},
            "c": {"state": DOWN, "left": 6},
        },
        (),
        ("a", "b"),
    ),
    "of those that left together the first that was back": (
        {
            "a": {"state": FILLING, "left": 7, "rank": 1},
            "b": {"state": DOWN, "left": 7},
            "c": {"state": FILLING, "left": 7, "rank": 2},
        },
        ("c",),
        ("a",),
    ),
    "who was ranked first is away again": (
        {
            "a": {"state": FILLING, "left": 7, "rank": 1},
            "b": {"state": DOWN, "left": 7, "rank": 2},
            "c": {"state": DOWN, "left": 7},
        },
        (),
        ("a",),
    ),
    "one is up, and the last one that left fills": (
        {"a": {"state": FILLING, "left": 9}, "b": {"state": DOWN, "left": 8}},
        ("c",),
        ("a",),
    ),
}


def document_of(changes: dict[str, dict[str, Any]], ids: str = "abc", **parts: Any) -> Document:
    members = tuple(Member(one, f"http://{one}:1", incarnation=ord(one), **changes.get(one, {})) for one in ids)
    return Document(DOCUMENT.cluster, 9, members, 16, **{"replicas": 3, **parts})


@pytest.mark.parametrize(("changes", "acting", "learners"), ACTING.values(), ids=ACTING.keys())
def test_acting_members_and_learners_of_a_list(
    changes: dict[str, Any], acting: tuple[str, ...], learners: tuple[str, ...]
) -> None:
    placement = Placement.of(document_of(changes))
    seen = set()
    for key in KEYS:
        roles = placement.roles[placement.list_of(key)]
        assert roles.acting == tuple(sorted(acting, key=roles.preference.index))
        assert roles.learners == tuple(sorted(learners, key=roles.preference.index))
        assert roles.primary == (roles.acting[0] if acting else None)
        node = placement.primary(key)
        assert (None if node is None else node.id) == roles.primary
        assert set(roles.granters) == {*acting, *learners} - {roles.primary}
        seen.add(roles.preference)
    assert len(seen) == 6


def layout(ids: str, **parts: Any) -> Layout:
    return Layout(tuple((one, 1.0) for one in ids), 16, **parts)


def test_in_a_change_of_the_ring_those_of_the_next_list_learn() -> None:
    down = document_of({"d": {"weight": 0.0}, "c": {"state": DOWN}, "e": {"weight": 0.0, "state": DOWN}}, "abcde")
    changing = replace(down, next=layout("abcde", replicas=3), next_since=9)
    placement = Placement.of(changing)
    then = Placement.of(document_of({}, "abcde"))
    for key in KEYS:
        roles = placement.roles[placement.list_of(key)]
        assert roles.preference == tuple(node.id for node in placement.preference(key))
        assert roles.coming == tuple(node.id for node in then.preference(key))
        assert roles.learners == tuple(one for one in roles.coming if one == "d")


def test_with_one_copy_who_is_to_have_keys_learns_them() -> None:
    coming = layout("abc", replicas=1)
    changing = replace(document_of({"c": {"weight": 0.0}}, replicas=1, min_in_sync=1), next=coming, next_since=9)
    placement = Placement.of(changing)
    found = {placement.roles[placement.list_of(key)] for key in KEYS}
    assert found == {
        *(Roles((one,), (one,), one, (one,)) for one in "ab"),
        *(Roles((one,), ("c",), one, (one,), ("c",)) for one in "ab"),
    }


@pytest.mark.parametrize("copies", [1, 2])
def test_keys_that_a_member_answers_for_and_keys_that_it_is_not_to_have(copies: int) -> None:
    coming = layout("abcd", replicas=copies)
    before = document_of({"b": {"state": DOWN}, "d": {"weight": 0.0}}, ids="abcd", replicas=copies, min_in_sync=1)
    for each in (before, replace(before, next=coming, next_since=9)):
        placement = Placement.of(each)
        roles = [placement.roles[placement.list_of(key)] for key in KEYS]
        strange = 0
        for me in "abcdx":
            assert placement.led_by(me, KEYS) == [key for key, one in zip(KEYS, roles, strict=True) if one.primary == me]
            others = [key for key, one in zip(KEYS, roles, strict=True) if me not in (*one.preference, *one.coming)]
            assert placement.strange_to(me, KEYS) == others
            strange += len(others)
        assert strange > len(KEYS)


def test_only_member_of_a_ring_answers_for_all_keys_if_it_acts() -> None:
    alone = document_of({}, "a", replicas=1, min_in_sync=1)
    assert Placement.of(alone).led_by("a", KEYS) == KEYS
    assert Placement.of(alone).led_by("b", KEYS) == []
    down = document_of({"a": {"state": DOWN}}, "a", replicas=1, min_in_sync=1)
    assert Placement.of(down).led_by("a", KEYS) == []


STATES = st.fixed_dictionaries(
    {
        "state": st.sampled_from(State),
        "left": st.integers(0, 3),
        "rank": st.integers(0, 2),
        "empty": st.booleans(),
    }
)
STEPS = st.fixed_dictionaries(
    {
        "lines": st.fixed_dictionaries(dict.fromkeys("abcd", STATES)),
        "ring": st.sampled_from(["abc", "abcd", "bcd"]),
        "next": st.sampled_from(["", "abcd", "acd"]),
        "zoned": st.booleans(),
    }
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(STEPS, min_size=2, max_size=5), st.integers(1, 3))
@pytest.mark.promise("I6")
def test_placement_made_from_an_earlier_one_is_the_same_as_one_made_anew(steps: list[dict[str, Any]], copies: int) -> None:
    before = None
    for step in steps:
        lines = {one: dict(line, weight=float(one in step["ring"])) for one, line in step["lines"].items()}
        if step["zoned"]:
            lines["a"]["zone"] = lines["b"]["zone"] = "x"
        document = document_of(lines, "abcd", replicas=copies)
        if step["next"]:
            document = replace(document, next=layout(step["next"], replicas=copies), next_since=9)
        placement = Placement.of(document, before)
        anew = Placement.of(document)
        for key in KEYS[:40]:
            assert placement.roles[placement.list_of(key)] == anew.roles[anew.list_of(key)]
            assert placement.primary(key) == anew.primary(key)
            assert placement.preference(key) == anew.preference(key)
        before = placement


def test_epoch_makes_anew_only_the_roles_of_lists_that_have_the_changed_member() -> None:
    first = Placement.of(document_of({}, "abcd", replicas=2))
    second = Placement.of(document_of({"a": {"state": DOWN, "left": 9}}, "abcd", replicas=2), first)
    assert second.lists is first.lists
    for before, after in zip(first.roles, second.roles, strict=True):
        assert (before is after) is ("a" not in before.preference)
    assert Placement.of(document_of({"a": {"state": DOWN, "left": 9}}, "abcd", replicas=2), second).roles is second.roles


@pytest.mark.parametrize("other", ["fewer", "heavier", "new", "all others"])
def test_pairs_are_those_of_a_list_and_the_next_one_that_keys_have(other: str) -> None:
    ids = [f"n{i:02}" for i in range(30)]
    weights = {
        "fewer": dict.fromkeys(ids[1:], 1.0),
        "heavier": dict.fromkeys(ids, 1.0) | {"n07": 3.0},
        "new": dict.fromkeys([*ids, "new"], 1.0),
        "all others": dict.fromkeys(["x", "y", "z"], 1.0),
    }[other]
    members = [Member(one, f"http://{one}:1") for one in ids] + [
        Member(one, f"http://{one}:1", 0.0) for one in sorted(weights.keys() - set(ids))
    ]
    before = Document(DOCUMENT.cluster, 9, tuple(members), 16, replicas=3)
    coming = Layout(tuple(sorted(weights.items())), 16, 3)
    placement = Placement.of(replace(before, next=coming, next_since=9))
    assert placement.coming is not None
    edges = sorted({*placement.ring.tokens, *placement.coming.ring.tokens, (1 << 64) - 1})
    places = [
        tuple(lists.by_token[bisect_left(lists.ring.tokens, edge) % len(lists.by_token)] for edge in edges)
        for lists in (placement.lists, placement.coming)
    ]
    assert set(placement.pairs) == set(zip(*places, strict=True))
    assert sorted(placement.pairs.values()) == list(range(len(placement.roles)))
    for (place, then), at in placement.pairs.items():
        roles = placement.roles[at]
        assert (roles.preference, roles.coming) == (placement.lists.lists[place], placement.coming.lists[then])


def test_lists_of_a_ring_that_was_to_come_are_those_of_the_ring_that_it_is() -> None:
    before = document_of({"d": {"weight": 0.0}}, "abcd")
    changing = Placement.of(replace(before, next=layout("abcd", replicas=3), next_since=9))
    assert changing.coming is not None
    assert Placement.of(document_of({}, "abcd"), changing).lists is changing.coming


def test_member_knows_of_a_document_what_its_machines_need() -> None:
    document = document_of({"c": {"state": DOWN, "since": 4, "empty": True}}, ended=(7,))
    placement = Placement.of(document)
    known = duties(document, placement, "a")
    assert (known.me, known.order, known.lease, known.min_in_sync, known.ended) == ("a", (1, 9), 1.0, 2, {7})
    assert known.lines["c"] == Line(ord("c"), down=True, since=4, empty=True, first=True)
    assert [known.roles_of(key) for key in KEYS] == [placement.roles[placement.list_of(key)] for key in KEYS]
