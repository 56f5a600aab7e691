"""The place of the native thread on which a process goes to its disk: each call takes time, by the disk of its machine.

A process that is killed while a call is under way has done it or not, and nobody knows.
"""

from collections.abc import Callable
from typing import Any, Protocol

import gevent
from gevent.event import AsyncResult

from tests.stack.loop import Loop


class Timed(Protocol):
    """The disk of a machine, as far as its time goes."""

    took: tuple[float, float]
    stalled_until: float


class Thread:
    """A native thread's place: it makes the calls that it is given, in their order, each with its time at the disk."""

    loop: Loop
    disks: "dict[str, Timed]"
    """By machine."""

    def __init__(self) -> None:
        self._last: gevent.Greenlet | None = None

    def begin(self, work: Callable[[], Any]) -> "Job":
        """Give the thread a call."""
        job = Job()
        self._last = gevent.spawn(self._make, self._last, work, job)
        return job

    def call(self, work: Callable[[], Any]) -> Any:
        """Give the thread a call and wait for its result."""
        return self.begin(work).result()

    def close(self) -> None:
        """Do nothing: there is no thread."""

    def _make(self, before: gevent.Greenlet | None, work: Callable[[], Any], job: "Job") -> None:
        if before is not None:
            before.join()
        self._wait()
        try:
            outcome = (work(), None)
        except Exception as error:  # noqa: BLE001  # it is raised where the result is asked for
            outcome = (None, error)
        self._wait()
        job.outcome.set(outcome)

    def _wait(self) -> None:
        loop = self.loop
        disk = self.disks.get(loop.host.name.partition("#")[0])
        if disk is not None:
            gevent.sleep(max(disk.stalled_until - loop.now_true, 0.0) + loop.chance.uniform(*disk.took))


class Job:
    """A call that a thread has been given."""

    def __init__(self) -> None:
        self.outcome: AsyncResult = AsyncResult()

    def result(self) -> Any:
        """Wait for the call to end; return what it returned or raise what it raised."""
        result, error = self.outcome.get()
        if error is not None:
            raise error
        return result


class OpenLock:
    """In the place of the lock by which the loop gives way to a thread: nobody needs to."""

    def acquire(self, timeout: float = -1) -> bool:  # noqa: ARG002  # it is always free
        return True

    def release(self) -> None:
        """Do nothing."""

    def locked(self) -> bool:
        return False
