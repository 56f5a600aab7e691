"""A store on disk: an environment, the room that it has, and the transactions that change it.

Promises: a change is on disk whole when `commit` returns, or nothing of it is there; a change
without room is refused before it is begun, where that can be known; after any error that leaves it
open what is on the disk, no change is made any more. Nothing switches greenlets.

Two threads use it. The writer's calls `has_room` and `commit`, which alone change what is known of
the disk (the reserve, whether it is full) and say nothing: they note what the event loop's thread
says in `tend`. That one calls everything else; what else changes the state of the room (`grow`,
`begin_snapshot`) it calls while the writer does nothing. `failed` and the end of a snapshot are one
assignment each, which either thread may see a moment later.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from gkv.engine.directory import RESERVE, Directory, file_limit
from gkv.engine.engine import StoreFigures
from gkv.engine.environment import MIN_DISK, Environment, check_file
from gkv.engine.merge import Merge, Notes
from gkv.engine.room import Demand, Figures, Room, Verdict
from gkv.engine.sums import Summing
from gkv.errors import EngineError, EngineFailed, EngineFull, OutOfRoom, SnapshotRunning
from gkv.log import as_error, say

SUMS = "sums"
"""File in the directory of a store, from an orderly stop to the next start."""

Result = TypeVar("Result")
Change = Callable[[Merge, lmdb.Transaction], Result]
"""Changes records within a transaction, which it neither commits nor aborts."""


class Store:
    """What `gkv.engine.lmdb.LmdbEngine` reads and changes.

    More than 250 lines: which thread may change what is said here once, for all of it.
    """

    def __init__(self, path: Path, node: str, max_disk: int, summing: Summing, *, or_known: bool = False) -> None:
        """As `LmdbEngine`."""
        if max_disk and max_disk < MIN_DISK:
            raise EngineError(f"{path} may take {max_disk} bytes; it needs {MIN_DISK} at least")
        self.path = path
        self._summing = summing
        self.failed: EngineFailed | None = None
        """Why nothing is acknowledged any more."""
        self._bound = min(filter(None, (max_disk, file_limit())), default=0)
        self._refused_early = 0
        """Records that `admit` has refused because of a snapshot; changed by the event loop's
        thread alone."""
        self._refused = 0
        """Those that `commit` has refused; changed by the writer's alone."""
        self._refused_before = 0
        """All of them, when the snapshot under way began."""
        self._said = False
        """Whether a line says already that the snapshot under way has writes refused."""
        self._said_full = False
        """Whether the last line about it says that there is no room for values."""
        self.directory = Directory(path)
        try:
            self.room = Room(self._bound, check_file(path))
            self.environment = Environment(self.directory, path, node, self.room.map_bytes, or_known=or_known)
            summing.find(path / SUMS, self.environment.content)
            self.room.written(self.environment.held(), sets=False)
        except BaseException:
            self.directory.release()
            raise
        self.directory.reserve.keep()

    def close(self, *, clean: bool) -> None:
        """Close the environment and let another process have the directory. Doing so twice is fine.

        `clean` notes an orderly stop, after which no record need be looked at.
        """
        content = self.environment.close(clean=clean and self.failed is None)
        self._summing.leave(self.path / SUMS, content)
        self.directory.release()

    def join(self, cluster: str) -> None:
        """As `Engine.join`."""
        environment = self.environment
        if environment.cluster == cluster:
            return
        try:
            with environment.begin(write=True) as txn:
                held = txn.stat(environment.records)["entries"]
                if held and environment.cluster is not None:
                    raise EngineError(
                        f"{self.path} holds {held} records of cluster {environment.cluster}, this is cluster {cluster}. "
                        f"Start the node with an empty directory"
                    )
                txn.put(b"cluster", cluster.encode(), db=environment.meta)
                if environment.cluster is not None:
                    txn.delete(b"era", db=environment.meta)
        except lmdb.Error as error:
            if environment.has_no_space(error):
                raise self._full() from error
            self.failed = EngineFailed(f"{environment.file} cannot be written: {error}")
            raise self.failed from error
        environment.cluster = cluster

    # --- changes ----------------------------------------------------------------------------------------------------------

    def commit(self, change: Change[Result], now: int, demand: Demand, syncing: Callable[[], object]) -> Result:
        """Make a change in one transaction, if there is room for it."""
        if self.failed is not None:
            raise self.failed
        figures = None
        if self.room.is_tight:
            self.directory.reserve.keep()
            figures = self._room_figures()
            self.room.disk_has(figures, demand)
        try:
            self._refuse_unless(self.room.verdict(demand, figures))
        except SnapshotRunning:
            self._refused += demand.records
            raise
        syncing = _once(syncing)
        try:
            return self._try(change, now, demand.sets, syncing)
        except _NoSpaceError as error:
            self.room.disk_was_full()
            if not demand.sets and self.directory.reserve.give_up():
                with suppress(_NoSpaceError):
                    return self._try(change, now, demand.sets, syncing)
            raise self._full() from error

    def _try(self, change: Change[Result], now: int, sets: bool, syncing: Callable[[], object]) -> Result:
        environment, room = self.environment, self.room
        sums = self._summing.in_force
        notes = None if sums is None else Notes()
        txn = None
        try:
            txn = environment.begin(write=True)
            counted = size_in(txn, environment.meta)
            merge = Merge(txn, environment.listed, environment.due, now, notes)
            done = change(merge, txn)
            if merge.grown:
                txn.put(b"size", b"%d" % (counted + merge.grown), db=environment.meta)
            held = environment.held_in(txn) if room.is_bounded else 0
            if sets and room.exceeds(held):
                room.bound_was_met()
                raise self._at_bound()
            # Before the disk is waited for, as until then the event loop stands back: the call of C lets go of the GIL.
            changes = None if sums is None or notes is None else notes.effect_on(sums)
            syncing()
            committing, txn = txn, None  # whether or not that works, nothing is left to abort
            committing.commit()
            if sums is not None and changes is not None:
                sums.apply(changes)
            room.written(held, sets=sets)
        except lmdb.MapFullError:
            if room.next_map() is None:
                if sets:
                    room.bound_was_met()
                raise self._at_bound() from None
            raise OutOfRoom(f"the map of {self.path} has {room.map_bytes} bytes, which is not enough") from None
        except lmdb.Error as error:
            if environment.has_no_space(error):
                raise _NoSpaceError from error
            # Among these is a failed fdatasync: LMDB itself would go on and acknowledge what may
            # never reach the disk.
            self.failed = EngineFailed(f"{self.path} cannot be written, nothing more is acknowledged: {error}")
            raise self.failed from error
        else:
            return done
        finally:
            if txn is not None:
                with suppress(lmdb.Error):
                    txn.abort()

    # --- room -------------------------------------------------------------------------------------------------------------

    def admit(self, demand: Demand) -> None:
        """Raise what would refuse such a write now."""
        try:
            self._refuse_unless(self._verdict(demand))
        except SnapshotRunning:
            self._refused_early += demand.records
            raise

    def has_room(self, demand: Demand) -> bool:
        """Return whether such a change may be tried now; for one that can wait."""
        return self._verdict(demand) is Verdict.GOES

    def _verdict(self, demand: Demand) -> Verdict:
        return self.room.verdict(demand, self._room_figures() if self.room.is_tight else None)

    def _room_figures(self) -> Figures:
        environment = self.environment
        return Figures(
            end=environment.end,
            held=environment.held(),
            free=self.directory.free(environment.file),
            size=self.file_bytes,
            reserve=0 if self.directory.reserve.exists else RESERVE,
        )

    def _refuse_unless(self, verdict: Verdict) -> None:
        """Raise what a verdict stands for.

        What might not fit must not be tried while a snapshot runs: the binding's `abort` waits
        until that is done.
        """
        if verdict is Verdict.GOES:
            return
        if verdict is Verdict.AT_BOUND:
            raise self._at_bound()
        if verdict is Verdict.DISK_FULL:
            raise self._full()
        raise SnapshotRunning(f"there is no more room in {self.path} until its snapshot is done", retry_after=1)

    def _at_bound(self) -> EngineFull:
        return EngineFull(f"{self.path} is at its bound of {self._bound} bytes; deletes free some")

    def _full(self) -> EngineFull:
        return EngineFull(f"no space is left on the disk of {self.path}; deletes free some")

    def grow(self) -> None:
        """As `Engine`."""
        if self.room.snapshot_since is not None:
            raise SnapshotRunning(f"the map of {self.path} cannot grow until its snapshot is done", retry_after=1)
        larger = self.room.next_map()
        if larger is None:
            raise self._at_bound()
        if not self._map_with(larger):
            self.failed = EngineFailed(f"{self.path} cannot be mapped with {larger} bytes: the process may not have so many")
            raise self.failed

    def _map_with(self, size: int) -> bool:
        """Return whether the map could be made so large."""
        try:
            resized = self.environment.resize(size)
        except EngineFailed as error:
            self.failed = error
            raise
        if resized:
            self.room.map_is(size)
        return resized

    @property
    def file_bytes(self) -> int:
        """Bytes of the data file on the disk. One system call."""
        try:
            return self.environment.file.stat().st_size
        except OSError:
            return 0

    @property
    def _free_bytes(self) -> int:
        try:
            return self.room.left(self.directory.free(self.environment.file))
        except OSError:
            return 0

    @property
    def figures(self) -> StoreFigures:
        """As `Engine.store_figures`."""
        since = self.room.snapshot_since
        return StoreFigures(
            map_bytes=self.room.map_bytes,
            file_bytes=self.file_bytes,
            free_bytes=self._free_bytes,
            snapshot_seconds=None if since is None else time.monotonic() - since,
            refused_by_snapshot=self._refused_in_all,
            foreign_readers=self.environment.readers.foreign,
            foreign_reader_seconds=self.environment.readers.oldest_foreign,
            is_full=self.room.is_full,
        )

    @property
    def _refused_in_all(self) -> int:
        return self._refused + self._refused_early

    def tend(self) -> None:
        """As `Engine`."""
        self.environment.readers.tend()
        if self.room.is_full is not self._said_full:
            self._said_full = self.room.is_full
            now = (
                "there is no room for values, or for many at once: such sets are refused, gets and deletes go on"
                if self._said_full
                else "there is room again"
            )
            line = f"{self.path}: {now}"
            say(as_error(line) if self._said_full else line)
        if self.room.snapshot_since is not None:
            self._say_refusals()

    def _say_refusals(self) -> None:
        if not self._said and self._refused_in_all > self._refused_before:
            self._said = True
            say(as_error(f"{self.path}: writes are refused until the snapshot is done: there is no more room beside it"))

    # --- snapshots --------------------------------------------------------------------------------------------------------

    def date_snapshot(self, now: int, syncing: Callable[[], object]) -> None:
        """As `Engine`."""
        with suppress(EngineFull, SnapshotRunning):
            self.commit(
                lambda _merge, txn: txn.put(b"dated", b"%d" % now, db=self.environment.meta),
                now,
                Demand(0, 1, sets=False),
                syncing,
            )

    def begin_snapshot(self) -> None:
        """As `Engine`."""
        if self.room.snapshot_since is not None:
            raise SnapshotRunning(f"another snapshot of {self.path} is being copied", retry_after=10)
        wanted = self.room.map_for_snapshot(self._room_figures())
        while wanted > self.room.map_bytes and not self._map_with(wanted):
            wanted //= 2
        self._refused_before, self._said = self._refused_in_all, False
        self.room.snapshot_begins(time.monotonic())

    def copy_snapshot(self, fd: int) -> None:
        """As `Engine`. The copy, placed as `data.mdb` in an empty directory, starts as it is; the
        caller syncs it.
        """
        self.environment.copy(fd)

    def end_snapshot(self) -> None:
        """As `Engine`."""
        self._say_refusals()
        self.room.snapshot_is_over()


class _NoSpaceError(Exception):
    """LMDB met ENOSPC; the transaction is gone and nothing has changed."""


def _once(call: Callable[[], object]) -> Callable[[], object]:
    """Return what makes a call the first time that it is called, and nothing later."""
    left = [call]
    return lambda: left.pop()() if left else None


def size_in(txn: lmdb.Transaction, meta: Any) -> int:
    """Return the bytes that the live records are counted to have."""
    return int(txn.get(b"size", b"0", db=meta))


def note_era(txn: lmdb.Transaction, meta: Any, era: int) -> None:
    """Keep that records of this era are written, in the transaction that writes them. 1 us."""
    if era > int(txn.get(b"era", b"0", db=meta)):
        txn.put(b"era", b"%d" % era, db=meta)
