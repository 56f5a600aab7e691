"""What a node does with frames: each goes to the handler of its op, and the answers share a bound."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from time import monotonic
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator import MAX_ANSWER
from gkv.engine import Commits, Engine
from gkv.log import say_exception
from gkv.model import Node, NodeRefusal, Op, Outcome
from gkv.net.admission import LARGE, Admission, Budget
from gkv.net.call import Call
from gkv.net.turn import Turn
from gkv.node.copied_listing import CopiedListing
from gkv.node.copied_reads import CopiedReads
from gkv.node.copied_writes import CopiedWrites
from gkv.node.copies import Copies
from gkv.node.handler import COMMIT_WITHIN, Waiting, stale
from gkv.node.membership import Membership
from gkv.node.order import Order
from gkv.node.postponed import Asked, Postponed
from gkv.node.reads import InSteps, Reads
from gkv.node.writes import Writes
from gkv.wire.ops import (
    BadFrame,
    Effects,
    EpochRequest,
    Get,
    Large,
    NodeAnswer,
    NodeRequest,
    NoRoom,
    Refused,
    read_request,
)

_GATHERED = 2
"""Times `max_answer` that the answers to one gathered request may have, beyond the small ones."""


_NOTHING = nullcontext()
_FOR_EVER = float("inf")


class Service:
    """Answers frames from an engine, under the epoch that the node's view has.

    Nothing switches greenlets between the check of the epoch and the moment at which a write is admitted; what has been
    admitted is counted by `Membership.call_in`, which waits for it. What is read may take turns with others; it is answered
    only if the document is the same in the end as it was in the beginning.
    """

    def __init__(
        self,
        node_id: str,
        view: View,
        engine: Engine,
        commits: Commits,
        order: Order,
        max_answer: int = MAX_ANSWER,
        admission: Admission | None = None,
        membership: Membership | None = None,
        copies: Copies | None = None,
        within: float = COMMIT_WITHIN,
    ) -> None:
        """`max_answer` bounds the bytes that one frame brings, `admission` those of all together. With `copies` the handlers
        are others from when a document asks for them; a request may wait `within` so many seconds then.
        """
        admission = admission or Admission()
        self._max_answer = max_answer
        self._own, self._others = admission.clients.budget, admission.members.budget
        self._view = view
        membership = membership or Membership(Node(node_id), view, engine, commits)
        self.adopt = membership.adopt
        self._turn = Turn()
        self._said = False
        """Whether a line says already that there was a fault."""
        self._reading_much = BoundedSemaphore(1)
        """For reads in steps, until memory is reserved for their values: many of them hold no more than one."""
        self._postponed = Postponed()
        self._handlers: dict[Op, Callable[[Any], NodeAnswer | Waiting]] = {
            Op.STATUS: membership.status,
            Op.ADOPT: membership.take_over,
            Op.CALL_AT: membership.call_at,
            Op.AWAIT: self._postponed.take,
        }
        """By op, what does all that can be done at once; it returns the answer, or what waits for it."""
        self._is_alone = True
        """Whether no records are copied, so that it is enough to know whether this process acts."""
        self._values_of: Callable[[Sequence[Get]], Sequence[NodeAnswer | Waiting]]
        self._decide_alone(engine, order)
        if copies is not None:
            heard = copies.listening
            self._handlers |= {Op.WORD: heard.hear, Op.PLAN: heard.hold, Op.GO_ON: heard.go_on}
            copies.on_active = lambda: self._keep_copies(engine, commits, copies, order, within)
            copies.on_rest = lambda: self._rest(engine, commits, order)
            if copies.active:
                copies.on_active()

    def _decide_alone(self, engine: Engine, order: Order) -> None:
        """Answer as a member whose keys are nobody else's."""
        reads, writes = Reads(engine, order, self._max_answer, self._turn), Writes(self._view, order)
        self._is_alone = True
        self._values_of = reads.values_of
        self._handlers |= _of_keys(reads.fetch, reads.fetch, reads.fetch_items, reads.list_keys, writes)

    def _rest(self, engine: Engine, commits: Commits, order: Order) -> None:
        """Answer so again, from now on."""
        engine.keep_sums(False)
        commits.reclaims = True
        commits.on_over = order.unsettled.end
        self._decide_alone(engine, order)

    def _keep_copies(self, engine: Engine, commits: Commits, copies: Copies, order: Order, within: float) -> None:
        """Answer as a member that keeps copies, from now on."""
        engine.keep_sums(True)
        commits.reclaims = False
        commits.on_over = copies.disk.over
        reads = CopiedReads(engine, copies, order.clock, self._max_answer, self._turn, within)
        listing = CopiedListing(engine, copies, order.clock, self._turn, within)
        self._is_alone = False
        self._values_of = reads.values_of
        self._handlers |= _of_keys(
            reads.fetch, reads.peek, reads.fetch_items, listing.list_keys, CopiedWrites(copies, within, self._handle)
        )

    def submit(self, call: Call) -> None:
        """Answer a call of this process's own coordinator, as a channel would. Switches greenlets when it is large."""
        call.sent = True
        document = self._view.document
        begun = self._begin(call.frame)
        if isinstance(begun, Get):
            begun = self._values_of([begun])[0]
        if isinstance(begun, NodeAnswer):
            frame, hold = self._write(begun, document, self._max_answer, self._own)
            call.finish(Outcome.ANSWERED, frame, "", hold)
        else:
            gevent.spawn(self._finish_later, call, begun, document)

    def _finish_later(self, call: Call, waiting: Waiting, document: Document | None) -> None:
        try:
            frame, hold = self._wait_for(waiting, document, self._max_answer, self._own, _FOR_EVER)
        except Exception:  # noqa: BLE001 whoever waits is to be answered
            frame, hold = self._faulty().write(), None
        call.finish(Outcome.ANSWERED, frame, "", hold)

    def _wait_for(
        self, waiting: Waiting, document: Document | None, room: int, budget: Budget, began: float
    ) -> tuple[bytes, object]:
        """Return what `_write` does of the answer that comes of a wait, or of its being put off where that takes longer than
        those may wait who came with it at this moment. Switches greenlets.
        """
        while True:
            if isinstance(waiting, Asked) and not waiting.is_told_by(began + waiting.patience):
                put_off = self._postponed.put_off(waiting)
                if put_off is not None:
                    return put_off.write(), None
            with self._reading_much if isinstance(waiting, InSteps) else _NOTHING:
                done = waiting()
                if isinstance(done, NodeAnswer):
                    return self._write(done, document, room, budget)
            waiting = done

    def _write(self, answer: NodeAnswer, document: Document | None, room: int, budget: Budget) -> tuple[bytes, object]:
        """Return the frame of an answer that was begun under a document, and what keeps memory for a large one; values have
        theirs before they are copied.

        What was read is refused when another document has come meanwhile. The answer to a write is never refused: that would
        say that nothing was begun.
        """
        if document is not self._view.document and answer.is_read:
            answer = stale(self._view.document)
        limit = min(room, self._max_answer)
        try:
            frame = answer.write(limit, most=LARGE)
        except Large as large:
            hold = budget.hold(large.size)
            return (answer.write(limit, self._turn) if hold else Refused(NodeRefusal.BUSY).write()), hold
        except NoRoom:
            # Alone it might go; if not, it never will.
            return Refused(NodeRefusal.LARGE if room >= self._max_answer else NodeRefusal.BUSY).write(), None
        if len(frame) <= LARGE or isinstance(answer, Effects):
            return frame, None
        hold = budget.hold(len(frame)) if len(frame) <= room + LARGE else None
        return (frame if hold else Refused(NodeRefusal.BUSY).write()), hold

    def answer(self, frames: Sequence[bytes]) -> list[bytes]:
        """Answer frames, in their order. Does not raise on any input. Switches greenlets when it has to wait for the disk,
        or gives way to others while it works on what is large.

        All are begun before the first is waited for: the writes among them go to the disk together, and the gets are one call
        of the engine. What the machines of copies take long to tell is put off, so that the others have their answers.

        Together the answers have few times `max_answer` bytes; a get that does not fit is refused. What a write did is always
        told: to refuse it then would say that nothing was begun.
        """
        document = self._view.document
        begun = []
        for frame in frames:
            try:
                begun.append(self._begin(frame))
            except Exception:  # noqa: BLE001 one frame must not take the answers of the others
                begun.append(self._faulty())
        gets = [one for one in begun if isinstance(one, Get)]
        read = iter(self._read(gets) if gets else ())
        answers = []
        room = _GATHERED * self._max_answer
        began = 0.0
        holds = []
        for one in begun:
            done = next(read) if isinstance(one, Get) else one
            try:
                if isinstance(done, NodeAnswer):
                    frame, hold = self._write(done, document, room, self._others)
                else:
                    began = began or monotonic()
                    frame, hold = self._wait_for(done, document, room, self._others, began)
            except Exception:  # noqa: BLE001 likewise
                frame, hold = self._faulty().write(), None
            if hold is not None:
                holds.append(hold)
                room -= len(frame)
            answers.append(frame)
        return answers

    def _read(self, gets: Sequence[Get]) -> Sequence[NodeAnswer | Waiting]:
        try:
            return self._values_of(gets)
        except Exception:  # noqa: BLE001 likewise
            return [self._faulty()] * len(gets)

    def _faulty(self) -> Refused:
        """Return the answer to a frame whose handling has raised: what it was to write may have been begun. Say it once."""
        if not self._said:
            self._said = True
            say_exception("a frame could not be answered; what it was to write may have been begun")
        return Refused(NodeRefusal.FAILED)

    def _read_large(self, frame: bytes) -> NodeRequest:
        request = read_request(frame, self._turn)
        self._turn()
        return request

    def _begin(self, frame: bytes) -> NodeAnswer | Waiting | Get:
        """Do what can be done at once; return a get that is to be read, the answer, or what waits for it."""
        try:
            request = read_request(frame) if len(frame) <= LARGE else self._read_large(frame)
            if isinstance(request, Get):
                return self._refused(request) or request
            return self._handle(request)
        except BadFrame as error:
            return Refused(NodeRefusal.BAD_FRAME, detail=str(error))

    def _handle(self, request: NodeRequest) -> NodeAnswer | Waiting:
        """Do what can be done at once about anything but a get."""
        refused = self._refused(request) if isinstance(request, EpochRequest) else None
        return refused or self._handlers[request.op](request)

    def _refused(self, request: EpochRequest) -> Refused | None:
        """Return why nothing can be begun about keys by this request."""
        document = self._view.document
        if document is None or document.era != request.era or document.cluster != request.cluster:
            return stale(document)
        if self._is_alone and not self._view.acts:
            return Refused(NodeRefusal.NOT_ACTING)
        return None


def _of_keys(
    fetch: Callable[[Any], NodeAnswer | Waiting],
    peek: Callable[[Any], NodeAnswer | Waiting],
    fetch_items: Callable[[Any], NodeAnswer | Waiting],
    list_keys: Callable[[Any], NodeAnswer | Waiting],
    writes: Writes | CopiedWrites,
) -> dict[Op, Callable[[Any], NodeAnswer | Waiting]]:
    """Return the handlers of requests about keys, but for gets."""
    return {
        Op.FETCH: fetch,
        Op.PEEK: peek,
        Op.ITEMS: fetch_items,
        Op.KEYS: list_keys,
        Op.SET: writes.write,
        Op.PUT: writes.write,
        Op.DELETE: writes.write,
        Op.ADD: writes.decide,
        Op.TOUCH: writes.decide,
    }
