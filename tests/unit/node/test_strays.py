"""The search for others' records, while the machines of copies decide and while they rest."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest

from gkv.cluster.document import State
from gkv.engine import Engine, LmdbEngine
from gkv.errors import SnapshotRunning
from gkv.model import Replacement, Version, Write
from gkv.ring import tokens
from gkv.wire.ops import Get, Values
from tests.unit.node.test_rest import joined, joining
from tests.unit.node.town import Home, Town, on_disk, until

LARGE = 1 << 19


@pytest.fixture
def one_copy(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path, on_disk, replicas=1, min_in_sync=1, ids="ab")
    town.show("a", "b")
    yield town
    town.close()


def write(engine: Engine, *keys: str, value: bytes = b"1") -> None:
    engine.write([Write(Version(1, 1), list(keys), [value] * len(keys))], 0)


def search(home: Home) -> None:
    """Search as long as there is more."""
    while home.strays.step():
        gevent.sleep(0)
    home.commits.flush(float("inf"))


def here(home: Home, *keys: str) -> str:
    """Return which of the keys there is a record of."""
    return "".join(key[0] for key, one in zip(keys, home.engine.records_of(list(keys)), strict=True) if one is not None)


def key_of(town: Town, preference: str, coming: str = "") -> str:
    """Return a key of a list, and by the ring that is to come of another one; it begins with the list's name."""
    placement = town["a"].view.placement
    assert placement is not None
    found = (f"{preference}{number}" for number in range(10_000))
    roles = ((key, placement.roles[placement.list_of(key)]) for key in found)
    return next(key for key, one in roles if one[:2] == (tuple(preference), tuple(coming)))


def test_records_of_others_go_while_the_machines_rest_and_no_others(one_copy: Town) -> None:
    home, mine, others = one_copy["a"], key_of(one_copy, "a"), key_of(one_copy, "b")
    write(home.engine, mine, others)
    assert not home.copies.active
    search(home)
    assert here(home, mine, others) == "a"
    assert not home.stored.under_way, "the machines would never rest again"
    assert home.ask(Get(*one_copy.about, [mine])) == Values([b"1"])


def test_records_that_a_member_is_to_have_stay_and_those_that_it_has_given_away_go_at_the_end(one_copy: Town) -> None:
    before = one_copy.document
    one_copy.document = joining(before)
    one_copy.show("a", "b", "c")
    stays, moves = key_of(one_copy, "a", "a"), key_of(one_copy, "a", "c")
    a, c = one_copy["a"], one_copy["c"]
    assert a.copies.active
    for home in (a, c):
        write(home.engine, stays, moves)
        search(home)
    assert (here(a, stays), here(a, moves)) == ("a", "a")
    assert (here(c, stays), here(c, moves)) == ("", "a")
    until(lambda: c.tidings.reported(one_copy.document.era)[1])
    one_copy.document = joined(one_copy.document)
    one_copy.show("a", "b", "c")
    for home in (a, c):
        search(home)
    assert (here(a, stays), here(a, moves)) == ("a", "")
    assert (here(c, stays), here(c, moves)) == ("", "a")


def test_nothing_goes_from_who_is_down_or_none_or_waits_for_its_last_commits(one_copy: Town) -> None:
    home, others = one_copy["a"], key_of(one_copy, "b")
    write(home.engine, others)
    home.view.hold_writes()
    search(home)
    assert here(home, others) == "b"
    home.view.let_write()
    line = one_copy.document.members[0]
    for changes in ({"state": State.DOWN}, {"incarnation": 9}):
        one_copy.document = replace(
            one_copy.document,
            epoch=one_copy.document.epoch + 1,
            members=(replace(line, **changes), *one_copy.document.members[1:]),  # type: ignore[arg-type]
        )
        one_copy.show("a")
        search(home)
        assert here(home, others) == "b"
    home.errors.clear()


def test_machines_know_that_a_record_goes_and_none_goes_from_who_is_down(tmp_path: Path) -> None:
    town = Town(tmp_path, on_disk, replicas=2, min_in_sync=1).opened()
    home = town["a"]
    assert home.view.placement is not None
    others = home.view.placement.strange_to("a", [str(number) for number in range(99)])[0]
    write(home.engine, others)
    town.change(a={"state": State.DOWN})
    town.show("a")
    assert home.copies.active
    search(home)
    assert here(home, others)
    town.change(a={"state": State.FILLING})
    town.show("a", "b", "c")
    while not home.stored.under_way:
        assert home.strays.step()
        gevent.sleep(0)
    assert home.stored.newest([others]) == [None]
    home.commits.flush(float("inf"))
    assert not here(home, others)
    town.close()


def test_all_is_looked_at_again_when_the_lists_are_others(one_copy: Town) -> None:
    home, others = one_copy["a"], key_of(one_copy, "b")
    search(home)
    write(home.engine, others)
    search(home)
    assert here(home, others) == "b", "it has been there"
    one_copy.change(b={"weight": 2.0})
    one_copy.show("a", "b")
    search(home)
    assert here(home, others) == ""


def test_few_large_records_are_read_at_a_time(tmp_path: Path) -> None:
    read: list[int] = []

    class Counted(LmdbEngine):
        def arc(self, *asked: Any) -> Any:
            found = super().arc(*asked)
            read.append(len(found))
            return found

    town = Town(tmp_path, lambda name, path: Counted(path, name, tokens), replicas=1, min_in_sync=1, ids="ab")
    town.show("a", "b")
    home, keys = town["a"], [f"key/{number}" for number in range(12)]
    write(home.engine, *keys, value=b"1" * LARGE)
    while home.strays.step():
        assert not home.stored.is_tidy
        gevent.sleep(0)
    home.commits.flush(float("inf"))
    assert home.stored.is_tidy
    assert sum(read) == len(keys)
    assert max(read) * LARGE <= 2 << 20
    assert home.view.placement is not None
    assert {key for key, _ in home.engine.arc(0, 2**64 - 1, None, 99)} == set(home.view.placement.led_by("a", keys))
    town.close()


@pytest.mark.parametrize("replicas", [1, 2])
def test_records_that_could_not_be_dropped_for_want_of_room_are_looked_for_anew(tmp_path: Path, replicas: int) -> None:
    refuses = [True]

    class Full(LmdbEngine):
        def write(self, writes: Any, *more: Any) -> Any:
            if refuses[0] and any(isinstance(one, Replacement) for one in writes):
                raise SnapshotRunning("no room", retry_after=1)
            return super().write(writes, *more)

    town = Town(
        tmp_path, lambda name, path: Full(path, name, tokens), replicas=replicas, min_in_sync=1, ids="abc"[: replicas + 1]
    )
    town.show(*"abc"[: replicas + 1])
    home = town["a"]
    assert home.view.placement is not None
    others = home.view.placement.strange_to("a", [str(number) for number in range(99)])[0]
    write(home.engine, others)
    search(home)
    assert here(home, others)
    assert not home.stored.is_tidy
    refuses[0] = False
    until(lambda: home.strays.step() or home.stored.is_tidy)
    search(home)
    assert not here(home, others)
    assert home.stored.is_tidy
    town.close()


def test_next_records_are_looked_at_when_those_before_are_dropped(tmp_path: Path) -> None:
    """A slow disk sets the pace, and clients' writes do not stand behind many drops."""
    goes_on, looked_at = threading.Event(), []

    class Slow(LmdbEngine):
        def write(self, writes: Any, *more: Any) -> Any:
            if any(isinstance(one, Replacement) and one.keys for one in writes):
                assert goes_on.wait(9)
            return super().write(writes, *more)

        def arc(self, *asked: Any) -> Any:
            looked_at.append(asked)
            return super().arc(*asked)

    town = Town(tmp_path, lambda name, path: Slow(path, name, tokens), replicas=1, min_in_sync=1, ids="ab")
    town.show("a", "b")
    home, keys = town["a"], [f"key/{number}" for number in range(900)]
    write(home.engine, *keys)
    until(lambda: home.strays.step() and looked_at)
    assert [home.strays.step() for _ in range(5)] == [True] * 5
    assert len(looked_at) == 1
    goes_on.set()
    search(home)
    assert home.view.placement is not None
    assert len(home.engine.arc(0, 2**64 - 1, None, 999)) == len(home.view.placement.led_by("a", keys)) < len(keys)
    town.close()


def test_what_came_in_a_change_that_was_taken_back_between_two_looks_goes(one_copy: Town) -> None:
    home, before = one_copy["a"], one_copy.document
    search(home)
    one_copy.document = joining(before)
    one_copy.show("a", "b", "c")
    others = key_of(one_copy, "b", "c")
    one_copy.document = replace(one_copy.document, epoch=one_copy.document.epoch + 1, next=None, next_since=0)
    write(home.engine, others)
    one_copy.show("a", "b")
    assert not home.stored.is_tidy
    search(home)
    assert here(home, others) == ""
    assert home.stored.is_tidy


def test_what_was_on_its_way_by_other_lists_is_waited_for_before_the_search(tmp_path: Path) -> None:
    goes_on = threading.Event()

    class Slow(LmdbEngine):
        def write(self, *more: Any) -> Any:
            assert goes_on.wait(9)
            return super().write(*more)

    town = Town(tmp_path, lambda name, path: Slow(path, name, tokens), replicas=1, min_in_sync=1, ids="ab")
    town.show("a", "b")
    home, others = town["a"], key_of(town, "b")
    home.commits.submit(Write(Version(1, 1), [others], [b"1"]))
    assert [home.strays.step() for _ in range(5)] == [True] * 5
    goes_on.set()
    search(home)
    assert here(home, others) == ""
    town.close()
