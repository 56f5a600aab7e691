"""Answers as bytes: the one place where heads are written, wherever the answer comes from.

A body behind its head costs one call of the kernel instead of two. A large one stays apart, since
to join it would only copy it.
"""

from http import HTTPStatus

from gkv.errors import GkvError
from gkv.net.admission import LARGE
from gkv.net.application import Render, Rendered
from gkv.net.http1 import Head
from gkv.net.wsgi import WsgiAnswer

_BODILESS = (204, 304)
"""Their answers end with the head, and say nothing about a body (RFC 9110, 8.6)."""
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def write(answer: Rendered, keep_alive: bool, minor: int, date: bytes, *, head_only: bool = False) -> bytes:
    """Return an answer to a request of HTTP/1.`minor`: its head, and the body unless that is large
    or comes in pieces.

    `date` is the date line. `head_only` is for an answer to HEAD.
    """
    body = answer.body
    size = len(body)
    if answer.parts:
        size += sum(map(len, answer.parts))
        if size <= LARGE:
            body = b"".join([body, *answer.parts])
    status = answer.status
    about_body = f"Content-Type: {answer.content_type}\r\nContent-Length: {size}\r\n"
    if answer.stream is not None:
        about_body = f"Content-Type: {answer.content_type}\r\n" + ("Transfer-Encoding: chunked\r\n" if minor else "")
    if status in _BODILESS:
        body, about_body = b"", ""
    text = f"{_STATUS_LINES[status]}{about_body}X-Request-Id: {answer.request_id}\r\n"
    if answer.headers:
        text += "".join([f"{name}: {value}\r\n" for name, value in answer.headers.items()])
    if not keep_alive or not minor:
        text += _about_connection(keep_alive)
    return b"%b%b\r\n%b" % (text.encode("latin-1"), date, b"" if head_only or size > LARGE else body)


def write_wsgi(answer: WsgiAnswer, method: str, keep_alive: bool, minor: int, date: bytes) -> tuple[bytes, bytes, bool]:
    """Return an application's answer as `write` does, the large body that goes behind it, and
    whether the connection may be used again.

    Raise ValueError for an answer that a client could read in two ways.
    """
    body = answer.body
    bodiless = answer.status[:3] in ("204", "304")
    lines = [f"HTTP/1.1 {answer.status}\r\n"]
    length = None
    for name, value in answer.headers:
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
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        raise ValueError("a header has a line end in it")
    if method == "HEAD" or bodiless:
        body = b""
    behind, large = (b"", body) if len(body) > LARGE else (body, b"")
    if not keep_alive or not minor:
        text += _about_connection(keep_alive)
    return b"%b%b\r\n%b" % (text.encode("latin-1"), date, behind), large, keep_alive


def _about_connection(keep_alive: bool) -> str:
    """Return the header about the connection, which HTTP/1.1 only needs when it ends."""
    return "Connection: keep-alive\r\n" if keep_alive else "Connection: close\r\n"


class RepeatedRefusal:
    """One error that is the answer to many requests.

    Made anew for each it would cost 6 us, a third of what a refused one takes.
    """

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
        """Return whether `once_more` is an answer to a request with this head, if the connection
        goes on.
        """
        return head.minor == 1 and "HTTP_X_REQUEST_ID" not in head.environ and head.environ["REQUEST_METHOD"] != "HEAD"

    def once_more(self, date: bytes) -> tuple[bytes, str]:
        """Return an answer, and its request's id. `date` is the date line."""
        if date is not self._date:
            self._pieces = write(self._answer, True, 1, date).split(self._answer.request_id.encode())
            self._date = date
        self._count += 1
        request_id = f"{self._id}{self._count & 0xFFFFFFFF:08x}"
        return request_id.encode().join(self._pieces), request_id
