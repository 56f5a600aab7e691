"""A client that sends bytes, not requests, and reads answers strictly, on a real socket, in a greenlet of this process."""

import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gevent
from gevent import socket


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class GoneError(Exception):
    """The server closed the connection in mid-answer, or reset it."""


class Client:
    """One connection."""

    def __init__(self, port: int, context: Any = None) -> None:
        """Connect; over TLS if there is a context of gevent's for it."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self._buffer = b""

    def send(self, *pieces: bytes) -> None:
        """Send all pieces, giving the server time to read each of them by itself."""
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered and closed in between
            for number, piece in enumerate(pieces):
                if number:
                    gevent.idle()
                self.socket.sendall(piece)

    def _more(self) -> bool:
        try:
            chunk = self.socket.recv(65_536)
        except ConnectionResetError:
            return False
        self._buffer += chunk
        return bool(chunk)

    def read(self, *, head_only: bool = False) -> Answer | None:
        """Read one answer, strictly; return None at the end of the connection."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                if self._buffer:
                    raise GoneError
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, reason = first.split(" ", 2)
        assert (version, bool(reason)) == ("HTTP/1.1", True)
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), head
        length = 0 if head_only else int(headers.get("content-length", 0))
        while len(self._buffer) < length:
            if not self._more():
                raise GoneError
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Answer(int(status), headers, body)

    def read_chunks(self) -> tuple[Answer, list[bytes]]:
        """Read the head of an answer and its chunks, strictly; raise GoneError when the last one does not come."""
        answer = self.read()
        assert answer is not None
        assert answer.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in answer.headers
        chunks = []
        while True:
            size = int(self._until(b"\r\n"), 16)
            chunk = self._until(b"", size + 2)
            assert chunk[size:] == b"\r\n"
            if size == 0:
                return answer, chunks
            chunks.append(chunk[:size])

    def _until(self, end: bytes, size: int = 0) -> bytes:
        """Return what comes up to some bytes, or so many of them."""
        while end not in self._buffer or len(self._buffer) < size:
            if not self._more():
                raise GoneError
        found, _, self._buffer = self._buffer.partition(end) if end else (self._buffer[:size], b"", self._buffer[size:])
        return found

    def good(self) -> Answer:
        """Read one answer, which must be there and 200."""
        answer = self.read()
        assert answer is not None
        assert answer.status == 200, answer
        return answer

    def rest(self) -> list[Answer]:
        """Read all answers up to the end of the connection."""
        answers = []
        while (answer := self.read()) is not None:
            answers.append(answer)
        return answers

    def reset(self) -> None:
        """Close without a farewell."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
