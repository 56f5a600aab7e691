"""One value that comes later, and the one greenlet that waits for it.

An `Event` with a timeout costs 4 us more, and there is one of these for each frame between members.
"""

from time import monotonic
from typing import Generic, TypeVar

from gevent.hub import Waiter, get_hub

from gkv.net.deadlines import deadlines

Value = TypeVar("Value")


class Awaited(Generic[Value]):
    """A place for the value."""

    __slots__ = ("_waiter", "expires", "value")

    def __init__(self) -> None:
        self.value: Value | None = None
        self.expires = 0.0
        self._waiter: Waiter | None = None

    def come(self, value: Value) -> None:
        """Put the value there; whoever waits goes on. Does not switch greenlets."""
        self.value = value
        self._wake()

    def wait(self, seconds: float) -> Value | None:
        """Return the value, or None when it has not come in time. Switches greenlets if it has to wait."""
        if self.value is None:
            self.expires = monotonic() + seconds
            self._waiter = Waiter()
            deadlines.add(self)
            try:
                self._waiter.get()
            finally:
                deadlines.remove(self)
                self._waiter = None
        return self.value

    def expire(self) -> None:
        """End the wait without a value."""
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            get_hub().loop.run_callback(waiter.switch, None)
