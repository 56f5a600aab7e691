"""`/openapi.json`: the interface as an OpenAPI 3.1 document, made of the descriptions that the routes were declared with.

It is rendered when somebody asks for the first time, when all routes are there, and kept.
"""

import re
from collections.abc import Mapping
from typing import Any

from gkv import __version__
from gkv.api.access import CHANGES, Role
from gkv.api.http import PROBLEM, Request, Response, Route, Routes, json_response
from gkv.api.operation import Content, Operation, Parameter, ResponseDoc, Schema, array, ref, shape
from gkv.api.operations import OPENAPI
from gkv.api.schemas import shared_schemas
from gkv.errors import (
    BadFraming,
    CodedBody,
    CrossSite,
    ExpectationFailed,
    Forbidden,
    ForbiddenAddress,
    GkvError,
    HeadTooLarge,
    InternalError,
    InvalidParameter,
    Misdirected,
    NoCertificate,
    NoDefiniteAnswer,
    Overloaded,
    SyntaxProblem,
    TooLarge,
    TooSlow,
    Unauthorized,
    Unavailable,
    UriTooLong,
    WrongMethod,
    WrongVersion,
)
from gkv.wire.client import Limits

_ALWAYS: tuple[type[GkvError], ...] = (
    BadFraming, SyntaxProblem, InvalidParameter, TooSlow, TooLarge, UriTooLong, CodedBody, ExpectationFailed, Misdirected,
    HeadTooLarge, InternalError, Overloaded, Unavailable, WrongVersion,
)  # fmt: skip
"""What any request can meet, whatever it is for."""


def _met_at_the_door(role: Role) -> tuple[type[GkvError], ...]:
    """Return what a request can meet that has not shown that it may use a route."""
    if role is Role.OPEN:
        return ()
    door: tuple[type[GkvError], ...] = (Unauthorized, Forbidden)
    if role in CHANGES:
        door += (CrossSite,)
    return (*door, ForbiddenAddress, NoCertificate) if role is Role.PEER else door


_HEADERS: Mapping[str, tuple[str, Schema]] = {
    "X-Request-Id": ("the one of the request, or one that was made for it", {"type": "string", "pattern": "^[!-~]{1,128}$"}),
    "ETag": ("the version of the value", {"type": "string", "pattern": '^"[0-9a-f]{32}"$'}),
    "Cache-Control": (
        "what caches may do with it: nothing, or below /v1/kv/ ask again each time",
        {"type": "string", "enum": ["no-store", "no-cache"]},
    ),
    "Retry-After": ("seconds after which to try again", {"type": "integer", "minimum": 1}),
    "Content-Disposition": ("a name for the file", {"type": "string"}),
    "Allow": ("methods that the path takes, separated by commas", {"type": "string", "pattern": "^[A-Z]+(, ?[A-Z]+)*$"}),
    "WWW-Authenticate": ("how to say who asks", {"type": "string", "pattern": "^Bearer"}),
}
_OF_STATUS = {401: "WWW-Authenticate", 405: "Allow", 415: "Accept-Encoding", 503: "Retry-After", 504: "Retry-After"}
_NOT_ALWAYS: Mapping[str, tuple[str, Schema]] = {
    "Expires-In": ("seconds until the value expires, where it does", {"type": "number", "exclusiveMinimum": 0}),
    "Age-Bound": (
        "stale=1: seconds since the copy has heard the one that orders the key's writes, 0 from that one; absent if unknown",
        {"type": "number", "minimum": 0},
    ),
    "Accept-Encoding": ("identity, where the body has a Content-Encoding", {"type": "string", "const": "identity"}),
    "ETag-if-any": ("the version of the value that is there, where there is one", _HEADERS["ETag"][1]),
}
"""Headers that an answer may lack, by the names of their descriptions."""
_PROBLEM = shape(
    "type title status detail retryable instance",
    "errors",
    type={"type": "string", "pattern": "^urn:gkv:problem:[a-z-]+$", "description": "the code at its end never changes"},
    title={"type": "string"},
    status={"type": "integer"},
    detail={"type": "string"},
    retryable={"type": "boolean"},
    instance={"type": "string", "description": "the request's id"},
    errors=array(
        shape("pointer detail", pointer={"type": "string", "format": "json-pointer"}, detail={"type": "string"}),
        minItems=1,
    ),
)
_ABOUT = (
    "A distributed key-value store. The proxy and every node answer the same calls about data. Errors are "
    "application/problem+json (RFC 9457). A path takes the methods that are listed for it; any other is answered 405 with "
    "Allow, any other path 404. Query parameters that are not listed are refused."
)


_KEY_IN_PATH = {
    "name": "key",
    "in": "path",
    "required": True,
    "description": "percent-encoded; a slash may stand as it is, nothing is normalised, `+` is itself",
    "schema": ref("Key"),
}


class Contract:
    """The document of one application, and the route to it."""

    def __init__(self, routes: Routes, limits: Limits, max_body: int) -> None:
        """`limits` bound a batch, `max_body` is in bytes."""
        self._routes = routes
        self._limits = limits
        self._max_body = max_body
        self._body = b""

    def mount(self) -> None:
        """Declare the route."""
        self._routes.add("GET", "/openapi.json", self._show, doc=OPENAPI, role=Role.OPEN)

    def _show(self, request: Request) -> Response:
        request.query()
        self._body = self._body or json_response(render(self._routes, self._limits, self._max_body)).body
        return Response(self._body)


def render(routes: Routes, limits: Limits, max_body: int) -> dict[str, Any]:
    """Return the OpenAPI document of what an application answers."""
    shared: dict[str, Any] = {"405": _response(405, ResponseDoc(WrongMethod.title), {WrongMethod.code: WrongMethod.title})}
    sizes = {"bodyBytes": max_body, "valueBytes": min(max_body, limits.max_value)}
    paths: dict[str, dict[str, Any]] = {}
    for method, path, route in routes.declared():
        doc = route.doc
        if not isinstance(doc, Operation):
            continue
        below = _is_below(path)
        part = _KEY_IN_PATH if doc.below is None else _parameter(doc.below)
        item = paths.setdefault(f"{path}{{{part['name']}}}" if below else path, {"parameters": [part]} if below else {})
        item[method.lower()] = _operation(method, path, route, doc, shared, sizes)
        if method == "GET":
            item["head"] = _operation("HEAD", path, route, doc, shared, sizes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gkv",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": {**shared_schemas(limits), "Problem": _PROBLEM},
            "responses": shared,
            "headers": {
                name: {"description": what, "required": name in _HEADERS, "schema": schema}
                for name, (what, schema) in {**_HEADERS, **_NOT_ALWAYS}.items()
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "where tokens are set; else nobody needs one"}
            },
        },
    }


def _is_below(path: str) -> bool:
    """Return whether a path that was declared stands for all that start with it."""
    return path.endswith("/") and path != "/"


def _operation(
    method: str, path: str, route: Route, doc: Operation, shared: dict[str, Any], sizes: Mapping[str, int]
) -> dict[str, Any]:
    part = ("key" if doc.below is None else doc.below.name) if _is_below(path) else ""
    name = re.sub(r"[^A-Za-z0-9]+", "_", f"{method.lower()}{path}{part}")
    rendered: dict[str, Any] = {"operationId": name, "summary": doc.summary}
    if doc.what:
        rendered["description"] = doc.what
    if doc.parameters:
        rendered["parameters"] = [_parameter(one) for one in doc.parameters]
    if doc.body:
        what = f"at most {doc.body_limit if isinstance(doc.body_limit, int) else sizes[doc.body_limit]} bytes"
        rendered["requestBody"] = {"description": what, "required": doc.body_required, "content": _content(doc.body)}
    if route.role is Role.OPEN:
        rendered["security"] = []
    rendered["responses"] = _responses(method, route.role, doc, shared)
    return rendered


def _parameter(one: Parameter) -> dict[str, Any]:
    rendered = {"name": one.name, "in": one.place, "description": one.what, "required": one.required, "schema": one.schema}
    more = {"style": "form", "explode": True} if one.repeated else {}
    return rendered | more | ({} if one.example is None else {"example": one.example})


def _content(content: Mapping[str, Content]) -> dict[str, Any]:
    return {
        kind: {"schema": one.schema} | ({} if one.example is None else {"example": one.example})
        for kind, one in content.items()
    }


def _responses(method: str, role: Role, doc: Operation, shared: dict[str, Any]) -> dict[str, Any]:
    """Return all that an operation can answer; what several do alike goes to `shared`."""
    errors: dict[int, dict[str, str]] = {}
    for error in (*_ALWAYS, *_met_at_the_door(role), *doc.problems):
        errors.setdefault(error.status, {})[error.code] = error.title
    for failure in doc.failures:
        errors.setdefault(failure.status, {})[failure.code] = NoDefiniteAnswer.title
    rendered = {}
    for status in sorted({*errors, *doc.answers}):
        codes = errors.get(status, {})
        answer = doc.answers.get(status)
        if answer is not None:
            rendered[str(status)] = _response(status, answer, codes, bodies=method != "HEAD")
            continue
        name = "-".join([*(["head"] if method == "HEAD" else []), str(status), *sorted(codes)])
        titles = ResponseDoc("; ".join(sorted(set(codes.values()))))
        shared[name] = _response(status, titles, codes, bodies=method != "HEAD")
        rendered[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return rendered


def _response(status: int, answer: ResponseDoc, codes: Mapping[str, str], *, bodies: bool = True) -> dict[str, Any]:
    """Render one answer; `codes` are those of the errors that have its status."""
    names = ["X-Request-Id", "Cache-Control", *answer.headers, *([_OF_STATUS[status]] if status in _OF_STATUS else [])]
    headers = {name.removesuffix("-if-any"): {"$ref": f"#/components/headers/{name}"} for name in names}
    rendered: dict[str, Any] = {"description": answer.what, "headers": headers}
    content = _content(answer.content)
    if codes:
        types = {"enum": [f"urn:gkv:problem:{code}" for code in sorted(codes)]}
        schema = {**ref("Problem"), "properties": {"type": types, "status": {"const": status}}}
        content[PROBLEM] = {"schema": schema}
    if content and bodies:
        rendered["content"] = content
    return rendered
