"""A look at everything that an LMDB engine has, a few entries at a time.

Is each record what was written, and do the two indices say the same as the records?
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb

from gkv.engine import record
from gkv.engine.merge import DUE, TOKEN, due_of, listed_as
from gkv.engine.record import TOMBSTONE

STEP = 500
"""Entries that are looked at in one transaction, which takes some 3 ms."""


class Look:
    """One look at all entries; see `gkv.engine.lmdb.LmdbEngine` for what the sub-databases hold."""

    def __init__(
        self,
        path: Path,
        begin: Callable[[], lmdb.Transaction],
        records: Any,
        listed: Any,
        due: Any,
        places: Callable[[Sequence[str]], list[bytes]],
    ) -> None:
        """`begin` begins a transaction on `records`, `places` returns where keys lie in them."""
        self._path = path
        self._begin = begin
        self._records = records
        self._listed = listed
        self._due = due
        self._places = places

    def steps(self) -> Iterator[list[str]]:
        """Yield, after each step, what was found wrong, one line a problem."""
        for database, look in (
            (self._records, self._at_record),
            (self._listed, self._at_listed),
            (self._due, self._at_due),
        ):
            passed: bytes | None = b""
            while passed is not None:
                try:
                    problems, passed = self._at_some(database, look, passed)
                except lmdb.Error as error:
                    problems, passed = [f"the pages of {self._path} are damaged: {error}"], None
                yield problems

    def _at_some(
        self, database: Any, look: "Callable[[lmdb.Transaction, bytes, bytes], str]", passed: bytes
    ) -> tuple[list[str], bytes | None]:
        """Look at the entries after `passed`; return the problems, and the last entry's key unless all have been seen."""
        problems: list[str] = []
        with self._begin() as txn, txn.cursor(database) as cursor:
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

    def _at_record(self, txn: lmdb.Transaction, place: bytes, data: bytes) -> str:
        raw = place[TOKEN:]
        name = raw.decode(errors="replace")
        if self._places([name])[0] != place:
            return f"{name!r} lies at {place[:TOKEN].hex()}, which is not its token"
        if not record.intact(place, data):
            return f"{name!r} is damaged"
        listed = txn.get(raw, db=self._listed)
        wanted = None if data[0] == TOMBSTONE else listed_as(data)
        if listed != wanted:
            return f"{name!r} is listed as {listed!r}, not {wanted!r}"
        due = due_of(place, data)
        return f"{name!r} is not in the order of what is due" if due and txn.get(due, db=self._due) is None else ""

    def _at_listed(self, txn: lmdb.Transaction, raw: bytes, _expires: bytes) -> str:
        name = raw.decode(errors="replace")
        place = self._places([name])[0]
        data = txn.get(place)
        if data is None:
            return f"{name!r} is listed and has no record"
        return f"{name!r} is listed and has no value" if record.intact(place, data) and data[0] == TOMBSTONE else ""

    def _at_due(self, txn: lmdb.Transaction, entry: bytes, _nothing: bytes) -> str:
        place = entry[DUE:]
        data = txn.get(place)
        if data is not None and (not record.intact(place, data) or due_of(place, data) == entry):
            return ""
        return f"{place[TOKEN:].decode(errors='replace')!r} is due for what its record does not say"
