"""How the messages of `gkv.replication.messages` stand in a frame: `say` names the kind, and each kind has fields of its own.

Reading is strict: a field that cannot be is a BadFrame, and nothing of the message is believed. Versions have 32 hexadecimal
digits. Values stand behind the line, in the order in which the line has their sizes: -1 for a tombstone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gkv.model import Damage, Record, Write
from gkv.replication.messages import (
    AskLease,
    AskPage,
    AskRecord,
    AskSums,
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
    Sums,
    UnsettledKeys,
    Working,
)
from gkv.wire.ops.fields import (
    Fields,
    Payload,
    begin_from,
    column,
    cursor_from,
    keys_from,
    packed,
    places_from,
    put_values,
    record_fields,
    records_from,
    unpacked,
    values_from,
    version_from,
    version_or_none,
    versions_from,
)
from gkv.wire.ops.frame import BadFrame, cut, is_time, pair_from
from gkv.wire.strict import Pause

_Read = Callable[[int, Mapping[str, Any], bytes, int, Pause], Message]

_NO_VALUES = "such a message has no values"
_MOST_PLACES = 1 << 20


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
    put_values(write.values, fields, payload)
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
    return Copy(number, tuple(taken), versions_from(header.get("settled")))


def _read_write(header: Mapping[str, Any], parts: Sequence[bytes | Damage | None]) -> Write:
    keys = keys_from(header.get("keys"))
    at: Any = header.get("at")
    count = len(parts)
    if not keys or len(keys) != count:
        raise BadFrame("a write has keys, and a size for each of them")
    if not is_time(at):
        raise BadFrame("a write says when it was admitted")
    expires = column(header, "expires", count)
    if not all(map(is_time, expires)):
        raise BadFrame("expires has times")
    tags = [version_or_none(tag) for tag in column(header, "tags", count)]
    return Write(version_from(header.get("version")), keys, values_from(parts, header, count), expires, tags or (), at)


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
    return Copied(number, versions_from(header.get("versions")), _is_full(header))


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


def _ask_sums_fields(message: AskSums, _: Payload) -> Fields:
    return {"list": [message.preference, message.coming], "after": message.after}


def _read_ask_sums(number: int, header: Mapping[str, Any], frame: bytes, start: int, _: Pause) -> AskSums:
    if start != len(frame):
        raise BadFrame(_NO_VALUES)
    return AskSums(number, *pair_from(header.get("list")), begin_from(header.get("after")))


def _sums_fields(message: Sums, payload: Payload) -> Fields:
    payload.append(packed([one or 0 for one in message.sums]))
    return {"unknown": [place for place, one in enumerate(message.sums) if one is None]}


def _read_sums(number: int, header: Mapping[str, Any], frame: bytes, start: int, _: Pause) -> Sums:
    sums: list[int | None] = [*unpacked(frame, start)]
    for place in places_from(header, "unknown", len(sums)):
        sums[place] = None
    return Sums(number, tuple(sums))


def _ask_page_fields(message: AskPage, payload: Payload) -> Fields:
    payload.append(packed(message.known))
    return {"list": [message.preference, message.coming], "ranges": message.ranges, "named": message.named}


def _read_ask_page(number: int, header: Mapping[str, Any], frame: bytes, start: int, _: Pause) -> AskPage:
    ranges = header.get("ranges")
    if not isinstance(ranges, list) or not all(isinstance(one, list) and len(one) == 2 for one in ranges):
        raise BadFrame("a range has two ends")
    ends = tuple([(begin_from(begin), None if end is None else cursor_from(end)) for begin, end in ranges])
    named = tuple(keys_from(header.get("named")))
    return AskPage(number, *pair_from(header.get("list")), ends, unpacked(frame, start), named)


def _page_fields(message: Page, payload: Payload) -> Fields:
    keys = [key for key, _ in message.records]
    return {
        "keys": keys,
        **record_fields([record for _, record in message.records], payload),
        "same": message.same,
        "whole": message.whole,
        "upto": message.upto,
        "rest": message.rest,
        "damaged": message.damaged,
    }


def _read_page(number: int, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Page:
    keys, upto = keys_from(header.get("keys")), header.get("upto")
    whole: Any = header.get("whole")
    rest: Any = header.get("rest")
    found = records_from(header, len(keys), frame, start, pause)
    records = tuple([(key, record) for key, record in zip(keys, found, strict=True) if isinstance(record, Record)])
    if len(records) < len(keys):
        raise BadFrame("a page has a record for each key")
    if type(whole) is not int or whole < 0:
        raise BadFrame("a page covers some ranges")
    if type(rest) not in (int, float) or not 0 <= rest < 1 << 32:  # which no NaN is
        raise BadFrame("a primary rests for some seconds")
    same = places_from(header, "same", _MOST_PLACES)
    damaged = tuple(keys_from(header.get("damaged")))
    return Page(number, records, same, whole, None if upto is None else cursor_from(upto), float(rest), damaged)


def _ask_record_fields(message: AskRecord, _: Payload) -> Fields:
    return {"key": message.key}


def _read_ask_record(number: int, header: Mapping[str, Any], frame: bytes, start: int, _: Pause) -> AskRecord:
    if start != len(frame):
        raise BadFrame(_NO_VALUES)
    return AskRecord(number, keys_from([header.get("key")])[0])


def _found_fields(message: FoundRecord, payload: Payload) -> Fields:
    return record_fields([message.record], payload)


def _read_found(number: int, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> FoundRecord:
    return FoundRecord(number, records_from(header, 1, frame, start, pause)[0])


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
        return kind(number, tuple(keys_from(header.get("keys"))))

    return read


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
    AskSums: ("ask-sums", _ask_sums_fields, _read_ask_sums),
    Sums: ("sums", _sums_fields, _read_sums),
    AskPage: ("ask-page", _ask_page_fields, _read_ask_page),
    Page: ("page", _page_fields, _read_page),
    AskRecord: ("ask-record", _ask_record_fields, _read_ask_record),
    FoundRecord: ("found-record", _found_fields, _read_found),
    FoundDamaged: ("found-damaged", _key_fields, _reader_of_keys(FoundDamaged)),
    Behind: ("behind", _no_fields, _reader_of(Behind)),
}
"""By the class of a message: its word, what the line says of it, and what reads that."""
_READERS = {say: read for say, _, read in _KINDS.values()}
