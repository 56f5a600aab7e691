"""One key: GET, HEAD, PUT and DELETE of `/v1/kv/<key>`. A value comes back as it was sent: a JSON text, or bytes with a type.

What a request asks for and this version does not do - a conditional write, a coded body - is refused, never ignored.
"""

import re
from collections.abc import Iterator
from typing import NoReturn

from gkv.api import operations as described
from gkv.api.access import Role
from gkv.api.http import ANY_BYTES, JSON, TEXT, Request, Response, Routes
from gkv.coordinator import DISK_FULL, Coordinator
from gkv.errors import EngineFull, NoDefiniteAnswer, NoSuchKey, NotSupported, SyntaxProblem, TooLarge, WrongContentType
from gkv.errors import WrongParameter as Wrong
from gkv.model import Blob, KeyFailure, Record, Value, Version
from gkv.net.turn import LARGE, Turn
from gkv.wire.client import MAX_TTL
from gkv.wire.path import decode_key
from gkv.wire.strict import Reader, no_pause

BELOW = "/v1/kv/"
MAX_TYPE = 255
"""Bytes of a content type; RFC 6838 bounds the names in one at 127 each."""

# Blanks stand only where one part of the pattern takes them: with two that could, 255 bytes would take it for ever.
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_media_type = re.compile(rf"{_WORD}/{_WORD} *(?:; *(?:{_WORD}=(?:{_WORD}|{_QUOTED}) *)?)*").fullmatch
_entity_tag = re.compile(r'[ \t,]*(?:W/)?"([!#-~\x80-\xff]*)"[ \t]*(?:,|\Z)').match
_seconds = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch
"""A number as JSON has it, as it stands in a batch's `ttl` too, without a sign."""
_copies = re.compile(r"[1-9][0-9]{0,2}").fullmatch

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # What somebody has stored here must not act in a browser as a page of this server, which also takes /set.
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "no-cache",  # kept, but asked for again with If-None-Match each time
}
_WHY = {
    "not-applied": "the node that holds the key cannot be reached; nothing has changed",
    "indeterminate": "the write may show up now, later or never; a repetition is another write",
    "damaged": "the record of this key is not what was written; set it again, or delete it",
    "no-primary": "no node answers for the key; nothing has changed",
    "overloaded": "too much is waiting for the node that holds the key; nothing has changed",
    "snapshot-running": "the node that holds the key has no room until the copy of its store is done; nothing has changed",
}


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

    def get(self, request: Request, path: str) -> Response:
        """Answer GET, and HEAD, of which only the head is sent."""
        key = decode_key(path, self._limits)
        self._read_query(request)
        known = request.environ.get("HTTP_IF_NONE_MATCH")
        tags = None if known is None else list(_read_tags(known))
        if "HTTP_IF_MATCH" in request.environ:
            raise NotSupported("If-Match is not available in this version; If-None-Match is, on GET and HEAD")
        found = self._coordinator.fetch(key, request.trace)
        if isinstance(found, KeyFailure):
            _fail(found)
        if found is None:
            raise NoSuchKey("the key has no value")
        if tags is not None and (str(found.version) in tags or "*" in tags):
            return Response(b"", status=304, headers=_HEADERS | _tagged(found.version))
        return _as_stored(found)

    def put(self, request: Request, path: str) -> Response:
        key = decode_key(path, self._limits)
        request.refuse_conditions()
        ttl = _read_ttl(self._read_query(request).get("ttl"))
        written = self._coordinator.put(key, self._read_value(request), ttl, request.trace)
        for failure in written.failed.values():
            _fail(failure)
        headers = {} if written.version is None else _tagged(written.version)
        return Response(b"", TEXT, 204 if written.existed else 201, headers)

    def delete(self, request: Request, path: str) -> Response:
        key = decode_key(path, self._limits)
        request.refuse_conditions()
        self._read_query(request)
        deleted = self._coordinator.delete(key, request.trace)
        for failure in deleted.failed.values():
            _fail(failure)
        if not deleted.existed:
            raise NoSuchKey("the key had no value")
        return Response(b"", status=204)

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
        if not _media_type(content_type):
            raise SyntaxProblem("Content-Type is not TYPE/SUBTYPE, with parameters NAME=VALUE after semicolons")
        if request.environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
            raise WrongContentType("a value is stored without Content-Encoding, so its body is sent without")
        if "HTTP_CONTENT_RANGE" in request.environ:
            raise SyntaxProblem("a value is written whole, not by Content-Range")
        body = request.body(self._max_body)
        if content_type.partition(";")[0].rstrip().lower() != JSON:
            return Blob(body, content_type)
        reader = Reader(body, Turn() if len(body) > LARGE else no_pause)
        reader.text()
        reader.end()
        return body


def _as_stored(record: Record) -> Response:
    headers = _HEADERS | _tagged(record.version)
    value = record.value
    if isinstance(value, Blob):
        return Response(value.data, value.content_type, headers=headers)
    return Response(value or b"", headers=headers)


def _tagged(version: Version) -> dict[str, str]:
    return {"ETag": f'"{version}"'}


def _fail(failure: KeyFailure) -> NoReturn:
    if failure is DISK_FULL:
        raise EngineFull("the disk of the node that holds the key is full; nothing has changed. Deletes free room")
    detail = _WHY.get(failure.code, "the node that holds the key gives no answer now")
    raise NoDefiniteAnswer(detail, failure.code, retryable=failure.retryable)


def _read_tags(text: str) -> Iterator[str]:
    """Yield what an If-None-Match names: entity tags without their quotes, of weak ones too, or `*`."""
    text = text.strip(" \t,")
    if text == "*":
        yield text
        return
    at = 0
    while at < len(text) or not text:
        match = _entity_tag(text, at)
        if match is None:
            raise SyntaxProblem("If-None-Match is a list of entity tags in double quotes, or *")
        yield match[1]
        at = match.end()


def _read_ttl(text: str | None) -> float | None:
    if text is None:
        return None
    if len(text) > 32 or not _seconds(text) or not 0 < float(text) <= MAX_TTL:
        raise Wrong(f"ttl is a number of seconds above 0, at most {MAX_TTL}")
    return float(text)
