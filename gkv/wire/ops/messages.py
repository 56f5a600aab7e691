"""How the messages of `gkv.replication.messages` stand in a frame: `say` names the kind, and each kind has fields of its own.

Reading is strict: a field that cannot be is a BadFrame, and nothing of the message is believed. Versions have 32 hexadecimal
digits. Values stand behind the line, in the order in which the line has their sizes: -1 for a tombstone.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from gkv.model import Blob, Damage, Record, Value, Version, Write
from gkv.replication.messages import (
    AskLease,
    AskPage,
    AskRecord,
    AskUnsettled,
    Behind,
    Copied,
    Copy,
    FoundDamaged,
    FoundRecord,
    Full,
    Granted,
    Hello,
    HelloBack,
    Message,
    Page,
    UnsettledKeys,
    Working,
)
from gkv.wire.ops.frame import DAMAGED_SIZE, MISSING, BadFrame, cut, is_time, lone_surrogate, pair_from
from gkv.wire.ops.keyed import refuse_lengths, typed
from gkv.wire.strict import Pause

Payload = list[bytes]
"""The texts of values that go behind the line."""
Fields = dict[str, Any]
_Read = Callable[[int, Mapping[str, Any], bytes, int, Pause], Message]

_ROWS_AT_ONCE = 256
_cursor = re.compile(r"[0-9a-f]{16}").match
_CURSOR = 16
"""Digits of a token in front of a cursor; behind them is a key, or nothing."""
_NO_VALUES = "such a message has no values"


def fields_of(message: Message, payload: Payload) -> Fields:
    """Return what the line says of a message; put its values into `payload`."""
    say, write, _ = _KINDS[type(message)]
    return {"say": say, "number": message.number, **write(message, payload)}


def read_message(header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Message:
    """Read a message from a frame whose payload begins at `start`; raise BadFrame. Calls `pause` between many records."""
    say, number = header.get("say"), header.get("number")
    read = _READERS.get(say) if isinstance(say, str) else None
    if read is None:
        raise BadFrame(f"nobody says {str(say)[:32]!r}")
    if type(number) is not int or not 0 <= number < 1 << 63:
        raise BadFrame("a message has a number")
    return read(number, header, frame, start, pause)


# --- writes ------------------------------------------------------------------------------------------------------------------


def _copy_fields(message: Copy, payload: Payload) -> Fields:
    return {
        "writes": [_write_fields(write, payload) for write in message.writes],
        "settled": list(map(str, message.settled)),
    }


def _write_fields(write: Write, payload: Payload) -> Fields:
    fields: Fields = {"version": str(write.version), "at": write.at, "keys": write.keys}
    _put_values(write.values, fields, payload)
    if write.expires:
        fields["expires"] = write.expires
    if write.tags:
        fields["tags"] = [tag and str(tag) for tag in write.tags]
    return fields


def _read_copy(number: int, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Copy:
    writes = header.get("writes")
    if not isinstance(writes, list) or not all(isinstance(one, dict) for one in writes):
        raise BadFrame("a copy has writes")
    sizes: list[Any] = []
    for one in writes:
        some = one.get("sizes")
        if not isinstance(some, list):
            raise BadFrame("a write has the sizes of its values")
        sizes += some
    parts = cut(frame, start, sizes, pause, least=0)
    taken: list[Write] = []
    at = 0
    for one in writes:
        end = at + len(one["sizes"])
        taken.append(_read_write(one, parts[at:end]))
        at = end
        pause()
    return Copy(number, tuple(taken), _versions(header.get("settled")))


def _read_write(header: Mapping[str, Any], parts: Sequence[bytes | Damage | None]) -> Write:
    keys = _keys(header.get("keys"))
    at: Any = header.get("at")
    count = len(parts)
    if not keys or len(keys) != count:
        raise BadFrame("a write has keys, and a size for each of them")
    if not is_time(at):
        raise BadFrame("a write says when it was admitted")
    expires = _column(header, "expires", count)
    if not all(map(is_time, expires)):
        raise BadFrame("expires has times")
    tags = [_version_or_none(tag) for tag in _column(header, "tags", count)]
    return Write(_version(header.get("version")), keys, _values(parts, header, count), expires, tags or (), at)


def _copied_fields(message: Copied, _: Payload) -> Fields:
    return {"versions": list(map(str, message.versions)), **_room_fields(message, _)}


def _room_fields(message: Copied | Granted, _: Payload) -> Fields:
    return {"full": True} if message.full else {}


def _is_full(header: Mapping[str, Any]) -> bool:
    full = header.get("full", False)
    if type(full) is not bool:
        raise BadFrame("a disk is full or not")
    return full


def _read_copied(number: int, header: Mapping[str, Any], frame: bytes, start: int, _: Pause) -> Copied:
    if start != len(frame):
        raise BadFrame(_NO_VALUES)
    return Copied(number, _versions(header.get("versions")), _is_full(header))


def _read_granted(number: int, header: Mapping[str, Any], frame: bytes, start: int, _: Pause) -> Granted:
    if start != len(frame):
        raise BadFrame(_NO_VALUES)
    return Granted(number, _is_full(header))


def _working_fields(message: Working, _: Payload) -> Fields:
    return {"seconds": message.seconds}


def _read_working(number: int, header: Mapping[str, Any], frame: bytes, start: int, _: Pause) -> Working:
    seconds: Any = header.get("seconds")
    if start != len(frame):
        raise BadFrame(_NO_VALUES)
    if type(seconds) not in (int, float) or not 0 <= seconds < 1 << 32:  # which no NaN is
        raise BadFrame("a commit has been running for some seconds")
    return Working(number, float(seconds))


# --- records -----------------------------------------------------------------------------------------------------------------


def _ask_page_fields(message: AskPage, _: Payload) -> Fields:
    return {"list": [message.preference, message.coming], "after": message.after, "upto": message.upto}


def _read_ask_page(number: int, header: Mapping[str, Any], frame: bytes, start: int, _: Pause) -> AskPage:
    if start != len(frame):
        raise BadFrame(_NO_VALUES)
    preference, coming = pair_from(header.get("list"))
    after, upto = header.get("after"), header.get("upto")
    after = "" if after == "" else _cursor_from(after)
    return AskPage(number, preference, coming, after, None if upto is None else _cursor_from(upto))


def _page_fields(message: Page, payload: Payload) -> Fields:
    keys = [key for key, _ in message.records]
    return {"keys": keys, "upto": message.upto, **_record_fields([record for _, record in message.records], payload)}


def _read_page(number: int, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Page:
    keys, upto = _keys(header.get("keys")), header.get("upto")
    found = _records(header, len(keys), frame, start, pause)
    records = tuple([(key, record) for key, record in zip(keys, found, strict=True) if isinstance(record, Record)])
    if len(records) < len(keys):
        raise BadFrame("a page has a record for each key")
    return Page(number, records, None if upto is None else _cursor_from(upto))


def _ask_record_fields(message: AskRecord, _: Payload) -> Fields:
    return {"key": message.key}


def _read_ask_record(number: int, header: Mapping[str, Any], frame: bytes, start: int, _: Pause) -> AskRecord:
    if start != len(frame):
        raise BadFrame(_NO_VALUES)
    return AskRecord(number, _keys([header.get("key")])[0])


def _found_fields(message: FoundRecord, payload: Payload) -> Fields:
    return _record_fields([message.record], payload)


def _read_found(number: int, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> FoundRecord:
    return FoundRecord(number, _records(header, 1, frame, start, pause)[0])


def _record_fields(records: Sequence[Record | Damage | None], payload: Payload) -> Fields:
    """Return the columns of records; a damaged one has the size -2, and one that is not there no version."""
    known = [one if isinstance(one, Record) else None for one in records]
    fields: Fields = {
        "versions": [record and str(record.version) for record in known],
        "expires": [record.expires if record else 0 for record in known],
    }
    _put_values([None if record is None else record.value for record in known], fields, payload)
    for place, one in enumerate(records):
        if isinstance(one, Damage):
            fields["sizes"][place] = DAMAGED_SIZE
    if any(record and record.client_version for record in known):
        fields["tags"] = [record and record.client_version and str(record.client_version) for record in known]
    return fields


def _records(header: Mapping[str, Any], count: int, frame: bytes, start: int, pause: Pause) -> list[Record | Damage | None]:
    parts = cut(frame, start, header.get("sizes"), pause, least=0)
    versions, expires, tags = (
        _column(header, "versions", count),
        _column(header, "expires", count),
        _column(header, "tags", count),
    )
    if not len(parts) == len(versions) == len(expires) == count:
        raise BadFrame("each record has a size, a version, and a time at which it expires")
    if not all(map(is_time, expires)):
        raise BadFrame("expires has times")
    values = _values([None if isinstance(part, Damage) else part for part in parts], header, count)
    records: list[Record | Damage | None] = []
    for place, (part, value, version) in enumerate(zip(parts, values, versions, strict=True)):
        if version is None:
            if isinstance(part, bytes):
                raise BadFrame("a value has a version")
            records.append(part)
        elif isinstance(part, Damage):
            raise BadFrame("a damaged record has no version")
        else:
            tag = _version_or_none(tags[place]) if tags else None
            records.append(Record(_version(version), value, expires[place], tag))
        if not len(records) % _ROWS_AT_ONCE:
            pause()
    return records


# --- all others --------------------------------------------------------------------------------------------------------------


def _no_fields(_message: Message, _: Payload) -> Fields:
    return {}


def _reader_of(kind: Callable[[int], Message]) -> _Read:
    """Return what reads a message that has nothing but its number."""

    def read(number: int, _header: Mapping[str, Any], frame: bytes, start: int, _: Pause) -> Message:
        if start != len(frame):
            raise BadFrame(_NO_VALUES)
        return kind(number)

    return read


def _key_fields(message: UnsettledKeys | FoundDamaged, _: Payload) -> Fields:
    return {"keys": message.keys}


def _reader_of_keys(kind: Callable[[int, tuple[str, ...]], Message]) -> _Read:
    """Return what reads a message that has keys, and nothing else."""

    def read(number: int, header: Mapping[str, Any], frame: bytes, start: int, _: Pause) -> Message:
        if start != len(frame):
            raise BadFrame(_NO_VALUES)
        return kind(number, tuple(_keys(header.get("keys"))))

    return read


# --- fields ------------------------------------------------------------------------------------------------------------------


def _put_values(values: Sequence[Value | None], fields: Fields, payload: Payload) -> None:
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


def _values(parts: Sequence[bytes | Damage | None], header: Mapping[str, Any], count: int) -> list[Value | None]:
    """Return values with their types; raise BadFrame for a damaged one, and for a text of no bytes."""
    if "types" not in header:
        if Damage in set(map(type, parts)) or b"" in parts:
            raise BadFrame("a value has a text")
        return list(cast("Sequence[bytes | None]", parts))
    types = _column(header, "types", count)
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


def _column(header: Mapping[str, Any], name: str, count: int) -> Sequence[Any]:
    """Return a column that has one for each key, or is not there."""
    if name not in header:
        return ()
    column = header[name]
    if not isinstance(column, list) or len(column) != count:
        raise BadFrame(f"{name} has one for each key")
    return column


def _keys(keys: Any) -> list[str]:
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


def _version(text: Any) -> Version:
    if not isinstance(text, str):
        raise BadFrame("a version is a text")
    try:
        return Version.parse(text)
    except ValueError as error:
        raise BadFrame(str(error)) from None


def _version_or_none(text: Any) -> Version | None:
    return None if text is None else _version(text)


def _versions(texts: Any) -> tuple[Version, ...]:
    if not isinstance(texts, list):
        raise BadFrame("versions are an array of texts")
    return tuple([_version(text) for text in texts])


def _cursor_from(text: Any) -> str:
    if not isinstance(text, str) or not _cursor(text):
        raise BadFrame("a cursor begins with a token")
    if len(text) > _CURSOR:
        _keys([text[_CURSOR:]])
    return text


_KINDS: Mapping[type[Message], tuple[str, Callable[[Any, Payload], Fields], _Read]] = {
    Copy: ("copy", _copy_fields, _read_copy),
    Copied: ("copied", _copied_fields, _read_copied),
    Working: ("working", _working_fields, _read_working),
    Full: ("full", _no_fields, _reader_of(Full)),
    AskUnsettled: ("ask-unsettled", _no_fields, _reader_of(AskUnsettled)),
    UnsettledKeys: ("unsettled", _key_fields, _reader_of_keys(UnsettledKeys)),
    AskLease: ("ask-lease", _no_fields, _reader_of(AskLease)),
    Granted: ("granted", _room_fields, _read_granted),
    Hello: ("hello", _no_fields, _reader_of(Hello)),
    HelloBack: ("hello-back", _no_fields, _reader_of(HelloBack)),
    AskPage: ("ask-page", _ask_page_fields, _read_ask_page),
    Page: ("page", _page_fields, _read_page),
    AskRecord: ("ask-record", _ask_record_fields, _read_ask_record),
    FoundRecord: ("found-record", _found_fields, _read_found),
    FoundDamaged: ("found-damaged", _key_fields, _reader_of_keys(FoundDamaged)),
    Behind: ("behind", _no_fields, _reader_of(Behind)),
}
"""By the class of a message: its word, what the line says of it, and what reads that."""
_READERS = {say: read for say, _, read in _KINDS.values()}
