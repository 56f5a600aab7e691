"""All that can happen to a member's machines. Time comes beside an event, in seconds of a clock that nobody sets."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from gkv.duties import Duties, Roles
from gkv.model import Damage, Effect, Record, Value
from gkv.replication.admission import Verdict
from gkv.replication.messages import Message

Judge = Callable[[int, Record | Damage | None, int], Verdict]
"""Decides about a key of a write by its place in the request, the newest record, and the time of day in ms."""
Pair = tuple[tuple[str, ...], tuple[str, ...]]
"""The identity of a list over all epochs: its members, and those by the ring that is to come."""


def pair_of(roles: Roles) -> Pair:
    """Return the identity of the list whose roles these are."""
    return roles.preference, roles.coming


@dataclass(frozen=True, slots=True)
class Adopted:
    """A document is on this member's disk, and in force from now on."""

    duties: Duties


@dataclass(frozen=True, slots=True)
class Received:
    """A member said something. `era` and `incarnation` are the speaker's, from its header."""

    sender: str
    incarnation: int
    era: int
    message: Message


@dataclass(frozen=True, slots=True)
class Committed:
    """What an action `Commit` or `Replace` handed over is on the disk."""

    token: int
    effects: Sequence[Effect] = ()
    """What a write did to each of its keys, where that is known."""


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """It is not, and never will be. `full`: there was no room, and nothing else is wrong."""

    token: int
    full: bool = False


@dataclass(frozen=True, slots=True)
class NoteKept:
    """The note `granted` is on the disk now, or is gone from there, as an action `KeepNote` asked."""

    there: bool


@dataclass(frozen=True, slots=True)
class ReadAsked:
    """A client wants the newest records of keys."""

    client: Hashable
    keys: Sequence[str]
    deadline: float


@dataclass(frozen=True, slots=True)
class Plain:
    """A write whatever is there: for each key its value, None to delete it. `ttls` has for each how many ms it lasts, 0 for
    ever, or is empty when all do.
    """

    values: Sequence[Value | None]
    ttls: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class WriteAsked:
    """A client's write: keys, no key twice, and what is written, or what decides that on what is there."""

    client: Hashable
    keys: Sequence[str]
    what: Plain | Judge
    deadline: float


@dataclass(frozen=True, slots=True)
class HandOver:
    """All that came at the same moment has been taken in: what was admitted goes to the granters and to the own commit
    (`Replica.has_new`).
    """


@dataclass(frozen=True, slots=True)
class DueFound:
    """The sweeper has found values that may be due."""

    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class DamageFound:
    """A look at the records has found damaged ones, or that there is none though one was written and not deleted."""

    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class LeasesWanted:
    """Reads come all the time: leases that soon run out are to be asked for, so that no read has to wait for one."""


@dataclass(frozen=True, slots=True)
class LeasesAsked:
    """A client waits until `Replica.reads_until` lets it look for all keys that this process is the primary of: until those
    lists are open, and every granter has given a lease. It is told as of a key that is read.
    """

    client: Hashable
    deadline: float


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """The authority plans a move of these lists (A7)."""

    plan: int
    era: int
    lists: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class GoOn:
    """The authority has given a plan up."""

    plan: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    """SIGTERM."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    Adopted
    | Received
    | Committed
    | CommitFailed
    | NoteKept
    | ReadAsked
    | WriteAsked
    | HandOver
    | DueFound
    | DamageFound
    | LeasesWanted
    | LeasesAsked
    | PauseAsked
    | GoOn
    | StopAsked
    | Tick
)
