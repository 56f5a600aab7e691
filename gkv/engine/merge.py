"""How one transaction of the LMDB engine changes its records, and the two indices that go with
them.

No call commits or aborts, and none switches greenlets. Whatever LMDB raises goes through.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import Any
from zlib import crc32

from lmdb import Transaction

from gkv.engine import record
from gkv.engine.record import HEADER, INTACT, OVERHEAD, VALUE
from gkv.engine.sums import NO_PIECE, TOKEN, Changes, Sums
from gkv.model import Damage, Effect, Replacement, Write

VALUE_DUE, TOMBSTONE_DUE = b"v", b"t"
DUE = 9
"""Bytes in front of the address in an entry of `due`: which queue, and the time."""
CREATED, REPLACED, UNCHANGED, DAMAGED = Effect.CREATED, Effect.REPLACED, Effect.UNCHANGED, Effect.DAMAGED
KEPT = Effect.KEPT
MARK = b"\0"
"""Stands in the place of a record that is to read as damaged: it is none of any kind."""


class Notes:
    """The records that a transaction changes, for the sums that are kept of them."""

    __slots__ = ("doubted", "rows")

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        """An address, and the pieces of the record there before and after a change, by turns."""
        self.doubted: list[bytes] = []
        """Addresses at which damaged records gave way, or have come."""

    def effect_on(self, sums: Sums) -> Changes:
        """Work out their effect."""
        return sums.changes(self.rows[::3], self.rows[1::3], self.rows[2::3], self.doubted)


class Merge:
    """The changes of one transaction to the records and to what is kept about them."""

    def __init__(self, txn: Transaction, listed: Any, due: Any, now: int, notes: "Notes | None" = None) -> None:
        """`now` is when tombstones are committed. `notes` are taken if they are given."""
        self._txn = txn
        self._listed = listed
        self._due = due
        self._now = now
        self.grown = 0
        """By how many bytes the keys and values of the live records have grown."""
        self._notes = notes

    def take(self, write: Write, addresses: Sequence[bytes]) -> list[Effect]:
        """Take in a write or a replacement."""
        return self.replace(write, addresses) if type(write) is Replacement else self.apply(write, addresses)

    def apply(self, write: Write, addresses: Sequence[bytes]) -> list[Effect]:  # noqa: C901  # two cases are written out
        """Merge one write; return what it did to each key."""
        # The loop is written out for the two usual cases, a new key and a value for a value: 3 us
        # instead of 6.
        put = self._txn.put
        listed = self._listed
        notes = None if self._notes is None else self._notes.rows
        at = write.at
        order = write.version.to_bytes()
        head = record.head(order)
        effects: list[Effect] = []
        append = effects.append
        for address, value, expires, tag, old in zip(
            addresses,
            write.values,
            write.expires or repeat(0),
            write.tags or repeat(None),
            map(self._txn.get, addresses),
            strict=False,
        ):
            seed = crc32(address)
            effect = CREATED
            if old is not None:
                is_usual = len(old) >= OVERHEAD and old[0] == VALUE
                if crc32(old, seed) != INTACT or not (is_usual or record.is_well_formed(old)):
                    if not write.repairs:
                        append(DAMAGED)
                        continue
                    self._drop_damaged(address, old)
                    old = None  # noqa: PLW2901
                    effect = DAMAGED
                elif old[1:17] >= order:  # a later write, or this one again
                    append(KEPT)
                    continue
            if type(value) is not bytes or expires or tag:  # a tombstone, a blob, what expires, or is written anew
                if old is None and self._is_lost(address):
                    if not write.repairs:
                        append(DAMAGED)
                        continue
                    self._drop_damaged(address)
                    effect = DAMAGED
                if old is not None:
                    if _is_live(old, at):
                        effect = REPLACED
                    self._unlist(address, old)
                if value is None and effect is CREATED:
                    effect = UNCHANGED
                time = self._now if value is None else expires
                self._list(address, record.pack(address, order, value, time, tag.to_bytes() if tag else b""))
                append(effect)
                continue
            if old is None:
                if not put(address[TOKEN:], b"", True, False, False, listed):  # the index knows it: a record is lost
                    if not write.repairs:
                        append(DAMAGED)
                        continue
                    self._drop_damaged(address)
                    effect = DAMAGED
                    put(address[TOKEN:], b"", True, True, False, listed)
                self.grown += len(address) - TOKEN + len(value)
            elif is_usual:
                effect = REPLACED
                self.grown += len(value) + OVERHEAD - len(old)
            else:
                if _is_live(old, at):
                    effect = REPLACED
                self._unlist(address, old)
                put(address[TOKEN:], b"", True, True, False, listed)
                self.grown += len(address) - TOKEN + len(value)
            body = head + value
            put(address, body + crc32(body, seed).to_bytes(4, "little"))
            if notes is not None:
                raw = address[TOKEN:]
                notes += (address, NO_PIECE if old is None or not is_usual else old[1:HEADER] + raw, head[1:] + raw)
            append(effect)
        return effects

    def replace(self, replacement: Replacement, addresses: Sequence[bytes]) -> list[Effect]:
        """Put records in the place of what is there, or nothing; tell no effects."""
        for address, (_, order, value, expires, tag) in zip(addresses, replacement.rows(), strict=True):
            old = self._txn.get(address)
            if old is not None:
                if record.intact(address, old):
                    self._unlist(address, old)
                else:
                    self._drop_damaged(address, old)
                if order is None:
                    self._txn.delete(address)
            elif self._is_lost(address):
                self._drop_damaged(address)
            if isinstance(order, Damage):
                self._mark(address)
            elif order is not None:
                time = self._now if value is None else expires
                self._list(address, record.pack(address, order.to_bytes(), value, time, tag.to_bytes() if tag else b""))
        return []

    def _mark(self, address: bytes) -> None:
        """Put what reads as a damaged record; it has a value that never expires, as far as anybody knows."""
        self._txn.delete(address)  # as `_list` does
        self._txn.put(address, MARK)
        self._txn.put(address[TOKEN:], b"", db=self._listed)
        self.grown += len(address) - TOKEN
        if self._notes is not None:
            self._notes.doubted.append(address)

    def _list(self, address: bytes, data: bytes) -> None:
        """Put a record, with what is kept about it."""
        if record.is_tombstone(data):
            # LMDB gives pages free only where something is deleted. With tombstones put over values
            # of 500 bytes, a store that was emptied kept three quarters of its pages for a day, and
            # a full disk stayed full.
            self._txn.delete(address)
        self._txn.put(address, data)
        if not record.is_tombstone(data):
            self._txn.put(address[TOKEN:], listed_as(data), db=self._listed)
            self.grown += len(address) - TOKEN + record.value_size(data)
            if self._notes is not None:
                self._notes.rows += (address, NO_PIECE, record.piece(address, data))
        due = due_of(address, data)
        if due:
            self._txn.put(due, b"", db=self._due)

    def _unlist(self, address: bytes, data: bytes) -> None:
        """Take away what is kept about an intact record that is about to be replaced."""
        if not record.is_tombstone(data):
            self._txn.delete(address[TOKEN:], db=self._listed)
            self.grown -= len(address) - TOKEN + record.value_size(data)
            if self._notes is not None:
                self._notes.rows += (address, record.piece(address, data), NO_PIECE)
        due = due_of(address, data)
        if due:
            self._txn.delete(due, db=self._due)

    def _is_lost(self, address: bytes) -> bool:
        """Return whether the index of keys knows a record that is not found at its address."""
        return self._txn.get(address[TOKEN:], db=self._listed) is not None

    def _drop_damaged(self, address: bytes, data: bytes = bytes(OVERHEAD)) -> None:
        """Take away what is kept about a record whose bytes cannot be trusted, or that is lost: nobody knows its length then.

        Of a tombstone the entry in `due` stays, as its time is not known; `forget` drops it when
        it comes up.
        """
        if self._notes is not None:
            self._notes.doubted.append(address)
        expires = self._txn.pop(address[TOKEN:], db=self._listed)
        if expires is not None:
            self.grown -= len(address) - TOKEN + record.value_size(data)
            if expires:
                self._txn.delete(VALUE_DUE + expires + address, db=self._due)

    def forget(self, entry: bytes) -> None:
        """Drop the tombstone of this entry; the entry alone, if its record has changed or is damaged."""
        address = entry[DUE:]
        data = self._txn.get(address)
        if data is not None and record.intact(address, data) and due_of(address, data) == entry:
            self._txn.delete(address)
        self._txn.delete(entry, db=self._due)


def _is_live(data: bytes, at: int) -> bool:
    """Return whether an intact record has a value that was not due at that moment."""
    return record.is_lasting(data) or (not record.is_tombstone(data) and record.time_of(data) > at)


def listed_as(data: bytes) -> bytes:
    """Return what stands in `keys` for an intact record that has a value."""
    return b"" if record.is_lasting(data) else data[17:25]


def due_of(address: bytes, data: bytes) -> bytes:
    """Return the entry of an intact record in `due`, or nothing for one that stays for ever."""
    if record.is_lasting(data):
        return b""
    return (TOMBSTONE_DUE if record.is_tombstone(data) else VALUE_DUE) + data[17:25] + address
