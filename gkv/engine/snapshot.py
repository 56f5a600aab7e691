"""A copy of a store that is being written while the store goes on.

Promise: the engine hears of the end of the copy, whatever that was. `end` switches greenlets.
"""

import os

from gkv.engine.engine import Engine
from gkv.threads import NativeThread


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
