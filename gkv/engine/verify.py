"""A look at everything that an LMDB engine has, a few entries at a time.

Is each record what was written, and do the two indices say the same as the records?
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import lmdb

from gkv.engine import record
from gkv.engine.engine import LOOKED_AT, Looked
from gkv.engine.merge import DUE, due_of, listed_as
from gkv.engine.store import size_in
from gkv.engine.sums import TOKEN
from gkv.errors import EngineError

BYTES = 1 << 18
"""Of entries that are looked at in one transaction; one more, of a value of any size, may come."""
_PAGE = 1 << 12
"""Bytes for which an entry counts once more."""


@dataclass(slots=True)
class _Problem:
    """The fault of one entry."""

    line: str = ""
    damaged: str = ""
    """The key whose record is damaged or lost."""


_Look = Callable[[lmdb.Transaction, bytes, bytes], _Problem | None]


class Databases(Protocol):
    """What is looked at: an `Environment`, or a file that is only read."""

    records: Any
    listed: Any
    due: Any
    meta: Any

    def look(self) -> AbstractContextManager[lmdb.Transaction]:
        """Begin a transaction that reads, and end it."""


class Verification:
    """One look at all entries; see `gkv.engine.lmdb.LmdbEngine` for what the sub-databases hold."""

    def __init__(self, environment: Databases, addresses: Callable[[Sequence[str]], list[bytes]]) -> None:
        """`addresses` returns where keys lie in `records`."""
        self._environment = environment
        self._addresses = addresses
        self._size = 0
        """Bytes that were looked at in the step under way."""

    def steps(self, most: int = LOOKED_AT) -> Iterator[Looked]:
        """Yield what was seen in each step of up to `most` entries."""
        records = self._environment.records
        looks: tuple[tuple[Any, _Look], ...] = (
            (records, self._at_record),
            (self._environment.listed, self._at_listed),
            (self._environment.due, self._at_due),
        )
        for database, look in looks:
            passed: bytes | None = b""
            while passed is not None:
                try:
                    seen, found, passed = self._at_some(database, look, passed, most)
                except EngineError as error:
                    seen, found, passed = 0, [_Problem(str(error))], None
                yield Looked(
                    seen if database is records else 0,
                    seen + self._size // _PAGE,
                    tuple([one.damaged for one in found if one.damaged]),
                    tuple([one.line for one in found if one.line]),
                )

    def count(self) -> str:
        """Return what is wrong with the counted size, "" when nothing is. O(records)."""
        with self._environment.look() as txn:
            size = sum(
                len(address) - TOKEN + record.value_size(data)
                for address, data in txn.cursor().iternext()
                if txn.get(address[TOKEN:], db=self._environment.listed) is not None
            )
            counted = size_in(txn, self._environment.meta)
        return "" if size == counted else f"the records have {size} bytes, {counted} were counted"

    def _at_some(self, database: Any, look: _Look, passed: bytes, most: int) -> tuple[int, list[_Problem], bytes | None]:
        """Look at the entries after `passed`; return how many there were, what is wrong, and the last entry's key unless all
        have been seen.
        """
        found: list[_Problem] = []
        seen = self._size = 0
        with self._environment.look() as txn, txn.cursor(database) as cursor:
            more = cursor.set_range(passed) if passed else cursor.first()
            if more and cursor.key() == passed:
                more = cursor.next()
            while seen < most and self._size < BYTES:
                if not more:
                    return seen, found, None
                passed, data = cursor.item()
                seen += 1
                self._size += len(data)
                problem = look(txn, passed, data)
                if problem is not None:
                    found.append(problem)
                more = cursor.next()
        return seen, found, passed

    def _at_record(self, txn: lmdb.Transaction, address: bytes, data: bytes) -> _Problem | None:
        raw = address[TOKEN:]
        name = raw.decode(errors="replace")
        if self._addresses([name])[0] != address:
            return _Problem(f"{name!r} lies at {address[:TOKEN].hex()}, which is not its token")
        if not record.intact(address, data):
            return _Problem(damaged=name)
        listed = txn.get(raw, db=self._environment.listed)
        wanted = None if record.is_tombstone(data) else listed_as(data)
        if listed != wanted:
            return _Problem(f"{name!r} is listed as {listed!r}, not {wanted!r}")
        due = due_of(address, data)
        if due and txn.get(due, db=self._environment.due) is None:
            return _Problem(f"{name!r} is not in the order of what is due")
        return None

    def _at_listed(self, txn: lmdb.Transaction, raw: bytes, _expires: bytes) -> _Problem | None:
        name = raw.decode(errors="replace")
        address = self._addresses([name])[0]
        with txn.cursor() as records:  # which finds it without a copy of its value; that of a tombstone is seen at the record
            if records.set_key(address):
                return None
        return _Problem(damaged=name) if name.encode() == raw else _Problem(f"{name!r} is listed and has no record")

    def _at_due(self, txn: lmdb.Transaction, entry: bytes, _nothing: bytes) -> _Problem | None:
        address = entry[DUE:]
        data = txn.get(address)
        self._size += len(data or b"")
        if data is not None and (not record.intact(address, data) or due_of(address, data) == entry):
            return None
        return _Problem(f"{address[TOKEN:].decode(errors='replace')!r} is due for what its record does not say")
