"""Members with one copy, whose ring changes: their machines decide meanwhile, and rest afterwards."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from gkv.clock import boot_time
from gkv.cluster.document import Document, Layout, State
from gkv.model import NodeRefusal, Op, Record
from gkv.node.copy_figures import copy_figures
from gkv.node.rest import Rest
from gkv.wire.ops import Add, Delete, Get, ListKeys, Page, Put, Refused, Set, Values
from tests.unit.node.test_copies import Store, held
from tests.unit.node.town import LEASE_MS, Home, Town, in_memory, on_disk, until

Make = Callable[..., Town]
BOTH = (("a", 1.0), ("b", 1.0))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Make]:
    """Make towns of two members and a third process, with one copy; look after each that nothing has failed in it."""
    made: list[Town] = []

    def make(engine: Any = held, **parts: Any) -> Town:
        made.append(Town(tmp_path, engine, replicas=1, min_in_sync=1, ids="ab", **parts))
        made[-1].show("a", "b")
        return made[-1]

    yield make
    for one in made:
        for home in one.homes.values():
            if isinstance(home.engine, Store):
                home.engine.goes_on.set()
        assert [error for home in one.homes.values() for error in home.errors] == []
        one.close()


def joining(document: Document) -> Document:
    """Return the next document, by which `c` joins."""
    epoch = document.epoch + 1
    line = replace(document.members[0], id="c", url="http://c:1", weight=0.0, incarnation=ord("c"), directory=ord("c"))
    layout = Layout((*BOTH, ("c", 1.0)), document.vnodes)
    members = (*document.members, replace(line, since=epoch))
    return replace(document, epoch=epoch, members=members, next=layout, next_since=epoch)


def joined(document: Document) -> Document:
    """Return the next document, whose ring is the one that was to come."""
    epoch = document.epoch + 1
    members = tuple(replace(one, weight=1.0) for one in document.members)
    return replace(document, epoch=epoch, members=members, next=None, next_since=0)


def begin(town: Town) -> None:
    """Begin to have `c` join."""
    town.document = joining(town.document)
    town.show("a", "b", "c")


def end(town: Town) -> None:
    """Wait until `c` has all that it is to have, and have it be a member."""
    until(lambda: town["c"].tidings.reported(town.document.era)[1])
    town.document = joined(town.document)
    town.show("a", "b", "c")


def active(town: Town) -> str:
    return "".join(name for name in "abc" if town[name].copies.active)


def moved(town: Town, count: int = 1) -> list[str]:
    """Return keys of `a` that are to be c's."""
    placement = town["a"].view.place(joining(town.document))
    assert placement is not None
    found = (f"k{number}" for number in range(10_000))
    mine = (key for key in found if placement.roles[placement.list_of(key)][:2] == (("a",), ("c",)))
    return [next(mine) for _ in range(count)]


@pytest.mark.promise("I23")
@pytest.mark.parametrize("engine", [on_disk, in_memory])
def test_keys_of_one_copy_move_while_they_are_written_and_all_rest_afterwards(town: Make, engine: Any) -> None:
    cluster = town(engine)
    keys = moved(cluster, 40)
    a, c = cluster["a"], cluster["c"]
    assert active(cluster) == ""
    assert a.ask(Put(*cluster.about, keys[:1], [b"0"])).letters == "c"
    assert a.ask(Set(*cluster.about, keys[:30], [b"1"] * 30)).letters
    before = a.engine.records_of(keys[:1])[0]
    begin(cluster)
    assert active(cluster) == "abc"
    assert a.ask(Put(*cluster.about, keys[30:31], [b"2"])).letters == "c"
    assert a.ask(Delete(*cluster.about, keys[:1])).letters == "r"
    tombstone = a.engine.records_of(keys[:1])[0]
    assert isinstance(before, Record)
    assert isinstance(tombstone, Record)
    assert tombstone.version > before.version
    end(cluster)
    assert c.ask(Get(*cluster.about, keys[:31])) == Values([None, *[b"1"] * 29, b"2"])
    until(lambda: active(cluster) == "")
    assert not any(cluster[name].kept and cluster[name].kept.granted for name in "abc")
    assert c.ask(Get(*cluster.about, keys[:31])) == Values([None, *[b"1"] * 29, b"2"])
    assert c.ask(Add(*cluster.about, keys[39:], [5])).letters == "c"
    after = c.engine.records_of(keys[39:])[0]
    assert isinstance(after, Record)
    assert after.version > tombstone.version
    assert not c.order.unsettled.newest, "nobody is told of the ends of commits"


def test_machines_begin_when_all_that_was_admitted_before_is_on_the_disk_and_nothing_is_admitted_meanwhile(town: Make) -> None:
    cluster = town()
    [key], before = moved(cluster), cluster.about
    a = cluster["a"]
    a.engine.goes_on.clear()
    first = a.begin(Put(*before, [key], [b"1"]))
    cluster.document = joining(cluster.document)
    shown = gevent.spawn(cluster.show, "a", "b", "c")
    until(lambda: a.view.admits is None)
    assert not a.copies.active
    assert a.ask(Put(*before, [key], [b"2"])) == Refused(NodeRefusal.CHANGING)
    a.engine.goes_on.set()
    assert first.get(timeout=5).letters == "c"
    shown.get(timeout=5)
    assert a.copies.active
    end(cluster)
    assert cluster["c"].ask(Get(*cluster.about, [key])) == Values([b"1"])


def test_machines_rest_and_the_note_is_gone_when_nobody_may_use_what_they_have_granted(town: Make) -> None:
    cluster = town()
    begin(cluster)
    end(cluster)
    until(lambda: "c" not in active(cluster))
    assert not cluster["c"].kept.granted


def test_counts_of_copies_go_on_while_the_machines_rest(town: Make) -> None:
    cluster = town()
    keys = moved(cluster, 7)
    cluster["a"].ask(Set(*cluster.about, keys, [b"1"] * len(keys)))
    begin(cluster)
    end(cluster)
    until(lambda: active(cluster) == "")
    figures = {one.name: next(iter(one.samples))[1] for one in copy_figures(cluster["c"].copies)}
    assert figures["gkv_fill_records_taken_total"] == len(keys)
    assert figures["gkv_takeovers_total"] > 0
    assert "gkv_lists_open" not in figures


def test_change_that_is_taken_back_lets_the_machines_rest_too(town: Make) -> None:
    cluster = town()
    key = cluster.keys_of("a")[0]
    begin(cluster)
    document = cluster.document
    cluster.document = replace(document, epoch=document.epoch + 1, members=document.members[:2], next=None, next_since=0)
    cluster.show("a", "b")
    until(lambda: "a" not in active(cluster) and "b" not in active(cluster))
    assert cluster["a"].ask(Put(*cluster.about, [key], [b"1"])).letters == "c"


def at_work(cluster: Town) -> tuple[Home, list[str]]:
    """Have the machines of `c` go on after a change, as it has granted leases, and its disk stand still; return `c`, and two
    keys of it.
    """
    begin(cluster)
    home = cluster["c"]
    home.copies.replica.grants.heard = lambda *_: None  # what others say is lost: the lease may be used until it has run out
    end(cluster)
    assert home.copies.active
    home.engine.goes_on.clear()
    return home, cluster.keys_of("c", 2)


def test_write_that_is_under_way_ends_before_the_rest_and_the_next_one_is_begun_by_the_other_rules(town: Make) -> None:
    cluster = town()
    home, [key, other] = at_work(cluster)
    first = home.begin(Put(*cluster.about, [key], [b"1"]))
    until(lambda: home.copies.rest.holds)
    assert home.copies.active
    second = home.begin(Add(*cluster.about, [other], [1]))
    gevent.sleep(0.02)
    assert len(home.copies.replica.writing.primary) == 1
    home.engine.goes_on.set()
    assert first.get(timeout=5).letters == "c"
    assert second.get(timeout=5).letters == "c"
    assert (home.copies.active, home.copies.rest.holds) == (False, False)
    [one, another] = home.engine.records_of([key, other])
    assert one.version < another.version
    assert home.ask(Get(*cluster.about, [key, other])) == Values([b"1", b"1"])


def test_writes_are_held_for_a_moment_alone_where_the_rest_does_not_come(town: Make) -> None:
    cluster = town()
    home, [key, _] = at_work(cluster)
    home.begin(Put(*cluster.about, [key], [b"1"]))
    until(lambda: home.copies.rest.holds)
    second = home.begin(Put(*cluster.about, [key], [b"2"]))
    until(lambda: not home.copies.rest.holds)
    until(lambda: len(home.copies.replica.writing.primary) == 2)
    assert home.copies.active
    home.engine.goes_on.set()
    assert second.get(timeout=5).letters == "r"
    assert home.ask(Get(*cluster.about, [key])) == Values([b"2"])


def test_write_that_is_held_is_refused_if_another_document_comes_first(town: Make) -> None:
    cluster = town()
    home, [key, _] = at_work(cluster)
    first = home.begin(Put(*cluster.about, [key], [b"1"]))
    until(lambda: home.copies.rest.holds)
    second = home.begin(Put(*cluster.about, [key], [b"2"]))
    cluster.change()
    cluster.show("c")
    home.engine.goes_on.set()
    assert second.get(timeout=5).reason is NodeRefusal.STALE
    assert first.get(timeout=5).letters == "c"


def test_machines_do_not_come_to_rest_while_a_document_that_copies_records_comes_to_the_disk(town: Make) -> None:
    """Else no learner would be given what is admitted meanwhile, and it would be lost with the next ring."""
    cluster = town()
    home, [key, _] = at_work(cluster)
    home.engine.goes_on.set()
    keep, goes_on = home.kept.keep, threading.Event()

    def slowly(document: Document) -> None:
        assert goes_on.wait(20)
        keep(document)

    home.kept.keep = slowly
    line = replace(cluster.document.members[0], id="d", url="http://d:1", weight=0.0, incarnation=ord("d"), directory=ord("d"))
    epoch = cluster.document.epoch + 1
    layout = Layout((*BOTH, ("c", 1.0), ("d", 1.0)), cluster.document.vnodes)
    document = replace(cluster.document, epoch=epoch, members=(*cluster.document.members, line), next=layout, next_since=epoch)
    shown = gevent.spawn(home.member.adopt, document)
    until(lambda: not home.copies.replica.grants.noted)
    home.begin(Put(*cluster.about, [key], [b"1"])).get(timeout=5)
    was_active = home.copies.active
    goes_on.set()
    assert shown.get(timeout=5)
    assert was_active
    assert home.copies.active


def test_read_and_listing_that_the_rest_comes_upon_are_asked_for_again(town: Make) -> None:
    cluster = town()
    home, [key, _] = at_work(cluster)
    reads, list_keys = home.service._values_of, home.service._handlers[Op.KEYS]
    home.engine.goes_on.set()
    home.ask(Put(*cluster.about, [key], [b"1"]))
    until(lambda: not home.copies.active)
    [late] = reads([Get(*cluster.about, [key])])
    assert late == Refused(NodeRefusal.CHANGING)
    waiting = list_keys(ListKeys(*cluster.about, "", "", 9))
    while not isinstance(waiting, Page | Refused):
        waiting = waiting()
    assert waiting == Refused(NodeRefusal.CHANGING)
    assert home.ask(ListKeys(*cluster.about, "", "", 9)) == Page([key])


def test_process_that_finds_the_note_of_one_before_decides_by_the_machines_until_that_has_run_out(town: Make) -> None:
    """T2: the lease may be one of a change that has ended since."""
    cluster = town()
    begin(cluster)
    end(cluster)
    key = cluster.keys_of("c")[0]
    cluster["c"].kill()
    again = cluster.restart("c", 7)
    assert again.notes.found
    assert again.copies.active
    cluster.change(c={"incarnation": 7, "state": State.FILLING, "directory": 7, "left": cluster.document.epoch + 1})
    began = boot_time()
    cluster.show("a", "b", "c")
    asked = again.begin(Put(*cluster.about, [key], [b"1"]))
    assert asked.get(timeout=5).letters == "c"
    assert boot_time() - began > LEASE_MS / 1_000 / 2
    until(lambda: not again.copies.active)
    assert not again.kept.granted


def test_first_process_of_a_directory_leaves_no_note_for_the_next_one_and_neither_waits(town: Make) -> None:
    cluster = town()
    home = cluster["a"]
    assert (home.notes.found, home.copies.active) == (True, False)
    until(lambda: not home.kept.granted, LEASE_MS / 1_000)
    home.kill()
    again = cluster.restart("a", 7)
    assert (again.notes.found, again.copies.active) == (False, False)


# -- the moment, alone


def test_wait_for_the_rest_holds_writes_for_a_moment_and_begins_anew_after_a_while() -> None:
    rest = Rest()
    machines: Any = SimpleNamespace(may_rest=False, idle=False)
    disk: Any = SimpleNamespace(idle=False)
    assert not rest.may_begin(machines, disk, 1.0)
    assert not rest.holds, "writes are not what is in the way"
    machines.may_rest = True
    held = []
    for tick in range(100):
        assert not rest.may_begin(machines, disk, 1.0 + tick / 20)
        held.append(rest.holds)
    assert held[0]
    assert sum(held) in range(12, 18)
    assert [place for place in range(1, 100) if held[place] > held[place - 1]] == [45, 90]
    machines.idle = True
    assert not rest.may_begin(machines, disk, 9.0)
    disk.idle = True
    assert rest.may_begin(machines, disk, 9.0)
