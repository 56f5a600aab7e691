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

Endings = tuple[bytes, bytes]
"""The last lines of a head, the same for all answers of one tick: of one that ends the connection,
and of one that leaves it open.
"""

_BODILESS = (204, 304)
"""Their answers end with the head, and say nothing about a body (RFC 9110, 8.6)."""
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def endings(date: bytes, idle: float) -> Endings:
    """Return how heads end that are sent at this date, where another request is waited for `idle` s.

    A client that knows how long sends nothing into a connection that is about to be closed. Whole
    seconds have a name, in Keep-Alive (RFC 2068, 19.7.1.1); less has none.
    """
    hint = b"Keep-Alive: timeout=%d\r\n" % idle if idle >= 1 else b""
    date_line = b"Date: %b\r\n" % date
    return b"Connection: close\r\n" + date_line, b"Connection: keep-alive\r\n" + hint + date_line


def write(answer: Rendered, keep_alive: bool, minor: int, last: Endings, *, head_only: bool = False) -> bytes:
    """Return an answer to a request of HTTP/1.`minor`: its head, and the body unless that is large
    or comes in pieces.

    `head_only` is for an answer to HEAD.
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
    text = f"{_STATUS_LINES[status]}{about_body}X-Request-Id: {answer.request_id}\r\nCache-Control: {answer.caching}\r\n"
    if answer.headers:
        text += "".join([f"{name}: {value}\r\n" for name, value in answer.headers.items()])
    return b"%b%b\r\n%b" % (text.encode("latin-1"), last[keep_alive], b"" if head_only or size > LARGE else body)


def write_wsgi(answer: WsgiAnswer, method: str, keep_alive: bool, last: Endings) -> tuple[bytes, bytes, bool]:
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
    return b"%b%b\r\n%b" % (text.encode("latin-1"), last[keep_alive], behind), large, keep_alive


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
        self._last: Endings | None = None
        self.size = len(self._answer.body)

    def fits(self, head: Head) -> bool:
        """Return whether `once_more` is an answer to a request with this head, if the connection
        goes on.
        """
        environ = head.environ
        if "HTTP_X_REQUEST_ID" in environ or "HTTP_ORIGIN" in environ:  # which the answer may name
            return False
        return head.minor == 1 and environ["REQUEST_METHOD"] != "HEAD"

    def once_more(self, last: Endings) -> tuple[bytes, str]:
        """Return an answer, and its request's id."""
        if last is not self._last:
            self._pieces = write(self._answer, True, 1, last).split(self._answer.request_id.encode())
            self._last = last
        self._count += 1
        request_id = f"{self._id}{self._count & 0xFFFFFFFF:08x}"
        return request_id.encode().join(self._pieces), request_id
