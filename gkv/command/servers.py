"""The servers that a command line names: a client for keys, and single plain calls for all that has no value of a key in it."""

import http.client
import json
import os
import ssl
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gkv.client import Client, ClientError, Indeterminate, Unreachable
from gkv.client.calls import Call, problem_in
from gkv.client.transport import Answer
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
        urls = tuple(url.strip().rstrip("/") for url in (said.url or os.environ.get("GKV_URL") or DEFAULT).split(","))
        urls = tuple(url if "://" in url else f"http://{url}" for url in urls)
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
            raise Ended(f"{error}", Code.USAGE) from None

    @contextmanager
    def asked(
        self,
        url: str,
        path: str,
        method: str = "GET",
        body: Any = None,
        timeout: float | None = None,
        *,
        changes: bool = False,
    ) -> Iterator[http.client.HTTPResponse]:
        """Make one call to one server; give its answer, whatever it is, to be read. Raises Unreachable before that, and
        Indeterminate for one that `changes` something and has no answer.
        """
        parts = urlsplit(url)
        within = timeout or self.timeout
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=within)
        sent = False
        try:
            if parts.scheme == "https":
                context = ssl.create_default_context(cafile=self.ca)
                if self.cert is not None:
                    context.load_cert_chain(self.cert, self.key)
                connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=within, context=context)
            headers = {"Accept": "*/*", "User-Agent": "gkv"}
            headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
            data = None if body is None else json.dumps(body).encode()
            headers |= {} if data is None else {"Content-Type": "application/json"}
            connection.connect()
            sent = True
            connection.request(method, parts.path + path, data, headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise _no_answer(url, error, changes=changes and sent) from error
        try:
            yield answer
        finally:
            answer.close()
            connection.close()

    def look(self, url: str, path: str, timeout: float = 2.0) -> tuple[int, str]:
        """Return status and text of an answer. Raises Unreachable."""
        with self.asked(url, path, timeout=timeout) as answer:
            return answer.status, body_of(url, answer).decode(errors="replace")

    def document(self, url: str, path: str, method: str = "GET", body: Any = None, *, changes: bool = False) -> Any:
        """Return the JSON document that a call is answered with. Raises ClientError."""
        with self.asked(url, path, method, body, changes=changes) as answer:
            headers: Mapping[str, str] = {name.lower(): value for name, value in answer.getheaders()}
            found = Answer(answer.status, headers, body_of(url, answer, changes=changes), 0)
        error = problem_in(found, Call(method, path, writes=changes))
        if error is not None:
            raise error
        return json.loads(found.body)

    def proxy(self) -> tuple[str, Any]:
        """Return the first of the endpoints that knows the members, and what it says of them. Raises ClientError."""
        failures: list[ClientError] = []
        for url in self.urls:
            try:
                return url, self.document(url, "/v1/cluster")
            except ClientError as error:
                is_of_a_node = error.code == "not-found"  # it knows no members
                if not (is_of_a_node or isinstance(error, Unreachable)):
                    raise
                failures.append(error)
        raise failures[0]


def _no_answer(url: str, error: Exception, *, changes: bool) -> ClientError:
    why = f"{url}: {error or type(error).__name__}"
    return Indeterminate(f"no answer from {why}", "no-answer") if changes else Unreachable(why, "unreachable")


def body_of(url: str, answer: http.client.HTTPResponse, *, changes: bool = False) -> bytes:
    """Read all of an answer of a server. Raises as `Servers.asked`."""
    try:
        return answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise _no_answer(url, error, changes=changes) from error


def copy_to(answer: http.client.HTTPResponse, path: Path) -> int:
    """Write all of an answer to a file, onto the disk; return its bytes. Raises OSError and HTTPException."""
    size = 0
    with path.open("wb") as file:
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
    return size


def _token(said: Namespace) -> str | None:
    file = said.token_file or (None if said.token else os.environ.get("GKV_TOKEN_FILE"))
    if file:
        try:
            return Path(file).read_text(encoding="utf-8").strip().partition(",")[0].strip() or None
        except (OSError, ValueError) as error:
            raise Ended(f"the file of the token cannot be read: {error}", Code.USAGE) from None
    return said.token or os.environ.get("GKV_TOKEN") or None


def seconds(text: str, flag: str) -> float:
    """Return the seconds of a time on the command line; a number alone is one of seconds. Raises Ended."""
    try:
        return duration(f"{text}s" if text.replace(".", "", 1).isdigit() else text)
    except ValueError as error:
        raise Ended(f"{flag} is {text!r}; it takes {error}", Code.USAGE) from None


def whole(text: str | None, flag: str, default: int, most: int) -> int:
    """Return a whole number of the command line. Raises Ended."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise Ended(f"{flag} is {text!r}; it takes a whole number from 1 to {most:,}", Code.USAGE)
    return int(text)
