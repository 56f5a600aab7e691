"""Values that rooms hand to each other: frozen, without behaviour of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import NamedTuple, Self


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """A storage process as the cluster knows it. `url` has a scheme, a host and a port, and no path."""

    id: str
    url: str = ""
    weight: float = 1.0
    tokens_of: str = ""  # the node whose place in the ring, and so whose tokens it has, where it has taken one


@dataclass(frozen=True, slots=True)
class Presence:
    """A process that is there, and the document in force there."""

    incarnation: int
    cluster: str | None = None  # the document's, None where there is none
    order: tuple[int, int] = (0, 0)  # generation and epoch of the document
    digest: str = ""  # of the document: two of one order may differ, where one of them was lost
    era: int = 0  # an era that none of the records is later than which it had at its start


class Version(NamedTuple):  # not a dataclass: a write is looked up by it some thirty times, and its hash took 0.5 us
    """The place of a write in the one order of its key's writes, given by the key's primary.

    `era` is that of the document under which the write was admitted (see `era_of`), `counter`
    counts the writes of the primary's process; both have 64 bits. No clock has a part in it. As
    text (32 hexadecimal digits) and as bytes (16) a version sorts as it does itself.

    >>> str(Version(era_of(1, 7), 0xA1))
    '000100000000000700000000000000a1'
    >>> Version.parse('000100000000000700000000000000a1') == Version(era_of(1, 7), 0xA1)
    True
    """

    era: int
    counter: int

    def __str__(self) -> str:
        return f"{self.era:016x}{self.counter:016x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote; raise ValueError for anything else."""
        number = int(text, 16)
        if number < 0 or f"{number:032x}" != text:  # `int` takes signs, spaces, underscores and capitals as well
            raise ValueError("a version has 32 lower-case hexadecimal digits")
        return cls(number >> 64, number & _COUNTER)

    def to_bytes(self) -> bytes:
        return self.era.to_bytes(8, "big") + self.counter.to_bytes(8, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote, 16 bytes."""
        return cls(int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big"))


_COUNTER = (1 << 64) - 1
_EPOCH = 48
"""Bits of an epoch; a generation has the 16 above them."""


def era_of(generation: int, epoch: int) -> int:
    """Return the generation and epoch of a document as one number, which sorts as the pair does."""
    return generation << _EPOCH | epoch


def split_era(era: int) -> tuple[int, int]:
    """Return the generation and epoch that `era_of` put together."""
    return era >> _EPOCH, era & ((1 << _EPOCH) - 1)


@dataclass(frozen=True, slots=True)
class Blob:
    """A value that is no JSON: any bytes, with their media type (ASCII without a line end, never empty).

    Its length is what it takes in a record: the type, a byte between, the data. Joining it with bytes raises TypeError, so
    code that is made for texts of JSON values cannot take it for one.
    """

    data: bytes
    content_type: str

    def __len__(self) -> int:
        return len(self.content_type) + 1 + len(self.data)


Value = bytes | Blob
"""The text of a JSON value, or a `Blob`."""


@dataclass(frozen=True, slots=True)
class Record:
    """What an engine keeps for a key: its value, or None for a tombstone.

    `version` is the record's order, by which records of a key are merged; `tag` is the version of
    the client's write. They differ only where a takeover has written a record anew: then
    `client_version` has the tag. `expires` is in milliseconds since the Unix epoch, 0 for never.
    """

    version: Version
    value: Value | None
    expires: int = 0
    client_version: Version | None = None

    @property
    def tag(self) -> Version:
        """The version of the client's write, which ETag shows and conditions are about."""
        return self.client_version or self.version


@dataclass(slots=True)  # not frozen: one is made for each request, and freezing costs 1 us
class Write:
    """A request's part for one node: these keys get these values (None: are deleted), all under one version.

    No key stands twice. `expires` has one entry a key, as in a `Record`, or is empty when nothing
    expires. `tags` likewise has the versions of the clients' writes, where records are written
    anew. `at` is the moment of its admission by the clock that expiries are judged by: a value that
    was due by then was not there any more. Unless it `repairs`, a record that is damaged is left as it
    is: nobody knows whether that was a later one.
    """

    version: Version
    keys: Sequence[str]
    values: Sequence[Value | None]
    expires: Sequence[int] = ()
    tags: Sequence[Version | None] = ()
    at: int = 0
    repairs: bool = True

    @property
    def size(self) -> int:
        """The bytes of its keys, as characters, and values. O(keys)."""
        return sum(map(len, self.keys)) + sum([len(value) for value in self.values if value is not None])


@dataclass(slots=True)
class Replacement(Write):
    """Records that take the place of what is there whatever the versions say: a learner becomes a copy of its primary.

    `version` is the greatest of theirs.
    """

    orders: "Sequence[Version | Damage | None]" = ()
    """The version of each record. None for a key that is dropped, and leaves no tombstone; damage for one that gets a mark that
    reads as a damaged record.
    """

    @classmethod
    def of(cls, records: Sequence[tuple[str, Record]], drops: Sequence[str] = (), damaged: Sequence[str] = ()) -> Self:
        """Make it of records, of keys that are dropped, and of keys that get a mark. O(keys)."""
        orders = [record.version for _, record in records]
        others = [*drops, *damaged]
        nothing = [None] * len(others)
        return cls(
            max(orders, default=Version(0, 0)),
            [*[key for key, _ in records], *others],
            [*[record.value for _, record in records], *nothing],
            [*[record.expires for _, record in records], *[0] * len(others)],
            [*[record.client_version for _, record in records], *nothing],
            orders=[*orders, *[None] * len(drops), *[Damage.DAMAGED] * len(damaged)],
        )

    def rows(self) -> "Iterator[tuple[str, Version | Damage | None, Value | None, int, Version | None]]":
        """Yield the key, version, value, expiry and tag of each."""
        return zip(self.keys, self.orders, self.values, self.expires, self.tags, strict=True)


class Effect(StrEnum):
    """What a write did to one key. The value stands for it in a frame, a letter for each key."""

    CREATED = "c"
    """A value where there was none."""
    REPLACED = "r"
    """A value, or a tombstone, in place of a value."""
    UNCHANGED = "u"
    """No value was there and none is now."""
    KEPT = "k"
    """Nothing: what is there has a greater version, or is of this very write. Said by engines, and never to a client: a primary
    gives no version that is not greater than all before.
    """
    DAMAGED = "d"
    """The write took the place of a record whose bytes were not what was written; what it was is not known."""
    SUPERSEDED = "s"
    """A later item of the same request is about the same key, and stands in place of this one."""
    ACCEPTED = "a"
    """The write was acknowledged before it was known what it does to the key (durability "async")."""
    CONDITION = "x"
    """Nothing: what is there is not the version that the write depends on."""
    WRONG_TYPE = "w"
    """Nothing: what was to be added to is no integer."""
    TOO_MANY_DIGITS = "o"
    """Nothing: the sum would have more digits than a counter may have."""
    MISSING = "m"
    """Nothing: there is no value that could be given another expiry."""
    UNREADABLE = "n"
    """Nothing: the write depends on a record that is not what was written."""
    INDETERMINATE = "i"
    """Not known: the write may show up now, later or never."""
    NOT_BEGUN = "g"
    """Nothing was begun: the key is to be routed anew, by the newest document."""
    TOO_FEW_COPIES = "t"
    """Nothing was begun: fewer copies act than a write has to be on."""
    FULL_COPY = "f"
    """Nothing was begun: the disk of a member that has a copy is full."""
    BUSY = "b"
    """Nothing was begun: too much waits already."""


class Op(StrEnum):
    """What a node can be asked for. The value stands for it in a frame."""

    GET = "get"
    """Values, as texts."""
    FETCH = "fetch"
    """Whole records."""
    ITEMS = "items"
    """Values with their types and ends, without versions."""
    PEEK = "peek"
    """Whole records as this copy has them, be they the newest or not."""
    SET = "set"
    PUT = "put"
    """A set whose effects must be told, so that it waits for the disk with any durability."""
    DELETE = "delete"
    ADD = "add"
    """Adds to integers."""
    TOUCH = "touch"
    """Gives values another expiry."""
    KEYS = "keys"
    """A page of the keys that the node holds."""
    STATUS = "status"
    """Which process answers."""
    ADOPT = "adopt"
    """To take over a cluster document."""
    CALL_AT = "call-at"
    """To call in at another address, if nobody answers at the one of now."""
    WORD = "word"
    """To take in a message from another member about copies."""
    PLAN = "plan"
    """To hold what would begin a write of some lists, before the authority moves them."""
    GO_ON = "go-on"
    """To go on, as a plan is given up."""
    AWAIT = "await"
    """To give an answer that was put off."""


WRITES = frozenset((Op.SET, Op.PUT, Op.DELETE, Op.ADD, Op.TOUCH))
"""The ops that change keys. Any other op about keys is a read, also where its failures are concerned."""


class NodeRefusal(StrEnum):
    """Why a node does not do what it is asked. The value stands for it in a frame.

    What each means for a key that is read or written says `gkv.coordinator.failures`.
    """

    STALE = "stale"
    """The node is of another epoch or cluster; its own document comes with the refusal."""
    CHANGING = "changing"
    """No writes while the cluster changes."""
    NOT_ACTING = "not-acting"
    """The process may not answer for keys: it is down by the document, or has come back without its directory."""
    NOT_BEGUN = "not-begun"
    """Nothing was begun: the keys are to be routed anew, by the newest document."""
    LATE = "late"
    """Nothing was begun, and the time for it is over."""
    FULL = "full"
    """There is no room on the disk."""
    SNAPSHOT_RUNNING = "snapshot-running"
    """The store cannot grow while a snapshot is taken, and there is no room in it."""
    BUSY = "busy"
    """Too much is under way."""
    LARGE = "large"
    """The answer would have more bytes than one may have."""
    FAILED = "failed"
    """The engine has failed; a write may have been applied or not."""
    BAD_FRAME = "bad-frame"
    """The request cannot be read."""
    BAD_DOCUMENT = "bad-document"
    """The cluster document cannot be read."""
    UNKNOWN = "unknown"
    """Stands for a word that this process does not know; never sent."""


class Damage(Enum):
    """Stands where a value would, when the record's bytes are not what was written."""

    DAMAGED = "damaged"


class Outcome(Enum):
    """What became of one call to one node."""

    ANSWERED = "answered"
    UNREACHABLE = "unreachable"
    """No connection, so the node has not seen the call."""
    OVERLOADED = "overloaded"
    """Too much is waiting for this node already, or it has too much to do, or there is no memory here for its answer."""
    TIMEOUT = "timeout"
    """No answer within the deadline."""
    LOST = "lost"
    """The connection broke, or what came back was no answer, after the call had been sent."""


class NodeReply(NamedTuple):
    """Exactly one of these comes back for every call to a node.

    `sent` says whether the node may have seen the call: when it is false, a write has certainly not been applied. A named
    tuple, because many are made for each request and a frozen dataclass takes three times as long (1.2 us).
    """

    outcome: Outcome
    frame: bytes = b""
    sent: bool = False
    detail: str = ""
    hold: object = None
    """Keeps memory reserved for a large frame: to be referred to for as long as the frame is."""


@dataclass(frozen=True, slots=True)
class KeyFailure:
    """Why one key has no definite answer, or was not written. `code` is one of the interface's fixed codes; `status` is that of
    a call about this key alone.
    """

    code: str
    retryable: bool = True
    status: int = field(default=503, compare=False)
    node: str = field(default="", compare=False)
    """The node that is the reason, where that is to be told."""


@dataclass(frozen=True, slots=True)
class OtherVersion(KeyFailure):
    """A condition that did not hold: `present` is the version that is there, None for no value."""

    code: str = "condition"
    retryable: bool = False
    status: int = field(default=412, compare=False)
    present: Version | None = None
