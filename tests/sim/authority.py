"""The authority's process: the judge of `gkv.cluster` on a simulated disk.

It does what the judge says, and no more: it asks members, stores documents and shows them, and sends plans.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gkv.cluster.callin import CallIn
from gkv.cluster.complaints import Complaint
from gkv.cluster.document import Document, State
from gkv.cluster.document import Member as Line
from gkv.cluster.judge import Ask, Enact, Judge
from gkv.cluster.liveness import Liveness
from gkv.cluster.plans import GoOn, Plan
from gkv.cluster.replacement import replaced
from gkv.duties import Fault
from gkv.errors import InvalidMember, MemberConflict
from tests.sim import rules
from tests.sim.clients import Proxy
from tests.sim.faults import planned
from tests.sim.network import REFUSED
from tests.sim.scenario import AUTHORITY

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.world import World

LOOK_EVERY = 0.1
LOOK_EVERY_CALM = 0.3
"""The same while all members are up: news are looked at in any case, and silence is not found that fast."""
APART = 0.03
"""Seconds between two looks at least, after news."""
STORE = 0.001
"""Seconds that a document ordinarily takes to the disk."""
WAITS = 3.0
"""Seconds for which a request may wait at a member."""


class Authority:
    """The process, over all its starts. A document is in force as soon as it is stored."""

    def __init__(self, world: "World", document: Document) -> None:
        self._world = world
        self.document = document
        self.alive = False
        self._starts = 0
        self.back()

    def back(self) -> None:
        """Start, unless it runs."""
        if self.alive:
            return
        self.alive = True
        self._starts += 1
        self.judge = Judge(self.document, self._starts, self._world.now, WAITS)
        self.judge.liveness = Liveness(self._world.now, self._world.setup.silent_after)
        self._looked = self._world.now
        self._news = self._busy = self._complaints = False
        if self._starts > 1:
            self._world.story.tell(AUTHORITY, "starts again")
        self._timer(LOOK_EVERY, self._look_again)

    def away(self) -> None:
        """End; a document that is being stored is in force later, or never."""
        self.alive = False

    def _timer(self, delay: float, call: Callable[..., None], *args: object) -> None:
        starts = self._starts

        def due() -> None:
            if self.alive and self._starts == starts:
                call(*args)

        self._world.scheduler.after(delay, due)

    def _look_again(self) -> None:
        calm = self.document.next is None and all(line.state is State.UP for line in self.document.members)
        self._timer(LOOK_EVERY_CALM if calm and not self._busy else LOOK_EVERY, self._look_again)
        self._look()
        for proxy in self._world.proxies:
            if proxy.document.order < self.document.order:
                self._show_proxy(proxy)

    def _hear_news(self) -> None:
        """Look soon."""
        if not self._news:
            self._news = True
            self._timer(max(0.0, self._looked + APART - self._world.now), self._look)

    def _look(self) -> None:
        self._news = False
        self._looked = self._world.now
        actions = self.judge.look(self._world.now)
        self._busy = bool(actions) or self._complaints
        self._complaints = False
        for action in actions:
            if isinstance(action, Enact):
                self._store(action.document)
            elif isinstance(action, Ask):
                for line in action.members:
                    self._ask(line)
            else:
                self._plan(action)

    def _store(self, document: Document) -> None:
        world = self._world

        def stored() -> None:
            if _takes_a_loss(self.document, document):
                world.facts.lose()
            self.document = document
            if world.story.told:
                told = ", ".join(_shown(line) for line in document.members)
                world.story.tell(AUTHORITY, f"epoch {document.epoch}: {told}{', a ring is to come' if document.next else ''}")
            rules.complete(world, document)
            self.judge.enacted(document, world.now)
            for member in world.members.values():
                self._show(member)
            for proxy in world.proxies:
                self._show_proxy(proxy)

        self._timer(world.chance.duration("A store", STORE), stored)

    def _ask(self, line: Line) -> None:
        world = self._world
        member = world.members[line.id]
        if not member.alive and not world.network.is_cut(AUTHORITY, line.id):
            self._timer(REFUSED, self._answered, line.id, None)
            return

        def answer() -> None:
            incarnation = member.incarnation
            world.network.send("answer", line.id, AUTHORITY, lambda: self._answered(line.id, incarnation))

        world.network.send("ask", AUTHORITY, line.id, lambda: member.run(answer) if member.alive else None)

    def _answered(self, name: str, incarnation: int | None) -> None:
        if self.alive:
            self.judge.answered(name, incarnation, self._world.now)
            self._hear_news()

    def _plan(self, plan: Plan | GoOn) -> None:
        world = self._world
        member = world.members[plan.to]
        if world.story.told:
            world.story.tell(AUTHORITY, f"-> {plan.to}: {plan}")
        kind = type(plan).__name__
        if isinstance(plan, Plan):
            planned(world, plan.to)
        world.network.send(
            kind, AUTHORITY, plan.to, lambda: member.run(lambda: member.hear_plan(plan)) if member.alive else None
        )

    def _show(self, member: "Member") -> None:
        document = self.document

        def deliver() -> None:
            if member.alive:
                member.run(lambda: member.show(document))

        self._world.network.send("document", AUTHORITY, member.id, deliver)

    def _show_proxy(self, proxy: Proxy) -> None:
        document = self.document
        self._world.network.send("document", AUTHORITY, proxy.id, lambda: proxy.adopt(document))

    # -- what members say

    def hear_call(self, member: "Member", call: CallIn) -> None:
        """Take in a call."""
        if not self.alive:
            return
        if self.judge.heard(call, self._world.now):
            self._hear_news()
        if call.order < self.document.order:
            self._show(member)

    def hear_complaint(self, complaint: Complaint) -> None:
        """Take in what a member complains of."""
        if self.alive and self.judge.complained(complaint, self._world.now):
            self._complaints = True
            self._hear_news()

    def hear_held(self, name: str, incarnation: int, plan: int, order: tuple[int, int]) -> None:
        """Take in that a member holds the lists of a plan."""
        if self.alive:
            self.judge.held(name, incarnation, plan, order)
            self._hear_news()

    def hear_leave(self, name: str, incarnation: int, order: tuple[int, int]) -> None:
        """Take in that a member asks for its eviction."""
        if self.alive and self.judge.leaves(name, incarnation, order):
            self._hear_news()

    def ended(self, incarnation: int) -> None:
        """Take in that a process of this machine has ended (A8)."""
        if self.alive:
            self.judge.ended(incarnation)
            self._hear_news()

    # -- what an operator says

    def accept_loss(self, name: str) -> None:
        """Take the word that a member's loss is accepted, if it may be."""
        self._asked_for(lambda: self.judge.accept_loss(name, self._world.now))

    def remove(self, name: str) -> None:
        """Take the word that a member is removed, if it may be."""
        self._asked_for(lambda: self.judge.remove(name, self._world.now))

    def resize(self, name: str) -> None:
        """Take the word that the ring is to have a member that it has not, or not to have one that it has."""
        layout = self.document.layout
        weights = dict(layout.weights)
        if weights.pop(name, None) is None:
            weights[name] = 1.0
        if len(weights) >= layout.replicas:
            self._asked_for(lambda: self.judge.change_ring(replace(layout, weights=tuple(sorted(weights.items())))))

    def substitute(self, name: str, newcomer: str) -> None:
        """Take the word that a member has another's place in the ring."""
        member, other = self.document.member(name), self.document.member(newcomer)
        if self._is_still and member is not None and member.weight and other is not None and not other.weight:
            layout = replaced(self.document, member, newcomer, "")
            self._asked_for(lambda: self.judge.change_ring(layout))

    def keep(self, copies: int) -> None:
        """Take the word that there are to be so many copies, if there are as many members in the ring."""
        layout = self.document.layout
        if self._is_still and copies <= len(layout.weights):
            self._asked_for(lambda: self.judge.change_ring(replace(layout, replicas=copies)))

    @property
    def _is_still(self) -> bool:
        """Whether no other change is under way or about to be: an operator who asks for a second one is refused (A5)."""
        judge = self.judge
        return self.document.next is None and judge.wish.layout is None and not judge.removals(self._world.now)

    def hold(self, *, paused: bool) -> None:
        """Take the word that the change of the ring that is under way is to wait, or to go on."""
        if self.alive and self.document.next is not None and self.document.has_ring:
            self.judge.wish.pace = replace(self.judge.wish.pace or self.document.pace, paused=paused)

    def undo(self) -> None:
        """Take the word that the ring that is to come is not to come."""
        self._asked_for(self.judge.take_back)

    def _asked_for(self, word: Callable[[], None]) -> bool:
        """Do what an operator says; return whether it may be done."""
        if not self.alive:
            return False
        try:
            word()
        except (InvalidMember, MemberConflict) as error:
            self._world.story.tell(AUTHORITY, f"refuses: {error}")
            return False
        self._hear_news()
        return True


def _takes_a_loss(before: Document, after: Document) -> bool:
    """Return whether an operator's word about a loss has its effect."""
    pairs = [(was, line) for line in after.members if (was := before.member(line.id)) is not None]
    return any(line.left < was.left or (was.empty and not line.empty and _acts_on(was, line)) for was, line in pairs)


def _acts_on(was: Line, line: Line) -> bool:
    """Return whether a process is to act with what it has: one that was filled is up, and one with its directory is another."""
    return line.state is State.FILLING and line.incarnation == was.incarnation


def complaint_of(member: "Member", about: str, fault: Fault) -> Complaint | None:
    """Return the words by which a member complains, None if its document does not have the other."""
    document = member.document
    line = None if document is None else document.member(about)
    if document is None or line is None:
        return None
    return Complaint(member.id, member.incarnation, about, line.incarnation, document.order, fault)


def _shown(line: Line) -> str:
    left = f" left {line.left}.{line.rank}" if line.left else ""
    return f"{line.id} {line.state}{' empty' if line.empty else ''} as {line.incarnation}{left}"
