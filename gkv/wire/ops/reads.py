"""What a node can be asked to read: values, whole records, a page of its keys."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, NamedTuple, Self

from gkv.model import Blob, Damage, Op, Record, Value, Version
from gkv.replication.names import Scope
from gkv.wire.ops.frame import (
    DAMAGED_SIZE,
    MISSING,
    BadFrame,
    Large,
    NodeAnswer,
    NoRoom,
    cut,
    is_time,
    line,
    lone_surrogate,
    read_epoch,
    sizes_of,
)
from gkv.wire.ops.keyed import EpochRequest, Items, KeyRequest, read_keys, refuse_values, typed
from gkv.wire.shown import LARGE, join, show
from gkv.wire.strict import Pause, no_pause

_PLACE = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_KEYS_AT_ONCE = 256
"""Keys that are written in one step."""
_BYTES_OF_A_CHARACTER = 6
"""Of a key in a frame, at most: control characters are escaped."""


class _Read(KeyRequest):
    __slots__ = ()

    @classmethod
    def of_part(cls, cluster: str, era: int, part: Items) -> Self:
        return cls(cluster, era, part.keys)

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        refuse_values(header, frame, start)
        return cls(*read_keys(header))

    def write(self) -> bytes:
        return line(self.header() | {"keys": self.keys})


class Get(_Read):
    """Asks for values, answered by `Values`.

    >>> from gkv.model import era_of
    >>> Get("c", era_of(1, 7), ["hi"]).write()
    b'{"op":"get","cluster":"c","generation":1,"epoch":7,"keys":["hi"]}\\n'
    """

    __slots__ = ()
    op: ClassVar[Op] = Op.GET


class Fetch(_Read):
    """Asks for whole records, answered by `Records`."""

    __slots__ = ()
    op: ClassVar[Op] = Op.FETCH


class FetchItems(_Read):
    """Asks for values with their types and ends, answered by `ItemRows`."""

    __slots__ = ()
    op: ClassVar[Op] = Op.ITEMS


class Peek(_Read):
    """Asks for whole records as the node's own copy has them, answered by `Records` with an age."""

    __slots__ = ()
    op: ClassVar[Op] = Op.PEEK


@dataclass(slots=True)
class ListKeys(EpochRequest):
    """Asks for up to `limit` names of a listing from the place `begin` on (`gkv.replication.names`), of keys that the node
    answers for; answered by `Page`. With a `delimiter` some of the names are prefixes.
    """

    op: ClassVar[Op] = Op.KEYS
    prefix: str
    begin: str
    limit: int
    delimiter: str = ""

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        if start != len(frame):
            raise BadFrame("keys has no values")
        cluster, era = read_epoch(header)
        texts = [header.get("prefix"), header.get("begin"), header.get("delimiter", "")]
        if not set(map(type, texts)) <= {str} or lone_surrogate("".join(texts)):
            raise BadFrame("a listing has a prefix and says where it goes on")
        limit = header.get("limit")
        if type(limit) is not int or limit < 1:
            raise BadFrame("a listing has a limit above 0")
        prefix, begin, delimiter = texts
        return cls(cluster, era, prefix, begin, limit, delimiter)

    def write(self) -> bytes:
        rest = {"delimiter": self.delimiter} if self.delimiter else {}
        return line(self.header() | {"prefix": self.prefix, "begin": self.begin, "limit": self.limit, **rest})

    @property
    def scope(self) -> Scope:
        return Scope(self.prefix, self.delimiter)


class ItemRow(NamedTuple):
    """A value with its end, in ms since the Unix epoch, 0 for never."""

    value: Value
    expires: int


@dataclass(slots=True)
class Values(NodeAnswer):
    """The answer to a get. What was read from a frame is the text of each value as a client is shown it.

    >>> Values([b'"hello"', None]).write()
    b'{"sizes":[7,-1]}\\n"hello"'
    """

    is_read: ClassVar[bool] = True
    values: Sequence[Value | Damage | None]

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        values = cut(frame, start, header.get("sizes"), pause)
        if len(values) != count:
            raise BadFrame(f"{count} keys were asked, {len(values)} answered")
        return cls(values)

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        values = self.values
        try:
            sizes = [MISSING if value is None else len(value) for value in values]  # type: ignore[arg-type]
            size = sum(sizes)
            if size > room:
                raise NoRoom
            found = [value for value in values if value is not None]
            if size > most:
                raise Large(size)
            if size > LARGE:
                return join([line({"sizes": sizes}), *found], pause)  # type: ignore[list-item]
            return line({"sizes": sizes}) + b"".join(found)  # type: ignore[arg-type]
        except TypeError:  # there is a blob among them, or damage; to look for that first would cost every get
            size = sum([len(value) for value in values if isinstance(value, bytes | Blob)])
            if size > room:
                raise NoRoom from None
            if size > most:
                raise Large(size) from None
            shown: list[bytes | Damage | None] = []
            for value in values:
                shown.append(show(value) if isinstance(value, Blob) else value)
                pause()
            return join([line({"sizes": sizes_of(shown)}), *[value for value in shown if isinstance(value, bytes)]], pause)


@dataclass(slots=True)
class Records(NodeAnswer):
    """The answer to a fetch. A tombstone has a version and no value. Versions are tags.

    `now` is the node's time, in the milliseconds that expiries are in: nobody else's clock says how long a value is there.
    """

    is_read: ClassVar[bool] = True
    records: Sequence[Record | Damage | None]
    now: int = 0
    age: int | None = None
    """To a peek: milliseconds since the keys' primaries were last heard by this copy, None where that is not known."""

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        parts = cut(frame, start, header.get("sizes"), pause, least=0)
        columns: list[Any] = [header.get(name) for name in ("versions", "expires", "types")]
        if len(parts) != count or not all(isinstance(column, list) and len(column) == count for column in columns):
            raise BadFrame(f"{count} keys were asked, others answered")
        now = header.get("now", 0)
        if not is_time(now):
            raise BadFrame("now is a time")
        records: list[Record | Damage | None] = []
        for row in zip(parts, *columns, strict=True):
            records.append(_record(*row))
            if not len(records) % _KEYS_AT_ONCE:
                pause()
        age = header.get("age")
        if age is not None and not is_time(age):
            raise BadFrame("an age is a number of milliseconds")
        return cls(records, now, age)

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        known = [record if isinstance(record, Record) else None for record in self.records]
        values = [None if record is None else record.value for record in known]
        size = sum([len(value) for value in values if value is not None])
        if size > room:
            raise NoRoom
        if size > most:
            raise Large(size)
        plain = [value.data if isinstance(value, Blob) else value for value in values]
        header: dict[str, Any] = {
            "versions": [record and str(record.tag) for record in known],
            "expires": [record.expires if record else 0 for record in known],
            "now": self.now,
            "types": [value.content_type if isinstance(value, Blob) else None for value in values],
            "sizes": sizes_of(
                [one if isinstance(one, Damage) else value for one, value in zip(self.records, plain, strict=True)]
            ),
        }
        if self.age is not None:
            header["age"] = self.age
        return join([line(header), *[value for value in plain if value is not None]], pause)


def _record(part: bytes | Damage | None, version: Any, expires: Any, content_type: Any) -> Record | Damage | None:
    if isinstance(part, Damage) or (part is None and version is None):
        return part
    if not isinstance(version, str) or not is_time(expires):
        raise BadFrame("a record has a version and says when it expires")
    try:
        return Record(Version.parse(version), None if part is None else typed([part], [content_type])[0], expires)
    except ValueError as error:
        raise BadFrame(str(error)) from None


@dataclass(slots=True)
class ItemRows(NodeAnswer):
    """The answer to a fetch of items. What has no end and no type stands there alone, as most values do; `now` is as in
    `Records`. What was read from a frame has no tombstones, and records without their versions (`ItemRow`).

    >>> ItemRows([b"1", None], 1500).write()
    b'{"now":1500,"sizes":[1,-1]}\\n1'
    """

    is_read: ClassVar[bool] = True
    rows: Sequence[bytes | Record | ItemRow | Damage | None]
    now: int

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        rows: list[Any] = cut(frame, start, header.get("sizes"), pause, least=0)
        now: Any = header.get("now")
        expires, types = header.get("expires", {}), header.get("types", {})
        if len(rows) != count or not (is_time(now) and isinstance(expires, dict) and isinstance(types, dict)):
            raise BadFrame(f"{count} keys were asked, others answered")
        for name in {**expires, **types}:
            place = int(name) if _PLACE.fullmatch(name) else count
            end = expires.get(name, 0)
            if place >= count or not is_time(end):
                raise BadFrame("an end or a type is that of a value")
            rows[place] = ItemRow(typed([rows[place]], [types.get(name)])[0], end)
        if b"" in rows:
            raise BadFrame("a text is not empty")
        return cls(rows, now)

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        sizes, found, expires, types = [], [], {}, {}
        for place, row in enumerate(self.rows):
            value = row.value if isinstance(row, Record | ItemRow) else row
            if isinstance(row, Record | ItemRow) and row.expires and value is not None:
                expires[str(place)] = row.expires
            if isinstance(value, Blob):
                types[str(place)] = value.content_type
                value = value.data
            if isinstance(value, bytes):
                sizes.append(len(value))
                found.append(value)
            else:
                sizes.append(MISSING if value is None else DAMAGED_SIZE)
        size = sum(map(len, found))
        if size > room:
            raise NoRoom
        if size > most:
            raise Large(size)
        header: dict[str, Any] = {"now": self.now, "sizes": sizes}
        header |= ({"expires": expires} if expires else {}) | ({"types": types} if types else {})
        return join([line(header), *found], pause)


@dataclass(slots=True)
class Page(NodeAnswer):
    """The answer to a listing: the names up to a place, in code point order.

    >>> Page(["a", "b"], "c").write()
    b'{"end":"c","keys":["a","b"]}\\n'
    """

    is_read: ClassVar[bool] = True
    keys: Sequence[str]
    end: str | None = None
    """The place that is reached, None at the end of the listing."""

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        keys, end = header.get("keys"), header.get("end")
        if start != len(frame) or not isinstance(keys, list) or not set(map(type, keys)) <= {str}:
            raise BadFrame("a page is an array of strings")
        if not (end is None or isinstance(end, str)) or lone_surrogate("".join(keys) + (end or "")):
            raise BadFrame("a string has a lone surrogate, or the end of a page is none")
        return cls(keys, end)

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        size = sum(map(len, self.keys))
        if size > most:
            raise Large(_BYTES_OF_A_CHARACTER * size)
        header: dict[str, Any] = {} if self.end is None else {"end": self.end}
        if size <= LARGE // _BYTES_OF_A_CHARACTER:
            return line(header | {"keys": self.keys})
        pieces = [line(header | {"keys": []})[: -len(b"]}\n")]]
        for start in range(0, len(self.keys), _KEYS_AT_ONCE):
            some = line({"keys": self.keys[start : start + _KEYS_AT_ONCE]})
            pieces += (b"," if start else b"", some[len(b'{"keys":[') : -len(b"]}\n")])
            pause()
        return join([*pieces, b"]}\n"], pause)
