"""Web pages of other origins (CORS, after the Fetch standard): which of them may call, and what their browsers are told.

Off until `take` names some. Browsers are never told to send what they keep for this server by themselves (cookies,
certificates): a page shows a token, in `Authorization`, or has none. Pure, and does not switch greenlets.
"""

from collections.abc import Mapping
from typing import Any

ANY = "*"
_EXPOSED = "ETag, Expires-In, Age-Bound, Retry-After, X-Request-Id, Allow, Accept-Encoding, WWW-Authenticate"
"""Headers of answers that a page may read, beside those that it always may."""
_METHODS = "GET, HEAD, PUT, POST, PATCH, DELETE"
_SENT = (
    "Accept, Authorization, Content-Type, If-Match, If-None-Match, Prefer, X-Request-Id, Traceparent, Tracestate, Cache-Control"
)
"""Headers of requests that a page may send. `*` would leave out Authorization."""
_SECONDS = "600"
"""How long a browser keeps what it was told before a call."""


class Cors:
    """The origins in force."""

    def __init__(self) -> None:
        self._origins: frozenset[str] = frozenset()

    def take(self, origins: tuple[str, ...]) -> None:
        """Let pages of these origins call, and of no others; `*` stands for all."""
        self._origins = frozenset(origins)

    @property
    def is_on(self) -> bool:
        return bool(self._origins)

    def names(self, environ: Mapping[str, Any]) -> bool:
        """Return whether the request comes from a page whose origin is named itself."""
        return environ.get("HTTP_ORIGIN", ANY) in self._origins - {ANY}

    def allows(self, environ: Mapping[str, Any]) -> bool:
        """Return whether the request comes from a page that may call."""
        return "HTTP_ORIGIN" in environ and (ANY in self._origins or self.names(environ))

    def headers(self, environ: Mapping[str, Any]) -> dict[str, str]:
        """Return what an answer says to the browser, and to caches: for whom it is."""
        if ANY in self._origins:
            return {"Access-Control-Allow-Origin": ANY, "Access-Control-Expose-Headers": _EXPOSED}
        if not self._origins:
            return {}
        if not self.names(environ):
            return {"Vary": "Origin"}
        origin = {"Access-Control-Allow-Origin": environ["HTTP_ORIGIN"], "Vary": "Origin"}
        return origin | {"Access-Control-Expose-Headers": _EXPOSED}

    def is_preflight(self, environ: Mapping[str, Any]) -> bool:
        """Return whether a browser asks if a page that may call may make a certain call. It shows no token with that."""
        return (
            environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ and self.allows(environ)
        )

    def preflight(self) -> dict[str, str]:
        """Return what such a question is answered, beside `headers`: the same for every path, be there anything or not."""
        return {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _SENT,
            "Access-Control-Max-Age": _SECONDS,
        }
