"""What a server asks of the application that it serves, of whoever watches it, and of what turns errors into answers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from gkv.errors import GkvError

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Rendered(Protocol):
    """An answer as the server sends it."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def parts(self) -> Sequence[bytes]:
        """What follows the body, in an answer over `LARGE` bytes: to join it would only copy it."""

    @property
    def content_type(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str] | None:
        """What else there is to say; nothing about the length or the connection."""

    @property
    def caching(self) -> str:
        """What Cache-Control says about it."""

    @property
    def request_id(self) -> str: ...
    @property
    def stream(self) -> Iterator[bytes] | None:
        """The body piece by piece, of unknown length, instead of `body`. It may have a `close`, which is called at the end."""


class Application(Protocol):
    """A WSGI application that can also answer some requests directly."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any], /) -> Iterable[bytes]: ...

    def find(self, environ: Mapping[str, Any]) -> tuple[Callable[[Mapping[str, Any], bytes], Rendered] | None, str]:
        """Return what answers a request, given environment and body, or None for WSGI's way; and
        one of the lanes of `Admission.gates`.

        It is asked once for a head that comes again and again, with whatever Content-Length up to
        `LARGE`, before the body is read, and must leave the environment as it is. A GkvError
        that it raises is the answer, and the connection ends with it.
        """


class Render(Protocol):
    """Makes an answer of an error that the server met."""

    def __call__(self, error: GkvError, environ: Mapping[str, Any] | None = None, /) -> Rendered:
        """`environ` is that of a request which was read whole."""


class Observer(Protocol):
    """What is told of every request. It does not switch greenlets, and does not raise."""

    def route(self, method: str, path: str) -> Any:
        """Return what `answered` is given as `route`; asked once for a head that comes again and again."""

    def answered(self, route: Any, environ: Mapping[str, Any], status: int, size: int, seconds: float, request_id: str) -> None:
        """Note an answer with a body of `size` bytes, made in so many seconds from when the whole request was there.

        It is on its way to the client; of one that comes in pieces, the last piece has gone.
        """

    def refused(self, peer: str, status: int, request_id: str) -> None:
        """Note a request that could not be read, or that failed in the server."""
