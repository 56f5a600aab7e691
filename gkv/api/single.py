"""One key: GET, HEAD, PUT, DELETE and POST of `/v1/kv/<key>`. A value comes back as it was sent: a
JSON text, or bytes with a type.

A write may depend on the version that is there; the key's node decides. What a request asks for and
nobody does - a coded body, a range - is refused, never ignored.
"""

import re
from typing import NoReturn

from gkv.api import operations as described
from gkv.api import preconditions
from gkv.api.access import Role
from gkv.api.http import TEXT, Request, Response, Routes
from gkv.api.listing import age_bound, is_wanted
from gkv.coordinator import DISK_FULL, Coordinator, Written
from gkv.coordinator.failures import INDETERMINATE, TOO_FEW_COPIES, UNANSWERED
from gkv.errors import (
    ConditionFailed,
    EngineFull,
    InvalidItem,
    InvalidParameter,
    NoDefiniteAnswer,
    NoSuchKey,
    SyntaxProblem,
    TooLarge,
    WrongType,
)
from gkv.errors import WrongParameter as Wrong
from gkv.model import Blob, Effect, KeyFailure, OtherVersion, Value, Version
from gkv.net.turn import LARGE, Turn
from gkv.replication.counters import MAX_DIGITS, read_delta
from gkv.wire.blob import ANY_BYTES, JSON, MAX_TYPE, essence, is_media_type
from gkv.wire.client import MAX_TTL
from gkv.wire.meta import Found
from gkv.wire.path import decode_key
from gkv.wire.strict import Reader, no_pause

BELOW = "/v1/kv/"
_FORM = "application/x-www-form-urlencoded"
"""The type that `curl -d` and a browser's form say, whatever they send."""

_seconds = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch
"""A number as JSON has it, as it stands in a batch's `ttl` too, without a sign."""
_above_0 = re.compile(r"[0.]*[1-9]").match
"""A number of those above 0, be it too small for a float."""
_copies = re.compile(r"[1-9][0-9]{0,2}").fullmatch

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # What somebody has stored here must not act in a browser as a page of this server, which also takes /set.
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
_WHY = {
    "not-applied": "the node that holds the key cannot be reached",
    "indeterminate": "the write may show up now, later or never; a repetition is another write",
    "damaged": "the record of this key is not what was written; set it again, or delete it",
    "no-primary": "no node answers for the key",
    "too-few-copies": "fewer nodes that keep the key are up than a write has to be on",
    "epoch": "the cluster went on changing until the deadline",
    "overloaded": "too much is waiting for the node that holds the key",
    "snapshot-running": "the node that holds the key has no room until the copy of its store is done",
}
_NOT_BEGUN = frozenset(row.write.code for row in UNANSWERED.values() if not row.begun) | {TOO_FEW_COPIES.code}
_UNCHANGED = "; nothing has changed"


class SingleKeys:
    """The handlers, over one coordinator."""

    def __init__(self, coordinator: Coordinator, max_body: int) -> None:
        self._coordinator = coordinator
        self._limits = coordinator.limits
        self._max_body = min(max_body, coordinator.limits.max_value)

    def mount(self, routes: Routes) -> None:
        """Declare the routes."""
        routes.add_below("GET", BELOW, self.get, doc=described.GET_KEY, role=Role.READER)
        routes.add_below("PUT", BELOW, self.put, doc=described.PUT_KEY, role=Role.CLIENT)
        routes.add_below("DELETE", BELOW, self.delete, doc=described.DELETE_KEY, role=Role.CLIENT)
        routes.add_below("POST", BELOW, self.change, doc=described.CHANGE_KEY, role=Role.CLIENT)

    def get(self, request: Request, path: str) -> Response:
        """Answer GET, and HEAD, of which only the head is sent.

        Without a value that is the answer, whatever the conditions are (RFC 9110, 13.2.1).
        """
        key = decode_key(path, self._limits)
        query = self._read_query(request)
        match = preconditions.if_match(request.environ)
        none_match = preconditions.if_none_match(request.environ)
        about: dict[str, str] = {}
        if is_wanted("stale", query.get("stale", "0")):
            peeked = self._coordinator.peek([key], request.trace)
            [found], about = peeked.found, age_bound(peeked.age)
        else:
            found = self._coordinator.fetch(key, request.trace)
        if isinstance(found, KeyFailure):
            _fail(found, writing=False)
        if found is None:
            raise NoSuchKey("the key has no value", about)
        version = found.record.tag
        if match is not None and not match.holds(version):
            raise _condition_failed(request, version)
        if none_match is not None and not none_match.holds(version):
            return Response(b"", status=304, headers=_HEADERS | about | _about(found))
        return _as_stored(found, about)

    def put(self, request: Request, path: str) -> Response:
        key = decode_key(path, self._limits)
        condition = _read_condition(request)
        ttl = _read_ttl(self._read_query(request).get("ttl"), "ttl")
        written = self._coordinator.put(key, self._read_value(request), ttl, condition, request.trace)
        self._check(request, written)
        headers = {} if written.version is None else _tagged(written.version)
        return Response(b"", TEXT, 204 if written.existed else 201, headers)

    def delete(self, request: Request, path: str) -> Response:
        key = decode_key(path, self._limits)
        condition = _read_condition(request)
        self._read_query(request)
        deleted = self._coordinator.delete(key, condition, request.trace)
        self._check(request, deleted)
        if not deleted.existed:
            raise NoSuchKey("the key had no value")
        return Response(b"", status=204)

    def change(self, request: Request, path: str) -> Response:
        """Add to a value, or give it another expiry: what a POST does stands in its query."""
        key = decode_key(path, self._limits)
        request.refuse_conditions()
        given = self._read_query(request)
        if ("add" in given) is ("touch" in given):
            raise InvalidParameter("a POST has one of the query parameters add and touch")
        if request.body(self._max_body):
            raise SyntaxProblem("what is to be done stands in the query; this call takes no body")
        if "add" in given:
            return self._add(request, key, given["add"], given.get("ttl"))
        if "ttl" in given:
            raise InvalidParameter("touch says the seconds itself; ttl goes with add")
        return self._touch(request, key, given["touch"])

    def _add(self, request: Request, key: str, text: str, ttl: str | None) -> Response:
        delta = read_delta(text)
        if delta is None:
            raise Wrong(f"add is a whole number of at most {MAX_DIGITS} digits, without + or leading zeros")
        written = self._coordinator.add(key, delta, _read_ttl(ttl, "ttl"), request.trace)
        self._check(request, written)
        [(_, effects)] = written.parts
        [effect] = effects
        if effect is Effect.WRONG_TYPE:
            raise WrongType("the value is no whole number as JSON writes one; nothing has changed")
        if effect is Effect.TOO_MANY_DIGITS:
            raise WrongType(f"the sum would have more than {MAX_DIGITS} digits; nothing has changed")
        if len(effects.sums) != 1 or written.version is None:
            _fail(INDETERMINATE, writing=True)
        return Response(b"%d" % effects.sums[0], headers=_HEADERS | _tagged(written.version))

    def _touch(self, request: Request, key: str, text: str) -> Response:
        written = self._coordinator.touch(key, _read_ttl(text, "touch", least=0.0) or 0, request.trace)
        self._check(request, written)
        if written.effects()[0] is Effect.MISSING:
            raise NoSuchKey("the key has no value")
        if written.version is None:
            _fail(INDETERMINATE, writing=True)
        return Response(b"", status=204, headers=_tagged(written.version))

    def _check(self, request: Request, written: Written) -> None:
        """Raise what became of a write of one key that was not applied, or may not have been."""
        for key, failure in written.failed.items():
            if isinstance(failure, OtherVersion):
                raise _condition_failed(request, failure.present)
            _fail(failure, writing=True, why=self._too_few(key) if failure.code == TOO_FEW_COPIES.code else "")

    def _too_few(self, key: str) -> str:
        """Return how many nodes act for a key and how many should, "" if they are enough by now."""
        acting, needed = self._coordinator.acting(key)
        return f"{acting} of the nodes that keep the key act, and a write needs {needed}" if acting < needed else ""

    def _read_query(self, request: Request) -> dict[str, str]:
        given = {name: found[0] for name, found in request.query().items()}
        for name in ("r", "w"):
            if name in given:
                copies = self._coordinator.replicas
                if not _copies(given[name]) or not 1 <= int(given[name]) <= copies:
                    raise Wrong(f"{name} is a whole number from 1 to {copies}, of how many copies there are")
        return given

    def _read_value(self, request: Request) -> Value:
        """Return what a PUT brings: the whole body, white space around a JSON value too, as ETag promises (RFC 9110, 9.3.4)."""
        content_type = request.environ.get("CONTENT_TYPE") or ANY_BYTES
        if len(content_type) > MAX_TYPE:
            raise TooLarge(f"a Content-Type has at most {MAX_TYPE} bytes, this one {len(content_type)}")
        if not is_media_type(content_type):
            raise SyntaxProblem("Content-Type is not TYPE/SUBTYPE, with parameters NAME=VALUE after semicolons")
        if "HTTP_CONTENT_RANGE" in request.environ:
            raise SyntaxProblem("a value is written whole, not by Content-Range")
        body = request.body(self._max_body)
        kind = essence(content_type)
        if kind == JSON:
            _read_json(body)
            return body
        if kind == _FORM and body:
            try:
                _read_json(body)
            except (SyntaxProblem, InvalidItem):
                return Blob(body, content_type)
            return body
        return Blob(body, content_type)


def _read_json(body: bytes) -> None:
    """Raise SyntaxProblem or InvalidItem for a body that is not one JSON text."""
    reader = Reader(body, Turn() if len(body) > LARGE else no_pause)
    reader.text()
    reader.end()


def _read_condition(request: Request) -> str | None:
    """Return the condition of a write, as a frame has it."""
    request.refuse_conditions(preconditions.MATCH, preconditions.NONE_MATCH)
    return preconditions.of_write(request.environ)


def _as_stored(found: Found, about: dict[str, str]) -> Response:
    headers = _HEADERS | about | _about(found)
    value = found.record.value
    if isinstance(value, Blob):
        return Response(value.data, value.content_type, headers=headers)
    return Response(value or b"", headers=headers)


def _about(found: Found) -> dict[str, str]:
    """Return what a head says about a value."""
    left = found.entry.seconds_left
    return _tagged(found.record.tag) | ({"Expires-In": left} if left else {})


def _tagged(version: Version) -> dict[str, str]:
    return {"ETag": _etag(version)}


def _etag(version: Version) -> str:
    return f'"{version}"'


def _condition_failed(request: Request, present: Version | None) -> ConditionFailed:
    why = preconditions.why_unmet(request.environ, present).value
    unchanged = "" if request.environ["REQUEST_METHOD"] in ("GET", "HEAD") else _UNCHANGED
    return ConditionFailed(why[0].upper() + why[1:], why + unchanged, None if present is None else _etag(present))


def _fail(failure: KeyFailure, *, writing: bool, why: str = "") -> NoReturn:
    if failure.code == DISK_FULL.code:
        whose = f"node {failure.node}, which has a copy of the key," if failure.node else "the node that holds the key"
        raise EngineFull(f"the disk of {whose} is full; nothing has changed. Deletes free room")
    detail = why or _WHY.get(failure.code, "the node that holds the key gives no answer now")
    if writing and failure.code in _NOT_BEGUN:
        detail += _UNCHANGED
    raise NoDefiniteAnswer(detail, failure.code, status=failure.status, retryable=failure.retryable)


def _read_ttl(text: str | None, name: str, least: float | None = None) -> float | None:
    """Read a number of seconds above 0, or from `least` on."""
    if text is None:
        return None
    if (
        len(text) > 32
        or not _seconds(text)
        or not (0 < float(text) <= MAX_TTL or (float(text) == least and not _above_0(text)))
    ):
        above = "above 0" if least is None else "from 0 on (0: for good)"
        raise Wrong(f"{name} is a number of seconds {above}, at most {MAX_TTL}")
    return float(text)
