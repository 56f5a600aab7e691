"""The words of others to a member that keeps copies: questions and replies of members, plans of the authority."""

from collections.abc import Callable

from gkv.clock import boot_time
from gkv.cluster.view import View
from gkv.model import NodeRefusal
from gkv.node.awaited import Awaited
from gkv.node.handler import Waiting, stale
from gkv.node.tidings import Tidings
from gkv.replication.actions import Paused, Send
from gkv.replication.desk import Desk
from gkv.replication.events import Event, GoOn, PauseAsked, Received
from gkv.replication.messages import AskPage, AskSums, Behind, Copy, HelloBack, Question, Reply, Working
from gkv.replication.replica import Replica
from gkv.wire.ops import GoOnWith, Held, NodeAnswer, PlanMove, Refused, Said, Word

_REPLY_WITHIN = 0.25
"""Seconds, from when it was heard, for which the answer to a copy or a page is waited for; the machines ask again then. A reply
that comes later goes as a word of its own.
"""
_REPLY_SOON = 0.02
"""The same for all other words: reads wait behind them."""
_HELD_WITHIN = 0.2
"""Seconds within which the authority wants to hear that a plan is held."""


class Listening:
    """All that is heard by one process, until it is answered."""

    def __init__(self, view: View, replica: Replica, handle: Callable[[Event], None], tidings: Tidings) -> None:
        """`handle` gives the machines, `replica`, an event."""
        self._view = view
        self.replica = replica
        self._handle = handle
        self._tidings = tidings
        self._asked: dict[tuple[str, int], Awaited[Said]] = {}
        """By who asks and the number of the question."""
        self._plans: dict[int, Awaited[Held]] = {}

    @property
    def _desk(self) -> Desk:
        return self.replica.desk

    def hear(self, word: Word) -> NodeAnswer | Waiting:
        """Take in a word of another member; return the answer to it, or what waits for that."""
        document = self._view.document
        if document is None or document.cluster != word.cluster or word.sender == self._desk.me:
            return stale(document)
        message = word.message
        received = Received(word.sender, word.incarnation, word.era, message)
        if isinstance(message, Reply):
            self._take(received)
            return self._said(None)
        name = word.sender, message.number
        asked: Awaited[Said] = Awaited(self._patience(message))
        self._asked[name] = asked
        self._handle(received)
        if asked.value is not None:
            return asked.value

        def wait() -> NodeAnswer:
            said = asked.wait()
            if said is None and self._asked.get(name) is asked:
                del self._asked[name]
            return said or self._said(self._progress(word))

        return wait

    def _patience(self, message: Question) -> float:
        """Return for how long the reply is waited for: whoever asks must not take a slow disk for silence."""
        if isinstance(message, Copy | AskPage | AskSums):
            return min(_REPLY_WITHIN, self._desk.questions.timeouts.silence / 2)
        return _REPLY_SOON

    def _progress(self, word: Word) -> Reply | None:
        """Return what can be said of a copy while its commit is under way (A2), None if it is not."""
        is_current = isinstance(word.message, Copy) and word.era == self._desk.duties.era
        oldest = self.replica.copying.granter.oldest() if is_current else None
        return None if oldest is None else Working(word.message.number, boot_time() - oldest)

    def answer(self, action: Send) -> bool:
        """Give a reply to the question that waits for it; return whether one does."""
        message = action.message
        if not isinstance(message, Reply):
            return False
        asked = self._asked.pop((action.to, message.number), None)
        if asked is not None:
            asked.come(self._said(message, action.era))
        return asked is not None

    def _said(self, message: Reply | None, era: int | None = None) -> Said:
        return Said(self._desk.duties.era if era is None else era, self._desk.me, self._desk.incarnation, message)

    def answered(self, said: Said) -> None:
        """Take in the answer to a word of this process."""
        if said.message is not None:
            self._take(Received(said.sender, said.incarnation, said.era, said.message))

    def _take(self, received: Received) -> None:
        if isinstance(received.message, HelloBack | Behind) and not self._desk.serves:
            self._tidings.answered(received.incarnation, boot_time())
        self._handle(received)

    def hold(self, plan: PlanMove) -> NodeAnswer | Waiting:
        """Hold the lists of a plan; answer once nothing is under way there (A7)."""
        document = self._view.document
        if document is None or document.cluster != plan.cluster or document.era != plan.era:
            return stale(document)
        if plan.incarnation != self._desk.incarnation or not self._desk.serves:
            return Refused(NodeRefusal.NOT_ACTING)
        held: Awaited[Held] = Awaited(_HELD_WITHIN)
        self._plans = {plan.plan: held}
        self._handle(PauseAsked(plan.plan, plan.era, plan.lists))
        return held.value or (lambda: held.wait() or Refused(NodeRefusal.BUSY))

    def paused(self, action: Paused) -> None:
        """Answer the plan that is held now."""
        held = self._plans.pop(action.plan, None)
        if held is not None:
            held.come(Held(action.plan, action.era))

    def go_on(self, plan: GoOnWith) -> NodeAnswer:
        """Go on, as a plan is given up."""
        if plan.incarnation == self._desk.incarnation:
            self._handle(GoOn(plan.plan))
        return Held(plan.plan, self._desk.duties.era)
