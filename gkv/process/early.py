"""The first moments of a process, before the imports that take time.

Promises: a signal that comes before the program can act on it is kept until then; descriptors 0 to
2 are open, so that no file, a data file above all, gets the number of standard error and the lines
that go there. Imports nothing that takes time itself.
"""

import os
import signal
import sys
from time import monotonic
from types import FrameType

CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_GRACE = 5.0
"""Seconds that a hangup may take from the terminal to this process: a shell passes it on to its
jobs.
"""


class Terminal:
    """The terminal that controls this process, if there is one when this is made."""

    def __init__(self) -> None:
        self._controls = _has_terminal()
        self._gone_since = float("inf")

    def look(self) -> bool:
        """Return whether the terminal is there, or has been until a moment ago. A system call or
        two.

        A process that has outlived it for 5 s is its own master; so this is to be called every
        second or so.
        """
        if self._controls and not _has_terminal():
            self._gone_since = min(self._gone_since, monotonic())
            self._controls = monotonic() - self._gone_since < _GRACE
        return self._controls

    def has_hung_up(self) -> bool:
        """Return whether the terminal has just gone. A SIGHUP at any other time was sent by
        somebody with `kill`.
        """
        return self.look() and self._gone_since != float("inf")


def _has_terminal() -> bool:
    try:
        # Not kept open: a terminal can wait for that to close, after its shell has ended.
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class EarlySignals:
    """The signals that are caught, and those of them that have come before there is somebody to act
    on them.
    """

    def __init__(self) -> None:
        """Begin to catch SIGTERM, SIGINT and SIGHUP, but for those that are ignored: nohup and
        shells want them to be.
        """
        self.terminal = Terminal()
        self.came: list[int] = []
        self.caught = [number for number in CAUGHT if signal.getsignal(number) is not signal.SIG_IGN]
        for number in self.caught:
            signal.signal(number, self._keep)

    def _keep(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGHUP and self.is_ending:
            os._exit(128 + number)
        self.came.append(number)

    @property
    def is_ending(self) -> bool:
        """Whether the process has been asked to end."""
        return any(number != signal.SIGHUP for number in self.came)

    def ignore(self) -> None:
        """Ignore all of them from now on: the process is about to end, and its exit code is
        decided.
        """
        for number in self.caught:
            signal.signal(number, signal.SIG_IGN)


def open_standard_descriptors() -> None:
    """Open /dev/null in place of those of the descriptors 0, 1 and 2 that the process was started
    without.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115  # until the end
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115
