"""A server on a real socket that does with each request what its script says next: answers, breaks off, drips or hangs."""

import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

WITHIN = 20.0


@dataclass
class Request:
    """What a client has sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Act = Callable[[socket.socket, Request], bool]
"""Does something about a request; returns whether the connection goes on."""


def answer(status: int, body: Any = b"", *, problem: str = "", retryable: bool = False, **headers: str) -> Act:
    """Answer; `problem` is the code of one."""
    kind = "application/json"
    if problem:
        kind = "application/problem+json"
        body = {"type": f"urn:gkv:problem:{problem}", "title": problem, "detail": "as scripted", "retryable": retryable}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Type": kind, "Content-Length": str(len(data))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"HTTP/1.1 {status} Scripted\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    def act(connection: socket.socket, _: Request) -> bool:
        connection.sendall(head.encode() + b"\r\n" + data)
        return True

    return act


def failed(status: int, code: str, *keys: str, retryable: bool = True, **more: Any) -> Act:
    """Answer that some keys have failed."""
    rows = [{"key": key, "code": code, "retryable": retryable} for key in keys]
    return answer(status, {**more, "failedKey": rows, "complete": False})


def drop(connection: socket.socket, _: Request) -> bool:
    """Close without a word."""
    return False


def break_off(connection: socket.socket, _: Request) -> bool:
    """Close within a body."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    return False


def hang(connection: socket.socket, _: Request) -> bool:
    """Say nothing until the client has gone."""
    with suppress(OSError):
        connection.recv(1)
    return False


def drip(connection: socket.socket, _: Request) -> bool:
    """Send a head without end, in bytes that are 20 ms apart, until the client has gone."""
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        connection.settimeout(0.02)
        while True:
            connection.sendall(b"x")
            with suppress(TimeoutError):
                if not connection.recv(1):
                    break
    return False


class Scripted:
    """The server. It serves one connection after the other; beyond its script it answers 418."""

    def __init__(self, *acts: Act, context: ssl.SSLContext | None = None) -> None:
        self._acts = list(acts)
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: socket.socket | None = None
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[Request] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._open is not None:
            with suppress(OSError):
                self._open.shutdown(socket.SHUT_RDWR)
        self._thread.join(WITHIN)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            self._open = plain
            self.connections += 1
            with plain, suppress(OSError):
                plain.settimeout(WITHIN)
                if self._context is None:
                    self._serve(plain)
                else:
                    with self._context.wrap_socket(plain, server_side=True) as secure:
                        self._serve(secure)

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while request := self._read(stream):
                self.requests.append(request)
                act = self._acts.pop(0) if self._acts else answer(418)
                if not act(connection, request):
                    return

    @staticmethod
    def _read(stream: Any) -> Request | None:
        first = stream.readline()
        if not first:
            return None
        method, target, _ = first.decode().split(" ")
        headers: dict[str, str] = {}
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return Request(method, target, headers, stream.read(int(headers.get("content-length", 0))))
