"""The servers that a command line names: a client for keys, and single plain calls for all that has no value of a key in it."""

import http.client
import json
import os
import ssl
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gkv.client import Client, ClientError, Indeterminate, Refused, Unavailable, Unreachable, Untrusted
from gkv.client.calls import Call, not_understood, problem_in
from gkv.client.transport import Answer, Broken, NoConnection, NotTrusted, Transport, tls_context
from gkv.client.values import value_of
from gkv.client.words import words_of
from gkv.command.codes import Code, Ended
from gkv.config import duration

DEFAULT = "http://127.0.0.1:8080"
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Servers:
    """Endpoints, and what to show them."""

    urls: tuple[str, ...]
    token: str | None
    ca: str | None
    cert: str | None
    key: str | None
    timeout: float

    @classmethod
    def of(cls, said: Namespace, timeout: float = 10.0) -> "Servers":
        """Read what a command line and the environment say. Raises Ended."""
        named = (url.strip() for url in (said.url or os.environ.get("GKV_URL") or DEFAULT).split(","))
        urls = tuple((url if "://" in url else f"http://{url}").rstrip("/") for url in named if url)
        if not urls:
            raise Ended("--url names no server", Code.USAGE)
        ca, cert, key = (
            getattr(said, name) or os.environ.get(f"GKV_{name.upper()}") or None for name in ("tls_ca", "tls_cert", "tls_key")
        )
        return cls(urls, _token(said), ca, cert, key, seconds(said.timeout, "--timeout") if said.timeout else timeout)

    def client(self, first: int = 0, connections: int = 8) -> Client:
        """Return a client that begins with one of the endpoints. Raises Ended for endpoints or files that are none."""
        at = first % len(self.urls)
        urls = (*self.urls[at:], *self.urls[:at])
        try:
            return Client(
                *urls,
                token=self.token,
                ca=self.ca,
                cert=self.cert,
                key=self.key,
                timeout=self.timeout,
                connections=connections,
            )
        except (OSError, ValueError) as error:
            raise Ended(_words(error), Code.USAGE) from None

    @contextmanager
    def asked(self, url: str, path: str, silence: float) -> Iterator[http.client.HTTPResponse]:
        """Make one call to one server; give its answer, whatever it is and however long, to be read. Raises ClientError.

        What goes wrong while it is read is left as it is.
        """
        parts = urlsplit(url)
        try:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=silence)
            if parts.scheme == "https":
                context = tls_context(self.ca, self.cert, self.key)
                connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=silence, context=context)
            headers = {"Accept": "*/*", "User-Agent": "gkv"}
            headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request("GET", parts.path + path, None, headers)
            answer = connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(f"{url}: {words_of(error)}", "certificate") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreachable(f"{url}: {words_of(error)}", "unreachable") from error
        with closing(connection):
            yield answer

    def look(self, url: str, path: str, timeout: float = 2.0) -> tuple[int, str]:
        """Return status and text of an answer. Raises ClientError."""
        answer = self._exchange(url, Call("GET", path), timeout)
        return answer.status, answer.body.decode(errors="replace")

    def document(self, url: str, path: str, method: str = "GET", body: Any = None, *, writes: bool = False) -> Any:
        """Return the JSON document that a call is answered with. Raises ClientError."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        call = Call(method, path, data, headers, writes=writes)
        answer = self._exchange(url, call, self.timeout)
        error = problem_in(answer, call)
        if error is not None:
            raise error
        try:
            return value_of(answer.body)
        except ValueError:
            raise not_understood(answer, call) from None

    def _exchange(self, url: str, call: Call, timeout: float) -> Answer:
        """Make one call to one server, once."""
        try:
            transport = Transport((url,), token=self.token, ca=self.ca, cert=self.cert, key=self.key, connections=1)
        except (OSError, ValueError) as error:
            raise Ended(_words(error), Code.USAGE) from None
        try:
            return transport.exchange(0, call.method, call.target, call.body, {"Accept": "*/*", **call.headers}, timeout)
        except NotTrusted as error:
            raise Untrusted(f"{url}: {error}", "certificate") from error
        except NoConnection as error:
            raise Unreachable(f"{url}: {error}", "unreachable") from error
        except Broken as error:
            if call.writes:
                raise Indeterminate(f"{url}: no answer to a change: {error}", "no-answer") from error
            raise Unavailable(f"{url}: no whole answer: {error}", "broken") from error
        finally:
            transport.close()

    def proxy(self) -> tuple[str, Any]:
        """Return the first of the endpoints that knows the members, and what it says of them. Raises ClientError."""
        failures: list[ClientError] = []
        for url in self.urls:
            try:
                found = self.document(url, "/v1/cluster")
            except ClientError as error:
                is_of_a_node = error.code == "not-found"  # it knows no members
                if not (is_of_a_node or isinstance(error, Unavailable | Untrusted)):
                    raise
                failures.append(error)
                continue
            if not _is_cluster(found):
                raise not_gkvs(url, "/v1/cluster")
            return url, found
        raise failures[0]


def _words(error: OSError | ValueError) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)


def _is_cluster(found: Any) -> bool:
    members = found.get("members") if isinstance(found, dict) else None
    return isinstance(members, list) and all(isinstance(one, dict) and {"id", "url", "state"} <= one.keys() for one in members)


def not_gkvs(url: str, path: str) -> Refused:
    """Return the error of an answer that is JSON, and yet not what gkv answers."""
    return Refused(f"{url}: what answers at {path} is not gkv", "bad-answer")


def cluster_of(client: Client, url: str) -> str:
    """Return the id of the cluster. Raises ClientError."""
    found = client.ask("/v1/info")
    cluster = found.get("cluster") if isinstance(found, dict) else None
    if not isinstance(cluster, str):
        raise not_gkvs(url, "/v1/info")
    return cluster


def copy_to(answer: http.client.HTTPResponse, path: Path) -> int:
    """Write all of an answer to a file, onto the disk; return its bytes. Raises OSError and HTTPException."""
    size = 0
    with path.open("wb", buffering=0) as file:
        while chunk := answer.read(_CHUNK):
            with named(path):
                write_all(file, chunk)
            size += len(chunk)
        with named(path):
            os.fsync(file.fileno())
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
    return size


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Have the errors of an open file say which file it is."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_all(file: RawIOBase, data: bytes) -> None:
    """Write all of it to a file without a buffer."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _token(said: Namespace) -> str | None:
    file = said.token_file or (None if said.token else os.environ.get("GKV_TOKEN_FILE"))
    if file:
        try:
            return Path(file).read_text(encoding="utf-8").strip().partition(",")[0].strip() or None
        except (OSError, ValueError) as error:
            raise Ended(f"the file of the token cannot be read: {_words(error)}", Code.USAGE) from None
    return said.token or os.environ.get("GKV_TOKEN") or None


def seconds(text: str, flag: str) -> float:
    """Return the seconds of a time on the command line; a number alone is one of seconds. Raises Ended."""
    try:
        return duration(f"{text}s" if text.isascii() and text.replace(".", "", 1).isdigit() else text)
    except ValueError as error:
        raise Ended(f"{flag} is {text!r}; it takes {error}", Code.USAGE) from None


def whole(text: str | None, flag: str, default: int, most: int) -> int:
    """Return a whole number of the command line. Raises Ended."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise Ended(f"{flag} is {text!r}; it takes a whole number from 1 to {most:,}", Code.USAGE)
    return int(text)
