"""A look at everything that an LMDB engine has, a few entries at a time.

Is each record what was written, and do the two indices say the same as the records?
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lmdb

from gkv.engine import record
from gkv.engine.environment import Environment
from gkv.engine.merge import DUE, due_of, listed_as
from gkv.engine.store import size_in
from gkv.engine.sums import TOKEN, Stretch
from gkv.errors import EngineError

STEP = 500
"""Entries that are looked at in one transaction, which takes some 3 ms."""


_BYTES = 1 << 20
"""Bytes of records that `stretch` reads and checks in one transaction."""


def stretch(environment: Environment, start: bytes, end: bytes, limit: int) -> Stretch:
    """As `Engine._stretch`."""
    addresses: list[bytes] = []
    pieces: list[bytes] = []
    room = _BYTES
    with environment.look() as txn, txn.cursor() as cursor:
        if not (cursor.set_range(start) if start else cursor.first()):
            return Stretch((), (), end)
        for address, data in cursor.iternext():
            if address >= end:
                break
            if limit <= 0 or room < 0:
                return Stretch(addresses, pieces, address)
            limit -= 1
            room -= len(data)
            if record.intact(address, data) and not record.is_tombstone(data):
                addresses.append(address)
                pieces.append(record.piece(address, data))
    return Stretch(addresses, pieces, end)


class Verification:
    """One look at all entries; see `gkv.engine.lmdb.LmdbEngine` for what the sub-databases hold."""

    def __init__(self, environment: Environment, addresses: Callable[[Sequence[str]], list[bytes]]) -> None:
        """`addresses` returns where keys lie in `records`."""
        self._environment = environment
        self._addresses = addresses

    def steps(self) -> Iterator[list[str]]:
        """Yield, after each step, what was found wrong, one line a problem."""
        for database, look in (
            (self._environment.records, self._at_record),
            (self._environment.listed, self._at_listed),
            (self._environment.due, self._at_due),
        ):
            passed: bytes | None = b""
            while passed is not None:
                try:
                    problems, passed = self._at_some(database, look, passed)
                except EngineError as error:
                    problems, passed = [str(error)], None
                yield problems

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

    def _at_some(
        self, database: Any, look: Callable[[lmdb.Transaction, bytes, bytes], str], passed: bytes
    ) -> tuple[list[str], bytes | None]:
        """Look at the entries after `passed`; return the problems, and the last entry's key unless
        all have been seen.
        """
        problems: list[str] = []
        with self._environment.look() as txn, txn.cursor(database) as cursor:
            more = cursor.set_range(passed) if passed else cursor.first()
            if more and cursor.key() == passed:
                more = cursor.next()
            for _ in range(STEP):
                if not more:
                    return problems, None
                passed = cursor.key()
                problem = look(txn, passed, cursor.value())
                if problem:
                    problems.append(problem)
                more = cursor.next()
        return problems, passed

    def _at_record(self, txn: lmdb.Transaction, address: bytes, data: bytes) -> str:
        raw = address[TOKEN:]
        name = raw.decode(errors="replace")
        if self._addresses([name])[0] != address:
            return f"{name!r} lies at {address[:TOKEN].hex()}, which is not its token"
        if not record.intact(address, data):
            return f"{name!r} is damaged"
        listed = txn.get(raw, db=self._environment.listed)
        wanted = None if record.is_tombstone(data) else listed_as(data)
        if listed != wanted:
            return f"{name!r} is listed as {listed!r}, not {wanted!r}"
        due = due_of(address, data)
        return f"{name!r} is not in the order of what is due" if due and txn.get(due, db=self._environment.due) is None else ""

    def _at_listed(self, txn: lmdb.Transaction, raw: bytes, _expires: bytes) -> str:
        name = raw.decode(errors="replace")
        address = self._addresses([name])[0]
        data = txn.get(address)
        if data is None:
            return f"{name!r} is listed and has no record"
        return f"{name!r} is listed and has no value" if record.intact(address, data) and record.is_tombstone(data) else ""

    def _at_due(self, txn: lmdb.Transaction, entry: bytes, _nothing: bytes) -> str:
        address = entry[DUE:]
        data = txn.get(address)
        if data is not None and (not record.intact(address, data) or due_of(address, data) == entry):
            return ""
        return f"{address[TOKEN:].decode(errors='replace')!r} is due for what its record does not say"
