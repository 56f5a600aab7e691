"""The authority's judgement: what it hears goes in, and what it is to do comes out. Pure.

Binds who was heard when, the complaints, the pauses, the question before an eviction, the plans of
moves, and the changes of the document. Time is an argument, in seconds of a clock that only goes
forward. One document is on its way to the disk at a time: until it is told what became of that,
nothing else is decided.
"""

from dataclasses import dataclass

from gkv.cluster.admission_pauses import AdmissionPauses
from gkv.cluster.callin import CallIn
from gkv.cluster.changes import Look, change, leaving, move
from gkv.cluster.complaints import Complaint, Complaints
from gkv.cluster.departures import departures
from gkv.cluster.document import Document, Layout, Member, State
from gkv.cluster.liveness import Liveness
from gkv.cluster.losses import Outlook, begun_removals, outlook
from gkv.cluster.placement import Placement
from gkv.cluster.plans import GoOn, Plan, Plans
from gkv.cluster.promises import Promises
from gkv.cluster.question import Question
from gkv.cluster.refusals import refused_layout, refused_loss, refused_removal
from gkv.cluster.ring_pauses import RingPauses
from gkv.cluster.wish import Wish
from gkv.duties import Fault
from gkv.errors import MemberConflict

_KEPT = 256
"""Processes that are remembered as ended, or as about to."""


@dataclass(frozen=True, slots=True)
class Ask:
    """These members are asked which process answers for them; each answer, or that there is none, comes back."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Enact:
    """A document is to be on the disk, and then in force."""

    document: Document


Action = Ask | Enact | Plan | GoOn


class Judge:
    """The memory of one authority, beside the document."""

    def __init__(self, document: Document, incarnation: int, now: float, deadline: float = 10.0) -> None:
        """`incarnation` is of the authority's process, `deadline` the seconds for which a request may wait at a member."""
        self.document = document
        """The document in force."""
        self.placement = _placement(document, None)
        """Its placement; None while the ring has no member."""
        self.liveness = Liveness(now)
        self._promises = Promises(now, deadline)
        self._complaints = Complaints()
        self._pauses = AdmissionPauses(document, now)
        self.ring_pauses = RingPauses()
        """Those before changes of the ring."""
        self._question = Question()
        self._plans = Plans(incarnation)
        self._enacting: Document | None = None
        self._seen = Look({})
        """The look at which that was due."""
        self._accused: set[str] = set()
        self._ended: dict[int, None] = {}
        self._leaving: dict[int, None] = {}
        self._accepted: dict[str, None] = {}
        """In the order of these words."""
        self._removed: set[str] = set()
        self.wish = Wish()
        self._parting: set[str] = set()
        """Members that are to leave, or have left the ring, by an operator's word."""
        self.departures: list[str] = []  # why members have gone down by the document in force
        self._take_back = False
        self._min_in_sync: int | None = None

    # -- events

    def heard(self, call: CallIn, now: float) -> bool:
        """Note a call; return whether it says anything new, or complains."""
        line = self.document.member(call.id)
        mine = line is not None and line.incarnation == call.incarnation
        if mine:
            self._question.heard(call.id)
        self._promises.note(self.document, (call.incarnation, *call.reached), now)
        news = self.liveness.heard(call, now)
        if mine and call.has(self.document):
            news |= call.leaves and self.leaves(call.id, call.incarnation, call.order)
            for about, fault in call.complaints:
                other = self.document.member(about)
                if other is not None:
                    sides = (call.id, call.incarnation, about, other.incarnation)
                    news |= self.complained(Complaint(*sides, call.order, Fault(fault)), now)
        return news

    def answered(self, node_id: str, incarnation: int | None, now: float) -> None:
        """Note which process answered a question, None if none did."""
        line = self.document.member(node_id)
        if line is None or incarnation != line.incarnation:
            self._question.missing(node_id)
            return
        self.liveness.answered(node_id, incarnation, now)
        self._question.heard(node_id)
        self._promises.note(self.document, (incarnation,), now)

    def complained(self, complaint: Complaint, now: float) -> bool:
        """Note the complaint of a member; return whether it counts."""
        return self.placement is not None and self._complaints.complain(complaint, self.document, self.placement, now)

    def leaves(self, node_id: str, incarnation: int, order: tuple[int, int]) -> bool:
        """Note that a process is about to end and has settled all; return whether it is to be evicted for that."""
        line = self.document.member(node_id)
        if line is None or line.state is State.DOWN or (line.incarnation, self.document.order) != (incarnation, order):
            return False
        _keep(self._leaving, incarnation)
        return True

    def ended(self, incarnation: int) -> None:
        """Note that a process has certainly ended (A8)."""
        _keep(self._ended, incarnation)

    def held(self, node_id: str, incarnation: int, plan: int, order: tuple[int, int]) -> None:
        """Note the answer to a plan: that primary holds, and all is settled there."""
        self._plans.held(node_id, incarnation, plan, order)

    # -- an operator's words; those that have not had their effect yet are forgotten at a restart

    def accept_loss(self, node_id: str, now: float, *, dry_run: bool = False) -> Outlook:
        """Take the loss of a member (A6), as soon as nothing is left of what it may have promised; return what follows for its
        keys. Raise MemberConflict.
        """
        error = refused_loss(self.document, node_id, self.placement) or self._answers(node_id, now)
        if error is not None:
            raise error
        follows = outlook(self.document, self._accepted | {node_id: None}, node_id, self.placement)
        if not dry_run:
            self._accepted[node_id] = None
        return follows

    def loss_in(self, node_id: str, now: float) -> float | None:
        """Return the seconds after which the accepted loss of a member takes effect, None if there is none to come."""
        return self.promised(node_id, now) if node_id in self._accepted else None

    def remove(self, node_id: str, now: float, *, dry_run: bool = False) -> None:
        """Remove a member that is down, likewise. Raise MemberConflict."""
        error = refused_removal(self.document, node_id, self.placement) or self._answers(node_id, now)
        if error is None and self.wish.layout is not None:
            error = MemberConflict("another ring is about to come already; it can be taken back")
        if error is not None:
            raise error
        if not dry_run:
            self._removed.add(node_id)

    def removals(self, now: float) -> dict[str, float]:
        """Return the members that are to be removed and are in the ring still, each with the seconds until that is begun."""
        begun = begun_removals(self.document)
        lines = [self.document.member(one) for one in sorted(self._removed - begun)]
        return {line.id: self.promised(line.id, now) for line in lines if line is not None and line.weight}

    def change_ring(self, layout: Layout, leaves: str = "", *, removed: str = "", dry_run: bool = False) -> None:
        """Begin to change the ring (A5). The line of a member that `leaves` by that goes at the end, when it holds nothing any
        more, or is down. If one is to be `removed` (see `remove`), it begins with that. Raise MemberConflict.
        """
        error = refused_layout(self.document, layout)
        if error is None and (gone := dict(layout.weights).keys() & self._removed - {removed}):
            error = MemberConflict(f"{min(gone)} is about to be removed")
        if error is not None:
            raise error
        if not dry_run:
            self.wish.ask(layout, removed)
            self._parting.add(leaves)

    def take_back(self) -> None:
        """Give up the ring that is to come, or is wished for, and what was asked for with it. Members that have left the ring
        already go on leaving. Raise MemberConflict if there is none.
        """
        ring = {node.id for node in self.document.nodes}
        if self.document.next is None and self.wish.layout is None and self._removed.isdisjoint(ring):
            raise MemberConflict("no other ring is to come")
        self._take_back = self.document.next is not None
        self.wish.forget()
        self._removed -= ring
        self._parting -= ring

    def set_min_in_sync(self, number: int, *, dry_run: bool = False) -> None:
        """Set how many members of a list must act. Raise MemberConflict."""
        if not 1 <= number <= self.document.replicas:
            raise MemberConflict(f"min_in_sync is 1 to {self.document.replicas}, the number of copies")
        if not dry_run:
            self._min_in_sync = number

    def _answers(self, node_id: str, now: float) -> MemberConflict | None:
        if self._promises.answers(self.document, node_id, now):
            return MemberConflict(f"{node_id} still answers: its machine must be off, or its process at an end")
        return None

    def promised(self, node_id: str, now: float) -> float:
        """Return the seconds after which all that a member may have promised has run out, if it answers nobody until then."""
        return self._promises.left(self.document, node_id, now)

    # -- the judgement

    def look(self, now: float, *, waits: bool = False) -> list[Action]:
        """Return what is to be done now: nothing while it `waits`, as another document may have to be in force first.

        To be called all the time, at least ten times a second.
        """
        self.liveness.look(now, (member.id for member in self.document.members))
        if waits or self._enacting is not None:
            return []
        if self.placement is not None:
            gone = self._accused | self.liveness.silent(self.document, now)
            self._accused |= self._complaints.verdicts(self.document, self.placement, now, gone)
        seen = self._look(now)
        actions: list[Action] = []
        if goes := leaving(self.document, seen):
            asked = self._question.ask(goes, seen.silent, self.document, self.placement, now)
            if asked:
                actions.append(Ask(tuple(member for member in self.document.members if member.id in asked)))
            if not self._question.decided(goes, self.placement, now):
                return actions
        self._question.close()
        document = change(self.document, seen, self.placement)
        if document is None and self.placement is not None:
            after = move(self.document, seen, self.placement)
            if after is None:
                actions += self._plans.give_up()
            else:
                document, sent = self._plans.propose(self.document, after, self.placement, now)
                actions += sent
        if document is None:
            self._accepted = {one: None for one in self._accepted if one not in seen.accepted}  # none can have any effect
            return actions
        self._enacting, self._seen = document, seen
        return [*actions, Enact(document)]

    def _look(self, now: float) -> Look:
        overdue = self.ring_pauses.is_overdue(self.document, now)
        calls, silent = self.liveness.recent(now), self.liveness.silent(self.document, now)
        accepted = tuple(one for one in self._accepted if not self.promised(one, now))
        # The word was about a member that is gone: one that is back in time stays.
        self._removed = {one for one in self._removed if self._answers(one, now) is None}
        wanted = self.wish.begins(self.document, calls, self._removed, lambda one: self.promised(one, now))
        if self.document.next is None and self.wish.layout is None and not self.removals(now):
            self.wish.pace = None  # the change that it was about has ended, or does not begin
        roles = () if self.placement is None else self.placement.roles
        alone = {one for each in roles if each.primary is None for one in each.preference}
        return Look(
            calls,
            silent,
            frozenset(self._ended),
            accepted,
            overdue,
            frozenset(self._accused),
            frozenset(self._leaving),
            (self._pauses.running(self.document, now) - alone) | self._removed,
            wanted,
            begun_removals(self.document) | {one for one in self._removed if not self.promised(one, now)},
            self._take_back,
            self._min_in_sync,
            self.ring_pauses.at(self.document, calls, now),
            self.wish.pace,
        )

    def enacted(self, document: Document, now: float, placement: Placement | None = None) -> None:
        """Note that a document is in force, be it another than the one that was to be; its `placement` is made if not given."""
        self._pauses.follow(self.document, document, frozenset(self._leaving), now)
        self._plans.enacted(document)
        self._question.close()
        self.departures.clear()
        if document == self._enacting:
            self.departures += departures(self.document, document, self._seen, self._complaints.reasons)
            self._accepted = {one: None for one in self._accepted if one not in self._seen.accepted}
            self._take_back = self._take_back and not self._seen.take_back
            self._min_in_sync = None if self._seen.min_in_sync is not None else self._min_in_sync
            self.ring_pauses.note(self.document, document, self._seen, now)
        self._promises.follow(self.document, document, now)
        self.wish.follow(self.document, document, self._seen.pace if document == self._enacting else None)
        self._enacting = None
        self.document = document
        self.placement = _placement(document, self.placement, placement)
        lines = {member.id: member for member in document.members}
        self._accused = {one for one in self._accused if one in lines and lines[one].state is not State.DOWN}
        self._parting &= lines.keys()
        self._removed = (self._removed & lines.keys()) | {
            one for one in self._parting if not lines[one].weight and lines[one].state is State.DOWN
        }

    def not_enacted(self) -> None:
        """Note that the document could not be written: what was due is due still."""
        self._enacting = None


def _placement(document: Document, before: Placement | None, made: Placement | None = None) -> Placement | None:
    if not document.has_ring:
        return None
    return made or Placement.of(document, before)


def _keep(known: dict[int, None], incarnation: int) -> None:
    known[incarnation] = None
    while len(known) > _KEPT:
        del known[next(iter(known))]
