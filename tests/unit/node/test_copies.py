"""A member that keeps copies: what its machines say is done, in the order in which they say it, on real engines."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from gkv.clock import boot_time
from gkv.cluster.document import Durability, State
from gkv.cluster.kept import Kept
from gkv.engine import CELL_SHIFT, Commits, LmdbEngine, MemoryEngine
from gkv.errors import EngineFailed, EngineFull
from gkv.model import Damage, Effect, NodeRefusal, Record, Version, Write
from gkv.node import postponed
from gkv.node.awaited import Awaited
from gkv.node.copy_figures import copy_figures
from gkv.node.notes import OrderlyEnd
from gkv.replication.messages import AskRecord, Copy, Hello, UnsettledKeys, Working
from gkv.replication.questions import Timeouts
from gkv.ring import tokens
from gkv.wire.ops import (
    Add,
    Await,
    Delete,
    Effects,
    Fetch,
    FetchItems,
    Get,
    GoOnWith,
    Held,
    ItemRow,
    Peek,
    PlanMove,
    Put,
    Refused,
    Said,
    Set,
    Touch,
    Values,
    Word,
    read_answer,
)
from tests.cluster.rot import rot
from tests.documents import with_copies
from tests.frames import refusal
from tests.unit.node.town import LEASE_MS, Home, Town, in_memory, on_disk, ticket_in, until


class Store(LmdbEngine):
    """A store whose commits the test holds, or makes fail."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path, name, tokens)
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.errors: list[Exception] = []

    def write(self, *arguments: Any) -> Any:
        assert self.goes_on.wait(20)
        if self.errors:
            raise self.errors.pop()
        return super().write(*arguments)


def held(name: str, directory: Path) -> Store:
    return Store(directory, name)


Make = Callable[..., Town]


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Make]:
    """Make towns; look after each that nothing has failed in it but what the test takes out."""
    made: list[Town] = []

    def make(engine: Any = held, **parts: Any) -> Town:
        made.append(Town(tmp_path, engine, **parts))
        return made[-1].opened()

    yield make
    for one in made:
        for home in one.homes.values():
            if isinstance(home.engine, Store):
                home.engine.goes_on.set()
        assert [error for home in one.homes.values() for error in home.errors] == []
        one.close()


def everywhere(town: Town, key: str) -> list[Record | Damage | None]:
    return [home.engine.records_of([key])[0] for home in town.homes.values()]


@pytest.mark.promise("I21")
@pytest.mark.parametrize("engine", [on_disk, in_memory])
def test_write_that_is_acknowledged_is_at_every_member(town: Make, engine: Any) -> None:
    copied = town(engine)
    key = copied.keys_of("a")[0]
    answer = copied["a"].ask(Put(*copied.about, [key], [b"1"]))
    assert answer.letters == "c"
    assert [record.version for record in everywhere(copied, key)] == [answer.version] * 3
    assert copied["a"].ask(Get(*copied.about, [key])) == Values([b"1"])


@pytest.mark.parametrize("engine", [on_disk, in_memory])
def test_members_with_copies_keep_sums_which_are_equal_once_their_records_are(town: Make, engine: Any) -> None:
    copied = town(engine)
    sums = [home.engine.sums for home in copied.homes.values()]
    until(lambda: all(one is not None and one.complete for one in sums))
    keys = [copied.keys_of(name)[0] for name in "abc"]
    for name, key in zip("abc", keys, strict=True):
        assert copied[name].ask(Put(*copied.about, [key], [b"1"])).letters == "c"
    cells = [tokens([key])[:3] for key in keys]
    for cell in [int.from_bytes(first, "big") >> CELL_SHIFT - 40 for first in cells]:
        found = [one.known(cell, cell) for one in sums if one is not None]
        assert found == [found[0]] * 3
        assert found[0] != [0]


def test_rate_of_fillings_can_be_changed_and_stays_for_machines_that_begin_anew(town: Make) -> None:
    copies = town()["a"].copies
    copies.give_at(5.0)
    assert copies.replica.pages.rate.rate == 5.0
    before = copies.replica
    copies.follow(with_copies(), None, foreign=True)
    assert copies.replica is not before
    assert copies.replica.pages.rate.rate == 5.0


@pytest.mark.promise("I21")
def test_write_is_not_acknowledged_before_the_last_disk_has_it(town: Make) -> None:
    copied = town()
    key = copied.keys_of("a")[0]
    copied["a"].ask(Get(*copied.about, [key]))  # so that there are leases
    copied["c"].engine.goes_on.clear()
    asked = copied["a"].begin(Set(*copied.about, [key], [b"1"]))
    until(lambda: copied["b"].engine.live and copied["a"].engine.live)
    reads = copied["a"].begin(Get(*copied.about, [key]))
    gevent.sleep(0.3)  # longer than the answer to a copy is waited for: it comes as a word of its own
    assert not asked.ready()
    assert not reads.ready()
    copied["c"].engine.goes_on.set()
    assert asked.get(timeout=5).letters == "c"
    assert reads.get(timeout=5) == Values([b"1"])


@pytest.mark.parametrize("many", [False, True])
def test_answer_that_takes_long_holds_up_none_of_those_that_came_with_it(town: Make, many: bool) -> None:
    copied = town()
    slow, quick, *others = copied.keys_of("a", 700 if many else 3)
    copied["a"].ask(Set(*copied.about, [slow, quick], [b"1", b"1"]))
    copied["c"].engine.goes_on.clear()
    writes = copied["a"].begin(Set(*copied.about, [slow], [b"2"]))
    until(lambda: copied["b"].engine.records_of([slow])[0].value == b"2")
    keys = [slow, *others] if many else [slow]
    frames = [Get(*copied.about, keys).write(), Get(*copied.about, [quick]).write()]
    for _ in range(2):
        began = monotonic()
        late, now = copied["a"].service.answer(frames)
        assert monotonic() - began < 0.5
        assert read_answer(now, Values, 1) == Values([b"1"])
        ticket = ticket_in(late)
        assert ticket is not None
        frames[0] = Await(ticket).write()
    assert not writes.ready()
    copied["c"].engine.goes_on.set()
    assert writes.get(timeout=5).letters == "r"
    [told] = copied["a"].service.answer([frames[0]])
    while (again := ticket_in(told)) is not None:
        [told] = copied["a"].service.answer([Await(again).write()])
    assert read_answer(told, Values, len(keys)).values[0] == b"2"
    [gone] = copied["a"].service.answer([frames[0]])
    assert refusal(gone).reason is NodeRefusal.FAILED, "an answer is given once, and what may have been begun is not denied"


@pytest.mark.promise("I18")
def test_write_that_takes_long_is_begun_once_and_told_when_it_is_settled(town: Make) -> None:
    copied = town()
    key = copied.keys_of("a")[0]
    copied["c"].engine.goes_on.clear()
    [frame] = copied["a"].service.answer([Add(*copied.about, [key], [1]).write()])
    for _ in range(3):
        ticket = ticket_in(frame)
        assert ticket is not None
        [frame] = copied["a"].service.answer([Await(ticket).write()])
    copied["c"].engine.goes_on.set()
    while (ticket := ticket_in(frame)) is not None:
        [frame] = copied["a"].service.answer([Await(ticket).write()])
    assert read_answer(frame, Effects, 1).letters == "c"
    assert copied["a"].ask(Get(*copied.about, [key])) == Values([b"1"])


def test_no_more_answers_are_kept_than_a_bound_and_none_for_which_nobody_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postponed, "_MOST", 2)
    kept = postponed.Postponed()

    def asked() -> postponed.Asked:
        return postponed.Asked(Awaited(1.0), 0.0, lambda _told: Values([]))

    first = kept.put_off(asked())
    assert first is not None
    assert kept.put_off(asked()) is not None
    assert kept.put_off(asked()) is None
    later = monotonic() + 2.0
    monkeypatch.setattr(postponed, "monotonic", lambda: later)
    assert kept.put_off(asked()) is not None
    assert kept.take(Await(first.ticket)) == Refused(NodeRefusal.FAILED, detail="no such answer is kept here")


def test_read_whose_time_is_over_says_so(town: Make) -> None:
    copied = town()
    key = copied.keys_of("a")[0]
    copied["a"].ask(Set(*copied.about, [key], [b"1"]))
    copied["c"].engine.goes_on.clear()
    copied["a"].begin(Set(*copied.about, [key], [b"2"]))
    until(lambda: copied["b"].engine.records_of([key])[0].value == b"2")
    answer = copied["a"].begin(Get(*copied.about, [key])).get(timeout=5)
    assert answer == Refused(NodeRefusal.LATE)


@pytest.mark.promise("I20")
def test_read_without_leases_is_not_answered(town: Make) -> None:
    copied = town()
    key = copied.keys_of("a")[0]
    assert copied["a"].ask(Get(*copied.about, [key])) == Values([None])
    copied.cut("a")
    gevent.sleep(LEASE_MS / 1000)
    asked = [copied["a"].begin(kind(*copied.about, [key])) for kind in (Get, Fetch, FetchItems)]
    for one in asked:
        answer = one.get(timeout=5)
        assert isinstance(answer, Refused)
        assert answer.reason is NodeRefusal.LATE


def test_reads_that_come_all_the_time_wait_for_no_lease(town: Make) -> None:
    """The wish for new ones goes out before the old ones run out, so that answers are there at once."""
    copied = town()
    key = copied.keys_of("a")[0]
    service = copied["a"].service
    frame = Get(*copied.about, [key]).write()
    copied["a"].ask(Get(*copied.about, [key]))
    later = copied["a"].copies.replica.reads_until + 3 * LEASE_MS / 1000
    waited = 0
    with gevent.Timeout(10):
        while copied["a"].copies.replica.reads_until < later:
            waited += not isinstance(service._values_of([Get(*copied.about, [key])])[0], Values)
            gevent.sleep(0.01)
    assert waited == 0
    assert service.answer([frame])


@pytest.mark.promise("I22")
@pytest.mark.parametrize("engine", [on_disk, in_memory])
def test_next_primary_answers_when_the_one_before_is_gone_and_loses_nothing(town: Make, engine: Any) -> None:
    copied = town(engine)
    keys = copied.keys_of("a", 20)
    assert copied["a"].ask(Set(*copied.about, keys, [b"1"] * 20)).letters == "c" * 20
    copied.cut("a")
    copied.change(a={"state": State.DOWN})
    copied.show("b", "c")
    by = {name: [key for key in keys if key in copied.keys_of(name, 60)] for name in "bc"}
    assert sorted(by["b"] + by["c"]) == sorted(keys)
    for name, some in by.items():
        assert copied[name].ask(Get(*copied.about, some)) == Values([b"1"] * len(some))
        assert copied[name].ask(Set(*copied.about, some, [b"2"] * len(some))).letters == "r" * len(some)


@pytest.mark.promise("I22")
def test_write_that_nobody_knows_of_is_written_anew_by_who_takes_over(town: Make) -> None:
    """T3: `c` never has it, and `b` has it unsettled."""
    copied = town()
    key = next(key for key in copied.keys_of("a", 60) if _second(copied, key) == "b")
    copied.cuts.add(("a", "c"))
    asked = copied["a"].begin(Set(*copied.about, [key], [b"1"]))
    until(lambda: copied["b"].engine.live)
    copied.cut("a")
    copied.change(a={"state": State.DOWN})
    copied.show("b", "c")
    (record,) = copied["b"].ask(Fetch(*copied.about, [key])).records
    assert record.value == b"1"
    there = copied["c"].engine.records_of([key])[0]
    assert (there.value, there.tag, there.version.era) == (b"1", record.version, copied.document.era)
    assert asked.get(timeout=5).letters == Effect.INDETERMINATE


def _second(town: Town, key: str) -> str:
    placement = town["b"].view.placement
    return placement.roles[placement.list_of(key)].preference[1]


def test_member_that_is_behind_fetches_the_document_of_who_speaks_to_it(town: Make) -> None:
    """M1."""
    copied = town()
    copied.change(a={"zone": "z"})
    copied.show("a")
    key = copied.keys_of("a")[0]
    assert copied["a"].ask(Set(*copied.about, [key], [b"1"])).letters == "c"
    assert [home.view.document for home in copied.homes.values()] == [copied.document] * 3
    assert copied["c"].kept.document == copied.document


def test_conditions_additions_and_touches_are_decided_by_the_primary(town: Make) -> None:
    copied = town()
    home, about = copied["a"], copied.about
    key, other = copied.keys_of("a", 2)
    version = home.ask(Put(*about, [key], [b"5"])).version
    unmet = home.ask(Put(*about, [key, other], [b"6", b"7"], conditions=["!*", "!*"]))
    assert (unmet.letters, list(unmet.present), unmet.version is not None) == ("xc", [version], True)
    added = home.ask(Add(*about, [key, other, key], [1, 2, 3]))
    assert (added.letters, list(added.sums)) == ("srr", [9, 8])
    assert home.ask(Touch(*about, [key, "no" + key], [3_600_000, 0])).letters[0] == "r"
    assert home.ask(Delete(*about, [other])).letters == "r"
    assert home.ask(Delete(*about, [other])).letters == "u"
    (record, gone) = home.ask(Fetch(*about, [key, other])).records
    assert (record.value, gone.value, record.expires > 0) == (b"8", None, True)
    rows = home.ask(FetchItems(*about, [key, other, "no" + key])).rows
    assert rows == [ItemRow(b"8", record.expires), None, None]


@pytest.mark.promise("I3")
def test_value_that_is_due_is_gone_everywhere_before_anybody_is_told(town: Make) -> None:
    copied = town()
    home, key = copied["a"], copied.keys_of("a")[0]
    assert home.ask(Put(*copied.about, [key], [b"1"], ttls=[5000])).letters == "c"
    for each in copied.homes.values():
        each.clock.forward(6000)
    assert home.ask(FetchItems(*copied.about, [key])).rows == [None]
    assert home.ask(Get(*copied.about, [key])) == Values([None])
    assert [record.value for record in everywhere(copied, key)] == [None] * 3


def test_tombstones_of_what_is_due_are_written_by_its_primary_alone(town: Make) -> None:
    copied = town()
    home, key = copied["a"], copied.keys_of("a")[0]
    assert home.ask(Put(*copied.about, [key], [b"1"], ttls=[5000])).letters == "c"
    for each in copied.homes.values():
        each.clock.forward(6000)
        if each is not home:
            each.tidying.expire()
    gevent.sleep(0.02)
    assert [record.value for record in everywhere(copied, key)] == [b"1"] * 3
    home.tidying.expire()
    until(lambda: [record.value for record in everywhere(copied, key)] == [None] * 3)


def test_old_tombstone_goes_unless_its_write_is_not_settled(town: Make) -> None:
    copied = town(ttl=1)
    home, key = copied["a"], copied.keys_of("a")[0]
    home.ask(Set(*copied.about, [key], [b"1"]))
    copied["c"].engine.goes_on.clear()
    asked = home.begin(Delete(*copied.about, [key]))
    until(lambda: home.engine.tombstones)
    gevent.sleep(0.01)
    home.tidying.forget()
    home.commits.flush(float("inf"))
    assert home.engine.tombstones == 1
    copied["c"].engine.goes_on.set()
    assert asked.get(timeout=5).letters == "r"
    until(lambda: home.tidying.forget() or not home.engine.tombstones)


def test_damaged_record_of_a_key_that_is_others_is_dropped(town: Make) -> None:
    copied = town(on_disk, replicas=2)
    placement = copied["a"].view.place(copied.document)
    assert placement is not None
    key = next(key for key in map(str, range(1_000)) if "c" not in placement.roles[placement.list_of(key)].acting)
    stray = copied["c"].engine
    stray.write([Write(Version(1, 1), [key, "k"], [b"of others", b"1"])], 1)
    rot(copied.path / "c" / "data.mdb", b"of others")
    assert stray.records_of([key]) == [Damage.DAMAGED]
    until(lambda: copied["c"].strays.step() or stray.records_of([key]) == [None])


def test_write_with_too_few_copies_is_not_begun(town: Make) -> None:
    copied = town()
    copied.change(b={"state": State.DOWN}, c={"state": State.DOWN})
    copied.show("a")
    key = copied.keys_of("a")[0]
    assert copied["a"].ask(Set(*copied.about, [key], [b"1"])).letters == Effect.TOO_FEW_COPIES
    assert copied["a"].engine.live == 0


def test_full_disk_of_a_granter_is_named_and_ends_nobody(town: Make) -> None:
    copied = town()
    home = copied["a"]
    key, other = copied.keys_of("a", 2)
    copied["c"].engine.errors = [EngineFull("no room")]
    asked = home.begin(Set(*copied.about, [key], [b"1"]))
    until(lambda: home.copies.replica.desk.questions.full)
    refused = home.ask(Set(*copied.about, [other], [b"1"]))
    assert (refused.letters, list(refused.full)) == (Effect.FULL_COPY, ["c"])
    assert asked.get(timeout=5).letters == "c"  # once there is room


def test_own_full_disk_ends_nobody_and_the_write_is_acknowledged_once_there_is_room(town: Make) -> None:
    """W10."""
    copied = town()
    home, key = copied["a"], copied.keys_of("a")[0]
    home.engine.errors = [EngineFull("no room")]
    assert home.ask(Set(*copied.about, [key], [b"1"])).letters == "c"
    assert [record.value for record in everywhere(copied, key)] == [b"1"] * 3


def test_async_write_is_acknowledged_and_read_before_any_disk_has_it(town: Make) -> None:
    copied = town(durability=Durability.ASYNC)
    home, key = copied["a"], copied.keys_of("a")[0]
    home.ask(Set(*copied.about, [key], [b"1"]))
    for each in copied.homes.values():
        each.commits.flush(float("inf"))
        each.engine.goes_on.clear()
    assert home.ask(Set(*copied.about, [key], [b"2"])).letters == "r"
    assert home.ask(Get(*copied.about, [key])) == Values([b"2"])
    assert [record.value for record in everywhere(copied, key)] == [b"1"] * 3


def test_async_delete_and_put_tell_whether_there_was_a_value(town: Make) -> None:
    copied = town(durability=Durability.ASYNC)
    home, keys = copied["a"], copied.keys_of("a", 2)
    home.engine.goes_on.clear()
    assert home.ask(Put(*copied.about, keys[:1], [b"1"])).letters == "c"
    assert home.ask(Put(*copied.about, keys[:1], [b"2"])).letters == "r"
    assert home.ask(Delete(*copied.about, keys)).letters == "ru"
    assert home.ask(Delete(*copied.about, keys)).letters == "uu"
    assert home.ask(Put(*copied.about, keys[:1], [b"3"])).letters == "c"
    assert home.ask(Set(*copied.about, keys, [b"4", b"5"])).letters == Effect.ACCEPTED * 2


def test_async_write_that_fails_after_it_was_acknowledged_ends_the_process(town: Make) -> None:
    copied = town(durability=Durability.ASYNC)
    home, key = copied["a"], copied.keys_of("a")[0]
    home.engine.errors = [EngineFull("no room")]
    home.ask(Set(*copied.about, [key], [b"1"]))
    until(lambda: home.errors)
    assert "acknowledged" in str(home.errors.pop())


@pytest.mark.promise("I20")
def test_note_is_on_the_disk_before_the_first_lease_is_granted(town: Make, tmp_path: Path) -> None:
    copied = town()
    assert copied["b"].kept.granted
    noted = Kept(tmp_path / "b")
    assert noted.granted
    copied["b"].kill()
    again = copied.restart("b", 7)
    assert again.notes.found
    copied.change(b={"incarnation": 7, "state": State.FILLING, "directory": 7})
    copied.show()
    until(lambda: again.tidings.reported(copied.document.era) == (True, True))


def test_directory_that_is_not_the_members_counts_as_noted(tmp_path: Path) -> None:
    """T2: also where the note itself is not."""
    copied = Town(tmp_path, held)
    copied["a"].kept.note_granted(there=False)
    copied.show("a")
    copied["a"].kill()
    document = copied.document.with_member(replace(copied.document.member("a"), directory=99))
    Kept(tmp_path / "a").keep(replace(document, epoch=8))
    assert copied.restart("a", 7).notes.found
    assert Kept(tmp_path / "a").granted
    copied.close()


@pytest.mark.promise("I23")
def test_member_that_comes_back_is_filled_and_reports_that_it_is_equal(town: Make) -> None:
    copied = town()
    keys = copied.keys_of("a", 150)
    copied["a"].ask(Set(*copied.about, keys, [b"1"] * 150))
    copied["c"].kill()
    copied.change(c={"state": State.DOWN})
    copied.show("a", "b")
    assert copied["a"].ask(Delete(*copied.about, keys[:50])).letters == "r" * 50
    again = copied.restart("c", 7)
    copied.change(c={"incarnation": 7, "state": State.FILLING})
    copied.show()
    until(lambda: again.tidings.reported(copied.document.era) == (True, True))
    assert {key for key, record in again.engine.arc(0, 2**64 - 1, None, 999) if record.value} == set(keys[50:])


def test_plan_is_held_while_nothing_begins_and_given_up_by_go_on(town: Make) -> None:
    copied = town()
    home, key = copied["a"], copied.keys_of("a")[0]
    lists = tuple((roles.preference, roles.coming) for roles in home.view.placement.roles)
    plan = PlanMove(*copied.about, home.incarnation, 5, lists)
    assert _answer(home, plan, Held) == Held(5, copied.document.era)
    asked = home.begin(Set(*copied.about, [key], [b"1"]))
    gevent.sleep(0.05)
    assert not asked.ready()
    assert home.ask(Get(*copied.about, [key])) == Values([None])
    assert _answer(home, GoOnWith(home.incarnation, 5), Held) == Held(5, copied.document.era)
    assert asked.get(timeout=5).letters == "c"
    assert isinstance(_answer(home, replace(plan, incarnation=9), Held), Refused)


def test_plan_is_refused_while_a_write_is_under_way(town: Make) -> None:
    copied = town()
    home, key = copied["a"], copied.keys_of("a")[0]
    copied["c"].engine.goes_on.clear()
    asked = home.begin(Set(*copied.about, [key], [b"1"]))
    lists = tuple((roles.preference, roles.coming) for roles in home.view.placement.roles)
    assert isinstance(_answer(home, PlanMove(*copied.about, home.incarnation, 5, lists), Held), Refused)
    copied["c"].engine.goes_on.set()
    assert asked.get(timeout=5)


def test_process_that_is_told_to_stop_hands_over_and_releases_its_leases(town: Make) -> None:
    copied = town()
    home = copied["a"]
    stopped = gevent.spawn(home.copies.stop)
    until(lambda: home.tidings.leaves(copied.document.era))
    assert home.member.call_in(show=False).leaves
    assert not stopped.ready()
    copied["b"].heard.clear()
    copied.change(a={"state": State.DOWN})
    copied.show("b", "c", "a")
    stopped.get(timeout=0.9)
    assert home.transport.idle
    assert any(b'"hello-back"' in frame for frame in copied["b"].heard)


def test_process_that_is_told_to_stop_ends_though_nobody_evicts_it(town: Make) -> None:
    copied = town()
    with gevent.Timeout(2):
        copied["a"].copies.stop()


def _forget_the_beginning(home: Home) -> None:
    """Take what was to be told of the time in which the town has started."""
    home.member.call_in(show=False)
    home.member.news.clear()


def test_complaint_is_told_with_the_next_call(town: Make) -> None:
    """A2."""
    copied = town(timeouts=Timeouts(silence=0.3))
    home, key = copied["a"], copied.keys_of("a")[0]
    copied.cut("c")
    _forget_the_beginning(home)
    home.begin(Set(*copied.about, [key], [b"1"]))
    until(home.member.news.is_set)
    assert home.member.call_in(show=False).complaints == (("c", "silent"),)
    assert home.member.call_in(show=False).complaints == ()


@pytest.mark.parametrize("whose", ["a", "c"])
def test_commit_that_takes_longer_than_the_disk_timeout_is_complained_of_whosever_it_is(town: Make, whose: str) -> None:
    """A2: nobody but the primary itself waits for its own disk."""
    copied = town(timeouts=Timeouts(silence=0.3, disk=0.5))
    home, key = copied["a"], copied.keys_of("a")[0]
    copied[whose].engine.goes_on.clear()
    _forget_the_beginning(home)
    asked = home.begin(Set(*copied.about, [key], [b"1"]))
    until(home.member.news.is_set)
    assert home.member.call_in(show=False).complaints == ((whose, "slow-disk"),)
    copied[whose].engine.goes_on.set()
    assert asked.get(timeout=5).letters == "c"
    assert home.copies.replica.desk.questions.slow == []


@pytest.mark.parametrize("silence", [1.0, 0.6])
def test_disk_that_stands_still_under_many_writes_is_slow_and_not_silent(town: Make, silence: float) -> None:
    """A2: what waits for it at one moment has waited together."""
    copied = town(timeouts=Timeouts(silence))
    home, keys = copied["a"], copied.keys_of("a", 60)
    copied["c"].engine.goes_on.clear()
    _forget_the_beginning(home)
    asked = []
    for key in keys:
        asked.append(home.begin(Set(*copied.about, [key], [b"1"])))
        gevent.sleep(0.02)
    assert home.copies.replica.desk.questions.slow == ["c"]
    assert home.member.call_in(show=False).complaints == ()
    copied["c"].engine.goes_on.set()
    assert {one.get(timeout=5).letters for one in asked} == {"c"}


def test_copies_of_one_gathered_request_are_answered_together_while_their_commits_take_long(town: Make) -> None:
    """A2."""
    copied = town()
    keys = copied.keys_of("a", 8)
    copied["c"].engine.goes_on.clear()
    era = copied.document.era
    words = [
        Word(*copied.about, "a", ord("a"), Copy(1_000 + place, (Write(Version(era, 1_000 + place), [key], [b"1"]),)))
        for place, key in enumerate(keys)
    ]
    began = boot_time()
    said = [read_answer(frame, Said).message for frame in copied["c"].service.answer([word.write() for word in words])]
    assert [(type(one), one.number) for one in said] == [(Working, 1_000 + place) for place in range(8)]
    assert 0.2 < said[-1].seconds <= boot_time() - began < 0.7


@pytest.mark.promise("I20")
def test_member_of_another_cluster_notes_its_grants_anew_and_waits_for_those_of_before(town: Make) -> None:
    """F7: the note of before may be gone, and who holds those grants is not known any more."""
    copied = town()
    home = copied["a"]
    until(lambda: not home.kept.granted)
    copied.document = replace(copied.document, cluster="f" * 32)
    began = boot_time()
    copied.show()
    until(lambda: home.copies.replica.reads_until and copied["b"].copies.replica.reads_until)
    assert home.kept.granted
    assert boot_time() - began >= 1.05 * LEASE_MS / 1000


def test_process_that_is_to_be_admitted_says_whom_it_has_reached(town: Make) -> None:
    """A3."""
    copied = town()
    copied["c"].kill()
    again = copied.restart("c", 7)
    copied.change(c={"state": State.DOWN})
    copied.show("a", "b")
    assert again.member.call_in(show=False).reached == ()
    until(lambda: len(again.member.call_in(show=False).reached) == 2)
    again.tidings.answered(1_000_000, boot_time())  # of a process that has ended since: of 1,000 members there may be many
    assert set(again.member.call_in(show=False).reached) == {ord("a"), ord("b")}
    assert copied["a"].member.call_in(show=False).reached == ()


def test_member_is_tidy_once_it_has_looked_for_others_records_by_the_lists_of_now(town: Make) -> None:
    home = town()["a"]
    assert not home.member.call_in(show=False).tidy
    until(lambda: not home.strays.step())
    assert home.member.call_in(show=False).tidy
    home.town.change()
    home.town.show()
    assert home.member.call_in(show=False).tidy
    home.town.document = replace(home.town.document, epoch=home.town.document.epoch + 1, vnodes=32)
    home.town.show()
    assert not home.member.call_in(show=False).tidy
    until(lambda: not home.strays.step())
    assert home.member.call_in(show=False).tidy


def test_process_whose_place_another_has_ends(town: Make) -> None:
    """M2."""
    copied = town()
    copied.change(a={"incarnation": 9})
    copied.show("a")
    assert "another process" in str(copied["a"].errors[0])
    copied["a"].errors.clear()


def test_word_of_another_cluster_is_refused_and_a_malformed_one_harms_nothing(town: Make) -> None:
    copied = town()
    home = copied["a"]
    word = Word("f" * 32, copied.document.era, "b", ord("b"), Hello(4))
    assert _answer(home, word, Said).reason is NodeRefusal.STALE
    [frame] = home.service.answer(
        [replace(word, cluster=copied.document.cluster).write().replace(b'"number":4', b'"number":-4')]
    )
    assert read_answer(frame, Said).reason is NodeRefusal.BAD_FRAME
    assert _answer(home, replace(word, cluster=copied.document.cluster), Said).message is not None


def test_words_that_come_together_are_waited_for_together(town: Make) -> None:
    """So a member whose disk is slow is not taken for silent, however many copies it is handed meanwhile."""
    copied = town()
    home, key = copied["c"], copied.keys_of("a")[0]
    home.engine.goes_on.clear()
    writes = [Write(Version(copied.document.era, 1_000 + number), [key], [b"1"], at=1) for number in range(16)]
    words = [Word(*copied.about, "a", ord("a"), Copy(1_000 + number, (write,))) for number, write in enumerate(writes)]
    with gevent.Timeout(2):
        answers = [read_answer(frame, Said) for frame in home.service.answer([word.write() for word in words])]
    assert [type(answer.message) for answer in answers] == [Working] * 16


def test_nothing_ends_a_member_of_a_cluster_whose_ring_has_nobody_yet(town: Make) -> None:
    copied = town()
    copied.change(**{name: {"weight": 0.0} for name in "abc"})
    copied.document = replace(copied.document, next=with_copies().layout, next_since=copied.document.epoch)
    copied.show()
    home = copied["a"]
    for message in (AskRecord(1, "k"), UnsettledKeys(2, ("k",))):
        assert _answer(home, Word(*copied.about, "b", ord("b"), message), Said).message is None
    assert isinstance(home.ask(Get(*copied.about, ["k"])), Refused)
    assert home.ask(Set(*copied.about, ["k"], [b"1"])).letters != "c"


def test_machines_that_have_raised_end_the_process_and_do_nothing_more(town: Make, capsys: pytest.CaptureFixture[str]) -> None:
    copied = town()
    home, key = copied["a"], copied.keys_of("a")[0]

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    home.copies.replica._handlers = dict.fromkeys(home.copies.replica._handlers, fail)
    home.copies.handle(object())  # type: ignore[arg-type]
    assert "machines of copies" in str(home.errors.pop())
    asked = home.begin(Set(*copied.about, [key], [b"1"]))
    gevent.sleep(0.05)
    assert not asked.ready()
    asked.kill()
    assert home.engine.live == 0
    capsys.readouterr()


def _answer(home: Home, request: Any, kind: Any) -> Any:
    [frame] = home.service.answer([request.write()])
    return read_answer(frame, kind)


def test_large_reads_are_made_in_steps_and_have_all(town: Make) -> None:
    copied = town()
    keys = copied.keys_of("a", 700)
    values = [b'"%d"' % number for number in range(700)]
    assert set(copied["a"].ask(Set(*copied.about, keys, values)).letters) == {"c"}
    copied["c"].engine.goes_on.clear()
    asked = copied["a"].begin(Set(*copied.about, keys[:1], [b"9"]))
    read = copied["a"].begin(Get(*copied.about, [*keys, *keys[:3]]))
    items = copied["a"].begin(FetchItems(*copied.about, keys))
    gevent.sleep(0.01)
    copied["c"].engine.goes_on.set()
    assert list(read.get(timeout=5).values) == [b"9", *values[1:], b"9", *values[1:3]]
    assert items.get(timeout=5).rows == [b"9", *values[1:]]
    assert isinstance(asked.get(timeout=5), Effects)
    records = copied["a"].ask(Fetch(*copied.about, keys)).records
    assert [record.value for record in records] == [b"9", *values[1:]]


@pytest.mark.parametrize("vouches", [False, True])
def test_orderly_end_is_noted_by_who_may_and_forgotten_at_the_next_start(tmp_path: Path, *, vouches: bool) -> None:
    Kept(tmp_path).begin(5, None)
    kept = Kept(tmp_path)
    kept.note_granted(there=True)
    end = OrderlyEnd(kept)
    home_commits = Commits(MemoryEngine(tokens), tombstone_ttl=1)
    end.says(home_commits, lambda: vouches)
    home_commits.close()
    end.close()
    again = Kept(tmp_path)
    assert (again.orderly, again.granted, again.ran) == (vouches, True, (5,))
    again.begin(6, None)
    assert (Kept(tmp_path).orderly, Kept(tmp_path).granted, Kept(tmp_path).ran) == (False, True, (5, 6))


def test_end_with_commits_that_have_failed_is_no_orderly_one(tmp_path: Path) -> None:
    store = Store(tmp_path, "a")
    store.errors = [EngineFailed("the disk is gone")]
    commits = Commits(store, tombstone_ttl=1)
    commits.submit(Write(Version(1, 1), ["k"], [b"1"]))
    commits.close()
    kept = Kept(tmp_path)
    end = OrderlyEnd(kept)
    end.says(commits, lambda: True)
    end.close()
    store.close()
    assert not Kept(tmp_path).orderly
    assert not kept.orderly


def test_process_that_no_document_has_named_vouches_for_nobody(town: Make) -> None:
    copied = town()
    assert copied["a"].copies.vouches(found_orderly=False)
    copied["c"].kill()
    again = copied.restart("c", 7)
    assert not again.copies.vouches(found_orderly=False)
    assert again.copies.vouches(found_orderly=True)


def test_figures_tell_what_is_not_settled_and_whose_lease_is_missing(town: Make) -> None:
    copied = town()
    home, key = copied["a"], copied.keys_of("a")[0]
    copied.cut("c")
    gevent.sleep(LEASE_MS / 1000)
    home.begin(Set(*copied.about, [key], [b"1"]))
    until(lambda: copied["b"].engine.live)

    def figures_of(home: Home) -> dict[str, float]:
        return {one.name: next(iter(one.samples))[1] for one in copy_figures(home.copies)}

    until(lambda: figures_of(home)["gkv_leases_missing"] == 1)
    figures = figures_of(home)
    assert (figures["gkv_unsettled_writes"], figures["gkv_unsettled_bytes"]) == (1, 101 + len(key))
    assert figures["gkv_lists_open"] == figures["gkv_lists_primary"] == figures["gkv_takeovers_total"] > 0
    assert figures_of(copied["b"])["gkv_unsettled_keys_copied"] == 1


def test_any_copy_is_peeked_at_and_says_how_long_it_has_not_heard_the_primary(town: Make) -> None:
    copied = town()
    keys = copied.keys_of("a", 40)
    copied["a"].ask(Set(*copied.about, keys, [b"1"] * 40))
    for name in "abc":
        answer = copied[name].ask(Peek(*copied.about, [*keys, "nothing"]))
        assert [record and record.value for record in answer.records] == [*[b"1"] * 40, None]
    assert copied["a"].ask(Peek(*copied.about, keys[:1])).age == 0
    assert 0 <= copied["b"].ask(Peek(*copied.about, keys[:1])).age < LEASE_MS
    copied.cut("a")
    gevent.sleep(LEASE_MS / 1000)
    alone = copied["a"].ask(Peek(*copied.about, keys[:1]))
    assert (alone.records[0].value, alone.age) == (b"1", None)


@pytest.mark.promise("I23")
def test_copy_that_does_not_count_is_not_peeked_at(town: Make) -> None:
    copied = town()
    key = copied.keys_of("a")[0]
    copied["c"].kill()
    copied.change(c={"state": State.DOWN})
    copied.show("a", "b")
    copied.restart("c", 7)
    copied.change(c={"incarnation": 7, "state": State.FILLING})
    copied.show()
    answer = copied["c"].ask(Peek(*copied.about, [key]))
    assert isinstance(answer, Refused)
    assert answer.reason is NodeRefusal.NOT_ACTING
