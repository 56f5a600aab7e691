"""An application's answer by way of WSGI, after PEP 3333, as one value."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from gkv.net.application import WSGIApp
from gkv.net.http1 import Head


@dataclass(frozen=True, slots=True)
class WsgiAnswer:
    """What an application has answered."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def request_id(self) -> str:
        return next((value for name, value in self.headers if name == "X-Request-Id"), "-")


def environ_of(head: Head, body: bytes) -> dict[str, Any]:
    """Return the environment for a request."""
    environ = head.environ.copy()
    environ["wsgi.input"] = BytesIO(body)
    if head.length < 0:
        # The application sees a body of known length: it need not know about chunks.
        del environ["HTTP_TRANSFER_ENCODING"]
        environ["CONTENT_LENGTH"] = str(len(body))
    return environ


def run(app: WSGIApp, environ: dict[str, Any]) -> WsgiAnswer:
    """Run the application to its end. Raise whatever it raises; ValueError when it says nothing.
    May switch greenlets.
    """
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        if exc_info is None and started:
            raise AssertionError("start_response was called twice")
        started[:] = [(status, headers)]
        return written.append

    result: Iterable[bytes] = app(environ, start_response)
    try:
        body = result[0] if type(result) is list and len(result) == 1 else b"".join(result)
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
    if not started:
        raise ValueError("start_response was not called")
    [(status, headers)] = started
    return WsgiAnswer(status, headers, b"".join([*written, body]) if written else body)
