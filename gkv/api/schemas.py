"""The schemas that the descriptions of routes have in common. Sizes come from the limits in force."""

from collections.abc import Iterable

from gkv.api.operation import Schema, array, ref, shape
from gkv.coordinator.failures import READ_FAILURES, WRITE_FAILURES
from gkv.model import KeyFailure, OtherVersion
from gkv.wire.blob import MAX_TYPE
from gkv.wire.client import MAX_TTL, Limits
from gkv.wire.strict import MAX_DEPTH

_VERSION = "[0-9a-f]{32}"
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?$"
_INTEGER: Schema = {"type": "integer", "minimum": 0}


def by_code(failures: Iterable[KeyFailure]) -> tuple[KeyFailure, ...]:
    """Return failures in the order of their codes."""
    return tuple(sorted(failures, key=lambda failure: failure.code))


def word() -> Schema:
    """Return the schema of any string."""
    return {"type": "string"}


def _failed(key: Schema, failures: Iterable[KeyFailure], **more: Schema) -> Schema:
    """Return the schema of a key that has no definite answer, for one of these reasons; it may have more members."""
    code = {"enum": [failure.code for failure in by_code(failures)]}
    return shape("key code retryable", " ".join(more), key=key, code=code, retryable={"type": "boolean"}, **more)


def shared_schemas(limits: Limits, replicas: int = 1) -> dict[str, Schema]:
    """Return the schemas that operations refer to, by name. `replicas` is how many copies there are."""
    ttl = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TTL}
    item = {"key": ref("Key"), "ttl": ref("Ttl"), "ifVersion": ref("Condition")}
    unread = {"failedKey": array(ref("FailedRead"), minItems=1), "complete": {"const": False}}
    unwritten = {"failedKey": array(ref("FailedWrite"), minItems=1), "complete": {"const": False}}
    together = {"dependentRequired": {"failedKey": ["complete"], "complete": ["failedKey"]}}
    any_json: Schema = {"description": "any JSON value; its text comes back byte for byte"}
    asked: Schema = {"type": "string", "description": "the key as it was asked for"}
    node = shape(
        "id url weight",
        id={"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"},
        url={"type": "string", "format": "uri"},
        weight={"type": "number", "exclusiveMinimum": 0, "maximum": 1_000},
    )
    state: Schema = {"enum": ["up", "filling", "down"]}
    member = shape(
        "id url weight zone incarnation state since left rank empty volatile directory",
        "tokens_of",
        id=node["properties"]["id"],
        url=node["properties"]["url"],
        weight={"type": "number", "minimum": 0, "maximum": 1_000, "description": "0 until the ring has the member"},
        zone=word(),
        incarnation={"type": "string", "pattern": "^[0-9a-f]{16}$", "description": "of the process, new at every start"},
        state=state,
        since={**_INTEGER, "description": "the epoch of the line's last change"},
        left={
            **_INTEGER,
            "description": "the epoch at which it last stopped being up; 0 if it never did, or its loss was accepted. Where "
            "nobody is up that has a key, the one with the greatest answers for it once it is back",
        },
        rank={**_INTEGER, "description": "its place among those that left at the same epoch; the greatest of them is the last"},
        empty={
            "type": "boolean",
            "description": "it came back without its directory; it answers for no key until it is filled",
        },
        volatile={"type": "boolean", "description": "it keeps its records in memory"},
        directory={"type": "string", "pattern": "^[0-9a-f]{16}$", "description": "the last process that acted under this line"},
        tokens_of={**word(), "description": "the node whose place in the ring it has taken, and so whose tokens it has"},
    )
    return {
        "Key": {
            "type": "string",
            "minLength": 1,
            "maxLength": limits.max_key,
            "pattern": r"^[^\u0000]+$",
            "description": f"1 to {limits.max_key} bytes as UTF-8, without U+0000; never normalised",
        },
        "Prefix": {
            "type": "string",
            "maxLength": limits.max_key,
            "pattern": r"^[^\u0000]*$",
            "description": f"at most {limits.max_key} bytes as UTF-8, without U+0000",
        },
        "Ttl": ttl | {"description": "seconds until it expires"},
        "Copies": {"type": "integer", "minimum": 1, "maximum": replicas, "description": "how many copies are to take part"},
        "Condition": {
            "description": "what has to be there for the item to be applied: a version, `*` for any value, null for no value",
            "anyOf": [{"type": "string", "pattern": f"^({_VERSION}|\\*)$"}, {"type": "null"}],
        },
        "KeyBatch": array(shape("key", key=ref("Key")), maxItems=limits.max_items),
        "DeleteBatch": array(shape("key", "ifVersion", key=ref("Key"), ifVersion=ref("Condition")), maxItems=limits.max_items),
        "SetBatch": array(
            {
                "anyOf": [
                    shape("key value", "ttl ifVersion", **item, value=ref("Value")),
                    shape(
                        "key value encoding",
                        "ttl ifVersion type",
                        **item,
                        value={"type": "string", "contentEncoding": "base64", "pattern": _BASE64},
                        encoding={"const": "base64"},
                        type=ref("MediaType"),
                    ),
                ]
            },
            maxItems=limits.max_items,
        ),
        "MediaType": {
            "type": "string",
            "maxLength": MAX_TYPE,
            "pattern": r"^[a-z0-9]+/[a-z0-9.+-]+(; ?[a-z]+=[A-Za-z0-9-]+)?$",
            "not": {"pattern": "^[Aa][Pp][Pp][Ll][Ii][Cc][Aa][Tt][Ii][Oo][Nn]/[Jj][Ss][Oo][Nn] *(;|$)"},
            "description": "the type of bytes, perhaps with parameters; none but that of JSON is refused",
        },
        "Value": {
            "description": f"any JSON value, at most {limits.max_value} bytes and {MAX_DEPTH} levels; numbers within the range "
            "of a double, strings without lone surrogates, no member of an object twice",
        },
        "FailedRead": _failed(asked, READ_FAILURES),
        "FailedWrite": _failed(
            asked,
            {*WRITE_FAILURES, OtherVersion()},
            version={
                "type": ["string", "null"],
                "pattern": f"^{_VERSION}$",
                "description": "with the code condition: the version that is there, null for no value",
            },
            node={
                "type": "string",
                "description": "with the code disk-full, where keys have copies: the node that has no room",
            },
        ),
        "Got": shape(
            "existedKey",
            "notExistedKey failedKey complete",
            existedKey=array(
                shape(
                    "key value",
                    "encoding type version ttl",
                    key=asked,
                    value=any_json,
                    encoding={"const": "base64"},
                    type={"type": "string", "description": "with meta=1: that of bytes"},
                    version={"type": "string", "pattern": f"^{_VERSION}$", "description": "with meta=1"},
                    ttl={"type": "number", "exclusiveMinimum": 0, "description": "with meta=1: seconds left, where it expires"},
                )
            ),
            notExistedKey=array(shape("key value", key=asked, value={"const": ""}), minItems=1),
            **unread,
        )
        | together,
        "Set": shape(
            "set nodes version",
            "failedKey complete",
            set=_INTEGER,
            nodes=_INTEGER,
            version={
                "type": ["string", "null"],
                "pattern": f"^{_VERSION}$",
                "description": "the greatest that a node has given; null when nothing was written",
            },
            **unwritten,
        )
        | together,
        "Deleted": shape("deleted", "failedKey complete", deleted=_INTEGER, **unwritten) | together,
        "Located": shape(
            "epoch keys",
            epoch=_INTEGER,
            keys=array(
                shape(
                    "key token primary nodes",
                    primary={"type": ["string", "null"], "description": "who answers for the key, null when nobody does"},
                    key=asked,
                    token={"type": "string", "pattern": "^[0-9a-f]{16}$"},
                    nodes=array(
                        shape("id url state", id=word(), url={"type": "string", "format": "uri"}, state=state),
                        minItems=1,
                        description="the preference list, owner first",
                    ),
                )
            ),
        ),
        "Listed": shape(
            "keys complete",
            "prefixes values encodings versions types ttls cursor",
            keys=array(ref("Key")),
            prefixes=array(ref("Prefix"), description="with a delimiter: what keys begin with, up to the end of the first one"),
            values=array(any_json),
            encodings=array({"enum": [None, "base64"]}, description="of each value, when one of them is no JSON"),
            versions=array({"type": "string", "pattern": f"^{_VERSION}$"}, description="with meta=1: of each key"),
            types=array({"type": ["string", "null"]}, description="with meta=1: of each value, when one of them is no JSON"),
            ttls=array(
                {"type": ["number", "null"]}, description="with meta=1: seconds left of each key, when one of them expires"
            ),
            cursor={"type": "string"},
            complete={"type": "boolean"},
        ),
        "Node": node,
        "Member": member,
        "Ring": shape(
            "cluster generation epoch hash seed vnodes replicas nodes",
            "placement primaries",
            generation=_INTEGER,
            cluster={"type": "string", "pattern": f"^{_VERSION}$"},
            epoch=_INTEGER,
            hash={"type": "string"},
            seed=_INTEGER,
            vnodes=_INTEGER,
            replicas=_INTEGER,
            nodes=array(ref("Member")),
            placement={**_INTEGER, "description": "with copies: how the nodes of a key are chosen"},
            primaries={
                "type": "object",
                "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
                "description": "with copies: by id, the share of the keys for which a node answers now",
            },
        ),
        "Info": {
            "type": "object",
            "description": "a node says about its engine, too",
            "required": ["version", "role", "cluster", "epoch", "native", "limits", "features"],
            "properties": {
                "version": {"type": "string"},
                "role": {"enum": ["proxy", "node"]},
                "cluster": {"type": ["string", "null"], "pattern": f"^{_VERSION}$"},
                "epoch": {"type": ["integer", "null"], "minimum": 0},
                "native": shape("mode ring wire", mode=word(), ring=word(), wire=word()),
                "limits": shape(
                    "items keyBytes valueBytes bodyBytes answerBytes",
                    items=_INTEGER,
                    keyBytes=_INTEGER,
                    valueBytes=_INTEGER,
                    bodyBytes=_INTEGER,
                    answerBytes=_INTEGER,
                ),
                "features": array(word(), description="what clients may rely on beside the batches"),
            },
        },
    }
