"""The format of gathered frames: many calls to a node, or its replies to them, in the body of one
HTTP message.

    gkv/2 00c5a1f2b0d4e687 12 51,7 3f2a-17,9c04-2
    <51 bytes><7 bytes>

The preface is one line: the number of this format, the incarnation of the process that speaks (0 for
a proxy) and the epoch in force there (0 for none), the length of each frame and, in a request,
perhaps the ids of the clients' requests that it is for. The frames follow without anything between
them, and nothing follows them. The lengths stand in the body, since a head that is the same every
time need not be parsed every time.

Promises: strict reading, in one pass over the preface; a process that speaks another format is
refused by a message that names both numbers. Leaves to others: the meaning of a frame. Pure
functions; nothing waits.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

FORMAT = 2
"""Goes up with every change after which an older process would misread a message."""
MAX_FRAMES = 128
MAX_REQUEST_IDS = 1_024
"""Characters."""
MAX_PREFACE = 4_096

_LENGTH = rb"(?:0|[1-9][0-9]{0,11})"
_preface = re.compile(
    rb"gkv/%d ([0-9a-f]{16}) (0|[1-9][0-9]{0,14}) (%b(?:,%b)*+)(?: ([!-~]{1,%d}))?\n"
    % (FORMAT, _LENGTH, _LENGTH, MAX_REQUEST_IDS)
).match
_other_format = re.compile(rb"gkv/([0-9]{1,9}) ").match


class BadGathering(ValueError):
    """A body is no gathered frames."""


class OtherFormat(BadGathering):
    """A body is of another version's format."""


Body = TypeVar("Body", bytes, memoryview)


@dataclass(slots=True)  # not frozen: one is made for each request and each answer, and freezing costs 1 us
class Preface:
    """What the line before the frames says."""

    size: int
    """Bytes of the line itself."""
    incarnation: int
    epoch: int
    lengths: Sequence[int]
    request_ids: str


def write_preface(incarnation: int, epoch: int, lengths: Sequence[int], request_ids: Sequence[str] = ()) -> bytes:
    """Return the line that goes before frames of these lengths.

    >>> write_preface(0xC5A1F2B0D4E687, 12, [51, 7], ["3f2a-17", "9c04-2"])
    b'gkv/2 00c5a1f2b0d4e687 12 51,7 3f2a-17,9c04-2\\n'
    """
    ids = f" {_list_ids(request_ids)}" if request_ids else ""
    return f"gkv/{FORMAT} {incarnation:016x} {epoch} {','.join(map(str, lengths))}{ids}\n".encode()


def read_preface(data: bytes | bytearray, size: int, count: int | None = None) -> Preface:
    """Read the preface at the start of a body of `size` bytes, of which `data` has `MAX_PREFACE` or
    all.

    Raise BadGathering when there is none, when its lengths do not add up to the rest of the body,
    when it has more than `MAX_FRAMES` frames, or another number of them than `count`.
    """
    match = _preface(data)
    if match is None:
        other = _other_format(data)
        if other is not None and int(other[1]) != FORMAT:
            raise OtherFormat(f"gathered frames come in format {int(other[1])}, this process reads format {FORMAT}")
        raise BadGathering("gathered frames begin with a line of their lengths")
    incarnation, epoch, listed, ids = match.groups()
    lengths = list(map(int, listed.split(b",")))
    if len(lengths) > MAX_FRAMES:
        raise BadGathering(f"{len(lengths)} frames are gathered, more than {MAX_FRAMES}")
    if count is not None and len(lengths) != count:
        raise BadGathering(f"{count} frames were sent, {len(lengths)} came back")
    start = match.end()
    if start + sum(lengths) != size:
        raise BadGathering(f"a line of {start} bytes and frames of {sum(lengths)} do not make a body of {size}")
    return Preface(start, int(incarnation, 16), int(epoch), lengths, "" if ids is None else ids.decode())


def cut(body: Body, preface: Preface) -> list[Body]:
    """Return the frames of a body that begins with this preface; those of a memoryview are no copies."""
    lengths = preface.lengths
    if len(lengths) == 1:
        return [body[preface.size :]]
    starts = accumulate(lengths[:-1], initial=preface.size)
    return [body[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def _list_ids(ids: Sequence[str]) -> str:
    """Return the first of these ids, up to `MAX_REQUEST_IDS` characters, and how many more there are.

    >>> _list_ids(["a-1", "b-2"])
    'a-1,b-2'
    """
    kept: list[str] = []
    room = MAX_REQUEST_IDS - 4
    for one in ids:
        room -= len(one) + 1
        if room < 0:
            kept.append(f"+{len(ids) - len(kept)}")
            break
        kept.append(one)
    return ",".join(kept)
