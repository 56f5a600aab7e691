"""Snapshots in directories of their own: what they say, and how they become another cluster's."""

import os
import time
from pathlib import Path

import pytest

from gkv.engine import Commits, LmdbEngine
from gkv.engine.snapshot_file import SnapshotDirectory
from gkv.errors import EngineError
from gkv.model import Version, Write, era_of
from gkv.ring import tokens

OLD, NEW = "a" * 32, "b" * 32


def taken(directory: Path, to: Path, cluster: str = OLD, *, dated: int = 0) -> Path:
    """Take a snapshot of a store with two keys, one of them deleted."""
    engine = LmdbEngine(directory, "n1", tokens)
    engine.join(cluster)
    engine.note_run(7)
    engine.write([Write(Version(era_of(3, 9), number), [key], [b"1"]) for number, key in enumerate("ab", 1)], 0)
    engine.write([Write(Version(era_of(3, 9), 3), ["a"], [None])], 0)
    if dated:
        engine.date_snapshot(dated)
    to.mkdir()
    with (to / "data.mdb").open("wb") as file:
        engine.begin_snapshot()
        engine.copy_snapshot(file.fileno())
        engine.end_snapshot()
    engine.close()
    return to


def test_snapshot_says_whose_it_is_and_when_it_was_taken(tmp_path: Path) -> None:
    for dated in (0, 1_700_000_000_123):
        found = SnapshotDirectory(taken(tmp_path / "store", tmp_path / f"copy-{dated}", dated=dated))
        content = found.content
        assert (content.node, content.cluster, content.era, content.keys) == ("n1", OLD, era_of(3, 9), 1)
        assert content.dated == dated
        found.release()


def test_snapshot_has_the_time_of_day_at_which_it_was_begun(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path / "store", "n1", tokens)
    engine.join(OLD)
    commits = Commits(engine, tombstone_ttl=60_000)
    (tmp_path / "copy").mkdir()
    times = [time.time_ns() // 1_000_000]
    for _ in range(2):
        commits.snapshot(os.open(tmp_path / "copy" / "data.mdb", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)).end()
        times.append(time.time_ns() // 1_000_000)
        found = SnapshotDirectory(tmp_path / "copy")
        assert times[-2] <= found.content.dated <= times[-1]
        found.release()
    commits.close()
    engine.close()


def test_snapshot_that_became_another_clusters_is_the_directory_of_one_incarnation_and_no_snapshot_any_more(
    tmp_path: Path,
) -> None:
    path = taken(tmp_path / "store", tmp_path / "copy")
    found = SnapshotDirectory(path)
    with pytest.raises(EngineError, match="in use"):
        LmdbEngine(path, "n1", tokens)
    found.assign(NEW, 99)
    found.release()
    with pytest.raises(EngineError, match="it was restored before"):
        SnapshotDirectory(path)
    engine = LmdbEngine(path, "n1", tokens)
    assert (engine.cluster, engine.last_run, engine.era, engine.check()) == (NEW, 99, era_of(3, 9), [])
    assert [record and record.value for record in engine.records_of(["a", "b"])] == [None, b"1"]
    engine.close()


def test_directory_on_which_a_process_has_run_is_no_snapshot(tmp_path: Path) -> None:
    path = taken(tmp_path / "store", tmp_path / "copy")
    LmdbEngine(path, "n1", tokens).close()
    for directory in (path, tmp_path / "store"):
        with pytest.raises(EngineError, match="a node has run in"):
            SnapshotDirectory(directory)


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"x" * 100_000, "no LMDB file"), (None, "there is no")])
def test_file_that_is_no_snapshot_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(EngineError, match=message):
        SnapshotDirectory(tmp_path)
