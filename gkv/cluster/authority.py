"""The authority: the one process that decides who is a member.

A loop over two things: the judge, which is pure and says what is to be done, and the store, which
keeps the document. A call-in only tells, and is answered with the document in force. Each step of the
loop is a document that is on disk before anybody hears of it, so the loop can be killed between any
two of them and goes on from what it finds.
"""

import secrets
import time
import uuid
from collections.abc import Sequence
from typing import Protocol

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, Durability, State
from gkv.cluster.judge import Ask, Enact, Judge
from gkv.cluster.question import ANSWERED_WITHIN
from gkv.cluster.rebuilding import Rebuilding, what_is_lost
from gkv.cluster.refusals import refused
from gkv.cluster.store import Store
from gkv.cluster.view import View
from gkv.errors import MemberConflict, Unavailable
from gkv.log import say
from gkv.model import Node
from gkv.threads import NativeThread

_LOOK_EVERY = 0.1
_APART = 0.03
"""Seconds between two looks at least, so that what comes together is one epoch."""
_REACH = 1.0
_ASKED_AT_ONCE = 256
"""Processes that are asked at the same time whether they are there."""


class Peers(Protocol):
    """How the authority talks to members. None of the calls raises."""

    def ask(self, nodes: Sequence[Node], within: float) -> list[int | None]:
        """Return the incarnation of the process that answers for each node, None where nobody does."""

    def push(self, document: Document, nodes: Sequence[Node]) -> None:
        """Give nodes a document, as far as they can be reached."""

    def reached(self, node: Node) -> None:
        """Note that a node is there, which may have been away: it has called in. Does not switch greenlets."""


class Authority:
    """Decides about the document in a store, and keeps the process's view in step with it."""

    def __init__(self, store: Store, view: View, peers: Peers, durability: str = "sync", now: float | None = None) -> None:
        """Read the document, or begin a new cluster; `durability` counts only then.

        Raise Unavailable or ConfigError when the store cannot be read.
        """
        self._store = store
        self._view = view
        self._peers = peers
        self._thread = NativeThread()
        self._news = Event()
        self._writing = BoundedSemaphore(1)
        self._reached: set[int] = set()
        """Processes that no line names and that answer at their address, by incarnation; those that are being asked; those that
        do not answer.
        """
        self._asked: set[int] = set()
        self._unreached: set[int] = set()
        self._rebuilding: Rebuilding | None = None
        self._said = ""
        try:
            document = store.load()
            if document is None:
                document = Document(uuid.uuid4().hex, 1, durability=Durability(durability))
                store.replace_if(None, document)
            elif document.durability != durability:
                say(f"durability is {document.durability}, as the cluster was made; --durability counts for a new one only")
        except BaseException:
            self.close()
            raise
        self._judge = Judge(document, secrets.randbits(64), boot_time() if now is None else now)
        view.adopt(document)

    @property
    def document(self) -> Document:
        """The document in force."""
        return self._judge.document

    # -- what others tell

    def call_in(self, call: CallIn) -> Document:
        """Note that a process is there; return the document in force. Does not wait.

        Raise MemberConflict or InvalidMember when it cannot be a member, Unavailable when it may be later.
        """
        now = boot_time()
        if self._is_lost_to(call):
            return self.document
        error = refused(self.document, call, self._judge.liveness.recent(now))
        if error is not None and not error.retryable:
            raise error
        self._peers.reached(call.node)
        self._hear(call, now)
        if self._rebuilding is not None and self.document.member(call.id) is None:
            raise Unavailable(f"the document is being rebuilt: it waits for {', '.join(self.waits_for)}", retry_after=1)
        if error is not None:
            raise error
        if call.incarnation in self._unreached:
            raise Unavailable(f"nobody answers at {call.node.url} as this process of {call.id}", retry_after=1)
        return self.document

    def _hear(self, call: CallIn, now: float) -> None:
        """Note a call; one of a process that no line names counts once that process has answered at the address it names, so
        that words alone take no member's place.
        """
        line = self.document.member(call.id)
        if call.incarnation in self._reached or (line is not None and line.incarnation == call.incarnation):
            if self._judge.heard(call, now):
                self._news.set()
        elif call.incarnation not in self._asked and len(self._asked) < _ASKED_AT_ONCE:
            self._asked.add(call.incarnation)
            gevent.spawn(self._reach, call)

    def _reach(self, call: CallIn) -> None:
        """Ask who answers at the address of a call."""
        answers = self._peers.ask([call.node], _REACH)
        self._asked.discard(call.incarnation)
        if answers == [call.incarnation]:
            self._unreached.discard(call.incarnation)
            self._reached.add(call.incarnation)
            self._hear(call, boot_time())
        elif len(self._unreached) < _ASKED_AT_ONCE:
            self._unreached.add(call.incarnation)
        else:
            self._unreached = {call.incarnation}

    def _is_lost_to(self, call: CallIn) -> bool:
        """Take note of a document that this process has lost; return whether the caller is one of those who have it."""
        mine, shown = self.document, call.document
        foreign = call.cluster not in (None, mine.cluster)
        lost = what_is_lost(mine, call)
        if lost and self._rebuilding is None:
            self._rebuilding = Rebuilding(shown or mine)
            say(f"{call.id} has {lost}, which is not here: it is rebuilt once all its members have shown theirs")
        if self._rebuilding is not None and self._rebuilding.tell(call, mine, believed=bool(lost)):
            self._news.set()
        later = not foreign and call.order > mine.order
        return later or (bool(lost) if shown else foreign and not mine.members)

    @property
    def waits_for(self) -> list[str]:
        """The members whose documents are still to be shown while it is rebuilt."""
        return [] if self._rebuilding is None else self._rebuilding.waits_for

    def ended(self, node_id: str, pid: int) -> None:
        """Note that a process of this machine has certainly ended."""
        call = self._judge.liveness.recent(boot_time()).get(node_id) or self._judge.liveness.last(node_id)
        if call is not None and call.pid == pid:
            self._judge.ended(call.incarnation)
            self._news.set()

    def accept_loss(self, node_id: str, *, dry_run: bool = False) -> CallIn | None:
        """Let a member act with what it has; return its newest call. Raise MemberConflict when there is nothing to accept."""
        if self._rebuilding is not None and node_id in self._rebuilding.waits_for:
            if not dry_run:
                self._rebuilding.excuse(node_id)
                self._news.set()
            return self._judge.liveness.last(node_id)
        self._judge.accept_loss(node_id, boot_time(), dry_run=dry_run)
        if not dry_run:
            say(f"the loss of what {node_id} held has been accepted: it acts with what it has")
            self._news.set()
        return self._judge.liveness.last(node_id)

    def is_up(self, node_id: str) -> bool:
        """Return whether a member serves, and was heard lately."""
        member = self.document.member(node_id)
        call = self._judge.liveness.last(node_id)
        if member is None or call is None or call.incarnation != member.incarnation:
            return False
        return member.weight > 0 and member.state is State.UP and self._judge.liveness.is_up(node_id, boot_time())

    def waits_for_word(self, node_id: str) -> bool:
        """Return whether a member is there, and acts only once its loss has been accepted."""
        member = self.document.member(node_id)
        return member is not None and member.empty and self.answers(node_id)

    def answers(self, node_id: str) -> bool:
        """Return whether a process under this name was heard lately."""
        return self._judge.liveness.is_up(node_id, boot_time())

    # -- the loop

    def run(self) -> None:
        """Decide, for ever. Switches greenlets."""
        while True:
            self._news.wait(_LOOK_EVERY)
            self._news.clear()
            self.look(boot_time())
            gevent.sleep(_APART)

    def look(self, now: float) -> None:
        """Bring into force all that is due now. Switches greenlets."""
        if self._rebuilding is not None:
            self._rebuild(self._rebuilding)
            return
        self._reached &= {call.incarnation for call in self._judge.liveness.recent(now).values()}
        actions = self._judge.look(now)
        questions = [action for action in actions if isinstance(action, Ask)]
        for question in questions:
            self._ask(question)
        for action in self._judge.look(boot_time()) if questions else actions:
            if isinstance(action, Enact) and not self._commit(action.document):
                self._judge.not_enacted()

    def _ask(self, question: Ask) -> None:
        answers = self._peers.ask([member.node for member in question.members], ANSWERED_WITHIN)
        for member, incarnation in zip(question.members, answers, strict=True):
            self._judge.answered(member.id, incarnation, boot_time())

    def _commit(self, document: Document) -> bool:
        """Put a document into force: on disk first, then here, then everywhere. Return whether that could be done."""
        with self._writing:
            before = self.document
            try:
                replaced = self._thread.call(lambda: self._store.replace_if(before, document))
            except OSError as error:
                self._say_once(f"no member changes its state, as {error.filename} cannot be written: {error.strerror}")
                return False
            if not replaced:
                raise MemberConflict("somebody else has changed the document in the store")
            self._said = ""
            self._judge.enacted(document, boot_time())
            self._view.adopt(document, replace=True)
            _say_changes(before, document)
        nodes = [member.node for member in document.members if member.state is not State.DOWN]
        gevent.spawn(self._peers.push, document, nodes)
        return True

    def _rebuild(self, rebuilding: Rebuilding) -> None:
        newest = rebuilding.newest
        if self._view.document is not None and newest.cluster != self._view.document.cluster:
            self._view.adopt(newest, replace=True)
        else:
            self._view.adopt(newest)
        document = rebuilding.result(self.document)
        if document is None:
            self._say_once(
                f"the document waits for those of {', '.join(rebuilding.waits_for)}; POST /v1/cluster/accept-loss excuses a "
                f"member that will not come"
            )
        elif self._commit(document):
            self._rebuilding = None
            say(f"the document has been rebuilt: generation {document.generation}, epoch {document.epoch}")

    def _say_once(self, line: str) -> None:
        if line != self._said:
            self._said = line
            say(line)

    def close(self) -> None:
        """Give the store up."""
        self._thread.close()
        self._store.close()


def boot_time() -> float:
    """Return seconds of a clock that goes on while the machine sleeps, and only forward."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _say_changes(before: Document, after: Document) -> None:
    for member in after.members:
        was = before.member(member.id)
        if was is not None and was.state is not member.state and member.state is State.DOWN:
            say(f"member {member.id} is down; its keys cannot be answered until it is back")
        if member.empty and (was is None or not was.empty):
            say(
                f"member {member.id} has come back without the directory that it had; its keys cannot be answered. Start it "
                f'where its data is, or POST /v1/cluster/accept-loss with {{"node": "{member.id}"}}'
            )
