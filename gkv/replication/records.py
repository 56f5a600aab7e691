"""The records of a member, as its machines look at them."""

from collections.abc import Sequence
from typing import Protocol

from gkv.model import Damage, Record
from gkv.replication.events import Pair


class Records(Protocol):
    """What is on a member's disk or was handed to its commit, as that will leave it. Looks only; nothing waits."""

    def newest(self, keys: Sequence[str]) -> list[Record | Damage | None]:
        """Return the record of each key, tombstones too."""

    def has_room(self, size: int, keys: int) -> bool:
        """Return whether so many keys may get values of so many bytes together, beside all that was handed over (W1)."""

    def walk(self, pair: Pair, after: str, limit: int) -> tuple[list[str], str | None]:
        """Return the next keys of a list, about `limit` of them, in an order of the engine's own; and the cursor at their
        end, None at the end of the list. The cursor at the beginning is empty.
        """

    def between(self, pair: Pair, after: str, upto: str | None) -> list[str]:
        """Return all keys of a list after one cursor and up to another."""
