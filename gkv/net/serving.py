"""What a connection and its server need to know of each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gkv.net.admission import Admission
from gkv.net.answers import Endings, RepeatedRefusal
from gkv.net.application import Application, Observer, Render, Rendered, WSGIApp
from gkv.net.tls import Tls


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of a server; sizes in bytes, times in seconds."""

    max_body: int = 32 << 20
    connections: int = 4_096
    """Beyond it a connection is answered 503 and closed."""
    spare: int = 16
    """Connections beyond that in which members and operators are still served; and how many may be
    waiting to be refused."""
    handshakes: int = 1_024
    """TLS handshakes under way. Beyond it the oldest is cut off, so whoever begins them by the
    thousand gets a quarter of the connections at most, and an honest one is cut only if so many
    others begin within its round trip."""
    handshake: float = 4.5
    """From the connection to the end of its TLS handshake."""
    idle: float = 75.0
    """Between two requests."""
    head: float = 9.5
    """From the first byte of a head to its end."""
    body_grace: float = 9.0
    """A body may take this long whatever its rate, and may pause this long."""
    body_rate: int = 1_000
    """Bytes a second that a body has at least, after the grace."""
    write: float = 29.5
    """Without a byte of the answer being taken by the kernel, which takes more when a third of its
    buffer is free."""
    linger: float = 1.0
    """How long what still comes is read and dropped after the last answer, so that the client can
    read it."""
    recent: float = 1.0
    """While the server drains: the next request of a client that had an answer so lately is waited
    for, up to a tick less."""
    tick: float = 0.5
    """How often the clock looks at the connections; all times above are exact to one tick, early or
    late."""


class Served(Protocol):
    """One client's connection, as the server sees it."""

    @property
    def expired(self) -> bool:
        """Whether its wait was ended."""

    def overdue(self, now: float) -> bool:
        """Return whether the client has kept it waiting for too long."""

    def expire(self) -> None:
        """End the wait that it is in."""

    def end_if_silent(self, now: float) -> None:
        """While the server drains: end it when it has had no request for a while, and none is
        here.
        """

    def forget_head(self) -> None:
        """Read the next head anew, even if it is the same again."""


class Serving(Protocol):
    """A server, as its connections see it."""

    application: WSGIApp | Application
    find: Callable[[Mapping[str, Any]], tuple[Callable[[Mapping[str, Any], bytes], Rendered] | None, str]]
    render: Render
    too_many: RepeatedRefusal
    too_much: RepeatedRefusal
    observer: Observer | None
    is_ours: Callable[[str], bool]
    limits: ServerLimits
    admission: Admission
    tls: Tls | None
    base_environ: dict[str, Any]
    connections: set[Served]
    handshakes: dict[Served, None]
    """Those that have not ended, the oldest first."""
    handshakes_failed: int
    turning_away: int
    """Connections that are being refused."""
    accepted: int
    """Connections up to now."""
    stopping: bool
    now: float
    """On the clock of `time.monotonic`, exact to a tick."""
    endings: Endings
    endings_beyond: Endings
    """Of answers in a connection for which there was no room."""
    loop: Any
    turn: int
    """The event loop's turn in which a request was begun last."""
    turn_began: float
    """When the first request of that turn was begun, on the clock of `time.monotonic`."""
