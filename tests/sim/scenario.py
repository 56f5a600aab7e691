"""What a run is made of, as plain values: the same scenario always makes the same run.

Times are seconds of the world since its beginning.
"""

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum, StrEnum

from tests.linearizability.history import Kind

AUTHORITY = "A"
"""The authority's name in faults and rules of the network."""
PRIMARY = "primary"
"""Stands for whoever is the primary of the first key when a fault comes, by the authority's document."""
EVERYBODY = "*"


class What(StrEnum):
    """What happens to a process, a disk or a connection. `Fault.lasts` says when it is over, where it can be."""

    CRASH = "crash"
    """The process ends at once, and is started again on its directory; with `much` the authority knows that it ended."""
    CRASH_OLD = "crash, back with an older directory"
    CRASH_EMPTY = "crash, back with an empty directory"
    STOP = "orderly stop"
    """SIGTERM; it is started again so long after its end."""
    PAUSE = "pause"
    CUT = "cut"
    """What `on` sends to `to` is lost."""
    CUT_BOTH = "cut both ways"
    BREAK = "connections break"
    AWAY = "authority away"
    SLOW_DISK = "slow disk"
    """Each commit takes `much` seconds longer."""
    FAILING_DISK = "failing disk"
    """The next commit fails with an I/O error."""
    FULL_DISK = "full disk"
    """Values that a primary sends do not find room; its own always do, as it reserves it first."""
    AT_PLAN = "at the next plan"
    """`to` names the fault of the member that the next plan is sent to, `much` seconds after that."""
    LOSS = "loss"
    """So much of what is sent anywhere is lost."""
    WALL = "wall clock jumps"
    """By `much` seconds."""
    SNAPSHOT = "snapshot"
    """The directory as it is now is the older one later on."""
    ACCEPT_LOSS = "accept loss"
    """An operator's word about a member."""
    COMPLAIN = "complaint"
    """`on` complains of `to`, without a reason."""
    RESIZE = "the ring that is to come has `on` if it has not, and else not"
    REMOVE = "removal"
    """An operator's word about a member that is down."""
    DAMAGE = "damage"
    """The bytes of a member's record of the key of place `much` are not what was written."""
    LOSE = "lost record"
    """Nor are those of its key, so that a look at all records does not find it. By a written schedule alone: who learns
    without the key cannot ask for it, and is promoted.
    """
    UNDO = "the change of the ring is taken back"
    REPLACE = "`to` takes the place of `on` in the ring"
    COPIES = "the ring that is to come has `much` copies of each record"
    HOLD = "the change of the ring is paused"
    """For as long as it `lasts`."""
    HEAL = "all is healed"


class Expects(StrEnum):
    """What the condition of a write names."""

    NOTHING = ""
    SEEN = "seen"
    """The version that clients have seen last of the key, no value if they saw none."""
    OLD = "old"
    """The version that they saw before that one."""
    ABSENT = "absent"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Call:
    """A client asks a proxy for something. A value is told from all others by its call's place in the scenario."""

    at: float
    proxy: int
    kind: Kind
    key: int
    expects: Expects = Expects.NOTHING
    also: tuple[int, ...] = ()
    """Other keys of a batch."""
    ttl: float = 0
    within: float = 3.0
    """Seconds after which the client asks no more."""
    client: int = 0
    """Calls of one client wait for each other; those of client 0 do not."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something breaks."""

    at: float
    what: What
    on: str = ""
    to: str = EVERYBODY
    lasts: float = 0
    """Seconds until it is over; 0 for one that is never, or only with `HEAL`."""
    much: float = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of messages of one kind between two processes in a time: they are lost, or take longer, or come twice."""

    since: float
    until: float
    kind: str = EVERYBODY
    src: str = EVERYBODY
    dst: str = EVERYBODY
    lost: bool = False
    takes: float = 0
    """Seconds that one takes, in place of the ordinary ones; 0 for those."""
    again: float = 0
    """Seconds after which a copy of it comes as well; 0 for none."""


@dataclass(frozen=True, slots=True)
class Commits:
    """The commits that a member begins in a time take so long."""

    since: float
    until: float
    on: str
    takes: float


@dataclass(frozen=True, slots=True)
class Setup:
    """The cluster as it begins: all members are up, with empty directories."""

    nodes: int = 3
    """Members are n0, n1 and so on."""
    outside: int = 0
    """The last of them so many are members that the ring does not have."""
    copies: int = 3
    min_in_sync: int = 0
    """0: the default."""
    proxies: int = 2
    lists: tuple[str, ...] = ("012", "012")
    """For each key how its list begins, a digit for each node. Keys are k0.., k1.. and so on."""
    rates: tuple[float, ...] = ()
    """Of the members' clocks; 1 where there is none."""
    walls: tuple[float, ...] = ()
    """Seconds by which their wall clocks are ahead."""
    replica_timeout: float = 1.0
    silent_after: float = 1.0
    tombstone_ttl: float = 600.0
    vnodes: int = 8
    is_async: bool = False
    """Durability: what is acknowledged is in memory, and on the disk soon after."""
    turn: float = 0.0
    """Seconds for which admitted writes wait for others to go to the granters with them; 0: each goes alone."""
    disk_timeout: float = 10.0
    compares: bool = False
    """Whether learners compare sums before they ask for records."""
    fill_rate: float = 0.0
    """Records a second that a primary gives to learners; 0: as many as they ask for."""
    scrub_every: float = 0.0
    """Seconds after which a member has looked at all its records again; 0: it never does."""


Quirk = tuple[float, ...]
"""How long something takes that is no ordinary one: of a message that of each of its copies, none if it is lost."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A run."""

    setup: Setup = field(default_factory=Setup)
    calls: tuple[Call, ...] = ()
    faults: tuple[Fault, ...] = ()
    rules: tuple[Rule, ...] = ()
    commits: tuple[Commits, ...] = ()
    quirks: tuple[tuple[str, int, Quirk], ...] = ()
    """What was decided by lot: where, the how manieth decision there, and what."""
    heal_at: float = 8.0
    end_at: float = 40.0
    """The time by which all must be quiet."""
    accepts: bool = False
    """Whether an operator accepts all losses in the end."""


def written(value: object) -> str:
    """Return the Python that makes a scenario, or a part of one, with the fields that are not the ordinary ones.

    >>> written(Call(1.5, 0, Kind.PUT, 0, also=(1,)))
    'Call(1.5, 0, Kind.PUT, 0, also=(1,))'
    """
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(written, value)) + ("," if len(value) == 1 else "") + ")"
    if not is_dataclass(value):
        return repr(value)
    told = []
    for one in fields(value):
        found = getattr(value, one.name)
        if one.default is MISSING and one.default_factory is MISSING:
            told.append(written(found))
        elif found != (one.default if one.default_factory is MISSING else one.default_factory()):
            told.append(f"{one.name}={written(found)}")
    return f"{type(value).__name__}({', '.join(told)})"
