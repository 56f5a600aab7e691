"""The one order of the writes of a node's keys: whatever is written goes through here, and whoever
reads is told here what is the newest.

Promises: what `submit` has admitted is what the next read takes, settled or not; what is taken comes
with the writes that have to be settled before it may be told. A value that is due is never taken:
its tombstone is admitted first, in the same step as it is judged. Nothing is admitted but under the
document in force, by a process that acts under it. No call switches
greenlets.
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from math import inf

from gkv.cluster.view import View
from gkv.engine import Commits, Due, Engine, Pending
from gkv.model import Damage, Record, Value, Write
from gkv.node.due_clock import DueClock
from gkv.node.handler import not_admitted
from gkv.replication.expiry import is_due
from gkv.replication.names import Look, Scope, first_of, look
from gkv.replication.unsettled import Unsettled
from gkv.replication.versions import Versions

Newest = tuple[Record | Damage | None, Pending | None]
"""The newest admitted record of a key, and the write that brings it, unless it is settled."""


PlainOrRecord = bytes | Record | Damage | None
"""A JSON value that never expires, alone; the whole record of anything else; None where a key has none."""
_FEW = 16
"""Records that are read where some of many keys are on their way or due."""


class _Unread(Enum):
    """Stands where a value would, for a key that there was no room to read."""

    UNREAD = "unread"


_UNREAD = _Unread.UNREAD


class Order:
    """Admission of writes, and reads of the newest that was admitted."""

    def __init__(self, view: View, engine: Engine, commits: Commits, clock: DueClock) -> None:
        self._view = view
        self._engine = engine
        self._commits = commits
        self.versions = Versions()
        self.unsettled: Unsettled[Pending] = Unsettled()
        commits.on_over = self.unsettled.end
        self.clock = clock

    def submit(
        self,
        era: int,
        keys: Sequence[str],
        values: Sequence[Value | None],
        expires: Sequence[int] = (),
        *,
        now: int,
        counted: bool = False,
        after: Sequence[Pending] = (),
    ) -> Pending:
        """Admit a write under a document of this era; it was judged at `now`. Raise NotAdmitted, and as `Commits.submit`."""
        if era != self._view.admits:
            raise not_admitted(self._view, era)
        write = Write(self.versions.next(era), keys, values, expires, at=now)
        pending = self._commits.submit(write, counted=counted, after=after)
        if not pending.done:
            self.unsettled.admit(pending)
        return pending

    def values(self, keys: Sequence[str], era: int, room: float = inf) -> tuple[list[Value | Damage | None], set[Pending]]:
        """Take the newest values of keys, or of the first of them when they have more than `room` bytes; and all writes that
        have to be settled before they may be told.
        """
        while True:
            try:
                if not self.unsettled.touch(keys):
                    return self._engine.read(keys, self.clock.now(), room), set()
                return self._mixed_values(keys, room)
            except Due as due:
                self.expire(due.keys, era)

    def _mixed_values(self, keys: Sequence[str], room: float) -> tuple[list[Value | Damage | None], set[Pending]]:
        newest, now = self.unsettled.newest, self.clock.now()
        others = [key for key in keys if key not in newest]
        stored = iter(self._engine.read(others, now, room) if others else ())
        values: list[Value | Damage | None] = []
        waits: set[Pending] = set()
        due: list[str] = []
        for key in keys:
            pending = newest.get(key)
            if pending is None:
                value = next(stored, _UNREAD)
                if isinstance(value, _Unread):
                    break
                values.append(value)
                continue
            record = self.unsettled.record(pending, key)
            if is_due(record, now):
                due.append(key)
            values.append(record.value)
            if not pending.settled:
                waits.add(pending)
        if due:
            raise Due(due)
        return values, waits

    def records(self, keys: Sequence[str], era: int) -> tuple[list[Record | Damage | None], set[Pending]]:
        """As `values`, of whole records."""
        while True:
            waits: set[Pending] = set()
            if self.unsettled.touch(keys):
                found = self.newest(keys)
                records, waits = [record for record, _ in found], waited_for(found)
            else:
                records = self._engine.records_of(keys)
            now = self.clock.now()
            due = [key for key, record in zip(keys, records, strict=True) if isinstance(record, Record) and is_due(record, now)]
            if not due:
                return records, waits
            self.expire(due, era)

    def items(self, keys: Sequence[str], era: int, room: float = inf) -> tuple[list[PlainOrRecord], set[Pending]]:
        """As `values`, with the whole record of all but JSON values that never expire."""
        if not self.unsettled.touch(keys):
            items, now = self._engine.items_of(keys, room), self.clock.now()
            due = [key for key, one in zip(keys, items, strict=False) if isinstance(one, Record) and is_due(one, now)]
            if not due:
                return items, set()
            self.expire(due, era)
        records, waits = self.records(keys[:_FEW], era)
        return [*records], waits

    def newest(self, keys: Sequence[str]) -> list[Newest]:
        """Return the newest admitted record of each key, due or not."""
        newest = self.unsettled.newest
        others = [key for key in keys if key not in newest]
        stored = dict(zip(others, self._engine.records_of(others), strict=True)) if others else {}
        found: list[Newest] = []
        for key in keys:
            pending = newest.get(key)
            if pending is None:
                found.append((stored[key], None))
            else:
                found.append((self.unsettled.record(pending, key), None if pending.settled else pending))
        return found

    def look(self, scope: Scope, begin: str, limit: int) -> Look:
        """Look for the next names of a listing: keys whose newest record is not on the disk, or due, are to be asked for."""
        first = first_of(self.unsettled.newest, scope.prefix, begin)
        return look(scope, begin, limit, self._engine.keys, first, self._own, self.clock.now())

    def _own(self, keys: Sequence[str]) -> Sequence[str]:
        """Return those of keys that are this node's: after a change of the ring others' are here for a while."""
        placement, line = self._view.placement, self._view.line
        return keys if placement is None or line is None else placement.led_by(line.id, keys)

    def expire(self, keys: Iterable[str], era: int) -> Pending:
        """Admit the tombstones of values that are due. Raise as `submit`."""
        keys = list(dict.fromkeys(keys))
        return self.submit(era, keys, [None] * len(keys), now=self.clock.now(), counted=True)


def waited_for(found: Iterable[Newest]) -> set[Pending]:
    """Return the writes that have to be settled before these records may be told."""
    return {pending for _, pending in found if pending is not None}
