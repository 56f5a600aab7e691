"""Events in virtual time, and the clocks of processes."""

import heapq
from collections.abc import Callable
from typing import Any


class Scheduler:
    """Calls that are due at some moment, in the order of their times, then in that in which they were made."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds of the world."""
        self.done = 0
        """Calls that were made."""
        self._waiting: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._made = 0

    def at(self, time: float, call: Callable[..., object], *args: Any) -> None:
        """Have something called at a time, at once if that is over."""
        self._made += 1
        heapq.heappush(self._waiting, (max(time, self.now), self._made, call, args))

    def after(self, delay: float, call: Callable[..., object], *args: Any) -> None:
        """Have something called in a while."""
        self.at(self.now + delay, call, *args)

    def step(self) -> bool:
        """Make the next call; return False when none is left."""
        if not self._waiting:
            return False
        self.now, _, call, args = heapq.heappop(self._waiting)
        self.done += 1
        call(*args)
        return True

    def clear(self) -> None:
        """Forget all calls."""
        self._waiting.clear()


class Clock:
    """The clocks of one machine: BOOTTIME, which goes too fast or too slow, and a wall clock, which may be wrong."""

    def __init__(self, scheduler: Scheduler, rate: float, offset: float, wall: float) -> None:
        self._scheduler = scheduler
        self._rate = rate
        self._offset = offset
        self.wall_error = wall

    def boot(self) -> float:
        """Return seconds of BOOTTIME."""
        return self._scheduler.now * self._rate + self._offset

    def world(self, boot: float) -> float:
        """Return the time of the world at which BOOTTIME shows this, a little later rather than earlier."""
        return (boot - self._offset) / self._rate + 1e-9

    def wall(self) -> int:
        """Return the time of day in ms; the world begins at 1000000000000."""
        return 1_000_000_000_000 + int((self._scheduler.now + self.wall_error) * 1000)
