"""Lines for the operator, on standard error: text or JSON, each with a level, one piece a line, control characters
escaped.

Promises: nothing here raises, on whatever thread, switches greenlets, or stops the process for
longer than `PATIENCE` because nobody reads standard error. While a pipe or a terminal is full, lines are dropped and
counted, and the count is said as soon as there is room. A file is always taken to have room: a disk
that hangs stops whoever writes to it, so logs belong into a pipe (systemd's journal, a container's
log driver) or onto a disk that works.

Leaves to others: what is worth a line. Keys, values and tokens are none of it.
"""

import errno
import json
import os
import re
import select
import time
import traceback
from enum import IntEnum
from typing import Self

from gevent.monkey import get_original

PATIENCE = 0.1
"""Seconds that a line waits for room, on the event loop, when the line before it found some. Else
it does not wait.
"""
_FD = 2
_MAX_LINE = 16_384
_MAX_TRACE = 65_536
_PIECE = 4_096
"""PIPE_BUF: a pipe that poll() calls writable takes so much without blocking, and pieces of two
processes do not mix in it.
"""


class Level(IntEnum):
    """The weight of a line, by the names of `--log-level`."""

    DEBUG = 10
    """For somebody who looks for a fault of gkv's own."""
    INFO = 20
    """What happens in ordinary life."""
    WARNING = 30
    """It goes on, but with less than there should be, or not as somebody has asked for."""
    ERROR = 40
    """Something has no answer, is lost or damaged, or ends by it."""

    @property
    def word(self) -> str:
        return self.name.lower()


class Line(str):
    """A text with its level, which goes wherever the text does. A plain `str` is information.

    So those who make lines and know their weight need not be those who write them, and who hands lines on needs no other type.
    """

    __slots__ = ("level",)
    level: Level

    def __new__(cls, text: str, level: Level) -> Self:
        line = super().__new__(cls, text)
        line.level = level
        return line


def as_debug(text: str) -> Line:
    """Return a line for somebody who looks for a fault of gkv's own."""
    return Line(text, Level.DEBUG)


def as_warning(text: str) -> Line:
    """Return a line about something that somebody should look at."""
    return Line(text, Level.WARNING)


def as_error(text: str) -> Line:
    """Return a line about something that has no answer, is lost, or ends."""
    return Line(text, Level.ERROR)


def named(name: str, line: str) -> Line:
    """Return a line, of whatever level, that begins with whose it is.

    >>> named("n1", as_warning("down")).level.word, named("n1", "up")
    ('warning', 'n1: up')
    """
    return Line(f"{name}: {line}", level_of(line))


def level_of(line: str) -> Level:
    """Return the level of a line."""
    return line.level if isinstance(line, Line) else Level.INFO


_control = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Output:
    """A descriptor that takes lines as long as somebody reads them, and how many of them it did not
    take.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # The originals: gevent's would switch greenlets, and not wait at all in a process that it has not patched.
        self._poll = get_original("select", "poll")()
        self._poll.register(fd, select.POLLOUT)
        self._lock = get_original("_thread", "allocate_lock")()
        self._torn = False
        self.dropped = self.dropped_ever = 0

    def write(self, data: bytes) -> bool:
        """Write a line, and return whether it was taken whole; False while another thread writes one for too long."""
        if not self._lock.acquire(timeout=PATIENCE):
            return False
        try:
            return self._write(data)
        finally:
            self._lock.release()

    def _write(self, data: bytes) -> bool:
        wait = 0 if self.dropped else int(PATIENCE * 1000)
        if self._torn:
            data = b"\n" + data
        done = 0
        try:
            while done < len(data) and self._poll.poll(wait):
                done += os.write(self._fd, data[done : done + _PIECE])
        except OSError as error:
            if error.errno == errno.EBADF:  # closed by whoever started this process: there is nobody to tell
                return True
        self._torn = done not in (0, len(data)) or (self._torn and not done)
        return done == len(data)


_output = Output(_FD)
_as_json = False
_least = Level.INFO
"""The least level of a line that is written."""
access_log = False
"""Whether every request is worth a line."""
_second = (0, "")


def configure(log_format: str, *, access: bool = False, level: str = "info") -> None:
    """Write "text" or "json" from now on, lines of this level and above, and a line for each request or none."""
    global _as_json, _least, access_log  # a process has one standard error
    _as_json, _least, access_log = log_format == "json", Level[level.upper()], access


def dropped() -> int:
    """Return how many lines nobody took, since the process began."""
    return _output.dropped_ever


def say(line: str, trace: str = "") -> None:
    """Write a line, and a stack trace that belongs to it, unless lines of its level are not wanted."""
    level = level_of(line)
    if level < _least:
        return
    line, trace = line[:_MAX_LINE], trace[-_MAX_TRACE:]
    if _as_json:
        said = {"time": _now(), "level": level.word, "log": "gkv", "message": line}
        _put(json.dumps(said | ({"trace": trace} if trace else {})))
    else:
        # The mark keeps what stands in a trace, an exception's text too, from passing for a line of its own.
        _put("".join([f"{_now()} {level.word} {escape(line)}", *(f"\n  | {escape(part)}" for part in trace.splitlines())]))


def say_exception(line: str) -> None:
    """Write a line with the stack trace of the exception that is being handled, as an error."""
    say(as_error(line), traceback.format_exc())


def say_access(
    *, method: str, route: str, status: int, size: int, seconds: float, request_id: str, peer: str, traceparent: str = ""
) -> None:
    """Write what a request was and what became of it, be the least level what it may. No key is ever in `route`, a template."""
    if _as_json:
        _put(
            json.dumps(
                {
                    "time": _now(),
                    "level": Level.INFO.word,
                    "log": "access",
                    "method": method,
                    "route": route,
                    "status": status,
                    "bytes": size,
                    "ms": round(seconds * 1000, 3),
                    "id": request_id,
                    "peer": peer,
                }
                | ({"traceparent": traceparent} if traceparent else {})
            )
        )
    else:
        traced = f" {traceparent}" if traceparent else ""
        took = f"{size}B {seconds * 1000:.3f}ms"
        _put(f"{_now()} access {peer} {escape(method)} {route} {status} {took} {escape(request_id)}{traced}")


def escape(text: str) -> str:
    r"""Return a text without control characters, line ends among them.

    >>> print(escape("one\ntwo \x1b[31m"))
    one\x0atwo \x1b[31m
    """
    return _control.sub(lambda found: f"\\x{ord(found[0]):02x}" if found[0] < "\u0100" else f"\\u{ord(found[0]):04x}", text)


def _now() -> str:
    """Return the time in UTC, as RFC 3339 has it, to the millisecond."""
    global _second  # noqa: PLW0603  # strftime costs more than all the rest of a line, and is the same for a second
    now = time.time()
    second = int(now)
    if second != _second[0]:
        _second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
    return f"{_second[1]}.{int((now - second) * 1000):03d}Z"


def _put(line: str) -> None:
    data = f"{line}\n".encode("utf-8", "backslashreplace")
    dropped = _output.dropped
    if dropped and _output.write(_lost(dropped)):
        _output.dropped = 0
    if _output.dropped or not _output.write(data):
        _output.dropped += 1
        _output.dropped_ever += 1


def _lost(count: int) -> bytes:
    text = f"{count} lines were dropped: nobody read standard error"
    said = {"time": _now(), "level": Level.WARNING.word, "log": "gkv", "message": text}
    return f"{json.dumps(said) if _as_json else ' '.join([said['time'], said['level'], text])}\n".encode()
