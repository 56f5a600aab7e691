"""Calls of one lane that wait for a connection to their node.

A free connection takes all that waits, up to a bound, as one HTTP request; while every connection
is busy, what many clients want gathers for the next one. Nothing here switches greenlets.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from gevent import Greenlet
from gevent.event import Event

from gkv.model import Outcome
from gkv.net.call import Call, Lane
from gkv.net.peer import Peer


class Carrier(Protocol):
    """One connection, and the greenlet that takes calls from the outbox whenever it is free."""

    greenlet: Greenlet
    wake: Event

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""

    def disconnect(self) -> None:
        """Close the connection, until the next call needs one. Does not switch greenlets."""


class Outbox:
    """Calls that wait, and the carriers that take them, each with a connection."""

    def __init__(self, peer: Peer, lane: Lane, start: "Callable[[Outbox], Carrier]") -> None:
        """`start` begins a carrier for this outbox."""
        self.lane = lane
        self.calls: deque[Call] = deque()
        self.size = 0
        """Bytes of their frames."""
        self.carriers: list[Carrier] = []
        self.idle: list[Carrier] = []
        """Those that have nothing to do."""
        self._peer = peer
        self._connections = peer.limits.connections(lane)
        self._start = start
        self._taker_due = False

    @property
    def in_use(self) -> bool:
        """Whether a call waits or is under way."""
        return bool(self.calls) or len(self.idle) < len(self.carriers)

    def put(self, call: Call) -> None:
        """Take a call, or finish it at once when there is no room."""
        limits = self._peer.limits
        if len(self.calls) >= limits.waiting_calls:
            self._peer.end(call, Outcome.OVERLOADED, f"{len(self.calls)} calls wait for this node")
            return
        if self.calls and self.size + len(call.frame) > limits.waiting_bytes:
            self._peer.end(call, Outcome.OVERLOADED, f"calls of {self.size} bytes wait for this node")
            return
        self.calls.append(call)
        self.size += len(call.frame)
        if not self._taker_due:  # otherwise a carrier is on its way already, and will take this call too
            self._call_taker()

    def _call_taker(self) -> None:
        """Have one more carrier take what waits, if there is one that is free."""
        if self.idle:
            self._taker_due = True
            self.idle.pop().wake.set()
        elif len(self.carriers) < self._connections:
            self._taker_due = True
            self.carriers.append(self._start(self))

    def next_group(self) -> list[Call]:
        """Return the calls that go into the next HTTP request, leaving out those that have
        expired.
        """
        self._taker_due = False
        limits = self._peer.limits
        now = monotonic()
        group: list[Call] = []
        room = limits.gathered_bytes
        while self.calls and len(group) < limits.gathered_calls:
            call = self.calls[0]
            if group and len(call.frame) > room:
                break
            self.calls.popleft()
            self.size -= len(call.frame)
            if call.reply is None and call.expires > now:
                room -= len(call.frame)
                group.append(call)
            else:
                self._peer.end(call, Outcome.TIMEOUT, "it was not sent within the deadline")
        if self.calls:
            self._call_taker()
        return group

    def empty(self) -> list[Call]:
        """Return what waits, which does not wait here any more."""
        calls = list(self.calls)
        self.calls.clear()
        self.size = 0
        return calls

    def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        for carrier in self.idle:
            carrier.disconnect()

    def dismiss_idle(self) -> None:
        """End the carriers that have nothing to do; the next call starts new ones."""
        for carrier in self.idle:
            self.carriers.remove(carrier)
            carrier.disconnect()
            carrier.greenlet.kill(block=False)
        self.idle.clear()
