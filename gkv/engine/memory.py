"""The engine that keeps records in dicts: fast, and gone with the process."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from itertools import compress, islice, repeat
from math import inf
from operator import add

from sortedcontainers import SortedList

from gkv.engine.engine import LOOKED_AT, MAX_KEY, NOT_BURIED, Due, Engine, Looked, Row, no_call
from gkv.engine.sums import NO_PIECE, Stretch, Summing, Tokens, piece
from gkv.errors import EngineError
from gkv.model import Damage, Effect, Record, Replacement, Value, Version, Write

_HEAP_SLACK = 1_000
_TAG = 16
"""Bytes of a tag."""
CREATED, REPLACED, UNCHANGED, KEPT, DAMAGED = (
    Effect.CREATED,
    Effect.REPLACED,
    Effect.UNCHANGED,
    Effect.KEPT,
    Effect.DAMAGED,
)
_NO_VERSION = Version(0, 0)
_are_short = frozenset(range(1, MAX_KEY // 4 + 1)).issuperset
"""Whether keys of so many characters each have 1 to MAX_KEY bytes, whatever they are."""


class MemoryEngine(Engine):
    """About 0.1 us for a key read and 0.5 us for one written while they are in the processor's cache. A record takes its own
    bytes and about 300 more. More than 250 lines: every call of an engine is answered here.
    """

    durable = False

    def __init__(self, tokens: Tokens, node: str = "") -> None:
        """`tokens` returns 8 bytes for each key."""
        self.node = node
        self._tokens = tokens
        self._summing = Summing(tokens)
        self._cluster: str | None = None
        self._values: dict[str, Value] = {}
        """Of the live records alone, so that a read is a lookup and nothing else."""
        self._versions: dict[str, Version] = {}
        """Of all records."""
        self._times: dict[str, int] = {}
        """When values expire, of those that do, and when tombstones were written."""
        self._tags: dict[str, Version] = {}
        """Of records whose tag is not their version."""
        self._damaged: set[str] = set()
        """Keys that a replacement has marked. Beside them they have an empty value, so that they are listed and counted."""
        self._due = _Queue(lambda time, key: key in self._values and self._times.get(key) == time)
        """The values that expire."""
        self._graves = _Queue(lambda time, key: key not in self._values and self._times.get(key) == time)
        """The tombstones by age."""
        self._size = 0
        self._by_key = _Order(self._values, lambda keys: keys)
        self._by_token = _Order(self._versions, lambda keys: list(zip(self._tokens_of(keys), keys, strict=True)))

    def _tokens_of(self, keys: Sequence[str]) -> list[bytes]:
        data = self._tokens(keys)
        return [data[at : at + 8] for at in range(0, len(data), 8)]

    @property
    def cluster(self) -> str | None:
        return self._cluster

    def join(self, cluster: str) -> None:
        if self._versions and self._cluster not in (None, cluster):
            raise EngineError(f"there are {len(self._versions)} records of cluster {self._cluster}, this is cluster {cluster}")
        self._cluster = cluster

    # --- reading ----------------------------------------------------------------------------------------------------------

    def read(self, keys: Sequence[str], now: int, room: float = inf) -> list[Value | Damage | None]:  # noqa: ARG002  # no copies
        if self._due.heap and self._due.heap[0][0] <= now:
            due = [key for key in keys if key in self._values and 0 < self._times.get(key, 0) <= now]
            if due:
                raise Due(due)
        if self._damaged:
            return [Damage.DAMAGED if key in self._damaged else self._values.get(key) for key in keys]
        return list(map(self._values.get, keys))

    def records_of(self, keys: Sequence[str]) -> list[Record | Damage | None]:
        return [self._record(key) if key in self._versions else None for key in keys]

    def items_of(self, keys: Sequence[str], room: float = inf) -> list[bytes | Record | Damage | None]:  # noqa: ARG002  # no copies
        return [
            one.value if isinstance(one, Record) and isinstance(one.value, bytes) and not one.expires else one
            for one in self.records_of(keys)
        ]

    def _record(self, key: str) -> Record | Damage:
        if key in self._damaged:
            return Damage.DAMAGED
        value = self._values.get(key)
        return Record(self._versions[key], value, 0 if value is None else self._times.get(key, 0), self._tags.get(key))

    def arc(self, first: int, last: int, after: str | None, limit: int, room: float = inf) -> list[Row]:
        end = last.to_bytes(8, "big")
        start: tuple[bytes, str] = (first.to_bytes(8, "big"), "")
        passed = None
        if after is not None:
            passed = (self._tokens_of([after])[0], after)
            start = max(start, passed)
        found: list[Row] = []
        for token, key in self._by_token.up_to_date().irange(start):
            if token > end or len(found) == limit or (found and room < 0):
                break
            if (token, key) != passed:
                found.append((key, self._record(key)))
                room -= len(self._values.get(key, b""))
        return found

    def keys(self, prefix: str, begin: str, limit: int) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for key in self._by_key.up_to_date().irange(max(prefix, begin)):
            if len(found) == limit or not key.startswith(prefix):
                break
            found.append((key, self._times.get(key, 0)))
        return found

    def due(self, now: int, limit: int) -> list[str]:
        return [key for _, key in self._due.first(now, limit)]

    @property
    def live(self) -> int:
        return len(self._values)

    @property
    def tombstones(self) -> int:
        return len(self._versions) - len(self._values)

    @property
    def size(self) -> int:
        return self._size

    # --- writing ----------------------------------------------------------------------------------------------------------

    def write(self, writes: Sequence[Write], now: int, syncing: Callable[[], object] = no_call) -> list[list[Effect]]:
        for write in writes:
            _check(write.keys)
        sums = self._summing.in_force
        keys = [] if sums is None else list(dict.fromkeys([key for write in writes for key in write.keys]))
        before = self._pieces_of(keys) if keys else []
        doubted = self._damaged.intersection(keys) if self._damaged else set()
        applied = [self._replace(one, now) if isinstance(one, Replacement) else self._merge(one, now) for one in writes]
        if sums is not None:
            doubted |= self._damaged.intersection(keys) if self._damaged else set()
            sums.apply(sums.changes(self._addresses(keys), before, self._pieces_of(keys), self._addresses(list(doubted))))
        syncing()
        return applied

    def _merge(self, write: Write, now: int) -> list[Effect]:
        if self._damaged and not self._damaged.isdisjoint(write.keys):
            return self._mend(write, now)
        values, versions, times, tags = self._values, self._versions, self._times, self._tags
        version = write.version
        era, counter = version.era, version.counter  # to compare whole versions takes 1 us
        at = write.at
        grown = 0
        effects: list[Effect] = []
        append = effects.append
        for key, value, expires in zip(write.keys, write.values, write.expires or repeat(0), strict=False):
            before = versions.get(key)
            if before is None:
                old = None
                self._by_token.changed.add(key)
            elif before.era > era or (before.counter >= counter and before.era == era):  # a later write, or this one again
                append(KEPT)
                continue
            else:
                old = values.get(key)
                if tags and tags.pop(key, None) is not None and old is not None:
                    grown -= _TAG
            versions[key] = version
            if old is None or (times and 0 < times.get(key, 0) <= at):
                append(UNCHANGED if value is None else CREATED)
            else:
                append(REPLACED)
            if times:
                times.pop(key, None)
            if value is None or expires:
                self._put(key, value, expires, now)
                continue
            if old is None:
                grown += len(value) + _size(key)
                self._by_key.changed.add(key)
            else:
                grown += len(value) - len(old)
            values[key] = value
        self._size += grown
        if write.tags:
            self._keep_tags(write)
        return effects

    def _mend(self, write: Write, now: int) -> list[Effect]:
        """Merge a write some of whose keys have damaged records: these it repairs, or leaves as they are."""
        damaged = [key in self._damaged for key in write.keys]
        if write.repairs:
            for key in compress(write.keys, damaged):
                self._erase(key)
            effects = iter(self._merge(write, now))
            return [DAMAGED if was else effect for was, effect in zip(damaged, effects, strict=True)]
        intact = [not was for was in damaged]
        rest = replace(
            write,
            keys=list(compress(write.keys, intact)),
            values=list(compress(write.values, intact)),
            expires=list(compress(write.expires, intact)),
            tags=list(compress(write.tags, intact)),
        )
        effects = iter(self._merge(rest, now))
        return [DAMAGED if was else next(effects) for was in damaged]

    def _keep_tags(self, write: Write) -> None:
        for key, tag in zip(write.keys, write.tags, strict=True):
            if tag is not None and self._versions[key] == write.version and key not in self._tags:
                self._tags[key] = tag
                self._size += _TAG if key in self._values else 0

    def _replace(self, replacement: Replacement, now: int) -> list[Effect]:
        for key, order, value, expires, tag in replacement.rows():
            self._erase(key)
            if order is None:
                continue
            if isinstance(order, Damage):
                self._versions[key] = _NO_VERSION
                self._put(key, b"", 0, now)
                self._damaged.add(key)
                continue
            self._versions[key] = order
            self._put(key, value, expires, now)
            if tag is not None:
                self._tags[key] = tag
                self._size += _TAG if value is not None else 0
        return []

    def _put(self, key: str, value: Value | None, expires: int, now: int) -> None:
        """Put a value or a tombstone in the place of what is there, whose time is gone already."""
        self._drop(key)
        if value is None or expires:
            time, queue = (now, self._graves) if value is None else (expires, self._due)
            self._times[key] = time
            queue.push(time, key, len(self._versions))
        if value is not None:
            self._values[key] = value
            self._size += _size(key) + len(value)
            self._by_key.changed.add(key)

    def _erase(self, key: str) -> None:
        """Take away all that there is of a key."""
        if self._tags.pop(key, None) is not None and key in self._values:
            self._size -= _TAG
        self._drop(key)
        self._damaged.discard(key)
        self._versions.pop(key, None)
        self._times.pop(key, None)
        self._by_token.changed.add(key)

    def _drop(self, key: str) -> None:
        value = self._values.pop(key, None)
        if value is not None:
            self._size -= _size(key) + len(value)
            self._by_key.changed.add(key)

    def grow(self) -> None:
        """Do nothing: a dict grows by itself."""

    def forget(self, until: int, limit: int, syncing: Callable[[], object] = no_call) -> int:
        taken = self._graves.take(until, limit)
        for time, key in taken:
            if self._graves.is_current(time, key):
                self._erase(key)
        syncing()
        return len(taken)

    def buried(self, until: int, limit: int, after: tuple[int, str] = NOT_BURIED) -> list[tuple[int, str]]:
        return self._graves.first(until, limit, after)

    def _addresses(self, keys: Sequence[str]) -> list[bytes]:
        return list(map(add, self._tokens_of(keys), map(str.encode, keys)))

    def _pieces_of(self, keys: Sequence[str]) -> list[bytes]:
        values, versions, times, tags = self._values, self._versions, self._times, self._tags
        pieces = [
            piece(key.encode(), versions[key], times.get(key, 0), tags.get(key)) if key in values else NO_PIECE for key in keys
        ]
        if self._damaged:
            return [NO_PIECE if key in self._damaged else found for key, found in zip(keys, pieces, strict=True)]
        return pieces

    def _stretch(self, start: bytes, end: bytes, limit: int) -> Stretch:
        order = self._by_token.up_to_date()
        keys = [key for _, key in islice(order.irange((start[:8], start[8:].decode())), limit + 1)]
        addresses = self._addresses(keys)
        reached = min(end, addresses[limit]) if len(keys) > limit else end
        count = bisect_left(addresses, reached)
        damaged = self._damaged.intersection(keys[:count])
        return Stretch(addresses[:count], self._pieces_of(keys[:count]), reached, self._addresses(list(damaged)))

    def _pieces_between(self, ends: Sequence[tuple[bytes, bytes]]) -> list[Sequence[bytes] | None]:
        order = self._by_token.up_to_date()
        found = [[key for _, key in order.irange((start, ""), (end, ""), (True, False))] for start, end in ends]
        return [self._pieces_of(keys) if self._damaged.isdisjoint(keys) else None for keys in found]

    def begin_snapshot(self) -> None:
        raise EngineError("this engine keeps nothing on disk, so there is nothing to copy")

    def copy_snapshot(self, fd: int) -> None:
        raise EngineError(f"this engine keeps nothing on disk, so there is nothing to copy to descriptor {fd}")

    def end_snapshot(self) -> None:
        """Do nothing: there are no snapshots."""

    # --- looking after it -------------------------------------------------------------------------------------------------

    def verify(self, most: int = LOOKED_AT) -> Iterator[Looked]:  # noqa: ARG002  # it is no disk that could be looked at in steps
        yield Looked(len(self._versions), len(self._versions), tuple(sorted(self._damaged)), tuple(_problems_of(self)))

    def check(self) -> list[str]:
        return [line for step in self.verify() for line in step.lines]

    def close(self) -> None:
        for part in (self._values, self._versions, self._times, self._tags, self._damaged, self._due.heap, self._graves.heap):
            part.clear()
        self._size = 0


def _problems_of(engine: MemoryEngine) -> list[str]:
    """As `Engine.check`."""
    problems = []
    size = sum(_size(key) + len(value) + (_TAG if key in engine._tags else 0) for key, value in engine._values.items())
    if size != engine._size:
        problems.append(f"the records have {size} bytes, {engine._size} were counted")
    due, graves = set(engine._due.heap), set(engine._graves.heap)
    for key in engine._versions:
        time = engine._times.get(key)
        if key not in engine._values and (time, key) not in graves:
            problems.append(f"the tombstone of {key!r} is not in the order of what is due")
        if key in engine._values and time is not None and (time, key) not in due:
            problems.append(f"{key!r} is not in the order of what expires")
    problems += [f"{key!r} has a value and no version" for key in engine._values.keys() - engine._versions.keys()]
    problems += [f"{key!r} has a time and no version" for key in engine._times.keys() - engine._versions.keys()]
    problems += [f"{key!r} has a tag and no version" for key in engine._tags.keys() - engine._versions.keys()]
    if list(engine._by_key.up_to_date()) != sorted(engine._values):
        problems.append("the order of the keys is not that of the values")
    if [key for _, key in engine._by_token.up_to_date()] != [
        key for _, key in sorted(zip(engine._tokens_of(list(engine._versions)), engine._versions, strict=True))
    ]:
        problems.append("the order of the tokens is not that of the records")
    return problems


class _Queue:
    """Keys by a time: a heap, with entries of some that have since been overwritten."""

    def __init__(self, is_current: Callable[[int, str], bool]) -> None:
        """`is_current` tells whether an entry is what its record says."""
        self.heap: list[tuple[int, str]] = []
        self.is_current = is_current

    def push(self, time: int, key: str, records: int) -> None:
        """Put a key in; there are so many records at most."""
        heappush(self.heap, (time, key))
        # Overwritten records leave their entries behind. They must not pile up until their time comes.
        if len(self.heap) > 2 * records + _HEAP_SLACK:
            self.heap[:] = {entry for entry in self.heap if self.is_current(*entry)}
            heapify(self.heap)

    def take(self, until: int, limit: int) -> list[tuple[int, str]]:
        """Take out up to `limit` entries, the oldest first, current or not."""
        taken: list[tuple[int, str]] = []
        while len(taken) < limit and self.heap and self.heap[0][0] <= until:
            taken.append(heappop(self.heap))
        return taken

    def first(self, until: int, limit: int, after: tuple[int, str] = NOT_BURIED) -> list[tuple[int, str]]:
        """Return up to `limit` current entries that come after one, the oldest first. O(those before, and `limit`)."""
        passed: list[tuple[int, str]] = []
        found: list[tuple[int, str]] = []
        while len(found) < limit and self.heap and self.heap[0][0] <= until:
            entry = heappop(self.heap)
            if self.is_current(*entry) and passed[-1:] != [entry]:
                passed.append(entry)
                if entry > after:
                    found.append(entry)
        for entry in passed:
            heappush(self.heap, entry)
        return found


class _Order:
    """The keys of a dict in some order, brought up to date when it is asked for, so that writing stays cheap."""

    def __init__(
        self, of: "dict[str, Value] | dict[str, Version]", entries: "Callable[[Sequence[str]], Iterable[object]]"
    ) -> None:
        self._of = of
        self._entries = entries
        self._sorted = SortedList()
        self.changed: set[str] = set()
        """Keys that have come or gone since; some of them both."""

    def up_to_date(self) -> SortedList:
        """Return the order. O(changed x log n), or O(n log n) when more than a quarter has changed."""
        if len(self.changed) > len(self._sorted) // 4:
            self._sorted = SortedList(self._entries(list(self._of)))
        else:
            keys = list(self.changed)
            for key, entry in zip(keys, self._entries(keys), strict=True):
                self._sorted.discard(entry)
                if key in self._of:
                    self._sorted.add(entry)
        self.changed.clear()
        return self._sorted


def _check(keys: Sequence[str]) -> None:
    """Raise ValueError for a key that may not be."""
    # Most keys are far shorter than they may be; those are not encoded one by one only to be measured.
    "".join(keys).encode()
    if not _are_short(map(len, keys)) and not all(0 < _size(key) <= MAX_KEY for key in keys):
        raise ValueError(f"a key has 1 to {MAX_KEY} bytes")


def _size(key: str) -> int:
    return len(key) if key.isascii() else len(key.encode())
