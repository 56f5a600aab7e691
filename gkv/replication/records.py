"""The records of a member, as its machines look at them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gkv.model import Damage, Record
from gkv.replication.events import Pair

PAGE = 256
"""Keys of one page that a learner is given, and looks at."""
RANGES = 128
"""Ranges of one page."""

Range = tuple[str, str | None]
"""What lies after one cursor and up to another. The cursor at the beginning is empty, and that at the end None."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Keys of a list, part by part: each has those after the part before, up to a cursor."""

    sums: Sequence[int | None]
    """Of each part the exclusive or of the fingerprints of its live records on the disk; None if that is not known just now."""
    ends: Sequence[str | None]
    """The cursor at the end of each part."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What was found in some ranges."""

    records: Mapping[str, Record | Damage]
    """By key, in an order that all engines share; tombstones too."""
    whole: int
    """How many of the ranges were looked at as wholes."""
    upto: str | None = None
    """The cursor up to which the next range was, None if none of it was."""


class Records(Protocol):
    """What is on a member's disk or was handed to its commit, as that will leave it. Looks only; nothing waits.

    A fingerprint has 64 bits, and is that of a key with the order, the tag and the expiry of its record, and so with its
    value: the same for all engines. A tombstone has none, which is 0.
    """

    def newest(self, keys: Sequence[str]) -> list[Record | Damage | None]:
        """Return the record of each key, tombstones too."""

    def has_room(self, size: int, keys: int) -> bool:
        """Return whether so many keys may get values of so many bytes together, beside all that was handed over (W1)."""

    def look(self, pair: Pair, ranges: Sequence[Range], limit: int) -> Rows:
        """Return the records of a list in some ranges, `limit` of them at most, and how far the ranges were looked at. There
        may be fewer, or none: what is looked at in one step is bounded.
        """

    def between(self, pair: Pair, after: str, upto: str | None) -> list[str]:
        """Return all keys of a list after one cursor and up to another, which `look` has reached in a step here."""

    def fingerprints(self, rows: Sequence[tuple[str, Record]]) -> list[int]:
        """Return the fingerprint of each of these records."""

    def known(self, records: Mapping[str, Record | Damage]) -> dict[str, int]:
        """Return the fingerprints of those of the records found that have a value, and about which no commit is under way."""

    @property
    def compares(self) -> bool:
        """Whether there are so many records that to compare sums of them is worth it."""

    def is_summed_up(self, after: str) -> bool:
        """Return whether the sums of the next parts after a cursor are there; not while they are still being made."""

    def sums(self, pair: Pair, after: str, without: Collection[str] = ()) -> Parts:
        """Return the next parts of a list after a cursor, the last one of which ends at None at the end.

        Of two members under one document they are the same parts. The sum of one is None if a commit under way is about a key
        of it, or one of the keys `without` is.
        """
