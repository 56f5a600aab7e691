"""Read, write and delete a batch of keys at their owners."""

from dataclasses import dataclass, field
from time import monotonic

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator.exchanges import Exchanges, understand
from gkv.model import KeyFailure, Node, NodeReply, Outcome
from gkv.net.channel import ask_all
from gkv.wire import Batch, Done, Part, PureRouter, router
from gkv.wire.batch import BAD_ANSWER, SIZES, failures
from gkv.wire.client import Limits
from gkv.wire.frames import Reply

_ATTEMPTS = 3
"""A node of another epoch costs one more; a join that ends meanwhile, another. Then something else is wrong."""

OVERLOADED = KeyFailure("overloaded")
READ_FAILURES = {
    Outcome.ANSWERED: BAD_ANSWER,
    Outcome.UNREACHABLE: KeyFailure("unreachable"),
    Outcome.OVERLOADED: OVERLOADED,
    Outcome.TIMEOUT: KeyFailure("timeout"),
    Outcome.LOST: KeyFailure("unreachable"),
}
NOT_APPLIED = KeyFailure("not-applied")
INDETERMINATE = KeyFailure("indeterminate")
"""The write may show up now, later or never. Repeating it is harmless."""
STALE = KeyFailure("epoch")
REFUSED = KeyFailure("refused", retryable=False)


@dataclass(slots=True)
class Written:
    """What became of a set or a delete: how many keys it concerned, at how many owners, and the keys without a definite answer.

    For a delete, only keys that existed count.
    """

    keys: int = 0
    nodes: int = 0
    failed: dict[str, KeyFailure] = field(default_factory=dict)


class Coordinator:
    """Routes batches by the ring of a view, asks the owners in parallel, joins their answers."""

    def __init__(self, view: View, exchanges: Exchanges, deadline: float, limits: Limits | None = None) -> None:
        """`deadline` is in seconds, for a whole request; `limits` bound a batch."""
        self.limits = limits or Limits()
        self._view = view
        self._exchanges = exchanges
        self._deadline = deadline
        self._routed: Document | None = None
        self._router: PureRouter

    def router(self) -> PureRouter:
        """Return what reads and routes batches now. Raise Unavailable while there is no member."""
        document, ring = self._view.current()
        if document is not self._routed:
            self._router = router(ring, document.cluster, document.epoch, self.limits)
            self._routed = document
        return self._router

    def read(self, batch: Batch) -> list[Done]:
        """Return what became of each part of a get. Switches greenlets."""
        return self._run(batch)

    def write(self, batch: Batch) -> Written:
        """Apply a set or a delete. Switches greenlets."""
        done = self._run(batch)
        applied = [one for one in done if one.failure is None]
        nodes = {one.part.node.id for one in applied}  # an owner may stand twice, when some keys were routed anew
        failed = failures(done, batch.keys) if len(applied) < len(done) else {}
        return Written(sum(one.count for one in applied), len(nodes), failed)

    def _run(self, batch: Batch) -> list[Done]:
        """Bring a batch to the owners of its keys; return what became of the parts, which together have each key once."""
        expires = monotonic() + self._deadline
        done: list[Done] = []
        parts = batch.parts
        for attempt in range(_ATTEMPTS):
            if not parts:
                break
            if batch.op != "get" and not self._view.wait_settled(expires - monotonic()):
                # Nothing of these has been applied: the first attempt was not made, a later one repeats what was refused.
                done += [Done(part, failure=NOT_APPLIED) for part in parts]
                break
            again: list[int] = []
            replies = ask_all([(self._exchanges.to(part.node), part.frame) for part in parts], expires)
            for part, reply in zip(parts, replies, strict=True):
                one = _judge(batch.op, part, reply)
                if isinstance(one, Done):
                    done.append(one)
                elif attempt + 1 < _ATTEMPTS and self._reconcile(part.node, one):
                    again += part.positions
                else:
                    done.append(Done(part, failure=STALE if one.refused in ("stale", "changing") else REFUSED))
            if not again:
                break
            document, ring = self._view.current()
            parts = batch.route(again, ring, document.cluster, document.epoch)
        return done

    def _reconcile(self, node: Node, reply: Reply) -> bool:
        """After a refusal, bring this process and a node to the same document. Return whether asking again may help."""
        if reply.refused == "changing":
            return True  # what comes next waits until the change is over
        if reply.refused != "stale":
            return False
        mine, _ = self._view.current()
        try:
            theirs = Document.from_json(reply.document) if reply.document is not None else None
        except ValueError:
            return False
        if theirs is not None and theirs.cluster == mine.cluster and theirs.epoch > mine.epoch:
            self._view.adopt(theirs)
            return True
        return self._exchanges.adopt(mine, [node]) != [None]


def _judge(op: str, part: Part, reply: NodeReply) -> Done | Reply:
    """Return what became of a part, or the refusal that may be overcome."""
    if reply.outcome is not Outcome.ANSWERED:
        return Done(part, failure=READ_FAILURES[reply.outcome] if op == "get" else _write_failure(reply))
    if op == "get" and reply.frame.startswith(SIZES):
        return Done(part, reply.frame)
    answer = understand(reply)
    if answer is None or (op == "get" and not answer.refused):
        return Done(part, failure=BAD_ANSWER if op == "get" else INDETERMINATE)
    return answer if answer.refused else Done(part, count=answer.count)


def _write_failure(reply: NodeReply) -> KeyFailure:
    if reply.outcome is Outcome.OVERLOADED:
        return OVERLOADED
    return INDETERMINATE if reply.sent else NOT_APPLIED
