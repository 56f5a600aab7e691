"""One connection to a node: a gathered request out, the replies to its calls in.

A connection that a node has closed while nobody used it, or that breaks before the first byte of an answer, is replaced by a
new one, and the request goes once more. Every wait ends with the last of the calls' deadlines.
"""

from contextlib import suppress
from itertools import accumulate
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import gevent
from gevent import socket  # by name, so that it needs no patched process
from gevent.event import Event

from gkv.log import say_exception
from gkv.model import Outcome
from gkv.net.admission import LARGE
from gkv.net.deadlines import deadlines
from gkv.net.tls import TlsSocket, explain, is_over

if TYPE_CHECKING:
    from gkv.net.channel import Call, Channel, Outbox

PATH = "/internal/frames"
LENGTHS = "Gkv-Frames"
REQUEST_IDS = "Gkv-Request-Ids"
"""The ids of the clients' requests that a gathered request is for."""
MAX_REQUEST_IDS = 1_024

_TRUSTED = 0.25
"""A connection that was used so lately is taken to be open: a node closes none before it has been idle for twice as long."""
_MAX_HEAD = 16_384


class _BrokenError(Exception):
    """The connection, or what came over it, is of no use.

    `blank` when not a byte of an answer had come, `refused` when the node has certainly done nothing, `outcome` if it is known.
    """

    def __init__(self, detail: str, *, blank: bool = False, refused: bool = False, outcome: Outcome | None = None) -> None:
        super().__init__(detail)
        self.blank = blank
        self.refused = refused
        self.outcome = outcome


class Sender:
    """A greenlet with one connection, which takes the outbox whenever it is free."""

    def __init__(self, channel: "Channel", outbox: "Outbox") -> None:
        url = urlsplit(channel.url)
        self.wake = Event()
        self.expires = 0.0
        self._expired = False
        self._channel = channel
        self._outbox = outbox
        self._limits = channel.limits
        self._address = (url.hostname or "", url.port)
        self._secure = url.scheme == "https"
        self._socket: socket.socket | TlsSocket | None = None
        self._used = 0.0
        """When the last answer came over it."""
        self.greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        try:
            while True:
                calls = self._outbox.take()
                if calls:
                    try:
                        self._serve(calls)
                    except Exception:  # noqa: BLE001  # the edge of a greenlet: a bug must not take the channel down
                        self.disconnect()
                        say_exception(f"calls to {self._channel.url} were broken off by an internal error")
                else:
                    self.wake.clear()
                    self._outbox.idle.append(self)
                    self.wake.wait()
        finally:
            self.disconnect()

    def _serve(self, calls: "list[Call]") -> None:
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

    def _exchange(self, calls: "list[Call]") -> tuple[list[bytes], object]:
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
            self._channel.drop_idle()
        answer = bytes(buffer)  # to clear the buffer now, as there are two copies, costs 15 us a request in page faults
        frames = [answer]
        if count > 1:
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
