"""A copy of a store that is being written while the store goes on.

Promise: the engine hears of the end of the copy, whatever that was. `Snapshot.end` and
the calls of `SnapshotRequests` switch greenlets.
"""

import os
from collections import deque
from collections.abc import Callable

from gevent.event import AsyncResult, Event

from gkv.engine.engine import Engine
from gkv.errors import EngineFailed, GkvError, Unavailable
from gkv.threads import NativeThread

WITHIN = 30.0
"""Seconds for which a snapshot waits for the commit under way."""


Call = Callable[[], object]


class SnapshotRequests:
    """Those who wait for the engine to get ready for a snapshot, which the writer does between two commits."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[AsyncResult[None]] = deque()

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def ask(self, wake: Event) -> None:
        """Return when the engine is ready. Raise EngineError, SnapshotRunning, Unavailable, or what ended all writing."""
        begun: AsyncResult[None] = AsyncResult()
        self._waiting.append(begun)
        wake.set()
        begun.wait(WITHIN)
        if not begun.ready():
            self._waiting.remove(begun)
            raise Unavailable("the commit before the snapshot takes too long", retry_after=10)
        begun.get()

    def begin_next(self, make: Callable[[Callable[[Call], object]], object], now: int) -> EngineFailed | None:
        """Have the engine keep the time of day by `make`, which makes calls that change something, and get ready for the first
        that waits; return what ends all writing, if that happens. Switches greenlets.
        """
        try:
            make(lambda syncing: self._engine.date_snapshot(now, syncing))
            if not self._waiting:  # who waited has given up meanwhile
                return None
            self._engine.begin_snapshot()
        except GkvError as error:
            if self._waiting:
                self._waiting.popleft().set_exception(error)
            return error if isinstance(error, EngineFailed) else None
        self._waiting.popleft().set(None)
        return None

    def refuse(self, error: GkvError) -> None:
        """Tell all who wait that nothing comes any more."""
        while self._waiting:
            self._waiting.popleft().set_exception(error)


class Snapshot:
    """One copy, written by a native thread of its own to a file descriptor that it closes."""

    def __init__(self, engine: Engine, fd: int) -> None:
        """Begin the copy; the engine has begun the snapshot. `end` must follow, unless this raises."""
        self._engine = engine

        def copy() -> None:
            try:
                engine.copy_snapshot(fd)
            finally:
                os.close(fd)

        try:
            self._thread = NativeThread()
            self._copying = self._thread.begin(copy)
        except BaseException:
            engine.end_snapshot()
            raise

    def end(self) -> None:
        """Wait for the end of the copy; raise EngineError if it is not whole. Who gives up closes
        the reading side first.
        """
        try:
            self._copying.result()
        finally:
            self._engine.end_snapshot()
            self._thread.close()
