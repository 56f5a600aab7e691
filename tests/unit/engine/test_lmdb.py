"""The rules of the LMDB engine, each with a test that fails when it is taken out."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lmdb
import pytest

from gkv.engine import environment as environment_module
from gkv.engine.directory import RESERVE
from gkv.engine.environment import Environment
from gkv.engine.lmdb import LmdbEngine
from gkv.engine.memory import MemoryEngine
from gkv.engine.room import MIN_MAP
from gkv.errors import EngineError, EngineFailed, EngineFull, OutOfRoom, SnapshotRunning
from gkv.model import Blob, Damage, Effect, Record, Replacement, Version, Write
from gkv.ring import tokens

NOW = 1_000_000
ALL = (1 << 64) - 1


def did(letters):
    """Return the effects of a write, a letter for each key."""
    return [Effect(letter) for letter in letters]


def at(millis):
    return Version(millis << 16, 1)


def puts(engine, items, millis, expires=()):
    return engine.write([Write(at(millis), list(items), list(items.values()), expires)], NOW)[0]


def grown(engine, items, millis):
    while True:
        try:
            return puts(engine, items, millis)
        except OutOfRoom:
            engine.grow()


def problems(engine):
    return [line for step in engine.verify() for line in step.lines]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def start(path):
    """Return a function that opens the engine at `path`; close them all at the end."""
    opened = []

    def opening(node="n1", **settings):
        engine = LmdbEngine(settings.pop("at", path), node, tokens, **settings)
        opened.append(engine)
        return engine

    yield opening
    for engine in opened:
        engine.close()


# --- opening ----------------------------------------------------------------------------------------------------------------


def test_environment_syncs_and_is_not_written_through_the_map(start):
    engine = start()
    flags = engine._environment.env.flags()
    assert flags["sync"] is flags["metasync"] is flags["lock"] is True
    assert flags["writemap"] is flags["readahead"] is flags["map_async"] is False
    assert engine._environment.env.max_readers() >= 126
    assert engine.durable


def test_files_are_for_their_owner_alone(start, path):
    start()
    assert path.stat().st_mode & 0o077 == 0
    assert all((path / name).stat().st_mode & 0o077 == 0 for name in ("data.mdb", "lock.mdb", "owner.lock"))


def test_new_directory_and_its_parent_are_synced(start, path, monkeypatch):
    synced = []
    fsync = os.fsync

    def noting(fd):
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noting)
    start()
    assert {str(path), str(path.parent)} <= set(synced)
    synced.clear()
    deep = path.parent / "x" / "y" / "z"
    start(at=deep)
    assert {str(deep), *(str(above) for above in list(deep.parents)[:3])} <= set(synced)


def test_era_that_no_record_is_later_than_is_known_at_the_next_start_and_in_a_copy(start, path, tmp_path):
    engine = start()
    engine.join("c1")
    assert engine.era == 0
    for era in (7, 8):
        engine.write([Write(Version(era, 1), [f"k{era}"], [b"1"])], NOW)
    engine.write([Replacement.of([(f"k{era}", Record(Version(era, 1), b"1")) for era in (6, 9, 8)], ["x"])], NOW)
    copy = tmp_path / "copy"
    copy.mkdir()
    with (copy / "data.mdb").open("wb") as file:
        engine.begin_snapshot()
        engine.copy_snapshot(file.fileno())
        engine.end_snapshot()
    engine.close()
    assert start().era == start(at=copy).era == 9


def test_era_of_another_cluster_is_forgotten_with_it(start):
    engine = start()
    engine.join("c1")
    engine.write([Write(Version(9, 1), ["k"], [None])], 0)
    assert engine.forget(NOW, 9) == 1
    engine.join("c2")
    engine.write([Write(Version(3, 1), ["k"], [b"1"])], NOW)
    engine.close()
    assert start().era == 3


def test_records_are_there_after_a_restart(start):
    engine = start()
    engine.join("c1")
    puts(engine, {"a": b"1", "b": b"2", "c": b"3"}, 1, [0, NOW + 5, 0])
    puts(engine, {"c": None}, 2)
    before = (engine.arc(0, ALL, None, 9), engine.size, engine.live, engine.tombstones)
    engine.close()
    engine = start()
    assert (engine.arc(0, ALL, None, 9), engine.size, engine.live, engine.tombstones) == before
    assert engine.cluster == "c1"
    assert engine.check() == []


OPEN = """
import sys
from pathlib import Path
from gkv.engine.lmdb import LmdbEngine
from gkv.errors import EngineError
from gkv.ring import tokens
try:
    LmdbEngine(Path(sys.argv[1]), "n1", tokens)
except EngineError as error:
    print("refused:", error)
else:
    print("opened")
"""


def test_second_process_is_refused_by_name_of_the_directory(start, path):
    engine = start()
    run = [sys.executable, "-c", OPEN, str(path)]
    assert subprocess.run(run, capture_output=True, text=True, timeout=30).stdout == (
        f"refused: {path} is in use by another gkv process; give this node a directory of its own\n"
    )
    with pytest.raises(EngineError, match="in use"):
        start()
    puts(engine, {"a": b"1"}, 1)
    engine.close()
    assert subprocess.run(run, capture_output=True, text=True, timeout=30).stdout == "opened\n"


def test_refused_opening_leaves_the_directory_free(start):
    start().close()
    with pytest.raises(EngineError, match="n1"):
        start("n2")
    start()


def test_another_nodes_records_are_refused(start, path):
    start().close()
    with pytest.raises(
        EngineError, match=r"data\.mdb holds the records of node 'n1', this is node 'n2'.*own directory"
    ) as caught:
        start("n2")
    assert str(path) in str(caught.value)


def test_another_format_is_refused(start, path, monkeypatch):
    monkeypatch.setattr(environment_module, "FORMAT", b"gkv-engine 99")
    start().close()
    monkeypatch.undo()
    with pytest.raises(EngineError, match=r"data\.mdb has the format 'gkv-engine 99', this version reads 'gkv-engine 2'"):
        start()


@pytest.mark.parametrize("content", [b"hello", b"\0" * 8192, b"x" * 100_000], ids=["short", "zeros", "long"])
def test_file_that_is_not_lmdbs_is_refused_and_left_alone(start, path, content):
    path.mkdir()
    (path / "data.mdb").write_bytes(content)
    with pytest.raises(EngineError, match=r"data\.mdb cannot be opened.*empty one"):
        start()
    assert (path / "data.mdb").read_bytes() == content


def test_somebody_elses_lmdb_file_is_refused(start, path):
    path.mkdir()
    with lmdb.open(str(path), max_dbs=2) as env, env.begin(write=True) as txn:
        txn.put(b"mine", b"1")
    with pytest.raises(EngineError, match=r"not gkv's.*mine"):
        start()


def test_file_that_was_never_finished_is_begun_anew(start, path):
    path.mkdir()
    lmdb.open(str(path), max_dbs=8).close()
    assert puts(start(), {"a": b"1"}, 1) == did("c")


def test_stop_is_clean_only_after_close(start, path, tmp_path):
    engine = start()
    assert engine.was_clean
    puts(engine, {"a": b"1"}, 1)
    crashed = tmp_path / "crashed"
    shutil.copytree(path, crashed)
    engine.close()
    again = start()
    assert again.was_clean
    assert not start(at=crashed).was_clean
    crashed_again = tmp_path / "crashed again"
    shutil.copytree(path, crashed_again)
    assert not start(at=crashed_again).was_clean


def test_stop_after_a_failure_is_not_clean(start):
    engine = start()
    engine._store.failed = EngineFailed("the disk is gone")
    engine.close()
    assert not start().was_clean


def test_closed_engine_says_so(start):
    engine = start()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.read(["a"], NOW)


# --- room -------------------------------------------------------------------------------------------------------------------


def test_write_that_does_not_fit_the_map_changes_nothing_and_goes_after_growing(start):
    engine = start()
    puts(engine, {"a": b"1"}, 1)
    many = {f"k{i}": bytes(1 << 20) for i in range(MIN_MAP >> 20)}
    with pytest.raises(OutOfRoom):
        puts(engine, many | {"a": b"2"}, 2)
    assert engine.read(["a", "k0"], NOW) == [b"1", None]
    assert engine._store.failed is None
    engine.grow()
    assert puts(engine, many | {"a": b"2"}, 2) == did("c" * len(many) + "r")
    assert engine.check() == []
    engine.close()
    again = start()
    assert again._store.room.map_bytes > MIN_MAP
    assert again.read(["a"], NOW) == [b"2"]


def fill(engine, expires):
    """Write until the engine is full; return the keys."""
    written = []
    for number in range(10_000):
        items = {f"k{number}-{i}": bytes(10_000) for i in range(20)}
        try:
            puts(engine, items, 2, expires)
        except EngineFull:
            return written
        written += items
    raise AssertionError("it is never full")


def test_bound_on_the_disk_refuses_values_and_not_deletes(start, path):
    bound = 16 << 20
    engine = start(max_disk=bound)
    written = fill(engine, [])
    assert engine._environment.held() <= bound - (1 << 20)  # what is above is for deletes, and no group may reach into it
    assert engine.size > bound // 2
    batch = {f"x{i}": bytes(10_000) for i in range(20)}
    with pytest.raises(EngineFull) as caught:
        puts(engine, batch, 1)
    assert (caught.value.status, caught.value.code) == (507, "disk-full")
    assert engine.store_figures.is_full
    assert engine.read(written[:1], NOW) == [bytes(10_000)]
    for start_at in range(0, len(written) // 2, 50):
        puts(engine, dict.fromkeys(written[start_at : start_at + 50]), 3)
    puts(engine, batch, 4)
    assert not engine.store_figures.is_full
    assert engine.read(["x0", written[0], written[-1]], NOW) == [bytes(10_000), None, bytes(10_000)]
    assert (path / "data.mdb").stat().st_size <= bound
    assert engine.check() == []


def test_bound_holds_over_a_restart_and_for_tombstones(start):
    engine = start(max_disk=16 << 20)
    fill(engine, [NOW + 1] * 20)
    engine.close()
    engine = start(max_disk=16 << 20)
    with pytest.raises(EngineFull):
        puts(engine, {f"x{i}": bytes(10_000) for i in range(20)}, 1)
    while due := engine.due(NOW + 1, 100):
        puts(engine, dict.fromkeys(due), 3)
    assert engine.live == 0
    puts(engine, {f"x{i}": bytes(10_000) for i in range(20)}, 1)


def test_bound_that_is_too_small_is_refused(start):
    with pytest.raises(EngineError, match="needs"):
        start(max_disk=1 << 20)


class Failing:
    """A transaction whose commit raises, after it has been aborted as LMDB does."""

    def __init__(self, txn, error):
        self._txn = txn
        self._error = error

    def __getattr__(self, name):
        return getattr(self._txn, name)

    def commit(self):
        self._txn.abort()
        raise self._error


class Refusing:
    """An environment of LMDB's whose transactions that write, but the first, cannot begin."""

    def __init__(self, env):
        self._env = env
        self._begun = 0

    def __getattr__(self, name):
        return getattr(self._env, name)

    def begin(self, *args, write=False, **more):
        self._begun += write
        if self._begun > 1:
            raise lmdb.Error("mdb_txn_begin: Input/output error")
        return self._env.begin(*args, write=write, **more)


def test_store_that_cannot_note_its_use_is_said_to_be_unwritable_and_not_damaged(start, monkeypatch):
    start().close()
    really = lmdb.open
    with monkeypatch.context() as patch:
        patch.setattr(lmdb, "open", lambda *args, **more: Refusing(really(*args, **more)))
        with pytest.raises(EngineError, match=r"data\.mdb cannot be written: .*Input/output"):
            start()
    assert start().was_clean


@pytest.fixture
def fail(monkeypatch):
    """Return a function that makes the next commits of an engine raise these errors."""

    def failing(engine, *errors):
        left = list(errors)
        begin = Environment.begin

        def beginning(self, write=False):
            txn = begin(self, write)
            return Failing(txn, left.pop(0)) if write and left else txn

        monkeypatch.setattr(Environment, "begin", beginning)
        return left

    return failing


def test_commit_error_ends_all_writing_and_not_reading(start, fail):
    engine = start()
    puts(engine, {"a": b"1"}, 1)
    fail(engine, lmdb.Error("mdb_txn_commit: Input/output error"))
    with pytest.raises(EngineFailed, match="Input/output"):
        puts(engine, {"a": b"2"}, 2)
    for _ in range(2):
        with pytest.raises(EngineFailed):  # though LMDB itself would go on
            puts(engine, {"b": b"1"}, 3)
    with pytest.raises(EngineFailed):
        puts(engine, {"b": None}, 4)
    assert engine.read(["a", "b"], NOW) == [b"1", None]


@pytest.mark.parametrize(
    "error",
    [
        lmdb.CorruptedError("x"),
        lmdb.PanicError("x"),
        lmdb.PageNotFoundError("x"),
        lmdb.TxnFullError("x"),
        lmdb.BadTxnError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_other_error_of_lmdb_in_a_commit_ends_writing_too(start, fail, error):
    engine = start()
    fail(engine, error)
    with pytest.raises(EngineFailed):
        puts(engine, {"a": b"1"}, 1)
    assert engine._store.failed is not None


NO_SPACE = [lmdb.DiskError("No space left on device"), lmdb.Error(f"mdb_txn_commit: {os.strerror(errno.EDQUOT)}")]


@pytest.mark.parametrize("error", NO_SPACE, ids=["disk", "quota"])
def test_full_disk_refuses_values_and_gives_the_reserve_up_for_deletes(start, path, fail, monkeypatch, error):
    free = SimpleNamespace(f_bavail=1 << 30, f_frsize=1)
    engine = start()
    assert (path / "reserve").stat().st_blocks * 512 >= RESERVE
    puts(engine, {"a": b"1", "b": b"1"}, 1)
    monkeypatch.setattr(os, "statvfs", lambda _path: free)
    free.f_bavail = 1000
    left = fail(engine, error)
    with pytest.raises(EngineFull):
        puts(engine, {"a": b"2"}, 2)
    assert not left
    assert engine._store.failed is None
    assert (path / "reserve").exists()  # no value may have it
    left = fail(engine, error, error)
    with pytest.raises(EngineFull):
        puts(engine, {"a": b"2"}, 3)
    assert len(left) == 2  # it was not even tried
    left.pop()
    assert puts(engine, {"a": None}, 4) == did("r")
    assert not left
    assert not (path / "reserve").exists()
    with pytest.raises(EngineFull):
        puts(engine, {"c": b"1"}, 5)
    free.f_bavail = 1 << 30
    assert puts(engine, {"c": b"1"}, 6) == did("c")
    assert (path / "reserve").exists()
    assert engine.read(["a", "b", "c"], NOW) == [None, b"1", b"1"]


def test_full_disk_takes_values_again_when_the_file_has_room_inside(start, fail, monkeypatch):
    free = SimpleNamespace(f_bavail=1 << 30, f_frsize=1)
    engine = start()
    grown(engine, {f"k{i}": bytes(1 << 20) for i in range(20)}, 1)
    monkeypatch.setattr(os, "statvfs", lambda _path: free)
    free.f_bavail = 0
    fail(engine, NO_SPACE[0])
    with pytest.raises(EngineFull):
        puts(engine, {"a": b"2"}, 2)
    with pytest.raises(EngineFull):
        puts(engine, {"a": b"2"}, 2)
    puts(engine, {f"k{i}": None for i in range(10)}, 2)
    assert puts(engine, {"a": b"2"}, 3) == did("c")


# --- damage -----------------------------------------------------------------------------------------------------------------


def flip(path, within, offset):
    """Flip a bit of the data file, `offset` bytes from where these bytes stand, wherever they do."""
    data = bytearray((path / "data.mdb").read_bytes())
    at_byte = data.find(within)
    assert at_byte >= 0
    while at_byte >= 0:
        data[at_byte + offset] ^= 0x10
        at_byte = data.find(within, at_byte + 1)
    (path / "data.mdb").write_bytes(data)


HEADER = 25
OFFSETS = {"value": 3, "checksum": 13, "expiry": -1, "version": -HEADER + 5, "kind": -HEADER}


@pytest.mark.parametrize("part", OFFSETS)
@pytest.mark.parametrize("expires", [0, NOW + 50])
def test_damaged_record_is_never_served_and_repaired_by_any_version(start, path, part, expires):
    engine = start()
    puts(engine, {"a": b"needle-value", "b": b"2"}, 5, [expires, 0])
    puts(engine, {"c": b"3"}, 5)
    engine.close()
    flip(path, b"needle-value", OFFSETS[part])
    engine = start()
    assert engine.read(["a", "b", "x"], NOW) == [Damage.DAMAGED, b"2", None]
    assert engine.records_of(["a"]) == engine.items_of(["a"]) == [Damage.DAMAGED]
    assert dict(engine.arc(0, ALL, None, 9))["a"] is Damage.DAMAGED
    assert [key for key, _ in engine.keys("", "", 9)] == ["a", "b", "c"]
    assert problems(engine) == ["'a' is damaged"]
    assert puts(engine, {"x": b"1", "a": b"repaired", "b": b"2"}, 1) == did("cdk")
    assert engine.read(["a", "b"], NOW) == [b"repaired", b"2"]
    assert engine.check() == []


def test_item_is_a_value_alone_if_it_lasts_and_is_json_and_else_the_whole_record(start):
    values = {"plain": b"1", "due": b"2", "blob": Blob(b"", "a/b"), "gone": None}
    records = [(key, Record(at(3), value, NOW + 5 if key == "due" else 0)) for key, value in values.items()]
    records.append(("tagged", Record(at(3), b"9", 0, at(2))))
    keys = [*values, "tagged", "none", "", "x" * 600]
    for engine in (start(), MemoryEngine(tokens)):
        engine.write([Replacement.of(records)], NOW)
        plain, *others = engine.records_of(keys)
        found = engine.items_of(keys)
        assert found[0] == plain.value
        assert [one.value if isinstance(one, Record) else one for one in found[1:]] == [one and one.value for one in others]
        assert found[1:4] == others[:3]
        assert engine.items_of(["plain", "due"], 0) in ([b"1"], [b"1", others[0]])


@pytest.mark.parametrize("part", OFFSETS)
@pytest.mark.parametrize("record", [Record(at(1), b"copied"), Record(at(1), None), Record(at(1), b"due", NOW + 5, at(2)), None])
def test_damaged_record_gives_way_to_a_replacement(start, path, record, part):
    engine = start()
    puts(engine, {"a": b"needle-value", "b": b"2"}, 5, [NOW + 50, 0])
    engine.close()
    flip(path, b"needle-value", OFFSETS[part])
    engine = start()
    assert engine.records_of(["a"]) == [Damage.DAMAGED]
    replacement = Replacement.of([("a", record)]) if record else Replacement.of([], ["a"])
    assert engine.write([replacement], NOW) == [[]]
    assert engine.records_of(["a"]) == [record]
    assert engine.check() == []


def lose(start, path):
    """Have the key of a record be another one than was written; return the engine, whose index of keys alone knows of it."""
    engine = start()
    puts(engine, {"a": b"1", "needle-key": b"lost", "z": b"2"}, 5)
    engine.close()
    flip(path, tokens(["needle-key"]) + b"needle-key", 17)
    return start()


def test_lost_record_is_damaged_and_not_missing(start, path):
    engine = lose(start, path)
    assert engine.read(["a", "needle-key", "z", "x"], NOW) == [b"1", Damage.DAMAGED, b"2", None]
    assert engine.read(["a", "needle-key", "z", "x", "y", "w"], NOW, 99) == [b"1", Damage.DAMAGED, b"2", None, None, None]
    assert engine.records_of(["needle-key", "", "x" * 600]) == [Damage.DAMAGED, None, None]


def test_record_that_a_page_in_disorder_hides_is_damaged_and_not_missing(start, path):
    """A token that is not what was written misleads those who look for others in its page."""
    keys = [f"key/{number}" for number in range(40)]
    engine = start()
    puts(engine, dict.fromkeys(keys, b"1"), 5)
    engine.close()
    middle = max((key for key in keys if tokens([key]) < b"\x80"), key=lambda key: tokens([key]))
    data = bytearray((path / "data.mdb").read_bytes())
    address = tokens([middle]) + middle.encode()
    while (at_byte := data.find(address)) >= 0:
        data[at_byte] ^= 0x80
    (path / "data.mdb").write_bytes(data)
    engine = start()
    assert set(engine.read(keys, NOW)) == {b"1", Damage.DAMAGED}
    last = max(int.from_bytes(tokens([key]), "big") for key in keys)
    found = [key for key, _ in engine.arc(0, last, None, 100)]  # one token is above that now, and ends nothing
    assert sorted(found) == sorted(set(keys) - {middle})


@pytest.mark.parametrize(
    ("value", "expires", "tag"), [(b"3", 0, None), (b"3", NOW + 5, None), (b"3", 0, at(1)), (None, 0, None)]
)
def test_lost_record_gives_way_to_a_write_that_repairs_and_to_no_other(start, path, value, expires, tag):
    engine = lose(start, path)
    write = Write(at(6), ["needle-key"], [value], [expires], [tag])
    assert engine.write([replace(write, repairs=False)], NOW) == [did("d")]
    assert engine.records_of(["needle-key"]) == [Damage.DAMAGED]
    assert engine.write([write], NOW) == [did("d")]
    assert engine.records_of(["needle-key"]) == [Record(at(6), value, expires, tag)]
    assert [key for key, _ in engine.keys("needle", "", 9)] == ["needle-key"] * (value is not None)
    assert [line for line in problems(engine) if "not its token" not in line] == []


@pytest.mark.parametrize("record", [Record(at(6), b"3"), Record(at(6), None), None])
def test_lost_record_gives_way_to_a_replacement(start, path, record):
    engine = lose(start, path)
    engine.write([Replacement.of([("needle-key", record)]) if record else Replacement.of([], ["needle-key"])], NOW)
    assert engine.records_of(["needle-key"]) == [record]
    assert [line for line in problems(engine) if "not its token" not in line] == []


def test_value_that_was_replaced_is_not_read_from_the_cache(path):
    engine = LmdbEngine(path, "n1", tokens, cache=1 << 20)
    for write in (Write(at(5), ["a"], [b"1"]), Replacement.of([("a", Record(at(1), b"2"))]), Replacement.of([], ["a"])):
        engine.begin_group([write])
        engine.write([write], NOW)
        engine.end_group()
        assert engine.read(["a"], NOW) == engine.read(["a"], NOW) == [write.values[0]]
    engine.close()


@pytest.mark.parametrize("repair", [b"repaired", None])
def test_damaged_tombstone_is_not_taken_for_missing_and_is_repaired(start, path, repair):
    engine = start()
    engine.write([Write(at(5), ["needle-key"], [None])], 0x313233343536)
    engine.close()
    flip(path, b"\0\x00123456"[1:], 3)
    engine = start()
    assert engine.read(["needle-key"], NOW) == [Damage.DAMAGED]
    assert puts(engine, {"needle-key": repair}, 1) == did("d")
    assert engine.read(["needle-key"], NOW) == [repair]
    late = 0x313233343536 + 100
    while engine.forget(late, 10):  # what was kept of the damaged one goes when its time has come
        pass
    assert engine.check() == []


def test_damaged_record_is_left_by_a_write_that_does_not_repair(start, path):
    """A copy may come again, and late: nobody knows whether it is older than what was there."""
    engine = start()
    puts(engine, {"a": b"needle-value", "b": b"2"}, 5)
    engine.close()
    flip(path, b"needle-value", 3)
    engine = start()
    assert engine.write([Write(at(9), ["a", "b"], [b"3", b"3"], repairs=False)], NOW) == [did("dr")]
    assert engine.read(["a", "b"], NOW) == [Damage.DAMAGED, b"3"]
    assert problems(engine) == ["'a' is damaged"]
    assert puts(engine, {"a": b"4"}, 1) == did("d")
    assert engine.check() == []


def test_damaged_record_is_not_due(start, path):
    engine = start()
    puts(engine, {"a": b"needle-value", "b": b"1"}, 5, [NOW + 1, NOW + 2])
    engine.close()
    flip(path, b"needle-value", 3)
    engine = start()
    assert engine.due(NOW + 2, 10) == ["b"]
    puts(engine, {"b": None}, 6)
    assert engine.due(NOW + 2, 10) == []
    assert engine.read(["a", "b"], NOW + 2) == [Damage.DAMAGED, None]


def test_record_under_another_key_is_damaged(start):
    engine = start()
    puts(engine, {"a": b"1", "b": b"2"}, 5)
    one, other = engine._addresses(["a", "b"])
    with engine._environment.begin(write=True) as txn:
        txn.put(one, txn.get(other))
    assert engine.read(["a", "b"], NOW) == [Damage.DAMAGED, b"2"]


def test_key_that_lies_at_a_wrong_token_is_found_and_ends_no_page(start):
    engine = start()
    puts(engine, {"a": b"1", "b": b"2", "c": b"3"}, 5)
    with engine._environment.begin(write=True) as txn:
        txn.put(bytes(8) + b"a", b"whatever")
    assert [key for key, _ in engine.arc(0, ALL, None, 1)] != ["a"] or engine.arc(0, 1, None, 1) == []
    assert engine.arc(0, 1, None, 9) == []
    assert any("not its token" in problem for problem in problems(engine))


@pytest.mark.parametrize("error", [lmdb.CorruptedError("x"), lmdb.PageNotFoundError("x")])
def test_pages_that_make_no_sense_are_damage_for_the_keys_of_the_call(start, monkeypatch, error):
    engine = start()
    puts(engine, {"a": b"1"}, 5)

    def beginning(*_args, **_more):
        raise error

    monkeypatch.setattr(Environment, "begin", beginning)
    assert engine.read(["a", "b"], NOW) == [Damage.DAMAGED] * 2
    assert engine.records_of(["a", "b"]) == [Damage.DAMAGED] * 2


def test_indices_that_disagree_are_found(start):
    engine = start()
    puts(engine, {"a": b"1", "b": b"2", "c": b"3", "d": b"4"}, 5, [0, NOW + 1, 0, 0])
    assert engine.check() == []
    with engine._environment.begin(write=True) as txn:
        txn.delete(b"a", db=engine._environment.listed)
        txn.put(b"ghost", b"", db=engine._environment.listed)
        txn.put(b"c", b"12345678", db=engine._environment.listed)
        txn.put(b"v" + bytes(8) + engine._addresses(["d"])[0], b"", db=engine._environment.due)
        txn.delete(b"v" + (NOW + 1).to_bytes(8, "big") + engine._addresses(["b"])[0], db=engine._environment.due)
        txn.put(b"size", b"77", db=engine._environment.meta)
    found = sorted(engine.check())
    assert [problem.split("'")[1] if "'" in problem else problem for problem in found] == [
        "a",
        "b",
        "c",
        "d",
        "ghost",
        found[-1],
    ]
    assert found[-1] == "the records have 6 bytes, 77 were counted"


def test_verify_goes_on_while_records_are_written(start):
    engine = start()
    puts(engine, {f"k{i}": b"1" for i in range(2_000)}, 1)
    found, steps = [], 0
    for step in engine.verify():
        found += step.lines
        steps += 1
        puts(engine, {f"n{steps}-{i}": b"1" for i in range(50)}, 2, [NOW + 5] * 50)
        puts(engine, {f"k{i}": None for i in range(steps, 2_000, 7)}, 3)
    assert found == []
    assert steps > 8


# --- snapshots --------------------------------------------------------------------------------------------------------------


def test_snapshot_starts_as_a_store(start, tmp_path):
    engine = start()
    puts(engine, {f"k{i}": b"%d" % i for i in range(3_000)}, 1)
    puts(engine, {f"k{i}": None for i in range(1_000)}, 2)
    copy = tmp_path / "copy"
    copy.mkdir()
    engine.begin_snapshot()
    with (copy / "data.mdb").open("wb") as file:
        engine.copy_snapshot(file.fileno())
    engine.end_snapshot()
    puts(engine, {"later": b"1"}, 3)
    other = start(at=copy)
    assert other.read(["k0", "k2999", "later"], NOW) == [None, b"2999", None]
    assert (other.live, other.tombstones) == (2_000, 1_000)
    assert not other.was_clean
    assert other.check() == []


def test_snapshot_while_writing_is_one_moments_and_the_map_does_not_grow(start, tmp_path):
    engine = start(max_disk=256 << 20)
    for number in range(40):
        grown(engine, {f"k{number}-{i}": bytes(20_000) for i in range(100)}, 1)
    engine.begin_snapshot()
    copy = tmp_path / "copy"
    copy.mkdir()
    reading, writing = os.pipe()  # which this test does not read at first, so the snapshot stays under way
    thread = threading.Thread(target=lambda: (engine.copy_snapshot(writing), os.close(writing)))
    thread.start()
    with (copy / "data.mdb").open("wb") as file, os.fdopen(reading, "rb") as pipe:
        file.write(pipe.read(4096))
        puts(engine, {f"k0-{i}": b"new" for i in range(100)}, 2)
        puts(engine, {"gone": None}, 2)
        with pytest.raises(SnapshotRunning) as caught:
            engine.grow()
        assert (caught.value.status, caught.value.retryable) == (503, True)
        with pytest.raises(SnapshotRunning):
            fill(engine, [])
        shutil.copyfileobj(pipe, file)
    thread.join(30)
    assert not thread.is_alive()
    refused = engine.store_figures.refused_by_snapshot
    assert refused > 0
    assert engine.forget(NOW, 1_000) == 0  # nobody asked for it, so it is not counted, and has its time later
    assert engine.store_figures.refused_by_snapshot == refused
    engine.end_snapshot()
    puts(engine, {"after": b"1"}, 3)
    other = start(at=copy)
    assert other.read(["k0-0", "k39-99"], NOW) == [bytes(20_000)] * 2
    assert other.live == 4_000
    assert other.check() == []


def test_write_that_a_snapshot_refuses_is_noted_by_the_writer_and_said_once_by_the_loop(start, monkeypatch, capfd):
    engine = start(max_disk=16 << 20)
    line = "writes are refused until the snapshot is done"
    for _ in range(2):
        engine.begin_snapshot()
        with monkeypatch.context() as patch:
            patch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=0, f_frsize=1))
            before = engine.store_figures.refused_by_snapshot
            for _ in range(2):
                with pytest.raises(SnapshotRunning):
                    puts(engine, {"a": bytes(1 << 20)}, 1)
            with pytest.raises(SnapshotRunning):
                engine.admit(Write(at(1), ["a"], [bytes(1 << 20)]), 0)
        assert engine.store_figures.refused_by_snapshot == before + 3
        assert line not in capfd.readouterr().err
        engine.tend()
        engine.tend()
        engine.end_snapshot()
        engine.tend()
        assert capfd.readouterr().err.count(line) == 1


def test_snapshot_that_cannot_be_written_says_so_and_lets_the_map_grow(start):
    engine = start()
    puts(engine, {"a": b"1"}, 1)
    reading = os.open("/dev/null", os.O_RDONLY)
    try:
        with pytest.raises(EngineError, match="snapshot"):
            engine.copy_snapshot(reading)
    finally:
        os.close(reading)


def test_map_before_a_snapshot_is_as_large_as_the_disk_lets_the_file_be(start):
    engine = start()
    end, free = engine._environment.end, engine._store.directory.free(engine._environment.file)
    engine.begin_snapshot()
    assert engine.store_figures.map_bytes >= end + free * 0.9
    assert engine.store_figures.snapshot_seconds >= 0
    with pytest.raises(SnapshotRunning):
        engine.begin_snapshot()
    engine.end_snapshot()
    assert engine.store_figures.snapshot_seconds is None


def test_map_before_a_snapshot_stays_within_the_bound(start):
    engine = start(max_disk=80 << 20)
    engine.begin_snapshot()
    assert engine.store_figures.map_bytes == 80 << 20
