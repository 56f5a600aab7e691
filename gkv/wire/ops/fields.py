"""The fields that messages have in common: columns of records, keys, versions, cursors and numbers, read strictly."""

import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, cast

from gkv.model import Blob, Damage, Record, Value, Version
from gkv.wire.ops.frame import DAMAGED_SIZE, MISSING, BadFrame, cut, is_time, lone_surrogate
from gkv.wire.ops.keyed import refuse_lengths, typed
from gkv.wire.strict import Pause

Payload = list[bytes]
"""The texts of values that go behind the line."""
Fields = dict[str, Any]

_ROWS_AT_ONCE = 256
_cursor = re.compile(r"[0-9a-f]{16}").match
_CURSOR = 16
"""Digits of a token in front of a cursor; behind them is a key, or nothing."""


def record_fields(records: Sequence[Record | Damage | None], payload: Payload) -> Fields:
    """Return the columns of records; a damaged one has the size -2, and one that is not there no version."""
    known = [one if isinstance(one, Record) else None for one in records]
    fields: Fields = {
        "versions": [record and str(record.version) for record in known],
        "expires": [record.expires if record else 0 for record in known],
    }
    put_values([None if record is None else record.value for record in known], fields, payload)
    for place, one in enumerate(records):
        if isinstance(one, Damage):
            fields["sizes"][place] = DAMAGED_SIZE
    if any(record and record.client_version for record in known):
        fields["tags"] = [record and record.client_version and str(record.client_version) for record in known]
    return fields


def records_from(header: Mapping[str, Any], count: int, frame: bytes, start: int, pause: Pause) -> list[Record | Damage | None]:
    """Return the records whose columns stand in the line, and their values behind it; raise BadFrame."""
    parts = cut(frame, start, header.get("sizes"), pause, least=0)
    versions, expires, tags = (
        column(header, "versions", count),
        column(header, "expires", count),
        column(header, "tags", count),
    )
    if not len(parts) == len(versions) == len(expires) == count:
        raise BadFrame("each record has a size, a version, and a time at which it expires")
    if not all(map(is_time, expires)):
        raise BadFrame("expires has times")
    values = values_from([None if isinstance(part, Damage) else part for part in parts], header, count)
    records: list[Record | Damage | None] = []
    for place, (part, value, version) in enumerate(zip(parts, values, versions, strict=True)):
        if version is None:
            if isinstance(part, bytes):
                raise BadFrame("a value has a version")
            records.append(part)
        elif isinstance(part, Damage):
            raise BadFrame("a damaged record has no version")
        else:
            tag = version_or_none(tags[place]) if tags else None
            records.append(Record(version_from(version), value, expires[place], tag))
        if not len(records) % _ROWS_AT_ONCE:
            pause()
    return records


def put_values(values: Sequence[Value | None], fields: Fields, payload: Payload) -> None:
    """Put the sizes of values, and the types of those that have one, into the line."""
    if set(map(type, values)) == {bytes}:
        texts = cast("Sequence[bytes]", values)
        fields["sizes"] = list(map(len, texts))
        payload += texts
        return
    sizes = []
    typed_ones = False
    for value in values:
        if type(value) is bytes:
            sizes.append(len(value))
            payload.append(value)
        elif isinstance(value, Blob):
            typed_ones = True
            sizes.append(len(value.data))
            payload.append(value.data)
        else:
            sizes.append(MISSING)
    fields["sizes"] = sizes
    if typed_ones:
        fields["types"] = [value.content_type if isinstance(value, Blob) else None for value in values]


def values_from(parts: Sequence[bytes | Damage | None], header: Mapping[str, Any], count: int) -> list[Value | None]:
    """Return values with their types; raise BadFrame for a damaged one, and for a text of no bytes."""
    if "types" not in header:
        if Damage in set(map(type, parts)) or b"" in parts:
            raise BadFrame("a value has a text")
        return list(cast("Sequence[bytes | None]", parts))
    types = column(header, "types", count)
    if len(types) != count:
        raise BadFrame("types has one for each key")
    found: list[Value | None] = []
    for part, content_type in zip(parts, types, strict=True):
        if part is None:
            if content_type is not None:
                raise BadFrame("a tombstone has no type")
            found.append(None)
        else:
            found += typed([part], [content_type])
    return found


def column(header: Mapping[str, Any], name: str, count: int) -> Sequence[Any]:
    """Return a column that has one for each key, or is not there."""
    if name not in header:
        return ()
    column = header[name]
    if not isinstance(column, list) or len(column) != count:
        raise BadFrame(f"{name} has one for each key")
    return column


def keys_from(keys: Any) -> list[str]:
    """Return keys, each once, that records can have; raise BadFrame."""
    if not isinstance(keys, list):
        raise BadFrame("keys are an array of strings")
    try:
        text = "".join(keys)
    except TypeError:
        raise BadFrame("keys are an array of strings") from None
    if not text.isascii() and lone_surrogate(text):
        raise BadFrame("a string has a lone surrogate")
    refuse_lengths(keys)
    if len(keys) > 1 and len(set(keys)) < len(keys):
        raise BadFrame("a key stands twice")
    return keys


def version_from(text: Any) -> Version:
    """Return the version that a text is; raise BadFrame."""
    if not isinstance(text, str):
        raise BadFrame("a version is a text")
    try:
        return Version.parse(text)
    except ValueError as error:
        raise BadFrame(str(error)) from None


def version_or_none(text: Any) -> Version | None:
    """Return the version that a text is, None for null; raise BadFrame."""
    return None if text is None else version_from(text)


def versions_from(texts: Any) -> tuple[Version, ...]:
    """Return the versions that an array of texts has; raise BadFrame."""
    if not isinstance(texts, list):
        raise BadFrame("versions are an array of texts")
    return tuple([version_from(text) for text in texts])


def packed(numbers: Sequence[int]) -> bytes:
    """Return numbers of 64 bits as they stand behind the line."""
    return struct.pack(f">{len(numbers)}Q", *numbers)


def unpacked(frame: bytes, start: int) -> tuple[int, ...]:
    """Return the numbers of 64 bits that are all that stands behind the line."""
    count, odd = divmod(len(frame) - start, 8)
    if odd:
        raise BadFrame("a number has 8 bytes")
    return struct.unpack_from(f">{count}Q", frame, start)


def places_from(header: Mapping[str, Any], name: str, count: int) -> tuple[int, ...]:
    """Return places among so many."""
    places = header.get(name)
    if not isinstance(places, list) or not all(type(one) is int and 0 <= one < count for one in places):
        raise BadFrame(f"{name} has places")
    return tuple(places)


def begin_from(text: Any) -> str:
    """Return the cursor at which a range begins, which may be empty; raise BadFrame."""
    return "" if text == "" else cursor_from(text)


def cursor_from(text: Any) -> str:
    """Return a cursor that is not the beginning's; raise BadFrame."""
    if not isinstance(text, str) or not _cursor(text):
        raise BadFrame("a cursor begins with a token")
    if len(text) > _CURSOR:
        keys_from([text[_CURSOR:]])
    return text
