"""Native threads beside the event loop, for calls that wait for a disk.

Promise: an exception of a call is raised in the greenlet that asks for its result, and is printed
by nobody. `begin` does not switch greenlets; `result`, `call` and `close` do. Leaves to others:
what the threads may touch while greenlets run.
"""

from collections.abc import Callable
from typing import Generic, TypeVar, cast

from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool

Result = TypeVar("Result")


class Job(Generic[Result]):
    """A call that a thread has been given."""

    __slots__ = ("_outcome",)

    def __init__(self, outcome: "AsyncResult[tuple[Result | None, Exception | None]]") -> None:
        self._outcome = outcome

    def result(self) -> Result:
        """Wait for the call to end, without a deadline; return what it returned or raise what it
        raised.
        """
        result, error = self._outcome.get()
        if error is not None:
            raise error
        return cast("Result", result)


class NativeThread:
    """One thread, which makes the calls that it is given, in their order.

    Its own: in the hub's pool ten slow look-ups of names would hold up every write.
    """

    def __init__(self) -> None:
        self._pool = ThreadPool(1)

    def begin(self, work: Callable[[], Result]) -> Job[Result]:
        """Give the thread a call."""
        return Job(self._pool.spawn(_caught, work))

    def call(self, work: Callable[[], Result]) -> Result:
        """Give the thread a call and wait for its result."""
        return self.begin(work).result()

    def close(self) -> None:
        """End the thread once it has done what it was given."""
        self._pool.kill()


def _caught(work: Callable[[], Result]) -> tuple[Result | None, Exception | None]:
    """Return what a call returned and what it raised: the thread pool would print the latter."""
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001  # it is raised again in the greenlet that asked
        return None, error
