"""Directories of members: what is synced, and what is on its way there."""

from collections.abc import Callable, Mapping
from copy import copy

from gkv.cluster.document import Document
from gkv.model import Record


class Mark(Record):
    """Stands in the place of a record that is to read as damaged; its version is that of what it stands for."""

    __slots__ = ()


class Directory:
    """All that a process finds when it starts."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        """Live ones and tombstones, by key; also what reads as damaged."""
        self.damaged: set[str] = set()
        """Keys of those whose bytes are not what was written."""
        self.lost: set[str] = set()
        """Of these, keys of those that a look at all records does not find."""
        self.document: Document | None = None
        self.granted = True
        """The note of grants that may run. A directory that nobody has written says nothing, which counts as noted."""
        self.ran: tuple[int, ...] = ()
        """The incarnations that ran on it."""
        self.orderly = False
        """Whether the last process ended in an orderly way."""

    def snapshot(self) -> "Directory":
        """Return a copy of it, which lists no incarnation."""
        taken = copy(self)
        taken.records, taken.damaged, taken.lost = dict(self.records), set(self.damaged), set(self.lost)
        taken.ran, taken.granted = (), True
        return taken


class Disk:
    """The disk of one process: changes of its directory that take time, one after another."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._under_way: list[Callable[[Directory], None]] = []

    def begin(self, change: Callable[[Directory], None]) -> None:
        """Note a change, which is to be ended by `end` in its turn."""
        self._under_way.append(change)

    def end(self) -> None:
        """Sync the oldest change."""
        self._under_way.pop(0)(self.directory)

    @property
    def busy(self) -> int:
        """Changes that are under way."""
        return len(self._under_way)

    def crash(self, reached: int) -> None:
        """Lose what is under way, but for the first so many, which had reached the disk."""
        for change in self._under_way[:reached]:
            change(self.directory)
        self._under_way.clear()


def merged(records: Mapping[str, Record], key: str, record: Record) -> bool:
    """Return whether a record takes the place of what is there, by its order."""
    known = records.get(key)
    return known is None or known.version <= record.version
