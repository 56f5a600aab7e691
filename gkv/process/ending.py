"""The end of a process that has been asked to end, and who has asked."""

from gevent.event import Event


class Ending(Event):  # type: ignore[misc]  # gevent has no types
    """Set when the process is to end."""

    reason = ""
    """Why, as a clause; "" while it goes on, or ends by an error of its own."""

    def because(self, reason: str) -> None:
        """End the process; the first reason counts."""
        if not self.is_set():
            self.reason = reason
        self.set()
