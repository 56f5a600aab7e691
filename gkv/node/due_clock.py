"""The clock by which a node judges whether values are due, and the look at the wall clock beside it."""

from time import clock_gettime_ns, time_ns

import gevent

from gkv.clock import BOOT_CLOCK
from gkv.log import as_warning, say
from gkv.replication.expiry import DueTime

_TOLERATED = 1_000
"""Difference to the wall clock, in ms, that nobody is told of: it is set by so much now and then."""
_LOOK_EVERY = 1.0


def wall_ms() -> int:
    """Return milliseconds since the Unix epoch."""
    return time_ns() // 1_000_000


def _elapsed() -> int:
    """Return milliseconds on a clock that nobody sets, and that goes on while the machine sleeps."""
    return clock_gettime_ns(BOOT_CLOCK) // 1_000_000


class DueClock:
    """The time of day as it was at the start, and what has passed since."""

    def __init__(self) -> None:
        self.time = DueTime(wall_ms(), _elapsed())
        """The time by which the machines of copies judge, too."""
        self._said = False

    def now(self) -> int:
        """Return the time by which values are due, in ms since the Unix epoch. 0.2 us."""
        return clock_gettime_ns(BOOT_CLOCK) // 1_000_000 + self.time.offset

    @property
    def difference(self) -> int:
        """By how many ms the wall clock is ahead."""
        return self.time.difference(wall_ms(), _elapsed())

    @property
    def jumped(self) -> str:
        """A warning about the wall clock; "" for none."""
        difference = self.difference
        if abs(difference) < _TOLERATED:
            return ""
        way = "ahead of" if difference > 0 else "behind"
        return f"the system's clock is {abs(difference) / 1000:.1f} s {way} the time by which values expire"

    def take_over(self) -> None:
        """Follow the wall clock from now on."""
        if self.jumped:
            say(f"{self.jumped}: it is taken over")
        self.time.take_over(wall_ms(), _elapsed())
        self._said = False

    def watch(self) -> None:
        """Say once when the wall clock has jumped, for as long as it has. Switches greenlets, and does not end."""
        while True:
            jumped = self.jumped
            if jumped and not self._said:
                say(as_warning(f"{jumped}; nothing expires or comes back by that. SIGHUP or a restart takes the clock over"))
            self._said = bool(jumped)
            gevent.sleep(_LOOK_EVERY)
