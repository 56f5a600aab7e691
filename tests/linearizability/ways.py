"""All ways to read and write over HTTP: the request of each, and what its answer says of each key.
Pure.

The status contract is what is judged by here. An answer that the contract does not have raises
BrokenContract.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from gkv.api.listing import read_cursor
from gkv.replication.names import Scope
from tests.cluster.conftest import Answer
from tests.linearizability.history import Condition, Ending, Kind

BYTES = "application/octet-stream"
PROBLEM = "urn:gkv:problem:"
_BASE64 = "base64:"

WRITES_THAT_FAIL = {
    "indeterminate": Ending.UNKNOWN,
    "condition": Ending.CONDITION,
    "wrong-type": Ending.WRONG_TYPE,
    "not-applied": Ending.REFUSED,
    "no-primary": Ending.REFUSED,
    "too-few-copies": Ending.REFUSED,
    "epoch": Ending.REFUSED,
    "overloaded": Ending.REFUSED,
    "disk-full": Ending.REFUSED,
    "unavailable": Ending.REFUSED,
}
"""The codes that a write may be told, and what is known then."""
READS_THAT_FAIL = {"unreachable", "timeout", "no-primary", "epoch", "overloaded", "unavailable", "bad-answer"}


class BrokenContract(AssertionError):
    """An answer is none that the contract has for its request."""


@dataclass(frozen=True, slots=True)
class Intent:
    """One operation that a client is about to ask for."""

    key: str
    kind: Kind
    value: str | None = None
    """A JSON text without white space, or what `of_bytes` gives."""
    delta: int = 0
    ttl: float | None = None
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says of one operation; the names are those of `Operation`."""

    ending: Ending
    value: str | None = None
    version: str | None = None
    existed: bool | None = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, and the operations that it stands for."""

    way: str
    method: str
    path: str
    intents: Sequence[Intent]
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    page: "Page | None" = None


@dataclass(frozen=True, slots=True)
class Page:
    """A place in a listing by prefix: the key up to which it is done, "" at its beginning, and how to
    go on.
    """

    prefix: str
    after: str = ""
    cursor: str = ""


def of_bytes(data: bytes) -> str:
    """Return the text that stands for a value of bytes in a history."""
    return _BASE64 + b64encode(data).decode()


def get(key: str, known: str | None = None, method: str = "GET") -> Request:
    """Ask for one key, with the version that is known already, if one is given."""
    headers = {} if known is None else {"If-None-Match": f'"{known}"'}
    return Request(method if known is None else "304", method, _path(key), [Intent(key, Kind.READ)], headers=headers)


def get_many(keys: Sequence[str], *, meta: bool = False, by_query: bool = False) -> Request:
    """Ask for a batch."""
    intents = [Intent(key, Kind.READ) for key in keys]
    if by_query:
        query = "&".join(["meta=1"] * meta + [f"key={quote(key, safe='')}" for key in keys])
        return Request("GET /get", "GET", f"/get?{query}", intents)
    body = json.dumps([{"key": key} for key in keys]).encode()
    return Request("POST /get" + "+meta" * meta, "POST", "/get" + "?meta=1" * meta, intents, body)


def list_page(keys: Sequence[str], page: Page, limit: int, *, values: bool) -> Request:
    """Ask for a page of a listing; `keys` are all that may be in it."""
    intents = [Intent(key, Kind.READ) for key in sorted(keys) if key.startswith(page.prefix) and key > page.after]
    cursor = f"&cursor={page.cursor}" if page.cursor else ""
    path = f"/v1/kv?prefix={quote(page.prefix, safe='')}&limit={limit}{'&values=1' * values}{cursor}"
    return Request("list+values" if values else "list", "GET", path, intents, page=page)


def put(intent: Intent) -> Request:
    """Write one key."""
    assert intent.value is not None
    body, kind = intent.value.encode(), "application/json"
    if intent.value.startswith(_BASE64):
        body, kind = b64decode(intent.value.removeprefix(_BASE64)), BYTES
    path = _path(intent.key) + ("" if intent.ttl is None else f"?ttl={intent.ttl}")
    return Request("PUT", "PUT", path, [intent], body, {"Content-Type": kind} | _conditional(intent.condition))


def delete(intent: Intent) -> Request:
    """Delete one key."""
    return Request("DELETE", "DELETE", _path(intent.key), [intent], headers=_conditional(intent.condition))


def add(intent: Intent) -> Request:
    """Add to one key."""
    ttl = "" if intent.ttl is None else f"&ttl={intent.ttl}"
    return Request("add", "POST", f"{_path(intent.key)}?add={intent.delta}{ttl}", [intent])


def touch(intent: Intent) -> Request:
    """Give one key another expiry."""
    return Request("touch", "POST", f"{_path(intent.key)}?touch={intent.ttl or 0}", [intent])


def set_many(intents: Sequence[Intent], *, as_json: bool) -> Request:
    """Write a batch."""
    body = json.dumps([_item(intent) for intent in intents]).encode()
    return Request("/set", "POST", "/set", intents, body, {"Accept": "application/json"} if as_json else {})


def delete_many(intents: Sequence[Intent]) -> Request:
    """Delete a batch."""
    return Request("/delete", "POST", "/delete", intents, json.dumps([_item(intent) for intent in intents]).encode())


def _path(key: str) -> str:
    return "/v1/kv/" + quote(key)


def _conditional(condition: Condition | None) -> dict[str, str]:
    if condition is None:
        return {}
    return {
        "If-None-Match" if condition.negated else "If-Match": ", ".join(f'"{tag}"' for tag in condition.versions) or "*",
    }


def _item(intent: Intent) -> dict[str, Any]:
    item: dict[str, Any] = {"key": intent.key}
    if intent.value is not None and intent.value.startswith(_BASE64):
        item |= {"value": intent.value.removeprefix(_BASE64), "encoding": "base64", "type": BYTES}
    elif intent.value is not None:
        item["value"] = json.loads(intent.value)
    if intent.ttl is not None:
        item["ttl"] = intent.ttl
    if intent.condition is not None:
        item["ifVersion"] = None if intent.condition.negated else (*intent.condition.versions, "*")[0]
    return item


def understand(request: Request, answer: Answer) -> list[Told | None]:
    """Return what an answer says of each operation of a request; None for one that it is not about."""
    problem = answer.headers.get("Content-Type", "").startswith("application/problem+json")
    if request.path.startswith("/v1/kv/"):
        return [_of_one(request, answer, _code(answer) if problem else "")]
    if not request.intents:  # a page after the last key
        return []
    if problem:
        told = _failed(request.intents[0].kind, _code(answer), answer)
        return [told] * len(request.intents)
    if request.path.startswith("/v1/kv?"):
        return _of_listing(request, answer)
    if request.path.startswith("/get"):
        return _of_get(request, answer)
    return _of_writes(request, answer)


def next_page(page: Page, answer: Answer) -> Page | None:
    """Return where a listing goes on after this page; None after the last one, or when there was no
    answer.
    """
    if answer.status != 200 or not answer.json.get("cursor"):
        return None
    cursor = answer.json["cursor"]
    return Page(page.prefix, read_cursor(Scope(page.prefix), cursor), cursor)


def _code(answer: Answer) -> str:
    return str(answer.json["type"]).removeprefix(PROBLEM) if answer.body else ""


def _failed(kind: Kind, code: str, answer: Answer, version: str | None = None) -> Told:
    if kind is Kind.READ and code in READS_THAT_FAIL:
        return Told(Ending.REFUSED, code=code)
    if kind is not Kind.READ and code in WRITES_THAT_FAIL:
        return Told(WRITES_THAT_FAIL[code], version=version, code=code)
    raise BrokenContract(f"{answer.status} {code!r} is no answer to a {kind.value}: {answer.body[:300]!r}")


def _of_one(request: Request, answer: Answer, code: str) -> Told:
    kind = request.intents[0].kind
    version = answer.headers.get("ETag", "").strip('"') or None
    if answer.status == 404 and kind in (Kind.READ, Kind.DELETE, Kind.TOUCH):
        return Told(Ending.MISSING)
    if answer.status == 412 and kind is not Kind.READ:
        return Told(Ending.CONDITION, version=version)
    if answer.status >= 400:
        if request.method == "HEAD":  # its answer has no body, so no code
            return Told(Ending.REFUSED, code=str(answer.status))
        return _failed(kind, code, answer)
    match kind, answer.status:
        case Kind.READ, 200 if request.method == "HEAD":
            return Told(Ending.DONE, version=version)
        case Kind.READ, 200:
            is_json = answer.headers["Content-Type"].startswith("application/json")
            return Told(Ending.DONE, _text(answer.json) if is_json else of_bytes(answer.body), version)
        case Kind.READ, 304:
            return Told(Ending.DONE, version=version)
        case Kind.PUT, 201 | 204:
            return Told(Ending.DONE, version=version, existed=answer.status == 204)
        case Kind.DELETE, 204:
            return Told(Ending.DONE, existed=True)
        case Kind.ADD, 200 | 201:
            return Told(Ending.DONE, _text(answer.json), version)
        case Kind.TOUCH, 200 | 204:
            return Told(Ending.DONE, version=version)
    raise BrokenContract(f"{answer.status} is no answer to {request.method} {request.path}")


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _of_listing(request: Request, answer: Answer) -> list[Told | None]:
    found = answer.json
    keys = found["keys"]
    if keys != sorted(set(keys)) or not set(keys) <= {intent.key for intent in request.intents}:
        raise BrokenContract(f"{request.path} lists {keys}")
    texts = [None] * len(keys)
    if "values" in found:
        encodings = found.get("encodings") or texts
        texts = [_shown(value, encoding) for value, encoding in zip(found["values"], encodings, strict=True)]
    listed = dict(zip(keys, texts, strict=True))
    # A key that had no value any more when values were read is not in the page, and may be the one after which the next begins.
    until = None if found["complete"] else read_cursor(Scope(request.page.prefix), found["cursor"])
    return [
        Told(Ending.DONE, listed[intent.key])
        if intent.key in listed
        else Told(Ending.MISSING)
        if until is None or intent.key <= until
        else None
        for intent in request.intents
    ]


def _shown(value: Any, encoding: str | None) -> str:
    return f"{_BASE64}{value}" if encoding == "base64" else _text(value)


def _of_get(request: Request, answer: Answer) -> list[Told | None]:
    found = answer.json
    told: dict[str, Told] = {}
    for row in found["existedKey"]:
        told[row["key"]] = Told(Ending.DONE, _shown(row["value"], row.get("encoding")), row.get("version"))
    told |= {row["key"]: Told(Ending.MISSING) for row in found.get("notExistedKey", ())}
    told |= {row["key"]: _failed(Kind.READ, row["code"], answer) for row in found.get("failedKey", ())}
    if list(told) == [] or set(told) != {intent.key for intent in request.intents}:
        raise BrokenContract(f"{request.path} answers {sorted(told)}")
    return [told[intent.key] for intent in request.intents]


def _of_writes(request: Request, answer: Answer) -> list[Told | None]:
    if answer.headers.get("Content-Type", "").startswith("text/plain"):
        if answer.status != 200 or answer.body.replace(b"Success to set key", b"") or not answer.body:
            raise BrokenContract(f"{answer.status} {answer.body[:100]!r} is no answer to /set")
        return [Told(Ending.DONE)] * len(request.intents)
    found = answer.json
    failed = {
        row["key"]: _failed(request.intents[0].kind, row["code"], answer, row.get("version"))
        for row in found.get("failedKey", ())
    }
    definite = len(request.intents) - len(failed)
    done = Told(Ending.DONE)
    if "deleted" in found:
        if found["deleted"] > definite:
            raise BrokenContract(f"{found['deleted']} of {definite} keys are deleted")
        if found["deleted"] == 0:
            done = Told(Ending.MISSING)
        elif found["deleted"] == definite:
            done = Told(Ending.DONE, existed=True)
    elif found["set"] != definite:
        raise BrokenContract(f"{found['set']} of {definite} keys are set")
    elif len(request.intents) == 1 and not failed:
        # Of many it is the greatest that was given: one node, too, may have had parts of a batch one after the other, where
        # some keys were routed anew to it.
        done = Told(Ending.DONE, version=found["version"])
    return [failed.get(intent.key, done) for intent in request.intents]
