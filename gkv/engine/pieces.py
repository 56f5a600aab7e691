"""Records in a file of LMDB, read as what `gkv.engine.sums` makes of them. Each call reads in one transaction of its own."""

from collections.abc import Sequence

from gkv.engine import record
from gkv.engine.environment import Environment
from gkv.engine.sums import Stretch

_BYTES = 1 << 20
"""Bytes of records that are read and checked in one transaction."""
_BESIDE = 256
"""Bytes that a record is counted with beside its own, so that no more than 4,096 are read."""


def stretch(environment: Environment, start: bytes, end: bytes, limit: int) -> Stretch:
    """As `Engine._stretch`."""
    addresses: list[bytes] = []
    pieces: list[bytes] = []
    damaged: list[bytes] = []
    room = _BYTES
    with environment.look() as txn, txn.cursor() as cursor:
        if not (cursor.set_range(start) if start else cursor.first()):
            return Stretch((), (), end)
        for address, data in cursor.iternext():
            if address >= end:
                break
            if limit <= 0 or room < 0:
                return Stretch(addresses, pieces, address, damaged)
            limit -= 1
            room -= len(data)
            if not record.intact(address, data):
                damaged.append(address)
            elif not record.is_tombstone(data):
                addresses.append(address)
                pieces.append(record.piece(address, data))
    return Stretch(addresses, pieces, end, damaged)


def pieces_between(environment: Environment, ends: Sequence[tuple[bytes, bytes]]) -> list[Sequence[bytes] | None]:
    """As `Engine._pieces_between`."""
    found: list[Sequence[bytes] | None] = []
    room = _BYTES
    with environment.look() as txn, txn.cursor() as cursor:
        for start, end in ends:
            pieces: list[bytes] | None = []
            more = cursor.set_range(start)
            while more and pieces is not None and (address := cursor.key()) < end:
                data = cursor.value()
                room -= _BESIDE + len(data)
                if room < 0 or not record.intact(address, data):
                    pieces = None
                elif not record.is_tombstone(data):
                    pieces.append(record.piece(address, data))
                more = cursor.next()
            found.append(pieces)
    return found
