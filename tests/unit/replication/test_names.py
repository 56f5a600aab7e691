"""Steps of a listing over a model of what is stored and what is on its way."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkv.replication import names
from gkv.replication.names import Look, Scope, first_of, look

NOW = 1_000
LETTERS = "a/b\ud7ff\ue000\U0010ffff"
keys = st.text(LETTERS, min_size=1, max_size=5)
scopes = st.builds(Scope, st.text(LETTERS, max_size=2), st.text(LETTERS, max_size=2))


class Disk:
    """Keys that are stored, and how many were read."""

    def __init__(self, expiries: dict[str, int]) -> None:
        self.expiries = expiries
        self.read = 0

    def keys(self, prefix: str, begin: str, limit: int) -> Sequence[tuple[str, int]]:
        found = sorted(key for key in self.expiries if key.startswith(prefix) and key >= begin)[:limit]
        self.read += len(found)
        return [(key, self.expiries[key]) for key in found]


def walk(scope: Scope, disk: Disk, unsettled: dict[str, bool], own: set[str], limit: int) -> list[str]:
    """List all names, as a node does; `unsettled` says whether the newest record of a key has a value."""
    found: set[str] = set()
    place: str | None = ""
    steps = 0
    while place is not None:
        first = first_of(unsettled, scope.prefix, place)
        one: Look = look(scope, place, limit, disk.keys, first, lambda some: [key for key in some if key in own], NOW)
        assert one.count <= limit
        assert one.end is None or one.end > place
        assert all(one.end is None or name < one.end for name in [*one.names, *one.doubtful.values()])
        found.update(one.names)
        found.update([name for key, name in one.doubtful.items() if unsettled.get(key)])
        assert all(key in unsettled or 0 < disk.expiries[key] <= NOW for key in one.doubtful)
        place = one.end
        steps += 1
        assert steps <= 1_000
    return sorted(found)


@given(
    scopes,
    st.dictionaries(keys, st.sampled_from([0, NOW, NOW + 1]), max_size=30),
    st.dictionaries(keys, st.booleans(), max_size=12),
    st.sets(keys, max_size=6),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_steps_together_have_the_name_of_every_own_key_that_has_a_value(
    scope: Scope, stored: dict[str, int], unsettled: dict[str, bool], others: set[str], limit: int, at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(names, "AT_ONCE", at_once)
        own = {*stored, *unsettled} - others
        found = walk(scope, Disk(stored), unsettled, own, limit)
    live = {key for key in own if unsettled.get(key, key in stored and not 0 < stored.get(key, 0) <= NOW)}
    assert found == sorted({scope.name_of(key) for key in live if key.startswith(scope.prefix)})


@given(scopes, keys, keys)
def test_place_behind_a_name_is_behind_its_keys_and_before_all_others(scope: Scope, one: str, other: str) -> None:
    one, other = scope.prefix + one, scope.prefix + other
    place = scope.behind(scope.name_of(one))
    assert (other >= place) == (scope.name_of(other) > scope.name_of(one))


def test_keys_below_a_name_are_not_read() -> None:
    disk = Disk({f"{letter}/{number:05}": 0 for letter in "abc" for number in range(5_000)})
    assert walk(Scope("", "/"), disk, {}, set(disk.expiries), 100) == ["a/", "b/", "c/"]
    assert disk.read < 50


def test_name_of_which_no_key_is_ones_own_is_looked_through_in_steps() -> None:
    disk = Disk({f"a/{number:05}": 0 for number in range(5_000)} | {"b": 0})
    assert walk(Scope("", "/"), disk, {}, {"b"}, 100) == ["b"]
    first = look(Scope("", "/"), "", 100, disk.keys, (), lambda _: [], NOW)
    assert first.names == []
    assert first.end is not None
    assert first.end.startswith("a/00")


def test_key_on_its_way_is_not_asked_for_where_another_one_has_its_name() -> None:
    found = look(Scope("", "/"), "", 9, Disk({"a/2": 0, "b/1": 0}).keys, ["a/1", "b/2"], lambda some: some, NOW)
    assert (found.names, found.doubtful) == (["a/", "b/"], {})
