"""What a coordinator and a node say to each other.

A frame is one line of JSON, ended by a newline, and behind it the texts of values without anything between them; the line
says how long each is. So a value goes from a client's request to the engine and back without being decoded or encoded.

    {"op":"set","cluster":"5f1c...","epoch":7,"version":"0191...","keys":["hi","hi1"],"sizes":[7,8]}
    "hello""hello1"

`expires` may follow the keys of a set: when each of them expires, in milliseconds since the Unix epoch, 0 for never. So may
`types`: the media type of each value, null for a JSON text. `put` is a set that waits for the disk in any case and is answered
with how many keys had a value before. To a `get` values of other types are shown as base64 (`gkv.wire.client.show`); a `fetch`
brings whole records.

Each request but `status` and `adopt` carries the cluster and the epoch that its sender believes in; a node that believes
otherwise answers `stale` with its own document instead of doing anything.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import ujson

from gkv.model import Blob, Damage, Record, Value, Version
from gkv.wire.client import show

OPS = ("get", "fetch", "set", "put", "delete", "keys", "status", "adopt")
MISSING = -1
"""Stands among the sizes for a key that has no value."""
DAMAGED = -2
"""Stands among the sizes for a key whose record is not what was written."""


class BadFrame(ValueError):
    """What was received is no frame, or not one that was expected."""


class NoRoom(Exception):
    """The values of a reply have more bytes than it may have."""


@dataclass(slots=True)  # not frozen: two are made for each call, and freezing costs 1 us each
class Request:
    """What a node is asked.

    `version` goes with `set`, `put` and `delete`, `values` and perhaps `expires` with the first two, `document` with `adopt`.
    `keys` asks for up to `limit` keys that start with `prefix` and sort after `after`.
    """

    op: str
    cluster: str = ""
    epoch: int = 0
    keys: Sequence[str] = field(default_factory=list)
    values: Sequence[Value] = field(default_factory=list)
    document: Mapping[str, Any] | None = None
    version: Version | None = None
    expires: Sequence[int] = ()
    prefix: str = ""
    after: str = ""
    limit: int = 0


@dataclass(slots=True)
class Reply:
    """What a node answers.

    `values` is the answer to a get, `records` to a fetch, `keys` to a listing, `count` to everything else: records written,
    replaced by a put, deleted, or held. `beaten` comes with the answer to a write: the greatest stamp of another origin that
    one of its items lost against, 0 when none did. `refused` is empty, or why nothing was done: "stale" (the epochs differ),
    "changing" (no writes while the cluster changes), "ahead" (the version is from the future), "full", "busy", "large" (there
    is more than an answer may have), or a sentence.
    `document` is the node's, None when it has none; it comes with "stale".
    """

    count: int = 0
    values: Sequence[Value | Damage | None] = field(default_factory=list)
    """Read again, it is the text of each value as it is shown."""
    refused: str = ""
    document: Mapping[str, Any] | None = None
    beaten: int = 0
    keys: Sequence[str] | None = None
    records: Sequence[Record | Damage | None] | None = None


def _line(header: Mapping[str, Any]) -> bytes:
    return ujson.dumps(header, ensure_ascii=False, escape_forward_slashes=False).encode() + b"\n"


def write_request(request: Request) -> bytes:
    """Write a request as a frame.

    >>> write_request(Request("get", "c", 7, ["hi"]))
    b'{"op":"get","cluster":"c","epoch":7,"keys":["hi"]}\\n'
    """
    header: dict[str, Any] = {"op": request.op}
    if request.op == "adopt":
        header["document"] = request.document
    elif request.op == "keys":
        header |= {"cluster": request.cluster, "epoch": request.epoch}
        header |= {"prefix": request.prefix, "after": request.after, "limit": request.limit}
    elif request.op != "status":
        header |= {"cluster": request.cluster, "epoch": request.epoch}
        if request.version is not None:
            header["version"] = str(request.version)
        header["keys"] = request.keys
        if request.expires:
            header["expires"] = request.expires
        if request.op in ("set", "put"):
            return _with_values(header, request.values)
    return _line(header)


def _with_values(header: dict[str, Any], values: Sequence[Value]) -> bytes:
    try:
        payload = b"".join(values)  # type: ignore[arg-type]  # looking for blobs first would cost every set
    except TypeError:
        header["types"] = [value.content_type if isinstance(value, Blob) else None for value in values]
        data = [value.data if isinstance(value, Blob) else value for value in values]
        header["sizes"] = list(map(len, data))
        return _line(header) + b"".join(data)
    header["sizes"] = list(map(len, values))
    return _line(header) + payload


def write_reply(reply: Reply, room: float = inf) -> bytes:
    """Write a reply as a frame; raise NoRoom, before any value is copied, when they have more than `room` bytes.

    >>> write_reply(Reply(values=[b'"hello"', None]))
    b'{"sizes":[7,-1]}\\n"hello"'
    """
    if reply.refused:
        return _line({"refused": reply.refused, "document": reply.document})
    if reply.keys is not None:
        return _line({"keys": reply.keys})
    if reply.records is not None:
        return _write_records(reply.records, room)
    if not reply.values:
        return _line({"count": reply.count, "beaten": reply.beaten} if reply.beaten else {"count": reply.count})
    try:
        sizes = [MISSING if value is None else len(value) for value in reply.values]  # type: ignore[arg-type]
        if sum(sizes) > room:
            raise NoRoom
        return _line({"sizes": sizes}) + b"".join([value for value in reply.values if value is not None])  # type: ignore[misc]
    except TypeError:  # there is a blob among them, or damage; to look for that first would cost every get
        if sum([len(value) for value in reply.values if isinstance(value, bytes | Blob)]) > room:
            raise NoRoom from None
        values = [show(value) if isinstance(value, Blob) else value for value in reply.values]
        return _line({"sizes": _sizes(values)}) + b"".join([value for value in values if isinstance(value, bytes)])


def _sizes(values: Sequence[Value | Damage | None]) -> list[int]:
    return [MISSING if value is None else DAMAGED if value is Damage.DAMAGED else len(value) for value in values]


def _write_records(records: Sequence[Record | Damage | None], room: float) -> bytes:
    """Write the answer to a fetch. A tombstone has a version and no value."""
    known = [record if isinstance(record, Record) else None for record in records]
    values = [None if record is None else record.value for record in known]
    if sum([len(value) for value in values if value is not None]) > room:
        raise NoRoom
    plain = [value.data if isinstance(value, Blob) else value for value in values]
    header = {
        "versions": [record and str(record.version) for record in known],
        "expires": [record.expires if record else 0 for record in known],
        "types": [value.content_type if isinstance(value, Blob) else None for value in values],
        "sizes": _sizes(
            [Damage.DAMAGED if isinstance(one, Damage) else value for one, value in zip(records, plain, strict=True)]
        ),
    }
    return _line(header) + b"".join([value for value in plain if value is not None])


def _split(frame: bytes) -> tuple[dict[str, Any], int]:
    """Return a frame's header and where its payload starts."""
    end = frame.find(b"\n")
    try:
        header = ujson.loads(frame[:end]) if end >= 0 else None
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise BadFrame("a frame starts with a line of JSON, an object")
    return header, end + 1


_lone_surrogate = re.compile("[\ud800-\udfff]").search  # ujson lets them pass


_BAD_SIZES = "sizes are whole numbers above 0, -1 or -2"


def _cut(frame: bytes, start: int, sizes: Any, least: int = 1) -> list[bytes | Damage | None]:
    """Cut the payload at these sizes; it must be used up exactly. `least` is 0 where the value of a blob may stand."""
    if not isinstance(sizes, list) or not set(map(type, sizes)) <= {int}:
        raise BadFrame(_BAD_SIZES)
    parts: list[bytes | Damage | None] = []
    for size in sizes:
        if size >= least:
            parts.append(frame[start : start + size])
            start += size
        elif size == MISSING:
            parts.append(None)
        elif size == DAMAGED:
            parts.append(Damage.DAMAGED)
        else:
            raise BadFrame(_BAD_SIZES)
    if start != len(frame):
        raise BadFrame("the payload is not as long as the sizes say")
    return parts


def read_request(frame: bytes) -> Request:
    """Read a request; raise BadFrame when it is none."""
    header, start = _split(frame)
    op = header.get("op")
    if op not in OPS:
        raise BadFrame(f"unknown op {str(op)[:32]!r}")
    if op in ("status", "adopt") and start != len(frame):
        raise BadFrame(f"{op} has no values")
    if op == "status":
        return Request(op)
    if op == "adopt":
        if not isinstance(header.get("document"), dict):
            raise BadFrame("adopt comes with a document")
        return Request(op, document=header["document"])
    if op == "keys":
        if start != len(frame):
            raise BadFrame("keys has no values")
        return _read_listing(header)
    return _read_keys(op, header, frame, start)


def _read_epoch(header: Mapping[str, Any]) -> tuple[str, int]:
    """Return the cluster and the epoch that a request's sender believes in."""
    cluster, epoch = header.get("cluster"), header.get("epoch")
    if not isinstance(cluster, str) or type(epoch) is not int:
        raise BadFrame("a request says its cluster and epoch")
    return cluster, epoch


def _read_listing(header: Mapping[str, Any]) -> Request:
    cluster, epoch = _read_epoch(header)
    prefix, after, limit = header.get("prefix"), header.get("after"), header.get("limit")
    if not isinstance(prefix, str) or not isinstance(after, str) or _lone_surrogate(prefix + after):
        raise BadFrame("a listing has a prefix and says after which key it goes on")
    if type(limit) is not int or limit < 1:
        raise BadFrame("a listing has a limit above 0")
    return Request("keys", cluster, epoch, prefix=prefix, after=after, limit=limit)


_VALUES = frozenset(("sizes", "expires", "types"))
_BAD_VALUES = "a set has one value for each key"
_media_type = re.compile(r"[ -~]+").fullmatch


def _typed(parts: Sequence[bytes | Damage | None], types: Any) -> list[Value]:
    """Put values and their types together."""
    if not isinstance(types, list) or len(types) != len(parts):
        raise BadFrame("types has one for each key")
    values: list[Value] = []
    for part, content_type in zip(parts, types, strict=True):
        if not isinstance(part, bytes):
            raise BadFrame(_BAD_VALUES)
        if content_type is None and part:
            values.append(part)
        elif isinstance(content_type, str) and _media_type(content_type):
            values.append(Blob(part, content_type))
        else:
            raise BadFrame("a type is printable ASCII, or null for a text that is not empty")
    return values


def _read_keys(op: str, header: Mapping[str, Any], frame: bytes, start: int) -> Request:
    cluster, epoch = _read_epoch(header)
    keys = header.get("keys")
    if not isinstance(keys, list):
        raise BadFrame("keys are an array of strings")
    try:
        text = f"{cluster}{''.join(keys)}"  # one join, to look at all keys at once
    except TypeError:
        raise BadFrame("keys are an array of strings") from None
    if not text.isascii() and _lone_surrogate(text):
        raise BadFrame("a string has a lone surrogate")
    if op not in ("set", "put") and (start != len(frame) or not _VALUES.isdisjoint(header)):
        raise BadFrame("only a set has values")
    if op in ("get", "fetch"):
        return Request(op, cluster, epoch, keys)
    try:
        version = Version.parse(header["version"])
    except (KeyError, TypeError, ValueError):
        raise BadFrame("a write has a version") from None
    if op == "delete":
        return Request(op, cluster, epoch, keys, version=version)
    values, expires = _read_values(header, frame, start, len(keys))
    return Request(op, cluster, epoch, keys, values, version=version, expires=expires)


def _read_values(header: Mapping[str, Any], frame: bytes, start: int, count: int) -> tuple[Sequence[Value], Sequence[int]]:
    """Return the values of a set, and when they expire."""
    values: Sequence[Value]
    if "types" in header:
        values = _typed(_cut(frame, start, header.get("sizes"), least=0), header["types"])
    else:
        parts = _cut(frame, start, header.get("sizes"))
        values = [value for value in parts if isinstance(value, bytes)]
        if len(values) < len(parts):
            raise BadFrame(_BAD_VALUES)
    if len(values) != count:
        raise BadFrame(_BAD_VALUES)
    expires = ()
    if "expires" in header:
        expires = header["expires"]
        if not isinstance(expires, list) or len(expires) != count or not all(map(_is_time, expires)):
            raise BadFrame("expires has a time for each key")
    return values, expires or ()


def _is_time(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _read_counts(header: Mapping[str, Any]) -> Reply:
    if "refused" in header:
        raise BadFrame("a refusal says why")
    if "keys" in header:
        keys = header["keys"]
        if not isinstance(keys, list) or not set(map(type, keys)) <= {str} or _lone_surrogate("".join(keys)):
            raise BadFrame("a listing is an array of strings")
        return Reply(keys=keys)
    count, beaten = header.get("count"), header.get("beaten", 0)
    if type(count) is not int or count < 0:
        raise BadFrame("an answer says how many, or why it refuses")
    if type(beaten) is not int or not 0 <= beaten < 1 << 64:
        raise BadFrame("beaten is a stamp")
    return Reply(count=count, beaten=beaten)


def read_reply(frame: bytes, keys: Sequence[str] | None = None) -> Reply:
    """Read a reply; `keys` are those of a get, None for the other requests. Raise BadFrame when it cannot be the answer."""
    header, start = _split(frame)
    document = header.get("document")
    if document is not None and not isinstance(document, dict):
        raise BadFrame("a document is an object")
    if "refused" in header or keys is None:
        if start != len(frame):
            raise BadFrame("only the answer to a get has values")
        refused = header.get("refused")
        if isinstance(refused, str) and refused:
            return Reply(refused=refused, document=document)
        return _read_counts(header)
    values = _cut(frame, start, header.get("sizes"))
    if len(values) != len(keys):
        raise BadFrame(f"{len(keys)} keys were asked, {len(values)} answered")
    return Reply(values=values)


def read_records(frame: bytes, count: int) -> Reply:
    """Read the reply to a fetch of so many keys: their records, or a refusal. Raise BadFrame when it cannot be the answer."""
    header, start = _split(frame)
    if "refused" in header:
        return read_reply(frame)
    parts = _cut(frame, start, header.get("sizes"), least=0)
    columns = [header.get(name) for name in ("versions", "expires", "types")]
    if len(parts) != count or not all(isinstance(column, list) and len(column) == count for column in columns):
        raise BadFrame(f"{count} keys were asked, others answered")
    return Reply(records=list(map(_record, parts, *columns)))  # type: ignore[arg-type]  # they are lists, as has been seen


def _record(part: bytes | Damage | None, version: Any, expires: Any, content_type: Any) -> Record | Damage | None:
    if isinstance(part, Damage) or (part is None and version is None):
        return part
    if not isinstance(version, str) or not _is_time(expires):
        raise BadFrame("a record has a version and says when it expires")
    try:
        return Record(Version.parse(version), None if part is None else _typed([part], [content_type])[0], expires)
    except ValueError as error:
        raise BadFrame(str(error)) from None
