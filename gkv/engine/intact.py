"""Whether a data file has all the pages that LMDB will look for in it.

LMDB maps the file and follows page numbers through the map; a page beyond the end of the file is a
SIGBUS, and the process is gone without a word. So before LMDB opens a file it is read here, never
through a map. The layout is that of LMDB 0.9's format 1, with numbers in the byte order of the
machine:

    page      number (8) | pad (2) | flags (2) | lower (2) | upper (2), then its content; a number of pages (4) for `lower` and
              `upper` on the first page of an overflow run. `lower` - 16 is twice the number of nodes, whose offsets follow.
    meta      pages 0 and 1: magic (4) | version (4) | address (8) | map size (8) | free tree (48) | main tree (48) |
              last page (8) | transaction (8). The one with the greater transaction is in force.
    tree      page size, in the free tree's (4) | flags (2) | depth (2) | branch, leaf, overflow pages, entries (8 each) |
              root (8), all ones for an empty tree
    node      low (2) | high (2) | flags (2) | key size (2) | key, then its data; of a branch the three first are a page number

A file may be shorter than its last page says: LMDB does not write pages that one transaction has
taken and given back. Then all trees are walked, and the file is whole when each page that they
refer to is within it. An orderly stop makes the file as long as its last page says
(`gkv.engine.environment`). Blocks: two reads for a file of full length, one for each page otherwise.
"""

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gkv.errors import EngineError
from gkv.files import naming
from gkv.log import as_warning, say

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = struct.Struct("=QHHHH")
_META = struct.Struct("=IIQQ48s48sQQ")
_TREE = struct.Struct("=IHHQQQQQ")
_NODE = struct.Struct("=HHHH")
_NUMBER = struct.Struct("=Q")
_BRANCH, _LEAF, _META_PAGE = 0x01, 0x02, 0x08
_BIG, _SUBTREE = 0x01, 0x02
_EMPTY = (1 << 64) - 1
_SIZES = [1 << bits for bits in range(9, 17)]
"""Bytes that a page may have."""


LONG = 1 << 30
"""Bytes of a file from which on a line says that it is walked."""


class _Meta(NamedTuple):
    transaction: int
    page: int
    last: int
    roots: tuple[int, int]


class _DamagedError(Exception):
    """The pages make no sense."""


class _MissingError(Exception):
    """A page lies beyond the end of the file."""


def check(file: Path, *, used: bool) -> None:
    """Raise EngineError when a data file is there and LMDB must not open it, OSError when it cannot
    be read.

    `used` says whether its directory has had one before, so that an empty file is not a new one.
    """
    try:
        found = file.stat()
    except FileNotFoundError:
        if file.is_symlink():
            raise EngineError(f"{file} is a link to {file.readlink()}, where there is no file") from None
        return
    if not stat.S_ISREG(found.st_mode):
        raise EngineError(f"{file} is no regular file; the records of this node belong there")
    if found.st_size == 0:
        if used:
            raise EngineError(f"{file} is empty, though this directory has been in use. {_ADVICE}")
        return
    with naming(file), file.open("rb", buffering=0) as opened:
        _check(file, opened.fileno(), found.st_size)


_ADVICE = (
    "Look at how it was copied; put a whole snapshot of this node in its place, or start with an empty directory and "
    "accept the loss (POST /v1/cluster/accept-loss at the proxy). Nothing has been changed"
)


def cut_off(file: Path, size: int, wanted: int) -> str:
    """Return the line for a file that has `size` bytes and should have `wanted` at least."""
    return f"{file} is cut off: it has {size} bytes, {wanted} belong to it. {_ADVICE}"


def _check(file: Path, descriptor: int, size: int) -> None:
    first = _meta(os.pread(descriptor, _HEADER.size + _META.size, 0))
    if first is None:
        raise EngineError(
            f"{file} cannot be opened: it is no LMDB file that this version reads, or it is damaged; move the directory "
            f"{file.parent} away and start with an empty one"
        )
    second = _meta(os.pread(descriptor, _HEADER.size + _META.size, first.page))
    if second is None or second.page != first.page:
        if size < 2 * first.page:
            raise EngineError(cut_off(file, size, 2 * first.page))
        raise EngineError(f"{file} is damaged: its second page is not what LMDB writes there. {_ADVICE}")
    meta = max(first, second)
    wanted = (meta.last + 1) * meta.page
    if size >= wanted:
        return
    if size >= LONG:
        say(
            as_warning(
                f"{file} has {size} of {wanted} bytes, as it may after a kill: all its pages are looked at, which takes a while"
            )
        )
    try:
        for root in meta.roots:
            _walk(descriptor, size, meta.page, root)
    except _MissingError:
        raise EngineError(cut_off(file, size, wanted)) from None
    except _DamagedError as error:
        raise EngineError(f"{file} is damaged: it has {size} of {wanted} bytes, and {error}. {_ADVICE}") from None


def _meta(data: bytes) -> _Meta | None:
    """Read a meta page, from its first byte on; None if it is none."""
    if len(data) < _HEADER.size + _META.size:
        return None
    flags = _HEADER.unpack_from(data)[2]
    magic, version, _, _, free, main, last, transaction = _META.unpack_from(data, _HEADER.size)
    page = _TREE.unpack(free)[0]
    if magic != _MAGIC or version != _VERSION or not flags & _META_PAGE or page not in _SIZES:
        return None
    return _Meta(transaction, page, last, (_TREE.unpack(free)[-1], _TREE.unpack(main)[-1]))


def _walk(descriptor: int, size: int, page: int, root: int) -> None:
    """Look at each page of a tree, and of the trees within it. Raise _MissingError or
    _DamagedError.
    """
    left = [] if root == _EMPTY else [root]
    pages = size // page  # each stands in one place, so more than these are a circle
    while left:
        number = left.pop()
        if (number + 1) * page > size:
            raise _MissingError
        pages -= 1
        if pages < 0:
            raise _DamagedError("its pages form a circle")
        left += _references(os.pread(descriptor, page, number * page), number, size)


def _references(data: bytes, number: int, size: int) -> Iterator[int]:
    """Yield the pages that a page refers to; check the overflow runs on the spot."""
    page = len(data)
    found, _, flags, lower, _ = _HEADER.unpack_from(data)
    if found != number or not flags & (_BRANCH | _LEAF) or not _HEADER.size <= lower <= page:
        raise _DamagedError(f"page {number} is none of a tree's")
    offsets = struct.unpack_from(f"={(lower - _HEADER.size) // 2}H", data, _HEADER.size)
    try:
        for offset in offsets:
            low, high, kind, key = _NODE.unpack_from(data, offset)
            if flags & _BRANCH:
                yield low | high << 16 | kind << 32
                continue
            content = offset + _NODE.size + key
            if kind & _SUBTREE:
                root = _TREE.unpack_from(data, content)[-1]
                if root != _EMPTY:
                    yield root
            elif kind & _BIG:
                run = _NUMBER.unpack_from(data, content)[0]
                length = (_HEADER.size - 1 + (low | high << 16)) // page + 1
                if (run + length) * page > size:
                    raise _MissingError
    except struct.error:
        raise _DamagedError(f"page {number} has a node outside of it") from None
