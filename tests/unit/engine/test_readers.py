"""Other processes that read the data file: what dead ones leave behind is freed, and living ones are said."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from gkv.cluster.view import View
from gkv.engine import Commits, readers
from gkv.engine.lmdb import LmdbEngine
from gkv.errors import Unavailable
from gkv.model import Node, Version, Write
from gkv.node.membership import Membership
from gkv.ring import tokens

NOW = 1_000_000

READ = """
import sys
import lmdb
env = lmdb.open(sys.argv[1], max_readers=300, readonly=True, max_dbs=8, max_spare_txns=300)
begun = []
try:
    for _ in range(int(sys.argv[2])):
        begun.append(env.begin())
except lmdb.ReadersFullError:
    pass
print(len(begun), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LmdbEngine]:
    engine = LmdbEngine(tmp_path / "data", "n1", tokens)
    yield engine
    assert engine.check() == []
    engine.close()


@pytest.fixture
def reader(engine: LmdbEngine) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Return what starts a process with so many transactions that read; `begun` of it says how many there were room for."""
    started: list[subprocess.Popen[bytes]] = []

    def start(transactions: int) -> subprocess.Popen[bytes]:
        run = [sys.executable, "-c", READ, str(engine.path), str(transactions)]
        started.append(subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        kill(process)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def begun(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(20)


def overwrite(engine: LmdbEngine, times: int, first: int) -> None:
    for turn in range(times):
        engine.write(
            [Write(Version(first + turn << 16, 1), [f"k{i}" for i in range(50)], [bytes([turn % 256]) * 2_000] * 50)], NOW
        )


def test_file_stops_growing_after_a_reader_was_killed(
    engine: LmdbEngine, reader: Callable[[int], subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_TEND_EVERY", 0.0)
    overwrite(engine, 20, 1)
    for _ in range(3):
        process = reader(1)
        assert begun(process) == 1
        kill(process)
    before = engine.store_figures.file_bytes
    overwrite(engine, 20, 100)
    pinned = engine.store_figures.file_bytes
    assert pinned > before + 20 * 50 * 2_000  # so it is without any care
    engine.tend()
    overwrite(engine, 100, 200)
    assert engine.store_figures.file_bytes == pinned


def test_commits_take_care_of_dead_readers_by_themselves(
    engine: LmdbEngine, reader: Callable[[int], subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_TEND_EVERY", 0.0)
    monkeypatch.setattr("gkv.engine.reclaim.RECLAIM_EVERY", 0.01)
    commits = Commits(engine, tombstone_ttl=1 << 50, now=lambda: NOW)
    process = reader(5)
    assert begun(process) == 5
    with gevent.Timeout(10):
        while engine.store_figures.foreign_readers < 5:
            gevent.sleep(0.005)
    assert engine.store_figures.foreign_reader_seconds > 0
    kill(process)
    with gevent.Timeout(10):
        while engine.store_figures.foreign_readers:
            gevent.sleep(0.005)
    commits.close()


def test_slots_that_all_are_taken_refuse_reads_and_nothing_else_until_they_are_free(
    engine: LmdbEngine, reader: Callable[[int], subprocess.Popen[bytes]]
) -> None:
    overwrite(engine, 1, 1)
    process = reader(300)
    assert 100 < begun(process) < 300
    with pytest.raises(Unavailable, match="slots for readers"):
        own = [engine._environment.begin() for _ in range(3)]
    with pytest.raises(Unavailable, match="slots for readers"), engine._environment.begin():
        engine.read(["k1"], NOW)
    overwrite(engine, 2, 5)
    kill(process)
    assert engine.read(["k1"], NOW) == [b"\1" * 2_000]
    own = [engine._environment.begin() for _ in range(20)]  # the dead ones' are freed when they are needed
    for txn in own:
        txn.abort()


def test_node_calls_in_while_others_have_all_slots_and_may_hold_something_then(
    engine: LmdbEngine, reader: Callable[[int], subprocess.Popen[bytes]]
) -> None:
    """An error there would end the node."""
    engine.join("c" * 32)
    commits = Commits(engine, tombstone_ttl=1000)
    membership = Membership(Node("n1", "http://127.0.0.1:9000"), View(), engine, commits)
    assert membership.call_in(show=False).bare
    overwrite(engine, 1, 1)
    process = reader(300)
    assert 100 < begun(process) < 300
    with pytest.raises(Unavailable, match="slots for readers"):
        _ = [engine._environment.begin() for _ in range(3)]
    with pytest.raises(Unavailable):
        _ = engine.live
    call = membership.call_in(show=False)
    assert (call.cluster, call.bare, call.records) == ("c" * 32, False, 1)
    kill(process)
    assert membership.call_in(show=False).records == 50
    commits.close()


def test_reader_that_lingers_is_said_once(
    engine: LmdbEngine,
    reader: Callable[[int], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(readers, "_TEND_EVERY", 0.0)
    process = reader(1)
    assert begun(process) == 1
    engine.tend()
    assert "has been reading" not in capfd.readouterr().err
    monkeypatch.setattr(readers, "LINGERS", 0.0)
    for _ in range(3):
        engine.tend()
    said = capfd.readouterr().err
    assert said.count(f"process {process.pid} has been reading {engine.path / 'data.mdb'}") == 1


def test_start_while_others_have_all_slots_says_so_and_does_not_call_the_file_damaged(tmp_path: Path) -> None:
    path = tmp_path / "data"
    LmdbEngine(path, "n1", tokens).close()
    with subprocess.Popen(
        [sys.executable, "-c", READ, str(path), "300"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert begun(process) > 100
        with pytest.raises(Unavailable, match="slots for readers"):
            LmdbEngine(path, "n1", tokens)
        kill(process)
    LmdbEngine(path, "n1", tokens).close()
