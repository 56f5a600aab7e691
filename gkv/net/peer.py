"""A node as the connections to it know it: its address, what it is told about the caller, and
whether it can be reached.

Promises: a node that cannot be reached is left alone for a while, and who calls it meanwhile is
told at once; each call is counted once, by its outcome. Nothing here switches greenlets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol
from urllib.parse import urlsplit

from gkv.log import as_warning, say
from gkv.model import Outcome
from gkv.net import gathered
from gkv.net.admission import Budget
from gkv.net.call import Call, Lane
from gkv.net.retries import Retries
from gkv.net.tls import Tls

PATHS = {
    Lane.READ: "/internal/frames",
    Lane.WRITE: "/internal/frames",
    Lane.REPLICA: "/internal/frames/replica",
    Lane.BACKGROUND: "/internal/frames/background",
    Lane.AWAITED: "/internal/frames",
}
"""Where a node takes gathered frames."""

_FIRST_BACKOFF = 0.05
_LONGEST_BACKOFF = 0.25
_FOR_EVER = float("inf")


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """Bounds of one channel; sizes in bytes, times in seconds."""

    readers: int = 2
    """Connections. More would gather less; one would let a large answer hold up the small ones."""
    writers: int = 1
    """A node's disk takes one group at a time. With two, groups were half as large, and a durable
    set took a fifth more CPU."""
    replicators: int = 1
    in_background: int = 1
    awaiting: int = 2
    waiting_calls: int = 1_024
    """In each outbox, as are their bytes."""
    waiting_bytes: int = 64 << 20
    gathered_calls: int = gathered.MAX_FRAMES
    """In one HTTP request."""
    gathered_bytes: int = 4 << 20
    """Beyond the first frame of a request."""
    answer_bytes: int = 256 << 20
    """Twice what a node answers at most."""
    connect: float = 0.25
    """Until TCP has a connection, for each address of a name. Where the first packet is lost, the kernel
    sends another one after a second (RFC 6298); a new attempt is sooner, and a member whose way is
    whole again is heard before somebody complains of its silence."""
    dial: float = 1.0
    """For the lookup of a name, and for all its addresses together."""
    handshake: float = 1.0
    """Of TLS."""

    def connections(self, lane: Lane) -> int:
        """Return how many connections a lane may have."""
        return (self.readers, self.writers, self.replicators, self.in_background, self.awaiting)[lane]


class Names(Protocol):
    """The names of processes, as gathered requests and answers bear them."""

    incarnation: int
    """Of this process; 0 when it is no node."""

    def epoch(self) -> int:
        """Return the epoch in force here, 0 for none."""

    def expected(self, url: str) -> int | None:
        """Return the incarnation that acts at a URL by the document in force, None when that does not say."""


class Nameless:
    """The names where there is no document."""

    incarnation = 0

    def epoch(self) -> int:
        return 0

    def expected(self, _url: str) -> int | None:
        return None


class Queue(Protocol):
    """Calls that wait for the node, and the connections that are for them."""

    def drop_idle(self) -> None:
        """Close the connections that nobody uses."""

    def empty(self) -> list[Call]:
        """Return what waits, which does not wait here any more."""


class Peer:
    """One node, shared by all connections of this process to it."""

    def __init__(
        self, url: str, limits: ChannelLimits, budget: Budget, retries: Retries, tls: Tls | None, names: Names
    ) -> None:
        self.url = url
        self.names = names
        self.limits = limits
        self.budget = budget
        self.retries = retries
        self.tls = tls
        self.queues: list[Queue] = []
        self.heads: dict[Lane, bytes] = {}
        """What a request of each lane begins with, up to the digits of its Content-Length."""
        self.ended = dict.fromkeys([outcome.value for outcome in Outcome], 0)
        self.requests = self.reconnects = 0
        self.closed_until = 0.0
        """On the clock of `time.monotonic`; calls are refused until then, for the reason below."""
        self.why_closed = ""
        self._backoff = 0.0
        self._said = ""
        self.show_token("")

    def show_token(self, token: str) -> None:
        """Send a bearer token with every request from now on; "" for none."""
        proof = f"Authorization: Bearer {token}\r\n" if token else ""
        host = urlsplit(self.url).netloc
        self.heads = {
            lane: f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{proof}Content-Length: ".encode() for lane, path in PATHS.items()
        }

    def end(self, call: Call, outcome: Outcome, detail: str) -> None:
        """Finish a call that failed, and count it; if whoever asked had given up, as the timeout
        that it was.
        """
        ended = outcome if call.finish(outcome, detail=detail) else Outcome.TIMEOUT
        self.ended[ended.value] += 1

    def keep_timely(self, calls: Sequence[Call]) -> list[Call]:
        """Return the calls for which somebody still waits; the others end, as timeouts."""
        now = monotonic()
        timely = []
        for call in calls:
            if call.reply is None and call.expires > now:
                timely.append(call)
            else:
                self.end(call, Outcome.TIMEOUT, "it was not sent within the deadline")
        return timely

    def count(self, answered: int, too_late: int) -> None:
        """Count the calls of a request that was answered: those for which it came in time, and the
        others.
        """
        self.ended["answered"] += answered
        self.ended["timeout"] += too_late

    def complain(self, problem: str) -> None:
        """Tell the operator of something that goes on until somebody mends it; once, as long as it
        is the same.
        """
        if problem != self._said:
            self._said = problem
            say(as_warning(f"{self.url}: {problem}"))

    def reached(self) -> None:
        """Note that the node is there, so that calls are sent to it at once."""
        self._backoff = 0.0
        if self.closed_until < _FOR_EVER:
            self.closed_until = 0.0

    def unreachable(self, why: str, took: float) -> None:
        """Refuse calls for a while: 50 ms after the first failed connection, 250 ms after more of
        them.

        It is at least as long as it took to fail: a host that is gone costs those who wait for it
        half of the time, no more.
        """
        self._backoff = min(_LONGEST_BACKOFF, self._backoff * 2 or _FIRST_BACKOFF)
        self._refuse(why, monotonic() + max(self._backoff, took))
        self.drop_idle()

    def close(self) -> None:
        """Refuse all calls from now on, those that wait included."""
        self._refuse("the channel is closed", _FOR_EVER)

    def drop_idle(self) -> None:
        """Close the connections that nobody uses: the node has ended, or is about to and would wait
        for them.
        """
        for queue in self.queues:
            queue.drop_idle()

    def _refuse(self, why: str, until: float) -> None:
        self.closed_until = until
        self.why_closed = why
        for call in [call for queue in self.queues for call in queue.empty()]:
            self.end(call, Outcome.UNREACHABLE, why)
