"""The waits of a connection: what it is doing, since when, and when its client has kept it waiting
for too long.

A state machine without sockets: times are arguments, in seconds on the clock of `time.monotonic`.
"""

from enum import IntEnum

from gkv.net.serving import ServerLimits


class State(IntEnum):
    """What a connection is doing."""

    IDLE = 0
    """Between two requests."""
    HEAD = 1
    BODY = 2
    WORK = 3
    """It waits for the application, not for the client."""
    WRITE = 4
    HANDSHAKE = 5

    @property
    def can_be_answered(self) -> bool:
        """Whether a client that is cut off for its slowness may still be told so."""
        return self in (State.HEAD, State.BODY, State.WORK)


class Wait:
    """The state of one connection, and the progress that its client makes."""

    __slots__ = ("progress", "received", "since", "state")

    def __init__(self, now: float) -> None:
        self.state = State.IDLE
        self.since = self.progress = now
        self.received = 0
        """Bytes of the body that is being read, and of all before the first one."""

    def overdue(self, now: float, limits: ServerLimits, idle: float) -> bool:
        """Return whether the client has kept the connection waiting for too long; between two
        requests it has `idle` s.
        """
        waited = now - self.since
        match self.state:
            case State.IDLE:
                return waited > idle
            case State.HEAD:
                return waited > limits.head
            case State.BODY:
                slow = waited > limits.body_grace and self.received < waited * limits.body_rate
                return slow or now - self.progress > limits.body_grace
            case State.WRITE:
                return now - self.progress > limits.write
            case State.HANDSHAKE:
                return waited > limits.handshake
            case _:
                return False
