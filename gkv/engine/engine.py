"""The contract that every engine keeps; `tests/contract/test_engine.py` runs over all of them.

An engine is used by two threads: everything but `write`, `forget` and `make_sums` is called by the event loop's thread, those
by one writer thread (which may be the same); `copy_snapshot` has one of its own. No call switches greenlets.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from gkv.engine.sums import Stretch, Summing, Sums, start_of
from gkv.model import Damage, Effect, Record, Value, Write

MAX_KEY = 480
"""Bytes: with the token before it and what else an index puts there, a key still fits LMDB's 511."""


Row = tuple[str, Record | Damage]
"""A key and its record."""
SUM_STEP = 1_000
"""Records that one `make_sums` reads, in some 3 ms."""
NOT_BURIED = (-1, "")
"""Stands before the oldest tombstone."""


class Due(Exception):
    """Values among those that were to be read are due: those of `keys`."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__()
        self.keys = keys


def _nobody(_key: str) -> None:
    """Take note of nothing."""


def no_call() -> None:
    """Do nothing: for callers of `Engine.write` whom it is all the same when the disk is waited for."""


class StoreFigures(NamedTuple):
    """About a data file; nothing but zeros without one."""

    map_bytes: int = 0
    """Address space that the file may fill before the map has to grow."""
    file_bytes: int = 0
    free_bytes: int = 0
    """By how many bytes it may grow, by the disk, the process's limit for a file, and its bound for values."""
    snapshot_seconds: float | None = None
    """Age of the snapshot under way, None without one."""
    refused_by_snapshot: int = 0
    """Records whose write had to wait for the end of a snapshot."""
    foreign_readers: int = 0
    """Other processes' transactions that read, a second ago at most."""
    foreign_reader_seconds: float = 0.0
    """For how long the oldest of them has been seen."""
    is_full: bool = False
    """Whether values are refused, as the disk or its bound has no room for them."""


LOOKED_AT = 128
"""Entries that are looked at in one step unless fewer are asked for, which takes 1 ms, and with a large value 2 ms."""


@dataclass(frozen=True, slots=True)
class Looked:
    """One step of a look at all entries."""

    records: int = 0
    """Records that were looked at."""
    cost: int = 0
    """Entries of the records and of all indices that were, each as often as it has begun 4 KiB."""
    damaged: tuple[str, ...] = ()
    """Keys whose record is damaged, or lost: it is in an index of what has a value."""
    problems: tuple[str, ...] = ()
    """Lines about all else that is wrong."""

    @property
    def lines(self) -> list[str]:
        """All that is wrong, a line each."""
        return [*[f"{key!r} is damaged" for key in self.damaged], *self.problems]


class Engine(ABC):
    """A map from key to record, whose values come back exactly as they came.

    A write is merged, record by record: the greater version stays. No two writes have one version,
    so any order and any number of repetitions of the same writes leave the same records. A value
    that is due stays until a tombstone is written; no call hides it. A record that is damaged gives
    way to a write of any version, which repairs it.

    All times are milliseconds since the Unix epoch. A key has 1 to 480 bytes; ValueError for writing another one, and then
    nothing has changed.
    """

    durable: bool
    """Whether what a `write` wrote outlives the process and a power cut."""

    node: str
    """The id of the node whose records these are."""

    was_clean: bool = True
    """Whether the last stop was an orderly one, or all records have been checked since. If neither,
    `verify` should be run; whoever has done so sets this, and else `close` leaves it to the next.
    """

    era: int = 0
    """An era that none of the records is later than which were there when it was opened; 0 where there were none."""

    last_run: int = 0
    """The incarnation of the process that ran on these records last, before this one; 0 where there was none, or where they
    are a snapshot, on which no process has run.
    """

    def note_run(self, incarnation: int) -> None:  # noqa: B027  # nothing to do for what does not outlive its process
        """Keep which process runs on the records, if they outlive it."""

    on_damage: Callable[[str], object] = staticmethod(_nobody)
    """Told the key when `read` or `records_of` finds its record to be damaged; it does not switch greenlets or raise."""

    _summing: Summing

    @property
    @abstractmethod
    def cluster(self) -> str | None:
        """The cluster that the records belong to; None when it has never been said."""

    @abstractmethod
    def join(self, cluster: str) -> None:
        """Keep the cluster's id with the records. Raise EngineError when there are records of another cluster."""

    @abstractmethod
    def read(self, keys: Sequence[str], now: int, room: float = inf) -> list[Value | Damage | None]:
        """Return the value of each key in this order, None where there is none. Raise Due when some are due by `now`.

        An engine that has to copy values may stop when they have more than `room` bytes, and returns those of the first keys
        then, at least one.
        """

    @abstractmethod
    def records_of(self, keys: Sequence[str]) -> list[Record | Damage | None]:
        """Return the whole records, tombstones and what is due included."""

    @abstractmethod
    def items_of(self, keys: Sequence[str], room: float = inf) -> list[bytes | Record | Damage | None]:
        """Return a JSON value that never expires alone, of all else the whole record, what is due included. It may stop as
        `read` does.
        """

    @abstractmethod
    def write(self, writes: Sequence[Write], now: int, syncing: Callable[[], object] = no_call) -> Sequence[Sequence[Effect]]:
        """Merge all of these in this order; return what each did to its keys. On disk when it returns, if `durable`.

        Tombstones are as old as `now`. A replacement is not merged, and tells no effects: its records take the place of what
        is there, damage included. A key that it marks has a damaged record from then on, and is listed as one with a value that
        never expires.

        `syncing` is called when all that needs the interpreter is done and only the disk is still waited for; not when it
        raises before.

        Raise OutOfRoom when the map must grow first (see `grow`), EngineFull when the disk or its bound is full and something
        other than a tombstone is among them, SnapshotRunning when it might not fit before a snapshot is over; then nothing has
        changed. Raise EngineFailed when it is unknown what is on the
        disk: nothing may be acknowledged any more, and the process should end.
        """

    def admit(self, write: Write, waiting: int) -> None:  # noqa: B027  # most engines take whatever comes
        """Raise EngineFull or SnapshotRunning when a write might be refused after others with `waiting` bytes.

        For a write of values that is acknowledged before it is on disk. Called by the event loop's thread.
        """

    def begin_group(self, writes: Sequence[Write]) -> None:  # noqa: B027  # most engines keep nothing besides their records
        """Take note that these writes are about to be handed to the writer thread, in one call of `write`.

        For an engine that keeps what it has read: from now until `end_group` it must read their keys anew each time, since
        their commit can be seen before `write` returns. Called by the event loop's thread.
        """

    def end_group(self) -> None:  # noqa: B027  # as above
        """Take note that the group is over, whatever has become of it. Called before anybody is told of it."""

    @abstractmethod
    def grow(self) -> None:
        """Make the room that a `write` has asked for. Called by the event loop's thread while no `write` runs."""

    @abstractmethod
    def forget(self, until: int, limit: int, syncing: Callable[[], object] = no_call) -> int:
        """Drop up to `limit` tombstones that were committed by then, oldest first; return how many, `limit` if more may be.

        Calls `syncing` and raises as `write` does.
        """

    @abstractmethod
    def buried(self, until: int, limit: int, after: tuple[int, str] = NOT_BURIED) -> list[tuple[int, str]]:
        """Return up to `limit` tombstones that were committed by then, oldest first: when, and the key.

        `after` is the last one of the page before. For whoever has to look at each before it goes, by a replacement that drops
        it. O(limit), and with the memory engine also O(those before).
        """

    def date_snapshot(self, now: int, syncing: Callable[[], object] = no_call) -> None:  # noqa: B027  # where there are any
        """Keep the time of day, in ms, for the snapshots that begin from now on; a disk that is full does not take it. Called
        as `write`, and raises as that does when the map must grow or it is unknown what is on the disk.
        """

    @abstractmethod
    def begin_snapshot(self) -> None:
        """Get ready for one snapshot, during which there is no growing, and no page that it reads is used again.

        Called like `grow`, and followed by `end_snapshot` in any case. Raise SnapshotRunning during another.
        """

    @abstractmethod
    def copy_snapshot(self, fd: int) -> None:
        """Write a consistent copy to a file descriptor; called in a native thread of its own.

        Raise EngineError when it cannot.
        """

    @abstractmethod
    def end_snapshot(self) -> None:
        """Take note that the copy is over, whatever has become of it. Called by the event loop's thread."""

    def tend(self) -> None:  # noqa: B027  # most engines share nothing with other processes
        """Look after what other processes do with the store, and say what the operator should know of it.

        For every round of the writer's, some tenths of a second apart. Called by the event loop's thread.
        """

    def abandon(self) -> None:  # noqa: B027  # most engines have nothing that is closed
        """Have `close` leave all as it is, to the end of the process: a call on the writer thread does not come back."""

    @abstractmethod
    def arc(self, first: int, last: int, after: str | None, limit: int, room: float = inf) -> list[tuple[str, Record | Damage]]:
        """Return up to `limit` records with first <= token <= last, in the order of (token, key), tombstones included; fewer,
        and at least one, when they have more than `room` bytes.

        `after` is the key that the last page ended with, None for the first page.
        """

    @abstractmethod
    def keys(self, prefix: str, begin: str, limit: int) -> list[tuple[str, int]]:
        """Return up to `limit` keys with a value that start with `prefix` and do not sort before `begin`, in code point order;
        of each when it expires, 0 for never. O(limit), wherever they begin.
        """

    @abstractmethod
    def due(self, now: int, limit: int) -> list[str]:
        """Return up to `limit` keys whose value is due by `now`, the longest due first. O(limit)."""

    @property
    @abstractmethod
    def live(self) -> int:
        """Count of the keys with a value, due or not. O(1)."""

    @property
    @abstractmethod
    def tombstones(self) -> int:
        """How many tombstones there are. O(1)."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes of the keys (as UTF-8), values (`len`) and tags of the live records, without overhead. O(1)."""

    def keep_sums(self, on: bool) -> None:
        """Keep sums of the records by cell from now on, or no longer; off at first.

        They are built by `make_sums`, unless the last stop was an orderly one that has left them.
        """
        self._summing.keep(on)

    @property
    def sums(self) -> Sums | None:
        """The sums of all cells; None while none are kept."""
        return self._summing.sums

    def fingerprints(self, rows: Sequence[tuple[str, Record]]) -> list[int]:
        """Return what each of these records adds to the sum of its cell, whether it is here or not; 0 for a tombstone."""
        return self._summing.fingerprints(rows)

    def sums_between(self, ranges: Sequence[tuple[int, int]]) -> list[int | None]:
        """Return the sum of the live records of each range of tokens, both ends included. 3 us a range and 2 us a record.

        None where one of them is damaged, and for all that is left once many have been read.
        """
        ends = [(start_of(first), start_of(last + 1)) for first, last in ranges]
        return self._summing.sums_of_each(self._pieces_between(ends))

    def make_sums(self, limit: int = SUM_STEP) -> bool:
        """Read up to `limit` records that are to be summed up; return whether more are left. Called by the writer thread.

        Raise EngineError for pages that make no sense, EngineFailed when they cannot be read.
        """
        sums = self._summing.in_force
        gap = None if sums is None else sums.gap
        if sums is None or gap is None:
            return False
        sums.fill(self._stretch(*gap, limit))
        return sums.gap is not None

    @abstractmethod
    def _stretch(self, start: bytes, end: bytes, limit: int) -> Stretch:
        """Read up to `limit` records with start <= address < end, in this order; damaged ones are named apart."""

    @abstractmethod
    def _pieces_between(self, ends: Sequence[tuple[bytes, bytes]]) -> list[Sequence[bytes] | None]:
        """Return the pieces of the records between each of these pairs of addresses, None as `sums_between` says."""

    @property
    def store_figures(self) -> StoreFigures:
        """What there is to say about the data file and those who read it. A few system calls."""
        return StoreFigures()

    @abstractmethod
    def verify(self, most: int = LOOKED_AT) -> Iterator[Looked]:
        """Look at every record, past all caches of this process, in steps of up to `most` entries; yield what was seen in each.

        Reading the next step starts a new transaction, so writes may come between.
        """

    @abstractmethod
    def check(self) -> list[str]:
        """Return what is wrong with the records and with what is kept about them (indices, counts). O(records)."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything, and note that the stop was an orderly one. Closing twice is fine; no other call follows."""
