"""The calls to one node, over a few keep-alive connections.

What waits for a node lies in its outbox. A free connection takes all of it as one HTTP request; while every connection is
busy, what many clients want gathers for the next one. So nothing waits for a timer, an idle system adds no latency, and
under load one HTTP request serves many clients.

A channel knows frames only as bytes: their lengths travel in the header `Gkv-Frames`, in the request as in the answer.
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from time import monotonic
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

import gevent
from gevent import socket  # by name, so that it needs no patched process
from gevent.event import Event
from gevent.hub import Waiter, get_hub

from gkv.log import say_exception
from gkv.model import NodeReply, Outcome
from gkv.net.admission import LARGE, Budget
from gkv.net.deadlines import deadlines
from gkv.net.retries import Retries
from gkv.net.tls import Tls, TlsSocket, explain, is_over

PATH = "/internal/frames"
LENGTHS = "Gkv-Frames"
REQUEST_IDS = "Gkv-Request-Ids"
"""The ids of the clients' requests that a gathered request is for."""
MAX_REQUEST_IDS = 1_024

_FIRST_BACKOFF = 0.05
_LONGEST_BACKOFF = 0.25
_TRUSTED = 0.25
"""A connection that was used so lately is taken to be open: a node closes none before it has been idle for twice as long."""
_FOR_EVER = float("inf")
_MAX_HEAD = 16_384


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """Bounds of one channel; sizes in bytes, times in seconds."""

    connections: int = 2
    """More would gather less; one would let a large answer hold up the small ones."""
    waiting_calls: int = 1_024
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

    __slots__ = ("_asking", "expires", "frame", "reply", "request_id", "sent")

    def __init__(self, frame: bytes, expires: float, asking: "_Asking", request_id: str = "") -> None:
        self.frame = frame
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


def ask_all(asked: Sequence[tuple[Exchange, bytes]], expires: float, request_id: str = "") -> list[NodeReply]:
    """Send frames to nodes in parallel; return one reply for each, in this order, by `expires` at the latest.

    `request_id` is for the logs of the nodes. Switches greenlets.
    """
    asking = _Asking(len(asked), expires)
    calls = []
    for exchange, frame in asked:
        call = Call(frame, expires, asking, request_id)
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
        self._limits = limits or ChannelLimits()
        self._outbox: deque[Call] = deque()
        self._outbox_bytes = 0
        self._senders: list[_Sender] = []
        self._idle: list[_Sender] = []
        self._taker_due = False
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
        connected = sum(sender.connected for sender in self._senders)
        return ChannelFigures(
            dict(self._ended), self.requests, self.reconnects, connected, len(self._outbox), self._outbox_bytes
        )

    def end(self, call: Call, outcome: Outcome, detail: str) -> None:
        """Finish a call that failed, and count it; if whoever asked had given up, as the timeout that it was."""
        ended = outcome if call.finish(outcome, detail=detail) else Outcome.TIMEOUT
        self._ended[ended.value] += 1

    def count(self, answered: int, too_late: int) -> None:
        """Count the calls of a request that was answered: those for which it came in time, and the others."""
        self._ended["answered"] += answered
        self._ended["timeout"] += too_late

    def submit(self, call: Call) -> None:
        """Put a call into the outbox, or finish it at once when the outbox is full or the node cannot be reached."""
        if monotonic() < self._closed_until:
            self.end(call, Outcome.UNREACHABLE, self._why_closed)
            return
        over = self._outbox_bytes + len(call.frame) > self._limits.waiting_bytes
        if len(self._outbox) >= self._limits.waiting_calls or (over and self._outbox):
            self.end(call, Outcome.OVERLOADED, f"{len(self._outbox)} calls wait for this node")
            return
        self._outbox.append(call)
        self._outbox_bytes += len(call.frame)
        if self._taker_due:
            return  # a sender is on its way already, and will take this call too
        if self._idle:
            self._taker_due = True
            self._idle.pop().wake.set()
        elif len(self._senders) < self._limits.connections:
            self._taker_due = True
            self._senders.append(_Sender(self, urlsplit(self.url), self._limits))

    def take(self) -> list[Call]:
        """Return what goes into the next HTTP request, leaving out what has expired."""
        self._taker_due = False
        now = monotonic()
        taken: list[Call] = []
        room = self._limits.gathered_bytes
        while self._outbox and len(taken) < self._limits.gathered_calls:
            call = self._outbox[0]
            if taken and len(call.frame) > room:
                break
            self._outbox.popleft()
            self._outbox_bytes -= len(call.frame)
            if call.reply is None and call.expires > now:
                room -= len(call.frame)
                taken.append(call)
            else:
                self.end(call, Outcome.TIMEOUT, "it was not sent within the deadline")
        return taken

    def idle(self, sender: "_Sender") -> None:
        """Remember a sender that has nothing to do."""
        self._idle.append(sender)

    def reached(self) -> None:
        """Note that the node is there, so that calls are sent to it at once."""
        self._backoff = 0.0
        if self._closed_until < _FOR_EVER:
            self._closed_until = 0.0

    def leaving(self) -> None:
        """Close the connections that nobody uses: the node is about to end, and would wait for them."""
        for sender in self._idle:
            sender.disconnect()

    def unreachable(self, why: str, took: float) -> None:
        """Refuse calls for a while: 50 ms after the first failed connection, 250 ms after more of them.

        It is at least as long as it took to fail: a host that is gone costs those who wait for it half of the time, no more.
        """
        self._backoff = min(_LONGEST_BACKOFF, self._backoff * 2 or _FIRST_BACKOFF)
        self._closed_until = monotonic() + max(self._backoff, took)
        self._why_closed = why
        waiting = list(self._outbox)
        self._outbox.clear()
        self._outbox_bytes = 0
        for call in waiting:
            self.end(call, Outcome.UNREACHABLE, why)

    def close(self) -> None:
        """Give up every connection and every call. Switches greenlets."""
        self._closed_until = _FOR_EVER
        self._why_closed = "the channel is closed"
        for sender in self._senders:
            sender.greenlet.kill()
        while self._outbox:
            self.end(self._outbox.popleft(), Outcome.UNREACHABLE, self._why_closed)


class _BrokenError(Exception):
    """The connection, or what came over it, is of no use.

    `blank` when not a byte of an answer had come, `refused` when the node has certainly done nothing, `outcome` if it is known.
    """

    def __init__(self, detail: str, *, blank: bool = False, refused: bool = False, outcome: Outcome | None = None) -> None:
        super().__init__(detail)
        self.blank = blank
        self.refused = refused
        self.outcome = outcome


class _Sender:
    """A greenlet with one connection, which takes the outbox whenever it is free."""

    def __init__(self, channel: Channel, url: SplitResult, limits: ChannelLimits) -> None:
        self.wake = Event()
        self.expires = 0.0
        self._expired = False
        self._channel = channel
        self._address = (url.hostname or "", url.port)
        self._secure = url.scheme == "https"
        self._limits = limits
        self._socket: socket.socket | TlsSocket | None = None
        self._used = 0.0
        """When the last answer came over it."""
        self.greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        try:
            while True:
                calls = self._channel.take()
                if calls:
                    try:
                        self._serve(calls)
                    except Exception:  # noqa: BLE001  # the edge of a greenlet: a bug must not take the channel down
                        self.disconnect()
                        say_exception(f"calls to {self._channel.url} were broken off by an internal error")
                else:
                    self.wake.clear()
                    self._channel.idle(self)
                    self.wake.wait()
        finally:
            self.disconnect()

    def _serve(self, calls: list[Call]) -> None:
        """Bring these calls to their end, each with one reply."""
        self.expires = max(call.expires for call in calls)
        self._expired = False
        ended = False
        deadlines.add(self)
        try:
            frames, hold = self._exchange(calls)
        except _BrokenError as error:
            self.disconnect()
            outcome = Outcome.TIMEOUT if self._expired else error.outcome
            for call in calls:
                call.sent = call.sent and not error.refused
                self._channel.end(call, outcome or (Outcome.LOST if call.sent else Outcome.UNREACHABLE), str(error))
            ended = True
        else:
            answered = 0
            for call, frame in zip(calls, frames, strict=True):
                answered += call.finish(Outcome.ANSWERED, frame, "", hold)
            self._channel.count(answered, len(calls) - answered)
            ended = True
        finally:
            deadlines.remove(self)
            if not ended:  # the channel is being closed
                for call in calls:
                    self._channel.end(call, Outcome.LOST if call.sent else Outcome.UNREACHABLE, "the call was broken off")

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def expire(self) -> None:
        """End the wait for an answer: what is being read or written ends as if the node had closed the connection."""
        self._expired = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _exchange(self, calls: list[Call]) -> tuple[list[bytes], object]:
        """Send the calls as one request and return the frames of the answer, and what keeps the memory for them."""
        frames = [call.frame for call in calls]
        sizes = list(map(len, frames))
        lengths = ",".join(map(str, sizes))
        ids = [call.request_id for call in calls if call.request_id]
        named = f"{REQUEST_IDS}: {_list_ids(ids)}\r\n".encode() if ids else b""
        head = b"%b%b\r\nContent-Length: %d\r\n%b\r\n" % (self._channel.head, lengths.encode(), sum(sizes), named)
        request = b"".join([head, *frames])
        self._channel.requests += 1
        reused = self._is_open()
        connection = self._connect()
        for call in calls:
            call.sent = True
        try:
            return self._round_trip(connection, request, len(calls))
        except _BrokenError as error:
            # A node that restarted, or closed the idle connection, breaks it before the first byte of an answer. Every
            # request may be repeated, so one more attempt on a new connection is safe.
            if self._expired or not (reused and error.blank) or not self._channel.retries.take():
                raise
        self.disconnect()
        self._channel.reconnects += 1
        return self._round_trip(self._connect(), request, len(calls))

    def _is_open(self) -> bool:
        """Return whether there is a connection that can be used again; drop one that the node has closed meanwhile.

        A write that is sent into such a one would count as one that the node may have seen.
        """
        if self._socket is None:
            return False
        if monotonic() - self._used < _TRUSTED or not is_over(self._socket):
            return True
        self.disconnect()
        return False

    def _connect(self) -> socket.socket | TlsSocket:
        if self._socket is None:
            tls = self._channel.tls
            if self._secure != (tls is not None):
                raise _BrokenError(f"members of this cluster do not talk to each other as {self._channel.url} says")
            started = monotonic()
            try:
                wait = max(0.001, min(self._limits.connect, self.expires - started))
                connection = socket.create_connection(self._address, wait)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket = connection if tls is None else tls.connect(connection, self._address[0], started + wait)
            except OSError as error:
                why = f"no connection: {explain(error)}"
                self._channel.unreachable(why, monotonic() - started)
                raise _BrokenError(why) from None
            self._socket.settimeout(None)  # a timeout here would arm a timer for each wait
            self._channel.reached()
        return self._socket

    def disconnect(self) -> None:
        if isinstance(self._socket, TlsSocket):
            self._socket.leave()
        elif self._socket is not None:
            self._socket.close()
        self._socket = None

    def _round_trip(self, connection: socket.socket | TlsSocket, request: bytes, count: int) -> tuple[list[bytes], object]:
        buffer = bytearray()
        try:
            sent = connection.send(request)  # sendall would ask the kernel for its buffer's size each time
            while sent < len(request):
                sent += connection.send(memoryview(request)[sent:])
            while (end := buffer.find(b"\r\n\r\n")) < 0:
                if len(buffer) > _MAX_HEAD:
                    raise _BrokenError("the head of the answer is too long")
                chunk = connection.recv(65_536)
                if not chunk:
                    raise _BrokenError("the connection was closed", blank=not buffer)
                buffer += chunk
            size, lengths, last = _read_head(bytes(buffer[:end]), count)
            hold = self._make_room(size) if size > LARGE else None
            del buffer[: end + 4]
            while len(buffer) < size:
                chunk = connection.recv(min(size - len(buffer), 1 << 20))
                if not chunk:
                    raise _BrokenError("the connection was closed within the answer")
                buffer += chunk
        except OSError as error:
            raise _BrokenError(f"the connection broke: {explain(error)}", blank=not buffer) from None
        if len(buffer) > size or sum(lengths) != size:
            raise _BrokenError("the answer is not as long as it says")
        self._used = monotonic()
        if last:
            self.disconnect()
            self._channel.leaving()
        answer = bytes(buffer)
        frames = [answer]
        if count > 1:
            buffer.clear()
            starts = accumulate(lengths[:-1], initial=0)
            frames = [answer[start : start + length] for start, length in zip(starts, lengths, strict=True)]
        return frames, hold

    def _make_room(self, size: int) -> object:
        """Take memory for an answer; return what keeps it."""
        if size > self._limits.answer_bytes:
            raise _BrokenError(f"the answer has {size} bytes, over the limit of {self._limits.answer_bytes}")
        hold = self._channel.budget.hold(size)
        if hold is None:
            raise _BrokenError(f"there is no memory for an answer of {size} bytes", outcome=Outcome.OVERLOADED)
        return hold


def _list_ids(ids: list[str]) -> str:
    """Return the first of these ids, up to `MAX_REQUEST_IDS` characters, and how many more there are.

    >>> _list_ids(["a-1", "b-2"])
    'a-1,b-2'
    """
    kept: list[str] = []
    room = MAX_REQUEST_IDS - 4
    for one in ids:
        room -= len(one) + 1
        if room < 0:
            kept.append(f"+{len(ids) - len(kept)}")
            break
        kept.append(one)
    return ",".join(kept)


def _read_head(head: bytes, count: int) -> tuple[int, list[int], bool]:
    """Return the length of the body, those of its `count` frames, and whether it is the last answer on this connection."""
    status, *lines = head.decode("latin-1").split("\r\n")
    if not status.startswith("HTTP/1.1 200 "):
        busy = status.startswith("HTTP/1.1 503 ")
        raise _BrokenError(f"the answer is {status[:64]!r}", refused=busy, outcome=Outcome.OVERLOADED if busy else None)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    size = headers.get("content-length", "")
    lengths = headers.get(LENGTHS.lower(), "").split(",")
    if not all(number.isascii() and number.isdigit() and len(number) < 16 for number in (size, *lengths)):
        raise _BrokenError("the answer does not say how long it and its frames are")
    if len(lengths) != count:
        raise _BrokenError(f"{count} frames were sent, {len(lengths)} came back")
    return int(size), [int(length) for length in lengths], headers.get("connection", "").lower() == "close"
