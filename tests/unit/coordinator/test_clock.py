"""The hybrid logical clock: over steps of the wall clock, restarts, crashes, slow and failing disks."""

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import gevent
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from gkv.coordinator import clock as module
from gkv.coordinator.clock import Clock
from gkv.errors import ConfigError, FarAhead, Unavailable

START = 1_700_000_000_000
MS = 1 << 16


class Wall:
    """A wall clock that stands still until it is moved."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clock"


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """End a test that waits for what never comes."""
    with gevent.Timeout(30):
        yield


def settle(clock: Clock) -> None:
    """Wait until nothing is being written."""
    while clock._extension is not None:
        clock._extension.join()


def bound(path: Path) -> int:
    """Return the bound on the disk. Uses nothing of the module's, of which some may be made to fail just then."""
    data = path.read_bytes()
    return max(int(line.split(b" ")[2], 16) for line in (data[:4096], data[4096:]))


class Disk:
    """Counts what is written, and holds it up or refuses it on request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes = 0
        self.at_once = 0
        self.most_at_once = 0
        self.open = threading.Event()
        self.open.set()
        self.error: tuple[int, str] | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        keep = module._keep

        def counted(path: Path, origin: int, bound: int) -> None:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                assert self.open.wait(30)
                if self.error is not None:
                    raise OSError(*self.error)
                keep(path, origin, bound)
                self.meanwhile()
                self.writes += 1
            finally:
                self.at_once -= 1

        monkeypatch.setattr(module, "_keep", counted)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    yield disk
    disk.open.set()  # no thread may be left waiting


# Stamps.


def test_now_is_the_wall_clock_and_a_counter(wall: Wall) -> None:
    clock = Clock(None, wall=wall)
    assert [clock.now().stamp for _ in range(3)] == [START * MS, START * MS + 1, START * MS + 2]
    wall.now += 1
    assert clock.now().stamp == (START + 1) * MS


def test_now_after_a_step_back_goes_on_counting(wall: Wall) -> None:
    clock = Clock(None, wall=wall)
    clock.now()
    wall.now -= 3_600_000
    assert [clock.now().stamp for _ in range(2)] == [START * MS + 1, START * MS + 2]
    wall.now = START + 5
    assert clock.now().stamp == (START + 5) * MS


def test_now_when_the_counter_overflows_goes_into_the_next_millisecond(wall: Wall) -> None:
    clock = Clock(None, wall=wall)
    given = [clock.now() for _ in range(MS + 2)]
    assert all(one < other for one, other in pairwise(given))
    assert given[MS - 1].stamp == START * MS + 0xFFFF
    assert given[MS].stamp == (START + 1) * MS


def test_now_is_greater_than_what_was_observed(wall: Wall) -> None:
    clock = Clock(None, wall=wall)
    clock.observe((START + 300) * MS + 7)
    clock.observe(START * MS)
    assert clock.now().stamp == (START + 300) * MS + 8


@pytest.mark.parametrize("max_ahead", [100, 500])
def test_observe_far_ahead_is_refused_and_not_adopted(wall: Wall, max_ahead: int) -> None:
    clock = Clock(None, max_ahead, wall)
    for stamp in ((START + max_ahead + 1) * MS, (1 << 64) - 1):
        with pytest.raises(FarAhead, match=r"s ahead of this process's clock"):
            clock.observe(stamp)
    assert clock.now().stamp == START * MS
    clock.observe((START + max_ahead) * MS + 0xFFFF)
    assert clock.now().stamp == (START + max_ahead + 1) * MS


def test_observe_is_measured_against_the_wall_clock_also_after_a_step_back(wall: Wall) -> None:
    clock = Clock(None, wall=wall)
    stamp = clock.now().stamp
    wall.now -= 501
    with pytest.raises(FarAhead):
        clock.observe(stamp)


# Restarts.


def test_clock_without_a_file_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wall: Wall, disk: Disk) -> None:
    monkeypatch.chdir(tmp_path)
    Clock(None, wall=wall).now()
    assert (disk.writes, list(tmp_path.iterdir())) == (0, [])


def test_origin_is_made_once_and_differs_between_clocks(path: Path, wall: Wall) -> None:
    clock = Clock(path, wall=wall)
    assert clock.now().origin == clock.origin
    settle(clock)
    assert Clock(path, wall=wall).origin == clock.origin
    others = {Clock(None, wall=wall).origin for _ in range(10)}
    assert len(others) == 10
    assert max(others) < 1 << 64
    assert max(others) > 1 << 32


@pytest.mark.parametrize("moved", [-399, -1, 0, 1, 1_000])
def test_now_after_a_restart_is_greater_and_no_clock_refuses_it(path: Path, wall: Wall, moved: int) -> None:
    clock = Clock(path, wall=wall)
    given = [clock.now() for _ in range(5)][-1]
    settle(clock)
    wall.now += moved
    if moved < -100:
        with pytest.raises(Unavailable):  # another that looks at a clock that was set back this far
            Clock(path, wall=wall)
        return
    again = Clock(path, wall=wall).now()
    assert again > given
    Clock(None, wall=wall).observe(again.stamp)


def test_clock_that_restarts_again_and_again_does_not_run_ahead(path: Path, wall: Wall) -> None:
    versions = []
    for _ in range(500):  # a process takes longer than 2 ms to start
        clock = Clock(path, wall=wall)
        versions.append(clock.now())
        Clock(None, wall=wall).observe(versions[-1].stamp)
        settle(clock)
        wall.now += 2
    assert versions == sorted(set(versions))


def test_observed_stamp_counts_over_a_restart_once_a_version_was_given_after_it(path: Path, wall: Wall) -> None:
    clock = Clock(path, wall=wall)
    clock.observe((START + 500) * MS + 9)
    clock.now()
    settle(clock)
    wall.now += 2
    assert Clock(path, wall=wall).now().stamp > (START + 500) * MS + 10


def test_every_version_lies_within_the_bound_on_the_disk_when_it_is_given(path: Path, wall: Wall) -> None:
    clock = Clock(path, wall=wall)
    for _ in range(1_000):
        assert clock.now().stamp <= bound(path)
        wall.now += 7
        gevent.sleep(0)
    settle(clock)


def test_bound_is_on_the_disk_where_it_lies_before_a_version_is_given(
    path: Path, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(path, wall=wall)
    steps: list[str] = []
    pwrite, fdatasync = os.pwrite, os.fdatasync

    def traced_pwrite(fd: int, data: bytes, at: int) -> int:
        steps.append(f"write {Path(f'/proc/self/fd/{fd}').readlink().name} at {at}")
        return pwrite(fd, data, at)

    def traced_sync(fd: int) -> None:
        fdatasync(fd)
        steps.append(f"sync {Path(f'/proc/self/fd/{fd}').readlink().name}")

    monkeypatch.setattr(os, "pwrite", traced_pwrite)
    monkeypatch.setattr(os, "fdatasync", traced_sync)
    before = path.stat()
    for turn in range(3):
        clock.now()
        steps.append("given")
        settle(clock)
        assert steps[:3] == [f"write clock at {turn % 2 * 4096}", "sync clock", "given"]
        assert steps.count("given") == 1
        steps.clear()
        wall.now += 1_000
    after = path.stat()
    assert (before.st_ino, before.st_blocks, before.st_size) == (after.st_ino, after.st_blocks, after.st_size)


@pytest.mark.parametrize("slot", [0, 1])
def test_bound_before_the_last_one_is_still_there_while_the_last_one_is_written(path: Path, wall: Wall, slot: int) -> None:
    clock = Clock(path, wall=wall)
    for _ in range(2 + slot):
        wall.now += 1_000
        clock.now()
        settle(clock)
    data = path.read_bytes()
    bounds = [int(line.split(b" ")[2], 16) for line in (data[:4096], data[4096:])]
    assert sorted(bounds) == [(wall.now - 600) * MS, (wall.now + 400) * MS]


def test_file_of_the_version_before_is_read_and_written_anew(path: Path, wall: Wall) -> None:
    old = b"gkv-clock-1 00000000000000a1 018bcfe568630000 "
    path.write_bytes(old + hashlib.blake2b(old[:-1], digest_size=8).hexdigest().encode() + b"\n")
    clock = Clock(path, wall=wall)
    assert clock.origin == 0xA1
    assert clock.now().stamp > 0x018BCFE568630000
    settle(clock)
    assert path.stat().st_size == 8192
    again = Clock(path, wall=wall)
    assert (again.origin, again.now().stamp > bound(path) - 400 * MS) == (0xA1, True)


def test_scratch_file_of_a_crash_is_not_read(path: Path, wall: Wall) -> None:
    path.with_suffix(".new").write_bytes(b"gkv-clo")
    clock = Clock(path, wall=wall)
    assert Clock(path, wall=wall).origin == clock.origin


# A file that cannot be used.


def test_damaged_file_is_refused_with_its_path_and_left_alone(path: Path, wall: Wall) -> None:
    clock = Clock(path, wall=wall)
    clock.now()
    settle(clock)
    intact = path.read_bytes()
    places = [*range(80), *range(4096, 4176), 100, 2000, 4095, 8191]
    flipped = [intact[:i] + bytes([intact[i] ^ 1 << bit]) + intact[i + 1 :] for i in places for bit in range(8)]
    for damaged in [b"", intact[:-1], intact + b"\n", intact * 2, b"\0" * len(intact), intact.upper(), *flipped]:
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="is damaged") as caught:
            Clock(path, wall=wall)
        assert str(path) in caught.value.detail
        assert path.read_bytes() == damaged


def test_file_that_cannot_be_read_is_refused_with_its_path(path: Path, wall: Wall) -> None:
    path.mkdir()
    with pytest.raises(Unavailable, match=f"{path} cannot be used: Is a directory"):
        Clock(path, wall=wall)


def test_file_that_cannot_be_made_is_refused_with_its_path(tmp_path: Path, wall: Wall) -> None:
    path = tmp_path / "missing" / "clock"
    with pytest.raises(Unavailable, match=f"{path} cannot be used: No such file or directory"):
        Clock(path, wall=wall)


def test_wall_clock_far_behind_the_bound_at_the_start_is_refused_with_both(path: Path, wall: Wall) -> None:
    clock = Clock(path, wall=wall)
    clock.now()
    settle(clock)
    kept = path.read_bytes()
    wall.now = (bound(path) >> 16) - 501
    with pytest.raises(Unavailable, match=r"0\.501 s behind the versions given before") as caught:
        Clock(path, wall=wall)
    assert str(path) in caught.value.detail
    assert path.read_bytes() == kept
    wall.now += 1
    Clock(path, wall=wall)


# When the file is written.


def test_nothing_is_written_while_nobody_asks(path: Path, wall: Wall, disk: Disk) -> None:
    clock = Clock(path, wall=wall)
    assert disk.writes == 1  # the origin
    for _ in range(100):
        wall.now += 1_000
        clock.observe((wall.now + 400) * MS)
        gevent.sleep(0)
    assert disk.writes == 1
    clock.now()
    settle(clock)
    assert disk.writes == 2


def test_bound_is_extended_ahead_of_need_five_times_a_second(
    path: Path, wall: Wall, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(path, wall=wall)
    clock.now()
    settle(clock)
    monkeypatch.setattr(clock, "_wait_for_bound", lambda _: pytest.fail("it had to wait"))
    before = disk.writes
    for _ in range(10_000):
        wall.now += 1
        clock.now()
        settle(clock)
    assert 45 <= disk.writes - before <= 51


def test_bound_of_a_clock_that_runs_ahead_is_extended_half_a_millisecond_before_need(
    path: Path, wall: Wall, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(path, wall=wall)
    clock.observe((START + 500) * MS)
    clock.now()
    settle(clock)
    assert bound(path) <= (START + 501) * MS
    monkeypatch.setattr(clock, "_wait_for_bound", lambda _: pytest.fail("it had to wait"))
    before = disk.writes
    for _ in range(2 * MS):
        clock.now()
        settle(clock)
    assert 3 <= disk.writes - before <= 5


def test_now_at_the_bound_waits_and_lets_others_run(path: Path, wall: Wall, disk: Disk) -> None:
    clock = Clock(path, wall=wall)
    before = clock.now()
    settle(clock)
    disk.open.clear()
    wall.now += 10_000
    waiting = [gevent.spawn(clock.now) for _ in range(64)]
    for _ in range(100):
        gevent.sleep(0)
    assert not any(one.ready() for one in waiting)
    wall.now += 10_000  # the disk takes longer than the window
    disk.open.set()
    given = [one.get() for one in waiting]
    assert len(set(given)) == 64
    assert min(given) > before
    assert min(given).stamp >= (START + 10_000) * MS
    settle(clock)
    assert disk.most_at_once == 1
    assert disk.writes <= 4  # the origin, the first bound, that of the 64, and perhaps one ahead of need


def test_now_ends_also_when_every_write_takes_longer_than_the_window(path: Path, wall: Wall, disk: Disk) -> None:
    clock = Clock(path, wall=wall)
    disk.meanwhile = lambda: setattr(wall, "now", wall.now + 1_000)
    given = [clock.now() for _ in range(10)]
    assert given == sorted(set(given))
    settle(clock)


def test_bound_is_400_ms_ahead_also_where_more_is_tolerated_and_less_where_less_is(tmp_path: Path, wall: Wall) -> None:
    for max_ahead, window in ((100, 80), (500, 400), (60_000, 400)):
        path = tmp_path / f"{max_ahead}.clock"
        clock = Clock(path, max_ahead, wall)
        clock.now()
        settle(clock)
        assert bound(path) == (START + window) * MS


def test_greenlets_get_versions_that_differ_and_rise(path: Path, wall: Wall, disk: Disk) -> None:
    clock = Clock(path, wall=wall)
    order = []

    def ask() -> None:
        for _ in range(20):
            order.append(clock.now())
            wall.now += 37
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(ask) for _ in range(32)], raise_error=True)
    settle(clock)
    assert len(set(order)) == 640
    assert order == sorted(order)  # it never waits with a stamp in its hand
    assert disk.most_at_once == 1


def test_now_when_the_disk_takes_too_long_raises_and_later_goes_on(
    path: Path, wall: Wall, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT", 0.02)
    clock = Clock(path, wall=wall)
    disk.open.clear()
    for _ in range(3):
        with pytest.raises(Unavailable, match="takes too long"):
            clock.now()
    disk.open.set()
    settle(clock)
    assert clock.now().stamp == START * MS
    assert disk.most_at_once == 1
    settle(clock)


def test_now_when_the_disk_refuses_raises_says_so_once_and_later_goes_on(
    path: Path, wall: Wall, disk: Disk, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(path, wall=wall)
    disk.error = (28, "No space left on device")
    for _ in range(3):
        with pytest.raises(Unavailable, match="refuses the clock's bound") as caught:
            clock.now()
        assert str(path) not in caught.value.detail  # clients see it
    assert capfd.readouterr().err.endswith(f"Z the clock file {path} cannot be written: No space left on device\n")
    disk.error = None
    assert clock.now().stamp == START * MS
    settle(clock)


def test_refused_extension_ahead_of_need_harms_nobody_before_the_bound(path: Path, wall: Wall, disk: Disk) -> None:
    clock = Clock(path, wall=wall)
    clock.now()
    settle(clock)
    limit = bound(path)
    disk.error = (5, "Input/output error")
    for _ in range(400):
        wall.now += 1
        assert clock.now().stamp <= limit
        settle(clock)
    wall.now += 1
    with pytest.raises(Unavailable):
        clock.now()
    assert bound(path) == limit


def test_caller_that_gives_up_leaves_the_others_waiting(path: Path, wall: Wall, disk: Disk) -> None:
    clock = Clock(path, wall=wall)
    disk.open.clear()
    patient = gevent.spawn(clock.now)
    with gevent.Timeout(0.02, False):
        clock.now()
        pytest.fail("it did not wait")
    disk.open.set()
    assert patient.get().stamp == START * MS
    settle(clock)


# All of it, in any order.

CRASHES = ("open", "write", "fsync", "rename", "open directory", "fsync directory")


def crash_at(step: str) -> pytest.MonkeyPatch:
    """Make one step of writing the file fail, before it has any effect; return what undoes that."""
    patch = pytest.MonkeyPatch()

    def failing(original: Callable[..., object], applies: Callable[..., bool]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if applies(*arguments):
                raise OSError(5, "Input/output error")
            return original(*arguments, **named)

        return call

    def is_directory(fd: int) -> bool:
        return os.path.isdir(f"/proc/self/fd/{fd}")  # noqa: PTH112

    if step == "open":
        patch.setattr(Path, "open", failing(Path.open, lambda path, *_: path.suffix == ".new"))
    elif step == "write":
        patch.setattr(module, "_text", failing(module._text, lambda *_: True))  # the scratch file is left empty
    elif step == "rename":
        patch.setattr(Path, "replace", failing(Path.replace, lambda *_: True))
    elif step == "open directory":
        patch.setattr(os, "open", failing(os.open, lambda _, flags: bool(flags & os.O_DIRECTORY)))
    else:
        patch.setattr(os, "fsync", failing(os.fsync, lambda fd: is_directory(fd) == (step == "fsync directory")))
    return patch


class Life(RuleBasedStateMachine):
    """A clock against a model that is exact: the greatest of the wall clock and what was given, observed, or kept."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "clock"
        self.wall = Wall()
        self.clock: Clock | None = Clock(self.path, wall=self.wall)
        self.origin = self.clock.origin
        self.last = 0
        self.given = 0

    def take(self) -> None:
        assert self.clock is not None
        version = self.clock.now()
        assert version.stamp == max(self.wall.now * MS, self.last + 1)
        assert version.stamp > self.given
        assert version.stamp <= bound(self.path)
        assert version.origin == self.origin
        self.last = self.given = version.stamp

    def bound_is_near(self) -> None:
        """Check a bound that was written since the wall clock has moved."""
        assert bound(self.path) <= max((self.wall.now + 400) * MS, self.last + MS)

    @precondition(lambda self: self.clock)
    @rule(count=st.integers(1, 5))
    def now(self, count: int) -> None:
        for _ in range(count):
            self.take()

    @precondition(lambda self: self.clock)
    @rule(count=st.integers(1, 10))
    def now_by_greenlets(self, count: int) -> None:
        taken = gevent.joinall([gevent.spawn(self.clock.now) for _ in range(count)], raise_error=True)
        expected = max(self.wall.now * MS, self.last + 1)
        assert sorted(one.value.stamp for one in taken) == list(range(expected, expected + count))
        self.last = self.given = expected + count - 1

    @precondition(lambda self: self.clock)
    @rule()
    def let_the_disk_finish(self) -> None:
        written = self.clock._extension is not None
        settle(self.clock)
        if written:
            self.bound_is_near()

    @rule(by=st.sampled_from([1, 2, 100, 199, 201, 399, 400, 401, 5_000, 86_400_000]))
    def wall_goes_on(self, by: int) -> None:
        if self.clock is not None:
            settle(self.clock)
        self.wall.now += by

    @rule(by=st.sampled_from([1, 100, 499, 501, 86_400_000]))
    def wall_steps_back(self, by: int) -> None:
        if self.clock is not None:
            settle(self.clock)
        self.wall.now -= by

    @precondition(lambda self: self.clock)
    @rule(ahead=st.integers(-1_000, 1_000), counter=st.sampled_from([0, 1, 0x7FFF, 0xFFFE, 0xFFFF]))
    def observe(self, ahead: int, counter: int) -> None:
        stamp = (self.wall.now + ahead) * MS + counter
        if ahead > 500:
            with pytest.raises(FarAhead):
                self.clock.observe(stamp)
        else:
            self.clock.observe(stamp)
            self.last = max(self.last, stamp)

    @precondition(lambda self: self.clock)
    @rule()
    def stop(self) -> None:
        settle(self.clock)
        self.clock = None

    @precondition(lambda self: self.clock)
    @rule(step=st.sampled_from(CRASHES), after=st.integers(0, 500))
    def crash_while_writing(self, step: str, after: int) -> None:
        settle(self.clock)
        self.wall.now += after
        patch = crash_at(step)
        try:
            with suppress(Unavailable):
                self.take()
            settle(self.clock)
        finally:
            patch.undo()
        self.clock = None

    @precondition(lambda self: self.clock is None)
    @rule()
    def start(self) -> None:
        kept = bound(self.path)
        assert kept >= self.given
        if (kept >> 16) - self.wall.now > 500:
            with pytest.raises(Unavailable, match="behind the versions given before"):
                Clock(self.path, wall=self.wall)
        else:
            self.clock = Clock(self.path, wall=self.wall)
            self.last = kept

    def teardown(self) -> None:
        if self.clock is not None:
            settle(self.clock)
        shutil.rmtree(self.directory)


@pytest.mark.promise("I16")
def test_any_life_of_a_clock_agrees_with_the_model() -> None:
    run_state_machine_as_test(
        Life, settings=settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)
    )
