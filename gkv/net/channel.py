"""The calls to one node, over a few keep-alive connections.

What waits for a node lies in an outbox. A free connection takes all of it as one HTTP request; while every connection is
busy, what many clients want gathers for the next one. So nothing waits for a timer, an idle system adds no latency, and
under load one HTTP request serves many clients.

Reads and writes have outboxes and connections of their own: a read never waits behind a commit, and all that is written while
a node commits goes to its disk together.

A channel knows frames only as bytes: their lengths travel in the header `Gkv-Frames`, in the request as in the answer.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol
from urllib.parse import urlsplit

from gevent.hub import Waiter, get_hub

from gkv.model import NodeReply, Outcome
from gkv.net.admission import Budget
from gkv.net.deadlines import deadlines
from gkv.net.retries import Retries
from gkv.net.sender import LENGTHS, PATH, Sender
from gkv.net.tls import Tls

_FIRST_BACKOFF = 0.05
_LONGEST_BACKOFF = 0.25
_FOR_EVER = float("inf")


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """Bounds of one channel; sizes in bytes, times in seconds."""

    readers: int = 2
    """Connections. More would gather less; one would let a large answer hold up the small ones."""
    writers: int = 1
    """A node's disk takes one group at a time. With two, groups were half as large, and a durable set took a fifth more CPU."""
    waiting_calls: int = 1_024
    """In each outbox, as are their bytes."""
    waiting_bytes: int = 64 << 20
    gathered_calls: int = 128
    """In one HTTP request, which keeps `Gkv-Frames` below a kilobyte or two."""
    gathered_bytes: int = 4 << 20
    """Beyond the first frame of a request."""
    answer_bytes: int = 256 << 20
    """Twice what a node answers at most."""
    connect: float = 1.0


class Call:
    """One frame on its way to a node, and the one reply to it."""

    __slots__ = ("_asking", "expires", "frame", "reply", "request_id", "sent", "writing")

    def __init__(self, frame: bytes, expires: float, asking: "_Asking", request_id: str = "", writing: bool = False) -> None:
        self.frame = frame
        self.writing = writing
        """Whether the node will have to go to its disk for it."""
        self.request_id = request_id
        """Of the client's request, for the node's log; "" when nobody would look for it."""
        self.expires = expires
        """On the clock of `time.monotonic`."""
        self.sent = False
        """Whether the node may have seen it."""
        self.reply: NodeReply | None = None
        self._asking = asking

    def finish(self, outcome: Outcome, frame: bytes = b"", detail: str = "", hold: object = None) -> bool:
        """Set the reply and return True. Only the first time counts: whoever asked may have given up already."""
        if self.reply is not None:
            return False
        self.reply = NodeReply(outcome, frame, self.sent, detail, hold)
        self._asking.one_less()
        return True


class _Asking:
    """How many replies are still to come, and the wait for the last of them."""

    __slots__ = ("_open", "_waiter", "expires")

    def __init__(self, count: int, expires: float) -> None:
        self._open = count
        self._waiter: Waiter | None = None
        self.expires = expires

    def one_less(self) -> None:
        self._open -= 1
        if self._open == 0:
            self.expire()

    def wait(self) -> None:
        if self._open:
            self._waiter = Waiter()  # an Event costs 2 us more, and here one greenlet waits once
            deadlines.add(self)
            try:
                self._waiter.get()
            finally:
                deadlines.remove(self)

    def expire(self) -> None:
        if self._waiter is not None:
            get_hub().loop.run_callback(self._waiter.switch, None)


class Exchange(Protocol):
    """Whatever brings a frame to a node and a reply back: a `Channel`, or the node itself for its own part."""

    def submit(self, call: Call) -> object:
        """Take a call and finish it, now or later. Does not wait and does not raise."""


def ask_all(
    asked: Sequence[tuple[Exchange, bytes]], expires: float, request_id: str = "", *, writing: bool = False
) -> list[NodeReply]:
    """Send frames to nodes in parallel; return one reply for each, in this order, by `expires` at the latest.

    `request_id` is for the logs of the nodes; `writing` says whether they will have to go to their disks. Switches greenlets.
    """
    asking = _Asking(len(asked), expires)
    calls = []
    for exchange, frame in asked:
        call = Call(frame, expires, asking, request_id, writing)
        calls.append(call)
        exchange.submit(call)
    asking.wait()
    replies = []
    for call in calls:
        call.finish(Outcome.TIMEOUT, detail="no answer within the deadline")
        assert call.reply is not None  # noqa: S101  # for the type checker: finish() has just seen to it
        replies.append(call.reply)
    return replies


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
    ) -> None:
        """`budget` is for the bytes of answers.

        With `tls` it speaks nothing else, and to no node whose URL says otherwise; without, the other way round.
        """
        self.url = url
        self.tls = tls
        self.budget = budget or Budget()
        self.retries = retries or Retries()
        self.limits = limits or ChannelLimits()
        self._reads = Outbox(self, self.limits.readers)
        self._writes = Outbox(self, self.limits.writers)
        self._outboxes = (self._reads, self._writes)
        self._backoff = 0.0
        self._closed_until = 0.0
        self._why_closed = ""
        self._ended = dict.fromkeys([outcome.value for outcome in Outcome], 0)
        self.requests = self.reconnects = 0
        self.head = b""
        """What every request begins with, up to the lengths of its frames."""
        self.show_token("")

    def show_token(self, token: str) -> None:
        """Send a bearer token with every request from now on; "" for none."""
        proof = f"Authorization: Bearer {token}\r\n" if token else ""
        self.head = f"POST {PATH} HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\n{proof}{LENGTHS}: ".encode()

    def figures(self) -> ChannelFigures:
        connected = sum(sender.connected for outbox in self._outboxes for sender in outbox.senders)
        calls = sum(len(outbox.calls) for outbox in self._outboxes)
        size = sum(outbox.size for outbox in self._outboxes)
        return ChannelFigures(dict(self._ended), self.requests, self.reconnects, connected, calls, size)

    def end(self, call: Call, outcome: Outcome, detail: str) -> None:
        """Finish a call that failed, and count it; if whoever asked had given up, as the timeout that it was."""
        ended = outcome if call.finish(outcome, detail=detail) else Outcome.TIMEOUT
        self._ended[ended.value] += 1

    def count(self, answered: int, too_late: int) -> None:
        """Count the calls of a request that was answered: those for which it came in time, and the others."""
        self._ended["answered"] += answered
        self._ended["timeout"] += too_late

    def submit(self, call: Call) -> None:
        """Put a call into its outbox, or finish it at once when that is full or the node cannot be reached."""
        if monotonic() < self._closed_until:
            self.end(call, Outcome.UNREACHABLE, self._why_closed)
        else:
            (self._writes if call.writing else self._reads).put(call)

    def reached(self) -> None:
        """Note that the node is there, so that calls are sent to it at once."""
        self._backoff = 0.0
        if self._closed_until < _FOR_EVER:
            self._closed_until = 0.0

    def drop_idle(self) -> None:
        """Close the connections that nobody uses: the node has ended, or is about to and would wait for them."""
        for outbox in self._outboxes:
            for sender in outbox.idle:
                sender.disconnect()

    def unreachable(self, why: str, took: float) -> None:
        """Refuse calls for a while: 50 ms after the first failed connection, 250 ms after more of them.

        It is at least as long as it took to fail: a host that is gone costs those who wait for it half of the time, no more.
        """
        self._backoff = min(_LONGEST_BACKOFF, self._backoff * 2 or _FIRST_BACKOFF)
        self._closed_until = monotonic() + max(self._backoff, took)
        self._why_closed = why
        self.drop_idle()
        self._give_up_waiting()

    def close(self) -> None:
        """Give up every connection and every call. Switches greenlets."""
        self._closed_until = _FOR_EVER
        self._why_closed = "the channel is closed"
        for outbox in self._outboxes:
            for sender in outbox.senders:
                sender.greenlet.kill()
        self._give_up_waiting()

    def _give_up_waiting(self) -> None:
        for call in [call for outbox in self._outboxes for call in outbox.empty()]:
            self.end(call, Outcome.UNREACHABLE, self._why_closed)


class Outbox:
    """Calls that wait for a connection, and the senders that take them, each with one."""

    def __init__(self, channel: Channel, connections: int) -> None:
        self.calls: deque[Call] = deque()
        self.size = 0
        """Bytes of their frames."""
        self.senders: list[Sender] = []
        self.idle: list[Sender] = []
        """Those that have nothing to do."""
        self._channel = channel
        self._connections = connections
        self._taker_due = False

    def put(self, call: Call) -> None:
        """Take a call, or finish it at once when there is no room."""
        limits = self._channel.limits
        over = self.size + len(call.frame) > limits.waiting_bytes
        if len(self.calls) >= limits.waiting_calls or (over and self.calls):
            self._channel.end(call, Outcome.OVERLOADED, f"{len(self.calls)} calls wait for this node")
            return
        self.calls.append(call)
        self.size += len(call.frame)
        if self._taker_due:
            return  # a sender is on its way already, and will take this call too
        if self.idle:
            self._taker_due = True
            self.idle.pop().wake.set()
        elif len(self.senders) < self._connections:
            self._taker_due = True
            self.senders.append(Sender(self._channel, self))

    def take(self) -> list[Call]:
        """Return what goes into the next HTTP request, leaving out what has expired."""
        self._taker_due = False
        limits = self._channel.limits
        now = monotonic()
        taken: list[Call] = []
        room = limits.gathered_bytes
        while self.calls and len(taken) < limits.gathered_calls:
            call = self.calls[0]
            if taken and len(call.frame) > room:
                break
            self.calls.popleft()
            self.size -= len(call.frame)
            if call.reply is None and call.expires > now:
                room -= len(call.frame)
                taken.append(call)
            else:
                self._channel.end(call, Outcome.TIMEOUT, "it was not sent within the deadline")
        return taken

    def empty(self) -> list[Call]:
        """Return what waits, which does not wait here any more."""
        calls = list(self.calls)
        self.calls.clear()
        self.size = 0
        return calls
