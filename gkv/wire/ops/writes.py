"""What a node can be asked to write, and how it says what that did to each key."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Self

from gkv.model import Blob, Effect, Op, Value, Version
from gkv.wire.client import MAX_TTL
from gkv.wire.ops.frame import BadFrame, NodeAnswer, cut, line
from gkv.wire.ops.keyed import BAD_VALUES, KeyRequest, read_keys, refuse_values, typed
from gkv.wire.strict import Pause, no_pause

_EFFECTS = {effect.value: effect for effect in Effect}
_LETTERS = "".join(_EFFECTS)


class WriteRequest(KeyRequest):
    """A request that changes keys. `Effects` is the answer."""

    __slots__ = ()


@dataclass(slots=True)
class Set(WriteRequest):
    """Sets keys to values.

    `ttls` says for how long each is there, in milliseconds from its admission, 0 for good; it is empty when all are for good.
    """

    op: ClassVar[Op] = Op.SET
    values: Sequence[Value]
    ttls: Sequence[int] = ()

    @classmethod
    def of_part(cls, cluster: str, era: int, keys: Sequence[str], values: Sequence[Value], ttls: Sequence[int]) -> Self:
        return cls(cluster, era, keys, values, ttls)

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        cluster, era, keys = read_keys(header)
        return cls(cluster, era, keys, *_read_values(header, frame, start, len(keys), pause))

    def write(self) -> bytes:
        header = self.header() | {"keys": self.keys}
        if self.ttls:
            header["ttls"] = self.ttls
        values = self.values
        try:
            payload = b"".join(values)  # type: ignore[arg-type]  # looking for blobs first would cost every set
        except TypeError:
            header["types"] = [value.content_type if isinstance(value, Blob) else None for value in values]
            data = [value.data if isinstance(value, Blob) else value for value in values]
            header["sizes"] = list(map(len, data))
            return line(header) + b"".join(data)
        header["sizes"] = list(map(len, values))
        return line(header) + payload


class Put(Set):
    """Sets keys to values, and wants to know of each what that did to it."""

    __slots__ = ()
    op: ClassVar[Op] = Op.PUT


class Delete(WriteRequest):
    """Deletes keys."""

    __slots__ = ()
    op: ClassVar[Op] = Op.DELETE

    @classmethod
    def of_part(cls, cluster: str, era: int, keys: Sequence[str], values: Sequence[Value], ttls: Sequence[int]) -> Self:
        return cls(cluster, era, keys)

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        refuse_values(header, frame, start)
        return cls(*read_keys(header))

    def write(self) -> bytes:
        return line(self.header() | {"keys": self.keys})


def _read_values(
    header: Mapping[str, Any], frame: bytes, start: int, count: int, pause: Pause
) -> tuple[Sequence[Value], Sequence[int]]:
    """Return the values of a set, and their ttls."""
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
    return values, _read_ttls(header, count)


def _read_ttls(header: Mapping[str, Any], count: int) -> Sequence[int]:
    if "ttls" not in header:
        return ()
    ttls: Sequence[int] = header["ttls"]
    if not isinstance(ttls, list) or len(ttls) != count or not all(map(_is_ttl, ttls)):
        raise BadFrame("ttls has a time for each key")
    return ttls


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

    @classmethod
    def of(cls, effects: Iterable[Effect], version: Version | None = None) -> Self:
        """Write effects as letters. O(keys)."""
        return cls("".join(effects), version)

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        letters, version = header.get("effects"), header.get("version")
        if start != len(frame) or not isinstance(letters, str) or len(letters) != count or letters.strip(_LETTERS):
            raise BadFrame("effects has a letter for each key that was written")
        try:
            return cls(letters, None if version is None else Version.parse(version))
        except (TypeError, ValueError):
            raise BadFrame("an answer to a write has a version") from None

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        # What `line` would write, in a quarter of the time.
        version = "null" if self.version is None else f'"{self.version}"'
        return f'{{"version":{version},"effects":"{self.letters}"}}\n'.encode()

    def __iter__(self) -> Iterator[Effect]:
        """Yield the effect on each key."""
        return map(_EFFECTS.__getitem__, self.letters)

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self.letters)

    def count(self, effect: Effect) -> int:
        """Return on how many keys the write had this effect. O(keys), some 1 ns each."""
        return self.letters.count(effect)
