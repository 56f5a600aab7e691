"""Engines in processes that are killed, on disks that are cut off, full, or fail; and what was acknowledged."""

import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.faults.driver import keys_of

DRIVER = Path(__file__).parent / "driver.py"
DEADLINE = 60.0
"""Seconds within which anything that is waited for must come."""
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2

_reported = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(_reported, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash[_reported]:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return what puts a test's figures into the summary at the end of the run."""
    name = request.node.name.removeprefix("test_")
    return lambda figures: request.config.stash[_reported].append(f"{name}: {figures}")


@pytest.fixture
def sample(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Return `sample(usual, all)`: how often a fault is tried."""
    return lambda usual, everything: everything if request.config.getoption("--all-faults") else usual


@pytest.fixture
def seed(request: pytest.FixtureRequest, report: Callable[[str], None]) -> int:
    """Return the run's seed; a failure and the summary name it."""
    given = request.config.getoption("--fault-seed")
    seed = int.from_bytes(os.urandom(4), "big") if given is None else given
    print(f"--fault-seed={seed}")
    report(f"seed {seed}")
    return seed


@dataclass
class Driver:
    """A running driver and what it has said."""

    process: subprocess.Popen[bytes]
    errors: Path
    lines: list[str] = field(default_factory=list)
    _arrived: "queue.SimpleQueue[str | None]" = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # what was cut off in its middle was not said
                self._arrived.put(line.decode().rstrip("\n"))
        self._arrived.put(None)

    def wait_for(self, beginning: str, count: int = 1) -> bool:
        """Wait until `count` lines with this beginning have come; return whether they have, or the process ended before."""
        return self._wait(beginning, count, time.monotonic() + DEADLINE)

    def _wait(self, beginning: str, count: int, until: float) -> bool:
        while count:
            try:
                line = self._arrived.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                what = f"no {beginning!r}" if beginning else "no end"
                pytest.fail(f"{what} in time; the last line is {self.lines[-1:]}; {self.stderr}")
            if line is None:
                self._arrived.put(None)
                return False
            self.lines.append(line)
            count -= line.startswith(beginning)
        return True

    @property
    def stderr(self) -> str:
        return self.errors.read_text(errors="replace")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.ended()

    def ended(self, within: float = DEADLINE) -> int:
        """Read to the end; return the exit code, or the signal's number as a negative one."""
        until = time.monotonic() + within
        while self._wait("", 1, until):
            pass
        return self.process.wait(DEADLINE)

    def batches(self, word: str) -> set[tuple[int, int, int]]:
        """Return (run, greenlet, batch) of the lines with this word."""
        found = set()
        for line in self.lines:
            first, *rest = line.split()
            if first == word:
                run, greenlet, batch = map(int, rest[:3])
                found.add((run, greenlet, batch))
        return found


class Drive:
    """Starts drivers and ends them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[Driver] = []

    def __call__(self, what: str, directory: Path, *options: object, under: Sequence[object] = ()) -> Driver:
        """Start a driver, `under` another command if that is given."""
        errors = self._directory / f"{len(self._started)}.err"
        root = Path(__file__).parents[2]
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [str(part) for part in (*under, sys.executable, "-P", DRIVER, what, directory, *options)],
                cwd=root,
                env=os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self._started.append(Driver(process, errors))
        return self._started[-1]

    def stop(self) -> None:
        """Kill whatever still runs."""
        for driver in self._started:
            if driver.process.poll() is None:
                os.killpg(driver.process.pid, signal.SIGKILL)  # strace and what runs under it, in a session of their own
                driver.process.wait(DEADLINE)
            assert driver.process.stdout is not None
            driver.reader.join(DEADLINE)
            driver.process.stdout.close()


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """Return what starts drivers; those that still run after the test are killed."""
    drive = Drive(tmp_path)
    yield drive
    drive.stop()


@dataclass
class Ledger:
    """What drivers that used the same directory, one after another, have said of their batches."""

    acked: set[tuple[int, int, int]] = field(default_factory=set)
    deleting: set[tuple[int, int, int]] = field(default_factory=set)
    deleted: set[tuple[int, int, int]] = field(default_factory=set)

    def add(self, driver: Driver) -> int:
        """Note what a driver said; return how many writes and deletes it acknowledged."""
        acked, deleted = driver.batches("acked"), driver.batches("deleted")
        self.acked |= acked
        self.deleting |= driver.batches("deleting")
        self.deleted |= deleted
        return len(acked) + len(deleted)

    @property
    def acknowledged(self) -> int:
        return len(self.acked) + len(self.deleted)

    def compare(self, marks: dict[str, str]) -> Counter[str]:
        """Return how many batches are `lost`, `torn` or `back` from the dead, and how many keys are not `right`."""
        found = Counter(mark for mark in marks.values() if mark not in ("right", "tombstone"))
        present: dict[tuple[int, int, int], int] = {}
        for key, mark in marks.items():
            run, greenlet, batch, _ = map(int, key.split("."))
            present[run, greenlet, batch] = present.get((run, greenlet, batch), 0) + (mark == "right")
        for batch in self.acked | set(present):
            here, whole = present.get(batch, 0), len(keys_of(*batch))
            if batch in self.deleted:
                found["back"] += here > 0
            elif batch in self.acked and batch not in self.deleting:
                found["lost"] += here < whole
            else:  # not acknowledged: all of it or nothing
                found["torn"] += 0 < here < whole
        return +found


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def dump(drive: Drive) -> Callable[[Path], dict[str, str]]:
    """Return what opens an engine in a process of its own and says of each key what it is; `check` must find nothing."""

    def dump(directory: Path) -> dict[str, str]:
        driver = drive("dump", directory)
        assert driver.ended() == 0, driver.stderr
        assert driver.lines.pop() == "end"
        problems = [line for line in driver.lines if line.startswith("problem ")]
        assert problems == []
        return {key: mark for mark, key in (line.split() for line in driver.lines)}

    return dump


def needs(*programs: str) -> None:
    """Skip the test when one of these programs is not there, or when it may not do what only root may."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    if "mount" in programs and os.geteuid() != 0:
        pytest.skip("only root can mount")


def run(*command: object) -> str:
    """Run a command that must work; return what it prints."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


@dataclass
class Disk:
    """An ext4 file system of its own, in a file behind a loop device."""

    image: Path
    path: Path
    device: str = ""
    mounted: bool = False

    def mount(self) -> None:
        run("mount", self.device, self.path)
        self.mounted = True

    def unmount(self) -> None:
        run("umount", self.path)
        self.mounted = False

    def cut_power(self) -> None:
        """From now on nothing reaches the disk any more, whatever has been written and not yet synced is gone."""
        directory = os.open(self.path, os.O_RDONLY)
        try:
            ioctl(directory, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, sys.byteorder))
        finally:
            os.close(directory)

    def remove(self) -> None:
        """Take everything away, also half-made."""
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.path)], capture_output=True, timeout=DEADLINE, check=False)
        if self.device:
            subprocess.run(["losetup", "--detach", self.device], capture_output=True, timeout=DEADLINE, check=False)
        self.image.unlink(missing_ok=True)


@pytest.fixture
def make_disk(tmp_path: Path, drive: Drive) -> Iterator[Callable[[int], Disk]]:
    """Return what makes a mounted disk of so many MB."""
    needs("mkfs.ext4", "losetup", "mount", "umount")
    disks: list[Disk] = []

    def make(megabytes: int) -> Disk:
        number = len(disks)
        disk = Disk(tmp_path / f"{number}.img", tmp_path / f"disk{number}")
        disks.append(disk)
        disk.path.mkdir()
        with disk.image.open("wb") as file:
            file.truncate(megabytes << 20)
        run("mkfs.ext4", "-q", "-F", disk.image)
        found = subprocess.run(
            ["losetup", "--find", "--show", str(disk.image)], capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        if found.returncode:
            pytest.skip(f"no loop device: {found.stderr.strip()}")
        disk.device = found.stdout.strip()
        mounted = subprocess.run(
            ["mount", disk.device, str(disk.path)], capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        if mounted.returncode:
            pytest.skip(f"it cannot be mounted: {mounted.stderr.strip()}")
        disk.mounted = True
        return disk

    yield make
    drive.stop()  # now: a process that is left would keep the disk busy
    for disk in disks:
        disk.remove()


@dataclass
class MemoryLimit:
    """A control group that bounds the memory of the processes in it, the kernel's copies of file pages included."""

    path: Path
    v2: bool

    def bound(self, limit: int) -> None:
        (self.path / ("memory.max" if self.v2 else "memory.limit_in_bytes")).write_text(str(limit))
        if self.v2:
            swap = self.path / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")

    @property
    def under(self) -> list[object]:
        """Return the beginning of a command that runs in the group."""
        return ["sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$0" "$@"']

    @property
    def peak(self) -> int:
        return int((self.path / ("memory.peak" if self.v2 else "memory.max_usage_in_bytes")).read_text())

    @property
    def kills(self) -> int:
        """Return how many processes were killed for want of memory."""
        text = (self.path / ("memory.events" if self.v2 else "memory.oom_control")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])


@pytest.fixture
def memory_limit() -> Iterator[MemoryLimit]:
    """Give a control group for memory, of version 2 or 1."""
    top = Path("/sys/fs/cgroup")
    v2 = (top / "cgroup.controllers").exists()
    if v2 and "memory" not in (top / "cgroup.subtree_control").read_text().split():
        pytest.skip("the control groups have no memory controller")
    path = (top if v2 else top / "memory") / f"gkv-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    if not (path / ("memory.max" if v2 else "memory.limit_in_bytes")).exists():
        path.rmdir()
        pytest.skip("the control groups have no memory controller")
    yield MemoryLimit(path, v2)
    until = time.monotonic() + DEADLINE
    while (path / "cgroup.procs").read_text() and time.monotonic() < until:
        time.sleep(0.01)
    path.rmdir()


@pytest.fixture
def pick(seed: int) -> random.Random:
    """Return the randomness of a test."""
    return random.Random(seed)
