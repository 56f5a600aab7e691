"""One client's connection: gevent gives it a greenlet of its own, and it reads requests and answers them until its end.

gevent's handler lets requests through that can be read in two ways, writes head and body apart, and costs five times as much.
This one reads strictly (`gkv.net.http1`), has a deadline for everything that it waits for, reads a body whole before the
application sees the request, and sends an answer in one piece.

Nobody's slowness costs a timer: a connection notes when it began to wait, and the server's clock looks at all of them twice a
second. It ends a wait by shutting the socket down, which wakes the connection's own greenlet in an orderly way; throwing an
exception into it could hit it anywhere.

Nobody's haste costs the others their turn: a socket that always has more to read would never switch greenlets, so a connection
gives way by itself after some work.
"""

import fcntl
import struct
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent import sleep, socket  # by name, so that it needs no patched process

from gkv.errors import BadFraming, GkvError, InternalError, Overloaded, TooSlow, Unavailable
from gkv.log import say, say_exception
from gkv.net.admission import CROWD, LARGE
from gkv.net.application import Render, Rendered
from gkv.net.http1 import MAX_HEAD, RAW_PATH, ChunkedBody, Head, diagnose, parse_head
from gkv.net.tls import CERTIFICATE, HandshakeFailed, Tls

if TYPE_CHECKING:
    from gkv.net.server import Server

_RECEIVE = 65_536
_TURN = 65_536
_WORK_OF_A_REQUEST = 4_096
"""After a turn of so many bytes received, or of pipelined requests that count for bytes, a connection lets the others run."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET, _FAREWELL = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""How a connection ends when it is closed: at once and for nothing, or after all that was sent."""

IDLE, HEAD, BODY, WORK, WRITE, HANDSHAKE = range(6)
"""What a connection is doing; in WORK it waits for the application, not for the client."""

_BODILESS = (204, 304)
"""Their answers end with the head, and say nothing about a body (RFC 9110, 8.6)."""
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def no_memory() -> GkvError:
    """Return the error for a request whose body or answer the budget has no room for."""
    return Overloaded("requests and answers take all the memory that they may; ask again later", retry_after=1)


class Refusal:
    """One and the same error for many requests. Made anew for each it would cost 6 us, a third of what a refused one takes."""

    def __init__(self, error: GkvError, render: Render) -> None:
        self.error = error
        self._id = f"{render(error).request_id}-"
        self._count = 0
        # All ids have this length, so all answers have the same Content-Length.
        self._answer = render(error, {"HTTP_X_REQUEST_ID": f"{self._id}{0:08x}"})
        self._pieces: list[bytes] = []
        self._date = b""
        self.size = len(self._answer.body)

    def fits(self, head: Head) -> bool:
        """Return whether `once_more` is an answer to a request with this head, if the connection goes on."""
        return head.minor == 1 and "HTTP_X_REQUEST_ID" not in head.environ and head.environ["REQUEST_METHOD"] != "HEAD"

    def once_more(self, assemble: Callable[[Rendered, bool, int], bytes], date: bytes) -> tuple[bytes, str]:
        """Return an answer, and its request's id. `date` is the date line, which `assemble` puts in."""
        if date is not self._date:
            self._pieces = assemble(self._answer, True, 1).split(self._answer.request_id.encode())
            self._date = date
        self._count += 1
        request_id = f"{self._id}{self._count & 0xFFFFFFFF:08x}"
        return request_id.encode().join(self._pieces), request_id


class _GoneError(Exception):
    """The client has closed the connection, or takes no more of the answer. There is nobody to answer."""


class Connection:
    """One client's connection: reads requests one after the other and answers them in order."""

    __slots__ = ("_app", "_base", "_beyond", "_buffer", "_charged", "_counted", "_direct", "_find", "_head", "_head_data",
                 "_headers", "_lane", "_limits", "_loop", "_owed", "_route", "_server", "_socket", "_status", "_streamed",
                 "_usual_size", "_work", "_written", "expired", "progress", "received", "since",
                 "state")  # fmt: skip

    def __init__(self, sock: Any, address: Any, server: "Server", _rfile: Any = None) -> None:
        self._socket = sock
        self._server = server
        self._app = server.application
        self._find = server.find
        self._direct: Callable[[Mapping[str, Any], bytes], Rendered] | None = None
        self._limits = server.limits
        self._lane = server.admission.clients
        self._loop = server.loop
        self._beyond = False
        """Whether there was no room for this connection, so that only members and operators are served in it."""
        self._charged = 0
        """Bytes that the lane's budget has given for the request under way."""
        self._base = server.base_environ | {"REMOTE_ADDR": address[0], "REMOTE_PORT": str(address[1])}
        self._buffer = bytearray()
        self._head: Head | None = None
        self._head_data = b""
        """As it came, with the empty line that ends it."""
        self._usual_size = -1
        """Of a request with this head and all of its body; -1 when that is not known, or none was read yet."""
        self._route: Any = None
        """What the server's watch calls this head's route, when it was asked."""
        self._streamed = 0
        self._counted = self._owed = False
        """While the server drains: whether it is known which requests were here, and whether nothing was received since."""
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self._written: list[bytes] = []
        self._work = 0
        self.state = IDLE
        self.since = self.progress = server.now
        self.received = 0
        self.expired = False

    def handle(self) -> None:
        """Serve the connection to its end; gevent calls this in a greenlet of its own."""
        connections, limits = self._server.connections, self._limits
        self._beyond = len(connections) >= limits.connections
        if self._beyond and len(connections) >= limits.connections + limits.spare:
            self._turn_away()
            return
        connections.add(self)
        self._server.accepted += 1
        try:
            if self._server.tls is not None:
                self._shake_hands(self._server.tls)
            while self._serve_one():
                if self._charged:
                    self._discharge()
                if self._buffer:  # else it will most likely have to wait for the next one
                    self._work += _WORK_OF_A_REQUEST
                    if self._work >= _TURN:
                        self._give_way(socket.wait_write)
            if self._server.tls is not None:
                self._socket.shutdown(socket.SHUT_WR)
        except GkvError as error:
            self._refuse(error)
        except (_GoneError, OSError):
            pass
        finally:
            self._discharge()
            connections.discard(self)
            self._close()

    def _turn_away(self) -> None:
        """Refuse a connection for which there is no room at all; without a word when many are being refused already."""
        server, error = self._server, self._no_room()
        # With TLS it would have to shake hands first, for which there is no room.
        if server.tls is None and server.turning_away < self._limits.spare:
            server.turning_away += 1
            self._refuse(error)
            server.turning_away -= 1
        self._close()

    def _no_room(self) -> GkvError:
        """Count a connection for which there is no room, and return the error that says so."""
        self._server.admission.refused_connections += 1
        return Unavailable(f"{self._limits.connections} connections are open already", retry_after=1)

    def _charge(self, size: int, *, must: bool = False) -> bool:
        """Take so many bytes of memory for this request, if there is room."""
        fits = self._lane.budget.take(size, must=must)
        if fits:
            self._charged += size
        return fits

    def _discharge(self) -> None:
        self._lane.budget.give_back(self._charged)
        self._charged = 0

    def _shake_hands(self, tls: Tls) -> None:
        """Begin TLS. Raise OSError when that fails, BadFraming when the client speaks HTTP. Switches greenlets."""
        server, plain = self._server, self._socket
        if len(server.handshakes) >= self._limits.handshakes:
            oldest = next(iter(server.handshakes))
            del server.handshakes[oldest]
            oldest.expire()
        server.handshakes[self] = None
        self._enter(HANDSHAKE)
        self._socket = tls.accept(plain)
        try:
            self._socket.handshake()
            self._base[CERTIFICATE] = self._socket.certified
        except OSError as error:
            server.handshakes_failed += 1
            if isinstance(error, HandshakeFailed) and not self.expired:
                self._socket = plain
                if error.http:
                    raise BadFraming("this port speaks TLS: its URLs begin with https://") from None
                self._linger()  # there is an alert on its way
            raise
        finally:
            server.handshakes.pop(self, None)
        self._enter(IDLE)

    def _serve_one(self) -> bool:
        """Read and answer one request; return whether another may follow."""
        if not self._buffer:
            try:
                chunk = self._take()
            except _GoneError:
                return False
            if len(chunk) == self._usual_size and chunk.startswith(self._head_data):
                # As nearly always: the same head again, and its body whole. Taken apart as below it costs 2 us more.
                return self._reply(self._head, chunk[len(self._head_data) :])  # type: ignore[arg-type]
            self._buffer += chunk
        head = self._read_head()
        body = self._read_body(head) if head.length else b""
        if not self._head_data:  # forgotten while the body came
            self._direct, _ = self._find(head.environ)  # the lane has lent what this request holds
        return self._reply(head, body)

    def _reply(self, head: Head, body: bytes) -> bool:
        """Have a request answered; return whether another may follow."""
        self.state = WORK
        watch = self._server.watch
        started = monotonic() if watch is not None else 0.0
        lane = self._lane
        if not lane.enter(self._loop.iteration):
            return self._shed(self._server.too_many, head, started)
        if self._direct is not None:
            try:
                if lane.inflight > CROWD:
                    sleep(0)  # those who will be refused go first: what they wait for is less than this one's work
                answer = self._direct(head.environ, body)
            finally:
                lane.leave()
            size = len(answer.body)
            large = size > LARGE
            if large and not self._charge(size, must=lane.always_answers):
                return self._shed(self._server.too_much, head, started)
            keep_alive = self._may_go_on(head)
            if answer.stream is not None:
                try:
                    return self._go_on(self._send_stream(answer, answer.stream, keep_alive, head.minor))
                finally:
                    self._note(head, answer.status, self._streamed, started, answer.request_id)
            if watch is not None:
                self._note(head, answer.status, len(answer.body), started, answer.request_id)
            self._send(self._assemble(answer, keep_alive, head.minor), charged=large)
            return self._go_on(keep_alive)
        environ = head.environ.copy()
        environ["wsgi.input"] = BytesIO(body)
        if head.length < 0:
            # The application sees a body of known length: it need not know about chunks.
            del environ["HTTP_TRANSFER_ENCODING"]
            environ["CONTENT_LENGTH"] = str(len(body))
        return self._go_on(self._answer(environ, head, started))

    def _shed(self, refusal: Refusal, head: Head, started: float) -> bool:
        """Refuse a request that was read whole; return whether another may follow."""
        keep_alive = self._may_go_on(head)
        if refusal.fits(head) and keep_alive:
            data, request_id = refusal.once_more(self._assemble, self._server.date_line)
            size = refusal.size
        else:
            answer = self._server.render(refusal.error, head.environ)
            request_id, size = answer.request_id, len(answer.body)
            data = self._assemble(answer, keep_alive, head.minor)
            if head.environ["REQUEST_METHOD"] == "HEAD":
                data = data[: len(data) - size]
        if started:
            self._note(head, refusal.error.status, size, started, request_id)
        self._send(data)
        return self._go_on(keep_alive)

    def _note(self, head: Head, status: int, size: int, started: float, request_id: str) -> None:
        """Tell the server's watch of an answer."""
        watch = self._server.watch
        if watch is None or not started:
            return
        environ = head.environ
        if self._route is None:
            self._route = watch.route(environ["REQUEST_METHOD"], environ[RAW_PATH])
        watch.answered(self._route, environ, status, size, monotonic() - started, request_id)

    def _may_go_on(self, head: Head) -> bool:
        """Return whether the answer to a request with this head may leave the connection open."""
        return head.keep_alive and (not self._server.stopping or self._has_next())

    def _go_on(self, keep_alive: bool) -> bool:
        if keep_alive:
            self._enter(IDLE)
        else:
            self._linger()
        return keep_alive

    # Waiting: every wait is entered with a state, and `overdue` says when it has taken too long.

    def _enter(self, state: int) -> None:
        self.state = state
        self.since = self.progress = self._server.now

    def overdue(self, now: float) -> bool:
        """Return whether the client has kept this connection waiting for too long."""
        limits = self._limits
        waited = now - self.since
        if self.state == IDLE:
            return waited > (limits.linger if self._beyond else limits.idle)
        if self.state == HEAD:
            return waited > limits.head
        if self.state == HANDSHAKE:
            return waited > limits.handshake or self._server.stopping
        if self.state == BODY:
            slow = waited > limits.body_grace and self.received < waited * limits.body_rate
            return slow or now - self.progress > limits.body_grace
        return self.state == WRITE and now - self.progress > limits.write

    def expire(self) -> None:
        """End the wait that this connection is in."""
        self.expired = True
        how = socket.SHUT_RDWR if self.state in (IDLE, WRITE, HANDSHAKE) else socket.SHUT_RD
        with suppress(OSError):  # the client was faster
            self._socket.shutdown(how)

    def part(self, now: float) -> None:
        """While the server drains: end the connection when it has had no request for a while, and none is here.

        It ends orderly, with a FIN; what comes nevertheless is read and dropped, since it would turn the FIN into a reset.
        """
        if self.state != IDLE or self._buffer:
            return
        waited = now - self.since
        if self.expired:
            if waited > self._limits.linger:
                self.expire()
        elif waited > self._limits.recent and not self._unread():
            self.expired = True
            self.since = now
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def _has_next(self) -> bool:
        """While the server drains: whether there is another request that was here before the first answer since it does.

        All that is here is received then, to tell it from what comes later: a client that always sends more gets an end, too.
        """
        if not self._counted:
            self._counted = self._owed = True
            if count := self._unread():
                with suppress(OSError):  # it is gone, which the next wait will tell
                    self._buffer += self._socket.recv(count)
        return self._owed and bool(self._buffer)

    def _unread(self) -> int:
        """Return how many bytes have come that were not received yet."""
        [count] = struct.unpack("i", fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, bytes(4)))
        return int(count)

    def forget_head(self) -> None:
        """Read the next head anew, even if it is the same again."""
        self._head_data = b""
        self._usual_size = -1

    def _receive(self) -> None:
        """Put what comes next into the buffer. Switches greenlets."""
        self._buffer += self._take()

    def _take(self) -> bytes:
        """Return what comes next, at least a byte. Switches greenlets."""
        if self._work >= _TURN:
            self._give_way(socket.wait_read)
        try:
            chunk: bytes = self._socket.recv(_RECEIVE)
        except OSError:
            if not self.expired:  # with `expire`, gevent raises EBADF in a wait that has begun
                raise
            chunk = b""
        if self.expired:
            if self.state == IDLE:
                if chunk:
                    self._linger()
                raise _GoneError
            raise TooSlow("the rest of the request did not come in time")
        if not chunk:
            if self.state == BODY:
                raise BadFraming("the body is shorter than it says")
            raise _GoneError
        self._owed = False
        self.received += len(chunk)
        self.progress = self._server.now
        self._work += len(chunk)
        return chunk

    def _give_way(self, until: Callable[[int], None]) -> None:
        """Let everybody run whose socket is ready. Switches greenlets.

        Not gevent.sleep(0): fifty of those run before sockets are looked at again, and sleeping longer costs a millisecond.
        """
        self._work = 0
        until(self._socket.fileno())

    def _read_head(self) -> Head:
        """Return the next request's head, of which the buffer has the first byte. Switches greenlets."""
        buffer = self._buffer
        if self.state == IDLE:
            self._enter(HEAD)
        checked = 0
        while (end := buffer.find(b"\r\n\r\n", max(0, checked - 3), MAX_HEAD + 4)) < 0:
            error = diagnose(bytes(buffer[: MAX_HEAD + 4]))
            if error is not None:
                raise error
            checked = len(buffer)
            self._receive()
        data = bytes(buffer[: end + 4])
        head = self._head
        if head is None or data != self._head_data:  # a client mostly sends the same head again, and reading one costs 5 us
            head = self._head = parse_head(data[:end], self._base, self._limits.max_body, self._server.is_ours)
            self._head_data = data
            self._route = None
            self._usual_size = -1 if head.length < 0 or head.expects_continue else len(data) + head.length
            self._direct, lane = self._find(head.environ)
            self._take_lane(lane)
        del buffer[: end + 4]
        return head

    def _take_lane(self, name: str) -> None:
        server = self._server
        self._lane = server.admission.lanes[name]
        if self._beyond:
            # A member stays for long; an operator's next question may find room, or not.
            self._beyond = len(server.connections) > self._limits.connections and self._lane is not server.admission.members
            if self._beyond and self._lane is server.admission.clients:
                raise self._no_room()

    def _read_body(self, head: Head) -> bytes:
        buffer = self._buffer
        chunked = head.length < 0
        if (chunked or len(buffer) < head.length) and not self._charge(len(buffer) if chunked else head.length):
            raise no_memory()
        if head.expects_continue and not buffer:
            self._send(_CONTINUE)
        self._enter(BODY)
        self.received = len(buffer)
        if chunked:
            decoder = ChunkedBody(self._limits.max_body)
            while (body := decoder.feed(buffer)) is None:
                self._receive()
                if self.received > self._charged and not self._charge(self.received - self._charged):
                    raise no_memory()
            return body
        while len(buffer) < head.length:
            self._receive()
        if len(buffer) == head.length:
            body = bytes(buffer)
            buffer.clear()
        else:
            body = bytes(buffer[: head.length])
            del buffer[: head.length]
        return body

    # Answering, after PEP 3333.

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        if exc_info is None and self._status:
            raise AssertionError("start_response was called twice")
        self._status = status
        self._headers = headers
        return self._written.append

    def _answer(self, environ: dict[str, Any], head: Head, started: float) -> bool:
        """Run the application and send its answer; return whether the connection may be used again."""
        self._status = ""
        self._written = []
        try:
            body = self._run(environ)
            data, keep_alive = self._render(body, environ["REQUEST_METHOD"], head)
        except Exception:  # noqa: BLE001  # the edge of a request: a bug must cost one answer, not the server
            say_exception("internal error: the application failed")
            raise InternalError("the application failed") from None
        if started:
            size = 0 if environ["REQUEST_METHOD"] == "HEAD" else len(body)
            request_id = next((value for name, value in self._headers if name == "X-Request-Id"), "-")
            self._note(head, int(self._status[:3]), size, started, request_id)
        self._send(data)
        return keep_alive

    def _run(self, environ: dict[str, Any]) -> bytes:
        try:
            result = self._app(environ, self._start_response)
            try:
                body = result[0] if type(result) is list and len(result) == 1 else b"".join(result)
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        finally:
            self._lane.leave()
        return b"".join(self._written) + body if self._written else body

    def _render(self, body: bytes, method: str, head: Head) -> tuple[bytes, bool]:
        """Return the answer's bytes, and whether the connection may be used again.

        Raise ValueError for an answer that a client could read in two ways.
        """
        if not self._status:
            raise ValueError("start_response was not called")
        bodiless = self._status[:3] in ("204", "304")
        keep_alive = self._may_go_on(head)
        lines = [f"HTTP/1.1 {self._status}\r\n"]
        length = None
        for name, value in self._headers:
            lowered = name.lower()
            if lowered == "connection":
                keep_alive = keep_alive and value.lower() != "close"
                continue
            if lowered == "content-length":
                length = value
            lines.append(f"{name}: {value}\r\n")
        if length is None and not bodiless and (body or method != "HEAD"):  # without a body HEAD does not tell its length
            lines.append(f"Content-Length: {len(body)}\r\n")
        elif length != str(len(body)) and method != "HEAD" and not bodiless:
            raise ValueError(f"an answer of {len(body)} bytes has the Content-Length {length}")
        if not keep_alive:
            lines.append("Connection: close\r\n")
        elif not head.minor:
            lines.append("Connection: keep-alive\r\n")
        text = "".join(lines)
        if text.count("\n") != len(lines) or text.count("\r") != len(lines):
            raise ValueError("a header has a line end in it")
        if method == "HEAD" or bodiless:
            body = b""
        return b"%b%b\r\n%b" % (text.encode("latin-1"), self._server.date_line, body), keep_alive

    def _send(self, data: bytes, *, charged: bool = False) -> None:
        """Send all of it; `charged` says that the budget knows of it. Switches greenlets when the client does not keep up.

        A client that does not take even a small answer, when there is no memory to wait for it, is given up.
        """
        self._enter(WRITE)
        sent = self._socket.send(data)
        if sent < len(data):
            budget, size = self._lane.budget, 0 if charged else len(data)
            if not budget.take(size, must=charged or self._lane.always_answers):
                raise _GoneError
            try:
                rest = memoryview(data)
                while sent < len(data):
                    if self.expired:
                        raise _GoneError
                    sent += self._socket.send(rest[sent:])
                    self.progress = self._server.now
            finally:
                budget.give_back(size)

    def _refuse(self, error: GkvError) -> None:
        """Answer a request that could not be read, or that there is no room for. Nothing more is read as a request."""
        answer = self._server.render(error)
        if self._server.watch is not None:
            peer = f"{self._base['REMOTE_ADDR']}:{self._base['REMOTE_PORT']}"
            self._server.watch.refused(peer, answer.status, answer.request_id)
        self.expired = False
        with suppress(_GoneError, OSError):
            self._send(self._assemble(answer, keep_alive=False, minor=1))
            self._linger()

    def _send_stream(self, answer: Rendered, pieces: Iterator[bytes], keep_alive: bool, minor: int) -> bool:
        """Send an answer piece by piece, in chunks (RFC 9112, 7.1); to HTTP/1.0, up to the end of the connection.

        Return whether the connection may be used again. An answer that fails on its way ends without its last chunk, or, where
        there are none, with a reset, so that nobody takes it for whole; also if it is the process that ends.
        """
        keep_alive = keep_alive and minor > 0
        self._streamed = 0
        if not minor:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        try:
            self._send(self._assemble(answer, keep_alive, minor))
            for piece in pieces:
                if piece:  # a chunk of nothing would be the last one
                    self._send(b"%x\r\n%b\r\n" % (len(piece), piece) if minor else piece)
                    self._streamed += len(piece)
                    self._enter(WORK)
        except _GoneError:
            raise
        except Exception as error:  # noqa: BLE001  # the edge of a request, as above
            say(f"request {answer.request_id}: the answer broke off: {error}")
            raise _GoneError from None
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        if minor:
            self._send(b"0\r\n\r\n")
        else:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FAREWELL)
        return keep_alive

    def _assemble(self, answer: Rendered, keep_alive: bool, minor: int) -> bytes:
        """Return an answer's bytes; of one that comes in pieces, the head."""
        body = answer.body
        length = f"Content-Length: {len(body)}"
        if answer.stream is not None:
            length = "Transfer-Encoding: chunked" if minor else "Connection: close"
        about_body = f"Content-Type: {answer.content_type}\r\n{length}\r\n"
        if answer.status in _BODILESS:
            body, about_body = b"", ""
        text = f"{_STATUS_LINES[answer.status]}{about_body}X-Request-Id: {answer.request_id}\r\n"
        if answer.headers:
            text += "".join([f"{name}: {value}\r\n" for name, value in answer.headers.items()])
        if not keep_alive and not (answer.stream is not None and minor == 0):
            text += "Connection: close\r\n"
        elif keep_alive and minor == 0:
            text += "Connection: keep-alive\r\n"
        return b"%b%b\r\n%b" % (text.encode("latin-1"), self._server.date_line, body)

    def _linger(self) -> None:
        """Tell the client that nothing more will come, and wait a little for it to go (RFC 9112, 9.6).

        Closing with unread bytes would reset the connection, and the client might never see the answer.
        """
        self._socket.shutdown(socket.SHUT_WR)
        until = monotonic() + self._limits.linger
        while (left := until - monotonic()) > 0:
            socket.wait_read(self._socket.fileno(), left)
            if not self._socket.recv(_RECEIVE):
                return

    def _close(self) -> None:
        with suppress(OSError):
            self._socket.close()
