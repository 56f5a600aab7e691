"""A client's socket: what comes from it, what goes to it, and the turns that its connection takes.

Nobody's slowness costs a timer: a connection notes when it began to wait, and the server's clock
looks at all of them twice a second. It ends a wait by shutting the socket down, which wakes the
connection's own greenlet in an orderly way; throwing an exception into it could hit it anywhere.

Nobody's haste costs the others their turn: a socket that always has more to read, or a client whose
next request is always there, would never switch greenlets. So a connection gives way by itself,
after a few requests or bytes, and at once when the loop's turn has lasted long already
(`gkv.net.turn`). It waits for its own socket only when more has to come from there.
"""

import fcntl
import struct
import termios
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from gevent import socket  # by name, so that it needs no patched process

from gkv.errors import BadFraming, TooSlow
from gkv.net.admission import Gate
from gkv.net.serving import Serving
from gkv.net.tls import TlsSocket
from gkv.net.turn import give_way
from gkv.net.waits import State, Wait

_RECEIVE = 65_536
_PIECE = 262_144
"""Bytes of a large answer that are given to the kernel at once."""
_TURN = 65_536
"""Bytes received after which a connection gives way; other work counts for bytes."""
_WORK_OF_A_REQUEST = 8_192
"""So at most eight requests are one turn. Under 32 busy connections most find their next request
ready; one turn for each request would cost 4 us."""
_SENT_PER_BYTE_RECEIVED = 16
"""A mebibyte that the kernel takes at once is one turn as well."""
_TURN_SECONDS = 0.004
"""So long a turn of the loop may have lasted for a connection that had its part of it to take
another request."""
_RESET, _FAREWELL = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""How a connection ends when it is closed: at once and for nothing, or after all that was sent."""
_IDLE, _BODY, _WRITE = State.IDLE, State.BODY, State.WRITE  # which saves 0.1 us each time, twice a request


class ClientGone(Exception):
    """The client has closed the connection, or takes no more of the answer. There is nobody to
    answer.
    """


class Link:
    """One client's socket, with what was received and not yet used."""

    __slots__ = ("_counted", "_expecting", "_serving", "_work", "buffer", "expired", "socket", "wait")

    def __init__(self, sock: Any, serving: Serving) -> None:
        self.socket = sock
        self.buffer = bytearray()
        self.wait = Wait(serving.now)
        self.expired = False
        """Whether a wait was ended because it took too long."""
        self._serving = serving
        self._work = 0
        self._counted = self._expecting = False
        """While the server drains: whether it is known which requests were here, and whether
        nothing was received since."""

    def enter(self, state: State) -> None:
        """Begin a wait of another kind."""
        wait = self.wait  # a method of the wait's own for this would cost 0.1 us, twice a request
        wait.state = state
        wait.since = wait.progress = self._serving.now

    def expire(self) -> None:
        """End the wait that is under way. Does not switch greenlets."""
        self.expired = True
        state = self.wait.state
        with suppress(OSError):  # the client was faster
            if state is _WRITE and isinstance(self.socket, TlsSocket):
                self.socket.break_off()
            else:
                self.socket.shutdown(socket.SHUT_RD if state.can_be_answered else socket.SHUT_RDWR)

    def end_if_silent(self, now: float) -> None:
        """While the server drains: end the connection when it has had no request for a while, and
        none is here.

        It ends orderly, with a FIN; what comes nevertheless is read and dropped, since it would
        turn the FIN into a reset.
        """
        wait, limits = self.wait, self._serving.limits
        if wait.state is not _IDLE or self.buffer:
            return
        waited = now - wait.since
        if self.expired:
            if waited > limits.linger:
                self.expire()
        elif waited > limits.recent and not self._unread():
            self.expired = True
            wait.since = now
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)

    def has_next(self) -> bool:
        """While the server drains: whether there is another request that was here before the first
        answer since it does.

        All that is here is received then, to tell it from what comes later: a client that always
        sends more gets an end, too. Does not switch greenlets: over TLS, half a record is nothing.
        """
        if not self._counted:
            self._counted = self._expecting = True
            if count := self._unread():
                sock = self.socket
                with suppress(OSError):  # it is gone, which the next wait will tell
                    self.buffer += sock.take(count) if isinstance(sock, TlsSocket) else sock.recv(count)
        return self._expecting and bool(self.buffer)

    def _unread(self) -> int:
        """Return how many bytes have come that were not received yet."""
        [count] = struct.unpack("i", fcntl.ioctl(self.socket.fileno(), termios.FIONREAD, bytes(4)))
        return int(count)

    def receive(self) -> bytes:
        """Return what comes next, at least a byte. Raise ClientGone, TooSlow, BadFraming or
        OSError. Switches greenlets.
        """
        if self._work >= _TURN:
            self._give_way_for_more()
        try:
            chunk: bytes = self.socket.recv(_RECEIVE)
        except OSError:
            if not self.expired:  # with `expire`, gevent raises EBADF in a wait that has begun
                raise
            chunk = b""
        wait = self.wait
        if self.expired:
            if wait.state is _IDLE:
                if chunk:
                    self.linger()
                raise ClientGone
            raise TooSlow("the rest of the request did not come in time")
        if not chunk:
            if wait.state is _BODY:
                raise BadFraming("the body is shorter than it says")
            raise ClientGone
        self._expecting = False
        wait.received += len(chunk)
        wait.progress = self._serving.now
        self._work += len(chunk)
        return chunk

    def first_bytes(self, within: float) -> bytes:
        """Return what comes first, of a request that is not to be read; nothing if it takes longer.
        Switches greenlets.
        """
        with suppress(OSError):  # which gevent's end of a wait is too
            socket.wait_read(self.socket.fileno(), within)
            return bytes(self.socket.recv(_RECEIVE))
        return b""

    def end_turn(self, now: float) -> None:
        """Note that a request was answered by `now`, and let the others run when that was enough
        for one turn. Switches greenlets.
        """
        serving = self._serving
        if serving.loop.iteration != serving.turn:
            self._work = 0  # they could run while the application waited
            return
        self._work += _WORK_OF_A_REQUEST
        if self._work >= _TURN or now - serving.turn_began > _TURN_SECONDS:
            if self.buffer:
                self._give_way()
            else:
                self._give_way_for_more()

    def _give_way(self) -> None:
        """Let everybody run whose socket is ready. Switches greenlets."""
        self._work = 0
        give_way()

    def _give_way_for_more(self) -> None:
        """Let the others run before something is received. Switches greenlets.

        To wait until it is there costs as much as to give way, and saves finding that it is not.
        """
        if isinstance(self.socket, TlsSocket) and self.socket.is_ahead:
            self._give_way()
        else:
            self._work = 0
            socket.wait_read(self.socket.fileno())

    def send(self, data: bytes, gate: Gate, behind: Sequence[bytes] = (), *, charged: bool = False) -> None:
        """Send `data` and all that is to go behind it; `charged` says that the budget knows of it.

        Raise ClientGone when the connection breaks, or when the client does not take even a small
        answer and there is no memory to wait for it. Switches greenlets when the client does not
        keep up.
        """
        self.enter(_WRITE)
        try:
            sent = self.socket.send(data)
            if sent < len(data) or behind:
                self._send_rest(data, sent, gate, behind, charged=charged)
        except OSError:
            raise ClientGone from None

    def _send_rest(self, data: bytes, sent: int, gate: Gate, behind: Sequence[bytes], *, charged: bool) -> None:
        """Send what is left after `sent` bytes, with memory reserved for all of it as long as that
        takes.
        """
        size = 0 if charged else len(data) + sum(map(len, behind))
        if not gate.budget.reserve(size, must=charged or gate.always_answers):
            raise ClientGone
        try:
            self._send_all(memoryview(data)[sent:])
            for piece in behind:
                self._send_all(memoryview(piece))
        finally:
            gate.budget.release(size)

    def _send_all(self, piece: memoryview) -> None:
        sent = 0
        while sent < len(piece):
            if self.expired:
                raise ClientGone
            if self._work >= _TURN:
                self._give_way()
            count = self.socket.send(piece[sent : sent + _PIECE])
            sent += count
            self.wait.progress = self._serving.now
            self._work += count // _SENT_PER_BYTE_RECEIVED

    def linger(self) -> None:
        """Tell the client that nothing more will come, and wait a little for it to go (RFC 9112,
        9.6). Switches greenlets.

        Closing with unread bytes would reset the connection, and the client might never see the
        answer.
        """
        self.socket.shutdown(socket.SHUT_WR)
        until = monotonic() + self._serving.limits.linger
        while (left := until - monotonic()) > 0:
            socket.wait_read(self.socket.fileno(), left)
            if not self.socket.recv(_RECEIVE):
                return

    def end_with_reset(self, wanted: bool) -> None:
        """Choose how `close` ends the connection: with a reset, so that nobody takes what came for
        whole, or orderly.
        """
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET if wanted else _FAREWELL)

    def say_goodbye(self) -> None:
        """Over TLS: say that nothing more will come, so that the end is not taken for an attack."""
        if self._serving.tls is not None:
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with suppress(OSError):
            self.socket.close()
