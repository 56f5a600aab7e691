"""The duties that a document gives to each member: values that `cluster` makes and `replication` lives by."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from gkv.model import era_of
from gkv.pace import USUAL_PACE, Pace


class Roles(NamedTuple):  # not a dataclass: a large ring has 65,000, and each took 1 us to make
    """The roles of members for the keys of one list, at one epoch. Nodes are named by their ids.

    The pair of `preference` and `coming` is the list's name over all epochs.
    """

    preference: tuple[str, ...]
    """The nodes that are to hold the keys, in order."""
    coming: tuple[str, ...] = ()
    """Those that are to hold them by the ring that is to come; () while there is none."""
    primary: str | None = None
    """The first of the acting ones: it orders the writes and answers reads. None when nobody acts."""
    acting: tuple[str, ...] = ()
    """Those whose copies count."""
    learners: tuple[str, ...] = ()
    """Those that get every write, and whose copies do not count yet."""

    @property
    def granters(self) -> tuple[str, ...]:
        """Those that a write of the primary waits for, and whose leases its reads need."""
        return self.acting[1:] + self.learners

    def has(self, member: str) -> bool:
        """Return whether a member is in the list, or will be."""
        return member in self.preference or member in self.coming


class Fault(StrEnum):
    """The thing that a member complains of about another."""

    SILENT = "silent"
    """The connection is broken, or nothing came back for the replica timeout."""
    SLOW_DISK = "slow-disk"
    """It answers, but a commit of its has run for longer than the disk timeout. A shorter one is shown, and no complaint."""
    FULL = "full"
    """Its disk is full. Of one that acts that is no complaint: its primary refuses writes instead."""


@dataclass(frozen=True, slots=True)
class Line:
    """The line of a member in a document, as far as other members' doings depend on it."""

    incarnation: int
    down: bool = False
    since: int = 1
    empty: bool = False
    first: bool = False
    """Whether no process before the one of now has ever been up under this line, or what those may have granted has run out."""


@dataclass(frozen=True, slots=True)
class Duties:
    """All that a member's machines know of one document. They never see a ring."""

    me: str
    order: tuple[int, int]
    """Generation and epoch."""
    lines: Mapping[str, Line]
    roles: tuple[Roles, ...]
    """One for each list that there is."""
    lists_of: Callable[[Sequence[str]], Sequence[int]]
    """The place of each key's list in `roles`."""
    lease: float = 1.0
    """Seconds."""
    min_in_sync: int = 1
    ring: Hashable = None
    """Stands for the ring that lists are made of; equal for equal rings."""
    next: Hashable = None
    """The same for the ring that is to come, None while there is none."""
    next_since: int = 0
    """The epoch since which that is so."""
    ended: frozenset[int] = frozenset()
    """Incarnations of processes that have certainly ended."""
    pace: Pace = USUAL_PACE
    own: tuple[Roles, ...] = field(init=False, compare=False, repr=False)
    """The roles of those lists that this member is in, or will be: of 1,000 members each has one in 300."""

    def __post_init__(self) -> None:
        own = tuple([one for one in self.roles if one.has(self.me)])
        object.__setattr__(self, "own", own)  # the one way in a frozen dataclass

    @property
    def era(self) -> int:
        return era_of(*self.order)

    def roles_of(self, key: str) -> Roles:
        """Return who does what for a key."""
        return self.roles[self.lists_of((key,))[0]]

    def all_roles_of(self, keys: Sequence[str]) -> list[Roles]:
        """Return who does what for some keys: the roles of each list that one of them has, once. 0.1 us a key."""
        roles = self.roles
        return [roles[place] for place in set(self.lists_of(keys))]

    def only(self, keys: Sequence[str], wanted: Callable[[Roles], bool]) -> Sequence[str]:
        """Return the keys whose roles are `wanted`: these very keys if that is so for all."""
        lists, roles = self.lists_of(keys), self.roles
        unwanted = {place for place in set(lists) if not wanted(roles[place])}
        return [key for key, place in zip(keys, lists, strict=True) if place not in unwanted] if unwanted else keys

    def incarnation_of(self, member: str) -> int | None:
        """Return the incarnation of a member that is not down, None for anybody else."""
        line = self.lines.get(member)
        return None if line is None or line.down else line.incarnation
