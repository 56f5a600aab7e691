"""Lines for the operator, on standard error: text or JSON, one piece a line, control characters
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
access_log = False
"""Whether every request is worth a line."""
_second = (0, "")


def configure(log_format: str, *, access: bool = False) -> None:
    """Write "text" or "json" from now on, and a line for each request or none."""
    global _as_json, access_log  # a process has one standard error
    _as_json, access_log = log_format == "json", access


def dropped() -> int:
    """Return how many lines nobody took, since the process began."""
    return _output.dropped_ever


def say(line: str, trace: str = "") -> None:
    """Write a line, and a stack trace that belongs to it."""
    line, trace = line[:_MAX_LINE], trace[-_MAX_TRACE:]
    if _as_json:
        _put(json.dumps({"time": _now(), "log": "gkv", "message": line} | ({"trace": trace} if trace else {})))
    else:
        # The mark keeps what stands in a trace, an exception's text too, from passing for a line of its own.
        _put("".join([f"{_now()} {escape(line)}", *(f"\n  | {escape(part)}" for part in trace.splitlines())]))


def say_exception(line: str) -> None:
    """Write a line with the stack trace of the exception that is being handled."""
    say(line, traceback.format_exc())


def say_access(*, method: str, route: str, status: int, size: int, seconds: float, request_id: str, peer: str) -> None:
    """Write what a request was and what became of it. `route` is a template: no key is ever in it."""
    if _as_json:
        _put(
            json.dumps(
                {
                    "time": _now(),
                    "log": "access",
                    "method": method,
                    "route": route,
                    "status": status,
                    "bytes": size,
                    "ms": round(seconds * 1000, 3),
                    "id": request_id,
                    "peer": peer,
                }
            )
        )
    else:
        _put(f"{_now()} access {peer} {escape(method)} {route} {status} {size}B {seconds * 1000:.3f}ms {escape(request_id)}")


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
    return f"{json.dumps({'time': _now(), 'log': 'gkv', 'message': text}) if _as_json else f'{_now()} {text}'}\n".encode()
