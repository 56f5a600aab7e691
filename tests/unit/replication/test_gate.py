"""The gate for reads that are told at once: until when a process may answer, and what closes the gate."""

import pytest

from gkv.model import Effect, Record, Version, Write
from gkv.replication import actions, events
from gkv.replication import messages as m
from gkv.replication.actions import Commit, End, Fate, Send
from tests.duties import duties, roles, version
from tests.unit.replication.test_replica import FIRST, Bench, get, put


def leased(bench: Bench) -> Bench:
    """Have it get a lease of each granter by a read."""
    bench.on(get("x", "k"))
    bench.obey()
    bench.wanted = []
    return bench


@pytest.mark.promise("I20")
def test_gate_is_open_for_a_lease_from_when_the_earliest_was_asked_for() -> None:
    bench = Bench().opened()
    assert bench.replica.reads_until == 1.0  # by the questions of the takeover
    bench.now = 0.4
    bench.on(put("x", "k"))
    to_b, to_c = bench.take(Send)
    bench.now = 0.5
    bench.hear("b", m.Copied(to_b.message.number, (to_b.message.writes[0].version,)))
    assert bench.replica.reads_until == 1.0
    bench.hear("c", m.Copied(to_c.message.number, (to_c.message.writes[0].version,)))
    assert bench.replica.reads_until == 1.4


@pytest.mark.promise("I20")
@pytest.mark.parametrize(
    "document",
    [
        pytest.param(duties("a", 2, roles("abc"), others={"b": 21}), id="another process of a granter"),
        pytest.param(duties("a", 3, roles("abc")), id="a gap in the epochs"),
        pytest.param(duties("a", 2, roles("bc"), down="a"), id="it is down"),
        pytest.param(duties("a", 2, roles("bca")), id="another is the primary"),
        pytest.param(duties("a", 2, roles("abcd", preference="abcd")), id="one more granter"),
        pytest.param(duties("a", 2, roles("abc"), roles("ad", preference="ad")), id="one more list, which is closed"),
    ],
)
def test_gate_closes_with_a_document_by_which_lists_or_granters_are_others(document: object) -> None:
    bench = leased(Bench().opened())
    bench.adopt(document)
    assert bench.replica.reads_until == 0.0


def test_gate_stays_open_while_nothing_changes_for_its_lists() -> None:
    bench = leased(Bench().opened())
    until = bench.replica.reads_until
    bench.adopt(duties("a", 2, roles("abc")))
    assert bench.replica.reads_until == until > 0


def test_gate_of_a_primary_without_granters_is_open_for_good() -> None:
    assert Bench().opened(duties("a", 1, roles("a"))).replica.reads_until == float("inf")


def test_gate_of_who_is_no_primary_is_closed() -> None:
    assert Bench("b").opened().replica.reads_until == 0.0


def test_gate_opens_when_the_last_list_does() -> None:
    bench = Bench()
    bench.adopt(FIRST)
    assert bench.replica.reads_until == 0.0
    bench.obey()
    assert bench.replica.reads_until == 1.0


def test_leases_are_renewed_when_less_than_half_is_left() -> None:
    bench = leased(Bench().opened())
    bench.now = 0.4
    bench.on(events.LeasesWanted())
    assert bench.sent(m.AskLease) == []
    bench.now = 0.6
    bench.on(events.LeasesWanted())
    bench.on(events.LeasesWanted())
    asked = bench.sent(m.AskLease)
    assert [one.to for one in asked] == ["b", "c"]
    for one in asked:
        bench.hear(one.to, m.Granted(one.message.number))
    assert bench.replica.reads_until == 1.6


# -- who waits for the gate


ASKED = events.LeasesAsked("x", 9.0)


@pytest.mark.promise("I20")
def test_who_waits_for_the_gate_is_told_when_all_lists_are_open_and_leased() -> None:
    bench = Bench()
    bench.adopt(FIRST)
    bench.on(ASKED)
    assert bench.fates() == []
    bench.obey()
    assert bench.fates() == [[Fate.READ]]
    bench.on(ASKED)
    assert bench.fates() == [[Fate.READ]]


def leased_anew_by_b() -> tuple[Bench, m.Granted]:
    """Return one whose leases had run out when it was asked, and which has b's again; and the answer that c is to give."""
    bench = leased(Bench().opened())
    bench.now = 1.5
    bench.on(ASKED)
    to_b, to_c = bench.sent(m.AskLease)
    bench.hear("b", m.Granted(to_b.message.number))
    assert bench.fates() == []
    return bench, m.Granted(to_c.message.number)


@pytest.mark.promise("I20")
def test_leases_that_have_run_out_are_asked_for_and_waited_for() -> None:
    bench, of_c = leased_anew_by_b()
    bench.hear("c", of_c)
    assert bench.fates() == [[Fate.READ]]


@pytest.mark.promise("I20")
def test_lease_that_runs_out_before_the_others_come_counts_for_nothing() -> None:
    bench, of_c = leased_anew_by_b()
    bench.now = 2.6
    bench.hear("c", of_c)
    assert bench.fates() == []
    bench.obey()
    assert bench.fates() == [[Fate.READ]]


def test_leases_that_nobody_gives_are_asked_for_again_until_the_deadline() -> None:
    bench = leased(Bench().opened())
    bench.now = 1.5
    bench.on(ASKED)
    assert len(bench.sent(m.AskLease)) == 2
    bench.now = 2.0
    assert bench.replica.wakes_at <= 2.0
    bench.on(events.Tick())
    assert len(bench.sent(m.AskLease)) == 2
    bench.now = 9.0
    bench.on(events.Tick())
    assert bench.fates() == [[Fate.LATE]]


def test_who_is_the_primary_of_nothing_says_so_at_once() -> None:
    bench = Bench("b").opened()
    bench.on(ASKED)
    assert bench.fates() == [[Fate.NOT_BEGUN]]


def test_who_waits_is_told_when_another_becomes_the_primary() -> None:
    bench = leased(Bench().opened())
    bench.now = 1.5
    bench.on(ASKED)
    bench.adopt(duties("a", 2, roles("bca")))
    assert bench.fates() == [[Fate.NOT_BEGUN]]


def test_no_more_wait_for_the_gate_than_a_bound() -> None:
    bench = leased(Bench().opened())
    bench.now = 1.5
    for number in range(1_000):
        bench.on(events.LeasesAsked(number, 9.0))
    bench.on(ASKED)
    assert bench.fates() == [[Fate.BUSY]]


def test_key_of_a_write_on_its_way_is_not_settled() -> None:
    bench = Bench().opened()
    assert bench.replica.is_settled(["k", "l"])
    bench.on(put("x", "k"))
    assert not bench.replica.is_settled(["l", "k"])
    assert bench.replica.is_settled(["l"])
    bench.obey()
    bench.commit()
    assert bench.replica.is_settled(["k"])


# -- room on the own disk, and what it did (W1, W10)


def test_value_without_room_on_the_own_disk_is_not_begun() -> None:
    """W1."""
    bench = Bench().opened()
    bench.shelf.is_full = True
    bench.on(put("x", "k", "l"))
    (answer,) = bench.take(actions.Answer)
    assert [(one.fate, one.member) for one in answer.each] == [(Fate.FULL, "a")] * 2
    assert bench.wanted == []
    bench.on(put("y", "k", value=None))
    assert len(bench.take(Commit)) == 1


def test_own_commit_that_finds_no_room_is_tried_again_until_it_does() -> None:
    """W10: others may have the write, so it is not taken back."""
    bench = Bench().opened()
    bench.on(put("x", "k"))
    bench.obey()
    (first,) = bench.take(Commit)
    assert bench.on(events.CommitFailed(first.token, full=True)) == []
    bench.on(put("y", "l"))
    assert bench.fates() == [[Fate.FULL]]
    bench.now = 0.3
    bench.on(events.Tick())
    (again,) = bench.take(Commit)
    assert again == first
    bench.on(events.Committed(again.token, [Effect.CREATED]))
    (answer,) = bench.take(actions.Answer)
    assert (answer.each[0].fate, answer.each[0].effect) == (Fate.WRITTEN, Effect.CREATED)
    bench.on(put("y", "l"))
    assert len(bench.take(Commit)) == 1


def test_own_commit_of_a_shortened_write_is_tried_again_and_answered() -> None:
    """W7, F16: a later write of one key is settled, so the write has only the other one left under the next document."""
    bench = Bench().opened()
    bench.on(put("x", "k", "l"))
    bench.obey()
    (first,) = bench.take(Commit)
    bench.on(events.CommitFailed(first.token, full=True))
    bench.on(put("y", "k", value=None))
    bench.commit()
    bench.obey()
    assert bench.fates() == [[Fate.WRITTEN]]
    bench.adopt(duties("a", 2, roles("abc")))
    bench.obey()
    bench.now = 0.3
    bench.on(events.Tick())
    (again,) = bench.take(Commit)
    assert (again.token, list(again.write.keys)) == (first.token, ["l"])
    bench.on(events.Committed(again.token, [Effect.CREATED]))
    assert bench.fates() == [[Fate.WRITTEN, Fate.WRITTEN]]


def test_full_granter_is_known_over_epochs_and_asked_until_it_has_room() -> None:
    """W1: the next document does not cost a write its outcome."""
    bench = Bench().opened()
    bench.on(put("x", "k"))
    bench.commit()
    for member in "bc":
        (asked,) = [one for one in bench.wanted if isinstance(one, Send) and one.to == member]
        bench.hear(member, m.Copied(asked.message.number, (version(1),), full=member == "c"))
    assert bench.fates() == [[Fate.WRITTEN]]
    bench.adopt(duties("a", 2, roles("abc")))
    bench.on(put("y", "k"))
    (answer,) = bench.take(actions.Answer)
    assert (answer.each[0].fate, answer.each[0].member) == (Fate.FULL, "c")
    bench.wanted = []
    bench.now = 0.5
    bench.on(events.Tick())
    (asked,) = bench.sent(m.Copy, "c")
    bench.hear("c", m.Copied(asked.message.number))
    bench.on(put("z", "k"))
    assert len(bench.take(Commit)) == 1


def test_frames_and_writes_of_a_takeover_are_bounded_in_bytes() -> None:
    bench = Bench().opened()
    large = b"1" * (600 << 10)
    for client in "xyz":
        event = put(client, f"k{client}", value=large)
        bench.wanted += bench.replica.handle(event, bench.now)
    bench.on(events.HandOver())
    assert [[list(part.keys) for part in one.message.writes] for one in bench.sent(m.Copy, "b")] == [
        [["kx"]],
        [["ky"]],
        [["kz"]],
    ]
    bench.take(Commit)
    bench.replica.writing.write_anew([(f"l{i}", Record(version(1), large)) for i in range(3)])
    bench.on(events.HandOver())
    assert [list(one.write.keys) for one in bench.take(Commit)] == [["l0"], ["l1"], ["l2"]]


def test_own_commit_that_fails_otherwise_ends_the_process() -> None:
    """W10."""
    bench = Bench().opened()
    bench.on(put("x", "k"))
    (commit,) = bench.take(Commit)
    assert isinstance(bench.on(events.CommitFailed(commit.token))[0], End)


def test_failed_commit_of_a_write_that_is_nobodys_any_more_is_forgotten() -> None:
    bench = Bench().opened()
    bench.on(put("x", "k"))
    (commit,) = bench.take(Commit)
    bench.adopt(duties("a", 2, roles("bca")))
    bench.wanted = []
    bench.on(events.CommitFailed(commit.token, full=True))
    bench.now = 0.5
    bench.on(events.Tick())
    assert bench.take(Commit) == []


# -- another directory


@pytest.mark.promise("I22")
def test_process_without_the_directory_that_it_had_waits_as_if_it_had_granted() -> None:
    """T2: nobody has seen the note of the directory that the process before ran in."""
    bench = Bench()
    bench.adopt(duties("a", 1, roles("bc", "a"), empty="a"))
    bench.now = 0.2
    bench.adopt(duties("a", 2, roles("abc")))
    bench.obey()
    assert bench.replica.reads_until == 0.0
    bench.now = 1.06
    bench.on(events.Tick())
    bench.obey()
    assert bench.replica.takeovers.reign((("a", "b", "c"), ())) is not None


def test_page_that_changes_nothing_costs_no_commit() -> None:
    """L5: of an empty list there are many."""
    bench = Bench("c")
    bench.adopt(duties("c", 1, roles("ab", "c")))
    (asked,) = bench.sent(m.AskPage)
    bench.hear("a", m.Page(asked.message.number, (), (), 0, "0000000000000001"))
    assert bench.take(actions.Replace) == []
    (again,) = bench.sent(m.AskPage)
    assert again.message.ranges == (("0000000000000001", None),)
    bench.hear("a", m.Page(again.message.number, (), (), 1))
    assert [one.filled for one in bench.take(actions.Report)][-1:] == [True]


@pytest.mark.promise("I23")
def test_page_whose_keys_are_left_to_new_writes_waits_for_their_commit() -> None:
    """L5: before that the disk has neither what was settled nor what is newer."""
    bench = Bench("c")
    bench.adopt(duties("c", 1, roles("ab", "c")))
    (asked,) = bench.sent(m.AskPage)
    bench.hear("a", m.Copy(7, (Write(Version(1, 2), ["k"], [b"2"]),)))
    (new,) = bench.take(Commit)
    bench.hear("a", m.Page(asked.message.number, (("k", Record(Version(1, 1), b"1")),), (), 1))
    (behind,) = bench.take(actions.Replace)
    assert (behind.records, behind.drops) == ((), ())
    assert [one.filled for one in bench.take(actions.Report)] in ([], [False])
    bench.on(events.Committed(new.token))
    bench.on(events.Committed(behind.token))
    assert [one.filled for one in bench.take(actions.Report)] == [True]
