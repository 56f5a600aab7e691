"""The shape of a frame, and what all requests and answers have in common."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf
from typing import Any, ClassVar, Self, TypeVar

import ujson

from gkv.model import Damage, NodeRefusal, Op
from gkv.replication.events import Pair
from gkv.wire.strict import Pause, no_pause

MISSING = -1
"""Stands among the sizes for a key that has no value."""
DAMAGED_SIZE = -2
"""Stands among the sizes for a key whose record is not what was written."""

_BAD_LENGTH = "the payload is not as long as the sizes say"
_BAD_SIZES = "sizes are whole numbers above 0, -1 or -2"
_REFUSALS = {refusal.value: refusal for refusal in NodeRefusal}

_CUT_AT_ONCE = 262_144
"""Bytes of values that are copied in one step."""
_LONG_LINE = 1 << 18
"""Bytes of a line that is read in steps: an escape of six bytes may stand for each byte of a key, and 10,000 keys
then have 28 MiB."""
_KEYS = b'"keys":["'
_KEYS_AT_ONCE = 256

_incarnation = re.compile(r"[0-9a-f]{16}").fullmatch
is_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}").fullmatch
"""Whether a text is the id of a node (`gkv.cluster.node`)."""


class BadFrame(ValueError):
    """What was received is no frame, or not one that was expected."""


class NoRoom(Exception):
    """The values of an answer have more bytes than it may have."""


class Large(Exception):
    """The values of an answer have more bytes than may be put together without a word: `size`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class NodeRequest:
    """What a node is asked. The classes of requests are not frozen: one is made for each call, and freezing costs 1 us."""

    __slots__ = ()
    op: ClassVar[Op]

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        """Read a frame whose line says `header` and whose payload begins at `start`; raise BadFrame.

        Calls `pause` between large values.
        """
        raise NotImplementedError

    def write(self) -> bytes:
        """Return the frame."""
        raise NotImplementedError


class NodeAnswer:
    """What a node answers."""

    __slots__ = ()
    is_read: ClassVar[bool] = False
    """Whether it tells of records, so that it is of no use once another document is in force than when it was begun."""

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        """Read the answer to a request for `count` keys, as `NodeRequest.read` does."""
        raise NotImplementedError

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        """Return the frame; calls `pause` between pieces that together are large.

        Before any value is copied, raise NoRoom when they have more than `room` bytes, and Large when they have more than
        `most`.
        """
        raise NotImplementedError


@dataclass(slots=True)
class Refused(NodeAnswer):
    """The answer of a node that does not do what it is asked.

    `document` is the node's, None when it has none; it comes with STALE. `detail` is for people.
    """

    reason: NodeRefusal
    document: Mapping[str, Any] | None = None
    detail: str = ""

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        reason, document, detail = header.get("refused"), header.get("document"), header.get("detail", "")
        if start != len(frame):
            raise BadFrame("a refusal has no values")
        if not isinstance(reason, str) or not reason or not isinstance(detail, str):
            raise BadFrame("a refusal says why")
        if document is not None and not isinstance(document, dict):
            raise BadFrame("a document is an object")
        return cls(_REFUSALS.get(reason, NodeRefusal.UNKNOWN), document, detail)

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        header: dict[str, Any] = {"refused": self.reason.value, "document": self.document}
        if self.detail:
            header["detail"] = self.detail
        return line(header)


AnswerKind = TypeVar("AnswerKind", bound=NodeAnswer)


def read_answer(frame: bytes, kind: type[AnswerKind], count: int = 0, pause: Pause = no_pause) -> AnswerKind | Refused:
    """Read an answer of this kind, about `count` keys, or a refusal; raise BadFrame when it is neither.

    Calls `pause` between large values.

    >>> read_answer(b'{"refused":"busy","document":null}\\n', Refused).reason
    <NodeRefusal.BUSY: 'busy'>
    """
    header, start = split(frame, pause)
    if "refused" in header:
        return Refused.read(header, frame, start, pause, count)
    return kind.read(header, frame, start, pause, count)


def understand(frame: bytes, kind: type[AnswerKind], count: int = 0, pause: Pause = no_pause) -> AnswerKind | Refused | None:
    """Read an answer as `read_answer` does; return None when it is neither of that kind nor a refusal."""
    try:
        return read_answer(frame, kind, count, pause)
    except BadFrame:
        return None


def line(header: Mapping[str, Any]) -> bytes:
    """Return the line of a frame."""
    return ujson.dumps(header, ensure_ascii=False, escape_forward_slashes=False).encode() + b"\n"


def split(frame: bytes, pause: Pause = no_pause) -> tuple[dict[str, Any], int]:
    """Return a frame's header and where its payload starts. Calls `pause` between many keys."""
    end = frame.find(b"\n")
    try:
        header = None if end < 0 else ujson.loads(frame[:end]) if end < _LONG_LINE else _read_long_line(frame[:end], pause)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise BadFrame("a frame starts with a line of JSON, an object")
    return header, end + 1


def _read_long_line(text: bytes, pause: Pause) -> Any:
    """Return the value of a line of JSON with very many keys, or of any other; raise ValueError."""
    start = at = text.find(_KEYS) + len(_KEYS)
    keys: list[str] = []
    while start >= len(_KEYS) and text[at - 2 : at] in (b'["', b',"'):
        end = _end_of_string(text, at)
        keys.append(ujson.loads(text[at - 1 : end + 1]))
        at = end + 3
        if not len(keys) % _KEYS_AT_ONCE:
            pause()
    if keys and text[at - 2 : at - 1] == b"]":
        header = ujson.loads(text[: start - 1] + text[at - 2 :])
        if isinstance(header, dict) and header.get("keys") == []:
            return header | {"keys": keys}
    return ujson.loads(text)


def _end_of_string(text: bytes, start: int) -> int:
    """Return where the closing quote is of a string that begins at `start`; raise ValueError when it has none."""
    end = text.index(b'"', start)
    while (end - start - len(text[start:end].rstrip(b"\\"))) % 2:
        end = text.index(b'"', end + 1)
    return end


def lone_surrogate(text: str) -> bool:
    """Return whether a text has what ujson lets pass and no UTF-8 can say."""
    try:
        text.encode()  # four times as fast as to look for one by a regular expression
    except UnicodeEncodeError:
        return True
    return False


def cut(frame: bytes, start: int, sizes: Any, pause: Pause, least: int = 1) -> list[bytes | Damage | None]:
    """Cut the payload at these sizes; it must be used up exactly. `least` is 0 where the value of a blob may stand.

    Calls `pause` between values that together are large.
    """
    if not isinstance(sizes, list) or not set(map(type, sizes)) <= {int}:
        raise BadFrame(_BAD_SIZES)
    if len(frame) - start <= _CUT_AT_ONCE and min(sizes, default=least) >= least:  # as nearly all are
        ends = list(accumulate(sizes, initial=start))
        if ends[-1] != len(frame):
            raise BadFrame(_BAD_LENGTH)
        return [frame[at:end] for at, end in pairwise(ends)]
    parts: list[bytes | Damage | None] = []
    due = _CUT_AT_ONCE
    for size in sizes:
        if size >= least:
            parts.append(frame[start : start + size])
            start += size
            if start > due:
                pause()
                due = start + _CUT_AT_ONCE
        elif size == MISSING:
            parts.append(None)
        elif size == DAMAGED_SIZE:
            parts.append(Damage.DAMAGED)
        else:
            raise BadFrame(_BAD_SIZES)
    if start != len(frame):
        raise BadFrame(_BAD_LENGTH)
    return parts


def sizes_of(values: Sequence[Any]) -> list[int]:
    """Return the size that stands for each value, for a missing one and for a damaged one."""
    return [MISSING if value is None else DAMAGED_SIZE if value is Damage.DAMAGED else len(value) for value in values]


def read_epoch(header: Mapping[str, Any]) -> tuple[str, int]:
    """Return the cluster, and the era of the document, that a request's sender believes in."""
    cluster, generation, epoch = header.get("cluster"), header.get("generation"), header.get("epoch")
    if not isinstance(cluster, str) or type(generation) is not int or type(epoch) is not int:
        raise BadFrame("a request says its cluster, generation and epoch")
    if not (0 <= generation < 1 << 16 and 0 <= epoch < 1 << 48):
        raise BadFrame("a generation has 16 bits, an epoch 48")
    return cluster, generation << 48 | epoch  # as `era_of`, without a call


def read_era(header: Mapping[str, Any]) -> int:
    """Return the era of the document that an answer was given under."""
    generation, epoch = header.get("generation"), header.get("epoch")
    if type(generation) is not int or type(epoch) is not int or not (0 <= generation < 1 << 16 and 0 <= epoch < 1 << 48):
        raise BadFrame("an answer says its generation and epoch")
    return generation << 48 | epoch


def incarnation_from(text: Any) -> int:
    """Return the incarnation of a process; raise BadFrame."""
    if not isinstance(text, str) or not _incarnation(text):
        raise BadFrame("an incarnation has 16 hexadecimal digits")
    return int(text, 16)


def pair_from(data: Any) -> Pair:
    """Return the name of a list; raise BadFrame."""
    if not isinstance(data, list) or len(data) != 2:
        raise BadFrame("the name of a list has two parts")
    preference, coming = (ids_from(one) for one in data)
    if not preference:
        raise BadFrame("a list has members")
    return preference, coming


def ids_from(data: Any, *, distinct: bool = True) -> tuple[str, ...]:
    """Return the ids of members, each once if they are to be `distinct`; raise BadFrame."""
    if not isinstance(data, list) or not all(isinstance(one, str) and is_id(one) for one in data):
        raise BadFrame("members are named by ids")
    if distinct and len(set(data)) < len(data):
        raise BadFrame("a member stands twice")
    return tuple(data)


def is_time(value: Any) -> bool:
    """Return whether a value from a header is a moment in milliseconds since the Unix epoch, 0 for never."""
    return type(value) is int and 0 <= value < 1 << 63
