"""The records of a member as its machines look at them: on its disk, and in the commits under way.

Promises: what is looked at is what the commits under way will leave, writes merged by their order
and replacements whatever the versions say. Nothing here waits or switches greenlets. A look takes
some 4 ms at most, whatever the engine holds, and 1 ms more for each thousand keys that have come
into commits under way since the last one. Cursors are those of `gkv.node.cursors`.
"""

import struct
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf

from gkv.cluster.arcs import arcs
from gkv.cluster.placement import Placement
from gkv.engine import CELL_SHIFT, CELLS, NOT_BURIED, Commits, Engine, Pending
from gkv.errors import EngineFull, SnapshotRunning
from gkv.model import Damage, Record, Replacement, Version, Write
from gkv.node.cells import Ends, joined, stretches
from gkv.node.cursors import END, Position, cursor_of, position_of
from gkv.replication.events import Pair
from gkv.replication.records import Parts, Range, Rows
from gkv.ring import tokens

_LAST = END[0] - 1

_STEP = 4_000
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
_AHEAD = 1 << 16
"""Cells that are to be built before the next are compared, which are up to so many where there are eight lists."""
_COMPARED = 1 << 16
"""Live records from which on sums are compared: with less, to name each of them costs less."""
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
        """That of the document in force (`follow`)."""
        self.lists = 0
        """Counts the lists by which records were this member's to have: one more whenever they became others."""
        self.tidied = 0
        """The lists by which no record here is others' alone; whoever drops these sets it."""

    def follow(self, now: Placement | None) -> None:
        """Go on with the placement of a document that is in force from now on."""
        before, self.placement = self.placement, now
        if before is None or now is None or before.lists is not now.lists or before.coming is not now.coming:
            self.lists += 1

    @property
    def is_tidy(self) -> bool:
        """Whether no record here is others' alone, by the lists of now."""
        return self.placement is not None and self.tidied == self.lists

    # --- changes ----------------------------------------------------------------------------------------------------------

    def write(self, write: Write) -> Pending:
        """Hand a write to the group commit, which merges by order. Raise what `Commits.submit` raises."""
        return self._begun(self._commits.submit(write, copied=True))

    def replace(self, records: Sequence[tuple[str, Record]], drops: Sequence[str], damaged: Sequence[str] = ()) -> Pending:
        """Have records take the place of what is there, keys dropped, and others read as damaged. Raise what `Commits.replace`
        raises.
        """
        return self._begun(self._commits.replace(records, drops, damaged))

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

    def look(self, pair: Pair, ranges: Sequence[Range], limit: int) -> Rows:
        """As `Records`."""
        step = _Step(limit, _STEP, _BYTES)
        records: dict[str, Record | Damage] = {}
        for whole, (after, upto) in enumerate(ranges):
            if whole and step.is_over:
                return Rows(records, whole)
            reached = self._look(pair, after, upto, step, records)
            if reached != upto:
                return Rows(records, whole, reached)
        return Rows(records, len(ranges))

    def between(self, pair: Pair, after: str, upto: str | None) -> list[str]:
        """As `Records`."""
        records: dict[str, Record | Damage] = {}
        self._look(pair, after, upto, _Step(inf, inf, inf), records)
        return list(records)

    def fingerprints(self, rows: Sequence[tuple[str, Record]]) -> list[int]:
        """As `Records`."""
        return self._engine.fingerprints(rows)

    def known(self, records: Mapping[str, Record | Damage]) -> dict[str, int]:
        """As `Records`."""
        under_way = self._by_key()
        rows = [
            (key, record)
            for key, record in records.items()
            if isinstance(record, Record) and record.value is not None and key not in under_way
        ]
        return dict(zip([key for key, _ in rows], self._engine.fingerprints(rows), strict=True))

    @property
    def compares(self) -> bool:
        """As `Records`."""
        return self._engine.sums is not None and self._engine.live >= _COMPARED

    def is_summed_up(self, after: str) -> bool:
        """As `Records`."""
        sums = self._engine.sums
        cell = position_of(after)[0] >> CELL_SHIFT
        return sums is None or sums.built >= min(cell + _AHEAD, CELLS)

    def sums(self, pair: Pair, after: str, without: Collection[str] = ()) -> Parts:
        """As `Records`: a part is a cell of `gkv.engine.sums`, with those before it that have no token of the list."""
        if self.placement is None:
            raise RuntimeError("no document is in force, so there are no lists")
        kept = self._engine.sums
        found, end = stretches(self.placement, pair, position_of(after)[0] >> CELL_SHIFT)
        pieces = iter(self._engine.sums_between([piece for _, _, some in found for piece in some]))
        cells: list[int] = []
        sums: list[int | None] = []
        for first, last, some in found:
            cells += range(first, last + 1)
            if some:
                sums.append(joined(list(islice(pieces, len(some)))))
            else:
                sums += [None] * (last - first + 1) if kept is None else kept.known(first, last)
        for token, _ in _positions(list({*self._by_key(), *without})):
            place = bisect_left(cells, token >> CELL_SHIFT)
            if place < len(cells) and cells[place] == token >> CELL_SHIFT:
                sums[place] = None
        reached = (CELLS if end is None else end) - 1
        if not cells or cells[-1] < reached:  # where there are no tokens of the list
            cells.append(reached)
            sums.append(0)
        return Parts(sums, Ends(cells))

    def buried(self, limit: int, after: tuple[int, str] = NOT_BURIED) -> tuple[list[str], tuple[int, str] | None]:
        """Return the keys of tombstones that are old enough to go, but for keys with a commit under way, and where to go on,
        None at the end. At most `limit` are looked at.
        """
        found = self._engine.buried(self._commits.forgets_until, limit, after)
        under_way = self._by_key()
        keys = [key for _, key in found if key not in under_way]
        return keys, found[-1] if len(found) == limit else None

    def _look(self, pair: Pair, after: str, upto: str | None, step: "_Step", records: dict[str, Record | Damage]) -> str | None:
        """Add the records of a list between two cursors; return the one at their end: `upto`, or less when the step is over."""
        if self.placement is None:
            raise RuntimeError("no document is in force, so there are no lists")
        at, end = position_of(after), END if upto is None else position_of(upto)
        self._by_key()
        self._order.refresh()
        begin: int | None = at[0]
        while begin is not None:
            start, begin = begin, None
            for arc in arcs(self.placement, *pair, start):
                if (arc.first, "") >= end:
                    break
                if step.has_no_time:
                    return cursor_of((arc.first, ""))
                step.time -= arc.cost
                reached, stop, known = max((arc.first, ""), at), min((arc.last + 1, ""), end), len(records)
                while arc.mine and reached < stop:
                    found, reached, size = self._some(reached, stop, int(min(step.keys, _AT_ONCE)), step.room)
                    records |= found
                    step.take(len(found), size)
                    if step.keys <= 0 or step.room < 0:
                        return cursor_of(reached)
                if arc.mine and len(records) == known and arc.last < _LAST:  # records are few: what is empty is not looked at
                    begin, size = self._next(arc.last + 1)
                    step.take(0, size)
                    break
        return upto

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

    def _some(
        self, after: Position, stop: Position, most: int, room: float
    ) -> tuple[Mapping[str, Record | Damage], Position, int]:
        """Return up to `most` records between two positions of one arc, the position that is reached, and the bytes of values
        that were looked at.
        """
        last = stop[0] if stop[1] else stop[0] - 1
        rows = self._engine.arc(after[0], last, after[1] or None, most, room)
        records = dict(rows)
        size = sum([_BESIDE + _size(record) for _, record in rows])
        reached = stop
        if rows and (len(rows) == most or size > room):  # there may be more
            reached = min(reached, _positions([rows[-1][0]])[0])
        under_way = self._order.between(after, reached)
        if under_way or stop[1]:
            ours = [key for _, key in under_way]
            for key, record in zip(ours, self.newest(ours), strict=True):
                if record is None:
                    records.pop(key, None)
                else:
                    records[key] = record
            found = [one for one in sorted(_positions(list(records))) if one <= reached]
            if len(found) > most:
                found = found[:most]
                reached = found[-1]
            records = {key: records[key] for _, key in found}
        return records, reached, size


@dataclass(slots=True)
class _Step:
    """What is left of one step: keys to be found, about so many us, and bytes of values to be looked at."""

    keys: float
    time: float
    room: float

    def take(self, keys: int, size: int) -> None:
        """Take away what a look into an arc costs."""
        self.keys -= keys
        self.time -= _LOOK + _ROW * keys
        self.room -= size

    @property
    def has_no_time(self) -> bool:
        return self.time <= 0 or self.room < 0

    @property
    def is_over(self) -> bool:
        return self.has_no_time or self.keys <= 0


def _size(record: Record | Damage) -> int:
    """Return the bytes of a value; as many as are ever looked at of a damaged one, which has as many as it likes."""
    if isinstance(record, Damage):
        return _BYTES
    return 0 if record.value is None else len(record.value)


def _after(found: Record | Damage | None, write: Write, place: int) -> Record | Damage | None:
    """Return what a write leaves of a record of the key at this place of it."""
    order = write.orders[place] if isinstance(write, Replacement) else write.version
    if order is None or isinstance(order, Damage):
        return order
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
        self._sorted: list[Position] = []
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

    def first(self, after: Position) -> Position | None:
        """Return the first one behind a position."""
        at = bisect_right(self._sorted, after)
        return self._sorted[at] if at < len(self._sorted) else None

    def between(self, after: Position, upto: Position) -> list[Position]:
        """Return those after one position and up to another."""
        if not self._sorted:
            return []
        return self._sorted[bisect_right(self._sorted, after) : bisect_right(self._sorted, upto)]


def _positions(keys: Sequence[str]) -> list[Position]:
    if not keys:
        return []
    return list(zip(struct.unpack(f">{len(keys)}Q", tokens(keys)), keys, strict=True))
