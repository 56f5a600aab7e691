"""Pages of members that keep copies: whose keys are there, what is waited for, and when there is none."""

import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gkv.cluster.document import Durability, State
from gkv.model import NodeRefusal
from gkv.node import copied_listing
from gkv.wire.ops import Delete, ListKeys, Page, Put, Refused, Set
from tests.unit.node import test_copies
from tests.unit.node.test_copies import Make
from tests.unit.node.town import LEASE_MS, Town, in_memory, on_disk, ticket_in, until

town = test_copies.town


def listed(town: Town, name: str, prefix: str = "k", begin: str = "", limit: int = 10_000, delimiter: str = "") -> Any:
    return town[name].ask(ListKeys(*town.about, prefix, begin, limit, delimiter))


def walked(town: Town, name: str, **more: Any) -> list[str]:
    """Return all names of one member, page by page."""
    return list(pages(town, name, **more))


def pages(town: Town, name: str, **more: Any) -> Iterator[str]:
    begin: str | None = ""
    while begin is not None:
        page = listed(town, name, begin=begin, **more)
        assert page.end is None or page.end > begin
        yield from page.keys
        begin = page.end


def filled(town: Town, count: int = 40) -> dict[str, list[str]]:
    """Store keys of each member; return them."""
    of = {name: sorted(town.keys_of(name, count)) for name in town.homes}
    for name, keys in of.items():
        town[name].ask(Set(*town.about, keys, [b"1"] * count))
    return of


@pytest.mark.parametrize("engine", [on_disk, in_memory])
@pytest.mark.parametrize("limit", [1, 7, 40, 10_000])
def test_each_member_lists_the_keys_that_it_is_the_primary_of(town: Make, engine: Any, limit: int) -> None:
    copied = town(engine)
    of = filled(copied)
    assert {home.engine.live for home in copied.homes.values()} == {120}
    for name, keys in of.items():
        assert walked(copied, name, limit=limit) == keys
    first = listed(copied, "a", limit=7)
    assert first == Page(of["a"][:7], of["a"][6] + "\0")


def test_page_ends_early_where_too_many_keys_are_others(town: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = town(in_memory)
    of = filled(copied)
    monkeypatch.setattr(copied_listing, "STEPS", 2)
    page = listed(copied, "a", limit=3)
    assert len(page.keys) == 3
    monkeypatch.setattr(copied_listing, "STEPS", 1)
    monkeypatch.setattr("gkv.replication.names.AT_ONCE", 5)
    page = listed(copied, "a")
    assert len(page.keys) < 10
    assert walked(copied, "a") == of["a"]


def test_names_with_a_delimiter_are_those_of_ones_own_keys(town: Make) -> None:
    copied = town(in_memory)
    of = filled(copied)
    expected = sorted({key if "1" not in key[1:] else key[: key.index("1", 1) + 1] for key in of["a"]})
    assert sorted(set(walked(copied, "a", delimiter="1", limit=3))) == expected


# -- what is on its way


@pytest.mark.promise("I21")
def test_key_that_is_being_written_is_waited_for_and_no_other(town: Make) -> None:
    copied = town()
    new, gone, *others = sorted(copied.keys_of("a", 6))
    home = copied["a"]
    home.ask(Set(*copied.about, [gone, *others], [b"1"] * 5))
    copied["c"].engine.goes_on.clear()
    home.begin(Set(*copied.about, [new], [b"1"]))
    home.begin(Delete(*copied.about, [gone]))
    until(lambda: home.engine.keys("k", "", 9) == [(key, 0) for key in [new, *others]])
    waits = home.begin(ListKeys(*copied.about, "k", "", 10))
    behind = listed(copied, "a", begin=others[0])
    assert behind == Page(others)
    gevent.sleep(0.05)
    assert not waits.ready(), "what is on the own disk alone may be told by nobody"
    copied["c"].engine.goes_on.set()
    assert waits.get(timeout=5) == Page([new, *others])


def test_page_ends_before_a_key_that_takes_long_and_the_next_one_waits_for_it(
    town: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = town()
    monkeypatch.setattr("gkv.replication.names.AT_ONCE", 5)
    keys = sorted(copied.keys_of("a", 20))
    home = copied["a"]
    home.ask(Set(*copied.about, keys, [b"1"] * 20))
    copied["c"].engine.goes_on.clear()
    home.begin(Delete(*copied.about, keys[-1:]))
    until(lambda: home.engine.live == 19)
    first = listed(copied, "a")
    assert keys[:10] < list(first.keys) < keys
    [frame] = home.service.answer([ListKeys(*copied.about, "k", first.end, 100).write()])
    assert ticket_in(frame) is not None, "others are not held up by it"
    rest = home.begin(ListKeys(*copied.about, "k", first.end, 100))
    copied["c"].engine.goes_on.set()
    page = rest.get(timeout=5)
    assert [*first.keys, *page.keys] == keys[:19][: len(first.keys) + len(page.keys)]
    assert page == Page(keys[len(first.keys) : 19])


@pytest.mark.promise("I3")
def test_value_that_is_due_is_not_listed_and_its_tombstone_is_everywhere_first(town: Make) -> None:
    copied = town()
    due, other = sorted(copied.keys_of("a", 2))
    home = copied["a"]
    home.ask(Put(*copied.about, [due, other], [b"1", b"1"], ttls=[5000, 0]))
    home.clock.forward(6000)
    copied["c"].engine.goes_on.clear()
    asked = home.begin(ListKeys(*copied.about, "k", "", 10))
    until(lambda: copied["b"].engine.records_of([due])[0].value is None)
    assert not asked.ready()
    copied["c"].engine.goes_on.set()
    assert asked.get(timeout=5) == Page([other])
    assert [record.value for record in test_copies.everywhere(copied, due)] == [None] * 3


def test_write_that_is_in_memory_alone_is_listed_where_that_is_enough(town: Make) -> None:
    copied = town(durability=Durability.ASYNC)
    gone, new = sorted(copied.keys_of("a", 2))
    home = copied["a"]
    home.ask(Put(*copied.about, [gone], [b"1"]))
    home.commits.flush(float("inf"))
    home.engine.goes_on.clear()
    home.ask(Put(*copied.about, [new], [b"1"]))
    home.ask(Delete(*copied.about, [gone]))
    assert listed(copied, "a") == Page([new])
    home.engine.goes_on.set()


# -- when there is no page


def stop(town: Town) -> None:
    """Have the process stand still in the middle of a look, for longer than its leases last, while nobody hears it."""
    keys = town["a"].engine.keys

    def slow(prefix: str, begin: str, limit: int) -> Any:
        found = keys(prefix, begin, limit)
        town.cut("a")
        time.sleep(1.2 * LEASE_MS / 1000)
        return found

    town["a"].engine.keys = slow


def lose(town: Town) -> None:
    town.cut("a")
    gevent.sleep(LEASE_MS / 1000)


@pytest.mark.promise("I20")
@pytest.mark.parametrize("fate", [stop, lose])
@pytest.mark.parametrize("limit", [1, 10_000])
@pytest.mark.parametrize("delimiter", ["", "1"])
def test_who_may_be_the_primary_no_more_gives_no_page(town: Make, fate: Any, limit: int, delimiter: str) -> None:
    copied = town(in_memory)
    filled(copied)
    listed(copied, "a")
    fate(copied)
    for _ in range(2):
        answer = listed(copied, "a", limit=limit, delimiter=delimiter)
        assert answer == Refused(NodeRefusal.LATE)


@pytest.mark.promise("I20")
def test_who_was_the_primary_lists_nothing_that_its_successor_has_deleted(town: Make) -> None:
    copied = town(in_memory)
    of = filled(copied)
    before = copied.about
    listed(copied, "a")
    stop(copied)
    asked = copied["a"].begin(ListKeys(*before, "k", "", 100))
    copied.cut("a")
    copied.change(a={"state": State.DOWN})
    copied.show("b", "c")
    for name in "bc":
        mine = [key for key in of["a"] if key in copied.keys_of(name, 120)]
        assert copied[name].ask(Delete(*copied.about, mine)).letters == "r" * len(mine)
        assert walked(copied, name) == of[name]
    assert not isinstance(asked.get(timeout=10), Page)


@pytest.mark.promise("I22")
def test_page_waits_until_all_that_is_taken_over_is_open(town: Make) -> None:
    copied = town(in_memory)
    of = filled(copied)
    copied.cut("a")
    copied.change(a={"state": State.DOWN})
    copied.show("b", "c")
    assert not copied["b"].copies.replica.reads_until
    asked = {name: copied[name].begin(ListKeys(*copied.about, "k", "", 200)) for name in "bc"}
    assert not any(one.ready() for one in asked.values())
    found = [key for one in asked.values() for key in one.get(timeout=5).keys]
    assert sorted(found) == sorted(key for keys in of.values() for key in keys)


@pytest.mark.promise("I6")
def test_page_of_another_document_than_that_of_the_machines_is_refused(town: Make) -> None:
    copied = town(in_memory)
    filled(copied)
    home = copied["a"]
    request = ListKeys(*copied.about, "k", "", 9)
    assert isinstance(home.ask(request), Page)
    copied.change(a={"zone": "z"})
    copied.show()
    assert home.ask(request).reason is NodeRefusal.STALE
    course = home.service._handlers[request.op](request)
    assert course() == Refused(NodeRefusal.NOT_BEGUN)


def test_member_that_is_nobodys_primary_has_no_page(town: Make) -> None:
    copied = town(in_memory)
    filled(copied)
    copied.change(a={"state": State.FILLING})
    copied.show()
    assert listed(copied, "a") == Refused(NodeRefusal.NOT_BEGUN)
