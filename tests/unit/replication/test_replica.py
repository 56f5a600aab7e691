"""The machines of one process, bound together: what goes in, and what comes out."""

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import pytest

from gkv.duties import Duties, Fault
from gkv.model import Damage, Effect, Record, Version, Write
from gkv.pace import USUAL_PACE, Pace
from gkv.replication import actions, events
from gkv.replication import messages as m
from gkv.replication.actions import Answer, Commit, Complain, End, Fate, Fetch, KeepNote, Report, Send
from gkv.replication.admission import Verdict, judge_write
from gkv.replication.conditions import Condition
from gkv.replication.expiry import DueTime
from gkv.replication.pages import Rate
from gkv.replication.records import Parts, Range, Rows
from gkv.replication.replica import Replica
from gkv.replication.versions import Versions
from tests.duties import INCARNATIONS, duties, roles, version, write

FIRST = duties("a", 1, roles("abc"))
TOO_FEW = duties("a", 1, roles("a", "bc"), min_in_sync=2)


class Shelf:
    """Records, as an engine has them."""

    def __init__(self, records: dict[str, Record | Damage] | None = None) -> None:
        self.records = records or {}
        self.is_full = self.compares = False
        self.summed_up = "~"
        """The cursor up to which sums are there."""
        self.lost: set[str] = set()
        """Keys whose records are not where they are looked for."""

    def has_room(self, _size: int, _keys: int) -> bool:
        return not self.is_full

    def newest(self, keys: Sequence[str]) -> list[Record | Damage | None]:
        return [Damage.DAMAGED if key in self.lost else self.records.get(key) for key in keys]

    def look(self, pair: events.Pair, ranges: Sequence[Range], limit: int) -> Rows:
        found: dict[str, Record | Damage] = {}
        for whole, (after, upto) in enumerate(ranges):
            for key in self.between(pair, after, upto):
                if len(found) == limit:
                    return Rows(found, whole, list(found)[-1])
                found[key] = self.records[key]
        return Rows(found, len(ranges))

    def fingerprints(self, rows: Sequence[tuple[str, Record]]) -> list[int]:
        return [zlib.crc32(repr(row).encode()) for row in rows]

    def known(self, records: Mapping[str, Record | Damage]) -> dict[str, int]:
        return {key: self.print_of(key) for key in records}

    def print_of(self, key: str) -> int:
        return self.fingerprints([(key, self.records[key])])[0]

    def is_summed_up(self, after: str) -> bool:
        return after < self.summed_up

    def sums(self, pair: events.Pair, after: str, without: Collection[str] = ()) -> Parts:
        """Return a part for each key, and one behind them."""
        keys = self.between(pair, after, None)
        sums = [None if key in without else self.print_of(key) for key in keys]
        return Parts([*sums, 0], [*keys, None])

    def between(self, _pair: events.Pair, after: str, upto: str | None) -> list[str]:
        return sorted(key for key in self.records if key > after and (upto is None or key <= upto) and key not in self.lost)


class Bench:
    """One process, and all that it has wanted since it was asked last."""

    def __init__(self, me: str = "a", records: dict[str, Record | Damage] | None = None, *, noted: bool = False) -> None:
        self.shelf = Shelf(records)
        self.replica = Replica(me, INCARNATIONS[me], self.shelf, DueTime(0, 0), 0.0, noted=noted)
        self.now = 0.0
        self.document: Duties = FIRST
        self.wanted: list[actions.Action] = []

    def on(self, event: events.Event) -> list[actions.Action]:
        """Give it an event; commits are merged on the shelf once they are said to be on the disk."""
        found = self.replica.handle(event, self.now)
        if self.replica.has_new:
            found = found + self.replica.handle(events.HandOver(), self.now)
        self.wanted += found
        return found

    def adopt(self, document: Duties) -> list[actions.Action]:
        self.document = document
        return self.on(events.Adopted(document))

    def hear(self, sender: str, message: m.Message, era: int | None = None) -> list[actions.Action]:
        line = self.document.lines[sender]
        return self.on(events.Received(sender, line.incarnation, self.document.era if era is None else era, message))

    def sent(self, kind: type, to: str | None = None) -> list[m.Message]:
        """Take the messages of one kind that it has wanted to send."""
        return [one for one in self.take(Send) if isinstance(one.message, kind) and to in (None, one.to)]

    def take(self, kind: type) -> list:
        """Take out the wanted actions of one kind."""
        found = [one for one in self.wanted if isinstance(one, kind)]
        self.wanted = [one for one in self.wanted if not isinstance(one, kind)]
        return found

    def commit(self) -> None:
        """Have the disk do all that was handed over, and go on with what follows."""
        for one in [*self.take(Commit), *self.take(actions.Replace)]:
            records = _records(one.write) if isinstance(one, Commit) else list(one.records)
            for key, record in records:
                old = self.shelf.records.get(key)
                if isinstance(one, actions.Replace) or not isinstance(old, Record) or old.version < record.version:
                    self.shelf.records[key] = record
            if isinstance(one, actions.Replace):
                self.shelf.records |= dict.fromkeys(one.damaged, Damage.DAMAGED)
                for key in one.drops:
                    self.shelf.records.pop(key, None)
            self.on(events.Committed(one.token))

    def obey(self) -> None:
        """Have its granters answer all that it has asked of them; the learners' and backups' disks are at hand."""
        while asked := [one for one in self.take(Send) if isinstance(one.message, m.Copy | m.AskLease | m.AskUnsettled)]:
            for one in asked:
                match one.message:
                    case m.Copy(number, writes, _):
                        self.hear(one.to, m.Copied(number, tuple(part.version for part in writes)))
                    case m.AskLease(number):
                        self.hear(one.to, m.Granted(number))
                    case m.AskUnsettled(number):
                        self.hear(one.to, m.UnsettledKeys(number))

    def opened(self, document: Duties = FIRST) -> "Bench":
        """Have it take over and open its lists."""
        self.adopt(document)
        self.obey()
        self.wanted = []
        return self

    def fates(self) -> list[list[Fate]]:
        return [[one.fate for one in answer.each] for answer in self.take(Answer)]


def _records(write: Write) -> list[tuple[str, Record]]:
    return [
        (
            key,
            Record(
                write.version, value, write.expires[place] if write.expires else 0, write.tags[place] if write.tags else None
            ),
        )
        for place, (key, value) in enumerate(zip(write.keys, write.values, strict=True))
    ]


def put(
    client: str, *keys: str, value: bytes | None = b"1", demand: Condition | None = None, expires: int = 0, within: float = 9.0
) -> events.WriteAsked:
    if demand is None and not expires:
        return events.WriteAsked(client, keys, events.Plain([value] * len(keys)), within)

    def judge(_place: int, found: Record | Damage | None, now: int) -> Verdict:
        return judge_write(found, now, demand, value, expires)

    return events.WriteAsked(client, keys, judge, within)


def get(client: str, *keys: str, within: float = 9.0) -> events.ReadAsked:
    return events.ReadAsked(client, keys, within)


# -- a write


@pytest.mark.promise("I21")
def test_write_is_acknowledged_when_the_disk_and_all_granters_have_it() -> None:
    """W3."""
    bench = Bench().opened()
    bench.on(put("x", "k"))
    (commit,) = bench.take(Commit)
    first, second = bench.take(Send)
    assert (first.to, second.to) == ("b", "c")
    assert first.message.writes == (commit.write,)
    bench.hear("b", m.Copied(first.message.number, (commit.write.version,)))
    bench.on(events.Committed(commit.token))
    assert bench.fates() == []
    bench.hear("c", m.Copied(second.message.number, (commit.write.version,)))
    assert bench.take(Answer)[0].version == commit.write.version


@pytest.mark.promise("I21")
@pytest.mark.parametrize(
    ("sender", "incarnation", "era"),
    [
        pytest.param("c", 30, FIRST.era - 1, id="F4: an older epoch"),
        pytest.param("c", 31, FIRST.era, id="another process than the document's"),
        pytest.param("b", 20, FIRST.era, id="the other granter, once more"),
    ],
)
def test_answer_acknowledges_nothing_unless_it_is_of_this_epoch_and_process(sender: str, incarnation: int, era: int) -> None:
    bench = Bench().opened()
    bench.on(put("x", "k"))
    bench.commit()
    to_b, to_c = bench.take(Send)
    bench.hear("b", m.Copied(to_b.message.number, (version(1),)))
    bench.on(events.Received(sender, incarnation, era, m.Copied(to_c.message.number, (version(1),))))
    assert bench.fates() == []
    bench.hear("c", m.Copied(to_c.message.number, (version(1),)))
    assert bench.fates() == [[Fate.WRITTEN]]


def test_primary_complains_of_its_own_disk_once_that_has_ended_nothing_for_the_disk_timeout() -> None:
    """A2: also of one that works and works, its granters alone have had the writes."""
    bench = Bench().opened()

    def complaints(now: float) -> list[Complain]:
        bench.now = now
        bench.on(events.Tick())
        bench.obey()
        return bench.take(Complain)

    bench.on(put("x", "k", within=99))
    assert [complaints(at) for at in (0.1, 5.0, 10.0)] == [[], [], []]
    bench.on(put("y", "m", within=99))
    assert complaints(10.1) == [Complain("a", Fault.SLOW_DISK)]
    bench.on(events.Committed(bench.take(Commit)[0].token))
    assert [complaints(at) for at in (10.5, 20.25)] == [[], []]
    assert complaints(20.5) == [Complain("a", Fault.SLOW_DISK)]
    bench.on(events.Committed(2))
    assert complaints(30.5) == []


def test_write_with_too_few_copies_is_not_begun() -> None:
    """W1."""
    bench = Bench().opened(TOO_FEW)
    bench.on(put("x", "k"))
    assert bench.fates() == [[Fate.TOO_FEW_COPIES]]
    assert bench.wanted == []


def test_settled_write_with_too_few_copies_is_indeterminate_and_readable() -> None:
    """W6, F15."""
    bench = Bench().opened(duties("a", 1, roles("ab", "c"), min_in_sync=2))
    bench.on(put("x", "k"))
    bench.commit()
    bench.adopt(duties("a", 2, roles("a", "c"), down="b", min_in_sync=2))
    bench.obey()
    assert bench.fates() == [[Fate.INDETERMINATE]]
    bench.on(get("y", "k"))
    bench.obey()
    (answer,) = bench.take(Answer)
    assert answer.each[0].record.version == version(1)


def test_write_is_indeterminate_at_its_deadline_and_sent_on() -> None:
    """W6."""
    bench = Bench().opened()
    bench.on(put("x", "k", within=0.2))
    bench.commit()
    bench.now = 0.25
    bench.take(Send)
    bench.on(events.Tick())
    assert bench.fates() == [[Fate.INDETERMINATE]]
    assert [one.to for one in bench.take(Send)] == ["b", "c"]
    assert len(bench.replica.writing.primary) == 1


@pytest.mark.parametrize("value", [b"1", None])
def test_write_under_way_when_another_becomes_primary_is_indeterminate_and_stays_unsettled(
    value: bytes | None,
) -> None:
    """W8, F8: a plain put too."""
    bench = Bench().opened()
    bench.on(put("x", "k", value=value))
    bench.adopt(duties("a", 2, roles("bac")))
    assert bench.fates() == [[Fate.INDETERMINATE]]
    bench.hear("b", m.AskUnsettled(1))
    bench.on(events.NoteKept(True))
    assert [one.message for one in bench.sent(m.UnsettledKeys)] == [m.UnsettledKeys(1, ("k",))]
    assert not bench.replica.may_forget("k")


def test_request_that_was_never_begun_is_routed_anew() -> None:
    """W8."""
    bench = Bench()
    bench.adopt(FIRST)
    bench.on(put("x", "k"))
    bench.on(get("y", "k"))
    assert bench.fates() == []
    bench.adopt(duties("a", 2, roles("bac")))
    assert bench.fates() == [[Fate.NOT_BEGUN], [Fate.NOT_BEGUN]]


def test_still_primary_sends_all_that_is_unsettled_under_the_new_epoch() -> None:
    """W7."""
    bench = Bench().opened()
    bench.on(put("x", "k"))
    bench.commit()
    bench.take(Send)
    bench.adopt(duties("a", 2, roles("ab", "c")))
    assert [(one.to, one.era, [part.version for part in one.message.writes]) for one in bench.take(Send)] == [
        ("b", FIRST.era + 1, [version(1)]),
        ("c", FIRST.era + 1, [version(1)]),
    ]


@pytest.mark.promise("I20")
def test_condition_that_fails_is_a_read_of_what_made_it_fail() -> None:
    """W9, F11: it waits for that write, and needs leases."""
    bench = Bench().opened()
    bench.now = 2.0  # all leases of the takeover have run out
    bench.on(put("x", "k"))
    bench.commit()
    bench.on(put("y", "k", demand=Condition.one_of([version(7)])))
    assert bench.fates() == []
    asked = bench.take(Send)
    bench.now = 3.5  # and those of these frames
    for one in asked:
        bench.hear(one.to, m.Copied(one.message.number, (version(1),)))
    assert bench.fates() == [[Fate.WRITTEN]]
    bench.obey()
    (answer,) = bench.take(Answer)
    assert (answer.each[0].fate, answer.each[0].verdict.effect) == (Fate.NOTHING, Effect.CONDITION)
    assert answer.each[0].verdict.present == version(1)


def test_condition_is_judged_on_the_newest_admitted_record() -> None:
    """W2."""
    bench = Bench().opened()
    bench.on(put("x", "k"))
    bench.on(put("y", "k", value=b"2", demand=Condition.one_of([version(1)])))
    assert [one.write.version for one in bench.take(Commit)] == [version(1), version(2)]


def test_own_disk_that_fails_ends_the_process() -> None:
    """W10."""
    bench = Bench().opened()
    bench.on(put("x", "k"))
    (commit,) = bench.take(Commit)
    assert isinstance(bench.on(events.CommitFailed(commit.token))[0], End)
    assert bench.fates() == []


def test_keys_of_lists_of_others_are_not_begun_and_the_rest_is() -> None:
    bench = Bench().opened(duties("a", 1, roles("abc"), roles("bac", preference="bac")))
    bench.on(put("x", "0k", "1k"))
    (commit,) = bench.take(Commit)
    assert list(commit.write.keys) == ["0k"]
    bench.on(events.Committed(commit.token))
    bench.obey()
    assert bench.fates() == [[Fate.WRITTEN, Fate.NOT_BEGUN]]


def test_requests_that_wait_are_bounded_and_end_at_their_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkv.replication.request.MOST_WAITING", 1)
    bench = Bench()
    bench.adopt(FIRST)
    bench.on(put("x", "k", within=0.1))
    bench.on(put("y", "k"))
    assert bench.fates() == [[Fate.BUSY]]
    bench.now = 0.1
    bench.on(events.Tick())
    assert bench.fates() == [[Fate.LATE]]


@pytest.mark.promise("I7")
@pytest.mark.parametrize(("name", "bound"), [("MOST_UNSETTLED", 1), ("MOST_UNSETTLED_BYTES", 3)])
def test_no_write_is_begun_while_too_much_is_unsettled(monkeypatch: pytest.MonkeyPatch, name: str, bound: int) -> None:
    monkeypatch.setattr(f"gkv.replication.writing.{name}", bound)
    bench = Bench().opened()
    bench.on(put("x", "k", value=b"123"))
    bench.on(put("y", "k"))
    assert bench.fates() == [[Fate.BUSY]]
    bench.commit()
    bench.obey()
    bench.on(put("y", "k"))
    bench.commit()
    bench.obey()
    assert bench.fates() == [[Fate.WRITTEN], [Fate.WRITTEN]]


# -- a read


def test_read_of_several_lists_waits_for_those_alone_that_are_not_open() -> None:
    """What could be read is told at the deadline; what could not was never begun."""
    bench = Bench()
    bench.adopt(duties("a", 1, roles("ab", preference="ab"), roles("ac", preference="ac")))
    bench.hear("b", m.UnsettledKeys(bench.sent(m.AskUnsettled, "b")[0].message.number))
    bench.on(get("x", "0k", "1k", within=0.2))
    assert bench.fates() == []
    bench.now = 0.2
    bench.on(events.Tick())
    assert bench.fates() == [[Fate.READ, Fate.LATE]]


@pytest.mark.promise("I7")
def test_read_whose_deadline_is_over_leaves_nothing_behind() -> None:
    bench = Bench().opened()
    bench.on(put("x", "k"))
    bench.on(get("y", "k", within=2.5))
    bench.now = 2.0
    bench.on(get("z", "x", within=2.5))
    bench.now = 2.5
    bench.on(events.Tick())
    assert bench.fates() == [[Fate.LATE], [Fate.LATE]]
    assert not bench.replica.readings.busy
    underway = bench.replica.writing.primary.unsettled.newest["k"]
    assert list(underway.on_over) == [underway]


@pytest.mark.promise("I19")
def test_read_waits_for_the_very_write_that_it_has_taken() -> None:
    """F13: a later one changes nothing."""
    bench = Bench().opened()
    bench.on(put("x", "k"))
    bench.commit()
    first = bench.take(Send)
    bench.on(get("y", "k"))
    bench.on(put("z", "k", value=b"2"))
    assert bench.fates() == []
    for one in first:
        bench.hear(one.to, m.Copied(one.message.number, (version(1),)))
    read = bench.take(Answer)[1]
    assert (read.client, read.each[0].record.version) == ("y", version(1))


@pytest.mark.promise("I20")
@pytest.mark.parametrize("late", ["b", "c"])
def test_read_is_answered_only_under_a_valid_lease_of_every_granter(late: str) -> None:
    """Learners too; and the lease is looked at after the waiting."""
    bench = Bench(records={"k": Record(version(1, 0), b"1")}).opened(duties("a", 1, roles("ab", "c")))
    bench.now = 2.0
    bench.on(get("x", "k"))
    asked = {one.to: one.message.number for one in bench.sent(m.AskLease)}
    assert sorted(asked) == ["b", "c"]
    other = "c" if late == "b" else "b"
    bench.hear(other, m.Granted(asked[other]))
    assert bench.fates() == []
    bench.now = 3.0  # when the lease of the other has just run out
    bench.hear(late, m.Granted(asked[late]))
    assert bench.fates() == []
    bench.obey()
    assert bench.fates() == [[Fate.READ]]


def test_lease_is_asked_for_once_and_again_after_a_while() -> None:
    bench = Bench().opened()
    bench.now = 2.0
    bench.on(get("x", "k"))
    bench.on(get("y", "k"))
    assert len(bench.sent(m.AskLease)) == 2
    bench.now = 2.25
    bench.on(events.Tick())
    assert len(bench.sent(m.AskLease)) == 2


@pytest.mark.promise("I20")
def test_read_of_a_list_that_was_closed_meanwhile_is_routed_anew() -> None:
    bench = Bench().opened()
    bench.now = 2.0
    bench.on(get("x", "k"))
    bench.adopt(duties("a", 3, roles("abc")))  # M3
    bench.obey()
    assert bench.fates() == [[Fate.NOT_BEGUN]]


@pytest.mark.promise("I3")
def test_value_that_is_due_is_told_as_missing_once_its_tombstone_is_settled() -> None:
    bench = Bench(records={"k": Record(version(1, 0), b"1", expires=500)}).opened(
        duties("a", 1, roles("a", "bc"), min_in_sync=2)
    )
    bench.now = 0.6
    bench.on(get("x", "k"))
    (commit,) = bench.take(Commit)
    assert commit.write.values == [None]
    bench.on(events.Committed(commit.token))
    assert bench.fates() == []
    bench.obey()
    (answer,) = bench.take(Answer)
    assert answer.each[0].record.value is None


def test_sweeper_writes_tombstones_of_what_is_due_still() -> None:
    bench = Bench(records={"k": Record(version(1, 0), b"1", expires=500), "x": Record(version(1, 0), b"1")}).opened()
    bench.now = 0.6
    bench.on(events.DueFound(["k", "x", "k"]))
    (commit,) = bench.take(Commit)
    assert list(commit.write.keys) == ["k"]
    bench.on(events.DueFound(["k"]))
    assert bench.take(Commit) == []


@pytest.mark.parametrize(
    ("found", "fate"),
    [(Record(version(3, 0), b"3"), Fate.READ), (Damage.DAMAGED, Fate.DAMAGED), (None, Fate.DAMAGED)],
)
def test_damaged_record_is_recovered_from_the_other_acting_members(found: Record | Damage | None, fate: Fate) -> None:
    bench = Bench(records={"k": Damage.DAMAGED}).opened(duties("a", 1, roles("abd", "c", preference="abcd")))
    bench.on(get("x", "k"))
    asked = [(one.to, one.message) for one in bench.sent(m.AskRecord)]
    assert [to for to, _ in asked] == ["b", "d"]
    bench.hear("b", m.FoundRecord(asked[0][1].number, Damage.DAMAGED))
    bench.hear("c", m.FoundRecord(asked[1][1].number, Record(version(9, 0), b"9")))  # which was asked of d
    assert bench.fates() == []
    bench.hear("d", m.FoundRecord(asked[1][1].number, found))
    if isinstance(found, Record):
        (commit,) = bench.take(Commit)
        assert (commit.write.version, commit.write.tags) == (version(1), [version(3, 0)])
        bench.on(events.Committed(commit.token))
        bench.obey()
    assert bench.fates() == [[fate]]


# -- epochs


@pytest.mark.parametrize(
    "message",
    [
        m.Copy(5, (write(1, "k"),)),
        m.AskUnsettled(5),
        m.AskLease(5),
        m.Hello(5),
        m.AskPage(5, (), (), ()),
        m.AskSums(5, (), (), ""),
    ],
)
def test_call_of_an_older_epoch_is_answered_with_the_epoch_and_nothing_else(message: m.Message) -> None:
    """M1, F4."""
    bench = Bench("b")
    bench.adopt(duties("b", 2, roles("abc")))
    bench.wanted = []
    bench.hear("a", message, FIRST.era)
    assert bench.wanted == [Send("a", FIRST.era + 1, m.Behind(5))]
    assert not bench.replica.copying.granter.is_unsettled("k")


def test_call_of_a_later_epoch_is_answered_once_that_document_is_here() -> None:
    """M1: who is behind fetches it, once."""
    bench = Bench("b")
    bench.adopt(duties("b", 1, roles("abc")))
    bench.wanted = []
    later = duties("b", 2, roles("abc"))
    bench.hear("a", m.AskUnsettled(5), later.era)
    bench.hear("a", m.Hello(6), later.era)
    assert bench.wanted == [Fetch("a", later.era)]
    bench.adopt(later)
    bench.on(events.NoteKept(True))
    assert [one.message for one in bench.take(Send)] == [m.HelloBack(6), m.UnsettledKeys(5)]


def test_calls_of_an_epoch_that_never_comes_take_no_place_from_others() -> None:
    bench = Bench("b")
    bench.adopt(duties("b", 1, roles("abc")))
    never = duties("b", 9, roles("abc"))
    for number in range(300):
        bench.hear("a", m.Hello(number), never.era)
    later = duties("b", 2, roles("abc"))
    bench.hear("a", m.Hello(1_000), later.era)
    bench.adopt(later)
    assert m.HelloBack(1_000) in [one.message for one in bench.take(Send)]


@pytest.mark.promise("I21")
@pytest.mark.parametrize(
    ("sender", "document"),
    [
        pytest.param("c", duties("b", 1, roles("abc")), id="not the primary"),
        pytest.param("a", duties("b", 1, roles("ac", preference="ac")), id="no list of this member"),
        pytest.param(
            "a", duties("b", 1, roles("cab"), roles("abc"), key_list=0), id="the primary of another list of this member"
        ),
        pytest.param("a", duties("b", 1, roles("ac"), down="b"), id="M2: down"),
        pytest.param("a", duties("b", 1, roles("abc"), others={"b": 21}), id="M2: another process is the member"),
    ],
)
def test_frame_is_taken_only_from_the_primary_by_a_granter(sender: str, document: Duties) -> None:
    bench = Bench("b")
    bench.adopt(document)
    bench.wanted = []
    bench.hear(sender, m.Copy(1, (write(1, "k"),)))
    assert [one for one in bench.wanted if not isinstance(one, Report)] == []


def test_process_ends_that_finds_another_in_its_line_but_not_one_that_was_never_there() -> None:
    """M2."""
    bench = Bench("b")
    other = {"b": 21}
    assert bench.adopt(duties("b", 1, roles("abc"), others=other)) == []
    bench.adopt(duties("b", 2, roles("abc")))
    assert any(isinstance(one, End) for one in bench.adopt(duties("b", 3, roles("abc"), others=other)))


def test_process_whose_member_is_none_any_more_stands_without_keys_and_does_not_end() -> None:
    bench = Bench("b")
    bench.adopt(duties("b", 2, roles("bac")))
    without = duties("b", 3, roles("ac", preference="ac"))
    gone = replace(without, lines={one: line for one, line in without.lines.items() if one != "b"})
    assert not any(isinstance(one, End) for one in bench.adopt(gone))
    assert not bench.replica.desk.serves


def test_process_that_is_down_serves_nothing_and_confirms_its_epoch() -> None:
    """M2."""
    bench = Bench()
    bench.adopt(duties("a", 1, roles("bc"), down="a"))
    bench.on(get("x", "k"))
    assert bench.fates() == [[Fate.NOT_BEGUN]]
    bench.hear("b", m.Hello(3))
    assert [one.message for one in bench.take(Send)] == [m.HelloBack(3)]


# -- a granter


@pytest.mark.promise("I20")
def test_nothing_is_granted_before_the_note_is_on_the_disk() -> None:
    """T2, F7: the frame is committed meanwhile."""
    bench = Bench("b")
    bench.adopt(duties("b", 1, roles("abc")))
    bench.wanted = []
    bench.hear("a", m.Copy(1, (write(1, "k"),)))
    assert bench.take(KeepNote) == [KeepNote(True)]
    bench.commit()
    assert bench.take(Send) == []
    bench.on(events.NoteKept(True))
    assert [one.message for one in bench.take(Send)] == [m.Copied(1, (version(1),))]


def test_granter_is_told_what_is_settled_with_the_next_frame() -> None:
    """W5."""
    bench = Bench("b", noted=True)
    bench.adopt(duties("b", 1, roles("abc")))
    bench.hear("a", m.Copy(1, (write(1, "k"),)))
    bench.hear("a", m.Copy(2, (write(2, "x"),), (version(1),)))
    bench.hear("a", m.AskUnsettled(3))
    assert bench.sent(m.UnsettledKeys)[-1].message.keys == ("x",)


def test_primary_tells_what_is_settled_with_the_next_frame_or_after_a_while() -> None:
    bench = Bench().opened()
    bench.on(put("x", "k"))
    bench.commit()
    bench.obey()
    bench.on(put("y", "k"))
    assert [one.message.settled for one in bench.take(Send)] == [(version(1),), (version(1),)]
    bench.commit()
    for granter in "bc":
        bench.hear(granter, m.Copied(99, (version(2),)))
    bench.now = 0.25
    bench.on(events.Tick())
    assert [one.message.settled for one in bench.sent(m.Copy)] == [(version(2),), (version(2),)]


def test_frame_that_comes_again_during_a_long_commit_is_answered_with_how_long_that_takes() -> None:
    """A2: slow is not dead."""
    bench = Bench("b", noted=True)
    bench.adopt(duties("b", 1, roles("abc")))
    bench.hear("a", m.Copy(1, (write(1, "k"),)))
    bench.wanted = bench.take(Commit)
    bench.now = 3.0
    bench.hear("a", m.Copy(2, (write(1, "k"),)))
    assert bench.take(Send) == [Send("a", FIRST.era, m.Working(2, 3.0))]
    bench.commit()
    assert [one.message.number for one in bench.sent(m.Copied)] == [1, 2]


@pytest.mark.promise("I21")
def test_key_of_a_write_stays_unsettled_that_has_another_primary_than_the_one_that_settles_the_rest() -> None:
    """W8: `0k` of the write has a new primary, which has yet to ask; the old one goes on with `1k`."""
    bench = Bench("c", noted=True)
    bench.adopt(duties("c", 1, roles("abc"), roles("acd", preference="acd")))
    bench.hear("a", m.Copy(1, (write(1, "0k", "1k"),)))
    bench.adopt(duties("c", 2, roles("bac"), roles("acd", preference="acd")))
    bench.hear("a", m.Copy(2, (write(1, "1k"),)))
    bench.hear("a", m.Copy(3, (), (version(1),)))
    bench.hear("b", m.AskUnsettled(1))
    assert bench.sent(m.UnsettledKeys)[-1].message.keys == ("0k",)


def test_granter_whose_disk_fails_ends_and_does_not_say_that_it_is_full() -> None:
    bench = Bench("b", noted=True)
    bench.adopt(duties("b", 1, roles("abc")))
    bench.hear("a", m.Copy(7, (write(1, "k"),)))
    assert [type(one) for one in bench.on(events.CommitFailed(bench.take(Commit)[0].token))] == [End]


def test_granter_without_room_is_told_of_and_has_values_refused_until_it_has_some() -> None:
    """W1, A2: a delete is not refused."""
    bench = Bench("b", noted=True)
    bench.adopt(duties("b", 1, roles("abc")))
    bench.hear("a", m.Copy(7, (write(1, "k"),)))
    bench.on(events.CommitFailed(bench.take(Commit)[0].token, full=True))
    assert bench.take(Send) == [Send("a", FIRST.era, m.Full(7))]

    bench = Bench().opened()
    bench.on(put("x", "k"))
    bench.commit()
    bench.hear("b", m.Full(bench.sent(m.Copy, "b")[0].message.number))
    bench.on(put("y", "k"))
    (answer,) = bench.take(Answer)
    assert (answer.each[0].fate, answer.each[0].member) == (Fate.FULL, "b")
    bench.on(put("z", "k", value=None))
    assert len(bench.take(Commit)) == 1
    bench.now = 0.25
    bench.on(events.Tick())
    assert bench.take(Complain) == [Complain("b", Fault.FULL)]
    bench.obey()
    bench.on(put("y", "k"))
    assert len(bench.take(Commit)) == 1


def test_granter_that_says_nothing_is_complained_of() -> None:
    """A2."""
    bench = Bench().opened()
    bench.on(put("x", "k"))
    bench.hear("b", m.Copied(bench.sent(m.Copy, "b")[0].message.number, (version(1),)))
    for bench.now in (0.3, 0.6, 0.9, 1.0):
        assert bench.take(Complain) == []
        bench.on(events.Tick())
    assert bench.take(Complain) == [Complain("c", Fault.SILENT)]


# -- taking over


@pytest.mark.promise("I22")
def test_keys_that_were_unsettled_are_written_anew_with_their_tags_kept() -> None:
    """T3: the newest record here, its absence as a tombstone."""
    kept = Record(version(9, 0), b"9", 700, version(3, 0))
    bench = Bench(records={"own": kept})
    bench.adopt(FIRST)
    (to_b, to_c) = bench.sent(m.AskUnsettled)
    bench.replica.copying.granter.note(["own"], version(9, 0))
    bench.hear("b", m.UnsettledKeys(to_b.message.number, ("gone",)))
    assert bench.take(Commit) == []
    bench.hear("c", m.UnsettledKeys(to_c.message.number))
    (commit,) = bench.take(Commit)
    assert commit.write == Write(version(1), ["gone", "own"], [None, b"9"], [0, 700], [None, version(3, 0)])
    assert not bench.replica.copying.granter.is_unsettled("own")
    bench.on(get("x", "gone"))
    assert bench.fates() == []
    bench.on(events.Committed(commit.token))
    bench.obey()
    assert bench.fates() == [[Fate.READ]]


@pytest.mark.promise("I20", "I22")
def test_takeover_waits_for_the_grants_of_its_own_process() -> None:
    """T2: until the holder was heard, which it is asked for, or they have run out."""
    for heard in (True, False):
        bench = Bench("b", noted=True)
        bench.now = 5.0
        bench.adopt(duties("b", 1, roles("abc")))
        bench.hear("a", m.AskLease(1))
        bench.adopt(duties("b", 2, roles("bc"), down="a"))
        bench.obey()
        asked = [one for one in bench.replica.handle(events.Tick(), 5.25) if isinstance(one, Send)]
        assert [(one.to, type(one.message)) for one in asked] == [("a", m.Hello)]
        bench.on(get("x", "k"))
        assert bench.fates() == []
        if heard:
            bench.hear("a", m.HelloBack(0))
        else:
            assert bench.replica.wakes_at <= 6.05
            bench.now = 6.06
            bench.on(events.Tick())
        bench.obey()
        assert bench.fates() == [[Fate.READ]]


def test_with_one_copy_a_process_serves_at_once() -> None:
    bench = Bench()
    bench.adopt(duties("a", 1, roles("a", preference="a")))
    bench.on(put("x", "k"))
    bench.commit()
    bench.on(get("y", "k"))
    assert bench.fates() == [[Fate.WRITTEN], [Fate.READ]]
    assert bench.take(Send) == []


def test_with_one_copy_who_is_to_have_a_key_has_its_writes_before_they_are_acknowledged() -> None:
    bench = Bench().opened(duties("a", 1, roles("a", preference="a"), ring="Q"))
    bench.adopt(duties("a", 2, roles("a", "d", preference="a", coming="d"), ring="Q", coming_ring="R"))
    bench.on(put("x", "k"))
    bench.commit()
    assert bench.fates() == []
    assert [one.to for one in bench.wanted if isinstance(one, Send) and isinstance(one.message, m.Copy)] == ["d"]
    bench.obey()
    assert bench.fates() == [[Fate.WRITTEN]]
    bench.adopt(duties("a", 3, roles("d", preference="d"), ring="R"))
    bench.on(put("z", "k"))
    assert bench.take(Commit) == []


# -- rest

ALONE = duties("a", 1, roles("a", preference="a"))


def test_machines_may_rest_once_their_lists_are_open_and_no_lease_runs_that_they_have_granted() -> None:
    bench = Bench()
    assert bench.replica.may_rest
    bench.adopt(FIRST)
    assert not bench.replica.may_rest, "a list is to be opened"
    bench.adopt(duties("a", 2, roles("a", preference="a")))
    assert bench.replica.may_rest
    bench.adopt(duties("a", 3, roles("b", "a", preference="b", coming="a"), coming_ring="R"))
    bench.hear("b", m.AskLease(1))
    assert not bench.replica.may_rest, "the note is on its way"
    bench.on(events.NoteKept(True))
    bench.adopt(duties("a", 4, roles("a", preference="a")))
    bench.now = 1.0
    bench.on(events.Tick())
    assert not bench.replica.may_rest, "the lease may run"
    bench.take(KeepNote)
    while not (noted := bench.take(KeepNote)):
        bench.now = bench.replica.wakes_at
        bench.on(events.Tick())
    assert noted == [KeepNote(False)]
    assert bench.now >= 1.05
    assert not bench.replica.may_rest, "the note is there until that is on the disk"
    bench.on(events.NoteKept(False))
    assert bench.replica.may_rest


def test_machines_that_are_to_pause_or_to_stop_do_not_rest() -> None:
    bench = Bench().opened(ALONE)
    bench.on(events.PauseAsked(3, ALONE.era, ((("a",), ()),)))
    assert not bench.replica.may_rest
    bench.on(events.GoOn(3))
    assert bench.replica.may_rest
    bench.on(events.StopAsked())
    assert not bench.replica.may_rest


def test_machines_are_idle_while_no_write_is_under_way() -> None:
    bench = Bench().opened(ALONE)
    assert bench.replica.idle
    bench.on(put("x", "k"))
    assert not bench.replica.idle
    bench.commit()
    assert (bench.fates(), bench.replica.idle) == ([[Fate.WRITTEN]], True)
    bench.on(get("y", "k"))
    assert bench.replica.idle


def test_machines_are_not_idle_while_a_tombstone_for_which_nobody_waits_is_under_way() -> None:
    bench = Bench(records={"k": Record(version(1, 0), b"1", expires=1)}).opened(ALONE)
    bench.now = 0.1
    bench.on(events.DueFound(["k"]))
    assert not bench.replica.idle
    bench.commit()
    assert bench.replica.idle


def test_machines_are_not_idle_while_a_client_waits_or_a_granter_has_not_heard_what_is_settled() -> None:
    bench = Bench().opened(ALONE)
    bench.on(events.PauseAsked(3, ALONE.era, ((("a",), ()),)))
    bench.on(put("x", "k"))
    assert not bench.replica.idle
    copied = Bench().opened()
    copied.on(put("x", "k"))
    copied.commit()
    assert not copied.replica.idle
    waits = Bench()
    waits.adopt(FIRST)
    waits.on(get("y", "k"))
    assert not waits.replica.idle


def test_granter_is_not_idle_while_a_copy_is_on_its_way_to_the_disk() -> None:
    bench = Bench("b").opened()
    bench.hear("a", m.Copy(1, (write(1, "k"),)))
    assert not bench.replica.idle
    bench.commit()
    assert bench.replica.idle


def test_versions_go_on_where_another_writer_of_the_process_has_left_them() -> None:
    versions = Versions()
    taken = [versions.next(ALONE.era) for _ in range(5)]
    bench = Bench()
    bench.replica = Replica("a", INCARNATIONS["a"], bench.shelf, DueTime(0, 0), 0.0, versions=versions)
    bench.opened(ALONE)
    bench.on(put("x", "k"))
    bench.commit()
    assert bench.shelf.records["k"].version > taken[-1]
    assert versions.next(ALONE.era) > bench.shelf.records["k"].version


# -- the first process under a line


def first(document: Duties) -> Duties:
    """Return the same where no process of `a` was ever up before."""
    return replace(document, lines=document.lines | {"a": replace(document.lines["a"], first=True)})


def test_first_process_under_a_line_waits_for_no_grants_of_another_though_a_note_is_there() -> None:
    bench = Bench(noted=True)
    bench.adopt(first(ALONE))
    bench.on(put("x", "k"))
    bench.commit()
    assert bench.fates() == [[Fate.WRITTEN]]


@pytest.mark.promise("I20")
def test_process_whose_note_may_be_of_another_waits() -> None:
    """F7."""
    bench = Bench(noted=True)
    bench.adopt(ALONE)
    bench.on(put("x", "k"))
    assert bench.take(Commit) == []
    bench.now = 1.06
    bench.on(events.Tick())
    bench.commit()
    assert bench.fates() == [[Fate.WRITTEN]]


@pytest.mark.promise("I20")
@pytest.mark.parametrize("way", ["it has come back empty", "it was of another cluster"])
def test_process_that_is_the_first_by_a_later_word_waits_still(way: str) -> None:
    """F7: what is certain is not forgotten as the loss is accepted, or as another cluster has had no other process."""
    bench = Bench()
    if way == "it has come back empty":
        bench.adopt(duties("a", 1, roles("", preference="a"), empty="a"))
    else:
        bench.replica = Replica("a", INCARNATIONS["a"], bench.shelf, DueTime(0, 0), 0.0, has_granted=True)
    bench.adopt(first(duties("a", 2, roles("a", preference="a"))))
    bench.on(put("x", "k"))
    assert bench.take(Commit) == []
    bench.now = 1.06
    bench.on(events.Tick())
    bench.commit()
    assert bench.fates() == [[Fate.WRITTEN]]


# -- filling


@pytest.mark.promise("I23")
def test_learner_becomes_the_copy_of_its_primary_and_reports_it() -> None:
    document = duties("c", 3, roles("ab", "c"), since=3)
    bench = Bench("c", {"k": Record(version(9, 2), b"old"), "x": Record(version(8, 2), b"dropped")})
    assert Report(document.era, False, True) in bench.adopt(document)
    (asked,) = bench.sent(m.AskPage)
    known = tuple(map(bench.shelf.print_of, ["k", "x"]))
    assert asked == Send("a", document.era, m.AskPage(asked.message.number, ("a", "b", "c"), (), (("", None),), known))
    bench.hear("a", m.Copy(1, (write(1, "new", epoch=3),)))
    records = ("k", Record(version(1), b"1")), ("new", Record(version(2), b"2"))
    bench.hear("a", m.Page(asked.message.number, records, (), 1))
    [again] = bench.sent(m.AskPage)
    assert again.message == replace(asked.message, number=again.message.number, named=("x",))
    bench.hear("a", m.Page(again.message.number, records, (), 1))
    assert bench.take(Report) == [Report(document.era, False, True)]
    bench.commit()
    assert bench.take(Report) == [Report(document.era, True, True)]
    assert bench.shelf.records == {"k": Record(version(1), b"1"), "new": Record(version(1, 3), b"1")}
    assert not bench.replica.may_forget("new")


def test_learner_that_found_the_note_reports_nothing_before_grants_have_run_out() -> None:
    """L6."""
    bench = Bench("c", noted=True)
    bench.adopt(duties("c", 3, roles("abc")))
    assert bench.take(Report) == []
    assert bench.replica.wakes_at == 1.05
    bench.now = 1.05
    bench.on(events.Tick())
    assert len(bench.take(Report)) == 1


@pytest.mark.promise("I23")
def test_page_waits_until_its_records_are_settled() -> None:
    """L3, F9."""
    document = duties("a", 1, roles("ab", "c"))
    bench = Bench(records={"k": Record(version(1, 0), b"1"), "t": Record(version(1, 0), None)}).opened(document)
    bench.on(put("x", "k", value=b"2"))
    bench.commit()
    frames = bench.take(Send)
    bench.hear("c", m.AskPage(4, ("a", "b", "c"), (), (("", None),)))
    assert bench.take(Send) == []
    for one in frames:
        bench.hear(one.to, m.Copied(one.message.number, (version(1),)))
    assert [one.message for one in bench.sent(m.Page)] == [
        m.Page(4, (("k", Record(version(1), b"2")), ("t", Record(version(1, 0), None))), (), 1)
    ]


def test_page_ends_where_the_learner_can_look_no_further_in_one_step() -> None:
    stale = {f"s{i:03}": Record(version(1, 0), b"0") for i in range(500)}
    learner = Bench("c", dict(stale))
    learner.adopt(duties("c", 3, roles("ab", "c"), since=3))
    bench = Bench(records={"z": Record(version(1, 0), b"1")}).opened(duties("a", 3, roles("ab", "c"), since=3))
    dropped = []
    for _ in range(4):  # each page twice: what may be dropped is asked for by name
        (asked,) = learner.sent(m.AskPage)
        bench.hear("c", asked.message)
        (page,) = bench.sent(m.Page)
        learner.hear("a", page.message)
        dropped += [len(one.drops) for one in learner.wanted if isinstance(one, actions.Replace)]
        learner.commit()
    assert dropped == [256, 244]
    assert learner.shelf.records == bench.shelf.records


@pytest.mark.parametrize("sender", ["b", "d"])
def test_page_is_for_learners_alone(sender: str) -> None:
    bench = Bench(records={"k": Record(version(1, 0), b"1")}).opened(duties("a", 1, roles("ab", "c")))
    bench.hear(sender, m.AskPage(4, ("a", "b", "c"), (), (("", None),)))
    bench.hear(sender, m.AskSums(5, ("a", "b", "c"), (), ""))
    assert bench.take(Send) == []


def test_page_names_what_is_the_same_and_has_the_rest() -> None:
    document = duties("a", 1, roles("ab", "c"))
    records: dict[str, Record | Damage] = {key: Record(version(1, 0), b"1") for key in "pqr"}
    bench = Bench(records=records).opened(document)
    fingerprint = bench.shelf.print_of("q")
    bench.hear("c", m.AskPage(4, ("a", "b", "c"), (), (("", "q"), ("q", None)), (99, fingerprint)))
    assert [one.message for one in bench.sent(m.Page)] == [
        m.Page(4, (("p", Record(version(1, 0), b"1")), ("r", Record(version(1, 0), b"1"))), (1,), 2)
    ]


def asked_for_a_page(bench: Bench) -> list[m.Message]:
    """Return the page that the learner `c` is given, and the questions about damaged records."""
    bench.hear("c", m.AskPage(4, ("a", "b", "c"), (), (("", None),)))
    said = bench.take(Send)
    for one in said:
        if isinstance(one.message, m.AskLease):
            bench.hear(one.to, m.Granted(one.message.number))
    return [one.message for one in [*said, *bench.take(Send)] if isinstance(one.message, m.Page | m.AskRecord)]


LOST = m.Page(4, (), (), 1, damaged=("k",))


@pytest.mark.promise("I14")
def test_page_names_what_is_lost_of_the_keys_that_it_is_asked_for() -> None:
    bench = Bench(records={"k": Record(version(1, 0), b"1")}).opened(duties("a", 1, roles("a", "c", preference="ac")))
    bench.shelf.lost.add("k")
    asked = m.AskPage(4, ("a", "c"), (), (("", None),))
    bench.hear("c", asked)
    bench.hear("c", replace(asked, named=("k", "nothing")))
    assert [one.message for one in bench.sent(m.Page)] == [replace(LOST, damaged=()), LOST]


def test_page_names_what_is_damaged_where_nobody_else_acts() -> None:
    records: dict[str, Record | Damage] = {"k": Damage.DAMAGED, "x": Record(version(1, 0), b"1")}
    bench = Bench(records=records).opened(duties("a", 1, roles("a", "c", preference="ac")))
    bench.hear("c", m.AskPage(4, ("a", "c"), (), (("", None),)))
    [page] = bench.sent(m.Page)
    assert page.message == replace(LOST, records=(("x", Record(version(1, 0), b"1")),))


@pytest.mark.parametrize("answers", [True, False])
def test_page_names_what_is_damaged_once_nobody_has_it_under_the_document_of_now(answers: bool) -> None:
    bench = Bench(records={"k": Damage.DAMAGED}).opened(duties("a", 1, roles("ab", "c")))
    [asked] = asked_for_a_page(bench)
    assert asked_for_a_page(bench) == []
    if answers:
        bench.hear("b", m.FoundRecord(asked.number, Damage.DAMAGED))
    else:
        bench.now = 1.0
        bench.on(events.Tick())
    assert asked_for_a_page(bench) == [LOST]
    bench.opened(duties("a", 2, roles("ab", "c")))
    assert [type(one) for one in asked_for_a_page(bench)] == [m.AskRecord]


def test_record_that_was_lost_is_looked_for_anew_once_its_key_was_written() -> None:
    bench = Bench(records={"k": Damage.DAMAGED}).opened(duties("a", 1, roles("ab", "c")))
    [asked] = asked_for_a_page(bench)
    bench.hear("b", m.FoundRecord(asked.number, Damage.DAMAGED))
    bench.on(put("x", "k"))
    bench.commit()
    bench.obey()
    bench.shelf.records["k"] = Damage.DAMAGED
    assert [type(one) for one in asked_for_a_page(bench)] == [m.AskRecord]


@pytest.mark.promise("I23")
def test_learner_has_what_a_page_names_as_damaged_read_as_that() -> None:
    document = duties("c", 1, roles("ab", "c"))
    bench = Bench("c", records={"k": Record(version(1, 0), b"older")})
    bench.adopt(document)
    [asked] = bench.sent(m.AskPage)
    bench.hear("a", m.Page(asked.message.number, (), (), 1, damaged=("k", "x")))
    [change] = bench.take(actions.Replace)
    assert (change.records, change.drops, change.damaged) == ((), (), ("k", "x"))


@pytest.mark.parametrize(("rate", "page"), [(0.0, 256), (2_000.0, 60), (100_000.0, 256), (10.0, 16)])
def test_page_has_as_many_records_as_the_rate_has_in_a_moment(rate: float, page: int) -> None:
    assert Rate(rate).page == page


def test_pages_keep_the_rate_of_their_source() -> None:
    bench = Bench(records={key: Record(version(1, 0), b"1") for key in "pqr"})
    bench.replica.pages.rate = Rate(10.0)
    bench.opened(duties("a", 1, roles("ab", "c")))
    asked = m.AskPage(4, ("a", "b", "c"), (), (("", None),), (bench.shelf.print_of("q"),))
    rests = []
    for bench.now in (0.0, 0.1, 0.9):
        bench.hear("c", asked)
        rests += [one.message.rest for one in bench.sent(m.Page)]
    assert rests == pytest.approx([0.2, 0.3, 0.2])
    bench.replica.pages.rate = Rate(10.0)
    bench.hear("c", replace(asked, known=tuple(map(bench.shelf.print_of, "pqr"))))
    assert [one.message.rest for one in bench.sent(m.Page)] == pytest.approx([3 / 16 / 10])  # to compare costs, too


def test_change_has_a_rate_of_its_own_and_what_has_too_few_copies_its_sources() -> None:
    bench = Bench(records={key: Record(version(1, 0), b"1") for key in "pqr"})
    bench.replica.pages.rate = Rate(10.0)
    rests = {}
    for epoch, pace in enumerate((USUAL_PACE, Pace(300), Pace(0), Pace(30), USUAL_PACE), 1):
        document = duties("a", epoch, roles("ab", "cd", preference="abc", coming="abd"), coming_ring="R")
        bench.now += 2.0
        bench.opened(replace(document, next_since=1, pace=pace))
        bench.on(events.LeasesWanted())
        bench.obey()
        for sender in "cd":
            bench.hear(sender, m.AskPage(4, ("a", "b", "c"), ("a", "b", "d"), (("", None),), ()))
            [found] = bench.sent(m.Page)
            rests[epoch, sender] = round(found.message.rest, 3)
    assert [rests[epoch, "c"] for epoch in range(1, 6)] == [0.3] * 5
    assert [rests[epoch, "d"] for epoch in range(1, 6)] == [0.6, 0.01, 0.0, 0.1, 0.6]


def test_rate_is_kept_by_a_learner_that_asks_a_little_late_and_none_is_saved_up_by_one_that_was_away() -> None:
    rate = Rate(2_000.0)
    assert rate.give(60, 60, 5.0) == pytest.approx(0.03)
    assert [rate.give(60, 60, 5.125) for _ in range(4)] == pytest.approx([0, 0, 0, 0.025])  # 300 in all by 5.15
    assert rate.give(60, 60, 5.3) == pytest.approx(0.03)


def test_rate_that_is_changed_counts_at_once() -> None:
    rate = Rate(1.0)
    assert rate.give(100, 100, 5.0) == 100.0
    rate.change(2_000.0)
    assert (rate.page, rate.give(100, 100, 6.0)) == (60, pytest.approx(0.05))
    rate.change(0.0)
    assert (rate.page, rate.give(100, 100, 7.0)) == (256, 0.0)


@pytest.mark.promise("I23")
def test_sums_are_of_settled_records_alone_and_told_under_a_lease() -> None:
    """F9: a learner that has an unsettled write already would not know that it is one."""
    document = duties("a", 1, roles("ab", "c"))
    bench = Bench(records={"k": Record(version(1, 0), b"1"), "x": Record(version(1, 0), b"1")}).opened(document)
    bench.on(put("x", "k", value=b"2"))
    bench.commit()
    frames = bench.take(Send)
    bench.hear("c", m.AskSums(4, ("a", "b", "c"), (), ""))
    x = bench.shelf.print_of("x")
    assert [one.message for one in bench.sent(m.Sums)] == [m.Sums(4, (None, x, 0))]
    for one in frames:
        bench.hear(one.to, m.Copied(one.message.number, (version(1),)))
    bench.now = 2.0  # no lease is left
    bench.hear("c", m.AskSums(5, ("a", "b", "c"), (), "k"))
    asked = bench.take(Send)
    assert {type(one.message) for one in asked} == {m.AskLease}
    for one in asked:
        bench.hear(one.to, m.Granted(one.message.number))
    assert [one.message for one in bench.sent(m.Sums)] == [m.Sums(5, (x, 0))]


def test_learner_waits_for_its_own_sums() -> None:
    bench = Bench("c", {"k": Record(version(1), b"1")})
    bench.shelf.compares, bench.shelf.summed_up = True, ""
    bench.adopt(duties("c", 3, roles("ab", "c"), since=3))
    assert bench.sent(m.AskSums) == []
    bench.shelf.summed_up, bench.now = "z", bench.replica.wakes_at
    bench.on(events.Tick())
    assert [one.message.after for one in bench.sent(m.AskSums)] == [""]


@pytest.mark.promise("I23")
def test_learner_asks_for_what_differs_by_its_sums() -> None:
    document = duties("c", 3, roles("ab", "c"), since=3)
    bench = Bench("c", {"k": Record(version(9, 2), b"old"), "x": Record(version(8, 2), b"same")})
    bench.shelf.compares = True
    bench.adopt(document)
    (asked,) = bench.sent(m.AskSums)
    assert asked == Send("a", document.era, m.AskSums(asked.message.number, ("a", "b", "c"), (), ""))
    x = bench.shelf.print_of("x")
    bench.hear("a", m.Sums(asked.message.number, (1, x, 0)))
    (asked,) = bench.sent(m.AskPage)
    assert asked.message.ranges == (("", "k"),)
    bench.hear("a", m.Page(asked.message.number, (("k", Record(version(1), b"1")),), (), 1))
    bench.commit()
    assert bench.take(Report)[-1:] == [Report(document.era, True, True)]
    assert bench.shelf.records == {"k": Record(version(1), b"1"), "x": Record(version(8, 2), b"same")}


@pytest.mark.parametrize("asked", [m.AskPage(4, ("a", "b", "c"), (), (("", None),)), m.AskSums(4, ("a", "b", "c"), (), "")])
def test_question_about_a_list_that_is_not_open_is_answered_once_when_it_is(asked: m.Message) -> None:
    bench = Bench(records={"k": Record(version(1, 0), b"1")})
    bench.adopt(duties("a", 1, roles("ab", "c")))
    bench.hear("c", replace(asked, number=3))
    bench.hear("c", asked)
    to_b, to_c = bench.take(Send)
    for one in (to_b, to_c):
        assert bench.sent(m.Page | m.Sums) == []
        bench.hear(one.to, m.UnsettledKeys(one.message.number))
    (answer,) = bench.sent(m.Page | m.Sums)
    assert (answer.to, answer.message.number) == ("c", 4)
    bench.on(events.Tick())
    assert bench.sent(m.Page | m.Sums) == []


def test_question_that_came_too_early_is_forgotten_under_another_document() -> None:
    bench = Bench()
    bench.adopt(duties("a", 1, roles("ab", "c")))
    bench.hear("c", m.AskPage(4, ("a", "b", "c"), (), (("", None),)))
    bench.wanted = []
    bench.adopt(duties("a", 2, roles("ab", "c")))
    for one in bench.take(Send):
        bench.hear(one.to, m.UnsettledKeys(one.message.number))
    assert not bench.replica.takeovers.busy
    assert bench.sent(m.Page) == []


def test_question_about_a_list_of_another_primary_is_not_kept() -> None:
    bench = Bench()
    bench.adopt(duties("a", 1, roles("ba", "c", preference="bac")))
    bench.hear("c", m.AskPage(4, ("b", "a", "c"), (), (("", None),)))
    assert bench.replica.pages._early == {}


# -- planned moves


def test_pause_holds_what_would_begin_a_write_and_no_read() -> None:
    """A7."""
    records: dict[str, Record | Damage] = {"k": Record(version(1, 0), b"1"), "due": Record(version(1, 0), b"1", expires=1)}
    bench = Bench(records=records).opened()
    bench.on(put("before", "k"))
    bench.on(events.PauseAsked(3, FIRST.era, ((("a", "b", "c"), ()),)))
    assert bench.take(actions.Paused) == []
    bench.commit()
    bench.obey()
    assert bench.fates() == [[Fate.WRITTEN]]
    assert bench.take(actions.Paused) == [actions.Paused(3, FIRST.era)]
    bench.now = 0.1
    bench.on(put("x", "k"))
    bench.on(get("y", "k"))
    bench.on(get("z", "due"))
    bench.on(events.DueFound(["due"]))
    assert [one.client for one in bench.take(Answer)] == ["y"]
    assert bench.take(Commit) == []
    bench.on(events.GoOn(3))
    bench.commit()
    bench.obey()
    assert [one.client for one in bench.take(Answer)] == ["x", "z"]


@pytest.mark.parametrize(("acting", "fate"), [("abc", Fate.WRITTEN), ("bac", Fate.NOT_BEGUN)])
def test_newer_document_releases_what_was_held(acting: str, fate: Fate) -> None:
    """A7."""
    bench = Bench().opened()
    bench.on(events.PauseAsked(3, FIRST.era, ((("a", "b", "c"), ()),)))
    bench.on(put("x", "k"))
    bench.adopt(duties("a", 2, roles(acting)))
    bench.commit()
    bench.obey()
    assert bench.fates() == [[fate]]


def test_process_that_is_told_to_stop_leaves_releases_its_leases_and_ends() -> None:
    bench = Bench().opened()
    bench.on(put("x", "k"))
    bench.on(events.StopAsked())
    bench.on(put("y", "k"))
    assert bench.take(actions.Leave) == []
    bench.commit()
    bench.obey()
    assert bench.take(actions.Leave) == [actions.Leave(FIRST.era)]
    bench.adopt(duties("a", 2, roles("bc"), down="a"))
    assert [one.to for one in bench.sent(m.HelloBack)] == ["b", "c", "d"]
    assert bench.fates() == [[Fate.WRITTEN], [Fate.NOT_BEGUN]]
    assert isinstance(bench.wanted[-1], End)


# -- time


@pytest.mark.parametrize(
    ("prepare", "by"),
    [
        pytest.param(lambda _: None, float("inf"), id="nothing to wait for"),
        pytest.param(lambda bench: bench.on(put("x", "k")), 0.25, id="an answer"),
        pytest.param(lambda bench: bench.on(events.PauseAsked(1, FIRST.era, ((("a", "b", "c"), ()),))), 0.5, id="a plan"),
    ],
)
def test_tick_is_wanted_while_something_waits(prepare: Callable[[Bench], object], by: float) -> None:
    bench = Bench().opened()
    prepare(bench)
    assert bench.replica.wakes_at <= by
    assert (bench.replica.wakes_at == float("inf")) is (by == float("inf"))


def test_each_message_between_members_is_of_one_kind() -> None:
    """A message that neither asks nor answers would be parked or dropped by mistake."""
    assert not set(m.Question.__args__) & set(m.Reply.__args__)
    assert isinstance(version(1), Version)
