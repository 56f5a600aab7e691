"""The engine that keeps records on disk, in LMDB: a B+ tree that is copied on write, so a power cut
leaves the last commit.

Promises: what `write` returned for is on disk (an fdatasync for its pages, then a synchronous write
of the meta page); a record whose bytes are not what was written is never served; after any error
that leaves it open what is on the disk, nothing is acknowledged any more. A damaged record is
overwritten by a write of any version, which repairs it. One process uses an environment; a second
one is refused. It must be opened after any fork.

The hub is blocked by reads (1 to 2 us a key while the pages are in memory), never by a commit.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, repeat
from math import inf
from operator import add, getitem
from pathlib import Path
from typing import Any

import lmdb

from gkv.engine import record
from gkv.engine.cache import Cache
from gkv.engine.engine import LOOKED_AT, MAX_KEY, NOT_BURIED, Due, Engine, Looked, Row, StoreFigures, no_call
from gkv.engine.environment import STRUCTURAL
from gkv.engine.merge import DUE, TOMBSTONE_DUE, VALUE_DUE, Merge, due_of
from gkv.engine.pieces import pieces_between, stretch
from gkv.engine.record import VALUE
from gkv.engine.room import Demand
from gkv.engine.store import Store, note_era, size_in
from gkv.engine.sums import TOKEN, Stretch, Summing, Tokens
from gkv.engine.verify import Verification
from gkv.errors import EngineFailed
from gkv.model import Damage, Effect, Record, Value, Write

_FEW = 4
"""Records that are copied without a look at how much that is by now, which takes 0.1 us for each."""

_can_be_stored = frozenset(range(TOKEN + 1, TOKEN + MAX_KEY + 1)).issuperset
"""Whether addresses of these lengths are those of keys that may be."""
_TOKENS_AT = [slice(start, start + TOKEN) for start in range(0, 1024 * TOKEN, TOKEN)]


class LmdbEngine(Engine):
    """Four sub-databases in one environment:

    `records`: token (8 bytes, big-endian) + key -> record, so an arc is one range scan. `keys`: key -> expiry (8 bytes, or
    nothing for never) of each record that has a value. `due`: "v" + expiry + address of a value that expires, "t" + time of
    the commit + address of a tombstone -> nothing. `meta`: format, node, cluster, era, run, dated, size, clean, stop.

    More than 250 lines: every call of an engine is answered here.
    """

    durable = True

    def __init__(
        self, path: Path, node: str, tokens: Tokens, max_disk: int = 0, cache: int = 0, *, or_known: bool = False
    ) -> None:
        """Open or create the environment in the directory `path`, of this node, with `or_known` of whichever node it has been
        of. `tokens` returns 8 bytes for each key.

        `max_disk` bounds the data file, 0 for the disk's own bound. `cache` bytes are for values that were read lately; with
        any, each `write` must stand between `begin_group` and `end_group`. Raise EngineError for what is not this node's,
        OSError when the directory cannot be used.
        """
        self.path = path
        self._tokens = tokens
        self._cache = Cache(cache)
        self._summing = Summing(tokens)
        self._store = Store(path, node, max_disk, self._summing, or_known=or_known)
        self._environment = found = self._store.environment
        self.node = found.node
        self.was_clean, self.era, self.last_run = found.was_clean, found.era, found.last_run
        self._abandoned = False
        """Whether a thread that does not come back has a transaction open: to close would wait for it, or take its map away."""

    def close(self) -> None:
        if not self._abandoned:
            self._store.close(clean=self.was_clean)

    def abandon(self) -> None:
        self._abandoned = True

    def note_run(self, incarnation: int) -> None:
        self._environment.note_run(incarnation)

    @property
    def cluster(self) -> str | None:
        return self._environment.cluster

    def join(self, cluster: str) -> None:
        self._store.join(cluster)

    # --- reading ----------------------------------------------------------------------------------------------------------

    def _addresses(self, keys: Sequence[str]) -> list[bytes]:
        """Return the keys' addresses in `records`. 0.25 us a key."""
        if len(keys) > len(_TOKENS_AT):
            return [address for at in range(0, len(keys), 1024) for address in self._addresses(keys[at : at + 1024])]
        return list(map(add, map(getitem, repeat(self._tokens(keys)), _TOKENS_AT), map(str.encode, keys)))

    def read(self, keys: Sequence[str], now: int, room: float = inf) -> list[Value | Damage | None]:
        found: list[Value | Damage | None] = self._cache.get(keys)  # type: ignore[assignment]  # list is invariant
        if None not in found:
            return found
        absent = [at for at, value in enumerate(found) if value is None]
        wanted = [keys[at] for at in absent]
        addresses = self._addresses(wanted)
        stored = self._stored(addresses, room)
        if (count := len(stored)) < len(absent):
            found = found[: absent[count]]
            absent, wanted, addresses = absent[:count], wanted[:count], addresses[:count]
        try:
            values = record.values(addresses, stored, now, self._tell_damage)
        except record.DueRecords as due:
            raise Due([wanted[at] for at in due.positions]) from None
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
        self._cache.bar(chain.from_iterable([write.keys for write in writes]))

    def end_group(self) -> None:
        self._cache.lift_bar()

    def records_of(self, keys: Sequence[str]) -> list[Record | Damage | None]:
        addresses = self._addresses(keys)
        found = zip(addresses, self._stored(addresses), strict=True)
        tell, unpack = self._tell_damage, record.unpack
        return [None if data is None else unpack(address, data, tell) for address, data in found]

    def items_of(self, keys: Sequence[str], room: float = inf) -> list[bytes | Record | Damage | None]:
        addresses = self._addresses(keys)
        stored = self._stored(addresses, room)
        return record.items(addresses[: len(stored)], stored, self._tell_damage)

    def _tell_damage(self, address: bytes, data: bytes) -> None:
        if data:  # else it is a page, and all that was asked for together has no answer: a look at all records names it
            self.on_damage(address[TOKEN:].decode(errors="replace"))

    def _stored(self, addresses: list[bytes], room: float = inf) -> list[bytes | None]:
        """Return the bytes at these addresses, few more than `room`; b"", which is no record, for one that is lost, and for all
        if pages are damaged.
        """
        try:
            # `get` is faster than `getmulti`, which makes pairs (0.5 against 0.8 us), and copies than views (0.2 us each).
            with self._environment.begin() as txn:
                if len(addresses) <= _FEW or room == inf:
                    return self._but_lost(txn, addresses, list(map(txn.get, addresses)))
                copied: list[bytes | None] = []
                for data in map(txn.get, addresses):
                    copied.append(data)
                    if data is not None:
                        room -= len(data)
                        if room < 0:
                            break
                return self._but_lost(txn, addresses, copied)
        except lmdb.BadValsizeError:  # too long ever to have been written; the others are read as usual
            fits = [address for address in addresses if len(address) <= TOKEN + MAX_KEY]
            found = dict(zip(fits, self._stored(fits), strict=True))
            return [found.get(address) for address in addresses]
        except STRUCTURAL:
            return [b""] * len(addresses)
        except lmdb.Error as error:
            raise EngineFailed(f"{self.path} cannot be read: {error}") from error

    def _but_lost(self, txn: lmdb.Transaction, addresses: list[bytes], found: list[bytes | None]) -> list[bytes | None]:
        """Put b"" for records that the index of keys knows and nobody finds, as their address is not what was written, or that
        of another one in their page. 0.5 us for each that is not there.
        """
        if None in found:
            listed = self._environment.listed
            for place, data in enumerate(found):
                if data is None and len(addresses[place]) > TOKEN and txn.get(addresses[place][TOKEN:], db=listed) is not None:
                    found[place] = b""
        return found

    def arc(self, first: int, last: int, after: str | None, limit: int, room: float = inf) -> list[Row]:
        start = first.to_bytes(TOKEN, "big")
        passed = b""
        if after is not None:
            passed = self._addresses([after])[0]
            start = max(start, passed)
        end = last.to_bytes(TOKEN, "big")
        found: list[Row] = []
        with self._environment.look() as txn, txn.cursor() as cursor:
            more = cursor.set_range(start)
            while more and len(found) < limit and (room >= 0 or not found):
                address = cursor.key()
                if address[:TOKEN] > end:
                    if self._is_own(address):
                        break
                elif address != passed:
                    data = cursor.value()
                    room -= len(data)
                    item = record.unpack(address, data)
                    if isinstance(item, Record) or self._is_own(address):
                        found.append((address[TOKEN:].decode(errors="replace"), item))
                more = cursor.next()
        return found

    def _is_own(self, address: bytes) -> bool:
        """Return whether an address has the token of its key. Else it is damaged itself: nobody can ask for what is there, and
        nothing may end with it, as what follows is not in its order. `verify` finds it.
        """
        return self._addresses([address[TOKEN:].decode(errors="replace")])[0] == address

    def keys(self, prefix: str, begin: str, limit: int) -> list[tuple[str, int]]:
        wanted = prefix.encode()
        first = begin.encode()
        start = max(wanted, first)[: MAX_KEY + 1]
        found: list[tuple[str, int]] = []
        with self._environment.look() as txn, txn.cursor(self._environment.listed) as cursor:
            more = cursor.set_range(start) if start else cursor.first()
            while more and len(found) < limit and (raw := cursor.key()).startswith(wanted):
                if raw >= first:
                    found.append((raw.decode(errors="replace"), int.from_bytes(cursor.value(), "big")))
                more = cursor.next()
        return found

    def due(self, now: int, limit: int) -> list[str]:
        with self._environment.look() as txn:
            entries = _overdue(txn, self._environment.due, VALUE_DUE, now, limit, true=True)
        return [entry[DUE + TOKEN :].decode(errors="replace") for entry in entries]

    @property
    def live(self) -> int:
        with self._environment.look() as txn:
            return int(txn.stat(self._environment.listed)["entries"])

    @property
    def tombstones(self) -> int:
        with self._environment.look() as txn:
            return int(txn.stat(self._environment.records)["entries"] - txn.stat(self._environment.listed)["entries"])

    @property
    def size(self) -> int:
        with self._environment.look() as txn:
            return size_in(txn, self._environment.meta)

    # --- writing ----------------------------------------------------------------------------------------------------------

    def admit(self, write: Write, waiting: int) -> None:
        demand = _demand([write])
        self._store.admit(demand._replace(values=demand.values + waiting))

    def write(self, writes: Sequence[Write], now: int, syncing: Callable[[], object] = no_call) -> list[list[Effect]]:
        # One call for the whole group: of writes with a key each, it saves a fifth of the time.
        addresses = iter(self._checked_addresses([key for write in writes for key in write.keys]))
        batches = [(write, list(islice(addresses, len(write.keys)))) for write in writes]

        def merge_all(merge: Merge, txn: lmdb.Transaction) -> list[list[Effect]]:
            note_era(txn, self._environment.meta, max([write.version.era for write in writes], default=0))
            return [merge.take(write, addresses) for write, addresses in batches]

        return self._store.commit(merge_all, now, _demand(writes), syncing)

    def _checked_addresses(self, keys: Sequence[str]) -> list[bytes]:
        addresses = self._addresses(keys)
        if not _can_be_stored(map(len, addresses)):
            raise ValueError(f"a key has 1 to {MAX_KEY} bytes")
        return addresses

    def forget(self, until: int, limit: int, syncing: Callable[[], object] = no_call) -> int:
        queue = self._environment.due
        with self._environment.look() as txn:  # most often there is none, and looking costs no commit
            if not _overdue(txn, queue, TOMBSTONE_DUE, until, 1):
                return 0
        demand = Demand(0, limit, sets=False)
        if not self._store.has_room(demand):
            return 0

        def drop(merge: Merge, txn: lmdb.Transaction) -> int:
            old = _overdue(txn, queue, TOMBSTONE_DUE, until, limit)
            for entry in old:
                merge.forget(entry)
            return len(old)

        return self._store.commit(drop, 0, demand, syncing)

    def buried(self, until: int, limit: int, after: tuple[int, str] = NOT_BURIED) -> list[tuple[int, str]]:
        passed = TOMBSTONE_DUE + after[0].to_bytes(8, "big") + self._addresses([after[1]])[0] if after[0] >= 0 else b""
        with self._environment.look() as txn:
            entries = _overdue(txn, self._environment.due, TOMBSTONE_DUE, until, limit, true=True, after=passed)
        return [(int.from_bytes(entry[1:DUE], "big"), entry[DUE + TOKEN :].decode(errors="replace")) for entry in entries]

    def _stretch(self, start: bytes, end: bytes, limit: int) -> Stretch:
        return stretch(self._environment, start, end, limit)

    def _pieces_between(self, ends: Sequence[tuple[bytes, bytes]]) -> list[Sequence[bytes] | None]:
        return pieces_between(self._environment, ends)

    # --- room and snapshots -----------------------------------------------------------------------------------------------

    def grow(self) -> None:
        self._store.grow()

    def date_snapshot(self, now: int, syncing: Callable[[], object] = no_call) -> None:
        self._store.date_snapshot(now, syncing)

    def begin_snapshot(self) -> None:
        self._store.begin_snapshot()

    def copy_snapshot(self, fd: int) -> None:
        self._store.copy_snapshot(fd)

    def end_snapshot(self) -> None:
        self._store.end_snapshot()

    @property
    def store_figures(self) -> StoreFigures:
        return self._store.figures

    def tend(self) -> None:
        self._store.tend()

    # --- looking after it -------------------------------------------------------------------------------------------------

    def verify(self, most: int = LOOKED_AT) -> Iterator[Looked]:
        return Verification(self._environment, self._addresses).steps(most)

    def check(self) -> list[str]:
        verification = Verification(self._environment, self._addresses)
        problems = [line for step in verification.steps() for line in step.lines]
        wrong = verification.count()
        return [*problems, wrong] if wrong else problems


def _demand(writes: Sequence[Write]) -> Demand:
    values = [value for write in writes for value in write.values if value is not None]
    return Demand(sum(map(len, values)), sum([len(write.keys) for write in writes]), sets=bool(values))


def _overdue(
    txn: lmdb.Transaction, queue: Any, kind: bytes, until: int, limit: int, *, true: bool = False, after: bytes = b""
) -> list[bytes]:
    """Return up to `limit` entries of `due` that stand after one, oldest first; with `true` only those of which an intact
    record says so.
    """
    found: list[bytes] = []
    if until < 0:
        return found
    end = kind + until.to_bytes(8, "big")
    with txn.cursor(queue) as cursor:
        more = cursor.set_range(max(kind, after))
        while more and len(found) < limit and (entry := cursor.key())[:DUE] <= end:
            if entry != after and (not true or _is_true(entry, txn.get(entry[DUE:]))):
                found.append(entry)
            more = cursor.next()
    return found


def _is_true(entry: bytes, data: bytes | None) -> bool:
    """Return whether a record is intact and says what its entry in `due` says."""
    return data is not None and record.intact(entry[DUE:], data) and due_of(entry[DUE:], data) == entry
