"""The records of a member as its machines look at them: on its disk, and in the commits under way.

Promises: what is looked at is what the commits under way will leave, writes merged by their order
and replacements whatever the versions say. Nothing here waits or switches greenlets. A walk takes
some 2 ms at most, whatever the engine holds, and 1 ms more for each thousand keys that have come
into commits under way since the last one. Cursors are texts: 16 hexadecimal digits of a token, and
a key; with no key they stand before all keys of that token.
"""

import struct
from bisect import bisect_right, insort
from collections.abc import Collection, Iterable, Sequence
from math import inf

from gkv.cluster.arcs import arcs
from gkv.cluster.placement import Placement
from gkv.engine import NOT_BURIED, Commits, Engine, Pending
from gkv.errors import EngineFull, SnapshotRunning
from gkv.model import Damage, Record, Replacement, Version, Write
from gkv.replication.events import Pair
from gkv.ring import tokens

_Position = tuple[int, str]
"""Token and key. A key has at least a character, so (token, "") stands before all of that token."""
_END = (1 << 64, "")
_LAST = _END[0] - 1
_TOKEN = 16
"""Digits of a token in a cursor."""

_STEP = 1_500
"""About so many us for finding arcs in one step of a walk."""
_LOOK, _ROW = 14, 10
"""About so many us take a look into an arc of the engine, and a record there."""
_BYTES = 1 << 17
"""Of values that are looked at in one step; a record more may come."""
_AT_ONCE = 128
"""Records of one call of the engine."""
_BESIDE = 64
"""Bytes that an engine may count for a record beside its value."""
_NO_VERSION = Version(0, 0)
_MANY = 32
"""Keys from which on to sort all is quicker than to insert each."""


class Stored:
    """`gkv.replication.records.Records` over an engine and the one who writes to it."""

    def __init__(self, engine: Engine, commits: Commits) -> None:
        """All that is written must go through `write` and `replace`."""
        self._engine = engine
        self._commits = commits
        self._new: dict[Pending, None] = {}
        """The commits under way that are not in the next: nobody has looked at any key since they began."""
        self._under_way: dict[str, list[tuple[Pending, int]]] = {}
        """By key, the commits under way that are about it, in their order, and its place in each."""
        self._order = _Order(self._under_way)
        self.placement: Placement | None = None
        """That of the document in force; whoever adopts another document sets it."""

    # --- changes ----------------------------------------------------------------------------------------------------------

    def write(self, write: Write) -> Pending:
        """Hand a write to the group commit, which merges by order. Raise what `Commits.submit` raises."""
        return self._begun(self._commits.submit(write, copied=True))

    def replace(self, records: Sequence[tuple[str, Record]], drops: Sequence[str]) -> Pending:
        """Have records take the place of what is there, and keys dropped. Raise what `Commits.replace` raises."""
        return self._begun(self._commits.replace(records, drops))

    def _begun(self, pending: Pending) -> Pending:
        if not pending.done:
            self._new[pending] = None
        return pending

    def _by_key(self) -> dict[str, list[tuple[Pending, int]]]:
        """Return the commits under way by key, brought up to date: a write costs next to nothing while nobody looks."""
        for pending in self._new:
            for place, key in enumerate(pending.write.keys):
                known = self._under_way.get(key)
                if known is None:
                    self._under_way[key] = [(pending, place)]
                    self._order.new.add(key)
                else:
                    known.append((pending, place))
        self._new.clear()
        return self._under_way

    def over(self, group: Iterable[Pending]) -> None:
        """Note that commits are over, before the machines hear of it. To be called with all that `Commits.on_over` tells."""
        for pending in group:
            if pending in self._new:
                del self._new[pending]
                continue
            for key in pending.write.keys:
                left = [one for one in self._under_way.get(key, ()) if one[0] is not pending]
                if left:
                    self._under_way[key] = left
                elif self._under_way.pop(key, None) is not None:
                    self._order.drop(key)

    def touch(self, keys: Sequence[str]) -> bool:
        """Return whether a commit of any of these keys is under way."""
        return not self._by_key().keys().isdisjoint(keys)

    @property
    def under_way(self) -> Collection[str]:
        """The keys of commits under way."""
        return self._by_key().keys()

    # --- what is there ----------------------------------------------------------------------------------------------------

    def newest(self, keys: Sequence[str]) -> list[Record | Damage | None]:
        """As `Records`."""
        found = self._engine.records_of(keys)
        under_way = self._by_key()
        if not under_way.keys().isdisjoint(keys):
            for place, key in enumerate(keys):
                # Some of these commits may be in the engine already, which changes nothing.
                for pending, at in under_way.get(key, ()):
                    found[place] = _after(found[place], pending.write, at)
        return found

    def has_room(self, size: int, keys: int) -> bool:
        """As `Records`."""
        try:
            self._commits.admit(Write(_NO_VERSION, [""] * keys, [b" " * size, *[b""] * (keys - 1)]))
        except (EngineFull, SnapshotRunning):
            return False
        return True

    def walk(self, pair: Pair, after: str, limit: int, upto: str | None = None) -> tuple[list[str], str | None]:
        """As `Records`."""
        return self._look(pair, after, upto, limit, _STEP, _BYTES)

    def between(self, pair: Pair, after: str, upto: str | None) -> list[str]:
        """As `Records`."""
        return self._look(pair, after, upto, inf, inf, inf)[0]

    def buried(self, limit: int, after: tuple[int, str] = NOT_BURIED) -> tuple[list[str], tuple[int, str] | None]:
        """Return the keys of tombstones that are old enough to go, but for keys with a commit under way, and where to go on,
        None at the end. At most `limit` are looked at.
        """
        found = self._engine.buried(self._commits.forgets_until, limit, after)
        under_way = self._by_key()
        keys = [key for _, key in found if key not in under_way]
        return keys, found[-1] if len(found) == limit else None

    def _look(
        self, pair: Pair, after: str, upto: str | None, limit: float, step: float, room: float
    ) -> tuple[list[str], str | None]:
        """Return keys of a list between two cursors, and the cursor at their end: `upto`, or less when `limit` keys are found,
        `step` is used up or values have more than `room` bytes.
        """
        if self.placement is None:
            raise RuntimeError("no document is in force, so there are no lists")
        at, end = _position(after), _END if upto is None else _position(upto)
        self._by_key()
        self._order.refresh()
        keys: list[str] = []
        begin: int | None = at[0]
        while begin is not None:
            start, begin = begin, None
            for arc in arcs(self.placement, *pair, start):
                if (arc.first, "") >= end:
                    break
                if step <= 0 or room < 0:
                    return keys, _cursor((arc.first, ""))
                step -= arc.cost
                reached, stop, known = max((arc.first, ""), at), min((arc.last + 1, ""), end), len(keys)
                while arc.mine and reached < stop:
                    step -= _LOOK
                    found, reached, size = self._some(reached, stop, int(min(limit - len(keys), _AT_ONCE)), room)
                    keys += found
                    room -= size
                    step -= _ROW * len(found)
                    if len(keys) >= limit or room < 0:
                        return keys, _cursor(reached)
                if arc.mine and len(keys) == known and arc.last < _LAST:  # records are few: what is empty is not looked at
                    step -= _LOOK
                    begin, size = self._next(arc.last + 1)
                    room -= size
                    break
        return keys, upto

    def _next(self, token: int) -> tuple[int | None, int]:
        """Return the first token from this one on of which there is a key, None if there is none; and the bytes of values that
        were looked at.
        """
        rows = self._engine.arc(token, _LAST, None, 1)
        found = _positions([key for key, _ in rows])
        under_way = self._order.first((token, ""))
        if under_way is not None:
            found.append(under_way)
        size = sum([_BESIDE + _size(record) for _, record in rows])
        return min([max(token, at) for at, _ in found], default=None), size

    def _some(self, after: _Position, stop: _Position, most: int, room: float) -> tuple[list[str], _Position, int]:
        """Return up to `most` keys between two positions of one arc, the position that is reached, and the bytes of values that
        were looked at.
        """
        last = stop[0] if stop[1] else stop[0] - 1
        rows = self._engine.arc(after[0], last, after[1] or None, most, room)
        keys = [key for key, _ in rows]
        size = sum([_BESIDE + _size(record) for _, record in rows])
        reached = stop
        if rows and (len(rows) == most or size > room):  # there may be more
            reached = min(reached, _positions(keys[-1:])[0])
        under_way = self._order.between(after, reached)
        if under_way or stop[1]:
            ours = {key for _, key in under_way}
            here = [
                key for (_, key), record in zip(under_way, self.newest([key for _, key in under_way]), strict=True) if record
            ]
            found = sorted([*_positions([key for key in keys if key not in ours]), *_positions(here)])
            found = [one for one in found if one <= reached]
            if len(found) > most:
                found = found[:most]
                reached = found[-1]
            keys = [key for _, key in found]
        return keys, reached, size


def _size(record: Record | Damage) -> int:
    """Return the bytes of a value; as many as are ever looked at of a damaged one, which has as many as it likes."""
    if isinstance(record, Damage):
        return _BYTES
    return 0 if record.value is None else len(record.value)


def _after(found: Record | Damage | None, write: Write, place: int) -> Record | Damage | None:
    """Return what a write leaves of a record of the key at this place of it."""
    order = write.orders[place] if isinstance(write, Replacement) else write.version
    if order is None:
        return None
    if not isinstance(write, Replacement):
        if isinstance(found, Record) and found.version >= order:
            return found
        if isinstance(found, Damage) and not write.repairs:
            return found
    value = write.values[place]
    expires = write.expires[place] if write.expires and value is not None else 0
    return Record(order, value, expires, write.tags[place] if write.tags else None)


class _Order:
    """The keys of commits under way in the order of walks, brought up to date when that is asked for: so that a write costs
    next to nothing while nobody walks.
    """

    def __init__(self, keys: dict[str, list[tuple[Pending, int]]]) -> None:
        self._keys = keys
        self._sorted: list[_Position] = []
        self._tokens: dict[str, int] = {}
        """Of the keys that are in it."""
        self.new: set[str] = set()
        """Keys that have come since it was brought up to date."""

    def drop(self, key: str) -> None:
        """Take a key out."""
        token = self._tokens.pop(key, None)
        if token is None:
            self.new.discard(key)
        else:
            del self._sorted[bisect_right(self._sorted, (token, key)) - 1]

    def refresh(self) -> None:
        """Put the new keys in. O(new), and O(all) in a comparison's time when they are many."""
        if not self.new:
            return
        positions = _positions(list(self.new))
        self._tokens.update([(key, token) for token, key in positions])
        if len(positions) > _MANY:
            self._sorted += positions
            self._sorted.sort()
        else:
            for position in positions:
                insort(self._sorted, position)
        self.new.clear()

    def first(self, after: _Position) -> _Position | None:
        """Return the first one behind a position."""
        at = bisect_right(self._sorted, after)
        return self._sorted[at] if at < len(self._sorted) else None

    def between(self, after: _Position, upto: _Position) -> list[_Position]:
        """Return those after one position and up to another."""
        if not self._sorted:
            return []
        return self._sorted[bisect_right(self._sorted, after) : bisect_right(self._sorted, upto)]


def _positions(keys: Sequence[str]) -> list[_Position]:
    if not keys:
        return []
    return list(zip(struct.unpack(f">{len(keys)}Q", tokens(keys)), keys, strict=True))


def _position(cursor: str) -> _Position:
    return (int(cursor[:_TOKEN], 16), cursor[_TOKEN:]) if cursor else (0, "")


def _cursor(position: _Position) -> str | None:
    return None if position >= _END else f"{position[0]:016x}{position[1]}"
