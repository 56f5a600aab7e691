"""The authority: the one process that decides who is a member.

A loop over two things: the judge, which is pure and says what is to be done, and the store, which
keeps the document. A call-in only tells, and is answered with the document in force. Each step of the
loop is a document that is on disk before anybody hears of it, so the loop can be killed between any
two of them and goes on from what it finds.
"""

import secrets
import uuid
from collections.abc import Sequence

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from gkv.clock import boot_time
from gkv.cluster import news
from gkv.cluster.attendance import Attendance
from gkv.cluster.callin import CallIn
from gkv.cluster.change_watch import ChangeWatch
from gkv.cluster.chronicle import Chronicle
from gkv.cluster.coverage import Coverage
from gkv.cluster.document import MAX_EPOCH, Document, Member, State
from gkv.cluster.judge import Action, Ask, Enact, Judge
from gkv.cluster.losses import Outlook
from gkv.cluster.moves import Moves
from gkv.cluster.moving import is_replaced
from gkv.cluster.operator import Operator
from gkv.cluster.placement import Placement
from gkv.cluster.plans import GoOn, Plan
from gkv.cluster.question import ANSWERED_WITHIN
from gkv.cluster.reach import Peers, Reach
from gkv.cluster.rebuilding import Rebuilding, Told
from gkv.cluster.refusals import refused, taken_back
from gkv.cluster.restored import awaits_its_first_process
from gkv.cluster.store import Store
from gkv.cluster.terms import Terms
from gkv.cluster.view import View
from gkv.errors import MemberConflict, Unavailable
from gkv.log import as_error, as_warning, say
from gkv.model import Presence
from gkv.threads import NativeThread

_LOOK_EVERY = 0.1
_APART = 0.03
"""Seconds between two looks at least, so that what comes together is one epoch."""
_SAY_AFTER = 3.0
"""Seconds of waiting for documents, after which that is said."""
_USUAL = Terms()
_DEADLINE = 10.0
"""Seconds for which a request may wait at a member, if nobody says."""


class Authority:
    """Decides about the document in a store, and keeps the process's view in step with it."""

    def __init__(
        self,
        store: Store,
        view: View,
        peers: Peers,
        terms: Terms = _USUAL,
        deadline: float = _DEADLINE,
        now: float | None = None,
    ) -> None:
        """Read the document, or begin a new cluster; `terms` count only then. `deadline` is of a request, in seconds.

        Raise Unavailable or ConfigError when the store cannot be read.
        """
        self._store = store
        self._view = view
        self._peers = peers
        self._thread = NativeThread()
        self._forecasts = NativeThread()  # in a large ring each takes seconds, for which no document is to wait
        self._news = Event()
        self._writing = BoundedSemaphore(1)
        now = boot_time() if now is None else now
        self._reach = Reach(peers, self._found)
        self._moves = Moves(peers, self._holds)
        self._said = ""
        try:
            document = store.load()
            if document is None:
                document = terms.begin(uuid.uuid4().hex)
                store.replace_if(None, document)
            for line in terms.ignored(document):
                say(line)
        except BaseException:
            self.close()
            raise
        self._judge = Judge(document, secrets.randbits(64), now, max(deadline, _DEADLINE))
        self.attendance = Attendance(self._judge)
        self.chronicle = Chronicle()
        self.ring_change = ChangeWatch(self._forecasts.call)
        self.operator = Operator(self._judge, self._forecasts.call, self._news.set, lambda: self.ring_change.may_hold)
        self._told = Told((one.id for one in document.members if not awaits_its_first_process(one)), now)
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
        if self._told.is_news(self.document, call):
            self._reach.ask(call)
        if self._told.is_lost_to(self.document, call):
            return self.document
        error = refused(self.document, call, self._judge.liveness.recent(now))
        if error is not None and not error.retryable:
            if is_replaced(self.document, call):
                return self.document  # by which the process ends
            raise error
        self._peers.reached(call.node)
        self._hear(call, now)
        if self._told.rebuilding is not None and self.document.member(call.id) is None:
            raise Unavailable(f"the document is being rebuilt: it waits for {', '.join(self.waits_for)}", retry_after=1)
        if error is not None:
            raise error
        if self._reach.misses(call.incarnation):
            raise Unavailable(f"nobody answers at {call.node.url} as this process of {call.id}", retry_after=1)
        pause = self._judge.ring_pauses.left(call.incarnation, now)
        if pause and self.document.member(call.id) is None:
            raise taken_back(call.id, pause)
        return self.document

    def _hear(self, call: CallIn, now: float) -> None:
        """Note a call; one of a process that no line names counts once that process has answered at the address it names."""
        line = self.document.member(call.id)
        if self._reach.has(call.incarnation) or (line is not None and line.incarnation == call.incarnation):
            self._told.unheard.heard(call.id)
            if self._judge.heard(call, now):
                self._news.set()
        else:
            self._reach.ask(call)

    def _found(self, call: CallIn, there: Presence) -> None:
        """Note a call of a process that has answered at its address."""
        now = boot_time()
        if self._told.note(self.document, call, there, now):
            self._news.set()
        if call.document is not None or self._told.is_lost_to(self.document, call):
            return  # it calls in again, with the document here or to show its own
        error = refused(self.document, call, self._judge.liveness.recent(now))
        if error is None or error.retryable:
            self._hear(call, now)

    @property
    def waits_for(self) -> list[str]:
        """The members whose documents are still to be shown: while it is rebuilt, or before anything is decided."""
        return self._told.waits_for(boot_time())

    def ended(self, node_id: str, pid: int) -> None:
        """Note that a process of this machine has certainly ended."""
        call = self._judge.liveness.last(node_id)
        if call is not None and call.pid == pid:
            self._judge.ended(call.incarnation)
            self._news.set()

    def accept_loss(self, node_id: str, *, dry_run: bool = False) -> Outlook:
        """Accept the loss of what a member held; return what follows. Raise MemberConflict when there is nothing to accept."""
        waited_for = node_id in self.waits_for
        before = self.attendance.loss_in(node_id)
        try:
            follows = self._judge.accept_loss(node_id, boot_time(), dry_run=dry_run)
        except MemberConflict:
            if not waited_for:
                raise
            follows = Outlook(())
        else:  # its document and its directory may both be waited for, and are one loss
            if not dry_run and before is None:
                keys = {one: self.attendance.keys_of(one) for one in follows.acts}
                say(news.of_loss(node_id, follows, keys, self.attendance.loss_in(node_id) or 0.0))
        if not dry_run:
            if waited_for:
                self._told.excuse(node_id)
            self._news.set()
        return follows

    @property
    def coverage(self) -> Coverage | None:
        """The part of all keys that has its copies at members that answer; None while there is one copy at most."""
        return None if self.document.replicas == 1 else self._view.coverage(self.attendance.absent)

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
        self.chronicle.look(self.attendance, now)
        if self._told.rebuilding is not None:
            self._rebuild(self._told.rebuilding, now)
            return
        began = boot_time()
        self._reach.keep(call.incarnation for call in self._judge.liveness.recent(now).values())
        unheard = set(self._told.unheard.all)
        self._ask([member for member in self.document.members if member.id in unheard])
        actions = self._due(now)
        questions = [action for action in actions if isinstance(action, Ask)]
        for question in questions:
            self._ask(question.members)
        for action in self._due(now + boot_time() - began) if questions else actions:
            if isinstance(action, Plan | GoOn):
                self._moves.send(action, self.document)
            elif isinstance(action, Enact) and not self._commit(action.document):
                self._judge.not_enacted()
        self.ring_change.begin_look(self.document, self._judge.placement, self._judge.liveness.recent(now), now)

    def _due(self, now: float) -> list[Action]:
        """Return what the judge wants done: nothing before it is known that no member has a later document."""
        waits = self._told.rebuilding is not None or bool(self._told.waits_for(now))
        return self._judge.look(now, waits=waits)

    def _ask(self, members: Sequence[Member]) -> None:
        """Ask members which process answers for them, and which document it has."""
        answers = self._peers.ask([member.node for member in members], ANSWERED_WITHIN) if members else []
        for member, there in zip(members, answers, strict=True):
            if there is not None:
                self._told.unheard.answered(member.id, there, self.document)
            self._judge.answered(member.id, None if there is None else there.incarnation, boot_time())

    def _holds(self, member: Member, plan: Plan) -> None:
        """Note that a primary holds what was asked of it."""
        self._judge.held(member.id, member.incarnation, plan.number, plan.order)
        self._news.set()

    def _commit(self, document: Document) -> bool:
        """Put a document into force: on disk first, then here, then everywhere. Return whether that could be done."""
        if document.epoch > MAX_EPOCH:
            self._say_once(as_error("the document has come to the last epoch, so no member changes its state"))
            return False
        with self._writing:
            before = self.document
            try:
                replaced, placement = self._thread.call(lambda: self._keep(before, document))
            except OSError as error:
                self._say_once(
                    as_error(f"no member changes its state, as {error.filename} cannot be written: {error.strerror}")
                )
                return False
            if not replaced:
                raise MemberConflict("somebody else has changed the document in the store")
            self._said = ""
            self._judge.enacted(document, boot_time(), placement)
            self._told.enacted(document)
            self._view.adopt(document, replace=True, placement=placement)
            self.chronicle.changed(before, document, self._judge.departures, self.coverage)
        nodes = [member.node for member in document.members if member.state is not State.DOWN]
        moved = [(one.node, document.member(one.id)) for one in before.members if not awaits_its_first_process(one)]
        nodes += [node for node, now in moved if now is not None and now.url != node.url]  # who still runs there is to end
        gevent.spawn(self._peers.push, document, nodes)
        return True

    def _keep(self, before: Document, document: Document) -> tuple[bool, Placement | None]:
        """Put a document on the disk, and make its placement, which takes long for many nodes. In the native thread."""
        return self._store.replace_if(before, document), self._view.place(document)

    def _rebuild(self, rebuilding: Rebuilding, now: float) -> None:
        newest = rebuilding.newest
        foreign = self._view.document is not None and newest.cluster != self._view.document.cluster
        self._view.adopt(newest, replace=foreign)
        try:
            document = rebuilding.result()
        except ValueError as error:
            self._say_once(as_error(f"the document cannot be rebuilt: {error}"))
            return
        if document is None:
            if now - rebuilding.since > _SAY_AFTER:
                self._say_once(
                    as_warning(
                        f"the document waits for those of {', '.join(rebuilding.waits_for)}; POST /v1/cluster/accept-loss "
                        f"excuses a member that will not come"
                    )
                )
        elif self._commit(document):
            self._told.rebuilding = None
            say(f"the document has been rebuilt: generation {document.generation}, epoch {document.epoch}")

    def _say_once(self, line: str) -> None:
        if line != self._said:
            self._said = line
            say(line)

    def close(self) -> None:
        """Give the store up."""
        self._forecasts.close()
        self._thread.close()
        self._store.close()
