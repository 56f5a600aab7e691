"""Why a key has no definite answer or was not written, and what its client is told: the tables for reads and writes.

A read is told what keeps it from an answer, and never anything about a write's fate. A write is told whether something may have
been begun; only `INDETERMINATE` leaves that open.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from gkv.model import WRITES, Effect, KeyFailure, NodeRefusal, Op, Outcome
from gkv.wire.batch import BAD_ANSWER, DAMAGED_KEY

UNREACHABLE = KeyFailure("unreachable")
OVERLOADED = KeyFailure("overloaded")
TIMEOUT = KeyFailure("timeout", status=504)
NOT_APPLIED = KeyFailure("not-applied")
INDETERMINATE = KeyFailure("indeterminate")
"""The write may show up now, later or never. A repetition is another write."""
STALE = KeyFailure("epoch")
NO_PRIMARY = KeyFailure("no-primary")
TOO_FEW_COPIES = KeyFailure("too-few-copies")
DISK_FULL = KeyFailure("disk-full", status=507)
SNAPSHOT_RUNNING = KeyFailure("snapshot-running")
TOO_LARGE = KeyFailure("too-large", retryable=False, status=413)
REFUSED = KeyFailure("refused", retryable=False, status=500)


class GivenUp(Enum):
    """Why a coordinator itself gives up a part of a batch."""

    NO_PRIMARY = "no-primary"
    """No node answers for the key."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The meaning of a reason for a key that was to be read, and for one that was to be written."""

    read: KeyFailure
    write: KeyFailure
    begun: bool
    """Whether the write may have been begun: then nobody but its client may repeat it."""


Reason = NodeRefusal | GivenUp | tuple[Outcome, bool]
"""A node's refusal, the coordinator's own reason, or the outcome of a call and `NodeReply.sent`: whether the node may have seen
it."""

UNANSWERED: Mapping[Reason, Unanswered] = {
    NodeRefusal.STALE: Unanswered(STALE, STALE, begun=False),
    NodeRefusal.CHANGING: Unanswered(STALE, STALE, begun=False),
    NodeRefusal.NOT_ACTING: Unanswered(NO_PRIMARY, NO_PRIMARY, begun=False),
    NodeRefusal.NOT_BEGUN: Unanswered(STALE, STALE, begun=False),
    NodeRefusal.LATE: Unanswered(TIMEOUT, NOT_APPLIED, begun=False),
    NodeRefusal.FULL: Unanswered(OVERLOADED, DISK_FULL, begun=False),
    NodeRefusal.SNAPSHOT_RUNNING: Unanswered(OVERLOADED, SNAPSHOT_RUNNING, begun=False),
    NodeRefusal.BUSY: Unanswered(OVERLOADED, OVERLOADED, begun=False),
    NodeRefusal.LARGE: Unanswered(TOO_LARGE, INDETERMINATE, begun=True),  # the answer to no write is too large
    NodeRefusal.FAILED: Unanswered(UNREACHABLE, INDETERMINATE, begun=True),
    NodeRefusal.BAD_FRAME: Unanswered(REFUSED, REFUSED, begun=False),
    NodeRefusal.BAD_DOCUMENT: Unanswered(BAD_ANSWER, INDETERMINATE, begun=True),  # no document was sent
    NodeRefusal.UNKNOWN: Unanswered(REFUSED, INDETERMINATE, begun=True),  # whatever a later version means by it
    # A node that was asked and has given no answer that could be understood.
    (Outcome.ANSWERED, True): Unanswered(BAD_ANSWER, INDETERMINATE, begun=True),
    (Outcome.TIMEOUT, True): Unanswered(TIMEOUT, INDETERMINATE, begun=True),
    (Outcome.LOST, True): Unanswered(UNREACHABLE, INDETERMINATE, begun=True),
    (Outcome.UNREACHABLE, True): Unanswered(UNREACHABLE, INDETERMINATE, begun=True),
    (Outcome.OVERLOADED, True): Unanswered(OVERLOADED, INDETERMINATE, begun=True),  # there was no memory for the answer
    # A node that has certainly not seen the call.
    (Outcome.ANSWERED, False): Unanswered(BAD_ANSWER, INDETERMINATE, begun=True),  # cannot be; so nothing is promised
    (Outcome.TIMEOUT, False): Unanswered(TIMEOUT, NOT_APPLIED, begun=False),
    (Outcome.LOST, False): Unanswered(UNREACHABLE, NOT_APPLIED, begun=False),
    (Outcome.UNREACHABLE, False): Unanswered(UNREACHABLE, NOT_APPLIED, begun=False),
    (Outcome.OVERLOADED, False): Unanswered(OVERLOADED, OVERLOADED, begun=False),
    GivenUp.NO_PRIMARY: Unanswered(NO_PRIMARY, NO_PRIMARY, begun=False),
}

FATES: Mapping[Effect, KeyFailure] = {
    Effect.UNREADABLE: DAMAGED_KEY,
    Effect.INDETERMINATE: INDETERMINATE,
    Effect.NOT_BEGUN: STALE,  # until the deadline
    Effect.TOO_FEW_COPIES: TOO_FEW_COPIES,
    Effect.FULL_COPY: DISK_FULL,
    Effect.BUSY: OVERLOADED,
}
"""The meaning of the letters of a write's answer that stand for keys that have failed, apart from conditions."""

READ_FAILURES = frozenset({row.read for row in UNANSWERED.values()} | {DAMAGED_KEY})
"""All that a read may be told of a key."""
WRITE_FAILURES = frozenset({row.write for row in UNANSWERED.values()} | {*FATES.values()})
"""All that a write may be told of a key that has no definite answer."""


def may_be_begun(reason: Reason) -> bool:
    """Return whether a write that has no answer for this reason may have been begun."""
    return UNANSWERED[reason].begun


def failure(op: Op, reason: Reason) -> KeyFailure:
    """Return what is said of a key whose request has no answer for this reason."""
    row = UNANSWERED[reason]
    return row.write if op in WRITES else row.read
