"""The small files of a member beside its records: the newest document, the incarnations that ran on its directory, and
whether it may have granted leases that run still.

Promises: all are on disk when a call returns, on a full disk too, since each has two slots of a file that are written in turn
where they lie; what a crash has damaged is not believed, and the other slot is. Calls block until the disk has answered. Leaves
to others: the lock of the directory.
"""

import re
import zlib
from pathlib import Path

import ujson

from gkv.cluster.document import Document
from gkv.errors import ConfigError
from gkv.files import identity, make_slots, read_slots, replaced, write_slot

_DOCUMENT_SLOT = 1 << 16
"""Bytes, for some 250 members; a greater document has the file made anew, for which the disk must have room."""
_RAN_SLOT = 1 << 14
LISTED = 64
"""Incarnations that are listed at least."""
_MOST = (_RAN_SLOT - 144) // 17
_GRANTED = b"granted"
"""Stands before the incarnations."""
_ORDERLY = b"orderly"
"""Likewise, for the end of a process that kept copies."""
_head = re.compile(rb"gkv-kept-1 ([0-9]{1,19}) ([0-9]{1,9}) ([0-9a-f]{8})\n").match


class _Slots:
    """A text in two slots, each with a number that goes up and a checksum."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._size = size
        self._number = 0
        self._at = 1
        self._made = False
        self._file: tuple[int, int] | None = None
        """The identity of the file, None while there is none: a file that comes to its place is another process's."""

    def read(self) -> bytes | None:
        """Return the newest text, None when there has never been one. Raise ConfigError when none is whole."""
        try:
            length = self.path.stat().st_size // 2
            slots = read_slots(self.path, length)
        except FileNotFoundError:
            return None
        self._size = max(self._size, length)
        self._file = identity(self.path)
        self._made = length == self._size
        found = [(number, at, text) for at, slot in enumerate(slots) for number, text in _whole(slot)]
        if not found:
            raise ConfigError(
                f"{self.path} is damaged, in both of its slots. Take it away; then this node has to be accepted anew"
            )
        self._number, self._at, text = max(found)
        return text

    def write(self, text: bytes) -> None:
        """Put a text in the place of the older one. One fdatasync. Raise OSError."""
        self._number += 1
        content = b"gkv-kept-1 %d %d %08x\n%b" % (self._number, len(text), zlib.crc32(text), text)
        if self._made and len(content) <= self._size:
            write_slot(self.path, 1 - self._at, content, self._size, self._file)
            self._at = 1 - self._at
            return
        if self._file != (identity(self.path) if self.path.exists() else None):
            raise replaced(self.path)
        while len(content) > self._size:
            self._size *= 2
        make_slots(self.path, content, self._size)
        self._file = identity(self.path)
        self._at, self._made = 1, True


def _whole(slot: bytes) -> list[tuple[int, bytes]]:
    match = _head(slot)
    if match is None:
        return []
    text = slot[match.end() : match.end() + int(match[2])]
    whole = len(text) == int(match[2]) and zlib.crc32(text) == int(match[3], 16)
    return [(int(match[1]), text)] if whole else []


class Kept:
    """Both files of one directory, which is there and locked."""

    def __init__(self, directory: Path) -> None:
        """Read both. Raise ConfigError when one is damaged, OSError when it cannot be read."""
        self._document = _Slots(directory / "document", _DOCUMENT_SLOT)
        self._ran = _Slots(directory / "incarnations", _RAN_SLOT)
        text = self._document.read()
        try:
            self.document = None if text is None else Document.from_json(ujson.loads(text))
        except ValueError as error:
            raise ConfigError(f"{self._document.path} cannot be read: {error}") from None
        listed = (self._ran.read() or b"").split()
        self.granted = _GRANTED in listed
        """Whether a process has granted leases that it has not seen run out."""
        self.orderly = _ORDERLY in listed
        """Whether the process before, which kept copies, has ended with all that the member had on the disk."""
        self.ran = tuple(int(one, 16) for one in listed if one not in (_GRANTED, _ORDERLY))
        """Incarnations that ran here, oldest first."""
        self._listed = self.ran
        """Those of them that are on the disk."""

    def begin(self, incarnation: int, named: int | None) -> None:
        """List a process that begins to run here; `named` is the one by which the newest document knows the directory.

        That one stays listed, with all since, as far as there is room, and the last `LISTED`.
        """
        ran = (*self.ran, incarnation)
        keep = LISTED
        if named in ran:
            keep = max(keep, len(ran) - ran.index(named))
        listed = ran[-min(keep, _MOST) :]
        if named in ran and named not in listed:
            listed = (int(named or 0), *listed[1:])
        self._write(listed, self.granted, orderly=False)
        self.ran = ran

    def note_granted(self, there: bool) -> None:
        """Keep the note that leases may run, or take it away. Raise OSError."""
        self._write(self._listed, there, orderly=False)

    def note_orderly(self) -> None:
        """Keep the note that all is on the disk, at the end of a process. Raise OSError."""
        self._write(self._listed, self.granted, orderly=True)

    def _write(self, listed: tuple[int, ...], granted: bool, *, orderly: bool) -> None:
        notes = (_GRANTED + b"\n") * granted + (_ORDERLY + b"\n") * orderly
        self._ran.write(notes + b"".join(b"%016x\n" % one for one in listed))
        self._listed, self.granted, self.orderly = listed, granted, orderly

    def keep(self, document: Document) -> None:
        """Keep a document as the newest."""
        self._document.write(ujson.dumps(document.to_json(), escape_forward_slashes=False).encode())
        self.document = document
