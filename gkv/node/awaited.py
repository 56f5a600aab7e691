"""One value that comes later, and the one greenlet that waits for it: one for each frame between members."""

from time import monotonic
from typing import Generic, TypeVar

from gkv.net.deadlines import Wait

Value = TypeVar("Value")


class Awaited(Wait, Generic[Value]):
    """A place for the value."""

    __slots__ = ("value",)

    def __init__(self, seconds: float) -> None:
        """Begin to wait for so many seconds at most: of several waits, all end in time, whichever is looked at first."""
        super().__init__(monotonic() + seconds)
        self.value: Value | None = None

    def come(self, value: Value) -> None:
        """Put the value there; whoever waits goes on. Does not switch greenlets."""
        self.value = value
        self.expire()

    def is_over_by(self, moment: float) -> bool:
        """Wait until a moment at most; return whether the value has come, or will not come in time. Switches greenlets if it
        has to wait.
        """
        last = self.expires
        if moment < last:
            self.expires = moment
            self.wait()
            self.expires = last
        else:
            self.wait()
        return self.value is not None or monotonic() >= last

    def wait(self) -> Value | None:
        """Return the value, or None when it has not come in time. Switches greenlets if it has to wait."""
        if self.value is None and monotonic() < self.expires:
            self.sleep()
        return self.value
