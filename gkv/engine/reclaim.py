"""Tombstones that are old enough are dropped, a few at a time between two commits."""

from collections.abc import Callable
from typing import Protocol

from gkv.engine.engine import Engine
from gkv.errors import EngineFailed, GkvError

RECLAIM_EVERY = 1.0
RECLAIM_STEP = 200


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
