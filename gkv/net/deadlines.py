"""Deadlines of many short waits, without a timer for each.

Arming and disarming a timer costs 4 us, and nearly no wait ever needs it. Here a wait is an entry in a set, and one greenlet
looks at the set every 20 ms as long as there is something in it; so a deadline is kept to within that.
"""

from time import monotonic
from typing import Protocol

import gevent
from gevent.hub import Waiter, get_hub

from gkv import background

TICK = 0.02
"""Seconds between two looks."""
_IDLE_TICKS = 50
"""Looks at an empty set after which the greenlet ends, so that an idle process does nothing."""


class Timed(Protocol):
    """Something that must end in time."""

    expires: float
    """On the clock of `time.monotonic`."""

    def expire(self) -> None:
        """End it. Does not switch greenlets and does not raise."""


class Deadlines:
    """The waits of one thread."""

    def __init__(self) -> None:
        self._waits: set[Timed] = set()
        self._running = False

    def add(self, wait: Timed) -> None:
        """Call `wait.expire()` once, when its time has come, unless it is removed before."""
        self._waits.add(wait)
        if not self._running:
            self._running = True
            background.start("the watch over deadlines", self._run)

    def remove(self, wait: Timed) -> None:
        """Forget a wait; fine if it has expired already."""
        self._waits.discard(wait)

    def _run(self) -> None:
        empty = 0
        try:
            while empty < _IDLE_TICKS:
                gevent.sleep(TICK)
                empty = 0 if self._waits else empty + 1
                now = monotonic()
                for wait in [wait for wait in self._waits if wait.expires <= now]:
                    self._waits.discard(wait)
                    wait.expire()
        finally:
            self._running = False


deadlines = Deadlines()


class Wait:
    """A wait of one greenlet, which others end, or its deadline. An `Event` with a timeout costs 2 to 4 us more."""

    __slots__ = ("_waiter", "expires")

    def __init__(self, expires: float = 0.0) -> None:
        self.expires = expires
        """On the clock of `time.monotonic`."""
        self._waiter: Waiter | None = None

    def sleep(self) -> None:
        """Return when `expire` is called, at the time of `expires` at the latest. Switches greenlets."""
        self._waiter = Waiter()
        deadlines.add(self)
        try:
            self._waiter.get()
        finally:
            deadlines.remove(self)
            self._waiter = None

    def expire(self) -> None:
        """End the wait now, if there is one. Does not switch greenlets and does not raise."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            get_hub().loop.run_callback(waiter.switch, None)
