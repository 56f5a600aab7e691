"""Requests about keys: what reads and writes have in common."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from gkv.model import Blob, Damage, Value, split_era
from gkv.wire.client import Limits
from gkv.wire.ops.frame import BadFrame, NodeRequest, lone_surrogate, read_epoch

BAD_VALUES = "a set has one value for each key"
VALUES = frozenset(("sizes", "types"))
_OF_SETS = VALUES | {"ttls"}
_MAX_KEY = Limits().max_key
_are_short = frozenset(range(1, _MAX_KEY // 4 + 1)).issuperset
"""Whether keys of so many characters each have 1 to `_MAX_KEY` bytes, whatever they are."""
_media_type = re.compile(r"[ -~]+").fullmatch


@dataclass(slots=True)
class EpochRequest(NodeRequest):
    """A request that a node answers with STALE unless it believes in the same cluster and era as the sender."""

    cluster: str
    era: int

    def header(self) -> dict[str, Any]:
        """Return what the line of every such frame begins with."""
        generation, epoch = split_era(self.era)
        return {"op": self.op.value, "cluster": self.cluster, "generation": generation, "epoch": epoch}


@dataclass(slots=True)  # not frozen, as the requests
class Items:
    """Items of a batch that go to one node, in columns: keys, and what each op looks at of the rest.

    A set has values, an addition the texts of what is added. `ttls` are in milliseconds, 0 for good. `conditions` has texts as
    a frame has them (`gkv.replication.conditions`), None for none. A column is empty when no item has anything in it.
    """

    keys: Sequence[str]
    values: Sequence[Value] = ()
    ttls: Sequence[int] = ()
    conditions: Sequence[str | None] = ()


@dataclass(slots=True)
class KeyRequest(EpochRequest):
    """A request about keys that the node owns."""

    keys: Sequence[str]

    @classmethod
    def of_part(cls, cluster: str, era: int, part: Items) -> Self:
        """Make the request for a part of a batch."""
        raise NotImplementedError


def read_keys(header: Mapping[str, Any]) -> tuple[str, int, Sequence[str]]:
    """Return cluster, era and keys."""
    cluster, era = read_epoch(header)
    keys = header.get("keys")
    if not isinstance(keys, list):
        raise BadFrame("keys are an array of strings")
    try:
        text = f"{cluster}{''.join(keys)}"  # one join, to look at all keys at once
    except TypeError:
        raise BadFrame("keys are an array of strings") from None
    if not text.isascii() and lone_surrogate(text):
        raise BadFrame("a string has a lone surrogate")
    return cluster, era, keys


def read_keys_to_write(header: Mapping[str, Any]) -> tuple[str, int, Sequence[str]]:
    """As `read_keys`; keys that no record can have are refused. To read those harms nothing: there is nothing under them."""
    cluster, era, keys = read_keys(header)
    refuse_lengths(keys)
    return cluster, era, keys


def refuse_lengths(keys: Sequence[str]) -> None:
    """Raise BadFrame for keys that no record can have; a lone surrogate must not be in them."""
    if not _are_short(map(len, keys)) and not all(0 < len(key.encode()) <= _MAX_KEY for key in keys):
        raise BadFrame(f"a key has 1 to {_MAX_KEY} bytes")


def refuse_values(header: Mapping[str, Any], frame: bytes, start: int, columns: frozenset[str] = _OF_SETS) -> None:
    """Raise BadFrame when a request that is no set brings values, or has one of these `columns`."""
    if start != len(frame) or not columns.isdisjoint(header):
        raise BadFrame("only a set has values")


def typed(parts: Sequence[bytes | Damage | None], types: Any) -> list[Value]:
    """Put values and their types together."""
    if not isinstance(types, list) or len(types) != len(parts):
        raise BadFrame("types has one for each key")
    values: list[Value] = []
    for part, content_type in zip(parts, types, strict=True):
        if not isinstance(part, bytes):
            raise BadFrame(BAD_VALUES)
        if content_type is None and part:
            values.append(part)
        elif isinstance(content_type, str) and _media_type(content_type):
            values.append(Blob(part, content_type))
        else:
            raise BadFrame("a type is printable ASCII, or null for a text that is not empty")
    return values
