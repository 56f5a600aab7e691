"""The records of a member as its machines look at them: on its disk, and in the commits under way.

Promises: what is looked at is what the commits under way will leave, writes merged by their order
and replacements whatever the versions say. Nothing here waits or switches greenlets, and no call
takes longer than some 3 ms, whatever the engine holds. Cursors are texts: 16 hexadecimal digits of
a token, and a key.
"""

from collections.abc import Sequence

from gkv.cluster.placement import Placement
from gkv.engine import Commits, Engine, Pending
from gkv.errors import EngineFull, SnapshotRunning
from gkv.model import Damage, Record, Version, Write
from gkv.replication.events import Pair, pair_of


class Stored:
    """`gkv.replication.records.Records` over an engine and the one who writes to it."""

    def __init__(self, engine: Engine, commits: Commits) -> None:
        """All that is written must go through `write` and `replace`."""
        self._engine = engine
        self._commits = commits
        self._staged: dict[str, list[tuple[Pending, Record | None]]] = {}
        self.placement: Placement | None = None
        """That of the document in force; whoever adopts another document sets it."""

    # --- changes ----------------------------------------------------------------------------------------------------------

    def write(self, write: Write) -> Pending:
        """Hand a write to the group commit, which merges by order. Raise what `Commits.submit` raises."""
        pending = self._commits.submit(write, copied=True)
        if not pending.done:
            for key, record in zip(write.keys, _records(write), strict=True):
                newest = self.newest((key,))[0]
                if not isinstance(newest, Record) or newest.version <= record.version:
                    self._staged.setdefault(key, []).append((pending, record))
        return pending

    def replace(self, records: Sequence[tuple[str, Record]], drops: Sequence[str]) -> Pending:
        """Have records take the place of what is there, and keys dropped. Raise what `Commits.replace` raises."""
        pending = self._commits.replace(records, drops)
        if not pending.done:
            for key, record in [*records, *[(key, None) for key in drops]]:
                self._staged.setdefault(key, []).append((pending, record))
        return pending

    def over(self, group: Sequence[Pending]) -> None:
        """Note that commits are over, before the machines hear of it. To be called with all that `Commits.on_over` tells."""
        for pending in group:
            for key in pending.write.keys:
                staged = [one for one in self._staged.get(key, ()) if one[0] is not pending]
                if staged:
                    self._staged[key] = staged
                else:
                    self._staged.pop(key, None)

    # --- what is there ----------------------------------------------------------------------------------------------------

    def touch(self, keys: Sequence[str]) -> bool:
        """Return whether a commit of any of these keys is under way."""
        return bool(self._staged) and not self._staged.keys().isdisjoint(keys)

    def has_room(self, size: int, keys: int) -> bool:
        """As `Records`."""
        try:
            self._commits.admit(Write(Version(0, 0), ["k"] * keys, [b"1" * size, *[b""] * (keys - 1)]))
        except (EngineFull, SnapshotRunning):
            return False
        return True

    def newest(self, keys: Sequence[str]) -> list[Record | Damage | None]:
        """As `Records`."""
        found = self._engine.records_of(keys)
        return [self._staged[key][-1][1] if key in self._staged else record for key, record in zip(keys, found, strict=True)]

    def walk(self, pair: Pair, after: str, limit: int) -> tuple[list[str], str | None]:
        """As `Records`."""
        keys = self.between(pair, after, None)
        return (keys, None) if len(keys) <= limit else (keys[:limit], keys[limit - 1])

    def between(self, pair: Pair, after: str, upto: str | None) -> list[str]:
        """As `Records`."""
        placement = self.placement
        if placement is None:
            return []
        keys = {key for key, _ in self._engine.arc(0, (1 << 64) - 1, None, 1 << 30)} | self._staged.keys()
        within = [key for key in sorted(keys) if key > after and (upto is None or key <= upto)]
        return [key for key in within if pair_of(placement.roles[placement.list_of(key)]) == pair and self.newest((key,))[0]]

    def buried(self, limit: int, after: tuple[int, str]) -> list[tuple[int, str]]:
        """Return old tombstones as `Engine.buried` does, but those of keys with a commit under way."""
        until = self._commits.forgets_until
        found = self._engine.buried(until, limit, after) if until >= 0 else []
        return [one for one in found if one[1] not in self._staged]


def _records(write: Write) -> list[Record]:
    expires = write.expires or (0,) * len(write.keys)
    tags = write.tags or (None,) * len(write.keys)
    return [Record(write.version, *one) for one in zip(write.values, expires, tags, strict=True)]
