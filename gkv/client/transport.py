"""Bytes to an endpoint and back: one exchange, which says of a failure whether anything was sent.

`NoConnection` is raised before the first byte of a request may have left, `Broken` later. An exchange ends at its deadline,
however slowly bytes go or come; only the look-up of a host's name takes what the system takes for it. Connections are kept
alive in a bounded pool for each endpoint, which threads share, or greenlets in a program that gevent has patched.
"""

import http.client
import io
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ClosedPoolError, EmptyPoolError, HTTPError

from gkv.client.words import words_of

MAX_IDLE = 30.0
"""Seconds after which a connection is not used again. gkv closes one after 75, and what is sent in that very moment is lost."""
CONNECT_WITHIN = 2.0
"""Seconds that a connection may take."""
LEAST_WAIT = 0.001
"""Seconds that a socket has at least, as 0 would mean none."""


class NoConnection(Exception):
    """Nothing was sent."""


class NotTrusted(NoConnection):
    """Nothing was sent, as the server's certificate does not hold."""


class Broken(Exception):
    """Something may have been received there; there is no whole answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, its headers by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    endpoint: int
    """Whose answer it is."""


class _BoundedReader(io.RawIOBase):
    """The bytes of a socket until its timeout, counted from now, is over: however slowly they come."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        self._raw = raw
        self._sock = sock
        timeout = sock.gettimeout()
        self._until = None if timeout is None else monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._until is not None:
            left = self._until - monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """One whose head and body together have the time that a single read would have."""

    def __init__(self, sock: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp = io.BufferedReader(_BoundedReader(self.fp.detach(), sock))


class _Connection(HTTPConnection):
    """A connection that tells what failed before it was one."""

    response_class = _Response
    _used = 0.0
    _until = 0.0

    def connect(self) -> None:
        """Connect within a part of the time that `timeout` gives to all of the exchange."""
        whole = float(self.timeout or 0.0)
        self._until = monotonic() + whole
        self.timeout = min(whole, CONNECT_WITHIN)
        try:
            super().connect()
        except ssl.SSLCertVerificationError as error:
            raise NotTrusted(words_of(error)) from error
        except (OSError, HTTPError, ValueError) as error:
            raise NoConnection(words_of(error, f"no connection within {self.timeout:.1f} s")) from error
        finally:
            self.timeout = whole

    def request(self, *arguments: Any, **named: Any) -> None:
        if self.sock is not None:
            self._until = monotonic() + float(self.timeout or 0.0)
        super().request(*arguments, **named)

    def send(self, data: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(max(self._until - monotonic(), LEAST_WAIT))
        super().send(data)

    @property
    def is_connected(self) -> bool:
        return monotonic() - self._used < MAX_IDLE and super().is_connected

    def getresponse(self) -> Any:
        response = super().getresponse()
        self._used = monotonic()
        return response


class _SecureConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Deadline(urllib3.Timeout):
    """A point in time. urllib3's own times begin with each step of an exchange."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._until = monotonic() + seconds

    def clone(self) -> "_Deadline":
        return self

    def start_connect(self) -> float:
        return monotonic()

    @property
    def connect_timeout(self) -> float:
        return max(self._until - monotonic(), LEAST_WAIT)

    @property
    def read_timeout(self) -> float:
        return self.connect_timeout


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class Transport:
    """Endpoints, of which one is asked until it fails: then the next one."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        token: str | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        connections: int = 8,
    ) -> None:
        if not urls:
            raise ValueError("there is no endpoint")
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "gkv-client"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {header(token, 'the token')}"
        context = None
        if any(url.lower().startswith("https:") for url in urls):
            context = tls_context(ca, cert, key)
        self._endpoints = [_endpoint(url, context, connections) for url in urls]
        self.urls = tuple(urls)
        self._lock = threading.Lock()
        """Guards `current`."""
        self.current = 0
        self.most_bytes: int | None = None
        """Bytes of the largest body that the servers take, once they have been asked."""

    def __len__(self) -> int:
        return len(self._endpoints)

    def move_on(self, failed: int) -> None:
        """Have the next endpoint asked from now on, unless somebody has moved on already."""
        with self._lock:
            if self.current == failed:
                self.current = (failed + 1) % len(self._endpoints)

    def exchange(
        self, endpoint: int, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Answer:
        """Make one request, and read its answer, in `timeout` seconds at most, or raise NoConnection or Broken."""
        pool, base = self._endpoints[endpoint]
        begun = monotonic()
        try:
            response = pool.urlopen(
                method,
                base + target,
                body=body,
                headers={**self._headers, **headers},
                retries=False,
                redirect=False,
                timeout=_Deadline(timeout),
                pool_timeout=timeout / 2,  # type: ignore[arg-type]  # it is given to a queue's `get`
                decode_content=False,
            )
        except EmptyPoolError:
            raise NoConnection(f"all connections were in use for {monotonic() - begun:.1f} s") from None
        except ClosedPoolError:
            raise RuntimeError("the client is closed") from None
        except (HTTPError, OSError, http.client.HTTPException) as error:
            raise Broken(words_of(error)) from error
        return Answer(
            response.status, {name.lower(): value for name, value in response.headers.items()}, response.data, endpoint
        )

    def close(self) -> None:
        """Close all connections that are not in use; those that are close when they have their answer."""
        for pool, _ in self._endpoints:
            pool.close()


def tls_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """Return what a client trusts and shows; raise OSError or ValueError that names the files which cannot be used."""
    files = str(ca)
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            files = f"{cert} with {key}" if key is not None else cert
            context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise ValueError(f"{files} cannot be used for TLS: {words_of(error)}") from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, files) from error
    return context


def header(text: str, name: str) -> str:
    """Return a text that can stand in a header; raise ValueError for any other, which is not shown: it may be secret."""
    if text.isascii() and text.isprintable():
        return text
    raise ValueError(f"{name} has printable characters of ASCII alone")


def _endpoint(url: str, context: ssl.SSLContext | None, connections: int) -> tuple[urllib3.HTTPConnectionPool, str]:
    """Return the connections to an endpoint, and what stands before each path there."""
    try:
        parsed = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        parsed = urllib3.util.Url()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment or parsed.auth:
        raise ValueError(f"an endpoint is http://HOST:PORT or https://HOST:PORT, perhaps with a path: not {url!r}")
    base = (parsed.path or "").rstrip("/")
    if parsed.scheme == "https":
        secure = _SecurePool(parsed.host, parsed.port, maxsize=connections, block=True, ssl_context=context)
        return secure, base
    return _Pool(parsed.host, parsed.port, maxsize=connections, block=True), base
