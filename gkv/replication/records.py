"""The records of a member, as its machines look at them."""

from collections.abc import Sequence
from typing import Protocol

from gkv.model import Damage, Record
from gkv.replication.events import Pair

PAGE = 100
"""Keys of one page that a learner is given, and looks at."""


class Records(Protocol):
    """What is on a member's disk or was handed to its commit, as that will leave it. Looks only; nothing waits."""

    def newest(self, keys: Sequence[str]) -> list[Record | Damage | None]:
        """Return the record of each key, tombstones too."""

    def has_room(self, size: int, keys: int) -> bool:
        """Return whether so many keys may get values of so many bytes together, beside all that was handed over (W1)."""

    def walk(self, pair: Pair, after: str, limit: int, upto: str | None = None) -> tuple[list[str], str | None]:
        """Return the next keys of a list, up to a cursor and `limit` of them at most, in an order that all engines share; and
        the cursor at their end, `upto` when all are there. The cursor at the beginning is empty, and that at the end None.

        There may be fewer, or none, before the end: what is looked at in one step is bounded.
        """

    def between(self, pair: Pair, after: str, upto: str | None) -> list[str]:
        """Return all keys of a list after one cursor and up to another, which `walk` has reached in a step here."""
