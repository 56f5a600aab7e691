"""Sums of records on disk: damage, commits that come to nothing, and the file from one orderly stop to the next start."""

import random
import resource
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import lmdb
import pytest

from gkv.engine import CELLS, Commits, LmdbEngine, MemoryEngine
from gkv.engine import sums as module
from gkv.errors import EngineFailed, EngineFull
from gkv.model import Record, Replacement, Version, Write
from gkv.ring import token, tokens
from tests.eventually import eventually, soon

NOW = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def engine(path: Path) -> Iterator[LmdbEngine]:
    """Return an engine with some records and all their sums."""
    engine = summed(path)
    put(engine, [f"k{i}" for i in range(50)])
    yield engine
    engine.close()


def summed(path: Path) -> LmdbEngine:
    engine = LmdbEngine(path, "n1", tokens)
    engine.keep_sums(True)
    build(engine)
    return engine


def build(engine: LmdbEngine) -> None:
    while engine.make_sums():
        pass


def put(engine: LmdbEngine | MemoryEngine, keys: list[str], counter: int = 1, value: bytes | None = b"1") -> None:
    engine.write([Write(Version(7, counter), keys, [value] * len(keys))], NOW)


def reference(engine: LmdbEngine | MemoryEngine) -> dict[int, int]:
    """Return the sums of all cells that are not zero, by the intact records."""
    rows = [(key, one) for key, one in engine.arc(0, (1 << 64) - 1, None, 1 << 30) if isinstance(one, Record)]
    sums: dict[int, int] = {}
    for (key, _), fingerprint in zip(rows, engine.fingerprints(rows), strict=True):
        cell = int.from_bytes(engine._tokens([key]), "big") >> module.CELL_SHIFT
        sums[cell] = sums.get(cell, 0) ^ fingerprint
    return {cell: found for cell, found in sums.items() if found}


def sums_of(engine: LmdbEngine | MemoryEngine) -> dict[int, int]:
    """Return the sums that the engine keeps, which must all be sure."""
    assert engine.sums is not None
    assert engine.sums.complete
    return {cell: found for cell, found in enumerate(engine.sums.known(0, CELLS - 1)) if found}


def cell_of(key: str) -> int:
    return token(key) >> module.CELL_SHIFT


def damage(engine: LmdbEngine, key: str) -> None:
    """Turn a bit of a record, behind the engine's back."""
    (address,) = engine._addresses([key])
    environment = engine._environment
    with environment.env.begin(write=True, db=environment.records) as txn:
        data = bytearray(txn.get(address))
        data[-5] ^= 1
        txn.put(address, bytes(data))


# --- damage -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["write", "replace", "drop"])
def test_cell_of_a_damaged_record_that_gives_way_is_built_anew(engine: LmdbEngine, how: str) -> None:
    damage(engine, "k7")
    replacement = Replacement.of([("k7", Record(Version(1, 1), b"2"))]) if how == "replace" else Replacement.of([], ["k7"])
    engine.write([Write(Version(7, 2), ["k7"], [b"2"]) if how == "write" else replacement], NOW)
    sums = engine.sums
    assert sums is not None
    assert [cell for cell, one in enumerate(sums.known(0, CELLS - 1)) if one is None] == [cell_of("k7")]
    assert (sums.built, sums.complete) == (CELLS, False)
    put(engine, ["k7", "k8"], 3)  # before it is read
    assert not engine.make_sums()
    assert sums_of(engine) == reference(engine)


def test_damaged_record_that_is_left_alone_leaves_its_cell_alone(engine: LmdbEngine) -> None:
    damage(engine, "k7")
    engine.write([Write(Version(7, 2), ["k7"], [b"2"], repairs=False)], NOW)
    assert engine.sums is not None
    assert engine.sums.complete


def test_cell_of_a_damaged_record_is_not_sure_before_that_gives_way(path: Path) -> None:
    engine = LmdbEngine(path, "n1", tokens)
    put(engine, ["a", "b"])
    damage(engine, "a")
    engine.keep_sums(True)
    build(engine)
    sums = engine.sums
    assert sums is not None
    # Another copy that has nothing there would have this sum, too.
    assert [cell for cell in map(cell_of, "ab") if sums.known(cell, cell) == [None]] == [cell_of("a")]
    assert not sums.complete
    assert engine.sums_between([(token("a"), token("a")), (token("b"), token("b"))])[0] is None
    put(engine, ["a"], 2)
    build(engine)
    assert sums.complete
    assert None not in engine.sums_between([(token("a"), token("a")), (token("b"), token("b"))])
    assert sums_of(engine) == reference(engine)
    assert cell_of("a") in sums_of(engine)
    engine.close()


@contextmanager
def full_disk(file: Path) -> Iterator[None]:
    """Have no file grow beyond the size that this one has."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_commit_that_finds_the_disk_full_changes_no_sum_and_puts_none_in_doubt(engine: LmdbEngine, path: Path) -> None:
    damage(engine, "k1")
    before = sums_of(engine)
    with full_disk(path / "data.mdb"), pytest.raises(EngineFull):
        engine.write([Write(Version(7, 2), ["k1", "k2", "new"], [b"2", b"2", b"x" * (4 << 20)])], NOW)
    assert sums_of(engine) == before
    engine.write([Write(Version(7, 3), ["k2"], [None])], NOW)
    assert sums_of(engine) == {cell: found for cell, found in before.items() if cell != cell_of("k2")}


def two_cells(keys: Sequence[str] | Sequence[bytes]) -> bytes:
    """Return tokens of the last two cells for keys, and of bytes those that they have."""
    found = tokens(keys)
    if keys and isinstance(keys[0], bytes):
        return found
    return b"".join(
        ((CELLS - 1 - found[at] % 2) << module.CELL_SHIFT | int.from_bytes(found[at + 3 : at + 8], "big")).to_bytes(8, "big")
        for at in range(0, len(found), 8)
    )


@pytest.mark.parametrize("place", [0, 2, 5, -1])
def test_damage_gives_way_before_and_behind_the_record_that_building_has_reached(path: Path, place: int) -> None:
    engine = LmdbEngine(path, "n1", two_cells)
    put(engine, [f"k{i}" for i in range(12)])
    keys = [key for key, _ in engine.arc(0, (1 << 64) - 1, None, 100)]
    engine.keep_sums(True)
    assert engine.make_sums(3)
    damage(engine, keys[place])
    put(engine, [keys[place]], 2)
    build(engine)
    assert sums_of(engine) == reference(engine)
    engine.close()


@pytest.mark.parametrize("seed", range(20))
def test_damage_gives_way_at_random_while_crowded_cells_are_built(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    engine = LmdbEngine(path, "n1", two_cells)
    keys = [f"k{i}" for i in range(40)]
    put(engine, keys)
    damaged: list[str] = []
    engine.keep_sums(True)
    for counter in range(2, 80):
        key = chance.choice(keys)
        did = chance.randrange(4)
        if did == 0 and key not in damaged:
            damaged.append(key)
            damage(engine, key)
        elif did == 1:
            key = chance.choice(damaged or keys)
            put(engine, [key], counter)
            damaged = [one for one in damaged if one != key]
        else:
            engine.make_sums(chance.randrange(1, 6))
    for key in damaged:
        put(engine, [key], 100)
    while engine.make_sums(3):
        pass
    assert engine.sums is not None
    assert engine.sums.complete
    assert sums_of(engine) == reference(engine)
    engine.close()


# --- from a stop to the next start ------------------------------------------------------------------------------------------


def stopped(path: Path, counter: int = 1) -> dict[int, int]:
    """Leave a store with sums in an orderly way; return those."""
    engine = summed(path)
    put(engine, [f"{counter}-{i}" for i in range(20)], counter)
    found = sums_of(engine)
    engine.close()
    return found


def found_at(path: Path) -> bool:
    """Return whether a start finds the sums that were left; they must be right then."""
    engine = LmdbEngine(path, "n1", tokens)
    engine.keep_sums(True)
    assert engine.sums is not None
    complete = engine.sums.complete
    build(engine)
    assert sums_of(engine) == reference(engine)
    engine.close()
    return complete


def test_sums_are_there_again_after_an_orderly_stop_and_their_file_is_not(path: Path) -> None:
    left = stopped(path)
    assert (path / "sums").stat().st_size > 8 * CELLS
    engine = LmdbEngine(path, "n1", tokens)
    assert not (path / "sums").exists()
    engine.note_run(1)
    assert engine.sums is None
    put(engine, ["before anybody asks"], 2)
    engine.keep_sums(True)
    assert sums_of(engine) == reference(engine)
    assert left.items() < sums_of(engine).items()
    put(engine, ["0"], 3)
    assert sums_of(engine) == reference(engine)
    engine.close()
    assert (path / "sums").exists()
    assert found_at(path)


def test_sums_that_nobody_asks_for_are_not_left_again(path: Path) -> None:
    stopped(path)
    LmdbEngine(path, "n1", tokens).close()
    assert not (path / "sums").exists()
    stopped(path, 2)
    engine = LmdbEngine(path, "n1", tokens)
    engine.keep_sums(False)
    engine.close()
    assert not (path / "sums").exists()
    assert not found_at(path)


def test_sums_that_are_not_complete_are_not_left(path: Path) -> None:
    engine = summed(path)
    put(engine, ["a"])
    damage(engine, "a")
    put(engine, ["a"], 2)
    engine.close()
    assert not (path / "sums").exists()
    engine = LmdbEngine(path, "n1", tokens)
    engine.keep_sums(True)
    engine.close()
    assert not (path / "sums").exists()


def test_sums_are_not_left_by_a_stop_that_is_no_orderly_one(path: Path, tmp_path: Path) -> None:
    stopped(path)
    kept = (path / "sums").read_bytes()
    engine = summed(path)
    put(engine, ["a"], 2)
    killed = Path(shutil.copytree(path, tmp_path / "killed"))
    (killed / "sums").write_bytes(kept)  # as if its removal had not come to the disk
    engine.abandon()
    engine.close()
    assert not (path / "sums").exists()
    assert not found_at(killed)


def test_sums_are_not_left_when_records_are_still_to_be_checked(path: Path) -> None:
    engine = summed(path)
    engine.was_clean = False
    engine.close()
    assert not (path / "sums").exists()


def test_sums_of_an_earlier_stop_are_not_those_of_a_later_one(path: Path) -> None:
    stopped(path)
    kept = (path / "sums").read_bytes()
    stopped(path, 2)
    (path / "sums").write_bytes(kept)
    assert not found_at(path)


def test_sums_of_a_later_stop_are_not_those_of_an_older_file(path: Path, tmp_path: Path) -> None:
    stopped(path)
    backup = Path(shutil.copytree(path, tmp_path / "backup"))
    stopped(path, 2)
    shutil.copy(backup / "data.mdb", path / "data.mdb")
    assert not found_at(path)
    assert found_at(backup)


def test_sums_of_another_store_with_as_many_commits_are_not_taken(path: Path, tmp_path: Path) -> None:
    stopped(path)
    stopped(tmp_path / "other", 1)
    shutil.copy(tmp_path / "other" / "sums", path / "sums")
    assert not found_at(path)


def test_sums_are_not_taken_after_a_commit_of_somebody_who_knows_no_sums(path: Path) -> None:
    stopped(path)
    with lmdb.open(str(path), max_dbs=8) as env:
        meta = env.open_db(b"meta", create=False)
        with env.begin(write=True, db=meta) as txn:
            txn.put(b"clean", b"1")
            txn.put(b"other", b"1")
    assert not found_at(path)


SIZE = len(module._MAGIC) + 4 + 24 + 8 * CELLS


@pytest.mark.parametrize("length", [0, 1, len(module._MAGIC), len(module._MAGIC) + 4, 100, SIZE // 2, SIZE - 1, SIZE + 1])
def test_sums_in_a_torn_file_are_not_taken(path: Path, length: int) -> None:
    stopped(path)
    data = (path / "sums").read_bytes()
    assert len(data) == SIZE
    (path / "sums").write_bytes((data + b"\0")[:length])
    assert not found_at(path)


def test_sums_of_other_cells_are_not_taken(path: Path) -> None:
    stopped(path)
    data = (path / "sums").read_bytes()
    body = data[len(module._MAGIC) + 4 : -8]
    (path / "sums").write_bytes(module._MAGIC + crc32(body).to_bytes(4, "big") + body)
    assert not found_at(path)


@pytest.mark.parametrize("place", [0, len(module._MAGIC), len(module._MAGIC) + 4, len(module._MAGIC) + 27, 1000, SIZE - 1])
def test_sums_in_a_damaged_file_are_not_taken(path: Path, place: int) -> None:
    stopped(path)
    data = bytearray((path / "sums").read_bytes())
    data[place] ^= 4
    (path / "sums").write_bytes(data)
    assert not found_at(path)


def test_sums_that_cannot_be_written_or_read_stop_nothing(path: Path) -> None:
    engine = summed(path)
    (path / "sums.new").mkdir()
    put(engine, ["a"])
    engine.close()
    assert not (path / "sums").exists()
    (path / "sums").mkdir()
    engine = LmdbEngine(path, "n1", tokens)
    assert engine.was_clean
    engine.keep_sums(True)
    build(engine)
    assert sums_of(engine) == reference(engine)
    engine.close()


def test_snapshot_has_no_sums_and_takes_none(path: Path, tmp_path: Path) -> None:
    stopped(path)
    kept = (path / "sums").read_bytes()
    engine = summed(path)
    (tmp_path / "copy").mkdir()
    with (tmp_path / "copy" / "data.mdb").open("wb") as file:
        engine.begin_snapshot()
        engine.copy_snapshot(file.fileno())
        engine.end_snapshot()
    engine.close()
    (tmp_path / "copy" / "sums").write_bytes(kept)
    assert not found_at(tmp_path / "copy")


# --- between two commits ----------------------------------------------------------------------------------------------------


def test_sums_are_built_between_commits_while_writes_go_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkv.engine.reclaim.RECLAIM_EVERY", 0.001)
    monkeypatch.setattr("gkv.engine.reclaim.BEHIND_WRITES", 0.0)
    engine = LmdbEngine(path, "n1", tokens)
    put(engine, [f"k{i}" for i in range(20_000)])
    commits = Commits(engine, tombstone_ttl=1 << 50)
    engine.keep_sums(True)
    assert engine.sums is not None
    chance = random.Random(1)
    counter = 1
    while not engine.sums.complete:
        counter += 1
        keys = chance.sample(range(21_000), 100)
        value = chance.choice([b"2", None])
        commits.submit(Write(Version(7, counter), [f"k{i}" for i in keys], [value] * 100)).wait(soon())
    assert counter > 3
    commits.close()
    assert sums_of(engine) == reference(engine)
    engine.close()


def test_sums_of_a_store_without_writes_are_built(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkv.engine.reclaim.RECLAIM_EVERY", 0.01)
    engine = LmdbEngine(path, "n1", tokens)
    put(engine, [f"k{i}" for i in range(5_000)])
    commits = Commits(engine, tombstone_ttl=1 << 50)
    engine.keep_sums(True)
    eventually(lambda: engine.sums is not None and engine.sums.complete)
    commits.close()
    assert sums_of(engine) == reference(engine)
    engine.close()


def test_building_that_cannot_read_the_disk_ends_writing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkv.engine.reclaim.RECLAIM_EVERY", 0.01)

    class Unreadable(MemoryEngine):
        def make_sums(self, limit: int = 1) -> bool:
            raise EngineFailed(f"{path} cannot be read, {limit}")

    failures: list[object] = []
    commits = Commits(Unreadable(tokens), tombstone_ttl=1 << 50, on_failure=failures.append)
    eventually(lambda: isinstance(commits.failure, EngineFailed))
    eventually(lambda: failures == [commits.failure])
    commits.close()


def test_engine_in_memory_builds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkv.engine.reclaim.RECLAIM_EVERY", 0.01)
    engine = MemoryEngine(tokens)
    put(engine, [f"k{i}" for i in range(5_000)])
    commits = Commits(engine, tombstone_ttl=1 << 50)
    engine.keep_sums(True)
    eventually(lambda: engine.sums is not None and engine.sums.complete)
    assert sums_of(engine) == reference(engine)
    commits.close()


def test_sums_of_ranges_are_those_of_their_records_until_many_were_read(path: Path) -> None:
    engine = LmdbEngine(path, "n1", tokens)
    put(engine, [f"k{i}" for i in range(9_000)])
    put(engine, ["k3", "k4"], 2, None)
    half = 1 << 63
    ranges = [(token("k1"), token("k1")), (token("k3"), token("k3")), (0, half - 1), (half, (1 << 64) - 1)]
    (record,) = engine.records_of(["k1"])
    assert isinstance(record, Record)
    assert engine.sums_between(ranges[:2]) == [engine.fingerprints([("k1", record)])[0], 0]
    assert engine.sums_between(ranges)[2:] == [None, None]
    memory = MemoryEngine(tokens)
    put(memory, ["k1"])
    assert memory.sums_between(ranges[:1]) == engine.sums_between(ranges[:1])
    engine.close()


def test_address_stands_before_the_end_of_all(path: Path) -> None:
    """The greatest token, with the greatest character."""
    engine = LmdbEngine(path, "n1", lambda keys: b"\xff" * 8 * len(keys) if keys and isinstance(keys[0], str) else tokens(keys))
    put(engine, ["\U0010ffff" * 120])
    engine.keep_sums(True)
    assert not engine.make_sums()
    assert engine.sums is not None
    assert engine.sums.known(CELLS - 1, CELLS - 1)[0] not in (None, 0)
    put(engine, ["\U0010ffff" * 120], 2, None)
    assert engine.sums.known(CELLS - 1, CELLS - 1) == [0]
    engine.close()
