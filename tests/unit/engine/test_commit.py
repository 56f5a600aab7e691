"""Group commit: what goes together, what waits for what, and what happens when it fails."""

import os
import shutil
import threading
import time
from contextlib import suppress

import gevent
import pytest

from gkv.engine import backlog, reclaim
from gkv.engine.commit import Commits
from gkv.engine.engine import no_call
from gkv.engine.lmdb import LmdbEngine
from gkv.engine.memory import MemoryEngine
from gkv.errors import EngineError, EngineFailed, EngineFull, NotOnDisk, OutOfRoom, SnapshotRunning, Unavailable
from gkv.model import Effect, Record, Version, Write
from gkv.ring import tokens
from gkv.threads import NativeThread
from tests.eventually import eventually, soon

NOW = 1_000_000


def did(letters):
    """Return the effects of a write, a letter for each key."""
    return [Effect(letter) for letter in letters] if letters else ()


def at(millis):
    return Version(millis << 16, 1)


def put(key, value=b"1", millis=1):
    return Write(at(millis), [key], [value])


class Disk(MemoryEngine):
    """An engine that says it is durable, whose disk the test lets go on or makes fail."""

    durable = True

    def __init__(self):
        super().__init__(tokens)
        self.groups = []
        self.errors = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.threads = set()
        self.grown = 0
        self.forgotten = []
        self.tended = []
        self.refuses = None

    def admit(self, write, waiting):  # noqa: ARG002  # as the engine has them
        if self.refuses is not None:
            raise self.refuses

    def write(self, writes, now, syncing=no_call):
        self.threads.add(threading.get_ident())
        self.groups.append([key for write in writes for key in write.keys])
        if self.errors:
            error = self.errors.pop(0)
            if error is not None:
                raise error
        syncing()
        assert self.goes_on.wait(10)
        return super().write(writes, now)

    def forget(self, until, limit, syncing=no_call):
        self.threads.add(threading.get_ident())
        self.forgotten.append(super().forget(until, limit, syncing))
        return self.forgotten[-1]

    def tend(self):
        self.tended.append(threading.get_ident())

    def grow(self):
        assert threading.get_ident() not in self.threads
        self.grown += 1


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def start(disk):
    """Return a function that starts the writer of the disk, and end them all."""
    started = []

    def starting(engine=disk, **settings):
        commits = Commits(engine, **({"tombstone_ttl": 1 << 50, "now": lambda: NOW} | settings))
        started.append(commits)
        return commits

    yield starting
    disk.goes_on.set()
    for commits in started:
        commits.close()


def held(disk, commits, key="first"):
    """Bring one write under way, and leave it there."""
    disk.goes_on.clear()
    pending = commits.submit(put(key))
    eventually(lambda: disk.groups[-1:] == [[key]])
    return pending


# --- gathering --------------------------------------------------------------------------------------------------------------


def test_write_is_answered_when_it_is_on_disk(disk, start):
    commits = start()
    pending = held(disk, commits)
    with pytest.raises(NotOnDisk) as caught:
        pending.wait(time.monotonic() + 0.02)
    assert (caught.value.status, caught.value.code) == (503, "indeterminate")
    disk.goes_on.set()
    assert pending.wait(soon()) == pending.wait(soon()) == did("c")
    assert commits.submit(put("first", None, 2)).wait(soon()) == did("r")


def test_what_comes_while_a_commit_is_under_way_goes_together_in_the_next(disk, start):
    commits = start()
    held(disk, commits)
    others = [gevent.spawn(lambda i=i: commits.submit(put(f"k{i}")).wait(soon())) for i in range(20)]
    gevent.sleep(0)
    assert commits.figures().waiting == 21
    disk.goes_on.set()
    gevent.joinall(others, timeout=10)
    assert disk.groups == [["first"], [f"k{i}" for i in range(20)]]
    assert len(disk.threads) == 1
    assert threading.get_ident() not in disk.threads
    figures = commits.figures()
    assert (figures.commits, figures.writes, figures.records, figures.waiting) == (2, 21, 21, 0)
    assert figures.longest_seconds >= figures.last_seconds > 0


def test_group_is_bounded_in_records_and_bytes(disk, start, monkeypatch):
    monkeypatch.setattr(backlog, "GROUP_RECORDS", 4)
    monkeypatch.setattr(backlog, "GROUP_BYTES", 1000 + 2 * backlog.KEY)
    commits = start()
    held(disk, commits)
    last = [
        commits.submit(Write(at(1), keys, [b"1"] * len(keys))) for keys in (["a", "b"], ["c", "d"], ["e"], list("0123456789"))
    ]
    last += [commits.submit(put(key, bytes(400))) for key in "fgh"]
    disk.goes_on.set()
    last[-1].wait(soon())
    assert disk.groups == [["first"], ["a", "b", "c", "d"], ["e"], list("0123456789"), ["f", "g"], ["h"]]


def test_hub_runs_while_the_disk_is_waited_for(disk, start):
    commits = start()
    held(disk, commits)
    for _ in range(5):
        started = time.monotonic()
        gevent.sleep(0.001)
        assert time.monotonic() - started < 0.5


def test_too_much_waiting_is_refused_at_once_and_nothing_of_it_is_written(disk, start, monkeypatch):
    monkeypatch.setattr(backlog, "MAX_WRITES", 3)
    commits = start()
    held(disk, commits)
    others = [commits.submit(put(key)) for key in "ab"]
    with pytest.raises(Unavailable) as caught:
        commits.submit(put("c"))
    assert (caught.value.status, caught.value.retry_after, caught.value.retryable) == (503, 1, True)
    disk.goes_on.set()
    others[-1].wait(soon())
    commits.submit(put("d")).wait(soon())
    assert disk.read(["a", "b", "c", "d"], NOW) == [b"1", b"1", None, b"1"]


def test_too_many_bytes_waiting_are_refused_but_a_large_write_alone_is_not(disk, start, monkeypatch):
    monkeypatch.setattr(backlog, "MAX_BYTES", 1000 + 2 * backlog.KEY)
    commits = start()
    commits.submit(put("large", bytes(5000))).wait(soon())
    held(disk, commits)
    commits.submit(put("a", bytes(900)))
    with pytest.raises(Unavailable):
        commits.submit(put("b", bytes(900)))


def test_many_keys_are_bounded_however_short_they_are(disk, start, monkeypatch):
    monkeypatch.setattr(backlog, "MAX_BYTES", 100 * backlog.KEY)
    commits = start()
    held(disk, commits)
    keys = [chr(0x4E00 + i) for i in range(60)]
    commits.submit(Write(at(1), keys, [None] * 60))
    with pytest.raises(Unavailable):
        commits.submit(Write(at(1), keys, [None] * 60))


# --- failures ---------------------------------------------------------------------------------------------------------------


def test_map_grows_on_the_loops_thread_and_the_group_goes_again(disk, start):
    commits = start()
    disk.errors = [OutOfRoom("x"), OutOfRoom("x")]
    assert commits.submit(put("a")).wait(soon()) == did("c")
    assert disk.grown == 2
    assert disk.groups == [["a"]] * 3


def test_map_that_cannot_grow_now_fails_the_group_and_nothing_else(disk, start):
    commits = start()

    def refuse():
        raise SnapshotRunning("a snapshot")

    disk.errors = [OutOfRoom("x")]
    disk.grow = refuse
    with pytest.raises(SnapshotRunning):
        commits.submit(put("a")).wait(soon())
    assert commits.submit(put("b")).wait(soon()) == did("c")


def test_full_disk_refuses_the_sets_of_a_group_and_takes_its_deletes(disk, start):
    commits = start()
    commits.submit(put("a")).wait(soon())
    held(disk, commits)
    disk.errors = [EngineFull("full")]
    one, other, delete = (
        commits.submit(put("b")),
        commits.submit(Write(at(2), ["c", "a"], [b"1", None])),
        commits.submit(put("a", None, 3)),
    )
    disk.goes_on.set()
    for refused in (one, other):
        with pytest.raises(EngineFull) as caught:
            refused.wait(soon())
        assert (caught.value.status, caught.value.code) == (507, "disk-full")
    assert delete.wait(soon()) == did("r")
    assert commits.submit(put("d")).wait(soon()) == did("c")


def test_deletes_that_do_not_fit_together_go_in_halves(disk, start):
    commits = start()
    held(disk, commits)
    disk.errors = [EngineFull("full"), EngineFull("full"), None, EngineFull("full"), None]
    deletes = [commits.submit(put(key, None)) for key in "abcd"]
    disk.goes_on.set()
    outcomes = []
    for delete in deletes:
        try:
            outcomes.append(delete.wait(soon()))
        except EngineFull:
            outcomes.append("full")
    assert disk.groups[1:] == [["a", "b", "c", "d"], ["a", "b"], ["a"], ["b"], ["c", "d"]]
    assert outcomes == [did("u"), "full", did("u"), did("u")]


def test_failed_commit_fails_all_that_waits_and_all_that_comes(disk, start):
    told = []
    commits = start(on_failure=told.append)
    held(disk, commits)
    disk.errors = [EngineFailed("EIO")]
    waiting = [commits.submit(put(key)) for key in "abc"]
    disk.goes_on.set()
    for pending in waiting:
        with pytest.raises(EngineFailed, match="EIO"):
            pending.wait(soon())
    with pytest.raises(EngineFailed, match="EIO"):
        commits.submit(put("d"))
    with pytest.raises(EngineFailed, match="EIO"):
        commits.flush(soon())
    eventually(lambda: told)
    assert [str(error) for error in told] == ["EIO"]
    assert commits.figures().waiting == 0
    assert disk.groups == [["first"], ["a", "b", "c"]]


def test_write_that_cannot_be_stored_fails_alone(disk, start):
    commits = start()
    held(disk, commits)
    good, bad, also_good = commits.submit(put("a")), commits.submit(put("x" * 500)), commits.submit(put("b"))
    disk.goes_on.set()
    assert good.wait(soon()) == also_good.wait(soon()) == did("c")
    with pytest.raises(ValueError, match="480"):
        bad.wait(soon())
    assert disk.read(["a", "b"], NOW) == [b"1", b"1"]


def stepped(disk):
    """Let the write under way go on, and hold the next one."""
    disk.goes_on.set()
    disk.goes_on.clear()


def test_failure_of_one_piece_of_a_split_group_is_told_to_the_rest_of_it(disk, start):
    commits = start()
    held(disk, commits)
    disk.errors = [ValueError("odd"), None, EngineFailed("EIO")]
    one, two, three = (commits.submit(put(key)) for key in "abc")
    disk.goes_on.set()
    assert one.wait(soon()) == did("c")
    for pending in (two, three):
        with pytest.raises(EngineFailed, match="EIO"):
            pending.wait(soon())
    assert disk.groups[1:] == [["a", "b", "c"], ["a"], ["b"]]
    assert commits.figures().waiting == 0


def test_pieces_of_a_split_group_that_are_not_tried_yet_are_told_when_the_writer_is_closed(disk, start):
    commits = start()
    held(disk, commits)
    disk.errors = [ValueError("odd")]
    pendings = [commits.submit(put(key)) for key in "abc"]
    stepped(disk)
    eventually(lambda: disk.groups[-1] == ["a"])
    commits.close(within=0.05)
    assert [pending.done for pending in pendings] == [True] * 3
    for pending in pendings:
        with pytest.raises(NotOnDisk, match="stopped"):
            pending.wait(soon())
    assert commits.figures().waiting == 0


def test_writer_that_meets_a_bug_leaves_nobody_waiting(disk, start, monkeypatch):
    told = []
    commits = start(on_failure=told.append)
    monkeypatch.setattr(commits._backlog, "take", lambda: 1 // 0)
    with pytest.raises(EngineFailed, match="ZeroDivisionError"):
        commits.submit(put("a")).wait(soon())
    assert len(told) == 1


# --- async ------------------------------------------------------------------------------------------------------------------


def test_async_set_is_early_and_goes_to_disk_all_the_same(disk, start):
    commits = start(durability="async")
    disk.goes_on.clear()
    pendings = [commits.submit(write) for write in (put("a", b"1", 1), put("b"), put("a", b"2", 2))]
    assert [(pending.early, pending.settled, pending.done) for pending in pendings] == [(True, True, False)] * 3
    with pytest.raises(NotOnDisk):
        pendings[0].wait(time.monotonic() + 0.02)
    disk.goes_on.set()
    assert [pending.wait(soon()) for pending in pendings] == [did("c"), did("c"), did("r")]
    assert disk.read(["a", "b"], NOW) == [b"2", b"1"]


def test_reader_of_a_write_that_cannot_be_stored_is_not_told_of_it(disk, start):
    commits = start()
    held(disk, commits)
    bad = commits.submit(put("x" * 500))
    reader = gevent.spawn(bad.wait_for_reading, soon())
    disk.goes_on.set()
    reader.get(timeout=10)
    assert bad.failed
    with pytest.raises(ValueError, match="480"):
        bad.wait(soon())


# --- writes that were decided on others -------------------------------------------------------------------------------------


def test_write_that_was_decided_on_one_that_comes_to_nothing_comes_to_nothing(disk, start):
    """In the same group, in a later one, and over several steps; others go on."""
    commits = start()
    held(disk, commits)
    disk.errors = [EngineFull("full")]
    first = commits.submit(put("a"))
    on_it = commits.submit(put("a", None, 2), after=[first])
    on_that = commits.submit(put("a", None, 3), after=[on_it])
    delete = commits.submit(put("first", None, 4))
    later = commits.submit(put("b", b"1", 5), after=[delete])
    disk.goes_on.set()
    with pytest.raises(EngineFull):
        first.wait(soon())
    for pending in (on_it, on_that):
        with pytest.raises(Unavailable, match="was not written"):
            pending.wait(soon())
    assert delete.wait(soon()) == did("r")
    with pytest.raises(EngineFull):
        later.wait(soon())
    again = commits.submit(put("b", b"1", 6), after=[delete])
    assert again.wait(soon()) == did("c")
    assert commits.submit(put("c", b"1", 7), after=[first]).failed is False
    eventually(lambda: commits.figures().waiting == 0)
    assert disk.read(["a", "b", "c", "first"], NOW) == [None, b"1", None, None]


def test_writes_that_are_over_are_told_of_before_anybody_goes_on(disk, start):
    commits = start()
    told = []
    commits.on_over = lambda over: told.extend(pending.write.keys[0] for pending in over)
    held(disk, commits)
    disk.errors = [EngineFull("full")]
    refused, delete = commits.submit(put("a")), commits.submit(put("b", None))
    seen = [
        gevent.spawn(lambda pending=pending: (pending.wait_for_reading(soon()), list(told))[1]) for pending in (refused, delete)
    ]
    gevent.sleep(0)
    disk.goes_on.set()
    assert "a" in seen[0].get(timeout=10)
    assert "b" in seen[1].get(timeout=10)
    eventually(lambda: sorted(told) == ["a", "b", "first"])


def test_delete_that_is_tried_again_on_a_full_disk_is_waited_for(disk, start):
    commits = start()
    held(disk, commits)
    disk.errors = [EngineFull("full")]
    delete = commits.submit(put("first", None, 2))
    refused = commits.submit(put("b"))
    flushing = gevent.spawn(commits.flush, soon())
    gevent.sleep(0)
    stepped(disk)
    with pytest.raises(EngineFull):
        refused.wait(soon())
    eventually(lambda: len(disk.groups) == 3)
    assert not delete.done
    with pytest.raises(NotOnDisk):
        commits.flush(time.monotonic() + 0.02)
    assert not flushing.ready()
    disk.goes_on.set()
    flushing.get(timeout=10)
    assert disk.read(["first"], NOW) == [None]


# --- async, counted ---------------------------------------------------------------------------------------------------------


def test_async_delete_says_what_existed(disk, start):
    commits = start(durability="async")
    commits.submit(put("a"))
    assert commits.submit(put("a", None, 2)).wait(soon()) == did("r")


def test_async_set_that_is_counted_says_what_existed(disk, start):
    commits = start(durability="async")
    commits.submit(put("a"))
    assert commits.submit(put("a", b"2", 2), counted=True).wait(soon()) == did("r")
    assert commits.submit(put("b", b"2", 2), counted=True).wait(soon()) == did("c")


def test_async_set_that_is_counted_and_fails_is_told_so_and_writing_goes_on(disk, start):
    told = []
    commits = start(durability="async", on_failure=told.append)
    held(disk, commits)
    disk.errors = [EngineFull("full")]
    counted = commits.submit(put("a"), counted=True)
    disk.goes_on.set()
    with pytest.raises(EngineFull):
        counted.wait(soon())
    assert commits.submit(put("b"), counted=True).wait(soon()) == did("c")
    assert told == []


@pytest.mark.parametrize("error", [EngineFull("full"), SnapshotRunning("a snapshot")])
def test_async_set_for_which_there_is_no_room_is_refused_before_it_is_acknowledged(disk, start, error):
    told = []
    commits = start(durability="async", on_failure=told.append)
    disk.refuses = error
    with pytest.raises(type(error)):
        commits.submit(put("a"))
    assert commits.submit(put("x", None)).wait(soon()) == did("u")
    disk.refuses = None
    commits.submit(put("a"))
    commits.flush(soon())
    assert disk.read(["a"], NOW) == [b"1"]
    assert told == []


def test_read_fails_as_a_read_when_the_disk_hangs_or_fails(disk, start):
    commits = start()
    held(disk, commits)
    disk.errors = [EngineFailed("EIO")]
    pending = commits.submit(put("a"))
    with pytest.raises(Unavailable) as caught:
        pending.wait_for_reading(time.monotonic() + 0.02)
    assert (caught.value.code, caught.value.retryable) == ("unavailable", True)
    disk.goes_on.set()
    with pytest.raises(EngineFailed):
        pending.wait_for_reading(soon())


@pytest.mark.parametrize("error", [EngineFull("full"), EngineFailed("EIO"), SnapshotRunning("busy")])
def test_async_commit_that_fails_ends_all_writing(disk, start, error):
    told = []
    commits = start(durability="async", on_failure=told.append)
    held(disk, commits)
    disk.errors = [error]
    assert commits.submit(put("a")).early
    disk.goes_on.set()
    eventually(lambda: told)
    assert isinstance(told[0], EngineFailed)
    with pytest.raises(EngineFailed):
        commits.submit(put("b"))


# --- settle, reclaim, close -------------------------------------------------------------------------------------------------


def test_flush_waits_for_what_was_admitted_before_and_not_after(disk, start):
    commits = start(durability="async")
    commits.flush(soon())
    held(disk, commits)
    commits.submit(put("a"))
    with pytest.raises(NotOnDisk):
        commits.flush(time.monotonic() + 0.02)
    flushing = gevent.spawn(commits.flush, soon())
    gevent.sleep(0)
    disk.goes_on.set()
    flushing.get(timeout=10)
    assert disk.live == 2


def test_flush_after_a_refused_write_is_fine(disk, start):
    commits = start()
    held(disk, commits)
    disk.errors = [EngineFull("full")]
    commits.submit(put("a"))
    flushing = gevent.spawn(commits.flush, soon())
    gevent.sleep(0)
    disk.goes_on.set()
    flushing.get(timeout=10)


# --- copies -----------------------------------------------------------------------------------------------------------------


def record(value=b"1", millis=1):
    return Record(at(millis), value)


def test_write_of_a_replica_that_finds_a_later_one_ends_nothing(disk, start):
    commits = start()
    commits.submit(put("a", b"9", 9)).wait(soon())
    late = commits.submit(put("a", b"1", 1), copied=True)
    assert late.wait(soon()) == late.effects == did("k")
    assert disk.read(["a"], NOW) == [b"9"]
    assert commits.submit(put("b"), copied=True).wait(soon()) == did("c")
    assert commits.failure is None


def test_write_that_is_no_replicas_and_finds_a_later_one_ends_all_writing(disk, start):
    commits = start()
    commits.submit(put("a", b"9", 9)).wait(soon())
    group = [commits.submit(put("b"), copied=True), commits.submit(put("a", b"1", 1))]
    with pytest.raises(EngineFailed, match="lesser version"):
        group[1].wait(soon())
    assert isinstance(commits.failure, EngineFailed)


def test_write_of_a_replica_in_memory_may_find_a_later_one(start):
    engine = MemoryEngine(tokens)
    commits = start(engine)
    commits.submit(put("a", b"9", 9), copied=True)
    late = commits.submit(put("a", b"1", 1), copied=True)
    assert (late.done, late.effects) == (True, did("k"))
    with pytest.raises(EngineFailed):
        commits.submit(put("a", b"1", 1))
    assert commits.replace([("a", record(b"0", 0))], ["b"]).done
    assert engine.read(["a"], NOW) == [b"0"]


def test_write_of_a_replica_is_admitted_whatever_waits_and_never_early(disk, start, monkeypatch):
    monkeypatch.setattr(backlog, "MAX_WRITES", 2)
    commits = start(durability="async")
    held(disk, commits)
    commits.submit(put("a"))
    with pytest.raises(Unavailable):
        commits.submit(put("b"))
    copies = [commits.submit(put("c"), copied=True), commits.replace([("d", record())], [])]
    assert not any(pending.settled for pending in copies)
    disk.goes_on.set()
    commits.flush(soon())
    assert disk.read(["a", "b", "c", "d"], NOW) == [b"1", None, b"1", b"1"]


def test_replacement_takes_its_turn_among_the_writes(disk, start):
    commits = start()
    over = []
    commits.on_over = over.extend
    held(disk, commits)
    commits.submit(put("a", b"9", 9), copied=True)
    replaced = commits.replace([("a", record(b"2", 2)), ("t", record(None, 3))], ["x"])
    commits.submit(put("a", b"1", 1), copied=True)
    commits.submit(put("x", b"5", 1), copied=True)
    disk.goes_on.set()
    assert replaced.wait(soon()) == []
    assert disk.groups[1] == ["a", "a", "t", "x", "a", "x"]
    assert disk.records_of(["a", "t", "x"]) == [record(b"2", 2), record(None, 3), record(b"5", 1)]
    assert len(over) == 5


def test_replacement_without_room_is_refused_with_the_values_and_drops_go_on(disk, start):
    commits = start()
    over = []
    commits.on_over = over.extend
    held(disk, commits)
    disk.errors = [EngineFull("full")]
    value, drop = commits.replace([("a", record())], ["b"]), commits.replace([("t", record(None))], ["first"])
    disk.goes_on.set()
    commits.flush(soon())
    assert isinstance(value.error, EngineFull)
    assert (drop.failed, drop.error) == (False, None)
    assert {value, drop} <= set(over)
    assert disk.records_of(["a", "t", "first"]) == [None, record(None), None]


def test_tombstones_are_left_to_others_if_they_say_which_may_go(disk, start, monkeypatch):
    monkeypatch.setattr(reclaim, "RECLAIM_EVERY", 0.001)
    time_of_day = [NOW]
    commits = start(tombstone_ttl=50, now=lambda: time_of_day[0])
    commits.reclaims = False
    commits.submit(Write(at(1), ["a"], [None])).wait(soon())
    assert commits.forgets_until == -1
    time_of_day[0] += 50
    assert commits.forgets_until == NOW
    rounds = len(disk.tended)
    eventually(lambda: len(disk.tended) > rounds + 3)
    assert disk.forgotten == []
    commits.reclaims = True
    eventually(lambda: disk.tombstones == 0)


def test_room_for_a_write_can_be_asked_for_before_it_is_handed_over(disk, start):
    commits = start()
    commits.admit(put("a"))
    disk.refuses = EngineFull("full")
    with pytest.raises(EngineFull):
        commits.admit(put("a"))


def test_reclaim_takes_what_is_due_in_small_steps(disk, start, monkeypatch):
    monkeypatch.setattr(reclaim, "RECLAIM_EVERY", 0.01)
    disk.write([Write(at(1), [f"k{i}" for i in range(1000)], [None] * 1000)], NOW)
    disk.threads.clear()
    start(tombstone_ttl=0)
    eventually(lambda: disk.tombstones == 0)
    assert max(disk.forgotten) == reclaim.RECLAIM_STEP
    assert threading.get_ident() not in disk.threads


def test_tombstones_of_earlier_runs_are_as_old_as_this_one(disk, start, monkeypatch):
    """A clock that was wrong before, or is now, makes none of them old."""
    monkeypatch.setattr(reclaim, "RECLAIM_EVERY", 0.001)
    time_of_day = [NOW]
    disk.write([Write(at(1), ["old"], [None])], NOW - 1_000)
    start(tombstone_ttl=50, now=lambda: time_of_day[0])
    rounds = len(disk.tended)
    eventually(lambda: len(disk.tended) > rounds + 3)
    assert disk.tombstones == 1
    time_of_day[0] += 50
    eventually(lambda: disk.tombstones == 0)


def test_store_is_tended_on_the_loops_thread(disk, start, monkeypatch):
    monkeypatch.setattr(reclaim, "RECLAIM_EVERY", 0.01)
    start()
    eventually(lambda: len(disk.tended) > 2)
    assert set(disk.tended) == {threading.get_ident()}


def test_reclaim_lets_waiting_writes_go_first(disk, start, monkeypatch):
    monkeypatch.setattr(reclaim, "RECLAIM_EVERY", 0.01)
    commits = start(tombstone_ttl=0)
    order = []
    write, forget = disk.write, disk.forget
    disk.write = lambda *args: (order.append("write"), write(*args))[1]
    disk.forget = lambda *args: (order.append("reclaim"), forget(*args))[1]
    disk.goes_on.clear()
    commits.submit(Write(at(1), [f"k{i}" for i in range(1900)], [None] * 1900))
    eventually(lambda: disk.groups)
    gevent.sleep(0.02)  # so that reclaiming is due as well
    pendings = [commits.submit(Write(at(2), [f"x{i}-{j}" for j in range(1900)], [b"1"] * 1900)) for i in range(5)]
    order.clear()
    disk.goes_on.set()
    pendings[-1].wait(soon())
    eventually(lambda: disk.tombstones == 0)
    assert order.index("write") < 2
    last = max(place for place, step in enumerate(order) if step == "write")
    assert order[:last].count("reclaim") <= 2  # the rest came when no write was waiting
    assert order[last:].count("reclaim") >= 5


def test_reclaim_that_finds_no_room_ends_nothing_and_that_fails_ends_writing(disk, start, monkeypatch):
    monkeypatch.setattr(reclaim, "RECLAIM_EVERY", 0.01)
    errors = [EngineFull("full"), SnapshotRunning("busy"), EngineFailed("EIO")]

    def failing(*_args):
        raise errors.pop(0)

    disk.forget = failing
    commits = start(tombstone_ttl=0)
    eventually(lambda: len(errors) < 2)
    with suppress(EngineFailed):
        commits.submit(put("a"))
    eventually(lambda: not errors)
    eventually(lambda: isinstance(commits.failure, EngineFailed))


def test_close_brings_what_was_admitted_to_disk_and_admits_no_more(disk, start):
    commits = start()
    held(disk, commits)
    pending = commits.submit(put("a"))
    closing = gevent.spawn(commits.close)
    gevent.sleep(0)
    with pytest.raises(Unavailable):
        commits.submit(put("b"))
    disk.goes_on.set()
    closing.get(timeout=10)
    assert pending.wait(soon()) == did("c")
    assert disk.read(["a", "b"], NOW) == [b"1", None]
    commits.close()


def test_close_gives_up_on_a_disk_that_hangs(disk, start):
    commits = start()
    pending = held(disk, commits)
    commits.close(within=0.05)
    with pytest.raises(NotOnDisk):
        pending.wait(soon())


def test_store_whose_writer_hangs_is_left_open_at_the_end_and_its_stop_is_no_orderly_one(start, tmp_path):
    engine = LmdbEngine(tmp_path / "data", "n1", tokens)
    commits = start(engine)
    commits.submit(put("a")).wait(soon())
    hangs, closed, goes_on = threading.Event(), threading.Event(), threading.Event()
    write = engine.write

    def hanging(writes, now, syncing):
        def hang():
            syncing()
            hangs.set()
            assert goes_on.wait(20)

        return write(writes, now, hang)

    engine.write = hanging
    commits.submit(put("b"))
    eventually(hangs.is_set)
    commits.close(within=0.05)
    late = []

    def watch():
        if not closed.wait(5):
            late.append("the end waits for the writer's transaction")
            goes_on.set()

    watching = threading.Thread(target=watch)
    watching.start()
    engine.close()
    closed.set()
    watching.join(10)
    assert late == []
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "data", copy)
    after = LmdbEngine(copy, "n1", tokens)
    assert (after.was_clean, after.read(["a", "b"], NOW)) == (False, [b"1", None])
    after.close()
    goes_on.set()  # as the end of the process would
    commits._writer._thread.call(lambda: None)
    engine._store.close(clean=False)


def test_snapshot_that_gets_no_thread_is_over(start, tmp_path, monkeypatch):
    engine = LmdbEngine(tmp_path / "data", "n1", tokens)
    commits = start(engine)

    def refuse(*_args):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, (tmp_path / "copy").open("wb") as file:
        patch.setattr(NativeThread, "begin", refuse)
        patch.setattr(commits._writer, "run", lambda call: call(no_call))
        with pytest.raises(RuntimeError, match="thread"):
            commits.snapshot(file.fileno())
    assert engine.store_figures.snapshot_seconds is None
    commits.snapshot(os.open(tmp_path / "copy", os.O_WRONLY)).end()
    commits.close()
    engine.close()


# --- engines ----------------------------------------------------------------------------------------------------------------


def test_engine_that_is_not_durable_is_written_at_once_on_the_callers_thread(start):
    engine = MemoryEngine(tokens)
    commits = start(engine)
    pending = commits.submit(put("a"))
    assert engine.read(["a"], NOW) == [b"1"]
    assert pending.wait(0) == did("c")
    commits.flush(0)
    with pytest.raises(ValueError, match="480"):
        commits.submit(put("x" * 500))
    assert commits.figures().writes == 1


def test_engine_that_is_not_durable_is_reclaimed_too(start, monkeypatch):
    monkeypatch.setattr(reclaim, "RECLAIM_EVERY", 0.01)
    engine = MemoryEngine(tokens)
    commits = start(engine, tombstone_ttl=0)
    commits.submit(Write(at(1), [f"k{i}" for i in range(500)], [None] * 500))
    eventually(lambda: engine.tombstones == 0)


def test_greenlets_write_and_read_through_lmdb_and_its_map_grows(start, tmp_path):
    engine = LmdbEngine(tmp_path / "data", "n1", tokens)
    commits = start(engine, durability="sync")

    def work(number):
        for step in range(10):
            keys = [f"{number}-{step}-{i}" for i in range(10)]
            commits.submit(Write(at(1), keys, [bytes(20_000)] * 10)).wait(time.monotonic() + 60)
            assert engine.read(keys, NOW) == [bytes(20_000)] * 10

    workers = [gevent.spawn(work, number) for number in range(50)]
    gevent.joinall(workers, timeout=100, raise_error=True)
    assert engine.live == 5_000
    assert engine.store_figures.map_bytes > 64 << 20
    assert commits.figures().commits < 500
    copy = tmp_path / "copy"
    copy.mkdir()
    commits.snapshot(os.open(copy / "data.mdb", os.O_WRONLY | os.O_CREAT)).end()
    other = LmdbEngine(copy, "n1", tokens)
    assert other.live == 5_000
    other.close()
    commits.close()
    assert engine.check() == []
    engine.close()


def test_snapshot_of_an_engine_without_files_is_refused(start):
    with pytest.raises(EngineError, match="nothing on disk"):
        start(MemoryEngine(tokens)).snapshot(1)


@pytest.mark.promise("I1")
@pytest.mark.parametrize("value", [b"2", None])
def test_write_that_comes_later_than_the_record_and_has_a_lesser_version_is_never_acknowledged(disk, start, value):
    commits = start()
    commits.submit(put("a", millis=9)).wait(soon())
    with pytest.raises(EngineFailed, match="not acknowledged"):
        commits.submit(put("a", value, millis=8)).wait(soon())
    with pytest.raises(EngineFailed):
        commits.submit(put("b", millis=10))
    assert disk.read(["a"], NOW) == [b"1"]
