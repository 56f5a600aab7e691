"""The authority: the one process that decides who is a member.

A loop over three things: the store, which keeps the document; the liveness, which remembers who was heard; and the changes,
which are pure. A call-in only tells, and is answered with the document in force. Each step of the loop is a document that is on
disk before anybody hears of it, so the loop can be killed between any two of them and goes on from what it finds.
"""

import time
import uuid
from collections.abc import Iterable

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from gkv.cluster.callin import CallIn
from gkv.cluster.changes import Look, change, refused, refused_loss
from gkv.cluster.document import MAX_EPOCH, Document, Durability, State
from gkv.cluster.liveness import Liveness
from gkv.cluster.pauses import Pauses
from gkv.cluster.reach import Peers, Reach
from gkv.cluster.rebuilding import Rebuilding, Told
from gkv.cluster.store import Store
from gkv.cluster.view import View
from gkv.errors import MemberConflict, Unavailable
from gkv.log import say
from gkv.model import Presence
from gkv.threads import NativeThread

_LOOK_EVERY = 0.1
_APART = 0.03
"""Seconds between two looks at least, so that what comes together is one epoch."""
_ASK = 0.05
_SAY_AFTER = 3.0
"""Seconds of waiting for documents after which it is said whose are missing."""
_CHANGE_WITHIN = 5.0
"""Seconds after which a ring that is still to come is taken back."""
_KEPT_ENDED = 256


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
        now = boot_time() if now is None else now
        self._liveness = Liveness(now)
        self._ended: dict[int, None] = {}
        self._accepted: set[str] = set()
        self._reach = Reach(peers, self._found)
        self._change_since: float | None = None
        self._pauses = Pauses()
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
        self.document = document
        """The document in force."""
        self._told = Told((member.id for member in document.members), now)
        view.adopt(document)

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
        error = refused(self.document, call, self._liveness.recent(now))
        if error is not None and not error.retryable:
            raise error
        self._peers.reached(call.node)
        self._hear(call, now)
        if self._told.rebuilding is not None and self.document.member(call.id) is None:
            raise Unavailable(f"the document is being rebuilt: it waits for {', '.join(self.waits_for)}", retry_after=1)
        if error is not None:
            raise error
        if self._reach.misses(call.incarnation):
            raise Unavailable(f"nobody answers at {call.node.url} as this process of {call.id}", retry_after=1)
        pause = self._pauses.left(call.incarnation, now)
        if pause and self.document.member(call.id) is None:
            why = "it did not report the ring that was to come in time, or somebody else did not"
            raise Unavailable(f"the join of {call.id} was taken back: {why}. It is tried again in {pause:.0f} s", retry_after=1)
        return self.document

    def _hear(self, call: CallIn, now: float) -> None:
        """Note a call; one of a process that no line names counts once that process has answered at the address it names."""
        line = self.document.member(call.id)
        if self._reach.has(call.incarnation) or (line is not None and line.incarnation == call.incarnation):
            self._told.unheard.heard(call.id)
            if self._liveness.heard(call, now):
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
        error = refused(self.document, call, self._liveness.recent(now))
        if error is None or error.retryable:
            self._hear(call, now)

    @property
    def waits_for(self) -> list[str]:
        """The members whose documents are still to be shown: while it is rebuilt, or before anything is decided."""
        return self._told.waits_for(boot_time())

    def ended(self, node_id: str, pid: int) -> None:
        """Note that a process of this machine has certainly ended."""
        call = self._liveness.last(node_id)
        if call is not None and call.pid == pid:
            self._ended[call.incarnation] = None
            while len(self._ended) > _KEPT_ENDED:
                del self._ended[next(iter(self._ended))]
            self._news.set()

    def accept_loss(self, node_id: str, *, dry_run: bool = False) -> CallIn | None:
        """Let a member act with what it has; return its newest call. Raise MemberConflict when there is nothing to accept."""
        waited_for, error = node_id in self.waits_for, refused_loss(self.document, node_id)
        if error is not None and not waited_for:
            raise error
        if dry_run:
            return self._liveness.last(node_id)
        if waited_for:
            self._told.excuse(node_id)
        if error is None:  # its document and its directory may both be waited for, and are one loss
            say(f"the loss of what {node_id} held has been accepted: it acts with what it has")
            self._accepted.add(node_id)
        self._news.set()
        return self._liveness.last(node_id)

    def is_up(self, node_id: str) -> bool:
        """Return whether a member serves, and was heard lately."""
        member = self.document.member(node_id)
        call = self._liveness.last(node_id)
        if member is None or call is None or call.incarnation != member.incarnation:
            return False
        return member.weight > 0 and member.state is State.UP and self._liveness.is_up(node_id, boot_time())

    def waits_for_word(self, node_id: str) -> bool:
        """Return whether a member is there, and acts only once its loss has been accepted."""
        member = self.document.member(node_id)
        return member is not None and member.empty and self.answers(node_id)

    def answers(self, node_id: str) -> bool:
        """Return whether a process under this name was heard lately."""
        return self._liveness.is_up(node_id, boot_time())

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
        if self._told.rebuilding is not None:
            self._rebuild(self._told.rebuilding, now)
            return
        self._liveness.look(now, (member.id for member in self.document.members))
        self._ask(self._told.unheard.all)
        silent = self._silent(now)
        calls = self._liveness.recent(now)
        self._reach.keep(call.incarnation for call in calls.values())
        if self._told.rebuilding is not None or self._told.waits_for(now):
            return
        if self.document.next is None:
            self._change_since = None
        elif self._change_since is None:
            self._change_since = now
        overdue = self._change_since is not None and now - self._change_since > _CHANGE_WITHIN
        look = Look(calls, silent, frozenset(self._ended), frozenset(self._accepted), overdue, self._pauses.at(now))
        before = self.document
        document = change(before, look)
        if document is None or self._commit(document):
            self._accepted -= look.accepted  # others may have come while it was written
            self._pauses.note(before, document or before, look, now)

    def _silent(self, now: float) -> frozenset[str]:
        """Return the members that have said nothing for too long, and do not answer either."""
        silent = self._liveness.silent(self.document, now)
        there = self._ask(silent)
        for node_id, incarnation in there.items():
            member = self.document.member(node_id)
            if member is not None and incarnation == member.incarnation:
                self._liveness.answered(node_id, incarnation, boot_time())
                silent -= {node_id}
        return silent

    def _ask(self, node_ids: Iterable[str]) -> dict[str, int]:
        """Ask members which document they have; return the incarnations of those that answer, by id."""
        wanted = set(node_ids)
        if not wanted:
            return {}
        asked = [member for member in self.document.members if member.id in wanted]
        answers = self._peers.ask([member.node for member in asked], _ASK)
        there = {member.id: answer for member, answer in zip(asked, answers, strict=True) if answer is not None}
        for node_id, answer in there.items():
            self._told.unheard.answered(node_id, answer, self.document)
        return {node_id: answer.incarnation for node_id, answer in there.items()}

    def _commit(self, document: Document) -> bool:
        """Put a document into force: on disk first, then here, then everywhere. Return whether that could be done."""
        if document.epoch > MAX_EPOCH:
            self._say_once("the document has come to the last epoch, so no member changes its state")
            return False
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
            self.document = document
            self._told.enacted(document)
            self._view.adopt(document, replace=True)
            _say_changes(before, document)
        nodes = [member.node for member in document.members if member.state is not State.DOWN]
        gevent.spawn(self._peers.push, document, nodes)
        return True

    def _rebuild(self, rebuilding: Rebuilding, now: float) -> None:
        newest = rebuilding.newest
        if self._view.document is not None and newest.cluster != self._view.document.cluster:
            self._view.adopt(newest, replace=True)
        else:
            self._view.adopt(newest)
        try:
            document = rebuilding.result()
        except ValueError as error:
            self._say_once(f"the document cannot be rebuilt: {error}")
            return
        if document is None:
            if now - rebuilding.since > _SAY_AFTER:
                self._say_once(
                    f"the document waits for those of {', '.join(rebuilding.waits_for)}; POST /v1/cluster/accept-loss "
                    f"excuses a member that will not come"
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
