"""The thread on which an engine writes, beside the event loop.

Nothing here blocks the hub for longer than `GIVE_WAY` at a time, but `Engine.grow`. All calls
switch greenlets.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

import gevent
from gevent.monkey import get_original

from gkv.engine.engine import Engine
from gkv.errors import EngineFailed, OutOfRoom
from gkv.threads import NativeThread

GIVE_WAY = 0.002
"""How long the hub stands still for the writer thread at a time, in seconds.

LMDB's binding releases the GIL in each call, some three times for each record, and a busy event
loop takes it back each time: 100 records that take 0.5 ms were seen to take 2 s. So while the
thread needs the interpreter the loop waits for it, in turns with the other greenlets; while it
waits for the disk, the loop runs. Beside a loop that never rests this gives 21,000 records a second
instead of 12,700 (8 greenlets with 100 records each).
"""

SWITCH_INTERVAL = 0.0005
"""How long a thread waits for the GIL before it asks for it, in seconds; Python's own is 0.005.
After each trip to the disk the writer needs the GIL once, and every acknowledgement in that group
waits for it."""

_MAX_GROWTHS = 64

Result = TypeVar("Result")


class Writer:
    """Makes an engine's calls that change something, one at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
        self._thread = NativeThread()

    def run(self, call: Callable[[Callable[[], object]], Result]) -> Result:
        """Make a call, growing the engine's map as often as it asks for it.

        The call is given what it must call when only the disk is still waited for.
        """
        for _ in range(_MAX_GROWTHS):
            try:
                return self._make(call)
            except OutOfRoom:
                self._engine.grow()
        raise EngineFailed("the engine's map grows and is still too small")

    def _make(self, call: Callable[[Callable[[], object]], Result]) -> Result:
        """Make a call on the thread; give way to it until only the disk is waited for."""
        needs_gil = _allocate_lock()
        needs_gil.acquire()

        def job() -> Result:
            try:
                return call(needs_gil.release)
            finally:
                if needs_gil.locked():  # it never came to the disk; or the loop has it by now, and does not want it back
                    needs_gil.release()

        task = self._thread.begin(job)
        while not needs_gil.acquire(timeout=GIVE_WAY):
            gevent.sleep(GIVE_WAY / 2)
        return task.result()  # without a deadline: a disk that hangs is seen by those who wait for their writes

    def close(self) -> None:
        """End the thread."""
        self._thread.close()


_allocate_lock = get_original("_thread", "allocate_lock")
