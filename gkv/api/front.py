"""`/`: what this is and where to go on, as JSON, or for a browser as a page that loads nothing."""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from html import escape
from typing import Any

from gkv import __version__
from gkv.api.access import Role
from gkv.api.http import Request, Response, Routes, json_response
from gkv.api.operation import Content, Operation, ResponseDoc, shape
from gkv.wire.blob import JSON

HTML = "text/html; charset=utf-8"
_LINKS = {
    "openapi": ("/openapi.json", "the calls and their answers, as OpenAPI"),
    "info": ("/v1/info", "version, limits and features"),
    "keys": ("/v1/kv", "the keys, page by page"),
    "ring": ("/v1/ring", "what a client needs to find owners itself"),
    "cluster": ("/v1/cluster", "the members, and the change under way"),
    "metrics": ("/metrics", "counts and times, for Prometheus"),
    "live": ("/livez", "whether the process works"),
    "ready": ("/readyz?verbose", "whether it can serve"),
}
"""Calls that need nothing but their path, and what they are; those that this process has are shown."""
_STYLE = "body{font:1em/1.5 sans-serif;max-width:40em;margin:2em auto;padding:0 1em}dt{font-family:monospace}"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
}
_quality = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE).fullmatch
_WORD = {"type": "string"}
FRONT = Operation(
    "Get links to what is here",
    {
        200: ResponseDoc(
            "Links by name; for who prefers text/html, a page with them",
            {
                JSON: Content(
                    shape(
                        "name role version links",
                        name={"const": "gkv"},
                        role={"enum": ["proxy", "node"]},
                        version=_WORD,
                        links={"type": "object", "additionalProperties": _WORD},
                    )
                ),
                HTML: Content(_WORD),
            },
        )
    },
)


class Front:
    """The handler, over the routes of one application."""

    def __init__(self, routes: Routes, info: Callable[[], Mapping[str, Any]]) -> None:
        """`info` says what is special about this process, its role above all."""
        self._routes = routes
        self._info = info

    def mount(self) -> None:
        """Declare the route."""
        self._routes.add("GET", "/", self._show, doc=FRONT, role=Role.ANY)

    def _show(self, request: Request) -> Response:
        request.query()
        role = str(self._info()["role"])
        here = {path for method, path, _ in self._routes.declared() if method == "GET"}
        links = {name: link for name, link in _LINKS.items() if link[0].partition("?")[0] in here}
        if prefers_html(request.environ.get("HTTP_ACCEPT", "")):
            return Response(_page(role, links).encode(), HTML, headers=dict(_HEADERS))
        paths = {name: path for name, (path, _) in links.items()}
        answer = json_response({"name": "gkv", "role": role, "version": __version__, "links": paths})
        answer.headers = dict(_HEADERS)
        return answer


def prefers_html(accept: str) -> bool:
    """Return whether text/html is named in Accept, and JSON is not named with as much weight (RFC 9110, 12.5.1).

    >>> [prefers_html(one) for one in ("text/html,application/xml;q=0.9,*/*;q=0.8", "*/*", "application/json, text/html")]
    [True, False, False]
    """
    weights = {"text/html": 0.0, JSON: 0.0}
    for choice in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in choice.split(";"))
        if media_type in weights:
            found = [match for one in parameters if (match := _quality(one))]
            weights[media_type] = float(found[0][1]) if found else 1.0
    return weights["text/html"] > weights[JSON]


def _page(role: str, links: Mapping[str, tuple[str, str]]) -> str:
    rows = "".join(f'<dt><a href="{escape(path)}">{escape(path)}</a><dd>{escape(what)}' for path, what in links.values())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>gkv {role}</title><style>{_STYLE}</style>'
        f"<h1>gkv</h1><p>A distributed key-value store; this is a {role}, version {escape(__version__)}.<dl>{rows}</dl>\n"
    )
