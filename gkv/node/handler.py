"""What the handlers of a node's requests have in common."""

from collections.abc import Callable, Mapping, Sequence

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.errors import EngineFull, GkvError, Overloaded, SnapshotRunning, Unavailable
from gkv.model import NodeRefusal
from gkv.wire.ops import NodeAnswer, Refused

COMMIT_WITHIN = 30.0
"""Seconds that a request waits for the disk. Its coordinator has given up far earlier."""

Waiting = Callable[[], "NodeAnswer | Waiting"]
"""Waits for what has been begun, and returns the answer to it, or what more there is to wait for. Switches greenlets."""

_BY_CODE: Mapping[str, NodeRefusal] = {
    EngineFull.code: NodeRefusal.FULL,
    Unavailable.code: NodeRefusal.BUSY,
    Overloaded.code: NodeRefusal.BUSY,
    SnapshotRunning.code: NodeRefusal.SNAPSHOT_RUNNING,
}
"""By the code of an error after which nothing has changed; after any other one that is not known."""


class NotAdmitted(GkvError):
    """A write, or the tombstone of what is due, that this process may not admit now. Nothing has changed."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(f"the cluster has changed: {refusal.reason.value}")
        self.refusal = refusal


def each_once(keys: Sequence[str]) -> tuple[list[str], list[int]] | None:
    """Return the keys of items, each once, and the place of its last item, which is the one that counts; None where no key
    stands twice. 0.05 us a key.
    """
    if len(set(keys)) == len(keys):
        return None
    last = dict(zip(keys, range(len(keys)), strict=True))
    return list(last), list(last.values())


def refused_for(error: GkvError) -> Refused:
    """Say why nothing was done, or that it is not known whether it was."""
    if isinstance(error, NotAdmitted):
        return error.refusal
    return Refused(_BY_CODE.get(error.code, NodeRefusal.FAILED))


def or_refused(answer: Waiting) -> NodeAnswer | Waiting:
    """Return an answer, or why there is none."""
    try:
        return answer()
    except GkvError as error:
        return refused_for(error)


def stale(document: Document | None) -> Refused:
    """Refuse a request of another epoch, and show which one this node believes in."""
    return Refused(NodeRefusal.STALE, document.to_json() if document else None)


def not_admitted(view: View, era: int) -> NotAdmitted:
    """Return why a process whose `View.admits` is not this era admits no write of it."""
    document = view.document
    if document is None or document.era != era:
        return NotAdmitted(stale(document))
    return NotAdmitted(Refused(NodeRefusal.CHANGING if view.acts else NodeRefusal.NOT_ACTING))
