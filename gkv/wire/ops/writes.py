"""What a node can be asked to write, and how it says what that did to each key."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Self

from gkv.model import Blob, Effect, Op, Value, Version
from gkv.wire.ops.frame import BadFrame, NodeAnswer, cut, is_time, line
from gkv.wire.ops.keyed import BAD_VALUES, KeyRequest, read_keys, refuse_values, typed
from gkv.wire.strict import Pause, no_pause

_EFFECTS = {effect.value: effect for effect in Effect}
_LETTERS = "".join(_EFFECTS)


@dataclass(slots=True)
class WriteRequest(KeyRequest):
    """A request that changes keys, all of them under one version. `Effects` is the answer."""

    version: Version


@dataclass(slots=True)
class Set(WriteRequest):
    """Sets keys to values.

    `expires` says when each expires, in milliseconds since the Unix epoch, 0 for never; it is empty when none does.
    """

    op: ClassVar[Op] = Op.SET
    values: Sequence[Value]
    expires: Sequence[int] = ()

    @classmethod
    def of_part(
        cls,
        cluster: str,
        epoch: int,
        keys: Sequence[str],
        version: Version | None,
        values: Sequence[Value],
        expires: Sequence[int],
    ) -> Self:
        return cls(cluster, epoch, keys, _given(version), values, expires)

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        cluster, epoch, keys = read_keys(header)
        version = _read_version(header)
        values, expires = _read_values(header, frame, start, len(keys), pause)
        return cls(cluster, epoch, keys, version, values, expires)

    def write(self) -> bytes:
        header = _header(self)
        if self.expires:
            header["expires"] = self.expires
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
    def of_part(
        cls,
        cluster: str,
        epoch: int,
        keys: Sequence[str],
        version: Version | None,
        values: Sequence[Value],
        expires: Sequence[int],
    ) -> Self:
        return cls(cluster, epoch, keys, _given(version))

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        cluster, epoch, keys = read_keys(header)
        refuse_values(header, frame, start)
        return cls(cluster, epoch, keys, _read_version(header))

    def write(self) -> bytes:
        return line(_header(self))


def _header(request: WriteRequest) -> dict[str, Any]:
    return {
        "op": request.op.value,
        "cluster": request.cluster,
        "epoch": request.epoch,
        "version": str(request.version),
        "keys": request.keys,
    }


def _given(version: Version | None) -> Version:
    if version is None:
        raise ValueError("a write has a version")
    return version


def _read_version(header: Mapping[str, Any]) -> Version:
    try:
        return Version.parse(header["version"])
    except (KeyError, TypeError, ValueError):
        raise BadFrame("a write has a version") from None


def _read_values(
    header: Mapping[str, Any], frame: bytes, start: int, count: int, pause: Pause
) -> tuple[Sequence[Value], Sequence[int]]:
    """Return the values of a set, and when they expire."""
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
    expires = ()
    if "expires" in header:
        expires = header["expires"]
        if not isinstance(expires, list) or len(expires) != count or not all(map(is_time, expires)):
            raise BadFrame("expires has a time for each key")
    return values, expires or ()


@dataclass(slots=True)
class Effects(NodeAnswer):
    """What a write did to each of its keys, in their order: a letter for each, the value of its `Effect`.

    `beaten` is as in `gkv.model.Applied`.

    >>> Effects.of([Effect.CREATED, Effect.REPLACED]).write()
    b'{"effects":"cr"}\\n'
    """

    letters: str
    beaten: int = 0

    @classmethod
    def of(cls, effects: Iterable[Effect], beaten: int = 0) -> Self:
        """Write effects as letters. O(keys)."""
        return cls("".join(effects), beaten)

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        letters, beaten = header.get("effects"), header.get("beaten", 0)
        if start != len(frame) or not isinstance(letters, str) or len(letters) != count or letters.strip(_LETTERS):
            raise BadFrame("effects has a letter for each key that was written")
        if type(beaten) is not int or not 0 <= beaten < 1 << 64:
            raise BadFrame("beaten is a stamp")
        return cls(letters, beaten)

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        if self.beaten:
            return line({"effects": self.letters, "beaten": self.beaten})
        return b'{"effects":"%b"}\n' % self.letters.encode()  # what `line` would write, in a quarter of the time

    def __iter__(self) -> Iterator[Effect]:
        """Yield the effect on each key."""
        return map(_EFFECTS.__getitem__, self.letters)

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self.letters)

    def count(self, effect: Effect) -> int:
        """Return on how many keys the write had this effect. O(keys), some 1 ns each."""
        return self.letters.count(effect)
