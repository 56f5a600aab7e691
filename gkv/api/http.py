"""Requests in, answers and problems out: the only module that knows WSGI and Bottle's idea of a route."""

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import ujson
from bottle import Bottle, HTTPError, HTTPResponse
from bottle import request as bottle_request

from gkv import log
from gkv.api.access import Access, Denial, Role
from gkv.api.coding import refuse_coded
from gkv.api.operation import NO_STORE, Description
from gkv.errors import (
    GkvError,
    InternalError,
    InvalidParameter,
    NotSupported,
    SyntaxProblem,
    TooLarge,
    UnknownPath,
    WrongContentType,
    WrongMethod,
)
from gkv.net.admission import CLIENTS
from gkv.net.http1 import RAW_PATH
from gkv.net.trace import shown, traced
from gkv.wire.blob import JSON, essence

TEXT = "text/plain"
PROBLEM = "application/problem+json"
NO_CLIENTS = "-"
"""The id of a request behind which there is no client's: what members say to each other by themselves."""

_request_id = re.compile(r"[!-~]{1,128}").fullmatch
_bad_escape = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_CONDITIONS = {
    "HTTP_IF": "If",
    "HTTP_IF_MATCH": "If-Match",
    "HTTP_IF_NONE_MATCH": "If-None-Match",
    "HTTP_IF_MODIFIED_SINCE": "If-Modified-Since",
    "HTTP_IF_UNMODIFIED_SINCE": "If-Unmodified-Since",
    "HTTP_IF_RANGE": "If-Range",
}
_id_prefix = os.urandom(6).hex()
_id_counter = itertools.count(1)


_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def new_request_id() -> str:
    """Return an id for a request that came without one."""
    return f"{_id_prefix}-{next(_id_counter)}"


@dataclass(slots=True)  # not frozen: one is made for each request, and freezing triples the cost
class Response:
    """What a handler returns."""

    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: dict[str, str] | None = None
    request_id: str = ""
    parts: Sequence[bytes] = ()
    """What follows the body, in an answer over 64 KiB: to join it would only copy it."""
    stream: Iterator[bytes] | None = None
    """Instead of `body`: its pieces, when it is larger than anyone should hold in memory."""
    caching: str = NO_STORE
    """What Cache-Control says; that of a route's description, whatever it answers."""


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON answer."""
    return Response(ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False).encode(), status=status)


class Request:
    """One request, read strictly and only as far as a handler asks."""

    __slots__ = ("_body", "_doc", "environ", "id")

    def __init__(self, environ: Mapping[str, Any], body: bytes | None = None, doc: Description | None = None) -> None:
        """`environ` is WSGI's; the body is read from it unless it is given. `doc` describes the route."""
        self.environ = environ
        self._doc = doc
        self._body = body
        given = environ.get("HTTP_X_REQUEST_ID")
        self.id = given if given and _request_id(given) else new_request_id()

    @property
    def trace(self) -> str:
        """Its id, if somebody might look for it in a node's log: the client gave it, or a trace, or there is an access log.
        Else "". A trace goes with it.
        """
        if "HTTP_TRACEPARENT" in self.environ and (found := traced(self.id, self.environ)) is not None:
            return found
        return self.id if log.access_log or self.environ.get("HTTP_X_REQUEST_ID") else ""

    def body(self, limit: int) -> bytes:
        """Return the whole body, of which the server has checked the length. Raise TooLarge over `limit` bytes."""
        over = f"a body has at most {limit} bytes"
        if self._body is None:
            announced = int(self.environ.get("CONTENT_LENGTH") or 0)
            if announced > limit:
                raise TooLarge(f"{over}, this one {announced}")
            self._body = self.environ["wsgi.input"].read(announced)
            if len(self._body) < announced:
                raise SyntaxProblem(f"the body ends after {len(self._body)} of {announced} bytes")
        if len(self._body) > limit:
            raise TooLarge(f"{over}, this one {len(self._body)}")
        return self._body

    def query(self) -> dict[str, list[str]]:
        """Return the query's parameters, decoded strictly: those that the route's description has, as often as it says.

        A `+` is a space, as forms have it. Raise SyntaxProblem for a wrong escape or bad UTF-8, InvalidParameter else.
        """
        found: dict[str, list[str]] = {}
        if not self.environ.get("QUERY_STRING"):
            return found
        known = self._doc.query if self._doc is not None else {}
        for pair in filter(None, self.environ["QUERY_STRING"].split("&")):
            name, _, value = (_decode(part) for part in pair.partition("="))
            if name not in known:
                raise InvalidParameter(f"unknown query parameter {ujson.dumps(name[:64])}")
            if name in found and not known[name]:
                raise InvalidParameter(f"the query parameter {name} stands twice")
            found.setdefault(name, []).append(value)
        return found

    def accepts_json(self) -> bool:
        """Return whether the client names application/json in Accept (RFC 9110, 12.5.1); `*/*` is no such wish."""
        for choice in self.environ.get("HTTP_ACCEPT", "").lower().split(","):
            media_type, *parameters = (part.strip() for part in choice.split(";"))
            if media_type == JSON:
                return not any(re.fullmatch(r"q=0(\.0{0,3})?", parameter) for parameter in parameters)
        return False

    def wants_strict(self) -> bool:
        """Return whether the client sent `Prefer: handling=strict` (RFC 7240, 4.4)."""
        preferences = self.environ.get("HTTP_PREFER", "").lower().split(",")
        return any(re.fullmatch(r'\s*handling\s*=\s*("strict"|strict)\s*(;.*)?', preference) for preference in preferences)

    def require_json(self) -> None:
        """Raise WrongContentType unless the request says that it sends JSON."""
        if essence(self.environ.get("CONTENT_TYPE", "")) != JSON:
            raise WrongContentType(f"this call takes Content-Type: {JSON}")

    def refuse_conditions(self, *known: str) -> None:
        """Raise NotSupported for a write that is to happen only if something holds; RFC 9110, 13.1, and RFC 4918, 10.4.

        The call itself looks at headers that are `known`, by their names in the environment.
        """
        if not self.environ.keys().isdisjoint(_CONDITIONS):
            for name in self.environ:
                if name in _CONDITIONS and name not in known:
                    raise NotSupported(f"this call does not look at {_CONDITIONS[name]}; nothing has changed")

    def path_below(self, prefix: str) -> str:
        """Return what follows `prefix` in the path, as it was sent; raise UnknownPath when the prefix itself has an escape."""
        path = self.environ.get(RAW_PATH)
        if path is None:  # another server, which has decoded the path and does not say what it was
            decoded = self.environ.get("bottle.raw_path", self.environ["PATH_INFO"])
            path = quote_from_bytes(decoded.encode("latin-1"), safe="/")
        if not path.startswith(prefix):
            raise UnknownPath(f"there is nothing at {path[:256]}")
        return str(path[len(prefix) :])

    @property
    def remote_host(self) -> str:
        """The address that the request came from."""
        return str(self.environ.get("REMOTE_ADDR", ""))


def _decode(text: str) -> str:
    """Decode one part of a query. WSGI hands over bytes as latin-1."""
    if _bad_escape(text):
        raise SyntaxProblem("a % in the query is not followed by two hexadecimal digits")
    try:
        return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        raise SyntaxProblem("the query is not UTF-8") from None


def render_problem(error: GkvError, request_id: str) -> Response:
    """Render an error as problem+json (RFC 9457)."""
    problem: dict[str, Any] = {
        "type": f"urn:gkv:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": "" if isinstance(error, InternalError) else error.detail,
        "retryable": error.retryable,
        "instance": request_id,
    }
    if error.pointers:
        problem["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in error.pointers]
    headers = dict(error.headers)
    if error.retry_after is not None or error.status == 503:
        headers["Retry-After"] = str(error.retry_after or 1)
    if error.allow is not None:
        headers["Allow"] = error.allow
    if error.challenge is not None:
        headers["WWW-Authenticate"] = error.challenge
    return Response(json_response(problem).body, PROBLEM, error.status, headers, request_id)


def render_unread(error: GkvError, environ: Mapping[str, Any] | None = None) -> Response:
    """Render an error of a request that no route has seen; without `environ`, of one that was never read far enough."""
    return render_problem(error, new_request_id() if environ is None else Request(environ, b"").id)


Handler = Callable[[Request], Response]
HandlerBelow = Callable[[Request, str], Response]
Direct = Callable[[Mapping[str, Any], bytes], Response]
"""Answers a request, given its environment and body."""

_REFUSED_BODY = 65_536
"""Bytes of a body that are read although the request is refused, so that the connection can go on."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path, or of all that start with it, as it was declared."""

    direct: Direct
    doc: Description
    role: Role
    lane: str
    dry_role: Role | None = None
    """The role for a call with `dryRun=1`, which changes nothing, if it is another one."""

    def needs(self, environ: Mapping[str, Any]) -> Role:
        """Return the role that a request needs. A query that has the parameter twice is refused by whoever reads it."""
        if self.dry_role is not None and "dryRun=1" in environ.get("QUERY_STRING", "").split("&"):
            return self.dry_role
        return self.role


class Routes(Bottle):  # type: ignore[misc]  # Bottle has no types
    """A Bottle application whose handlers take a `Request` and return a `Response` or raise a `GkvError`.

    Each route says what it answers, which role it needs, and in which lane of `gkv.net.admission` it goes. `access` decides who
    has the role, for every way that leads to a handler.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config["json.enable"] = False
        self.access = Access()
        self._fixed: dict[str, dict[str, Route]] = {}
        self._below: dict[str, dict[str, Route]] = {}

    def add(
        self,
        methods: str,
        path: str,
        handler: Handler,
        *,
        doc: Description,
        role: Role,
        lane: str = CLIENTS,
        dry_role: Role | None = None,
    ) -> None:
        """Declare a route; `methods` are separated by spaces, and the path is fixed."""
        self.route(path, methods.split(), _callback(handler, doc))
        for method in methods.split():
            self._fixed.setdefault(path, {})[method] = Route(partial(_respond, handler, doc), doc, role, lane, dry_role)

    def add_below(
        self, methods: str, prefix: str, handler: HandlerBelow, *, doc: Description, role: Role, dry_role: Role | None = None
    ) -> None:
        """Declare a route for all paths that start with `prefix`, which ends with a slash; fixed paths go first.

        The handler is given the rest of the path as it was sent, percent-encoded: Bottle decodes a path so that two become one.
        """

        def handle(request: Request) -> Response:
            return handler(request, request.path_below(prefix))

        self.route(f"{prefix}<:re:(?s:.*)>", methods.split(), _callback(handle, doc))
        for method in methods.split():
            self._below.setdefault(prefix, {})[method] = Route(partial(_respond, handle, doc), doc, role, CLIENTS, dry_role)

    def declared(self) -> Iterator[tuple[str, str, Route]]:
        """Yield methods, paths and their routes. A path that ends with a slash, but `/`, stands for all that start with it."""
        for path, methods in [*self._fixed.items(), *self._below.items()]:
            for method, route in methods.items():
                yield method, path, route

    def template(self, path: str) -> str:
        """Return the route that a path belongs to, as it was declared; "other" for paths that are nothing's. Never a key."""
        if path in self._fixed:
            return path
        for prefix, methods in self._below.items():
            if path.startswith(prefix):
                below = getattr(next(iter(methods.values())).doc, "below", None)
                return f"{prefix}<{'key' if below is None else below.name}>"
        return "other"

    def _methods_of(self, environ: Mapping[str, Any]) -> dict[str, Route]:
        """Return what a path answers, by method. A fixed path has one spelling, without escapes."""
        path = environ.get(RAW_PATH, environ["PATH_INFO"])
        methods = self._fixed.get(path)
        if methods is None:
            return next((methods for prefix, methods in self._below.items() if path.startswith(prefix)), {})
        return methods

    def _judge(self, environ: Mapping[str, Any], methods: dict[str, Route]) -> Denial | None:
        """Return why the request is refused, if it is.

        Who has no token at all is told nothing about what paths there are and what they take; who has one, for anything, is.
        """
        method = environ["REQUEST_METHOD"]
        route = methods.get("GET" if method == "HEAD" else method)
        if route is not None:
            return self.access.judge(environ, route.needs(environ))
        open_path = any(route.role is Role.OPEN for route in methods.values())
        return self.access.judge(environ, Role.OPEN if open_path else Role.ANY)

    def _refuse(self, refusal: Denial, request: Request) -> Response:
        self.access.note(refusal, request.remote_host)
        raise refusal.error

    def find(self, environ: Mapping[str, Any]) -> tuple[Direct | None, str]:
        """Return what answers requests with this environment, given it and a body, or None; and their lane.

        It needs neither Bottle nor WSGI for that, and is spared their 20 us a request. All else - HEAD, wrong methods, unknown
        paths - is Bottle's. Raise what refuses a request of which even the body should not be read.
        """
        method = environ["REQUEST_METHOD"]
        methods = self._methods_of(environ)
        refusal = self._judge(environ, methods)
        if refusal is None:
            if method == "HEAD" and "GET" in methods:
                return None, methods["GET"].lane
            route = methods.get(method)
            return (None, CLIENTS) if route is None else (route.direct, route.lane)
        length = environ.get("CONTENT_LENGTH")
        if "HTTP_TRANSFER_ENCODING" in environ or (length and int(length) > _REFUSED_BODY):
            self.access.note(refusal, environ.get("REMOTE_ADDR", ""))
            raise refusal.error
        if method == "HEAD":
            return None, CLIENTS  # and refused below: an answer to HEAD has no body, which is WSGI's to know
        return partial(_respond, partial(self._refuse, refusal), None), CLIENTS

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, after PEP 3333."""
        methods = self._methods_of(environ)
        refusal = self._judge(environ, methods)
        if refusal is not None:
            return _answer(partial(self._refuse, refusal), None, environ, start_response)
        if not _is_utf8(environ["PATH_INFO"]):
            route = next(iter(methods.values()), None)  # a key's, as if its handler had seen it
            return _answer(_refuse_path, None if route is None else route.doc, environ, start_response)
        path = environ.get(RAW_PATH, environ["PATH_INFO"])
        if not path or ("%" in environ.get(RAW_PATH, "") and not path.startswith(tuple(self._below))):
            return _answer(_refuse_spelling, None, environ, start_response)
        answer: Iterable[bytes] = super().__call__(environ, start_response)
        return answer

    def default_error_handler(self, res: HTTPError) -> HTTPResponse:
        """Turn what Bottle refuses by itself into problem+json."""
        request = Request(bottle_request.environ)
        method, path = request.environ["REQUEST_METHOD"], request.environ.get("PATH_INFO", "")
        error: GkvError
        if res.status_code == 404:
            error = UnknownPath(f"there is nothing at {path[:256]}")
        elif res.status_code == 405:
            allow = res.headers.get("Allow", "").replace("GET", "GET,HEAD")
            error = WrongMethod(f"{path[:256]} does not take {method[:32]}", allow=allow)
        else:
            error = InternalError(str(res.body))
        return _as_bottle(render_problem(error, request.id))


def _callback(handler: Handler, doc: Description) -> Callable[[], HTTPResponse]:
    return lambda: _as_bottle(_respond(handler, doc, bottle_request.environ))


def _is_utf8(path: str) -> bool:
    """Return whether a path, which WSGI hands over as latin-1, is UTF-8. Bottle would drop the bytes that are not."""
    try:
        path.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _refuse_path(_request: Request) -> Response:
    raise SyntaxProblem("the path is not UTF-8")


def _refuse_spelling(request: Request) -> Response:
    """Refuse a fixed path that is written in another way: who watches paths in front of gkv may not know it again. The target
    `*` is an empty path, which Bottle would take for `/`.
    """
    raise UnknownPath(f"there is nothing at {request.environ.get(RAW_PATH, '')[:256] or '*'}")


def _answer(
    handler: Handler, doc: Description | None, environ: Mapping[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    response = _respond(handler, doc, environ)
    start_response(_STATUS_LINES[response.status], _headers(response))
    return [response.body, *response.parts]


def _respond(handler: Handler, doc: Description | None, environ: Mapping[str, Any], body: bytes | None = None) -> Response:
    request = Request(environ, body, doc)
    try:
        if "HTTP_CONTENT_ENCODING" in environ and doc is not None:  # who is not let in is told nothing about that
            refuse_coded(environ, body)
        response = handler(request)
    except GkvError as error:
        response = render_problem(error, request.id)
    except Exception:  # noqa: BLE001  # the edge of a request: a bug must cost one answer, not the connection
        traceparent = shown(environ, gathered=True)
        log.say_exception(f"request {request.id}{traceparent and f' of the trace {traceparent}'}: internal error")
        response = render_problem(InternalError("a bug"), request.id)
    response.request_id = request.id
    if doc is not None:
        response.caching = doc.caching
    return response


def _headers(response: Response) -> list[tuple[str, str]]:
    headers = [("Content-Type", response.content_type), ("X-Request-Id", response.request_id)]
    headers.append(("Cache-Control", response.caching))
    if response.stream is None:
        headers.append(("Content-Length", str(len(response.body) + sum(map(len, response.parts)))))
    return [*headers, *response.headers.items()] if response.headers else headers


def _as_bottle(response: Response) -> HTTPResponse:
    body = b"".join([response.body, *response.parts]) if response.parts else response.body
    return HTTPResponse(response.stream or body, response.status, _headers(response))
