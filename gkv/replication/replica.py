"""The machines of one member, bound together: events in, actions out."""

from typing import Protocol

from gkv.model import Damage, Record
from gkv.replication.actions import Action
from gkv.replication.events import Event
from gkv.replication.expiry import DueTime


class Records(Protocol):
    """What a member holds: on its disk or handed to its commit, as that will leave it. Only looked at."""

    def newest(self, keys: list[str]) -> list[Record | Damage | None]:
        """Return the record of each key, tombstones too."""

    def walk(self, place: int, after: str, limit: int) -> tuple[list[str], str | None]:
        """Return the next keys of the list at a place in the roles of now, about `limit` of them, in an order of the
        engine's own; and the cursor at their end, None at the end of the list.
        """

    def between(self, place: int, after: str, upto: str | None) -> list[str]:
        """Return all keys of a list after one cursor and up to another."""


class Replica:
    """One process of a member."""

    def __init__(self, me: str, incarnation: int, records: Records, due: DueTime, now: float, *, noted: bool = False) -> None:
        """Begin at the start of a process; `noted` says whether its directory has the note `granted`, or is not the one
        that the member had.
        """

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in one event; return all that is to be done now."""
        raise NotImplementedError

    @property
    def wakes_at(self) -> float:
        """The time at which a `Tick` is wanted, if nothing else happens."""
        raise NotImplementedError

    def may_forget(self, key: str) -> bool:
        """Return whether the tombstone of a key may go, if it is old enough."""
        raise NotImplementedError

    def may_drop(self, key: str) -> bool:
        """Return whether a record may go because this member is in neither list of its key."""
        raise NotImplementedError
