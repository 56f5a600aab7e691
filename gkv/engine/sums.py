"""Sums of the records that an engine has, by which two copies find out where they differ.

The space of tokens is cut into 2^20 cells. The sum of a cell is the exclusive or of the fingerprints of its live records, so a
record is put in and taken away by the same step, and no order matters. Cells know nothing of a ring: a change of the ring needs
no new look at the records.

Promises: a cell of which the sum is `known` has the sum of the changes that are over, those under way in part or not at all.
`Sums.apply`, `fill` and `gap` are for the thread that changes records, all else for any; nothing switches greenlets. Leaves
to others: which records there are.
"""

import struct
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import xor
from pathlib import Path
from zlib import crc32

from gkv import files
from gkv.model import Record, Version

CELL_BITS = 20
"""Leading bits of a token that are its cell."""
CELLS = 1 << CELL_BITS
CELL_SHIFT = 64 - CELL_BITS
END = b"\xff" * 9
"""Stands behind every address: the key in one is UTF-8, which never has such a byte."""
TOKEN = 8
"""Bytes of the token in front of an address; the rest is the key."""

Tokens = Callable[[Sequence[str] | Sequence[bytes]], bytes]
"""`gkv.ring.tokens`: the first 64 bits of MurmurHash3 of texts or of bytes, 8 bytes each."""

_head = struct.Struct(">QQQ").pack
_MAGIC = b"gkv-sums 1\n"


def piece(raw: bytes, version: Version, expires: int, tag: Version | None) -> bytes:
    """Return the bytes that tell a live record from every other: its fingerprint is their hash. `raw` is the key. 0.3 us.

    >>> piece(b"k", Version(1, 2), 0, None).hex()
    '0000000000000001000000000000000200000000000000006b'
    """
    return _head(*version, expires) + (raw if tag is None else tag.to_bytes() + raw)


NO_PIECE = b""
"""Stands for that of a record which is not there, or has no value: its hash is 0, so it changes no sum."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The effect of changed records on the sums; see `Sums.changes`."""

    addresses: Sequence[bytes]
    tokens: Sequence[int]
    """Of the records at these addresses."""
    prints: Sequence[int]
    """Their fingerprints before, exclusive or those afterwards."""
    doubted: Sequence[bytes]
    """Addresses at which damaged records gave way, of which nobody knows any more what they were summed up as, or have come."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The live records between two addresses."""

    addresses: Sequence[bytes]
    pieces: Sequence[bytes]
    reached: bytes
    """The address up to which all are among them, itself excluded."""
    damaged: Sequence[bytes] = ()
    """Addresses there of records that are damaged: nobody knows what they would add."""


class Sums:
    """The sums of all cells. They are built from the records, in the order of addresses; 8 MiB."""

    def __init__(self, tokens: Tokens, sums: "array[int] | None" = None) -> None:
        """Begin with nothing, or with the `sums` of all cells."""
        self._tokens = tokens
        self._sums = array("Q", [0]) * CELLS if sums is None else sums
        self.built = 0 if sums is None else CELLS
        """Count of the first cells that have been built."""
        self._reached = b"" if sums is None else END
        """The address up to which records are summed up, itself excluded."""
        self._unsure: dict[int, bytes] = {}
        """Cells that are built anew, each with the address up to which its records are summed up."""
        self._damaged: dict[bytes, int] = {}
        """Addresses that had a damaged record when their cells were built, and the cells: another copy that has nothing there
        would have the same sum.
        """

    # --- for those who compare --------------------------------------------------------------------------------------------

    def known(self, first: int, last: int) -> list[int | None]:
        """Return the sums of these cells, the last included; None for one that may not be that of its records. 1 us + 10 ns a
        cell.
        """
        found: list[int | None] = [*self._sums[first : last + 1]]
        built = max(0, self.built - first)
        found[built:] = [None] * len(found[built:])
        doubtful = [*self._unsure, *self._damaged.values()]  # read after the sums: a cell is doubted before it is changed
        for cell in doubtful:
            if first <= cell <= last:
                found[cell - first] = None
        return found

    @property
    def complete(self) -> bool:
        """Whether the sums of all cells are known."""
        return self.built == CELLS and not self._unsure and not self._damaged

    # --- changes ----------------------------------------------------------------------------------------------------------

    def changes(
        self, addresses: Sequence[bytes], before: Sequence[bytes], after: Sequence[bytes], doubted: Sequence[bytes] = ()
    ) -> Changes:
        """Work out the effect of changed records, by the `piece` of each before and after; the sums are left as they are.

        0.4 us a record. One call of C, which lets go of the GIL.
        """
        count = len(addresses)
        tokens = struct.unpack(f">{count}Q", b"".join([address[:TOKEN] for address in addresses]))
        hashes = struct.unpack(f">{2 * count}Q", self._tokens([*before, *after]))
        return Changes(addresses, tokens, list(map(xor, hashes[:count], hashes[count:])), doubted)

    def apply(self, changes: Changes) -> None:
        """Take over the effect of changes that are over. 0.2 us a record."""
        for address in changes.doubted:
            self._doubt(address)
        sums = self._sums
        if self.complete:
            for token, fingerprint in zip(changes.tokens, changes.prints, strict=True):
                sums[token >> CELL_SHIFT] ^= fingerprint
            return
        reached_in = self._unsure.get
        for address, token, fingerprint in zip(changes.addresses, changes.tokens, changes.prints, strict=True):
            if address < reached_in(token >> CELL_SHIFT, self._reached):
                sums[token >> CELL_SHIFT] ^= fingerprint

    def _doubt(self, address: bytes) -> None:
        """Have the cell of a record that was damaged, or is now, built anew, unless it is still to be built."""
        if address >= self._reached:
            return
        cell = _cell_of(address)
        if cell < self.built:
            self._unsure[cell] = _start_of(cell)  # before the sum changes: whoever reads that looks here afterwards
        else:
            self._reached = _start_of(cell)
        self._sums[cell] = 0
        self._damaged = {other: at for other, at in self._damaged.items() if at != cell}  # those that are left are found again

    # --- building ---------------------------------------------------------------------------------------------------------

    @property
    def gap(self) -> tuple[bytes, bytes] | None:
        """The addresses, from the one up to the other, of which records are to be summed up next; None if all are."""
        for cell, reached in self._unsure.items():
            return reached, _start_of(cell + 1)
        return None if self.built == CELLS else (self._reached, END)

    def fill(self, found: Stretch) -> None:
        """Sum up records from the start of the `gap` on."""
        hashes = struct.unpack(f">{len(found.pieces)}Q", self._tokens(found.pieces))
        for address, fingerprint in zip(found.addresses, hashes, strict=True):
            self._sums[_cell_of(address)] ^= fingerprint
        self._damaged |= {address: _cell_of(address) for address in found.damaged}
        reached = found.reached
        for cell in self._unsure:
            if reached < _start_of(cell + 1):
                self._unsure[cell] = reached
            else:
                del self._unsure[cell]
            return
        self._reached = reached
        self.built = CELLS if reached == END else _cell_of(reached)

    # --- kept on disk -----------------------------------------------------------------------------------------------------

    def save(self, path: Path, content: bytes) -> None:
        """Write the sums to a file, with what tells the content that they are of from any other. Two fsyncs; raise OSError."""
        body = content + self._sums.tobytes()
        files.replace(path, _MAGIC + crc32(body).to_bytes(4, "big") + body)


def load(path: Path, content: bytes, tokens: Tokens) -> Sums | None:
    """Take the file that `save` wrote away; return its sums if it is whole and of this content, which is empty if not known."""
    data = b""
    with suppress(OSError):  # most often there is none; and what cannot be read is made anew
        data = path.read_bytes()
        path.unlink()
    start = len(_MAGIC) + 4
    head = _MAGIC + crc32(memoryview(data)[start:]).to_bytes(4, "big") + content
    if not content or not data.startswith(head) or len(data) != len(head) + 8 * CELLS:
        return None
    sums = array("Q")
    sums.frombytes(memoryview(data)[len(head) :])
    return Sums(tokens, sums)


def _cell_of(address: bytes) -> int:
    return int.from_bytes(address[:TOKEN], "big") >> CELL_SHIFT


def _start_of(cell: int) -> bytes:
    return start_of(cell << CELL_SHIFT)


def start_of(token: int) -> bytes:
    """Return an address that no record of a lesser token has, and which is not after any record from that token on."""
    return END if token >> 64 else token.to_bytes(TOKEN, "big")


class Summing:
    """Whether an engine keeps sums, and those that it keeps."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._shown = False
        self.in_force: Sums | None = None
        """The sums that changes are made to, if any; found ones before anybody has asked for them."""

    @property
    def sums(self) -> Sums | None:
        """The sums, while they are asked for."""
        return self.in_force if self._shown else None

    def keep(self, on: bool) -> None:
        """Keep sums from now on, or no longer. A change under way goes to those that were there when it began."""
        self._shown = on
        if not on:
            self.in_force = None
        elif self.in_force is None:
            self.in_force = Sums(self._tokens)

    def fingerprints(self, rows: Sequence[tuple[str, Record]]) -> list[int]:
        """Return what each record adds to its sum, 0 for a tombstone. 1 us a record."""
        found = [0] * len(rows)
        live = [place for place, (_, record) in enumerate(rows) if record.value is not None]
        pieces = [piece(key.encode(), one.version, one.expires, one.client_version) for key, one in map(rows.__getitem__, live)]
        for place, fingerprint in zip(live, struct.unpack(f">{len(live)}Q", self._tokens(pieces)), strict=True):
            found[place] = fingerprint
        return found

    def sums_of_each(self, groups: Sequence[Sequence[bytes] | None]) -> list[int | None]:
        """Return the sum of each group of pieces, None for None."""
        pieces = [piece for group in groups for piece in group or ()]
        hashes = iter(struct.unpack(f">{len(pieces)}Q", self._tokens(pieces)))
        return [None if group is None else reduce(xor, islice(hashes, len(group)), 0) for group in groups]

    def find(self, path: Path, content: bytes) -> None:
        """Go on with the sums that an orderly stop has left, if there are any."""
        self.in_force = load(path, content, self._tokens)

    def leave(self, path: Path, content: bytes) -> None:
        """Leave the sums to the next process on these records, if all are sure and the disk has room for them."""
        if content and self.sums is not None and self.sums.complete:
            with suppress(OSError):
                self.sums.save(path, content)
