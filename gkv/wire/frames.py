"""What a coordinator and a node say to each other.

A frame is one line of JSON, ended by a newline, and behind it the texts of values without anything between them; the line
says how long each is. So a value goes from a client's request to the engine and back without being decoded or encoded.

    {"op":"set","cluster":"5f1c...","epoch":7,"version":"0191...","keys":["hi","hi1"],"sizes":[7,8]}
    "hello""hello1"

`expires` may follow the keys of a set: when each of them expires, in milliseconds since the Unix epoch, 0 for never.

Each request but `status` and `adopt` carries the cluster and the epoch that its sender believes in; a node that believes
otherwise answers `stale` with its own document instead of doing anything.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ujson

from gkv.model import Damage, Version

OPS = ("get", "set", "delete", "keys", "status", "adopt")
MISSING = -1
"""Stands among the sizes for a key that has no value."""
DAMAGED = -2
"""Stands among the sizes for a key whose record is not what was written."""


class BadFrame(ValueError):
    """What was received is no frame, or not one that was expected."""


@dataclass(slots=True)  # not frozen: two are made for each call, and freezing costs 1 us each
class Request:
    """What a node is asked.

    `version` goes with `set` and `delete`, `values` and perhaps `expires` with `set`, `document` with `adopt`. `keys` asks for
    up to `limit` keys that start with `prefix` and sort after `after`.
    """

    op: str
    cluster: str = ""
    epoch: int = 0
    keys: Sequence[str] = field(default_factory=list)
    values: Sequence[bytes] = field(default_factory=list)
    document: Mapping[str, Any] | None = None
    version: Version | None = None
    expires: Sequence[int] = ()
    prefix: str = ""
    after: str = ""
    limit: int = 0


@dataclass(slots=True)
class Reply:
    """What a node answers.

    `values` is the answer to a get, `keys` to a listing, `count` to everything else: records written, deleted, or held.
    `beaten` comes with the answer to a write: the greatest stamp of another origin that one of its items lost against, 0 when
    none did. `refused` is empty, or why nothing was done: "stale" (the epochs differ), "changing" (no writes while the cluster
    changes), "ahead" (the version is from the future), "full", "busy", or a sentence. `document` is the node's, None when it
    has none; it comes with "stale".
    """

    count: int = 0
    values: Sequence[bytes | Damage | None] = field(default_factory=list)
    refused: str = ""
    document: Mapping[str, Any] | None = None
    beaten: int = 0
    keys: Sequence[str] | None = None


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
        if request.op == "set":
            header["sizes"] = list(map(len, request.values))
    return _line(header) + b"".join(request.values)


def write_reply(reply: Reply) -> bytes:
    """Write a reply as a frame.

    >>> write_reply(Reply(values=[b'"hello"', None]))
    b'{"sizes":[7,-1]}\\n"hello"'
    """
    if reply.refused:
        return _line({"refused": reply.refused, "document": reply.document})
    if reply.keys is not None:
        return _line({"keys": reply.keys})
    if not reply.values:
        return _line({"count": reply.count, "beaten": reply.beaten} if reply.beaten else {"count": reply.count})
    if Damage.DAMAGED in reply.values:
        return _write_with_damage(reply.values)
    sizes = [MISSING if value is None else len(value) for value in reply.values]  # type: ignore[arg-type]
    return _line({"sizes": sizes}) + b"".join([value for value in reply.values if value is not None])  # type: ignore[misc]


def _write_with_damage(values: Sequence[bytes | Damage | None]) -> bytes:
    sizes = [MISSING if value is None else DAMAGED if isinstance(value, Damage) else len(value) for value in values]
    return _line({"sizes": sizes}) + b"".join([value for value in values if isinstance(value, bytes)])


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


def _cut(frame: bytes, start: int, sizes: Any) -> list[bytes | Damage | None]:
    """Cut the payload at these sizes; it must be used up exactly."""
    if not isinstance(sizes, list) or not set(map(type, sizes)) <= {int}:
        raise BadFrame(_BAD_SIZES)
    parts: list[bytes | Damage | None] = []
    for size in sizes:
        if size > 0:
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


def _read_listing(header: Mapping[str, Any]) -> Request:
    cluster, epoch, prefix, after, limit = (header.get(name) for name in ("cluster", "epoch", "prefix", "after", "limit"))
    if not isinstance(cluster, str) or type(epoch) is not int:
        raise BadFrame("a request says its cluster and epoch")
    if not isinstance(prefix, str) or not isinstance(after, str) or _lone_surrogate(prefix + after):
        raise BadFrame("a listing has a prefix and says after which key it goes on")
    if type(limit) is not int or limit < 1:
        raise BadFrame("a listing has a limit above 0")
    return Request("keys", cluster, epoch, prefix=prefix, after=after, limit=limit)


def _read_keys(op: str, header: Mapping[str, Any], frame: bytes, start: int) -> Request:
    cluster, epoch, keys = header.get("cluster"), header.get("epoch"), header.get("keys")
    if not isinstance(cluster, str) or type(epoch) is not int:
        raise BadFrame("a request says its cluster and epoch")
    if not isinstance(keys, list):
        raise BadFrame("keys are an array of strings")
    try:
        text = f"{cluster}{''.join(keys)}"  # one join, to look at all keys at once
    except TypeError:
        raise BadFrame("keys are an array of strings") from None
    if not text.isascii() and _lone_surrogate(text):
        raise BadFrame("a string has a lone surrogate")
    if op != "set" and (start != len(frame) or "sizes" in header or "expires" in header):
        raise BadFrame("only a set has values")
    if op == "get":
        return Request(op, cluster, epoch, keys)
    try:
        version = Version.parse(header["version"])
    except (KeyError, TypeError, ValueError):
        raise BadFrame("a write has a version") from None
    if op == "delete":
        return Request(op, cluster, epoch, keys, version=version)
    parts = _cut(frame, start, header.get("sizes"))
    values = [value for value in parts if isinstance(value, bytes)]
    if not len(values) == len(parts) == len(keys):
        raise BadFrame("a set has one value for each key")
    expires = ()
    if "expires" in header:
        expires = header["expires"]
        if not isinstance(expires, list) or len(expires) != len(keys) or not all(map(_is_time, expires)):
            raise BadFrame("expires has a time for each key")
    return Request(op, cluster, epoch, keys, values, version=version, expires=expires or ())


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
