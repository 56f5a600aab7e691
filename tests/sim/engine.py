"""The disk of one process of a member, and what its machine sees of it: commits and small files, which take time, one after
another. A crash loses what is under way.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from gkv.cluster import placement
from gkv.model import Damage, Effect, Record, Version, Write
from gkv.replication import actions, events
from gkv.replication.expiry import is_due
from gkv.replication.records import Parts, Range, Rows
from tests.sim import rules
from tests.sim.disk import Directory, Disk, Mark, merged

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.world import World

COMMIT = 0.002
"""Seconds that a commit ordinarily takes."""
KEEP = 0.001
"""Seconds that a note or a document ordinarily takes to the disk."""
_MOST_IN_MEMORY = 5
NOBODYS = -1
"""The token of commits that no machine asks for."""
Changes = Sequence[tuple[str, Record | None, bool, bool]]
"""Keys, what is to be there, whether that is so whatever the versions say, and also where the record is damaged. No record:
dropped.
"""


class Engine:
    """It is the `Records` of the machine, too."""

    forced = True
    """Whether what fills a learner takes the place of what is there whatever the versions say."""

    def __init__(self, world: "World", member: "Member", directory: Directory) -> None:
        self._world = world
        self._member = member
        self.directory = directory
        self._disk = Disk(directory)
        self._files = Disk(directory)
        self._disk_free = self._files_free = 0.0
        self._staged: dict[str, list[Record | Damage | None]] = {}
        """By key, what the commits under way make of it."""
        self._buried: dict[str, float] = {}
        """By key, since when this process has had a tombstone on its disk."""
        self._in_memory: deque[dict[str, Record]] = deque(maxlen=_MOST_IN_MEMORY)
        """With durability "async", the records before each of the last commits, which a crash may lose."""

    @property
    def busy(self) -> bool:
        """Whether a commit is under way."""
        return bool(self._disk.busy)

    @property
    def tombstone_ttl(self) -> float:
        """Seconds for which a tombstone stays."""
        return self._world.setup.tombstone_ttl

    def crash(self) -> None:
        """Lose what is under way, but for what had reached the disk."""
        chance, name = self._world.chance, self._member.id
        self._disk.crash(chance.below(f"{name} commits", self._disk.busy + 1))
        self._files.crash(chance.below(f"{name} files", self._files.busy + 1))
        if self._world.setup.is_async:
            for _ in range(chance.below(f"{name} memory", len(self._in_memory) + 1)):
                self.directory.records = self._in_memory.pop()
                self.directory.damaged |= {key for key, one in self.directory.records.items() if isinstance(one, Mark)}

    def close(self) -> None:
        """End what is under way."""
        self._disk.crash(self._disk.busy)
        self._files.crash(self._files.busy)

    # -- changes

    def commit(self, action: actions.Commit) -> None:
        """Merge a write by its order."""
        self.change(action.token, _by_order(action.write))

    def replace(self, action: actions.Replace) -> None:
        """Put records in the place of others. A mark stands for all that is settled, and for the primary's damaged record."""
        found: list[tuple[str, Record | None]] = [*action.records, *[(key, None) for key in action.drops]]
        found += [(key, Mark(max(self._marked(key)), b"")) for key in action.damaged]
        self.change(action.token, [(key, record, self.forced, True) for key, record in found])

    def _marked(self, key: str) -> Iterable[Version]:
        yield self._world.facts.settled.get(key, Version(0, 0))
        primary = self._member.roles_of(key).primary
        record = None if primary is None else self._world.members[primary].directory.records.get(key)
        if record is not None:
            yield record.version

    def change(self, token: int, changes: Changes) -> None:
        """Begin a commit; the machine is told of its end."""
        member, world = self._member, self._world
        full = member.full and self._needs_room(changes)
        fails, member.failing = member.failing or full, False
        staged = [] if fails else self._stage(changes)
        effects: list[Effect] = []
        self._disk.begin(lambda directory: None if fails else effects.extend(self._apply(directory, changes)))

        def done() -> None:
            self._disk.end()
            for key in staged:
                self._staged[key].pop(0)
                if not self._staged[key]:
                    del self._staged[key]
            for key, _, _, _ in changes:
                rules.kept(world, member, key)
            event = events.CommitFailed(token, full) if fails else events.Committed(token, effects)
            member.run(lambda: member.handle(event))

        takes = member.slow + world.commit_takes(member.id, COMMIT)
        self._disk_free = max(world.now, self._disk_free) + takes
        self._sync(self._disk_free, done)

    def _apply(self, directory: Directory, changes: Changes) -> list[Effect]:
        if self._world.setup.is_async:
            self._in_memory.append(dict(directory.records))
        return _apply(directory, changes)

    def _needs_room(self, changes: Changes) -> bool:
        """Return whether there is a value among what comes."""
        return any(
            record is not None and record.value is not None and not isinstance(record, Mark) for _, record, _, _ in changes
        )

    def _stage(self, changes: Changes) -> list[str]:
        """Note what a commit is going to leave; return its keys."""
        buried = self._world.facts.buried
        staged = []
        for key, record, forced, repairs in changes:
            newest = self._newest(key)
            if newest is Damage.DAMAGED:
                takes = repairs
            else:
                takes = forced or newest is None or record is None or newest.version <= record.version
            if takes:
                self._staged.setdefault(key, []).append(Damage.DAMAGED if isinstance(record, Mark) else record)
                staged.append(key)
            if record is not None and record.value is None:
                buried[key] = max(record.version, buried.get(key, record.version))
        return staged

    def _sync(self, at: float, done: Callable[[], None]) -> None:
        """Have something done at a time, also in a pause: disks do not pause."""
        self._world.scheduler.at(at, lambda: done() if self._member.alive and self._member.engine is self else None)

    def keep(self, change: Callable[[Directory], None], then: Callable[[], None]) -> None:
        """Write a small file, and go on when it is on the disk."""
        member, world = self._member, self._world

        def done() -> None:
            self._files.end()
            member.run(then)

        self._files.begin(change)
        takes = member.slow + world.chance.duration(f"{member.id} file", KEEP)
        self._files_free = max(world.now, self._files_free) + takes
        self._sync(self._files_free, done)

    # -- what is there

    def _newest(self, key: str) -> Record | Damage | None:
        staged = self._staged.get(key)
        return staged[-1] if staged else self._kept(key)

    def _kept(self, key: str) -> Record | Damage | None:
        return Damage.DAMAGED if key in self.directory.damaged else self.directory.records.get(key)

    def has_room(self, _size: int, _keys: int) -> bool:
        """Return whether there is room for values; what is under way may find none all the same."""
        return not self._member.full

    def committed(self, keys: Iterable[str]) -> list[Record | Damage | None]:
        """Return the record of each key that is on the disk."""
        return [self._kept(key) for key in keys]

    def newest(self, keys: Iterable[str]) -> list[Record | Damage | None]:
        """Return the record of each key as the commits under way will leave it."""
        return [self._newest(key) for key in keys]

    def look(self, pair: events.Pair, ranges: Sequence[Range], _limit: int) -> Rows:
        """Return the records of a list in some ranges; they are always few."""
        keys: list[str] = []
        for after, upto in ranges:
            keys += self.between(pair, after, upto)
        newest = zip(keys, self.newest(keys), strict=True)
        return Rows({key: record for key, record in newest if record is not None}, len(ranges))

    def fingerprints(self, rows: Sequence[tuple[str, Record]]) -> list[int]:
        """Return the fingerprints of records."""
        told = [f"{key} {record.version} {record.tag} {record.expires}" for key, record in rows]
        return [int.from_bytes(blake2b(one.encode(), digest_size=8).digest(), "big") for one in told]

    def known(self, records: Mapping[str, Record | Damage]) -> dict[str, int]:
        """Return the fingerprints of what is on the disk and stays."""
        rows = [(key, one) for key, one in records.items() if isinstance(one, Record) and one.value and key not in self._staged]
        return dict(zip([key for key, _ in rows], self.fingerprints(rows), strict=True))

    @property
    def compares(self) -> bool:
        """Whether sums are compared."""
        return self._world.setup.compares

    def is_summed_up(self, _after: str) -> bool:
        """Return whether the sums are there, which they always are."""
        return True

    def sums(self, pair: events.Pair, after: str, without: Collection[str] = ()) -> Parts:
        """Return the next two parts of a list; there is one for each key that there can be, and one behind them."""
        ends = [key for key in sorted(self._world.keys) if key > after and events.pair_of(self._member.roles_of(key)) == pair]
        sums: list[int | None] = []
        for key in ends[:2]:
            record = self._kept(key)
            is_known = key not in self._staged and key not in without and not isinstance(record, Damage)
            live = [(key, record)] if isinstance(record, Record) and record.value is not None else []
            sums.append(sum(self.fingerprints(live)) if is_known else None)
        return Parts(sums, ends[:2]) if len(ends) > 2 else Parts([*sums, 0], [*ends, None])

    def between(self, pair: events.Pair, after: str, upto: str | None) -> list[str]:
        """Return all keys of a list after one and up to another."""
        keys = [
            key for key in sorted({*self.directory.records, *self._staged}) if key > after and (upto is None or key <= upto)
        ]
        pair_of, roles_of = events.pair_of, self._member.roles_of
        hidden = self.directory.lost.difference(self._staged)
        return [key for key in keys if key not in hidden and self._newest(key) and pair_of(roles_of(key)) == pair]

    # -- tidiness

    def tidy(self) -> None:
        """Drop what is not this member's, let old tombstones go, and find values that are due."""
        member = self._member
        replica, now, wall = member.replica, member.clock.boot(), member.clock.wall()
        records = {key: record for key, record in self.directory.records.items() if key not in self.directory.damaged}
        self._buried = {key: self._buried.get(key, now) for key, record in records.items() if record.value is None}
        old = [key for key, since in self._buried.items() if now - since >= self.tombstone_ttl and replica.may_forget(key)]
        duties = member.duties if replica.desk.serves else None
        others = [
            key
            for key in self.directory.records
            if duties is not None and placement.is_strange(duties.roles_of(key), duties.me)
        ]
        due = [key for key, record in records.items() if is_due(record, wall)]
        if old or others:
            self.change(NOBODYS, [(key, None, True, True) for key in dict.fromkeys([*old, *others])])
        if due:
            member.handle(events.DueFound(due))


def _apply(directory: Directory, changes: Changes) -> list[Effect]:
    """Change the records; return for each key whether its record was damaged."""
    records = directory.records
    effects = [Effect.DAMAGED if key in directory.damaged else Effect.REPLACED for key, _, _, _ in changes]
    for key, record, forced, repairs in changes:
        if key in directory.damaged and not repairs:
            continue
        if forced and record is None:
            records.pop(key, None)
        elif record is not None and (forced or key in directory.damaged or merged(records, key, record)):
            records[key] = record
        else:
            continue
        (directory.damaged.add if isinstance(record, Mark) else directory.damaged.discard)(key)
        directory.lost.discard(key)
    return effects


def _by_order(write: Write) -> Changes:
    """Return what a write makes of its keys, to be merged by order."""
    expires = write.expires or (0,) * len(write.keys)
    tags = write.tags or (None,) * len(write.keys)
    return [
        (key, Record(write.version, value, due, tag), False, write.repairs)
        for key, value, due, tag in zip(write.keys, write.values, expires, tags, strict=True)
    ]
