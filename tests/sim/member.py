"""A member: a process that runs the machine of `gkv.replication` on a simulated disk, with simulated clocks.

It does what the machine's actions say, and no more: it sends, commits, keeps the note, fetches documents, calls in.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, State
from gkv.cluster.plans import GoOn, Plan
from gkv.model import Duties, Effect, Fault, Line, Node, Record, Roles, Version, Write, era_of, split_era
from gkv.replication import actions, events
from gkv.replication.admission import Verdict, judge_add, judge_touch, judge_write
from gkv.replication.expiry import DueTime, is_due
from gkv.replication.messages import Behind, Hello, HelloBack, Message
from gkv.replication.questions import Questions
from gkv.replication.replica import Replica
from tests.linearizability.history import Kind
from tests.sim import rules
from tests.sim.authority import complaint_of
from tests.sim.clients import NOT_SENT, Proxy, Replies, Reply, Request, Said
from tests.sim.disk import Directory, Disk, merged
from tests.sim.scenario import AUTHORITY, What
from tests.sim.scheduler import Clock

if TYPE_CHECKING:
    from tests.sim.authority import Authority
    from tests.sim.world import World

COMMIT = 0.002
"""Seconds that a commit ordinarily takes."""
KEEP = 0.001
"""Seconds that a note or a document ordinarily takes to the disk."""
CALL_EVERY = 0.4
TIDY_EVERY = 0.7
NOBODYS = -1
"""The token of commits that no machine asks for."""
REACHED = 0.9
"""Seconds for which an answer of another member counts."""
AGAIN_AFTER_END = 0.2
"""Seconds until a process that has ended by itself is started again."""


class Member:
    """One member, over all its processes. It is what the machine sees of the engine, too."""

    forced = True
    """Whether what fills it takes the place of what is there whatever the versions say."""

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
        self.failing = False
        self.incarnation = 0

    # -- the life of a process

    def start(self) -> None:
        """Start a process on the directory."""
        world = self._world
        self.alive, self.paused = True, False
        self.incarnation = self._next_incarnation()
        self.directory.ran += (self.incarnation,)
        self.disk = Disk(self.directory)
        self.files = Disk(self.directory)
        self._disk_free = self._files_free = 0.0
        self._staged: dict[str, list[Record | None]] = {}
        self._inbox: list[Callable[[], None]] = []
        self._asked: dict[object, tuple[Request, Callable[[Replies], None], list[Version | None]]] = {}
        self._numbers = 0
        self._wakes = float("inf")
        self._fetching: tuple[int, int] = (0, 0)
        self._restarts_in: float | None = None
        self.reports = (False, False)
        self._reports_era = 0
        self.document: Document | None = None
        self.duties: Duties | None = None
        self._answered: dict[int, float] = {}
        self.was_orderly, self.directory.orderly = self.directory.orderly, False
        boot = self.clock.boot()
        due = DueTime(self.clock.wall(), int(boot * 1000))
        self.replica = Replica(self.id, self.incarnation, self, due, boot, noted=self.directory.granted)
        self.replica.desk.questions = Questions(world.setup.replica_timeout)
        if world.story.told:
            world.story.tell(self.id, f"starts as {self.incarnation}")
        if self.directory.document is not None:
            self._adopt(self.directory.document)
        self._timer(0.01, self._call_in)
        self._buried: dict[str, float] = {}
        """By key, since when this process has had a tombstone on its disk."""
        self._timer(TIDY_EVERY, self._tidy)

    def _next_incarnation(self) -> int:
        return self._world.incarnation()

    def crash(self) -> None:
        """End at once; some of what was under way has reached the disk."""
        chance = self._world.chance
        self.disk.crash(chance.below(f"{self.id} commits", self.disk.busy + 1))
        self.files.crash(chance.below(f"{self.id} files", self.files.busy + 1))
        self.alive = False
        self._break()

    def _break(self) -> None:
        """Break the connections of clients."""
        for _, answer, _ in self._asked.values():
            answer(())
        self._asked.clear()

    def stop(self, lasts: float) -> None:
        """Have it end in an orderly way, and start again."""
        self._restarts_in = lasts
        self._handle(events.StopAsked())

    def _end(self, why: str) -> None:
        world = self._world
        if world.story.told:
            world.story.tell(self.id, f"ends: {why}")
        self.disk.crash(self.disk.busy)
        self.files.crash(self.files.busy)
        self.directory.orderly = self._restarts_in is not None
        self.alive = False
        self._break()
        world.scheduler.after(self._restarts_in or AGAIN_AFTER_END, self.restart, What.CRASH)

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

        self._keep(keep, lambda: self._adopt(document))

    def _adopt(self, document: Document) -> None:
        if self.document is not None and document.order <= self.document.order:
            return
        self.document = document
        self.duties = duties_of(self._world, document, self.id)
        if self._world.story.told:
            self._world.story.tell(self.id, f"has epoch {document.epoch}")
        self._handle(events.Adopted(self.duties))

    def roles_of(self, key: str) -> Roles:
        """Return who does what for a key by the document in force here."""
        assert self.duties is not None
        return self.duties.roles_of(key)

    @property
    def needed(self) -> int:
        """Acting members without which nothing is acknowledged."""
        return 0 if self.document is None else self.document.needed

    @property
    def tombstone_ttl(self) -> float:
        """Seconds for which a tombstone stays."""
        return self._world.setup.tombstone_ttl

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

    def _handle(self, event: events.Event) -> None:
        for action in self.replica.handle(event, self.clock.boot()):
            if not self.alive:
                return
            self._do(action)
        wakes = self.replica.wakes_at
        if wakes < self._wakes:
            self._wakes = wakes
            self._timer(max(0.0, self.clock.world(wakes) - self._world.now), self._tick, wakes)

    def _tick(self, wanted: float) -> None:
        if self._wakes == wanted:
            self._wakes = float("inf")
            self._handle(events.Tick())

    def _do(self, action: actions.Action) -> None:
        incarnation = self.incarnation
        match action:
            case actions.Send():
                self._send(action)
            case actions.Commit():
                self._commit(action.token, _by_order(action.write))
            case actions.Replace():
                found: list[tuple[str, Record | None, bool]] = [(key, record, self.forced) for key, record in action.records]
                self._commit(action.token, [*found, *[(key, None, self.forced) for key in action.drops]])
            case actions.Answer():
                self._answer(action)
            case actions.KeepNote(there):
                self._keep(lambda directory: setattr(directory, "granted", there), lambda: self._handle(events.NoteKept(there)))
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
        self._handle(events.Received(sender, incarnation, era, message))

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
            self._handle(events.PauseAsked(plan.number, era_of(*plan.order), lists))
        else:
            self._handle(events.GoOn(plan.number))

    # -- the engine, as the machine sees it

    def _commit(self, token: int, changes: list[tuple[str, Record | None, bool]]) -> None:
        world = self._world
        fails, self.failing = self.failing, False
        taken = []
        if not fails:
            for key, record, forced in changes:
                newest = self._newest(key)
                if forced or newest is None or record is None or newest.version <= record.version:
                    self._staged.setdefault(key, []).append(record)
                    taken.append(key)
                if record is not None and record.value is None:
                    buried = world.facts.buried
                    buried[key] = max(record.version, buried.get(key, record.version))

        def apply(directory: Directory) -> None:
            if fails:
                return
            records = directory.records
            for key, record, forced in changes:
                if forced and record is None:
                    records.pop(key, None)
                elif record is not None and (forced or merged(records, key, record)):
                    records[key] = record

        def done() -> None:
            self.disk.end()
            for key in taken:
                staged = self._staged[key]
                staged.pop(0)
                if not staged:
                    del self._staged[key]
            for key, _, _ in changes:
                rules.kept(world, self, key)
            if fails:
                self.run(lambda: self._handle(events.CommitFailed(token)))
            else:
                self.run(lambda: self._handle(events.Committed(token)))

        self.disk.begin(apply)
        takes = self.slow + world.commit_takes(self.id, COMMIT)
        self._disk_free = max(world.now, self._disk_free) + takes
        self._sync(self._disk_free, done)

    def _sync(self, at: float, done: Callable[[], None]) -> None:
        """Have something done at a time, also in a pause: disks do not pause."""
        incarnation = self.incarnation
        self._world.scheduler.at(at, lambda: done() if self.alive and self.incarnation == incarnation else None)

    def _keep(self, change: Callable[[Directory], None], then: Callable[[], None]) -> None:
        """Write a small file, and go on when it is on the disk."""
        world = self._world

        def done() -> None:
            self.files.end()
            self.run(then)

        self.files.begin(change)
        self._files_free = max(world.now, self._files_free) + self.slow + world.chance.duration(f"{self.id} file", KEEP)
        self._sync(self._files_free, done)

    def _newest(self, key: str) -> Record | None:
        staged = self._staged.get(key)
        return staged[-1] if staged else self.directory.records.get(key)

    def newest(self, keys: Iterable[str]) -> list[Record | None]:
        """Return the record of each key as the commits under way will leave it."""
        return [self._newest(key) for key in keys]

    def walk(self, pair: events.Pair, after: str, limit: int) -> tuple[list[str], str | None]:
        """Return the next keys of a list."""
        keys = self.between(pair, after, None)
        return (keys, None) if len(keys) <= limit else (keys[:limit], keys[limit - 1])

    def between(self, pair: events.Pair, after: str, upto: str | None) -> list[str]:
        """Return all keys of a list after one and up to another."""
        keys = sorted({*self.directory.records, *self._staged})
        return [
            key
            for key in keys
            if key > after
            and (upto is None or key <= upto)
            and self._newest(key)
            and events.pair_of(self.roles_of(key)) == pair
        ]

    def _tidy(self) -> None:
        """Drop what is not this member's, let old tombstones go, and find values that are due."""
        self._timer(TIDY_EVERY, self._tidy)
        replica, now = self.replica, self.clock.boot()
        drops, due = [], []
        for key, record in self.directory.records.items():
            if record.value is None:
                since = self._buried.setdefault(key, now)
                if now - since >= self.tombstone_ttl and replica.may_forget(key):
                    drops.append(key)
            elif is_due(record, self.clock.wall()):
                due.append(key)
            if self.duties is not None and replica.may_drop(key):
                drops.append(key)
        for key in [key for key in self._buried if (record := self.directory.records.get(key)) is None or record.value]:
            del self._buried[key]
        if drops:
            self._commit(NOBODYS, [(key, None, True) for key in dict.fromkeys(drops)])
        if due:
            self._handle(events.DueFound(due))

    # -- clients

    def request(self, proxy: Proxy, request: Request, answer: Callable[[Replies], None]) -> None:
        """Take in a client's call."""
        self.run(lambda: self._take(proxy, request, answer))

    def _take(self, proxy: Proxy, request: Request, answer: Callable[[Replies], None]) -> None:
        world = self._world
        if self.document is None or request.document.order < self.document.order:
            shown = self.document
            if shown is not None:
                proxy.adopt(shown)
            answer((NOT_SENT,) * len(request.keys))
            return
        if request.document.order > self.document.order:
            self.show(request.document)
            answer((NOT_SENT,) * len(request.keys))
            return
        self._numbers += 1
        number = self._numbers
        since = [world.facts.read.get(key) for key in request.keys]
        self._asked[number] = (request, answer, since)
        deadline = self.clock.boot() + request.within
        if request.kind is Kind.READ:
            self._handle(events.ReadAsked(number, request.keys, deadline))
        else:
            depends = request.demand is not None or request.kind is not Kind.PUT
            self._handle(events.WriteAsked(number, request.keys, self._judge(request), deadline, depends))

    def _judge(self, request: Request) -> events.Judge:
        expires = self.clock.wall() + request.ttl if request.ttl else 0

        def judge(place: int, found: object, now: int) -> Verdict:
            record = found
            assert record is None or isinstance(record, Record)
            if request.kind is Kind.ADD:
                return judge_add(record, now, 1, None)
            if request.kind is Kind.TOUCH:
                return judge_touch(record, now, expires)
            return judge_write(record, now, request.demand, request.value, expires)

        return judge

    def _answer(self, action: actions.Answer) -> None:
        request, answer, since = self._asked.pop(action.client)
        told = [
            self._told(request, key, one, action, since[place])
            for place, (key, one) in enumerate(zip(request.keys, action.keys, strict=True))
        ]
        answer(tuple(told))

    def _told(self, request: Request, key: str, one: actions.KeyAnswer, action: actions.Answer, since: Version | None) -> Reply:
        world = self._world
        fate, record = one.fate, one.record
        if fate in (actions.Fate.READ, actions.Fate.NOTHING) and len(request.keys) == 1:
            rules.alone(world, self, key)  # of a batch, what was read early may be told late
        if fate is actions.Fate.READ:
            rules.read(world, key, None if record is None else record.version, since)
            if record is None or record.value is None:
                return Reply(Said.MISSING)
            return Reply(Said.DONE, record.value, record.tag)
        if fate is actions.Fate.NOTHING:
            verdict = one.verdict
            assert verdict is not None
            if verdict.effect is Effect.CONDITION:
                return Reply(Said.CONDITION, version=verdict.present)
            return Reply(Said.MISSING if verdict.effect is Effect.MISSING else Said.WRONG_TYPE)
        if fate is actions.Fate.WRITTEN:
            assert action.version is not None
            rules.acknowledged(world, self, key, action.version)
            return Reply(Said.DONE, None, action.version)
        return Reply(_FATES[fate])


_FATES = {
    actions.Fate.INDETERMINATE: Said.INDETERMINATE,
    actions.Fate.NOT_BEGUN: Said.NOTHING_BEGUN,
    actions.Fate.TOO_FEW_COPIES: Said.NOTHING_BEGUN,
    actions.Fate.BUSY: Said.NOTHING_BEGUN,
    actions.Fate.DAMAGED: Said.NOTHING_BEGUN,
}


def _by_order(write: Write) -> list[tuple[str, Record | None, bool]]:
    """Return what a write makes of its keys, to be merged by order."""
    expires = write.expires or (0,) * len(write.keys)
    tags = write.tags or (None,) * len(write.keys)
    return [
        (key, Record(write.version, value, due, tag), False)
        for key, value, due, tag in zip(write.keys, write.values, expires, tags, strict=True)
    ]


def duties_of(world: "World", document: Document, me: str) -> Duties:
    """Return what a member's machines know of a document."""
    placement = world.placement(document)
    lines = {line.id: Line(line.incarnation, line.state is State.DOWN, line.since, line.empty) for line in document.members}
    return Duties(
        me,
        document.order,
        lines,
        placement.roles,
        placement.list_of,
        document.lease_ms / 1000,
        document.needed,
        document.layout,
        document.next,
        document.next_since,
    )
