"""The hybrid logical clock (Kulkarni et al., 2014) that gives a coordinator its versions.

Promises: each version is greater than every one given before, over restarts and crashes too, and greater than every stamp
observed since the start; a stamp far ahead of the wall clock is refused and changes nothing. What is observed is kept over a
restart once a version has been given after it; before that nothing of this coordinator's depends on it. A clock belongs to the
thread of one event loop. Leaves to others: that no two processes use the same file; the lock of its directory is for that.

The file holds the origin and a bound, in two slots that are written in turn where they lie, so that it can be written on a full
disk too: the greater bound is in force. No version above the bound is given before a greater bound is on the disk, and after a
restart the clock begins above it. The bound lies at most 400 ms ahead of the wall clock, or 1 ms ahead of the clock where that
is later, so that what a restarted clock gives is not refused by others, who tolerate 500 ms. With half of that left a native
thread writes the next bound, five times a second at most, and `now` does not wait. When nobody has asked for 400 ms, the next
who asks waits for the disk, twice the time of an fsync.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from gevent import Greenlet

from gkv.errors import ConfigError, FarAhead, Unavailable
from gkv.files import make_slots, read_slots, write_slot
from gkv.log import say
from gkv.model import Version
from gkv.threads import NativeThread

_WINDOW_MS = 400
_MS = 1 << 16
"""A millisecond, in stamps."""
_WAIT = 5.0
"""Seconds that a caller waits for the disk."""
_FORMAT = "gkv-clock-2"
_OLD_FORMAT = "gkv-clock-1"
"""A file of one line, which was replaced each time."""


def wall_ms() -> int:
    """Return milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Clock:
    """Gives versions and takes note of those of others."""

    def __init__(self, path: Path | None, max_ahead_ms: int = 500, wall: Callable[[], int] = wall_ms) -> None:
        """Read the file at `path`, or make it; None keeps nothing. `wall` returns milliseconds since the Unix epoch.

        Raise ConfigError when the file is damaged or cannot be used; it is never replaced then, because a new one would let
        versions go back. Raise it as well when the bound lies more than `max_ahead_ms` ahead of the wall clock. Either the wall
        clock is behind now, and expiries would be wrong; or it was ahead before, and nodes would refuse every version until
        time has caught up. Both end by themselves or by setting the clock, so whoever starts the process should try again. A
        clock that steps back while it runs goes on counting: which of the two readings was wrong, the nodes will say.

        Blocks for two fsyncs when it makes the file.
        """
        self._path = path
        self._max_ahead_ms = max_ahead_ms
        self._window = min(_WINDOW_MS, max_ahead_ms * 4 // 5) * _MS
        self._wall = wall
        self._last = 0
        self._bound = (1 << 64) - 1  # without a file, nothing ever has to be written
        self._origin = secrets.randbits(64)
        self._extension: Greenlet | None = None  # at most one; whoever needs the bound joins it
        self._failing = False
        if path is not None:
            self._thread = NativeThread()
            self._start(path)

    def _start(self, path: Path) -> None:
        try:
            found = _read(path)
            if found is None:
                self._bound = 0
                _keep(path, self._origin, self._bound)
                return
        except OSError as error:
            raise ConfigError(f"the clock file {path} cannot be used: {error.strerror}") from None
        except ValueError:
            raise ConfigError(
                f"the clock file {path} is damaged, and without it versions could go back: remove it only when the system's "
                f"clock is certainly right"
            ) from None
        self._origin, self._bound = found
        self._last = self._bound
        behind = (self._bound >> 16) - self._wall()
        if behind > self._max_ahead_ms:
            raise ConfigError(
                f"the system's clock is {behind / 1000:.3f} s behind the versions given before, as {path} has them; "
                f"{self._max_ahead_ms} ms are allowed: set the system's clock, or start again when that time has come"
            )

    @property
    def origin(self) -> int:
        """The random 64-bit id of this clock, the second half of each of its versions."""
        return self._origin

    def now(self) -> Version:
        """Return a version greater than every one before; its stamp is that of the moment of the call or later.

        Normally returns at once (2 us). Switches greenlets when the bound must be written first, for 5 s at most. Raise
        Unavailable when that fails; no version has been given then, and the next call tries again.
        """
        asked = self._wall() * _MS
        stamp = max(asked, self._last + 1)
        if stamp > self._bound:
            stamp = self._wait_for_bound(asked)
        self._last = stamp
        # The second half: the clock runs ahead of the wall clock, and its counter comes to the end of the last millisecond.
        if self._bound - asked < self._window // 2 or self._bound - stamp < _MS // 2:
            self._extend()
        return Version(stamp, self._origin)

    def observe(self, stamp: int) -> None:
        """Take note of a stamp seen elsewhere. Raise FarAhead when it is refused; then nothing has changed."""
        ahead = (stamp >> 16) - self._wall()
        if ahead > self._max_ahead_ms:
            raise FarAhead(
                f"a version is {ahead / 1000:.3f} s ahead of this process's clock, {self._max_ahead_ms} ms are allowed"
            )
        self._last = max(self._last, stamp)

    def _wait_for_bound(self, asked: int) -> int:
        """Return the stamp to give next once it is within the bound.

        `asked` stays what it was at the call: with a fresh reading, a disk that takes longer than the window would never catch
        up. One extension may have begun before the call and be too short, the second is long enough for 65,536 callers.
        """
        until = time.monotonic() + _WAIT
        while (stamp := max(asked, self._last + 1)) > self._bound:
            extension = self._extend()
            extension.join(max(0.0, until - time.monotonic()))
            if not extension.ready():
                raise Unavailable("no version can be given: the disk takes too long", retry_after=1)
            if not extension.successful() or extension.value is not None:
                raise Unavailable("no version can be given: the disk refuses the clock's bound", retry_after=1)
        return stamp

    def _extend(self) -> Greenlet:
        """Have a greater bound written, or find that being done; return the greenlet that ends with None or an OSError."""
        if self._extension is None:
            bound = max(self._wall() * _MS + self._window, self._last + _MS)
            self._extension = Greenlet.spawn(self._keep_bound, bound)
        return self._extension

    def _keep_bound(self, bound: int) -> OSError | None:
        path = self._path
        assert path is not None  # noqa: S101  # without a file nothing is ever beyond the bound
        error: OSError | None = None
        try:
            self._thread.call(lambda: _keep(path, self._origin, bound))
        except OSError as raised:
            error = raised
        finally:
            self._extension = None
        if error is None:
            self._bound = bound
        elif not self._failing:
            say(f"the clock file {self._path} cannot be written: {error.strerror}")
        self._failing = error is not None
        return error


def _text(origin: int, bound: int, form: str = _FORMAT) -> bytes:
    body = f"{form} {origin:016x} {bound:016x}"
    return f"{body} {hashlib.blake2b(body.encode(), digest_size=8).hexdigest()}\n".encode()


def _read(path: Path) -> tuple[int, int] | None:
    """Return origin and bound, None when there is no file. Raise ValueError for anything but what `_keep` wrote.

    A line is shorter than a sector, which disks write whole or not at all; so one that is damaged was
    not left by a crash.
    """
    try:
        slots = read_slots(path)
    except FileNotFoundError:
        return None
    found = [_parse(slot, _FORMAT if len(slots) > 1 else _OLD_FORMAT) for slot in slots]
    if len({origin for origin, _ in found}) > 1:
        raise ValueError("the slots have two origins")
    return max(found)


def _parse(line: bytes, form: str) -> tuple[int, int]:
    _, origin, bound, _ = line.split(b" ")
    found = int(origin, 16), int(bound, 16)
    if _text(*found, form) != line:
        raise ValueError("the checksum is wrong")
    return found


def _keep(path: Path, origin: int, bound: int) -> None:
    """Write a bound so that a crash at any point leaves the old one or the new one.

    Blocks for an fdatasync, or for two fsyncs when there is no file with slots yet.
    """
    line = _text(origin, bound)
    try:
        slots = read_slots(path)
    except FileNotFoundError:
        slots = []
    if len(slots) < 2:
        make_slots(path, line)
    else:
        # Both begin alike up to the bound, whose digits sort as it does itself.
        write_slot(path, slots.index(min(slots)), line)
