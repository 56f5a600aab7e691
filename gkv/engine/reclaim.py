"""The work that an engine's writer does between two commits, in small steps: old tombstones are dropped, sums are built."""

import time
from collections.abc import Callable
from typing import Protocol

from gkv.engine.engine import Engine
from gkv.errors import EngineFailed, GkvError

RECLAIM_EVERY = 1.0
RECLAIM_STEP = 200
BEHIND_WRITES = 0.1
"""Seconds of rest after each small step while writes wait, which go first."""


class Make(Protocol):
    """Makes a call of the engine, which it gives what is to be called when only the disk is waited for."""

    def __call__(self, call: Callable[[Callable[[], object]], int]) -> int: ...


class Reclaimer:
    """The age of tombstones; those of earlier runs are as old as this one."""

    def __init__(self, engine: Engine, ttl: int, now: Callable[[], int]) -> None:
        """`ttl` is in ms, as is `now`."""
        self._engine = engine
        self._ttl = ttl
        self._now = now
        self._started = now()

    @property
    def until(self) -> int:
        """The time until which tombstones are old enough to go, -1 while none are."""
        now = self._now()
        return now - self._ttl if now >= self._started + self._ttl else -1

    def step(self, make: Make) -> int:
        """Drop some; return how many, `RECLAIM_STEP` if more may be. Raise EngineFailed. Switches greenlets."""
        until = self.until
        if until < 0:
            return 0
        try:
            return make(lambda syncing: self._engine.forget(until, RECLAIM_STEP, syncing))
        except EngineFailed:
            raise
        except GkvError:  # no room just now; the next round is soon
            return 0


class Chores:
    """All of that work."""

    def __init__(self, engine: Engine, reclaimer: Reclaimer, make: Make) -> None:
        """`make` makes the calls that change something or must not stand beside one that does."""
        self._engine = engine
        self._reclaimer = reclaimer
        self._make = make
        self.reclaims = True
        """Whether tombstones are dropped here."""
        self._next_reclaim = self._next_sums = time.monotonic() + RECLAIM_EVERY

    @property
    def wait(self) -> float:
        """Seconds until some of it is due."""
        return max(0.0, min(self._next_reclaim, self._next_sums) - time.monotonic())

    def do(self, busy: bool) -> None:
        """Do a step of what is due; `busy` says that writes wait. Raise EngineFailed. Switches greenlets."""
        if time.monotonic() >= self._next_reclaim:
            self._engine.tend()
            more = self.reclaims and self._reclaimer.step(self._make) == RECLAIM_STEP
            self._next_reclaim = time.monotonic() + ((BEHIND_WRITES if busy else 0.0) if more else RECLAIM_EVERY)
        began = time.monotonic()
        if began >= self._next_sums:
            more = self._sum_up()
            now = time.monotonic()
            # As long as the step, since all others stand still for most of it.
            self._next_sums = now + ((BEHIND_WRITES if busy else now - began) if more else RECLAIM_EVERY)

    def _sum_up(self) -> bool:
        try:
            return bool(self._make(self._make_sums))
        except EngineFailed:
            raise
        except GkvError:  # some pages make no sense, which is said where they are asked for
            return False

    def _make_sums(self, syncing: Callable[[], object]) -> bool:
        syncing()  # pages may have to come from the disk: nobody gives way to that
        return self._engine.make_sums()
