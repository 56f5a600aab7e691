"""The authority's process: the rulings of `gkv.cluster` on a simulated disk.

It does what the rulings say, and no more: it asks members, stores documents and shows them, and sends plans.
"""

from typing import TYPE_CHECKING

from gkv.cluster.callin import CallIn
from gkv.cluster.changes import Look, change
from gkv.cluster.document import Document
from gkv.cluster.liveness import Liveness
from gkv.replication.actions import Fault
from tests.sim import rules
from tests.sim.scenario import AUTHORITY

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.world import World

LOOK_EVERY = 0.1
STORE = 0.001
"""Seconds that a document ordinarily takes to the disk."""


class Authority:
    """The process, over all its starts. Its document is in force as soon as it is stored."""

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
        self._storing = False
        self.liveness = Liveness(self._world.now)
        self._world.story.tell(AUTHORITY, "starts")
        self._timer(0.01, self._look)

    def away(self) -> None:
        """End; a document that is being stored may be in force later, or never."""
        self.alive = False

    def _timer(self, delay: float, call, *args) -> None:
        starts = self._starts
        self._world.scheduler.after(delay, lambda: call(*args) if self.alive and self._starts == starts else None)

    def _look(self) -> None:
        self._timer(LOOK_EVERY, self._look)
        if not self._storing:
            now = self._world.now
            self.liveness.look(now, [line.id for line in self.document.members])
            silent = self.liveness.silent(self.document, now)
            document = change(self.document, Look(self.liveness.recent(now), silent))
            if document is not None:
                self._store(document)
        for proxy in self._world.proxies:
            if proxy.document.order < self.document.order:
                self._show_proxy(proxy)

    def _store(self, document: Document) -> None:
        self._storing = True
        world = self._world

        def stored() -> None:
            self._storing = False
            self.document = document
            if world.story.told:
                lines = ", ".join(f"{one.id} {one.state}{' empty' if one.empty else ''}" for one in document.members)
                world.story.tell(AUTHORITY, f"epoch {document.epoch}: {lines}")
            rules.complete(world, document)
            for member in world.members.values():
                self._show(member)
            for proxy in world.proxies:
                self._show_proxy(proxy)

        self._timer(world.chance.duration("A store", STORE), stored)

    def _show(self, member: "Member") -> None:
        document = self.document
        self._world.network.send("document", AUTHORITY, member.id, lambda: member.alive and member.run(lambda: member.show(document)))

    def _show_proxy(self, proxy) -> None:
        document = self.document
        self._world.network.send("document", AUTHORITY, proxy.id, lambda: proxy.adopt(document))

    # -- what members say

    def hear_call(self, member: "Member", call: CallIn) -> None:
        """Take in a call."""
        if not self.alive:
            return
        self.liveness.heard(call, self._world.now)
        if call.order < self.document.order:
            self._show(member)

    def hear_complaint(self, member: "Member", about: str, fault: Fault) -> None:
        pass

    def hear_paused(self, member: "Member", plan: int, era: int) -> None:
        pass

    def hear_leave(self, member: "Member", era: int) -> None:
        pass

    def accept_loss(self, name: str) -> None:
        pass

    def resize(self, name: str) -> None:
        pass

    def undo(self) -> None:
        pass
