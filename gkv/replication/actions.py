"""All that a member's machines can want of their process. The order within one answer is the order
in which they are to be begun.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum

from gkv.duties import Fault
from gkv.model import Effect, Record, Version, Write
from gkv.replication.admission import Verdict
from gkv.replication.messages import Message


class Fate(Enum):
    """The outcome of one key of a client's request."""

    READ = "read"
    """`record` is what is there."""
    WRITTEN = "written"
    """Acknowledged: on the disk of every copy that counts."""
    NOTHING = "nothing"
    """The judgement was that nothing is to be written; `verdict` says why, and is as good as a read."""
    INDETERMINATE = "indeterminate"
    """It may show up now, later or never."""
    NOT_BEGUN = "not-begun"
    """Nothing was begun: to be routed anew."""
    LATE = "late"
    """Nothing was begun, and the request's deadline is over."""
    TOO_FEW_COPIES = "too-few-copies"
    """Nothing was begun: fewer copies act than a write has to be on."""
    FULL = "full"
    """Nothing was begun: the disk of `member`, a granter or this process itself, is full."""
    BUSY = "busy"
    """Nothing was begun: too much waits already."""
    DAMAGED = "damaged"
    """The record cannot be read, and no copy of it could be had. Nothing was begun."""


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """The answer about one key."""

    fate: Fate
    record: Record | None = None
    """Of a read what is there, and of a write what was there when it was admitted, if that was asked for."""
    verdict: Verdict | None = None
    member: str = ""
    effect: Effect | None = None
    """Of a key that is written, what that did to it; None if it was acknowledged before its own disk had it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A client's request is answered; exactly one for each."""

    client: Hashable
    keys: tuple[KeyAnswer, ...]
    version: Version | None = None
    """Of the write, if one was begun."""
    effects: Sequence[Effect] = ()
    """Its effect on each key, in place of `keys`: of a write whatever was there, all of which is acknowledged."""

    @property
    def each(self) -> Sequence[KeyAnswer]:
        """The answer about each key."""
        return [KeyAnswer(Fate.WRITTEN, effect=effect) for effect in self.effects] if self.effects else self.keys


@dataclass(frozen=True, slots=True)
class Send:
    """A message goes to a member, with this epoch and the process's incarnation in its header."""

    to: str
    era: int
    message: Message


@dataclass(frozen=True, slots=True)
class Commit:
    """A write is handed to the group commit, which merges by order. `Committed` or `CommitFailed` follows."""

    token: int
    write: Write


@dataclass(frozen=True, slots=True)
class Replace:
    """Records take the place of what is there whatever the versions say, keys are dropped, and others read as damaged (L4).

    Takes its turn among the commits; `Committed` or `CommitFailed` follows.
    """

    token: int
    records: tuple[tuple[str, Record], ...]
    drops: tuple[str, ...]
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeepNote:
    """The durable note `granted` is to be there, or to go. `NoteKept` follows."""

    there: bool


@dataclass(frozen=True, slots=True)
class Complain:
    """The authority is to be told that a member does not do its part (A2). Said again while it lasts."""

    member: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Fetch:
    """A member speaks under a later epoch: its document is to be had, put on the disk, and adopted."""

    member: str
    era: int


@dataclass(frozen=True, slots=True)
class Report:
    """The authority is to be told at this epoch which lists are equal to their primaries' (A4, A5)."""

    era: int
    filled: bool
    """All lists that this member is in."""
    coming: bool
    """All lists that it is in by the ring that is to come."""


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing is under way in the lists of a plan, and nothing begins (A7)."""

    plan: int
    era: int


@dataclass(frozen=True, slots=True)
class Leave:
    """The authority is to be asked for this process's eviction (SIGTERM)."""

    era: int


@dataclass(frozen=True, slots=True)
class End:
    """The process is to end."""

    why: str


Action = Answer | Send | Commit | Replace | KeepNote | Complain | Fetch | Report | Paused | Leave | End
