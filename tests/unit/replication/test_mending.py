"""Damaged records that a look has found, at a primary and at a granter."""

import pytest

from gkv.model import Damage, Effect, Record
from gkv.replication import actions, events
from gkv.replication import messages as m
from gkv.replication.actions import Commit, Fate
from gkv.replication.mending import MOST_TOLD
from tests.duties import duties, roles, version
from tests.unit.replication.test_replica import Bench, get, put

OLD = Record(version(1, 0), b"1")
LEARNING = duties("a", 1, roles("ab", "c"))


def granter(me: str = "b", records: dict[str, Record | Damage] | None = None) -> Bench:
    bench = Bench(me, records)
    bench.adopt(duties(me, 1, roles("ab", "c")))
    bench.on(events.NoteKept(True))
    bench.wanted = []
    return bench


@pytest.mark.parametrize("me", ["b", "c"])
def test_granter_tells_the_primary_of_damaged_records(me: str) -> None:
    bench = granter(me)
    bench.on(events.DamageFound(["k", "x"]))
    assert bench.take(actions.Send) == [actions.Send("a", bench.document.era, m.FoundDamaged(0, ("k", "x")))]
    bench.on(events.DamageFound([f"k{number}" for number in range(MOST_TOLD + 9)]))
    [told] = bench.sent(m.FoundDamaged, "a")
    assert len(told.message.keys) == MOST_TOLD


def test_whoever_is_in_no_list_or_down_tells_nobody() -> None:
    bench = Bench("d")
    bench.adopt(duties("d", 1, roles("abc")))
    bench.on(events.DamageFound(["k"]))
    bench.adopt(duties("d", 2, roles("abd", preference="abd"), down="d"))
    bench.wanted = []
    bench.on(events.DamageFound(["k"]))
    assert bench.take(actions.Send) == []


def test_primary_writes_its_own_record_anew_or_its_absence() -> None:
    bench = Bench(records={"k": OLD, "gone": Record(version(2, 0), None)}).opened(LEARNING)
    bench.hear("b", m.FoundDamaged(0, ("k", "gone", "never")))
    [commit] = bench.take(Commit)
    assert (commit.write.keys, commit.write.values) == (["k", "gone", "never"], [b"1", None, None])
    assert list(commit.write.tags) == [version(1, 0), version(2, 0), None]
    assert {one.to for one in bench.sent(m.Copy)} == {"b", "c"}


@pytest.mark.parametrize("found", [None, OLD])
def test_primary_asks_whoever_else_acts_before_it_says_that_there_is_nothing(found: Record | None) -> None:
    """Its own may be lost, as the key in it is not what was written."""
    bench = Bench(records={}).opened(duties("a", 1, roles("abc")))
    bench.hear("b", m.FoundDamaged(0, ("k",)))
    assert bench.take(Commit) == []
    [asked] = bench.sent(m.AskRecord)
    assert (asked.to, asked.message.key) == ("c", "k")
    bench.hear("c", m.FoundRecord(asked.message.number, found))
    [commit] = bench.take(Commit)
    assert (commit.write.keys, commit.write.values) == (["k"], [found and found.value])


def test_granter_is_repaired_by_that() -> None:
    primary, backup = Bench(records={"k": OLD}).opened(LEARNING), granter(records={"k": Damage.DAMAGED})
    backup.on(events.DamageFound(["k"]))
    [word] = backup.sent(m.FoundDamaged)
    primary.hear("b", word.message)
    [copy] = [one for one in primary.sent(m.Copy) if one.to == "b"]
    backup.hear("a", copy.message)
    [commit] = backup.take(Commit)
    assert commit.write.repairs
    backup.on(events.Committed(commit.token, [Effect.DAMAGED]))
    assert [one.message.versions for one in backup.sent(m.Copied)] == [(commit.write.version,)]


def test_primary_leaves_to_a_write_under_way_what_that_brings() -> None:
    bench = Bench(records={"k": OLD}).opened(LEARNING)
    bench.on(put("x", "k"))
    assert len(bench.take(Commit)) == 1
    bench.hear("b", m.FoundDamaged(0, ("k",)))
    assert bench.take(Commit) == []


def test_primary_does_nothing_for_whoever_copies_nothing_of_it() -> None:
    bench = Bench(records={"k": OLD}).opened(duties("a", 1, roles("ab", preference="ab")))
    bench.hear("c", m.FoundDamaged(0, ("k",)))
    bench.hear("b", m.FoundDamaged(0, ("k",)), bench.document.era - 1)
    assert bench.take(Commit) == []
    bench.adopt(duties("a", 2, roles("ba", preference="ab")))
    bench.hear("b", m.FoundDamaged(0, ("k",)))
    assert bench.take(Commit) == []


def test_primary_writes_nothing_of_a_list_that_is_not_open_or_is_held() -> None:
    bench = Bench(records={"k": OLD})
    bench.adopt(LEARNING)
    bench.hear("b", m.FoundDamaged(0, ("k",)))
    assert bench.take(Commit) == []
    bench.obey()
    held = events.PauseAsked(1, bench.document.era, (events.pair_of(bench.document.roles[0]),))
    bench.on(held)
    bench.hear("b", m.FoundDamaged(0, ("k",)))
    assert bench.take(Commit) == []
    bench.on(events.GoOn(1))
    bench.hear("b", m.FoundDamaged(0, ("k",)))
    assert len(bench.take(Commit)) == 1


def test_values_are_not_written_anew_without_room_and_tombstones_are() -> None:
    bench = Bench(records={"k": OLD}).opened(LEARNING)
    bench.shelf.is_full = True
    bench.hear("b", m.FoundDamaged(0, ("k",)))
    assert bench.take(Commit) == []
    bench.shelf.is_full = False
    bench.replica.desk.questions.has_room("c", False)  # which has to take the write as well
    bench.hear("b", m.FoundDamaged(0, ("k", "gone")))
    [commit] = bench.take(Commit)
    assert commit.write.keys == ["gone"]


def test_one_word_has_a_bounded_number_of_records_written_and_of_bytes() -> None:
    records = {f"k{number}": OLD for number in range(MOST_TOLD + 9)}
    bench = Bench(records=records).opened(LEARNING)
    bench.hear("b", m.FoundDamaged(0, tuple(records)))
    assert sum(len(one.write.keys) for one in bench.take(Commit)) == MOST_TOLD
    bench = Bench(records={f"k{number}": Record(version(1, 0), b"x" * 600_000) for number in range(9)}).opened(LEARNING)
    bench.hear("b", m.FoundDamaged(0, tuple(bench.shelf.records)))
    assert sum(len(one.write.keys) for one in bench.take(Commit)) == 2


def test_primary_recovers_what_is_damaged_there_too_before_it_writes_anything() -> None:
    bench = Bench(records={"k": Damage.DAMAGED}).opened(duties("a", 1, roles("abc")))
    bench.hear("b", m.FoundDamaged(0, ("k",)))
    assert bench.take(Commit) == []
    asked = bench.sent(m.AskRecord)
    assert [one.to for one in asked] == ["b", "c"]
    bench.hear("b", m.FoundRecord(asked[0].message.number, Damage.DAMAGED))
    bench.hear("c", m.FoundRecord(asked[1].message.number, OLD))
    [commit] = bench.take(Commit)
    assert (commit.write.values, commit.write.tags) == ([b"1"], [OLD.version])


def written(bench: Bench) -> Commit:
    """Have a client's write settled; return its commit."""
    bench.on(put("x", "k"))
    [commit] = bench.take(Commit)
    bench.on(events.Committed(commit.token))
    for copy in bench.sent(m.Copy):
        bench.hear(copy.to, m.Copied(copy.message.number, (commit.write.version,)))
    return commit


@pytest.mark.promise("I2")
def test_answer_from_before_a_write_brings_nothing_back_though_the_record_of_that_is_damaged_as_well() -> None:
    """The write is settled, and nobody may be told what was there before it."""
    bench = Bench(records={"k": Damage.DAMAGED}).opened(duties("a", 1, roles("abc")))
    bench.on(events.DamageFound(["k"]))
    early, late = bench.sent(m.AskRecord)
    bench.hear("b", m.FoundRecord(early.message.number, OLD))
    bench.take(actions.Send)
    commit = written(bench)
    assert bench.fates() == [[Fate.WRITTEN]]
    bench.shelf.records["k"] = Damage.DAMAGED
    bench.hear("c", m.FoundRecord(late.message.number, OLD))
    assert bench.take(Commit) == []
    bench.take(actions.Send)
    bench.on(get("y", "k"))
    again = bench.sent(m.AskRecord)
    assert [one.to for one in again] == ["b", "c"]
    newest = Record(commit.write.version, b"1")
    for one in again:
        bench.hear(one.to, m.FoundRecord(one.message.number, newest))
    [commit] = bench.take(Commit)
    assert list(commit.write.tags) == [newest.version]


@pytest.mark.promise("I2")
def test_record_that_is_damaged_again_while_answers_of_before_are_awaited_is_asked_for_anew() -> None:
    bench = Bench(records={"k": Damage.DAMAGED}).opened(duties("a", 1, roles("abc")))
    bench.on(events.DamageFound(["k"]))
    first = bench.sent(m.AskRecord)
    bench.take(actions.Send)
    commit = written(bench)
    bench.shelf.records["k"] = Damage.DAMAGED
    bench.take(actions.Send)
    bench.on(events.DamageFound(["k"]))
    second = bench.sent(m.AskRecord)
    assert [one.to for one in second] == ["b", "c"]
    for one in first:
        bench.hear(one.to, m.FoundRecord(one.message.number, OLD))
    assert bench.take(Commit) == []
    for one in second:
        bench.hear(one.to, m.FoundRecord(one.message.number, Record(commit.write.version, b"1")))
    assert [one.write.values for one in bench.take(Commit)] == [[b"1"]]


def test_primary_recovers_what_is_damaged_or_lost_at_itself_and_nothing_else() -> None:
    bench = Bench(records={"k": Damage.DAMAGED, "x": OLD}).opened(duties("a", 1, roles("ab", preference="ab")))
    bench.on(events.DamageFound(["k", "x", "lost"]))
    asked = {one.message.key: one.message.number for one in bench.sent(m.AskRecord)}
    assert set(asked) == {"k", "lost"}
    for number in asked.values():
        bench.hear("b", m.FoundRecord(number, OLD))
    assert sorted(key for one in bench.take(Commit) for key in one.write.keys) == ["k", "lost"]


def test_list_that_is_not_open_is_not_recovered() -> None:
    bench = Bench(records={"k": Damage.DAMAGED})
    bench.adopt(duties("a", 1, roles("abc")))
    bench.on(events.DamageFound(["k"]))
    assert bench.sent(m.AskRecord) == []


def test_record_that_nobody_else_has_is_absent_and_is_read_as_that() -> None:
    """It is a tombstone that all others have forgotten: an acting member has all that is settled."""
    bench = Bench(records={"k": Damage.DAMAGED}).opened(duties("a", 1, roles("abc")))
    bench.on(get("x", "k"))
    for one in bench.sent(m.AskRecord):
        bench.hear(one.to, m.FoundRecord(one.message.number, None))
    [commit] = bench.take(Commit)
    assert commit.write.values == [None]
    bench.on(events.Committed(commit.token))
    bench.obey()
    [answer] = bench.take(actions.Answer)
    assert [one.fate for one in answer.each] == [Fate.READ]
    assert answer.each[0].record.value is None
