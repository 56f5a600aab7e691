"""An application as web pages of other origins may call it: what `gkv.api.cors` says, put into its answers."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from gkv.api.http import Direct, Request, Response, Routes, render_unread
from gkv.errors import GkvError


class Pages:
    """Routes, with a browser's question before a call answered, and with headers for it in every answer.

    While no origin may call, the routes alone.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._cors = routes.access.cors

    def find(self, environ: Mapping[str, Any]) -> tuple[Direct | None, str]:
        """Return what `Routes.find` does, or raise what it raises."""
        cors = self._cors
        if not cors.is_on:
            return self._routes.find(environ)
        headers = cors.headers(environ)
        try:
            direct, lane = self._routes.find(environ)
        except GkvError as error:
            error.headers = _with(error.headers, headers)
            raise
        if cors.is_preflight(environ):  # whatever the routes say: it shows no token
            direct = self._permit
        return (None if direct is None else partial(_add, headers, direct)), lane

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, after PEP 3333."""
        more = self._cors.headers(environ)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, list(_with(dict(headers), more).items()), exc_info)

        answer: Iterable[bytes] = self._routes(environ, start if more else start_response)
        return answer

    def render(self, error: GkvError, environ: Mapping[str, Any] | None = None) -> Response:
        """Render an error as `render_unread` does."""
        response = render_unread(error, environ)
        if environ is None:
            return response
        response.headers = _with(response.headers or {}, self._cors.headers(environ))
        return response

    def _permit(self, environ: Mapping[str, Any], _body: bytes) -> Response:
        return Response(b"", status=204, headers=self._cors.preflight(), request_id=Request(environ).id)


def _add(headers: Mapping[str, str], direct: Direct, environ: Mapping[str, Any], body: bytes) -> Response:
    """Answer as `direct` does, with more headers."""
    response = direct(environ, body)
    response.headers = _with(response.headers or {}, headers)
    return response


def _with(given: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Return headers with further ones, of which only Vary may be there already."""
    both = ", ".join(one["Vary"] for one in (given, more) if "Vary" in one)
    return {**given, **more, **({"Vary": both} if both else {})}
