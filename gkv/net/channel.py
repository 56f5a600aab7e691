"""The calls to one node, over a few keep-alive connections.

What waits for a node lies in an outbox. A free connection takes all of it as one HTTP request;
while every connection is busy, what many clients want gathers for the next one. So nothing waits
for a timer, an idle system adds no latency, and under load one HTTP request serves many clients.

Each lane has an outbox and connections of its own: a read never waits behind a commit, nor either
of them behind copies or background work, and all that is written while a node commits goes to its
disk together.
"""

from dataclasses import dataclass
from functools import partial
from time import monotonic

from gkv.model import Outcome
from gkv.net.admission import Budget
from gkv.net.call import Call, Lane
from gkv.net.outbox import Outbox
from gkv.net.peer import ChannelLimits, Nameless, Names, Peer
from gkv.net.retries import Retries
from gkv.net.sender import Sender
from gkv.net.tls import Tls

__all__ = ["Channel", "ChannelFigures", "ChannelLimits"]


@dataclass(frozen=True, slots=True)
class ChannelFigures:
    """For metrics."""

    calls: dict[str, int]
    """By outcome, those that have ended."""
    requests: int
    """HTTP requests, each with one call or more."""
    reconnects: int
    """Requests that were sent again, over a new connection."""
    connections: int
    waiting_calls: int
    waiting_bytes: int


class Channel:
    """All calls from this process to the node at one URL."""

    def __init__(
        self,
        url: str,
        limits: ChannelLimits | None = None,
        *,
        budget: Budget | None = None,
        retries: Retries | None = None,
        tls: Tls | None = None,
        names: Names | None = None,
    ) -> None:
        """`budget` is for the bytes of answers.

        With `tls` it speaks nothing else, and to no node whose URL says otherwise; without, the
        other way round. `names` tells who speaks here, and who is to answer.
        """
        self._peer = Peer(url, limits or ChannelLimits(), budget or Budget(), retries or Retries(), tls, names or Nameless())
        self._outboxes = [Outbox(self._peer, lane, partial(Sender, self._peer)) for lane in Lane]
        self._peer.queues.extend(self._outboxes)
        self.used = monotonic()
        """When the last call was submitted, or the channel was made."""

    def show_token(self, token: str) -> None:
        """Send a bearer token with every request from now on; "" for none."""
        self._peer.show_token(token)

    def figures(self) -> ChannelFigures:
        connected = sum(carrier.connected for outbox in self._outboxes for carrier in outbox.carriers)
        calls = sum(len(outbox.calls) for outbox in self._outboxes)
        size = sum(outbox.size for outbox in self._outboxes)
        peer = self._peer
        return ChannelFigures(dict(peer.ended), peer.requests, peer.reconnects, connected, calls, size)

    @property
    def in_use(self) -> bool:
        """Whether a call waits or is under way."""
        return any(outbox.in_use for outbox in self._outboxes)

    def submit(self, call: Call) -> None:
        """Put a call into its outbox, or finish it at once when that is full or the node cannot be
        reached.
        """
        self.used = now = monotonic()
        if now < self._peer.closed_until:
            self._peer.end(call, Outcome.UNREACHABLE, self._peer.why_closed)
        else:
            self._outboxes[call.lane].put(call)

    def reached(self) -> None:
        """Note that the node is there, so that calls are sent to it at once."""
        self._peer.reached()

    def retire(self) -> None:
        """Give back connections and greenlets that have nothing to do; a later call takes new
        ones.
        """
        for outbox in self._outboxes:
            outbox.dismiss_idle()

    def close(self) -> None:
        """Give up every connection and every call. Switches greenlets."""
        self._peer.close()
        for outbox in self._outboxes:
            for carrier in outbox.carriers:
                carrier.greenlet.kill()
