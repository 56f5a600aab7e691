"""One client's connection: gevent gives it a greenlet of its own, and it reads requests and answers
them until its end.

gevent's handler lets requests through that can be read in two ways, writes head and body apart, and
costs five times as much. This one reads strictly (`gkv.net.http1`), has a deadline for everything
that it waits for (`gkv.net.waits`), gives way after some work (`gkv.net.link`), reads a body whole
before the application sees the request, and sends an answer in one piece.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from gevent import sleep

from gkv.addresses import plain, shown
from gkv.errors import GkvError, InternalError, Unavailable
from gkv.log import say_exception
from gkv.net import answers, wsgi
from gkv.net.admission import CROWD, LARGE
from gkv.net.answers import RepeatedRefusal
from gkv.net.application import Rendered
from gkv.net.handshake import shake_hands
from gkv.net.http1 import RAW_PATH, Head, parse_head
from gkv.net.known_head import KnownHead
from gkv.net.link import ClientGone, Link
from gkv.net.reading import read_body, read_head, skip_empty_line
from gkv.net.serving import Serving
from gkv.net.streaming import Stream
from gkv.net.tls import CERTIFICATE
from gkv.net.waits import State

_IDLE, _WORK = State.IDLE, State.WORK  # which saves 0.1 us each time
_HEAD = b"HEAD "
"""How a request begins whose answer has no body (RFC 9110, 9.3.2)."""
_GLANCE = 0.1
"""Seconds at the most for the first bytes of a request that is refused unread, to see if it is one."""


class Connection:
    """One client's connection: reads requests one after the other and answers them in order.

    More than 250 lines, as the way of a request is written out: each call saved is 0.1 us of some 40.
    """

    __slots__ = (
        "_base", "_beyond", "_charged", "_direct", "_ended", "_gate", "_known", "_link", "_route", "_serving", "_to_head",
    )  # fmt: skip

    def __init__(self, sock: Any, address: Any, server: Serving, _rfile: Any = None) -> None:
        self._serving = server
        self._link = Link(sock, server)
        self._known = KnownHead(server.limits.max_body)
        self._direct: Callable[[Mapping[str, Any], bytes], Rendered] | None = None
        """What answers requests with the head that is known; None for WSGI's way."""
        self._gate = server.admission.clients
        self._beyond = False
        """Whether there was no room for this connection, so that only members and operators are
        served in it."""
        self._charged = 0
        """Bytes that the gate's budget has reserved for the request under way."""
        self._base = server.base_environ | {"REMOTE_ADDR": plain(address[0]), "REMOTE_PORT": str(address[1])}
        self._ended = 0.0
        """When the last request had its answer, on the clock of `time.monotonic`."""
        self._to_head = False
        """Whether the request under way is a HEAD, be it one that cannot be read any further."""
        self._route: Any = None
        """What the server's observer calls this head's route, when it was asked."""

    def handle(self) -> None:
        """Serve the connection to its end; gevent calls this in a greenlet of its own."""
        serving, link = self._serving, self._link
        connections, limits = serving.connections, serving.limits
        self._beyond = len(connections) >= limits.connections
        if self._beyond and len(connections) >= limits.connections + limits.spare:
            self._turn_away()
            return
        connections.add(self)
        serving.accepted += 1
        try:
            if serving.tls is not None:
                self._base[CERTIFICATE] = shake_hands(link, serving, self, serving.tls)
            while self._serve_one():
                if self._charged:
                    self._discharge()
                link.end_turn(self._ended)
            link.say_goodbye()
        except GkvError as error:
            self._refuse(error)
        except (ClientGone, OSError):
            pass
        finally:
            self._discharge()
            connections.discard(self)
            link.close()

    @property
    def expired(self) -> bool:
        return self._link.expired

    def overdue(self, now: float) -> bool:
        """Return whether the client has kept this connection waiting for too long."""
        wait, limits = self._link.wait, self._serving.limits
        late = wait.overdue(now, limits, limits.linger if self._beyond else limits.idle)
        return late or (wait.state is State.HANDSHAKE and self._serving.stopping)

    def expire(self) -> None:
        """End the wait that this connection is in."""
        self._link.expire()

    def end_if_silent(self, now: float) -> None:
        """While the server drains: end the connection when it has had no request for a while, and
        none is here.
        """
        self._link.end_if_silent(now)

    def forget_head(self) -> None:
        """Read the next head anew, even if it is the same again."""
        self._known.forget()

    def _turn_away(self) -> None:
        """Refuse a connection for which there is no room at all; without a word when many are being
        refused already.
        """
        serving, error = self._serving, self._no_room()
        # With TLS it would have to shake hands first, for which there is no room.
        try:
            if serving.tls is None and serving.turning_away < serving.limits.spare:
                serving.turning_away += 1
                try:
                    self._to_head = self._link.first_bytes(_GLANCE).startswith(_HEAD)
                    self._refuse(error)
                finally:
                    serving.turning_away -= 1
        finally:
            self._link.close()

    def _no_room(self) -> GkvError:
        """Count a connection for which there is no room, and return the error that says so."""
        self._serving.admission.refused_connections += 1
        return Unavailable(f"{self._serving.limits.connections} connections are open already", retry_after=1)

    def _charge(self, size: int, *, must: bool = False) -> bool:
        """Reserve so many bytes of memory for this request, if there is room."""
        fits = self._gate.budget.reserve(size, must=must)
        if fits:
            self._charged += size
        return fits

    def _discharge(self) -> None:
        self._gate.budget.release(self._charged)
        self._charged = 0

    def _enter_lane(self, name: str) -> None:
        serving = self._serving
        self._gate = serving.admission.gates[name]
        if self._beyond:
            # A member stays for long; an operator's next question may find room, or not.
            members = serving.admission.of_members(self._gate)
            self._beyond = len(serving.connections) > serving.limits.connections and not members
            if self._beyond and self._gate is serving.admission.clients:
                raise self._no_room()

    # Reading.

    def _serve_one(self) -> bool:
        """Read and answer one request; return whether another may follow."""
        link = self._link
        if not link.buffer:
            try:
                chunk = link.receive()
            except ClientGone:
                return False
            known = self._known
            start = known.recognise(chunk)
            if start and len(chunk) - start == known.head.length:  # type: ignore[union-attr]
                # As nearly always: the same head again, and its body whole. Taken apart as below it
                # costs 2 us more.
                return self._reply(known.head, chunk[start:])  # type: ignore[arg-type]
            link.buffer += chunk
        try:
            skip_empty_line(link)
        except ClientGone:
            return False
        head = self._read_head()
        body = read_body(link, head, self._gate, self._charge, self._serving.limits.max_body) if head.length else b""
        if not self._known.known:  # forgotten while the body came
            # The gate stays: it has lent what this request holds.
            self._direct, _ = self._serving.find(head.environ)
        return self._reply(head, body)

    def _read_head(self) -> Head:
        """Return the next request's head, of which the buffer has the first byte. Switches
        greenlets.
        """
        link, known, serving = self._link, self._known, self._serving
        try:
            data = read_head(link)
        except GkvError:
            self._to_head = link.buffer.startswith(_HEAD)
            raise
        self._to_head = data.startswith(_HEAD)
        if known.recognise(data) == len(data) and known.head is not None:
            return known.head
        head = parse_head(data[:-4], self._base, serving.limits.max_body, serving.is_ours)
        known.learn(head, data)
        self._route = None
        self._direct, lane = serving.find(head.environ)
        self._enter_lane(lane)
        return head

    # Answering.

    @property
    def _last_lines(self) -> answers.Endings:
        return self._serving.endings_beyond if self._beyond else self._serving.endings

    def _reply(self, head: Head, body: bytes) -> bool:
        """Have a request answered; return whether another may follow."""
        link, serving, gate = self._link, self._serving, self._gate
        link.wait.state = _WORK
        started = monotonic()
        turn = serving.loop.iteration
        if turn != serving.turn:
            serving.turn, serving.turn_began = turn, started
        if not gate.enter():
            return self._shed(serving.too_many, head, started)
        if self._direct is None:
            return self._go_on(self._run_application(head, body, started))
        try:
            if gate.inflight > CROWD:
                # Those who will be refused go first: they wait for less than this one's work.
                sleep(0)
            answer = self._direct(head.environ, body)
        finally:
            gate.leave()
        size = len(answer.body)
        if answer.parts:
            size += sum(map(len, answer.parts))
        large = size > LARGE
        if large and not self._charge(size, must=gate.always_answers):
            return self._shed(serving.too_much, head, started)
        keep_alive = self._may_go_on(head)
        if answer.stream is not None:
            keep_alive = keep_alive and head.minor > 0
            stream = Stream(link, gate, answer.stream, chunked=head.minor > 0)
            try:
                stream.send(answers.write(answer, keep_alive, head.minor, self._last_lines), answer.request_id)
            finally:
                self._note(head, answer.status, stream.size, started, answer.request_id)
            return self._go_on(keep_alive)
        self._note(head, answer.status, size, started, answer.request_id)
        data = answers.write(answer, keep_alive, head.minor, self._last_lines)
        if large:
            link.send(data, gate, [answer.body, *answer.parts], charged=True)
        else:
            link.send(data, gate)
        return self._go_on(keep_alive)

    def _run_application(self, head: Head, body: bytes, started: float) -> bool:
        """Have a request answered by way of WSGI; return whether the connection may be used
        again.
        """
        method = head.environ["REQUEST_METHOD"]
        try:
            try:
                answer = wsgi.run(self._serving.application, wsgi.environ_of(head, body))
            finally:
                self._gate.leave()
            data, large, keep_alive = answers.write_wsgi(answer, method, self._may_go_on(head), self._last_lines)
        except Exception:  # noqa: BLE001  # the edge of a request: a bug must cost one answer, not the server
            say_exception("internal error: the application failed")
            raise InternalError("the application failed") from None
        size = 0 if method == "HEAD" else len(answer.body)
        self._note(head, int(answer.status[:3]), size, started, answer.request_id)
        self._link.send(data, self._gate, [large] if large else ())
        return keep_alive

    def _shed(self, refusal: RepeatedRefusal, head: Head, started: float) -> bool:
        """Refuse a request that was read whole; return whether another may follow."""
        serving, keep_alive = self._serving, self._may_go_on(head)
        if refusal.fits(head) and keep_alive:
            data, request_id = refusal.once_more(self._last_lines)
            size = refusal.size
        else:
            answer = serving.render(refusal.error, head.environ)
            request_id, size = answer.request_id, 0 if self._to_head else len(answer.body)
            data = answers.write(answer, keep_alive, head.minor, self._last_lines, head_only=self._to_head)
        self._note(head, refusal.error.status, size, started, request_id)
        self._link.send(data, self._gate)
        return self._go_on(keep_alive)

    def _refuse(self, error: GkvError) -> None:
        """Answer a request that could not be read, or that there is no room for. Nothing more is
        read as a request.
        """
        serving, link = self._serving, self._link
        answer = serving.render(error)
        if serving.observer is not None:
            peer = f"{shown(self._base['REMOTE_ADDR'])}:{self._base['REMOTE_PORT']}"
            serving.observer.refused(peer, answer.status, answer.request_id)
        link.expired = False
        try:
            link.send(answers.write(answer, False, 1, self._last_lines, head_only=self._to_head), self._gate)
            link.linger()
        except (ClientGone, OSError):
            pass

    def _note(self, head: Head, status: int, size: int, started: float, request_id: str) -> None:
        """Note that a request has its answer, for its connection's turn and for the server's
        observer.
        """
        self._ended = now = monotonic()
        observer = self._serving.observer
        if observer is None:
            return
        environ = head.environ
        if self._route is None:
            self._route = observer.route(environ["REQUEST_METHOD"], environ[RAW_PATH])
        observer.answered(self._route, environ, status, size, now - started, request_id)

    def _may_go_on(self, head: Head) -> bool:
        """Return whether the answer to a request with this head may leave the connection open."""
        return head.keep_alive and (not self._serving.stopping or self._link.has_next())

    def _go_on(self, keep_alive: bool) -> bool:
        if keep_alive:
            self._link.enter(_IDLE)
        else:
            self._link.linger()
        return keep_alive
