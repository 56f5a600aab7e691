"""A terminal of a test's own, with a process that it controls."""

import os
import select
import sys
import termios
import time
from collections.abc import Sequence

from tests.cluster.conftest import DEADLINE

CONTROLLED = (
    "import fcntl, os, sys, termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\nos.execvp(sys.argv[1], sys.argv[1:])\n"
)
"""A program that makes its standard input, a terminal, the one that controls it, and runs another.
"""
UNDER = [sys.executable, "-c", CONTROLLED]


class Terminal:
    """A pseudo-terminal: what is typed into it, what is on it, and its end."""

    def __init__(self) -> None:
        self._keyboard, self.descriptor = os.openpty()
        attributes = termios.tcgetattr(self.descriptor)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self.descriptor, termios.TCSANOW, attributes)
        self.screen = ""

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    def wait_for(self, endings: Sequence[str], within: float = DEADLINE) -> str:
        """Read until the screen ends with one of these; return what has come since the last time."""
        until = time.monotonic() + within
        shown = ""
        while not any(shown.endswith(ending) for ending in endings):
            left = until - time.monotonic()
            assert left > 0, f"none of {endings} came: {shown}"
            assert select.select([self._keyboard], [], [], left)[0], f"none of {endings} came: {shown}"
            shown += os.read(self._keyboard, 65_536).decode().replace("\r\n", "\n")
        self.screen += shown
        return shown

    def hang_up(self) -> None:
        """Close it, as a window that is closed or a connection that is lost does."""
        for descriptor in (self.descriptor, self._keyboard):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self._keyboard = -1
