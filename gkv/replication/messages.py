"""The words of members to each other about copies. All frozen; a header has the speaker's
incarnation and the epoch of its document.

Whatever asks has a number of its process, and its answer repeats it; what is said unasked has 0. All of them may be lost,
come twice, or late.
"""

from dataclasses import dataclass

from gkv.model import Damage, Record, Version, Write


@dataclass(frozen=True, slots=True)
class Copy:
    """A primary hands writes to a granter, each with the keys that this one copies (W3), and tells
    which writes are settled (W5).
    """

    number: int
    writes: tuple[Write, ...] = ()
    settled: tuple[Version, ...] = ()


@dataclass(frozen=True, slots=True)
class Copied:
    """The writes are on the granter's disk (W4). Grants a lease, as all answers but `Working` do."""

    number: int
    versions: tuple[Version, ...] = ()
    full: bool = False
    """Whether that disk has no room for values now (W1)."""


@dataclass(frozen=True, slots=True)
class Working:
    """The writes have arrived; the oldest commit has been running for so long (A2)."""

    number: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Full:
    """There is no room for the writes on the granter's disk. Grants nothing."""

    number: int


@dataclass(frozen=True, slots=True)
class AskUnsettled:
    """Who takes over asks for all unsettled keys whose primary it is now (T1)."""

    number: int


@dataclass(frozen=True, slots=True)
class UnsettledKeys:
    """The answer."""

    number: int
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AskLease:
    """A primary has a read and no lease."""

    number: int


@dataclass(frozen=True, slots=True)
class Granted:
    """The answer."""

    number: int
    full: bool = False
    """As of `Copied`."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Asks for nothing but the epoch that a member is at, which comes with any answer (T2). Anybody may, and is answered
    by anybody who has a document: also by a process that is down.
    """

    number: int


@dataclass(frozen=True, slots=True)
class HelloBack:
    """The answer; it grants nothing. A process that ends says it to all, unasked."""

    number: int


@dataclass(frozen=True, slots=True)
class AskSums:
    """A learner asks for the sums of the next parts of a list, after a cursor (L1)."""

    number: int
    preference: tuple[str, ...]
    coming: tuple[str, ...]
    after: str
    """Empty for the first ones."""


@dataclass(frozen=True, slots=True)
class Sums:
    """The answer: what `gkv.replication.records.Parts.sums` has. A sum is of settled records alone."""

    number: int
    sums: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class AskPage:
    """A learner asks for the records of a list in some ranges (L3)."""

    number: int
    preference: tuple[str, ...]
    coming: tuple[str, ...]
    ranges: tuple[tuple[str, str | None], ...]
    """Those after one cursor and up to another, ascending; as much as the learner itself can look at in one step."""
    known: tuple[int, ...] = ()
    """The fingerprints of records there that the learner has."""
    named: tuple[str, ...] = ()
    """Keys there that the learner would drop, as the page before had nothing of them."""


@dataclass(frozen=True, slots=True)
class Page:
    """The records in the ranges, as far as they were looked at: tombstones too, each settled."""

    number: int
    records: tuple[tuple[str, Record], ...]
    """Those that the learner has not named."""
    same: tuple[int, ...]
    """Which of those that it has named are the primary's, by their places."""
    whole: int
    """How many of the ranges are covered as wholes."""
    upto: str | None = None
    """The cursor up to which the next range is covered, None if none of it is."""
    rest: float = 0.0
    """Seconds for which the primary is to be asked for no page, so that its rate is kept."""
    damaged: tuple[str, ...] = ()
    """Keys there whose record nobody who acts can read."""


@dataclass(frozen=True, slots=True)
class AskRecord:
    """A primary whose record of a key is damaged asks the other acting members."""

    number: int
    key: str


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """The answer."""

    number: int
    record: Record | Damage | None


@dataclass(frozen=True, slots=True)
class FoundDamaged:
    """Records of keys are damaged here, says a granter to their primary, unasked: it is to write its own anew. Nobody answers
    it; it is said again when the records are looked at again.
    """

    number: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Behind:
    """The answer to a call of an older epoch: nothing but the epoch, which is in the header (M1)."""

    number: int


Question = Copy | AskUnsettled | AskLease | Hello | AskSums | AskPage | AskRecord
Reply = Copied | Working | Full | UnsettledKeys | Granted | HelloBack | Sums | Page | FoundRecord | FoundDamaged | Behind
Message = Question | Reply
