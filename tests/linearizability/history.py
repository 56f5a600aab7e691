"""Operations of clients on keys: what each asked for, when, and what it was told; and how a history
is shown.

A history is complete: whatever a client has sent is in it, with a definite answer, with an unknown
outcome, or as refused. Times are seconds of one clock that all clients share: `call` is before the
first byte was sent, `back` after the last one of the answer had come.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

NEVER = math.inf


class Kind(Enum):
    """The intention of an operation."""

    READ = "read"
    PUT = "put"
    DELETE = "delete"
    ADD = "add"
    TOUCH = "touch"


class Ending(Enum):
    """The kind of answer that an operation got."""

    DONE = "done"
    """A write took effect; a read found a value."""
    MISSING = "missing"
    """There was no value to read, to delete or to touch."""
    CONDITION = "condition"
    """The condition did not hold; `version` is the one that was there, None for no value."""
    WRONG_TYPE = "wrong-type"
    """There was a value that is no integer."""
    UNKNOWN = "unknown"
    """A write may take effect once, at any later time, or never."""
    REFUSED = "refused"
    """Nothing was changed by it, and nothing is known from it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that must be there for a write: one of these versions, any value if there are none;
    or its opposite.
    """

    versions: tuple[str, ...] = ()
    negated: bool = False

    def __str__(self) -> str:
        return ("unless " if self.negated else "if ") + (" or ".join(self.versions) or "any value")

    def holds(self, version: str | None) -> bool:
        """Return whether it holds for what has this version, None for no value."""
        matched = version is not None and (not self.versions or version in self.versions)
        return matched is not self.negated


PRESENT = Condition()
ABSENT = Condition(negated=True)


@dataclass(frozen=True, slots=True)
class Expiry:
    """A value expires at some moment, not before `earliest`, and whoever asks after `latest` does
    not find it any more.
    """

    earliest: float = -math.inf
    latest: float = NEVER


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one key; a batch is one for each of its keys, all with the same times."""

    key: str
    kind: Kind
    call: float
    back: float
    """NEVER for an unknown outcome."""
    ending: Ending = Ending.DONE
    value: str | None = None
    """The text that a put writes, the text that a read saw, the sum that an add was told; None for
    a value that was not told.
    """
    version: str | None = None
    """The version that a write was given or that a read saw; None for one that was not told."""
    existed: bool | None = None
    """Whether a put or a delete was told that there was a value before; None when it was told
    nothing of it.
    """
    delta: int = 0
    expiry: Expiry | None = None
    """That of the value that is written; None for good, after an add: as it was before."""
    condition: Condition | None = None
    who: str = ""
    """The client, and how and whom it asked."""
    code: str = ""
    """The status or the code behind an ending that is no definite answer."""
    seen: float = 0.0
    """The time at which the client had its answer, or gave up waiting for one."""


def integer(text: str | None) -> int | None:
    """Return the integer that a value is, None for any other one.

    >>> integer("-7"), integer('"7"')
    (-7, None)
    """
    digits = (text or "").removeprefix("-")
    return int(text or "") if digits.isascii() and digits.isdigit() else None


def show(operation: Operation) -> str:
    """Return an operation as one line: when, who, what, and the answer."""
    back = f"{operation.back:9.4f}" if operation.back != NEVER else "         "
    return f"{operation.call:9.4f} .. {back}  {operation.who:<34} {_asked(operation)} -> {_told(operation)}"


def _asked(operation: Operation) -> str:
    words = [operation.kind.value]
    if operation.kind is Kind.PUT:
        words.append(str(operation.value))
    elif operation.kind is Kind.ADD:
        words.append(str(operation.delta))
    if operation.expiry is not None:
        words.append("for a while")
    if operation.condition is not None:
        words.append(str(operation.condition))
    return " ".join(words)


def _told(operation: Operation) -> str:
    version = f" as {operation.version}" if operation.version else ""
    match operation.ending:
        case Ending.DONE if operation.kind is Kind.READ:
            return (operation.value or "a value") + version
        case Ending.DONE:
            told = {None: "done", True: "done, there was a value", False: "done, there was none"}[operation.existed]
            return told + (f", the sum is {operation.value}" if operation.kind is Kind.ADD else "") + version
        case Ending.CONDITION:
            return f"the condition fails, there is {operation.version or 'no value'}"
        case Ending.UNKNOWN | Ending.REFUSED:
            return f"{operation.ending.value} ({operation.code})"
        case ending:
            return ending.value


def by_key(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    """Return the operations on each key, by the time of their calls."""
    found: dict[str, list[Operation]] = {}
    for operation in sorted(operations, key=lambda one: one.call):
        found.setdefault(operation.key, []).append(operation)
    return found


@dataclass(frozen=True, slots=True)
class Offence:
    """A key and the operations whose answers nothing explains: the smallest such part of its
    history that was found.
    """

    key: str
    what: str
    operations: Sequence[Operation]
    of: int
    """The number of operations on the key until then."""

    def lines(self) -> Iterator[str]:
        """Yield the offence in plain lines."""
        yield f"{self.key}: {self.what} (these {len(self.operations)} of {self.of} operations show it)"
        yield from map(show, self.operations)
