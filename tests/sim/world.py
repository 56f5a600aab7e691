"""The world of one run: it makes all processes, lets the calls and faults of a scenario happen, and looks after each step."""

from collections.abc import Callable
from dataclasses import replace

from gkv.cluster.document import Document, Durability
from gkv.cluster.document import Member as Line
from gkv.cluster.placement import Placement
from gkv.duties import Roles
from tests.linearizability.checker import check, version_of_two
from tests.linearizability.history import Operation, by_key
from tests.linearizability.search import GaveUp, Search
from tests.sim import rules
from tests.sim.authority import Authority
from tests.sim.chance import Chance
from tests.sim.clients import NOT_SENT, Proxy, Replies, Request
from tests.sim.faults import happen
from tests.sim.member import Member
from tests.sim.network import REFUSED, Network
from tests.sim.rules import Wrong
from tests.sim.scenario import EVERYBODY, PRIMARY, Call, Fault, Scenario, Setup, What
from tests.sim.scheduler import Scheduler
from tests.sim.story import Story

CLUSTER = "c" * 32
MOST_NAMES = 2_000
MOST_STEPS = 60_000
MOST_SEARCHED = 20_000
"""Operations that are tried to find an order of those on one key; a run in which that is too little says nothing of it."""
_LOOK_AGAIN = 0.4
_NAMES: dict[tuple[int, int, tuple[str, ...]], tuple[str, ...]] = {}
_FIRST: dict[tuple[int, int], Placement] = {}
"""Placements of first documents, from which those of later ones are made faster."""


class NoSuchList(Exception):
    """The ring of a setup has no list like that."""


class World:
    """One run."""

    def __init__(self, scenario: Scenario, seed: int | None = None, *, told: bool = False) -> None:
        """Make the cluster; a seed decides by lot what the scenario leaves open."""
        self.scenario = scenario
        setup = self.setup = scenario.setup
        self.scheduler = Scheduler()
        self.story = Story(self.scheduler, told=told)
        self.chance = Chance(seed, scenario.quirks, *_mood(seed))
        self.base_loss = self.chance.loss
        breaks = any(fault.what is What.BREAK for fault in scenario.faults)
        self.network = Network(self.scheduler, self.chance, scenario.rules, breaks=breaks)
        self.history: list[Operation] = []
        self.seen: dict[str, list[str | None]] = {}
        """By key, the versions that clients have seen, None for no value."""
        self.wall_errors = 2 * max(
            [0.0, *map(abs, setup.walls), *[abs(f.much) for f in scenario.faults if f.what is What.WALL]]
        )
        self.facts = rules.Facts()
        self._incarnations = 0
        self._placements: dict[tuple[int, int], Placement] = {}
        self.is_healed = False
        self._quiet_since: float | None = None
        self._final: int | None = None
        self._asking: dict[int, list[tuple[int, Call]]] = {}
        self.given_up = 0
        self.at_plan: list[Fault] = []

        names = [f"n{place}" for place in range(setup.nodes)]
        self.members = {name: Member(self, name, place) for place, name in enumerate(names)}
        for member in self.members.values():
            member.start()
        self.first = self._first_document(names)
        self.keys = _keys(setup, self.placement(self.first))
        self.authority = Authority(self, self.first)
        for member in self.members.values():
            member.know(self.first)
        self.proxies = [Proxy(self, place, self.first) for place in range(setup.proxies)]
        for number, call in enumerate(scenario.calls):
            self.scheduler.at(call.at, self._call, number, call)
        for fault in scenario.faults:
            self.scheduler.at(fault.at, self.fault, fault)
        self.scheduler.at(scenario.heal_at, self.heal)

    @property
    def now(self) -> float:
        return self.scheduler.now

    def _first_document(self, names: list[str]) -> Document:
        setup = self.setup
        lines = []
        for place, name in enumerate(names):
            incarnation = self.members[name].incarnation
            inside = place < setup.nodes - setup.outside
            lines.append(Line(name, f"http://{name}:1", 1.0 if inside else 0.0, incarnation=incarnation, directory=incarnation))
        return Document(
            CLUSTER,
            1,
            tuple(lines),
            setup.vnodes,
            replicas=setup.copies,
            min_in_sync=min(setup.min_in_sync, setup.copies),
            durability=Durability.ASYNC if setup.is_async else Durability.SYNC,
        )

    def commit_takes(self, name: str, ordinary: float) -> float:
        """Return how long a commit takes."""
        takes = self.chance.duration(f"{name} commit", ordinary)
        for one in self.scenario.commits:
            if one.on == name and one.since <= self.now < one.until and not self.is_healed:
                return one.takes
        return takes

    def incarnation(self) -> int:
        """Return one for a process that starts."""
        self._incarnations += 1
        return self._incarnations

    def placement(self, document: Document) -> Placement:
        """Return the placement of a document, made once for all processes."""
        found = self._placements.get(document.order)
        if found is None:
            setup = self.setup
            base = (setup.nodes, setup.outside * 100 + setup.vnodes, setup.copies)
            before = next(reversed(self._placements.values()), _FIRST.get(base))
            found = self._placements[document.order] = Placement.of(document, before)
            if document.epoch == 1:
                _FIRST.setdefault(base, found)
        return found

    def roles_of(self, key: str, document: Document) -> Roles:
        """Return who does what for a key by a document."""
        placement = self.placement(document)
        return placement.roles[placement.list_of(key)]

    # -- what happens

    def _call(self, number: int, call: Call) -> None:
        if call.client in self._asking:
            self._asking[call.client].append((number, call))
            return
        if call.client:
            self._asking[call.client] = []
        self.proxies[call.proxy % len(self.proxies)].ask(number, call)

    def over(self, call: Call) -> None:
        """Have a client begin its next call, if that has been waiting for the end of this one."""
        waiting = self._asking.pop(call.client, None)
        if waiting and self.now <= self.scenario.heal_at + 1:
            self._call(*waiting[0])
            self._asking[call.client] = waiting[1:]

    def call_member(self, proxy: Proxy, dst: str, request: Request, answer: Callable[[Replies], None]) -> None:
        """Bring a client's call to a member, and its answer back."""
        member = self.members[dst]
        if not member.alive and not self.network.is_cut(proxy.id, dst):
            self.scheduler.after(REFUSED, answer, (NOT_SENT,) * len(request.keys))
            return
        incarnation = member.incarnation

        def deliver() -> None:
            if not member.alive or member.incarnation != incarnation:
                self.scheduler.after(REFUSED, answer, ())  # the connection has broken
            else:
                member.request(proxy, request, reply)

        def reply(said: Replies) -> None:
            self.network.send("reply", dst, proxy.id, lambda: answer(said), once=True, lost=lambda: answer(()))

        self.network.send("call", proxy.id, dst, deliver, once=True, lost=lambda: answer(()))

    def fault(self, fault: Fault) -> None:
        """Let something break."""
        on = fault.on
        if on == PRIMARY:
            placement = self.placement(self.authority.document)
            on = placement.roles[placement.list_of(self.keys[0])].primary or "n0"
        if self.is_healed and fault.what is not What.HEAL:
            return
        if self.story.told:
            times = f" for {fault.lasts:g} s" if fault.lasts else ""
            to = f" to {fault.to}" if fault.to != EVERYBODY else ""
            self.story.tell(on, f"FAULT: {fault.what.value}{to}{times}")
        happen(self, replace(fault, on=on))

    def usual_loss(self) -> None:
        """Lose no more messages than before a fault."""
        self.chance.loss = 0.0 if self.is_healed else self.base_loss

    def heal(self) -> None:
        """End all faults; from now on the world must become quiet."""
        self.story.tell("", "all is healed")
        self.is_healed = True
        self.network.heal()
        self.chance.slow = 0.0  # who waits 0.4 s for answers is never quiet where some take 3 s
        for member in self.members.values():
            member.slow = 0.0
            member.failing = member.full = False
            if not member.alive:
                member.restart(What.CRASH)
            elif member.paused:
                member.resume(member.incarnation)
        self.authority.back()
        self.authority.hold(paused=False)
        self.scheduler.after(_LOOK_AGAIN, self._look)

    def _look(self) -> None:
        """See whether all is quiet; then read each key once more, and see whether all copies are equal."""
        why = rules.unrest(self)
        if self.now > self.scenario.end_at:
            raise Wrong("live", why or "clients wait")
        open_calls = self._asking or any(proxy.open for proxy in self.proxies)
        if why or open_calls:
            self.scheduler.after(_LOOK_AGAIN, self._look)
            return
        if self.scenario.accepts and (last := rules.last_ones(self)):
            for name in last:
                self.authority.accept_loss(name)
            self.scheduler.after(_LOOK_AGAIN, self._look)
            return
        if self._final is None:
            self._final = len(self.scenario.calls)
            for place in range(len(self.keys)):
                if rules.is_served(self, self.keys[place]):
                    self._call(self._final + place, rules.last_read(self.now, place))
            self.scheduler.after(0.1, self._look)
            return
        rules.equal_in_the_end(self)
        self.scheduler.clear()

    # -- the run

    def run(self) -> "World":
        """Let it all happen. Raise Wrong."""
        step, scheduler = self.scheduler.step, self.scheduler
        while step():
            if scheduler.done > MOST_STEPS:
                raise Wrong("live", "it never becomes quiet")
        if not self.facts.lost:
            self._judge()
        return self

    def _judge(self) -> None:
        """See whether the history of each key has an order that explains it."""
        for operations in by_key(self.history).values():
            search = Search(operations, MOST_SEARCHED)
            try:
                if search.run() is None and not version_of_two(operations):
                    continue
            except GaveUp:
                self.given_up += 1
                continue
            for offence in check(operations):
                raise Wrong("linearizable", "\n".join(offence.lines()))

    def replay(self) -> Scenario:
        """Return the scenario with all that was decided by lot."""
        return replace(self.scenario, quirks=tuple(self.chance.taken))


def _mood(seed: int | None) -> tuple[float, float, float]:
    """Return the shares of messages that are lost, doubled and slow."""
    if seed is None:
        return 0, 0, 0
    return (0, 0, 0.01, 0.05)[seed % 4], (0, 0.02, 0.02)[seed % 3], (0, 0.02, 0.1, 0.02, 0.3)[seed % 5]


def _keys(setup: Setup, placement: Placement) -> tuple[str, ...]:
    """Return names of keys whose lists begin as the setup says."""
    base = (setup.nodes, (setup.outside * 10 + setup.copies) * 100 + setup.vnodes, setup.lists)
    found = _NAMES.get(base)
    if found is None:
        names: list[str] = []
        for place, begins in enumerate(setup.lists):
            wanted = [f"n{digit}" for digit in begins[: setup.copies]]
            number = 0
            while [node.id for node in placement.preference(f"k{place}.{number}")][: len(wanted)] != wanted:
                number += 1
                if number == MOST_NAMES:
                    raise NoSuchList(wanted)
            names.append(f"k{place}.{number}")
        found = _NAMES[base] = tuple(names)
    return found
