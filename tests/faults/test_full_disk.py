"""Real processes on a disk that somebody else has filled, and under a limit for the size of files."""

import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import INHERITED, NOWHERE, Program, System, wait_for
from tests.faults.conftest import Disk

SIZE = 24
"""Megabytes of the disk."""


@pytest.fixture
def disk(make_disk: Callable[[int], Disk]) -> Disk:
    return make_disk(SIZE)


@pytest.fixture
def disk_system(disk: Disk) -> Iterator[System]:
    """Give a system whose directories lie on that disk."""
    system = System(disk.path)
    yield system
    system.end()


def fill(disk: Disk) -> None:
    """Take all of the disk that is left, root's share included, to the last block."""
    with (disk.path / "other").open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def put(program: Program, key: str, value: bytes = b"1") -> int:
    return program.call("PUT", f"/v1/kv/{key}", value, Content_Type="application/json").status


def test_on_a_disk_that_somebody_filled_gets_and_deletes_go_on_and_so_does_everything_after_a_restart(
    disk: Disk, disk_system: System, tmp_path: Path
) -> None:
    system = disk_system
    system.directory = tmp_path  # the outputs are not on the disk, but the data is
    data = ["--data", str(disk.path / "proxy")], ["--data", str(disk.path / "node")]
    proxy = system.proxy(*data[0])
    node = system.node(proxy, *data[1])
    items = [{"key": f"k{number}", "value": "x" * 3_000} for number in range(300)]
    assert proxy.call("POST", "/set", items).status == 200
    fill(disk)
    assert any(put(proxy, f"new{number}", b'"%b"' % (b"y" * 900_000)) == 507 for number in range(20))
    ports = proxy.port, node.port
    for turn in range(2):
        for number in range(turn * 50, turn * 50 + 50):
            assert proxy.call("DELETE", f"/v1/kv/k{number}").status == 204, (turn, number)
        assert proxy.call("GET", "/v1/kv/k299").status == 200
        assert proxy.call("GET", "/v1/kv/k0").status == 404
        for program in (proxy, node):
            program.signal(15)
        for program in (proxy, node):
            assert program.ended() == 0, program.stderr
        fill(disk)
        proxy = system.proxy(*data[0], port=ports[0])
        node = system.node(proxy, *data[1], port=ports[1])
        assert proxy.call("GET", "/v1/kv/k299").status == 200
    (disk.path / "other").unlink()
    wait_for("room again", lambda: put(proxy, "after") in (200, 201, 204))


def test_what_cannot_be_written_at_the_start_is_named(disk: Disk, disk_system: System, tmp_path: Path) -> None:
    fill(disk)
    disk_system.directory = tmp_path
    for command in (["proxy", "--port", "0"], ["node", "0", "--proxy", NOWHERE]):
        program = disk_system.start(*command, "--data", str(disk.path / command[0]))
        assert program.ended() != 0
        assert re.search(rf"{re.escape(str(disk.path))}\S*", program.stderr), program.stderr
        assert "No space left on device" in program.stderr or "full" in program.stderr


LIMITED = """
import resource, sys
from pathlib import Path
from gkv.engine.lmdb import LmdbEngine
from gkv.errors import EngineFull
from gkv.model import Version, Write
from gkv.ring import tokens
before, after = int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (before, resource.RLIM_INFINITY))
engine = LmdbEngine(Path(sys.argv[1]), "n1", tokens)
resource.setrlimit(resource.RLIMIT_FSIZE, (after, resource.RLIM_INFINITY))
full = written = 0
for turn in range(4_000):
    try:
        engine.write([Write(Version(turn + 1 << 16, 1), [f"k{turn}"], [bytes(40_001 + turn % 9_000)])], 1)
        written += 1
    except EngineFull:
        full += 1
        if full >= 20:
            break
assert engine._store.failed is None, engine._store.failed
assert engine.read(["k1"], 1) == [bytes(40_002)]
deleted = 0
for turn in range(0, written, 2):
    try:
        engine.write([Write(Version(turn + 5_000 << 16, 1), [f"k{turn}"], [None])], 1)
        deleted += 1
    except EngineFull:
        assert before != after, "deletes must go below a bound that is known"
        break
if before == after:
    engine.write([Write(Version(10_000 << 16, 1), ["again"], [b"1"])], 1)
assert engine._store.failed is None
assert engine.check() == []
engine.close()
print(full, written, deleted)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (20 << 20, 20 << 20),
        (20_000_001, 20_000_001),
        (resource.RLIM_INFINITY, 20 << 20),
        (resource.RLIM_INFINITY, (20 << 20) + 1234),
    ],
    ids=["known", "known, odd", "lowered", "lowered, odd"],
)
def test_file_at_the_limit_of_its_process_is_full_and_not_failed(tmp_path: Path, before: int, after: int) -> None:
    run = [sys.executable, "-c", LIMITED, str(tmp_path / "data"), str(before), str(after)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False, env=INHERITED)
    assert done.returncode == 0, (done.stdout, done.stderr)
    full, written, deleted = map(int, done.stdout.split())
    assert full >= 20
    assert written > 200
    if before == after:
        assert deleted == (written + 1) // 2
    assert (tmp_path / "data" / "data.mdb").stat().st_size <= after
