"""A member: a process that runs the machine of `gkv.replication` on a simulated disk, with simulated clocks.

It does what the machine's actions say, and no more: it sends, commits, keeps the note, fetches documents, calls in.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, State
from gkv.cluster.duties import duties
from gkv.cluster.plans import GoOn, Plan
from gkv.duties import Duties, Fault, Roles
from gkv.model import Node, era_of, split_era
from gkv.replication import actions, events
from gkv.replication.expiry import DueTime
from gkv.replication.messages import Behind, Hello, HelloBack, Message
from gkv.replication.questions import Timeouts
from gkv.replication.replica import Replica
from tests.sim.authority import complaint_of
from tests.sim.clients import Proxy, Replies, Request
from tests.sim.disk import Directory
from tests.sim.engine import Engine
from tests.sim.requests import Requests
from tests.sim.scenario import AUTHORITY, What
from tests.sim.scheduler import Clock

if TYPE_CHECKING:
    from tests.sim.authority import Authority
    from tests.sim.world import World

CALL_EVERY = 0.4
TIDY_EVERY = 0.7
REACHED = 0.9
"""Seconds for which an answer of another member counts."""
AGAIN_AFTER_END = 0.2
"""Seconds until a process that has ended by itself is started again."""


class Member:
    """One member, over all its processes."""

    def __init__(self, world: "World", name: str, place: int) -> None:
        self.id = name
        self._world = world
        setup = world.setup
        rate = setup.rates[place] if place < len(setup.rates) else 1.0
        wall = setup.walls[place] if place < len(setup.walls) else 0.0
        self.clock = Clock(world.scheduler, rate, 1000.0 + 37 * place, wall)
        self.directory = Directory()
        self.directory.granted = False
        self.older: Directory | None = None
        """What a snapshot has taken."""
        self.alive = False
        self.paused = False
        self.slow = 0.0
        self.failing = self.full = False
        self.incarnation = 0

    # -- the life of a process

    def start(self) -> None:
        """Start a process on the directory."""
        world = self._world
        self.alive, self.paused = True, False
        self.incarnation = self._next_incarnation()
        self.directory.ran += (self.incarnation,)
        self.engine = Engine(world, self, self.directory)
        self._requests = Requests(world, self)
        self._inbox: list[Callable[[], None]] = []
        self._wakes = float("inf")
        self._handing_over = False
        self._fetching: tuple[int, int] = (0, 0)
        self._restarts_in: float | None = None
        self.reports = (False, False)
        self._reports_era = 0
        self.document: Document | None = None
        self.duties: Duties | None = None
        self._answered: dict[int, float] = {}
        self.was_orderly, self.directory.orderly = self.directory.orderly, False
        boot = self.clock.boot()
        self.due = DueTime(self.clock.wall(), int(boot * 1000))
        timeouts = Timeouts(world.setup.replica_timeout, world.setup.disk_timeout)
        noted = self.directory.granted
        self.replica = Replica(
            self.id,
            self.incarnation,
            self.engine,
            self.due,
            boot,
            noted=noted,
            timeouts=timeouts,
            fill_rate=world.setup.fill_rate,
        )
        if world.story.told:
            world.story.tell(self.id, f"starts as {self.incarnation}")
        if self.directory.document is not None:
            self._adopt(self.directory.document)
        self._timer(0.01, self._call_in)
        self._timer(TIDY_EVERY, self._tidy)
        if world.setup.scrub_every:
            self._timer(world.setup.scrub_every, self._scrub)

    def _next_incarnation(self) -> int:
        return self._world.incarnation()

    def crash(self) -> None:
        """End at once; some of what was under way has reached the disk."""
        self.engine.crash()
        self.alive = False
        self._requests.close()

    def stop(self, lasts: float) -> None:
        """Have it end in an orderly way, and start again."""
        self._restarts_in = lasts
        self.handle(events.StopAsked())

    def _end(self, why: str) -> None:
        world = self._world
        if world.story.told:
            world.story.tell(self.id, f"ends: {why}")
        self.directory.orderly = self._restarts_in is not None and self._vouches()
        if self.directory.orderly:
            self.engine.close()
        else:
            self.engine.crash()
        self.alive = False
        self._requests.close()
        world.scheduler.after(self._restarts_in or AGAIN_AFTER_END, self.restart, What.CRASH)

    def _vouches(self) -> bool:
        """Return whether an orderly end says that nothing is lost of what the member had."""
        return self.replica.vouches(self.was_orderly)

    def restart(self, what: What) -> None:
        """Start again, unless it runs."""
        if self.alive:
            return
        if what is What.CRASH_EMPTY:
            self.directory = Directory()
        elif what is What.CRASH_OLD and self.older is not None:
            self.directory = self.older.snapshot()
        self.start()

    def resume(self, incarnation: int) -> None:
        """Go on after a pause: all that has come meanwhile is handled now."""
        if not self.alive or not self.paused or incarnation != self.incarnation:
            return
        self.paused = False
        if self._world.story.told:
            self._world.story.tell(self.id, "goes on")
        waiting, self._inbox = self._inbox, []
        for call in waiting:
            if self.alive and self.incarnation == incarnation:
                call()

    def _timer(self, delay: float, call: Callable[..., None], *args: object) -> None:
        """Have something done by this very process in a while."""
        incarnation = self.incarnation

        def due() -> None:
            if self.alive and self.incarnation == incarnation:
                self.run(lambda: call(*args))

        self._world.scheduler.after(delay, due)

    def run(self, call: Callable[[], None]) -> None:
        """Have the process do something, now or when it goes on."""
        if self.paused:
            self._inbox.append(call)
        else:
            call()

    # -- documents

    def know(self, document: Document) -> None:
        """Have a document from the beginning."""
        self.directory.document = document
        self._adopt(document)

    def show(self, document: Document) -> None:
        """Take a document that somebody has shown: on the disk first."""
        known = self._fetching if self.document is None else max(self._fetching, self.document.order)
        if document.order <= known:
            return
        self._fetching = document.order

        def keep(directory: Directory) -> None:
            if directory.document is None or directory.document.order < document.order:
                directory.document = document

        self.engine.keep(keep, lambda: self._adopt(document))

    def _adopt(self, document: Document) -> None:
        if self.document is not None and document.order <= self.document.order:
            return
        self.document = document
        self.duties = duties(document, self._world.placement(document), self.id)
        if self._world.story.told:
            self._world.story.tell(self.id, f"has epoch {document.epoch}")
        self.handle(events.Adopted(self.duties))

    def roles_of(self, key: str) -> Roles:
        """Return who does what for a key by the document in force here."""
        assert self.duties is not None
        return self.duties.roles_of(key)

    @property
    def needed(self) -> int:
        """Acting members without which nothing is acknowledged."""
        return 0 if self.document is None else self.document.needed

    def keeps(self, document: Document | None, key: str) -> bool:
        """Return whether it is to have a key that it had to have by a document, by a later one that it knows."""
        assert document is not None
        mine = self.directory.document
        return mine is None or mine.order <= document.order or self.id in self._world.roles_of(key, mine).preference

    # -- the authority

    def _call_in(self) -> None:
        self._call_now()
        self._timer(CALL_EVERY, self._call_in)

    def _call_now(self) -> None:
        """Say to the authority who this is, and what it has."""
        document = self.document
        held = sum(record.value is not None for record in self.directory.records.values())
        filled, coming = self.reports if document is not None and self._reports_era == document.era else (False, False)
        call = CallIn(
            Node(self.id, f"http://{self.id}:1"),
            self.incarnation,
            cluster=None if document is None else document.cluster,
            order=(0, 0) if document is None else document.order,
            digest="" if document is None else document.digest,
            records=held,
            bare=not self.directory.records,
            ran=self.directory.ran,
            reached=self.reached(),
            equal=filled,
            ready=coming,
            orderly=self.was_orderly,
        )
        self._tell("call-in", lambda authority: authority.hear_call(self, call))

    def reached(self) -> tuple[int, ...]:
        """Return the incarnations of members that have answered lately; ask all, while this one is to be admitted (A3)."""
        document = self.document
        if document is None or self.replica.desk.serves:
            return ()
        for line in document.members:
            if line.id != self.id and line.state is not State.DOWN:
                self._send(actions.Send(line.id, document.era, Hello(0)))
        now = self._world.now
        return tuple([one for one, at in self._answered.items() if now - at < REACHED])

    # -- the machine

    def handle(self, event: events.Event) -> None:
        """Give an event to the machine, and do what it says."""
        for action in self.replica.handle(event, self.clock.boot()):
            if not self.alive:
                return
            self._do(action)
        if self.replica.has_new and not self._handing_over:
            self._handing_over = True
            if self._world.setup.turn:
                self._timer(self._world.setup.turn, self._hand_over)
            else:
                self._hand_over()
                return
        wakes = self.replica.wakes_at
        if wakes < self._wakes:
            self._wakes = wakes
            self._timer(max(0.0, self.clock.world(wakes) - self._world.now), self._tick, wakes)

    def _hand_over(self) -> None:
        self._handing_over = False
        self.handle(events.HandOver())

    def _tick(self, wanted: float) -> None:
        if self._wakes == wanted:
            self._wakes = float("inf")
            self.handle(events.Tick())

    def _do(self, action: actions.Action) -> None:
        incarnation = self.incarnation
        match action:
            case actions.Send():
                self._send(action)
            case actions.Commit():
                self.engine.commit(action)
            case actions.Replace():
                self.engine.replace(action)
            case actions.Answer():
                self._requests.answer(action)
            case actions.KeepNote(there):
                self.engine.keep(
                    lambda directory: setattr(directory, "granted", there), lambda: self.handle(events.NoteKept(there))
                )
            case actions.Fetch(member):
                other = self._world.members[member]
                self._world.network.send("fetch", self.id, member, lambda: other.fetched_by(self))
            case actions.Complain(member, fault):
                self._complain(member, fault)
            case actions.Report(era, filled, coming):
                self._reports_era, self.reports = era, (filled, coming)
                self._call_now()
            case actions.Paused(plan, era):
                order = split_era(era)
                self._tell("held", lambda authority: authority.hear_held(self.id, incarnation, plan, order))
            case actions.Leave(era):
                asked_at = split_era(era)
                self._tell("leave", lambda authority: authority.hear_leave(self.id, incarnation, asked_at))
            case actions.End(why):
                self._end(why)

    def _send(self, action: actions.Send) -> None:
        world = self._world
        other = world.members.get(action.to)
        if other is None:
            return
        message, era, incarnation = action.message, action.era, self.incarnation
        if world.story.told:
            world.story.tell(self.id, f"-> {action.to}: {message}")

        def deliver() -> None:
            if other.alive:
                other.run(lambda: other.hear(self.id, incarnation, era, message))

        world.network.send(type(message).__name__, self.id, action.to, deliver)

    def hear(self, sender: str, incarnation: int, era: int, message: Message) -> None:
        """Take in what another member says."""
        if isinstance(message, HelloBack | Behind):
            self._answered[incarnation] = self._world.now
        self.handle(events.Received(sender, incarnation, era, message))

    def fetched_by(self, other: "Member") -> None:
        """Give another member the document."""
        document = self.document
        if self.alive and not self.paused and document is not None:
            self._world.network.send(
                "document", self.id, other.id, lambda: other.alive and other.run(lambda: other.show(document))
            )

    def could_serve(self, key: str) -> bool:
        """Return whether a read of a key could be answered now."""
        replica = self.replica
        if self.duties is None or not replica.desk.serves:
            return False
        roles = self.duties.roles_of(key)
        if roles.primary != self.id or replica.takeovers.reign(events.pair_of(roles)) is None:
            return False
        return not replica.leases.missing(roles.granters, self.duties, self.clock.boot())

    def is_open(self, roles: Roles) -> bool:
        """Return whether the keys of a list are served."""
        return self.replica.takeovers.reign(events.pair_of(roles)) is not None

    @property
    def unsettled(self) -> bool:
        """Whether a write of its own as a primary is not settled."""
        return bool(len(self.replica.writing.primary))

    def complain(self, about: str) -> None:
        """Complain of a member without a reason."""
        self._complain(about, Fault.SILENT)

    def _complain(self, about: str, fault: Fault) -> None:
        complaint = complaint_of(self, about, fault)
        if complaint is not None:
            if self._world.story.told:
                self._world.story.tell(self.id, f"complains of {about}: {fault}")
            self._tell("complaint", lambda authority: authority.hear_complaint(complaint))

    def _tell(self, kind: str, deliver: "Callable[[Authority], None]") -> None:
        """Tell the authority something."""
        authority = self._world.authority
        self._world.network.send(kind, self.id, AUTHORITY, lambda: deliver(authority))

    def hear_plan(self, plan: Plan | GoOn) -> None:
        """Take in a plan, or that it is given up."""
        if plan.incarnation != self.incarnation:
            return
        if isinstance(plan, Plan):
            lists = tuple([events.pair_of(roles) for roles in plan.lists])
            self.handle(events.PauseAsked(plan.number, era_of(*plan.order), lists))
        else:
            self.handle(events.GoOn(plan.number))

    def _tidy(self) -> None:
        self._timer(TIDY_EVERY, self._tidy)
        self.engine.tidy()

    def _scrub(self) -> None:
        self._timer(self._world.setup.scrub_every, self._scrub)
        damaged = sorted(self.directory.damaged)
        if damaged:
            self.handle(events.DamageFound(damaged))

    def request(self, proxy: Proxy, request: Request, answer: Callable[[Replies], None]) -> None:
        """Take in a client's call."""
        self.run(lambda: self._requests.take(proxy, request, answer))
