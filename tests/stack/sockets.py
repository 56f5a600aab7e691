"""Connections between hosts: bytes that come late and in their order, wait while a way is cut, and end with a process.

What a sender, a caller or a client needs of a socket is here, and a server that gives each request to an application. A way
between two machines has a direction; what is sent into one that is cut is not lost: it comes when the way is whole again, as
TCP sends it anew, unless the connection is broken.
"""

import io
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from gevent import get_hub, getcurrent, spawn
from gevent.hub import Waiter

from tests.stack.loop import Host, Loop

_LOST = 0.01
"""The part of what is sent that comes late, as its first packet was lost."""
_AGAIN = (0.2, 0.4)
"""Seconds until TCP sends a packet once more."""
_SLOW = 0.02


class Socket:
    """One end of a connection."""

    def __init__(self, net: "Network", host: Host) -> None:
        self._net = net
        self.host = host
        self.peer: Socket | None = None
        self.buffer = bytearray()
        self.over = False
        """Whether the other end has sent all that it will."""
        self.reset = False
        self.closed = False
        self.timeout: float | None = None
        self.arrives = 0.0
        """When the last that was sent to this end comes, at the earliest."""
        self.held: list[tuple[Callable[..., None], bytes]] = []
        """What the cut of a way keeps from coming."""
        self.held_since = 0.0
        self._reader: Waiter | None = None

    # -- what the code under test calls

    def send(self, data: bytes) -> int:
        if self.reset or self.closed:
            raise BrokenPipeError("the connection is broken")
        self._net.carry(self, Socket.take, bytes(data))
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.send(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self._is_ready():
            if self.timeout == 0.0:
                raise BlockingIOError
            self._wait()
        if self.reset:
            raise ConnectionResetError("the connection was reset")
        found = bytes(self.buffer[:size])
        if not flags & socket.MSG_PEEK:
            del self.buffer[:size]
        return found

    def shutdown(self, _how: int) -> None:
        """End both directions, so that who reads here goes on."""
        self.over = True
        self._net.carry(self, Socket.finish, b"")
        self._wake()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._net.carry(self, Socket.finish, b"")
            self._net.forget(self)

    def settimeout(self, timeout: float | None) -> None:
        self.timeout = timeout

    def setsockopt(self, *_: object) -> None:
        """Do nothing: there is nothing to tune."""

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_Raw(self))

    # -- what comes; called in the host

    def take(self, data: bytes) -> None:
        """Take in what has come."""
        if not self.closed:
            self.buffer += data
            self._wake()

    def finish(self, _data: bytes) -> None:
        """Note that no more comes."""
        self.over = True
        self._wake()

    def break_off(self, _data: bytes = b"") -> None:
        """Note that the connection is broken."""
        self.reset = True
        self._wake()

    def _is_ready(self) -> bool:
        return bool(self.buffer) or self.over or self.reset or self.closed

    def _wait(self) -> None:
        self._reader = waiter = Waiter()
        timer = None
        if self.timeout is not None:
            timer = get_hub().loop.timer(self.timeout)
            timer.start(waiter.throw, TimeoutError("timed out"))
        try:
            waiter.get()
        finally:
            self._reader = None
            if timer is not None:
                timer.stop()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            get_hub().loop.run_callback(reader.switch, None)


class _Raw(io.RawIOBase):
    def __init__(self, sock: Socket) -> None:
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._sock.recv(len(buffer))
        buffer[: len(found)] = found
        return len(found)


class Network:
    """All machines and their ways to each other."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.listeners: dict[int, tuple[Host, Callable[[Socket], None]]] = {}
        self.cut: set[tuple[str, str]] = set()
        """Ways from one machine to another on which nothing comes."""
        self.slow: set[str] = set()
        """Machines to which all comes late."""
        self._open: dict[Socket, None] = {}

    def connect(self, address: tuple[str, int], timeout: float | None = None, *_: object, **__: object) -> Socket:
        """Return a new connection of the host that runs. Raise OSError. Switches greenlets."""
        loop, host = self._loop, self._loop.host
        found = self.listeners.get(address[1])
        machine = machine_at(address[1])
        if self._is_cut(host.name, machine):
            _sleep(1.0 if timeout is None else timeout)
            raise TimeoutError("timed out")
        _sleep(self._delay(machine))
        found = self.listeners.get(address[1])
        if found is None or found[0].dead:
            raise ConnectionRefusedError(111, "Connection refused")
        there, serve = found
        mine, theirs = Socket(self, host), Socket(self, there)
        mine.peer, theirs.peer = theirs, mine
        mine.timeout = timeout
        self._open[mine] = self._open[theirs] = None
        loop.post(there, 0.0, spawn, serve, theirs)
        return mine

    def _is_cut(self, one: str, other: str) -> bool:
        one = one.partition("#")[0]
        return (one, other) in self.cut or (other, one) in self.cut

    def _delay(self, machine: str) -> float:
        chance = self._loop.chance
        delay = chance.uniform(0.0001, 0.002)
        if machine in self.slow:
            delay += chance.uniform(0.0, _SLOW)
        if chance.random() < _LOST:
            delay += chance.uniform(*_AGAIN)
        return delay

    def carry(self, sender: Socket, how: Callable[..., None], data: bytes) -> None:
        """Bring something to the other end, behind all that was sent before."""
        to = sender.peer
        if to is None or to.host.dead:
            return
        if to.held or (_machine(sender), _machine(to)) in self.cut:
            if not to.held:
                to.held_since = self._loop.now_true
            to.held.append((how, data))
            return
        self._bring(to, how, data)

    def _bring(self, to: Socket, how: Callable[..., None], data: bytes) -> None:
        now = self._loop.now_true
        to.arrives = max(to.arrives + 1e-9, now + self._delay(_machine(to)))
        self._loop.post(to.host, to.arrives - now, how, to, data)

    def heal(self) -> None:
        """Make all ways whole again. What they have kept comes when it is sent anew: the time between two attempts doubles, so
        that may take as long again as the way was cut (RFC 6298).
        """
        self.cut.clear()
        for sock in [*self._open]:
            if sock.held:
                late = self._loop.chance.uniform(0.0, self._loop.now_true - sock.held_since)
                self._loop.post(self._loop.outside, late, self._release, sock)

    def _release(self, sock: Socket) -> None:
        """Bring what was kept, unless the way is cut again."""
        if sock.peer is not None and (_machine(sock.peer), _machine(sock)) not in self.cut:
            held, sock.held = sock.held, []
            for how, data in held:
                self._bring(sock, how, data)

    def break_all(self, machine: str) -> None:
        """Break all connections of a machine. What was on its way may come or not, and whoever reads is told at once."""
        for sock in self._of(machine):
            for end in (sock, sock.peer):
                if end is not None and not end.host.dead:
                    end.held.clear()
                    self._loop.post(end.host, 0.0, end.break_off)

    def end_of(self, host: Host) -> None:
        """End all connections of a host that is dead, as its kernel does."""
        self.listeners = {port: found for port, found in self.listeners.items() if found[0] is not host}
        for sock in [sock for sock in self._open if sock.host is host]:
            self.carry(sock, Socket.finish, b"")
            self.forget(sock)

    def _of(self, machine: str) -> Iterator[Socket]:
        yield from [sock for sock in self._open if _machine(sock) == machine]

    def forget(self, sock: Socket) -> None:
        """Let go of an end that is closed."""
        self._open.pop(sock, None)


def _machine(sock: Socket) -> str:
    return sock.host.name.partition("#")[0]


PORTS = {"proxy": 8080, **{f"n{number}": 9000 + number for number in range(8)}}


def machine_at(port: int) -> str:
    """Return the machine whose process listens at a port."""
    return next(name for name, one in PORTS.items() if one == port)


def _sleep(seconds: float) -> None:
    hub = get_hub()
    assert getcurrent() is not hub
    with hub.loop.timer(seconds) as timer:
        hub.wait(timer)


# -- the server


def serving(app: Callable[[dict[str, Any], bytes], tuple[str, list[tuple[str, str]], bytes]]) -> Callable[[Socket], None]:
    """Return what answers the requests of one connection by an application, one after the other."""

    def serve(sock: Socket) -> None:
        buffer = bytearray()
        try:
            while True:
                while (end := buffer.find(b"\r\n\r\n")) < 0:
                    chunk = sock.recv(1 << 16)
                    if not chunk:
                        return
                    buffer += chunk
                environ, length = _environ(bytes(buffer[:end]))
                while len(buffer) < end + 4 + length:
                    chunk = sock.recv(1 << 16)
                    if not chunk:
                        return
                    buffer += chunk
                body = bytes(buffer[end + 4 : end + 4 + length])
                del buffer[: end + 4 + length]
                status, headers, answer = app(environ, body)
                lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
                sock.send("\r\n".join([*lines, "\r\n"]).encode("latin-1") + answer)
        except OSError:
            pass
        finally:
            sock.close()

    return serve


def _environ(head: bytes) -> tuple[dict[str, Any], int]:
    request, *lines = head.decode("latin-1").split("\r\n")
    method, target, protocol = request.split(" ")
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": protocol,
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
    }
    length = 0
    for line in lines:
        name, _, value = line.partition(":")
        variable = name.upper().replace("-", "_")
        if variable == "CONTENT_LENGTH":
            length = int(value)
            environ["CONTENT_LENGTH"] = value.strip()
        elif variable == "CONTENT_TYPE":
            environ["CONTENT_TYPE"] = value.strip()
        else:
            environ[f"HTTP_{variable}"] = value.strip()
    return environ, length
