"""The parts of a batch that are asked for again: what one node cannot do now, another one can soon, or the same one.

Promises: of a write nothing is handed to a node twice that may have been begun; whoever waits does so for a newer document, or
for a pause that grows, until the request's deadline, and no more than a bounded number of requests wait at once. So a failover
shows as latency. With one copy nobody waits for a node that is not there, as no other one could answer. Leaves to others: what
became of the keys for which the time was too short (`gkv.coordinator.failures`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator.channels import Channels, understand
from gkv.coordinator.failures import INDETERMINATE, GivenUp, Reason, failure, may_be_begun
from gkv.coordinator.reconciling import CURABLE, Reconciler
from gkv.model import WRITES, Effect, NodeRefusal, NodeReply, Op, Outcome
from gkv.net.call import Lane, OpenReplies, begin_calls, end_calls
from gkv.net.turn import Turn
from gkv.ring import NOBODY
from gkv.wire import Batch, Part, PartResult
from gkv.wire.batch import STARTS
from gkv.wire.ops import Await, Effects, PutOff, Refused

MOST_WAITING = 128
"""Requests. Those beyond it are told at once, so that the others, whose nodes are there, find room."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25
CURES = 3
"""Refusals in a row after which it is no matter of documents, and asking again needs a pause."""

ELSEWHERE = frozenset(
    (
        NodeRefusal.STALE,
        NodeRefusal.CHANGING,
        NodeRefusal.NOT_ACTING,
        NodeRefusal.NOT_BEGUN,
        NodeRefusal.FAILED,
        GivenUp.NO_PRIMARY,
        *((outcome, sent) for outcome in (Outcome.UNREACHABLE, Outcome.LOST) for sent in (False, True)),
    )
)
"""Reasons that another node, or a later document, may cure."""
_SOON = frozenset((NodeRefusal.CHANGING, NodeRefusal.NOT_BEGUN))
"""Reasons of nodes that are there, and about to take another document over: they pass by themselves."""
_CALM_AFTER = 10.0
"""Seconds after a change of the ring with one copy, for which nodes may still be taking keys over."""
_LATE = NodeRefusal.LATE
_UNBEGUN = Effect.NOT_BEGUN.value
_ANSWERED = Outcome.ANSWERED

Again = tuple[Part, Reason, Refused | None]
"""A part without an answer, why, and the refusal if it was one."""


class Patience:
    """The ways of one coordinator through a batch; and to wait, for whoever else asks again."""

    def __init__(self, view: View, channels: Channels, most_waiting: int = MOST_WAITING) -> None:
        self._view = view
        self._channels = channels
        self._reconciler = Reconciler(view, channels)
        self._most_waiting = most_waiting
        self._copied_until = -inf
        """The time until which nodes may act by a document that has records copied; the one of now may be such a one."""
        self.waiting = 0
        """Requests that wait for another document, or for a node to be there again."""
        self.retries = 0
        """Parts of batches that were sent once more."""

    def run(self, batch: Batch, request_id: str, expires: float) -> list[PartResult]:
        """Bring a batch to those that answer for its keys; return what became of the parts, as `Coordinator` does."""
        done: list[PartResult] = []
        parts = batch.parts
        pauses = cures = 0
        document = self._view.document
        while again := self._ask(batch.op, parts, done, request_id, expires):
            if self._view.document is not document:
                pauses = cures = 0
            elif cures < CURES and self.cure(again, expires):
                cures += 1
            elif self.may_wait(again) and self.wait(document, pauses, expires):
                pauses += 1
            else:
                break
            document, placement = self._view.document, self._view.placement
            if document is None or placement is None or monotonic() >= expires:
                break
            positions = sorted(position for part, _, _ in again for position in part.positions)
            parts = batch.route(positions, placement.split, document.cluster, document.era, Turn())
            self.retries += len(parts)
        is_late = monotonic() >= expires
        for part, reason, _ in again:
            why = _LATE if is_late and reason is NodeRefusal.NOT_BEGUN else reason
            done.append(PartResult(part, failure=failure(batch.op, why)))
        return done

    def _ask(self, op: Op, parts: Sequence[Part], done: list[PartResult], request_id: str, expires: float) -> list[Again]:
        """Ask for parts of a batch; note in `done` what is certain of them, and return those that may be asked for again."""
        again: list[Again] = []
        if NOBODY in [part.node for part in parts]:
            again = [(part, GivenUp.NO_PRIMARY, None) for part in parts if part.node is NOBODY]
            parts = [part for part in parts if part.node is not NOBODY]
        writing = op in WRITES
        lane = Lane.WRITE if writing else Lane.READ
        while parts:
            found = _Sorted(op, done, again)
            replies = self.ask_watching(parts, expires, request_id, lane, writing=writing)
            for part, reply in zip(parts, replies, strict=True):
                if writing:
                    found.judge_write(part, reply, is_begun=lane is Lane.AWAITED)
                elif reply.outcome is _ANSWERED and reply.frame.startswith(STARTS[op]):
                    done.append(PartResult(part, reply.frame, hold=reply.hold))
                else:
                    found.judge(part, reply)
            parts, lane = found.put_off, Lane.AWAITED
        return again

    def ask_watching(
        self, parts: Sequence[Part], expires: float, request_id: str, lane: Lane, *, writing: bool
    ) -> list[NodeReply]:
        """Ask nodes as `ask_all` does, but wait for none that is gone by a newer document, unless it may have begun a write."""
        view = self._view
        present = view.incarnations
        replies = OpenReplies(len(parts), expires)
        watch = replies.expire
        view.watchers.add(watch)
        try:
            asked = [(self._channels.to(part.node), part.frame) for part in parts]
            calls = begin_calls(asked, replies, request_id, lane)
            while replies.count:
                now = view.incarnations
                if now is not present:
                    for part, call in zip(parts, calls, strict=True):
                        gone = now.get(part.node.url) != present.get(part.node.url)
                        if gone and not (writing and call.sent):
                            call.finish(Outcome.LOST, detail="the node is not the one any more that it was")
                    present = now
                elif monotonic() >= expires:
                    break
                else:
                    replies.wait()
        finally:
            view.watchers.discard(watch)
        return end_calls(calls)

    def may_wait(self, again: Sequence[Again]) -> bool:
        """Return whether to wait may help: with one copy, and no change of the ring lately, no other node can answer for one
        that is not there.
        """
        document = self._view.document
        if document is not None and document.copies_records:
            self._copied_until = monotonic() + _CALM_AFTER
        return monotonic() < self._copied_until or _SOON.issuperset([reason for _, reason, _ in again])

    def cure(self, again: Sequence[Again], expires: float) -> bool:
        """Bring this process and the nodes that refused to one document; return whether that may help."""
        refused = [(part.node, one) for part, _, one in again if one is not None and one.reason in CURABLE]
        if not refused or not self._channels.retries.spend():
            return False
        return any(self._reconciler.cure(refused, expires))

    def wait(self, document: Document | None, pauses: int, expires: float) -> bool:
        """Wait for another document, or for a while; return False where there is no time or no room for it."""
        left = expires - monotonic()
        if left <= 0 or self.waiting >= self._most_waiting:
            return False
        self.waiting += 1
        try:
            self._view.wait_for_other(document, min(left, _LONGEST_PAUSE, _FIRST_PAUSE * 2**pauses))
        finally:
            self.waiting -= 1
        return True


@dataclass(slots=True)
class _Sorted:
    """The parts of a batch, by what their replies say has become of them."""

    op: Op
    done: list[PartResult]
    """Those of which something is certain."""
    again: list[Again]
    """Those that may be asked for again."""
    put_off: list[Part] = field(default_factory=list)
    """Those whose answer is to come, as what asks for that."""

    def judge_write(self, part: Part, reply: NodeReply, *, is_begun: bool) -> None:
        """Note what has become of a part; `is_begun` if that was asked of a node that had taken it in."""
        effects = understand(reply, Effects, len(part.positions))
        if not isinstance(effects, Effects):
            self.judge(part, reply, is_begun=is_begun)
        elif _UNBEGUN not in effects.letters:
            self.done.append(PartResult(part, effects=effects))
        else:
            begun = [position for position, one in zip(part.positions, effects.letters, strict=True) if one != _UNBEGUN]
            unbegun = [position for position, one in zip(part.positions, effects.letters, strict=True) if one == _UNBEGUN]
            self.again.append((Part(part.node, unbegun, b""), NodeRefusal.NOT_BEGUN, None))
            if begun:
                effects.letters = effects.letters.replace(_UNBEGUN, "")
                self.done.append(PartResult(Part(part.node, begun, b""), effects=effects))

    def judge(self, part: Part, reply: NodeReply, *, is_begun: bool = False) -> None:
        """Note of a part that has no answer whether its answer is put off, or another node may have one."""
        refused = understand(reply, PutOff)
        if isinstance(refused, PutOff):
            self.put_off.append(Part(part.node, part.positions, Await(refused.ticket).write()))
            return
        reason: Reason = (reply.outcome, reply.sent) if refused is None else refused.reason
        if is_begun:
            self.done.append(PartResult(part, failure=INDETERMINATE))
        elif reason in ELSEWHERE and not (self.op in WRITES and may_be_begun(reason)):
            self.again.append((part, reason, refused))
        else:
            self.done.append(PartResult(part, failure=failure(self.op, reason)))
