"""One value that comes later, and the one greenlet that waits for it: one for each frame between members."""

from time import monotonic
from typing import Generic, TypeVar

from gkv.net.deadlines import Wait

Value = TypeVar("Value")


class Awaited(Wait, Generic[Value]):
    """A place for the value."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        super().__init__()
        self.value: Value | None = None

    def come(self, value: Value) -> None:
        """Put the value there; whoever waits goes on. Does not switch greenlets."""
        self.value = value
        self.expire()

    def wait(self, seconds: float) -> Value | None:
        """Return the value, or None when it has not come in time. Switches greenlets if it has to wait."""
        if self.value is None and seconds > 0:
            self.expires = monotonic() + seconds
            self.sleep()
        return self.value
