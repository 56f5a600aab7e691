"""One connection to a node: a gathered request out, the replies to its calls in.

A connection that a node has closed while nobody used it is replaced by a new one. So is one that
breaks before the first byte of an answer, and the request goes once more; but a write is handed over
once: when a byte of it may have been received it is never sent again, and ends as LOST. Every wait
ends with the last of the calls' deadlines; behind it nothing is sent that comes too late.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from time import monotonic

from gevent import socket  # by name, so that it needs no patched process
from gevent.event import Event

from gkv import background
from gkv.addresses import address_of
from gkv.log import say_exception
from gkv.model import Outcome
from gkv.net import gathered
from gkv.net.admission import LARGE
from gkv.net.call import Call, Lane
from gkv.net.deadlines import deadlines
from gkv.net.dialing import dial
from gkv.net.outbox import Outbox
from gkv.net.peer import Peer
from gkv.net.tls import TlsSocket, explain, is_over
from gkv.net.trace import header_lines
from gkv.net.turn import give_way

_TRUSTED = 0.25
"""A connection for reads that was used so lately is taken to be open: a node closes none before it
has been idle for twice as long, and a read may be repeated."""
_MAX_HEAD = 16_384
_PIECE = 262_144
_TURN = 1 << 20
"""Bytes after which a connection that never has to wait lets the others run; sent or received in
pieces of the size above."""

_ANSWERED = Outcome.ANSWERED
_REFUSAL = b'{"refused"'
"""The first bytes of the frame by which a node says that it does nothing."""
_usual_head = re.compile(
    rb"HTTP/1\.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: (0|[1-9][0-9]{0,8})\r\n"
    rb"X-Request-Id: [!-~]{1,%d}\r\nCache-Control: no-store\r\nConnection: keep-alive\r\n"
    rb"Keep-Alive: timeout=[0-9]{1,9}\r\nDate: [ -~]{29}" % gathered.MAX_REQUEST_IDS
).fullmatch
"""The head of nearly every answer: only the length, the id and the date differ. To read it as any
other head takes 4 us more."""


class _BrokenError(Exception):
    """The connection, or what came over it, is of no use.

    `unsent` when not a byte of the request had gone, `blank` when not one of an answer had come,
    `refused` when the node has certainly done nothing, `outcome` if it is known.
    """

    def __init__(
        self,
        detail: str,
        *,
        unsent: bool = False,
        blank: bool = False,
        refused: bool = False,
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(detail)
        self.unsent = unsent
        self.blank = blank
        self.refused = refused
        self.outcome = outcome


class Sender:
    """A greenlet with one connection, which takes calls from the outbox whenever it is free.

    More than 250 lines: whatever breaks on the way, it is here that each call still gets its one reply.
    """

    def __init__(self, peer: Peer, outbox: Outbox) -> None:
        self.wake = Event()
        self.expires = 0.0
        self._expired = False
        self._peer = peer
        self._outbox = outbox
        self._once = outbox.lane is Lane.WRITE
        """Whether what a node may have seen is never sent again."""
        self._address = address_of(peer.url)
        self._secure = peer.url.startswith("https:")
        self._socket: socket.socket | TlsSocket | None = None
        self._sending = False
        """Whether the node has not taken all of a request."""
        self._begun = False
        """Whether it may have taken any of it."""
        self._moved = 0
        """Bytes sent and received since the others could run."""
        self._answered_by = 0
        """The incarnation of the process that gave the last answer."""
        self._used = 0.0
        """When the last answer came over it."""
        self.greenlet = background.start(f"the connection to {peer.url}", self._run)

    def _run(self) -> None:
        try:
            while True:
                calls = self._outbox.next_group()
                if calls:
                    try:
                        self._serve(calls)
                    except Exception:  # noqa: BLE001  # the edge of a greenlet: a bug must not take the channel down
                        self.disconnect()
                        say_exception(f"calls to {self._peer.url} were broken off by an internal error")
                else:
                    self.wake.clear()
                    self._outbox.idle.append(self)
                    self.wake.wait()
        finally:
            self.disconnect()

    def _serve(self, calls: list[Call]) -> None:
        """Bring these calls to their end, each with one reply."""
        self.expires = max([call.expires for call in calls])
        self._expired = self._sending = False
        ended = False
        deadlines.add(self)
        try:
            frames, hold = self._exchange(calls)
        except _BrokenError as error:
            self.disconnect()
            outcome = Outcome.TIMEOUT if self._expired else error.outcome
            for call in calls:
                call.sent = call.sent and not error.refused and not error.unsent
                self._peer.end(call, outcome or (Outcome.LOST if call.sent else Outcome.UNREACHABLE), str(error))
            ended = True
        else:
            answered = 0
            stranger = self._is_stranger()
            for call, frame in zip(calls, frames, strict=True):
                if stranger and not frame.startswith(_REFUSAL):
                    answered += call.finish(Outcome.LOST, b"", "another process has answered in the place of the member")
                else:
                    answered += call.finish(_ANSWERED, frame, "", hold)
            self._peer.count(answered, len(calls) - answered)
            ended = True
        finally:
            deadlines.remove(self)
            if not ended:  # the channel is being closed
                for call in calls:
                    self._peer.end(call, Outcome.LOST if call.sent else Outcome.UNREACHABLE, "the call was broken off")

    def _is_stranger(self) -> bool:
        """Return whether the last answer came from another process than the document names: it says
        nothing about the member's keys, and acknowledges nothing.

        Not so for background calls, which ask who is there.
        """
        if self._outbox.lane is Lane.BACKGROUND:
            return False
        expected = self._peer.names.expected(self._peer.url)
        return expected is not None and expected != self._answered_by

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def expire(self) -> None:
        """End the wait for an answer: what is being read or written ends as if the node had closed
        the connection.
        """
        self._expired = True
        with suppress(OSError):
            if self._sending and isinstance(self._socket, TlsSocket):
                self._socket.break_off()
            elif self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def _exchange(self, calls: list[Call]) -> tuple[list[bytes], object]:
        """Send the calls as one request and return the frames of the answer, and what keeps the
        memory for them.

        Calls that are too late when there is a connection end, and leave the list. Switches
        greenlets.
        """
        reused = self._is_open()
        try:
            return self._attempt(calls)
        except _BrokenError as error:
            # A node that restarted, or closed the idle connection, breaks it before the first byte
            # of an answer.
            may_repeat = error.unsent or (error.blank and not self._once)
            if self._expired or not (reused and may_repeat) or not self._peer.retries.spend():
                raise
            seen = not error.unsent
        for call in calls:
            call.sent = seen
        self.disconnect()
        self._peer.reconnects += 1
        try:
            return self._attempt(calls)
        except _BrokenError as error:
            if seen:  # the node may have done what was sent first
                error.refused = error.unsent = False
            raise

    def _attempt(self, calls: list[Call]) -> tuple[list[bytes], object]:
        """Send the calls once, and return what `_exchange` does."""
        connection = self._socket
        if connection is None:
            connection = self._connect()
            # That took its time. Who was told meanwhile that nothing was sent was told the truth, and
            # a deadline that has passed is not met again while the answer is waited for.
            calls[:] = self._peer.keep_timely(calls)
            if not calls:
                return [], None
        frames = [call.frame for call in calls]
        lengths = list(map(len, frames))
        names = self._peer.names
        ids = [call.request_id for call in calls if call.request_id]
        preface = gathered.write_preface(names.incarnation, names.epoch(), lengths, ids)
        size = len(preface) + sum(lengths)
        traces = header_lines(ids) if ids else b""
        head = b"%b%d\r\n%b\r\n%b" % (self._peer.heads[self._outbox.lane], size, traces, preface)
        # Many small frames leave in one piece; to join large ones would only copy them.
        pieces = [b"".join([head, *frames])] if size <= LARGE else [head, *frames]
        self._peer.requests += 1
        for call in calls:
            call.sent = True
        return self._round_trip(connection, pieces, len(calls))

    def _is_open(self) -> bool:
        """Return whether there is a connection that can be used again; drop one that the node has
        closed meanwhile.

        A write that is sent into such a one counts as one that the node may have seen, so its
        connection is looked at each time.
        """
        if self._socket is None:
            return False
        trusted = not self._once and monotonic() - self._used < _TRUSTED
        if trusted or not is_over(self._socket):
            return True
        self.disconnect()
        return False

    def _connect(self) -> socket.socket | TlsSocket:
        """Return a new connection; raise _BrokenError when there is none. Switches greenlets."""
        tls = self._peer.tls
        if self._secure != (tls is not None):
            raise _BrokenError(f"members of this cluster do not talk to each other as {self._peer.url} says", unsent=True)
        limits = self._peer.limits
        started = monotonic()
        try:
            connection = dial(self._address, min(self.expires, started + limits.dial), limits.connect)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            by = min(self.expires, monotonic() + limits.handshake)
            self._socket = connection if tls is None else tls.connect(connection, self._address.host, by)
        except OSError as error:
            why = f"no connection: {explain(error)}"
            self._peer.unreachable(why, monotonic() - started)
            raise _BrokenError(why, unsent=True) from None
        self._socket.settimeout(None)  # a timeout here would arm a timer for each wait
        self._peer.reached()
        return self._socket

    def disconnect(self) -> None:
        """Close the connection, until the next call needs one. Does not switch greenlets."""
        if isinstance(self._socket, TlsSocket):
            self._socket.leave()
        elif self._socket is not None:
            self._socket.close()
        self._socket = None

    def _round_trip(
        self, connection: socket.socket | TlsSocket, pieces: Sequence[bytes], count: int
    ) -> tuple[list[bytes], object]:
        """Send a request and read the answer. Switches greenlets."""
        buffer = bytearray()
        try:
            self._sending, self._begun = True, False
            for piece in pieces:
                self._send(connection, piece)
            self._sending = False
            while (end := buffer.find(b"\r\n\r\n")) < 0:
                if len(buffer) > _MAX_HEAD:
                    raise _BrokenError("the head of the answer is too long")
                chunk = connection.recv(65_536)
                if not chunk:
                    raise _BrokenError("the connection was closed", blank=not buffer)
                buffer += chunk
            size, last = _read_head(bytes(buffer[:end]))
            hold = self._make_room(size) if size > LARGE else None
            del buffer[: end + 4]
            frames = self._read_frames(connection, buffer, size, count)
        except OSError as error:
            why = f"the connection broke: {explain(error)}"
            raise _BrokenError(why, unsent=not self._begun, blank=not buffer) from None
        except gathered.BadGathering as error:
            if isinstance(error, gathered.OtherFormat):
                self._peer.complain(str(error))
            raise _BrokenError(str(error)) from None
        self._used = monotonic()
        if last:
            self.disconnect()
            self._peer.drop_idle()
        return frames, hold

    def _send(self, connection: socket.socket | TlsSocket, piece: bytes) -> None:
        sent = 0
        if len(piece) <= _PIECE:
            sent = connection.send(piece)  # sendall would ask for the size of the kernel's buffer
            self._begun = True
        if sent == len(piece):
            return
        rest = memoryview(piece)
        while sent < len(piece):
            self._give_way()
            count = connection.send(rest[sent : sent + _PIECE])
            self._begun = True
            sent += count
            self._moved += count

    def _give_way(self) -> None:
        """Let the others run after some work: a socket that is always ready would never switch
        greenlets.
        """
        if self._moved >= _TURN:
            self._moved = 0
            give_way()

    def _read_frames(self, connection: socket.socket | TlsSocket, buffer: bytearray, size: int, count: int) -> list[bytes]:
        """Return the frames of an answer whose body has `size` bytes, the first of which are in the
        buffer.
        """
        whole = min(size, LARGE)
        while len(buffer) < whole:
            buffer += self._receive(connection)
        if len(buffer) > size:
            raise _BrokenError("the answer is longer than it says")
        preface = gathered.read_preface(buffer, size, count)
        self._answered_by = preface.incarnation
        if len(buffer) == size:
            return gathered.cut(bytes(buffer), preface)
        # A frame that comes in many pieces grows where it stays, since copying it whole would hold
        # up the others.
        del buffer[: preface.size]
        frames = []
        for length in preface.lengths:
            if length <= len(buffer):
                frames.append(bytes(buffer[:length]))
                del buffer[:length]
                continue
            frame = BytesIO()
            frame.write(buffer)
            buffer.clear()
            while (left := length - frame.tell()) > 0:
                chunk = self._receive(connection)
                frame.write(chunk[:left])
                buffer += chunk[left:]
            frames.append(frame.getvalue())
        if buffer:
            raise _BrokenError("the answer is longer than it says")
        return frames

    def _receive(self, connection: socket.socket | TlsSocket) -> bytes:
        self._give_way()
        chunk: bytes = connection.recv(_PIECE)
        if not chunk:
            raise _BrokenError("the connection was closed within the answer")
        self._moved += len(chunk)
        return chunk

    def _make_room(self, size: int) -> object:
        """Reserve memory for an answer; return what keeps it."""
        if size > self._peer.limits.answer_bytes:
            raise _BrokenError(f"the answer has {size} bytes, over the limit of {self._peer.limits.answer_bytes}")
        hold = self._peer.budget.hold(size)
        if hold is None:
            raise _BrokenError(f"there is no memory for an answer of {size} bytes", outcome=Outcome.OVERLOADED)
        return hold


def _read_head(head: bytes) -> tuple[int, bool]:
    """Return the length of the body, and whether it is the last answer on this connection."""
    usual = _usual_head(head)
    if usual is not None:
        return int(usual[1]), False
    status, *lines = head.decode("latin-1").split("\r\n")
    if not status.startswith("HTTP/1.1 200 "):
        busy = status.startswith("HTTP/1.1 503 ")
        raise _BrokenError(f"the answer is {status[:64]!r}", refused=busy, outcome=Outcome.OVERLOADED if busy else None)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    size = headers.get("content-length", "")
    if not (size.isascii() and size.isdigit() and len(size) < 16):
        raise _BrokenError("the answer does not say how long it is")
    return int(size), headers.get("connection", "").lower() == "close"
