"""What a node can be asked to write, and how it says what that did to each key."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Self

from gkv.model import Blob, Effect, Op, Value, Version
from gkv.wire.client import MAX_TTL
from gkv.wire.ops.frame import BadFrame, NodeAnswer, cut, ids_from, line
from gkv.wire.ops.keyed import BAD_VALUES, VALUES, Items, KeyRequest, read_keys_to_write, refuse_values, typed
from gkv.wire.strict import Pause, no_pause

_EFFECTS = {effect.value: effect for effect in Effect}
_LETTERS = "".join(_EFFECTS)
_CONDITION = Effect.CONDITION.value
_FULL_COPY = Effect.FULL_COPY.value


class WriteRequest(KeyRequest):
    """A request that changes keys. `Effects` is the answer."""

    __slots__ = ()


@dataclass(slots=True)
class Set(WriteRequest):
    """Sets keys to values.

    `ttls` says for how long each is there, in milliseconds from its admission, 0 for good; it is empty when all are for good.
    `conditions` has a text for each key that is written only if it holds
    (`gkv.replication.conditions`), None for the others; it is empty when there is none.
    """

    op: ClassVar[Op] = Op.SET
    values: Sequence[Value]
    ttls: Sequence[int] = ()
    conditions: Sequence[str | None] = ()

    @classmethod
    def of_part(cls, cluster: str, era: int, part: Items) -> Self:
        return cls(cluster, era, part.keys, part.values, part.ttls, part.conditions)

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        cluster, era, keys = read_keys_to_write(header)
        values = _read_values(header, frame, start, len(keys), pause)
        return cls(cluster, era, keys, values, _read_ttls(header, len(keys)), _read_conditions(header, len(keys)))

    def write(self) -> bytes:
        header = self.header() | {"keys": self.keys}
        if self.ttls:
            header["ttls"] = self.ttls
        values = self.values
        try:
            payload = b"".join(values)  # type: ignore[arg-type]  # looking for blobs first would cost every set
        except TypeError:
            header["types"] = [value.content_type if isinstance(value, Blob) else None for value in values]
            if self.conditions:
                header["if"] = self.conditions
            data = [value.data if isinstance(value, Blob) else value for value in values]
            header["sizes"] = list(map(len, data))
            return line(header) + b"".join(data)
        if self.conditions:
            header["if"] = self.conditions
        header["sizes"] = list(map(len, values))
        return line(header) + payload


class Put(Set):
    """Sets keys to values, and wants to know of each what that did to it."""

    __slots__ = ()
    op: ClassVar[Op] = Op.PUT


@dataclass(slots=True)
class Delete(WriteRequest):
    """Deletes keys. `conditions` as in `Set`."""

    op: ClassVar[Op] = Op.DELETE
    conditions: Sequence[str | None] = ()

    @classmethod
    def of_part(cls, cluster: str, era: int, part: Items) -> Self:
        return cls(cluster, era, part.keys, part.conditions)

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        refuse_values(header, frame, start)
        cluster, era, keys = read_keys_to_write(header)
        return cls(cluster, era, keys, _read_conditions(header, len(keys)))

    def write(self) -> bytes:
        header = self.header() | {"keys": self.keys}
        if self.conditions:
            header["if"] = self.conditions
        return line(header)


@dataclass(slots=True)
class Add(WriteRequest):
    """Adds to integers; what is not there counts as 0. An expiry stays as it is unless there are `ttls`, as in `Set`."""

    op: ClassVar[Op] = Op.ADD
    deltas: Sequence[int]
    ttls: Sequence[int] = ()

    @classmethod
    def of_part(cls, cluster: str, era: int, part: Items) -> Self:
        return cls(cluster, era, part.keys, [int(value) for value in part.values if isinstance(value, bytes)], part.ttls)

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        refuse_values(header, frame, start, VALUES)
        cluster, era, keys = read_keys_to_write(header)
        deltas = header.get("deltas")
        if not isinstance(deltas, list) or len(deltas) != len(keys) or not all(map(_is_delta, deltas)):
            raise BadFrame("deltas has a whole number of at most 18 digits for each key")
        return cls(cluster, era, keys, deltas, _read_ttls(header, len(keys)))

    def write(self) -> bytes:
        header = self.header() | {"keys": self.keys, "deltas": self.deltas}
        if self.ttls:
            header["ttls"] = self.ttls
        return line(header)


@dataclass(slots=True)
class Touch(WriteRequest):
    """Gives values another expiry. `ttls` as in `Set`, with one for each key."""

    op: ClassVar[Op] = Op.TOUCH
    ttls: Sequence[int]

    @classmethod
    def of_part(cls, cluster: str, era: int, part: Items) -> Self:
        return cls(cluster, era, part.keys, part.ttls)

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        refuse_values(header, frame, start, VALUES)
        cluster, era, keys = read_keys_to_write(header)
        if "ttls" not in header:
            raise BadFrame("touch has a time for each key")
        return cls(cluster, era, keys, _read_ttls(header, len(keys)))

    def write(self) -> bytes:
        return line(self.header() | {"keys": self.keys, "ttls": self.ttls})


def _read_values(header: Mapping[str, Any], frame: bytes, start: int, count: int, pause: Pause) -> Sequence[Value]:
    """Return the values of a set."""
    values: Sequence[Value]
    if "types" in header:
        values = typed(cut(frame, start, header.get("sizes"), pause, least=0), header["types"])
    else:
        parts = cut(frame, start, header.get("sizes"), pause)
        values = [value for value in parts if isinstance(value, bytes)]
        if len(values) < len(parts):
            raise BadFrame(BAD_VALUES)
    if len(values) != count:
        raise BadFrame(BAD_VALUES)
    return values


def _read_ttls(header: Mapping[str, Any], count: int) -> Sequence[int]:
    if "ttls" not in header:
        return ()
    ttls: Sequence[int] = header["ttls"]
    if not isinstance(ttls, list) or len(ttls) != count or not all(map(_is_ttl, ttls)):
        raise BadFrame("ttls has a time for each key")
    return ttls


def _read_conditions(header: Mapping[str, Any], count: int) -> Sequence[str | None]:
    if "if" not in header:
        return ()
    conditions: Sequence[str | None] = header["if"]
    if not isinstance(conditions, list) or len(conditions) != count or not set(map(type, conditions)) <= {str, type(None)}:
        raise BadFrame("if has a text or null for each key")
    return conditions


def _is_delta(value: Any) -> bool:
    return type(value) is int and abs(value) < 10**18


def _is_ttl(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_TTL * 1000


@dataclass(slots=True)
class Effects(NodeAnswer):
    """What a write did to each of its keys, in their order: a letter for each, the value of its `Effect`.

    `version` is that of the write, None when nothing was written.

    >>> Effects.of([Effect.CREATED, Effect.REPLACED], Version(1, 2)).write()
    b'{"version":"00000000000000010000000000000002","effects":"cr"}\\n'
    """

    letters: str
    version: Version | None = None
    present: Sequence[Version | None] = ()
    """For each key on which a condition did not hold, in their order, the version that is there, None for no value."""
    sums: Sequence[int] = ()
    """For each key that was added to, in their order, the sum."""
    full: Sequence[str] = ()
    """For each key with a `FULL_COPY`, in their order, the member whose disk is full."""

    @classmethod
    def of(
        cls,
        effects: Iterable[Effect],
        version: Version | None = None,
        present: Sequence[Version | None] = (),
        sums: Sequence[int] = (),
        full: Sequence[str] = (),
    ) -> Self:
        """Write effects as letters. O(keys)."""
        return cls("".join(effects), version, present, sums, full)

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        letters, version = header.get("effects"), header.get("version")
        if start != len(frame) or not isinstance(letters, str) or len(letters) != count or letters.strip(_LETTERS):
            raise BadFrame("effects has a letter for each key that was written")
        present, sums = header.get("present") or (), header.get("sums") or ()
        if present or sums:
            if not (isinstance(present, list | tuple) and isinstance(sums, list | tuple)):
                raise BadFrame("present and sums are arrays")
            if not set(map(type, sums)) <= {int}:
                raise BadFrame("sums has integers")
        if len(present) != letters.count(_CONDITION):
            raise BadFrame("present has a version or null for each condition that did not hold")
        full = ids_from(header["full"], distinct=False) if "full" in header else ()
        if len(full) != letters.count(_FULL_COPY):
            raise BadFrame("full has a member for each key whose copy has no room")
        try:
            versions = [None if one is None else Version.parse(one) for one in present] if present else ()
            return cls(letters, None if version is None else Version.parse(version), versions, sums, full)
        except (TypeError, ValueError):
            raise BadFrame("an answer to a write has a version") from None

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        version = None if self.version is None else str(self.version)
        if self.present or self.sums or self.full:
            header: dict[str, Any] = {"version": version, "effects": self.letters}
            if self.present:
                header["present"] = [one and str(one) for one in self.present]
            if self.sums:
                header["sums"] = self.sums
            if self.full:
                header["full"] = self.full
            return line(header)
        # What `line` would write, in a quarter of the time.
        quoted = "null" if version is None else f'"{version}"'
        return f'{{"version":{quoted},"effects":"{self.letters}"}}\n'.encode()

    def __iter__(self) -> Iterator[Effect]:
        """Yield the effect on each key."""
        return map(_EFFECTS.__getitem__, self.letters)

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self.letters)

    def count(self, effect: Effect) -> int:
        """Return on how many keys the write had this effect. O(keys), some 1 ns each."""
        return self.letters.count(effect)
