"""The descriptions of the routes that proxies and nodes share.

Where JSON Schema cannot say something - bytes of UTF-8, levels, a cursor's checksum - the
text does.
"""

from gkv.api.http import TEXT
from gkv.api.operation import NO_CACHE, Content, Operation, Parameter, ResponseDoc, Schema, array, ref
from gkv.api.schemas import by_code, word
from gkv.coordinator.failures import DISK_FULL, READ_FAILURES, WRITE_FAILURES
from gkv.errors import (
    ConditionFailed,
    EngineFull,
    InvalidItem,
    NoSuchKey,
    NotSupported,
    WrongParameter,
    WrongType,
)
from gkv.replication.counters import MAX_DELTA, MAX_DIGITS
from gkv.wire.blob import JSON
from gkv.wire.client import MAX_TTL

_OF_ONE_READ = by_code(READ_FAILURES)
_OF_ONE_WRITE = by_code(WRITE_FAILURES - {DISK_FULL})  # that one is an error of its own
_VERSION = "[0-9a-f]{32}"
_INTEGER: Schema = {"type": "integer", "minimum": 0}

_KEYS = Parameter("key", "a key; `+` is a space", array(ref("Key"), minItems=1), required=True, repeated=True)
_COPIES = tuple(Parameter(name, f"`{name}` for this request", ref("Copies")) for name in ("r", "w"))
_STRICT = Parameter(
    "Prefer", "`handling=strict`: 503 instead of 200 when some keys have no definite answer", word(), place="header"
)
_ETAG_LIST = r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$'
_META = Parameter(
    "meta",
    "1: with the version, and type and seconds left where there are any",
    {"type": "integer", "enum": [0, 1], "default": 0},
)
_STALE = Parameter(
    "stale",
    "1: any copy may answer, be it the newest or not; Age-Bound says since when it has not heard the one that orders writes",
    {"type": "integer", "enum": [0, 1], "default": 0},
)
_IF_MATCH, _IF_NONE_MATCH = (
    Parameter(
        name,
        what,
        {"type": "string", "pattern": _ETAG_LIST},
        place="header",
        example='"000100000000000700000000000000a1"',
    )
    for name, what in (
        ("If-Match", "entity tags of which one must be there, or `*` for any value; a weak tag never matches"),
        ("If-None-Match", "entity tags of which none may be there, or `*` for no value at all"),
    )
)
_UNMET = {412: ResponseDoc("What is there is another version; nothing has changed", headers=("ETag-if-any",))}
_KEY_BATCH = {JSON: Content(ref("KeyBatch"), [{"key": "hi"}, {"key": "hi6"}])}
_GOT = {
    JSON: Content(ref("Got"), {"existedKey": [{"key": "hi", "value": "hello"}], "notExistedKey": [{"key": "hi6", "value": ""}]})
}
_GET_ANSWERS = {
    200: ResponseDoc("What is there and what is not, in request order", _GOT, ("Age-Bound",)),
    503: ResponseDoc(
        "No key has a definite answer, or one has none and the request asked for strict handling", _GOT, ("Age-Bound",)
    ),
}
_LOCATED = {200: ResponseDoc("For each key its token and its nodes", {JSON: Content(ref("Located"))})}
_NO_BODY_TYPE = "Any Content-Type is taken, as curl -d sends a form's."


def _unfinished(schema: str) -> dict[int, ResponseDoc]:
    return {
        412: ResponseDoc("A condition did not hold; all other items were applied", {JSON: Content(ref(schema))}),
        503: ResponseDoc("Some keys have no definite answer; what is said of the others holds", {JSON: Content(ref(schema))}),
        507: ResponseDoc("The disk of a node is full", {JSON: Content(ref(schema))}),
    }


SET = Operation(
    "Set keys to values",
    {
        200: ResponseDoc(
            "`Success to set key`, once for every node that took part; with Accept: application/json as JSON",
            {
                TEXT: Content({"type": "string", "pattern": "^(Success to set key)*$"}, "Success to set keySuccess to set key"),
                JSON: Content(ref("Set"), {"set": 2, "nodes": 2, "version": "000100000000000700000000000000a1"}),
            },
        ),
        **_unfinished("Set"),
    },
    "An invalid item refuses the whole batch. Of a key that stands twice, the last item is stored. An item with ifVersion is "
    "applied only if that is there, each for itself; its key stands once in the batch. Bytes come as base64 with encoding, and "
    f"with a type unless they are application/octet-stream. {_NO_BODY_TYPE}",
    body={JSON: Content(ref("SetBatch"), [{"key": "hi", "value": "hello"}, {"key": "brief", "value": [1, 2.50], "ttl": 3600}])},
    problems=(InvalidItem, NotSupported),
)
GET = Operation(
    "Get the values of keys",
    _GET_ANSWERS,
    _NO_BODY_TYPE,
    (_META, _STALE, _STRICT),
    _KEY_BATCH,
    problems=(InvalidItem, WrongParameter),
)
GET_BY_QUERY = Operation(
    "Get the values of keys",
    _GET_ANSWERS,
    "Instead of the parameter key, a body as that of a POST is taken too.",
    (_KEYS, _META, _STALE, _STRICT),
    problems=(InvalidItem, WrongParameter),
)
DELETE = Operation(
    "Delete keys",
    {200: ResponseDoc("How many existed", {JSON: Content(ref("Deleted"), {"deleted": 1})}), **_unfinished("Deleted")},
    "An item with ifVersion is applied only if that is there, each for itself; its key stands once in the batch. "
    f"{_NO_BODY_TYPE}",
    body={JSON: Content(ref("DeleteBatch"), [{"key": "hi"}, {"key": "hi6"}])},
    problems=(InvalidItem, NotSupported),
)
LOCATE = Operation("Find the nodes of keys", _LOCATED, _NO_BODY_TYPE, body=_KEY_BATCH, problems=(InvalidItem,))
LOCATE_BY_QUERY = Operation("Find the nodes of keys", _LOCATED, parameters=(_KEYS,), problems=(InvalidItem,))


def listing(default: int, most: int, max_delimiter: int) -> Operation:
    """Describe the listing; the numbers are names in a page, and bytes."""
    return Operation(
        "List keys by prefix, page by page",
        {
            200: ResponseDoc(
                "Keys in code point order, and the cursor of the next page unless this is the last one",
                {JSON: Content(ref("Listed"), {"keys": ["a/1", "a/2"], "cursor": "tY1jN2bfYS8y", "complete": False})},
            )
        },
        "A key that is there throughout the listing is listed exactly once. With values or meta a page ends when it has a "
        "fourth of the bytes that an answer may have, so it may have fewer keys than the limit; it has one at least.",
        (
            Parameter(
                "prefix",
                "what the keys begin with; by default nothing, so all are listed",
                ref("Prefix"),
            ),
            Parameter(
                "limit",
                "keys in a page, and prefixes",
                {"type": "integer", "minimum": 1, "maximum": most, "default": default},
            ),
            Parameter("cursor", "the one that came with the page before, for the same prefix and delimiter", word()),
            Parameter(
                "delimiter",
                "keys that have it behind the prefix are not listed, but what they begin with up to the end of the first one, "
                f"once for all that begin so, in `prefixes`; at most {max_delimiter} bytes as UTF-8, without U+0000",
                {"type": "string", "minLength": 1, "maxLength": max_delimiter, "pattern": r"^[^\u0000]+$"},
                example="/",
            ),
            Parameter("values", "1: with their values", {"type": "integer", "enum": [0, 1], "default": 0}),
            _META,
            Parameter(
                "versions",
                "0: without them, where there is meta=1, which is read three times as fast",
                {"type": "integer", "enum": [0, 1], "default": 1},
            ),
        ),
        problems=(WrongParameter,),
        failures=_OF_ONE_READ,
    )


_ANY = {JSON: Content(ref("Value"), {"any": "JSON"}), "*/*": Content({}, "any bytes")}
GET_KEY = Operation(
    "Get one value",
    {
        200: ResponseDoc(
            "The body as it was stored, with its type",
            {JSON: Content(ref("Value")), "*/*": Content()},
            ("ETag", "Expires-In", "Age-Bound"),
        ),
        304: ResponseDoc("If-None-Match names the version that is stored", headers=("ETag", "Expires-In", "Age-Bound")),
        404: ResponseDoc("The key has no value", headers=("Age-Bound",)),
        **_UNMET,
    },
    parameters=(*_COPIES, _STALE, _IF_MATCH, _IF_NONE_MATCH),
    problems=(InvalidItem, WrongParameter, NoSuchKey, ConditionFailed),
    failures=_OF_ONE_READ,
    caching=NO_CACHE,
)
PUT_KEY = Operation(
    "Store one value",
    {
        201: ResponseDoc("The key is new", {TEXT: Content({"const": ""})}, ("ETag",)),
        204: ResponseDoc("The key had a value, which this one replaces", headers=("ETag",)),
        **_UNMET,
    },
    "With Content-Type: application/json the body is a JSON value, with any other (application/octet-stream without one) it is "
    "bytes of that type; but a form's type (what curl -d says) with one JSON text is that JSON value.",
    (*_COPIES, Parameter("ttl", "seconds until it expires", ref("Ttl")), _IF_MATCH, _IF_NONE_MATCH),
    _ANY,
    body_required=False,
    body_limit="valueBytes",
    problems=(InvalidItem, WrongParameter, NotSupported, EngineFull, ConditionFailed),
    failures=_OF_ONE_WRITE,
    caching=NO_CACHE,
)
DELETE_KEY = Operation(
    "Delete one value",
    {204: ResponseDoc("It is deleted"), **_UNMET},
    parameters=(*_COPIES, _IF_MATCH, _IF_NONE_MATCH),
    problems=(InvalidItem, WrongParameter, NoSuchKey, NotSupported, EngineFull, ConditionFailed),
    failures=_OF_ONE_WRITE,
    caching=NO_CACHE,
)
CHANGE_KEY = Operation(
    "Add to an integer, or give a value another expiry",
    {
        200: ResponseDoc("The sum", {JSON: Content({"type": "integer"}, 42)}, ("ETag",)),
        204: ResponseDoc("It expires anew", headers=("ETag",)),
    },
    "One of add and touch; there is no body. What has no value counts as 0 for add. Without ttl an expiry stays as it is.",
    (
        *_COPIES,
        Parameter(
            "add",
            f"a whole number of at most {MAX_DIGITS} digits",
            {"type": "integer", "minimum": -MAX_DELTA, "maximum": MAX_DELTA},
        ),
        Parameter("ttl", "with add: seconds until it expires", ref("Ttl")),
        Parameter("touch", "seconds until it expires, 0 for never", {"type": "number", "minimum": 0, "maximum": MAX_TTL}),
    ),
    problems=(InvalidItem, WrongParameter, NoSuchKey, NotSupported, EngineFull, WrongType),
    failures=_OF_ONE_WRITE,
    caching=NO_CACHE,
)
RING = Operation("Get what a client needs to find owners itself", {200: ResponseDoc("The ring", {JSON: Content(ref("Ring"))})})
INFO = Operation(
    "Get version, limits, twins in use and features", {200: ResponseDoc("The facts", {JSON: Content(ref("Info"))})}
)
_LINES = {"type": "string", "pattern": "^(\\[[+-]\\][a-z]+ (ok|failed(: [^\n]+)?)\n|\\[!\\][a-z]+ [^\n]+\n)*(ok|not ready)\n$"}
LIVEZ = Operation("Tell whether the process works", {200: ResponseDoc("It does", {TEXT: Content({"const": "ok\n"}, "ok\n")})})
READYZ = Operation(
    "Tell whether it can serve",
    {
        200: ResponseDoc("It can", {TEXT: Content(_LINES, "[+]serving ok\n[+]members ok\nok\n")}),
        503: ResponseDoc(
            "It cannot; a line for each check that fails",
            {TEXT: Content(_LINES, "[-]members failed: no node has joined yet\nnot ready\n")},
        ),
    },
    parameters=(
        Parameter(
            "verbose",
            "a line for every check, `[!]` with a warning for one that holds all the same; its value does not matter",
            word(),
        ),
    ),
)
METRICS = Operation(
    "Get counts and times for Prometheus",
    {200: ResponseDoc("Prometheus' text format", {"text/plain; version=0.0.4; charset=utf-8": Content(word())})},
)
OPENAPI = Operation(
    "Get this document",
    {200: ResponseDoc("OpenAPI 3.1", {JSON: Content({"type": "object", "required": ["openapi", "info", "paths"]})})},
)
