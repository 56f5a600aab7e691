"""The engine that keeps records on disk, in LMDB: a B+ tree that is copied on write, so a power cut leaves the last commit.

Promises: what `write` returned for is on disk (an fdatasync for its pages, then a synchronous write of the meta page); a record
whose bytes are not what was written is never served; after any error that leaves it open what is on the disk, nothing is
acknowledged any more. A damaged record is overwritten by a write of any version, which repairs it. One process uses an
environment; a second one is refused. It must be opened after any fork.

The hub is blocked by reads (1 to 2 us a key while the pages are in memory), never by a commit.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice, repeat
from math import inf
from operator import add, getitem
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from gkv.engine import record
from gkv.engine.cache import Cache
from gkv.engine.directory import RESERVE, Directory, sync_directory
from gkv.engine.engine import MAX_KEY, Engine, no_call
from gkv.engine.look import Look
from gkv.engine.merge import DUE, TOKEN, TOMBSTONE_DUE, VALUE_DUE, Merge
from gkv.engine.record import VALUE
from gkv.errors import EngineBusy, EngineError, EngineFailed, EngineFull, OutOfRoom
from gkv.model import Applied, Damage, Record, Value, Write

FORMAT = b"gkv-engine 1"
MIN_MAP = 64 << 20
MIN_DISK = 8 << 20
SHORT_WRITE = 1 << 20
"""With less room on the disk, an EIO is taken for a write that had only some of its bytes taken."""
MARGIN_PAGES = 16
"""What the pages of the sub-databases do not show: the two meta pages, the list of free pages, the main database."""
_PAGES_FOR_A_RECORD = 8
"""An upper bound in practice: a leaf in each of three trees, and the branches above them that are not shared."""

_READ_STEP = 32
"""Records, of a mebibyte each at most, that are copied between two looks at how much that is by now: 0.03 us for each."""

_TOKENS_AT = [slice(start, start + TOKEN) for start in range(0, 1024 * TOKEN, TOKEN)]

_STRUCTURAL = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.CursorFullError,
    lmdb.BadTxnError,
    lmdb.BadDbiError,
)
"""What LMDB says on a read when its pages make no sense."""


Done = TypeVar("Done")
Change = Callable[[Merge, lmdb.Transaction], Done]
"""Changes records within a transaction, which it neither commits nor aborts."""


class LmdbEngine(Engine):
    """Four sub-databases in one environment:

    `records`: token (8 bytes, big-endian) + key -> record, so an arc is one range scan.
    `keys`: key -> expiry (8 bytes, or nothing for never) of each record that has a value.
    `due`: "v" + expiry + place of a value that expires, "t" + birth + place of a tombstone -> nothing.
    `meta`: format, node, cluster, size, clean.
    """

    durable = True

    def __init__(
        self, path: Path, node: str, tokens: Callable[[Sequence[str]], bytes], max_disk: int = 0, cache: int = 0
    ) -> None:
        """Open or create the environment in the directory `path`.

        `tokens` returns 8 bytes for each key. `max_disk` bounds the data file, 0 for the disk's own bound. `cache` bytes are
        for values that were read lately; with any, each `write` must stand between `begin_group` and `end_group`.
        Raise EngineError for what is not this node's, OSError when the directory cannot be used.
        """
        if max_disk and max_disk < MIN_DISK:
            raise EngineError(f"{path} may take {max_disk} bytes; it needs {MIN_DISK} at least")
        self.path = path
        self._tokens = tokens
        self._max_disk = max_disk
        self.failed: EngineFailed | None = None
        """Why nothing is acknowledged any more."""
        self._disk_full = False
        self._snapshots = 0
        self._cache = Cache(cache)
        self._env: lmdb.Environment | None = None
        self.directory = Directory(path)
        try:
            self._open(node)
        except BaseException:
            self._release()
            raise
        self.directory.keep_reserve()

    # --- opening and closing --------------------------------------------------------------------------------------------

    def _open(self, node: str) -> None:
        file = self.path / "data.mdb"
        used = file.stat().st_size if file.exists() else 0
        self._map = MIN_MAP
        while self._map <= used:
            self._map *= 2
        if self._max_disk:
            self._map = max(min(self._map, _whole_pages(self._max_disk)), _whole_pages(used))
        try:
            self._env = env = lmdb.open(
                str(self.path),
                map_size=self._map,
                max_dbs=8,
                max_readers=16,  # the loop's thread, the writer, a snapshot, and room for a tool that looks on
                sync=True,
                metasync=True,
                writemap=False,
                readahead=False,  # a store larger than memory is read at random
                lock=True,
                mode=0o600,
            )
            with env.begin() as txn, txn.cursor() as cursor:
                names = set(cursor.iternext(values=False))
        except lmdb.Error as error:
            raise EngineError(
                f"{file} cannot be opened: {error}. It is no LMDB file that this version reads, or it is damaged; move the "
                f"directory {self.path} away and start with an empty one"
            ) from error
        if names - {b"records", b"keys", b"due", b"meta"}:
            raise EngineError(
                f"{file} is not gkv's: it holds {min(names)!r}. Start with an empty directory, or with the one of node {node}"
            )
        if not names:
            self._create(env, node, used == 0)
        else:
            self._adopt(env, node, file)
        self._page = int(env.stat()["psize"])
        self._used = self._measure()

    def _create(self, env: lmdb.Environment, node: str, new_file: bool) -> None:
        with env.begin(write=True) as txn:
            self._open_databases(env, txn, create=True)
            for name, value in ((b"format", FORMAT), (b"node", node.encode()), (b"size", b"0"), (b"clean", b"0")):
                txn.put(name, value, db=self._meta)
        if new_file:  # or the files' names could be gone after a power cut, whatever was synced in them
            sync_directory(self.path)
            sync_directory(self.path.parent)
        self._cluster: str | None = None
        self.was_clean = True

    def _open_databases(self, env: lmdb.Environment, txn: lmdb.Transaction, create: bool) -> None:
        self._records, self._listed, self._due, self._meta = (
            env.open_db(name, txn=txn, create=create) for name in (b"records", b"keys", b"due", b"meta")
        )

    def _adopt(self, env: lmdb.Environment, node: str, file: Path) -> None:
        """Take over what another run has left, if it is this node's."""
        try:
            with env.begin(write=True) as txn:
                self._open_databases(env, txn, create=False)
                meta = dict(txn.cursor(self._meta).iternext())
                if meta.get(b"format") != FORMAT:
                    raise EngineError(
                        f"{file} has the format {meta.get(b'format', b'').decode(errors='replace')!r}, this version reads "
                        f"{FORMAT.decode()!r}. Start it with the version that wrote it, or with an empty directory"
                    )
                if meta.get(b"node") != node.encode():
                    raise EngineError(
                        f"{file} holds the records of node {meta.get(b'node', b'').decode(errors='replace')!r}, "
                        f"this is node {node!r}. Give the node its own directory, or the name it had"
                    )
                self.was_clean = meta.get(b"clean") == b"1"
                cluster = meta.get(b"cluster")
                self._cluster = None if cluster is None else cluster.decode()
                int(meta[b"size"])
                txn.put(b"clean", b"0", db=self._meta)
        except (lmdb.Error, KeyError, ValueError) as error:
            raise EngineError(
                f"{file} is damaged: {error}. Move the directory {self.path} away, then put a snapshot of this node there as "
                f"{file.name}, or start with an empty one and --accept-loss: there is no other copy of its records"
            ) from error

    def close(self) -> None:
        if self._env is not None and self.failed is None:
            with suppress(lmdb.Error), self._env.begin(write=True) as txn:
                txn.put(b"clean", b"1", db=self._meta)
        self._release()

    def _release(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
        self.directory.release()

    @property
    def cluster(self) -> str | None:
        return self._cluster

    def join(self, cluster: str) -> None:
        if self._cluster == cluster:
            return
        with self._begin(write=True) as txn:
            held = txn.stat(self._records)["entries"]
            if held and self._cluster is not None:
                raise EngineError(
                    f"{self.path} holds {held} records of cluster {self._cluster}, this is cluster {cluster}. "
                    f"Start the node with an empty directory"
                )
            txn.put(b"cluster", cluster.encode(), db=self._meta)
        self._cluster = cluster

    # --- reading ----------------------------------------------------------------------------------------------------------

    def _begin(self, write: bool = False) -> lmdb.Transaction:
        # Cheap (0.5 us): the binding keeps a reader's slot and renews it. `get` for each key is faster than `getmulti`,
        # which makes a pair of each (0.5 against 0.8 us), and copies cost less than views (a view alone takes 0.2 us).
        return self._environment.begin(db=self._records, write=write)

    def _places(self, keys: Sequence[str]) -> list[bytes]:
        """Return the keys' places in `records`. 0.25 us a key."""
        if len(keys) > len(_TOKENS_AT):
            return [place for at in range(0, len(keys), 1024) for place in self._places(keys[at : at + 1024])]
        return list(map(add, map(getitem, repeat(self._tokens(keys)), _TOKENS_AT), map(str.encode, keys)))

    def read(self, keys: Sequence[str], now: int, room: float = inf) -> list[Value | Damage | None]:
        found: list[Value | Damage | None] = self._cache.get(keys)  # type: ignore[assignment]  # list is invariant
        if None not in found:
            return found
        absent = [at for at, value in enumerate(found) if value is None]
        wanted = [keys[at] for at in absent]
        places = self._places(wanted)
        stored = self._stored(places, room)
        if len(stored) < len(places):
            return found[: absent[len(stored)]]
        values = record.values(places, stored, now)
        for at, value in zip(absent, values, strict=True):
            found[at] = value
        # Only what never expires: of anything else the cache would have to know when it ends.
        self._cache.put(
            (key, value)
            for key, data, value in zip(wanted, stored, values, strict=True)
            if isinstance(value, bytes) and data and data[0] == VALUE
        )
        return found

    def begin_group(self, writes: Sequence[Write]) -> None:
        self._cache.bar(key for write in writes for key in write.keys)

    def end_group(self) -> None:
        self._cache.lift_bar()

    def records_of(self, keys: Sequence[str], now: int) -> list[Record | Damage | None]:
        places = self._places(keys)
        found = zip(places, self._stored(places), strict=True)
        return [None if data is None else record.unpack(place, data, now) for place, data in found]

    def _stored(self, places: list[bytes], room: float = inf) -> list[bytes | None]:
        """Return the bytes at these places; b"", which is no record, for all when LMDB finds its pages damaged.

        Stop soon after they have more than `room` bytes.
        """
        try:
            with self._begin() as txn:
                if len(places) <= _READ_STEP or room == inf:
                    return list(map(txn.get, places))
                copied: list[bytes | None] = []
                for at in range(0, len(places), _READ_STEP):
                    step = list(map(txn.get, places[at : at + _READ_STEP]))
                    copied += step
                    room -= sum(map(len, filter(None, step)))
                    if room < 0:
                        break
                return copied
        except lmdb.BadValsizeError:  # too long ever to have been written; the others are read as usual
            fits = [place for place in places if len(place) <= TOKEN + MAX_KEY]
            found = dict(zip(fits, self._stored(fits), strict=True))
            return [found.get(place) for place in places]
        except _STRUCTURAL:
            return [b""] * len(places)
        except lmdb.Error as error:
            raise EngineFailed(f"{self.path} cannot be read: {error}") from error

    def arc(self, first: int, last: int, after: str | None, limit: int) -> list[tuple[str, Record | Damage]]:
        start = first.to_bytes(TOKEN, "big")
        passed = b""
        if after is not None:
            passed = self._places([after])[0]
            start = max(start, passed)
        end = last.to_bytes(TOKEN, "big")
        found: list[tuple[str, Record | Damage]] = []
        with self._begin() as txn, txn.cursor() as cursor:
            more = cursor.set_range(start)
            while more and len(found) < limit and (place := cursor.key())[:TOKEN] <= end:
                if place != passed:
                    item = record.unpack(place, cursor.value())
                    key = place[TOKEN:].decode(errors="replace")
                    # A place whose token is not its key's is damaged itself: nobody can ask for it, and a page must not end
                    # with it, as the next one would start elsewhere. `verify` finds it.
                    if isinstance(item, Record) or self._places([key])[0] == place:
                        found.append((key, item))
                more = cursor.next()
        return found

    def keys(self, prefix: str, after: str, limit: int, now: int) -> list[str]:
        wanted = prefix.encode()
        passed = after.encode()
        start = max(wanted, passed)[: MAX_KEY + 1]
        found: list[str] = []
        with self._begin() as txn, txn.cursor(self._listed) as cursor:
            more = cursor.set_range(start) if start else cursor.first()
            while more and len(found) < limit and (raw := cursor.key()).startswith(wanted):
                expires = cursor.value()
                if raw > passed and (not expires or int.from_bytes(expires, "big") > now):
                    found.append(raw.decode(errors="replace"))
                more = cursor.next()
        return found

    @property
    def live(self) -> int:
        with self._begin() as txn:
            return int(txn.stat(self._listed)["entries"])

    @property
    def tombstones(self) -> int:
        with self._begin() as txn:
            return int(txn.stat(self._records)["entries"] - txn.stat(self._listed)["entries"])

    @property
    def size(self) -> int:
        with self._begin() as txn:
            return _size_in(txn, self._meta)

    # --- writing ----------------------------------------------------------------------------------------------------------

    def write(self, writes: Sequence[Write], now: int, syncing: Callable[[], object] = no_call) -> list[Applied]:
        # One call for the whole group: of writes with a key each, it saves a fifth of the time.
        places = iter(self._checked_places([key for write in writes for key in write.keys]))
        batches = [(write, list(islice(places, len(write.keys)))) for write in writes]
        sets = any(value is not None for write in writes for value in write.values)

        def merge_all(merge: Merge, _txn: lmdb.Transaction) -> list[Applied]:
            return [merge.apply(write, places) for write, places in batches]

        size = sum(len(value) for write in writes for value in write.values if value is not None)
        self._refuse_during_snapshot(size, sum(len(write.keys) for write in writes))
        if sets:
            self._refuse_when_full(size)
        return self._commit(merge_all, now, sets, syncing)

    def _checked_places(self, keys: Sequence[str]) -> list[bytes]:
        places = self._places(keys)
        if not all(TOKEN < len(place) <= TOKEN + MAX_KEY for place in places):
            raise ValueError(f"a key has 1 to {MAX_KEY} bytes")
        return places

    def reclaim(self, now: int, tombstone_ttl: int, limit: int, syncing: Callable[[], object] = no_call) -> int:
        ends = ((VALUE_DUE, now), (TOMBSTONE_DUE, now - tombstone_ttl))
        with self._begin() as txn:  # most often nothing is due, and looking costs no commit
            if not any(self._overdue(txn, kind, until, 1) for kind, until in ends):
                return 0
        self._refuse_during_snapshot(0, limit)

        def take(merge: Merge, txn: lmdb.Transaction) -> int:
            taken = 0
            for kind, until in ends:
                due = self._overdue(txn, kind, until, limit - taken)
                for entry in due:
                    merge.take(entry)
                taken += len(due)
            return taken

        return self._commit(take, now, False, syncing)

    def _overdue(self, txn: lmdb.Transaction, kind: bytes, until: int, limit: int) -> list[bytes]:
        """Return up to `limit` entries of `due`, oldest first."""
        found: list[bytes] = []
        if until < 0:
            return found
        end = kind + until.to_bytes(8, "big")
        with txn.cursor(self._due) as cursor:
            more = cursor.set_range(kind)
            while more and len(found) < limit and (entry := cursor.key())[:DUE] <= end:
                found.append(entry)
                more = cursor.next()
        return found

    def _commit(self, change: Change[Done], now: int, sets: bool, syncing: Callable[[], object]) -> Done:
        """Make a change in one transaction; `sets` says whether it brings values."""
        if self.failed is not None:
            raise self.failed
        try:
            return self._try(change, now, sets, syncing)
        except _NoSpaceError as error:
            self._disk_full = True
            if not sets and self.directory.give_up_reserve():
                with suppress(_NoSpaceError):
                    return self._try(change, now, sets, no_call)  # it has been called
            raise EngineFull(f"no space is left on the disk of {self.path}; deletes free some") from error

    def _try(self, change: Change[Done], now: int, sets: bool, syncing: Callable[[], object]) -> Done:
        txn = None
        try:
            txn = self._begin(write=True)
            counted = _size_in(txn, self._meta)
            merge = Merge(txn, self._listed, self._due, now)
            done = change(merge, txn)
            if merge.grown:
                txn.put(b"size", b"%d" % (counted + merge.grown), db=self._meta)
            used = self._measure_in(txn) if self._max_disk else 0
            if self._max_disk and sets and used > self._bound:
                raise self._over_bound()
            syncing()
            committing, txn = txn, None  # whether or not that works, nothing is left to abort
            committing.commit()
            self._used = used
        except lmdb.MapFullError:
            if self._max_disk and self._map >= _whole_pages(self._max_disk):
                raise self._over_bound() from None
            raise OutOfRoom(f"the map of {self.path} has {self._map} bytes, which is not enough") from None
        except lmdb.Error as error:
            if _is_no_space(error, self.directory):
                raise _NoSpaceError from error
            # Among these is a failed fdatasync: LMDB itself would go on and acknowledge what may never reach the disk.
            self.failed = EngineFailed(f"{self.path} cannot be written, nothing more is acknowledged: {error}")
            raise self.failed from error
        else:
            return done
        finally:
            if txn is not None:
                with suppress(lmdb.Error):
                    txn.abort()

    def _over_bound(self) -> EngineFull:
        return EngineFull(f"{self.path} is at its bound of {self._max_disk} bytes; deletes free some")

    @property
    def map_bytes(self) -> int:
        return self._map

    @property
    def file_bytes(self) -> int:
        try:
            return (self.path / "data.mdb").stat().st_size
        except OSError:
            return 0

    # --- room -------------------------------------------------------------------------------------------------------------

    def grow(self) -> None:
        if self._snapshots:
            raise EngineBusy("the store cannot grow until its snapshot is done", retry_after=1)
        larger = self._map * 2
        if self._max_disk:
            larger = min(larger, _whole_pages(self._max_disk))
        if larger <= self._map:
            raise self._over_bound()
        try:
            self._environment.set_mapsize(larger)
        except lmdb.Error as error:
            self.failed = EngineFailed(f"{self.path} cannot be mapped with {larger} bytes: {error}")
            raise self.failed from error
        self._map = larger

    @property
    def _environment(self) -> lmdb.Environment:
        if self._env is None:
            raise EngineError(f"{self.path} is closed")
        return self._env

    @property
    def _bound(self) -> int:
        """Above this many used bytes only deletes go on."""
        return self._max_disk - max(self._max_disk // 20, 1 << 20)

    def _measure_in(self, txn: lmdb.Transaction) -> int:
        """Return the bytes of all pages that hold something. About 5 us."""
        pages = MARGIN_PAGES
        for database in (self._records, self._listed, self._due, self._meta):
            stat = txn.stat(database)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return pages * self._page

    def _measure(self) -> int:
        with self._begin() as txn:
            return self._measure_in(txn)

    def _refuse_when_full(self, incoming: int) -> None:
        """Raise EngineFull for values that would only fail at greater cost, or take the room that deletes need."""
        if self._max_disk and self._used > self._bound:
            raise self._over_bound()
        if self._disk_full and not self._room_again(incoming):
            raise EngineFull(f"no space is left on the disk of {self.path}; deletes free some")

    def _refuse_during_snapshot(self, incoming: int, records: int) -> None:
        """Raise EngineBusy for what might not fit the map, which a snapshot keeps from growing.

        It must not be tried: the binding's `abort` waits until the snapshot is done, however long that takes.
        """
        if self._snapshots:
            free = self._map - int(self._environment.info()["last_pgno"]) * self._page
            if free < 2 * incoming + _PAGES_FOR_A_RECORD * records * self._page + (1 << 20):
                raise EngineBusy("the store cannot grow until its snapshot is done", retry_after=1)

    def _room_again(self, incoming: int) -> bool:
        """Return whether values may be tried again after the disk was full.

        With the reserve in place room on the disk or in the file will do. Without it the file's own free pages and what is
        left of the disk are what deletes live on, so that many must stay.
        """
        self.directory.keep_reserve()
        wanted = 2 * incoming + (1 << 20)
        in_file = int(self._environment.info()["last_pgno"]) * self._page - self._measure()
        if not self.directory.has_reserve:
            return in_file + self.directory.free >= wanted + RESERVE
        if self.directory.free >= wanted:
            self._disk_full = False
            return True
        return in_file >= wanted

    # --- snapshots --------------------------------------------------------------------------------------------------------

    def make_headroom(self) -> None:
        """Make the map twice as large as what is in use, if it may be. Called like `grow`, before a `snapshot`.

        While a snapshot runs the map cannot grow, and no page that it reads is used again.
        """
        used = int(self._environment.info()["last_pgno"]) * self._page
        with suppress(EngineFull):
            while self._map < 2 * used:
                self.grow()

    def snapshot(self, fd: int) -> None:
        """Write a consistent, compacted copy to a file descriptor, without the GIL; call it in a native thread of its own.

        The copy, placed as `data.mdb` in an empty directory, starts as it is; the caller syncs it. Raise EngineError when it
        cannot be written.
        """
        self._snapshots += 1
        try:
            self._environment.copyfd(fd, compact=True)
        except lmdb.Error as error:
            raise EngineError(f"the snapshot of {self.path} failed: {error}") from error
        finally:
            self._snapshots -= 1

    # --- looking after it -------------------------------------------------------------------------------------------------

    def verify(self) -> Iterator[list[str]]:
        return Look(self.path, self._begin, self._records, self._listed, self._due, self._places).steps()

    def check(self) -> list[str]:
        problems = list(chain.from_iterable(self.verify()))
        with self._begin() as txn:
            size = sum(
                len(place) - TOKEN + record.value_size(data)
                for place, data in txn.cursor().iternext()
                if txn.get(place[TOKEN:], db=self._listed) is not None
            )
            counted = _size_in(txn, self._meta)
        return problems if size == counted else [*problems, f"the records have {size} bytes, {counted} were counted"]


class _NoSpaceError(Exception):
    """LMDB met ENOSPC; the transaction is gone and nothing has changed."""


def _size_in(txn: lmdb.Transaction, meta: Any) -> int:
    return int(txn.get(b"size", b"0", db=meta))


def _is_no_space(error: lmdb.Error, directory: Directory) -> bool:
    """Return whether a transaction came to nothing because the disk is full.

    A disk that fills in the middle of a write takes its first part, and LMDB calls that EIO as well. The pages belong to no
    commit then, as after ENOSPC. Were it a bad disk that is full besides, this commit would not be acknowledged either, and
    after a meta page that could not be written LMDB refuses all others.
    """
    # The binding has a class for ENOSPC; a quota it names by its text alone.
    if isinstance(error, lmdb.DiskError) or os.strerror(errno.EDQUOT) in str(error):
        return True
    return os.strerror(errno.EIO) in str(error) and directory.free < SHORT_WRITE


def _whole_pages(size: int) -> int:
    return -(-size // 65536) * 65536
