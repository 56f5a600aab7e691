"""HTTP/1.0 and 1.1 as a server reads it, strictly: RFC 9110 and 9112 without what they tolerate from careless senders.

Two readings of one request are how requests are smuggled past a proxy, so whatever could be read in two ways is refused, and
the connection with it. Pure functions and small state machines over bytes: no sockets, nothing waits.

`diagnose` is the definition of a well-formed head, and finds the first thing wrong in any part of one; so the verdict does not
depend on how the bytes were cut into packets. `parse_head` takes a short cut through one regular expression.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from gkv.addresses import literal, shown
from gkv.errors import (
    BadFraming,
    ExpectationFailed,
    GkvError,
    HeadTooLarge,
    Misdirected,
    NotSupported,
    TooLarge,
    UriTooLong,
    WrongVersion,
)

MAX_TARGET = 8_192
MAX_LINE = 8_192
MAX_HEADERS = 64
MAX_HEAD = 16_384
MAX_METHOD = 32
MAX_CHUNK_LINE = 1_024
MAX_CHUNK_EXTRA = 16_384
"""Bytes of chunk extensions in one body, and of its trailers."""

_CHUNKS_AT_ONCE = 512
"""Chunks that are read in one step, of 2 ms."""

_METHOD = rb"[A-Z][A-Z-]{0,%d}" % (MAX_METHOD - 1)
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"[\t -~\x80-\xff]*"
# Bytes from 0x80 up are not in RFC 3986, but curl sends them for a query typed as it is; they are read as UTF-8 later.
_TARGET = rb"[!\"$-~\x80-\xff]+"  # no '#': a fragment is never sent
_request_line = re.compile(rb"(%b) (%b) HTTP/(\d)\.(\d)" % (_METHOD, _TARGET)).fullmatch
_header_line = re.compile(rb"(%b):(%b)" % (_TOKEN, _VALUE)).fullmatch
_whole_head = re.compile(rb"(%b) (%b) HTTP/1\.([01])((?:\r\n%b:%b)*)" % (_METHOD, _TARGET, _TOKEN, _VALUE)).fullmatch
_headers = re.compile(rb"\r\n([^:]+):([^\r]*)").findall
_method_start = re.compile(rb"%b(?: |\Z)" % _METHOD).match
_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_digits = re.compile(r"[0-9]{1,19}").fullmatch
_host = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{1,5}))?").fullmatch
_absolute = re.compile(rb"([Hh][Tt][Tt][Pp][Ss]?)://([^/?]+)(.*)", re.DOTALL).fullmatch
# No blanks after the size, which some readers take and others do not; senders have no reason for them.
_chunk_line = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;%b)?" % _VALUE).fullmatch


RAW_PATH = "gkv.path"
"""Of the WSGI environment: the path as it was sent, with its escapes. PATH_INFO does not tell "%2525" of "%25" once decoded."""


@dataclass(slots=True)
class Head:
    """What a head says. `environ` is the WSGI environment but for the body."""

    environ: dict[str, Any]
    minor: int
    """0 for HTTP/1.0, 1 for HTTP/1.1."""
    length: int
    """Bytes of the body, -1 when it is chunked."""
    keep_alive: bool
    expects_continue: bool


def diagnose(data: bytes) -> GkvError | None:
    """Return the first thing that is wrong in the beginning of a head, whole or not, or None. O(size).

    The order is that of the bytes, so of two parts of one head the longer one never has an earlier verdict.
    """
    start = 0
    lines = data.split(b"\r\n")
    for number, line in enumerate(lines):
        whole = number + 1 < len(lines)
        error = _diagnose_line(line, number, start, whole)
        if error is not None:
            return error
        start += len(line) + 2
    return None


def _diagnose_line(line: bytes, number: int, start: int, whole: bool) -> GkvError | None:
    if not whole:
        line = line.removesuffix(b"\r")  # it may be half of a line end, and then counts for nothing
    if number > MAX_HEADERS and line:
        return HeadTooLarge(f"a head has at most {MAX_HEADERS} header lines")
    if number == 0 and line and not _method_start(line):
        return BadFraming("a request starts with a method in capital letters")
    limit = MAX_LINE if number else MAX_TARGET + MAX_METHOD + len(" HTTP/1.1 ")
    fault = _first_fault(line, max(0, min(limit, MAX_HEAD - start)))
    if fault == TOO_LONG:
        if number == 0:
            return UriTooLong(f"a request target has at most {MAX_TARGET} bytes")
        return HeadTooLarge(f"a header line has at most {MAX_LINE} bytes, a head {MAX_HEAD}")
    if fault == CONTROL:
        return BadFraming("a line ends with CR LF, and has no other control characters")
    if whole:
        return _diagnose_request_line(line) if number == 0 else _diagnose_header_line(line)
    return None


NO_FAULT, TOO_LONG, CONTROL = range(3)


def _first_fault(line: bytes, limit: int) -> int:
    """Return what comes first in a line: a byte beyond the limit, or a control character."""
    control = _control(line)
    if (control.start() if control else len(line)) > limit:
        return TOO_LONG
    return CONTROL if control else NO_FAULT


def _diagnose_request_line(line: bytes) -> GkvError | None:
    match = _request_line(line)
    if match is None:
        return BadFraming("the first line is not METHOD TARGET HTTP/1.1")
    if len(match[2]) > MAX_TARGET:
        return UriTooLong(f"a request target has at most {MAX_TARGET} bytes")
    if match[3] != b"1" or match[4] not in (b"0", b"1"):
        return WrongVersion("this server speaks HTTP/1.0 and HTTP/1.1")
    return None


def _diagnose_header_line(line: bytes) -> GkvError | None:
    return None if _header_line(line) else BadFraming("a header line is NAME:VALUE, on one line")


_MAX_NAMES = 1_024
_names: dict[bytes, str] = {}


def _environ_name(name: bytes) -> str:
    """Return the WSGI name of a header; "" for one with an underscore, which would take the place of one with a dash."""
    known = _names.get(name)
    if known is None:
        text = name.decode("ascii").upper()
        known = "" if "_" in text else text.replace("-", "_")
        if known and known not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            known = f"HTTP_{known}"
        if len(_names) < _MAX_NAMES:
            _names[name] = known
    return known


_ONLY_ONCE = ("HTTP_HOST", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "CONTENT_TYPE")
_NOT_IN_TRAILERS = (*_ONLY_ONCE, "HTTP_AUTHORIZATION")


def parse_head(data: bytes, base: dict[str, Any], max_body: int, is_ours: Callable[[str], bool]) -> Head:
    """Read a whole head, without the empty line at its end.

    `base` has the WSGI variables that are the same for all requests of a connection; `is_ours` tells whether a Host header
    names this server. Raises BadFraming and the other errors of this module, after which nothing more may be read from the
    connection.
    """
    match = _whole_head(data)
    if match is None or len(data) > MAX_TARGET:
        error = diagnose(data + b"\r\n")
        if error is not None or match is None:
            raise error or BadFraming("the head is not well-formed")
    method, target, minor, lines = match.groups()
    environ = base.copy()
    headers = _headers(lines)
    if len(headers) > MAX_HEADERS:  # before any word about one of them, as when they come one by one
        raise HeadTooLarge(f"a head has at most {MAX_HEADERS} header lines")
    for name, value in headers:
        key = _environ_name(name)
        text = value.decode("latin-1").strip(" \t")
        if key in environ and key:
            if key in _ONLY_ONCE:
                raise BadFraming(f"the header {name.decode()} stands twice")
            text = f"{environ[key]}, {text}"
        environ[key] = text
    environ.pop("", None)

    newer = minor == b"1"
    environ["REQUEST_METHOD"] = method.decode()
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if newer else "HTTP/1.0"
    _read_host(environ, newer, is_ours)
    _read_target(environ, target, is_ours)
    length = _read_length(environ, newer, max_body)
    connection = environ.get("HTTP_CONNECTION")
    if connection is None:
        keep_alive = newer
    else:
        options = [option.strip() for option in connection.lower().split(",")]
        keep_alive = "close" not in options and (newer or "keep-alive" in options)
    expects_continue = False
    if newer and "HTTP_EXPECT" in environ:
        # A list as any other: empty members count for nothing, and none is no expectation (RFC 9110, 5.6.1 and 10.1.1).
        expected = {one.strip(" \t").lower() for one in environ["HTTP_EXPECT"].split(",")} - {""}
        if expected - {"100-continue"}:
            raise ExpectationFailed("Expect may be 100-continue")
        expects_continue = bool(expected) and length != 0
    return Head(environ, int(newer), length, keep_alive, expects_continue)


def _read_host(environ: dict[str, Any], newer: bool, is_ours: Callable[[str], bool]) -> None:
    host = environ.get("HTTP_HOST")
    if host is None:
        if newer:
            raise BadFraming("a request says its Host")
    elif not is_ours(host):
        if not _host(host):
            raise BadFraming("Host is not HOST or HOST:PORT")
        raise Misdirected("this server is not called what Host says; --names gives it further names")


def _read_target(environ: dict[str, Any], target: bytes, is_ours: Callable[[str], bool]) -> None:
    if target[:1] != b"/":
        absolute = _absolute(target)
        if absolute is not None:
            scheme, authority, rest = absolute.groups()
            if scheme.decode().lower() != environ.get("wsgi.url_scheme", "http"):
                raise BadFraming("the target's scheme is not that of the connection")
            if not is_ours(authority.decode("latin-1")):
                raise BadFraming("the target names another server; --names gives this one further names")
            # It counts, whatever Host says (RFC 9112, 3.2.2); but a Host of another server has been refused.
            target = rest if rest[:1] == b"/" else b"/" + rest
        elif environ["REQUEST_METHOD"] == "CONNECT":
            # What follows is not meant for a server that is no proxy, whatever it looks like.
            raise NotSupported("this server opens no tunnels")
        elif target == b"*" and environ["REQUEST_METHOD"] == "OPTIONS":
            target = b""  # PEP 3333: a path starts with / or is empty
        else:
            raise BadFraming("a target starts with /")
    path, _, query = target.partition(b"?")
    environ[RAW_PATH] = path.decode("latin-1")
    if b"%" in path:
        path = unquote_to_bytes(path)
    environ["PATH_INFO"] = path.decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1")


def _read_length(environ: dict[str, Any], newer: bool, max_body: int) -> int:
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    announced = environ.get("CONTENT_LENGTH")
    if coding is not None:
        if coding.lower() != "chunked":
            raise BadFraming("the only Transfer-Encoding is chunked")
        if announced is not None:
            raise BadFraming("a body has a Content-Length or is chunked, not both")
        if not newer:
            raise BadFraming("HTTP/1.0 has no Transfer-Encoding")
        return -1
    if announced is None:
        return 0
    if not _digits(announced):
        raise BadFraming("Content-Length is not a number")
    if int(announced) > max_body:
        raise TooLarge(f"a body has at most {max_body} bytes, this one {announced}")
    return int(announced)


class HostNames:
    """The names by which a server may be called in Host: a web page of another name must not reach it through a DNS trick.

    >>> HostNames(["localhost"], 8080)("LocalHost:8080")
    True
    """

    def __init__(self, names: Collection[str], port: int, *, any_address: bool = False) -> None:
        """Each name counts with any port in `Host`, as port forwarding may change it. With `any_address` so does any that is an
        address: no trick with DNS gives a web page one of those for its name.
        """
        self._any_address = any_address
        self._names = {name.lower() for name in names}
        self._seen = {f"{name.lower()}:{port}" for name in names}

    def __call__(self, host: str) -> bool:
        if host in self._seen:
            return True
        match = _host(host)
        if match is None or int(match[2] or 0) >= 65_536:
            return False
        name = match[1].lower()
        if name in self._names:
            return True
        found = literal(name.strip("[]"))
        return found is not None and (self._any_address or shown(str(found)) in self._names)


class ChunkedBody:
    """Decodes a chunked body (RFC 9112, 7.1) that arrives in pieces."""

    __slots__ = ("_chunks", "_data", "_extra", "_left", "_max_body", "_size", "_stage", "_trailers")

    def __init__(self, max_body: int) -> None:
        self._data = BytesIO()  # which gives out its bytes without a copy
        self._size = 0
        self._max_body = max_body
        self._stage = "size"
        self._left = 0
        self._extra = 0
        self._trailers = 0
        self._chunks = 0

    @property
    def has_more(self) -> bool:
        """Whether `feed` has stopped early, and can go on with what is in the buffer."""
        return self._chunks == _CHUNKS_AT_ONCE

    def feed(self, buffer: bytearray) -> bytes | None:
        """Take what can be used off the front of `buffer`; return the body when it is complete, else None.

        Raise BadFraming, TooLarge or HeadTooLarge. After each call the buffer holds less than a line or is the next request's,
        unless it `has_more`.
        """
        self._chunks = 0
        while True:
            if self._stage == "data":
                taken = buffer[: self._left]
                self._data.write(taken)
                self._size += len(taken)
                del buffer[: len(taken)]
                self._left -= len(taken)
                if self._left:
                    return None
                self._stage = "data end"
            if self._stage == "data end":
                if buffer[:2] != b"\r\n"[: len(buffer)]:
                    raise BadFraming("a chunk is longer than it says")
                if len(buffer) < 2:
                    return None
                del buffer[:2]
                self._stage = "size"
            line = self._line(buffer)
            if line is None:
                return None
            if self._stage == "size":
                self._begin_chunk(line)
                self._chunks += 1
                if self._chunks == _CHUNKS_AT_ONCE:
                    return None
            elif not line:
                return self._data.getvalue()
            else:
                self._check_trailer(line)

    def _line(self, buffer: bytearray) -> bytes | None:
        limit = MAX_CHUNK_LINE if self._stage == "size" else MAX_LINE
        end = buffer.find(b"\r\n", 0, limit + 2)
        # Of a line without an end, so much that one which is too long shows it even when its last byte is half a line end.
        line = bytes(buffer[:end]) if end >= 0 else bytes(buffer[: limit + 2]).removesuffix(b"\r")
        fault = _first_fault(line, limit)
        if fault == TOO_LONG:
            raise self._too_long()
        if fault == CONTROL:
            raise BadFraming("a line ends with CR LF, and has no other control characters")
        if end < 0:
            return None
        del buffer[: end + 2]
        self._extra += len(line)
        if self._extra > MAX_CHUNK_EXTRA + (self._size if self._stage == "size" else 0):
            raise self._too_long()
        return line

    def _too_long(self) -> GkvError:
        if self._stage == "size":
            return BadFraming(f"the line before a chunk has at most {MAX_CHUNK_LINE} bytes, and all of them few")
        return HeadTooLarge(f"trailers have at most {MAX_CHUNK_EXTRA} bytes")

    def _begin_chunk(self, line: bytes) -> None:
        match = _chunk_line(line)
        if match is None:
            raise BadFraming("a chunk starts with its size in hexadecimal digits")
        self._left = int(match[1], 16)
        if self._left + self._size > self._max_body:
            raise TooLarge(f"a body has at most {self._max_body} bytes")
        self._stage = "data" if self._left else "trailers"
        if not self._left:
            self._extra = 0  # trailers have an allowance of their own

    def _check_trailer(self, line: bytes) -> None:
        self._trailers += 1
        if self._trailers > MAX_HEADERS:
            raise HeadTooLarge(f"a body has at most {MAX_HEADERS} trailers")
        error = _diagnose_header_line(line)
        if error is not None:
            raise error
        if _environ_name(line.partition(b":")[0]) in _NOT_IN_TRAILERS:  # RFC 9110, 6.5.1
            raise BadFraming("a trailer cannot say how the request is read")
