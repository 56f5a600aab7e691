"""The part of all keys that has its copies, held against keys that are looked up one by one."""

from typing import Any

import pytest

from gkv.cluster.coverage import Coverages
from gkv.cluster.document import State
from gkv.cluster.placement import Placement, acting
from tests.documents import with_copies

KEYS = [f"key{i}" for i in range(4_000)]
DOWN: dict[str, Any] = {"state": State.DOWN, "left": 6}
FILLING: dict[str, Any] = {"state": State.FILLING, "left": 6}


def test_all_is_well_while_all_are_up() -> None:
    found = Coverages().of(Placement.of(with_copies(ids="abcd")))
    assert (found.wanted, found.least, found.short, found.unanswered, found.troubles) == (3, 3, 0, 0, "")
    assert sum(found.primaries.values()) == pytest.approx(1)


def test_ring_of_fewer_members_than_copies_has_too_few() -> None:
    found = Coverages().of(Placement.of(with_copies(ids="ab")))
    assert (found.least, found.short, found.unanswered, found.troubles) == (2, 1, 0, "2/3 for 100 % of the keys")


@pytest.mark.parametrize(
    "changes",
    [
        {"a": DOWN},
        {"a": DOWN, "b": FILLING},
        {"a": DOWN, "b": DOWN, "c": DOWN},
        {"b": FILLING, "d": DOWN},
        dict.fromkeys("abcde", DOWN),
    ],
)
def test_shares_are_those_of_keys(changes: dict[str, dict[str, Any]]) -> None:
    placement = Placement.of(with_copies(changes, ids="abcde"))
    found = Coverages().of(placement)
    acts = [acting([node.id for node in placement.preference(key)], placement.standings) for key in KEYS]
    assert found.least == min(map(len, acts))
    assert found.short == pytest.approx(sum(len(one) < 3 for one in acts) / len(KEYS), abs=0.03)
    assert found.unanswered == pytest.approx(sum(not one for one in acts) / len(KEYS), abs=0.03)
    for node_id, share in found.primaries.items():
        assert share == pytest.approx(sum(one[:1] == (node_id,) for one in acts) / len(KEYS), abs=0.03)


def test_each_placement_has_its_own() -> None:
    coverages = Coverages()
    first, second = with_copies(), with_copies({"a": DOWN})
    before = Placement.of(first)
    assert coverages.of(before).short == 0
    assert coverages.of(Placement.of(second, before)).short == 1
    assert coverages.of(before).short == 0
    assert coverages.of(Placement.of(with_copies(ids="abcdef"))).primaries.keys() == set("abcdef")


@pytest.mark.parametrize(
    ("changes", "absent", "short", "unanswered", "awaited"),
    [
        ({}, "a", 1, 1 / 3, ("a",)),
        ({}, "abc", 1, 1, ("a", "b", "c")),
        ({"a": DOWN, "b": DOWN}, "", 1, 0, ()),
        ({"a": DOWN, "b": DOWN}, "c", 1, 1, ("c",)),
        ({"a": FILLING, "b": FILLING, "c": DOWN | {"left": 7}}, "", 1, 1, ("c",)),
        ({"a": FILLING, "b": FILLING, "c": FILLING | {"left": 7, "empty": True}}, "", 1, 1, ("c",)),
        ({"a": DOWN, "b": DOWN, "c": DOWN}, "", 1, 1, ("a", "b", "c")),
        ({"a": FILLING | {"left": 7, "rank": 1}, "b": DOWN, "c": DOWN}, "a", 1, 1, ("a",)),
    ],
)
def test_members_that_do_not_answer_count_as_not_there_and_it_is_told_whom_keys_wait_for(
    changes: dict[str, dict[str, Any]], absent: str, short: float, unanswered: float, awaited: tuple[str, ...]
) -> None:
    coverages, placement = Coverages(), Placement.of(with_copies(changes))
    for missing in ("", absent):  # another set of the same placement
        found = coverages.of(placement, frozenset(missing))
    assert (found.short, found.awaited) == (short, awaited)
    assert found.unanswered == pytest.approx(unanswered, abs=0.12)
    assert bool(found.waiting) == bool(awaited)
    assert sum(found.primaries.values()) == pytest.approx(1 - found.unanswered)


def test_line_names_whom_keys_wait_for() -> None:
    changes = {"a": FILLING, "b": DOWN | {"left": 7}}
    found = Coverages().of(Placement.of(with_copies(changes, replicas=2)))
    assert found.troubles == f"{round(100 * found.unanswered)} % of the keys wait for b"
    assert 0 < found.unanswered < 1
    every = Coverages().of(Placement.of(with_copies(dict.fromkeys("abcde", DOWN), "abcde", replicas=5)))
    assert every.troubles == "100 % of the keys wait for a, b, c or 2 more"
