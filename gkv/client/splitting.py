"""Batches as large as the servers take them. Pure."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

MAX_ITEMS = 10_000
"""Items of a batch."""
MAX_BYTES = 4 << 20
"""Bytes of a body. The servers take 32 MiB (`--max-body`), in one deadline of theirs, which a disk keeps better with less; a
batch of 10,000 small items fits."""


class Piece(NamedTuple):
    """One item of a batch as it is sent."""

    key: str
    text: bytes


def split(pieces: Iterable[Piece], most_items: int = MAX_ITEMS, most_bytes: int = MAX_BYTES) -> Iterator[list[Piece]]:
    """Yield batches of neighbours, each as large as it may be; an item over `most_bytes` goes alone.

    >>> pieces = [Piece(str(i), b"x" * size) for i, size in enumerate([4, 3, 1, 9, 1])]
    >>> [[piece.key for piece in batch] for batch in split(pieces, 2, 10)]
    [['0', '1'], ['2'], ['3'], ['4']]
    """
    batch: list[Piece] = []
    size = 1
    for piece in pieces:
        more = len(piece.text) + 1
        if batch and (len(batch) == most_items or size + more > most_bytes):
            yield batch
            batch, size = [], 1
        batch.append(piece)
        size += more
    if batch:
        yield batch


def body_of(batch: Iterable[Piece]) -> bytes:
    """Return a batch as it is sent.

    >>> body_of([Piece("a", b'{"key":"a"}'), Piece("b", b'{"key":"b"}')])
    b'[{"key":"a"},{"key":"b"}]'
    """
    return b"[" + b",".join([piece.text for piece in batch]) + b"]"
