"""One run: a cluster of virtual machines under the faults of a scenario, its clients' history, and what is wrong with it."""

import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import gevent

from gkv.cluster.document import State
from gkv.cluster.operator import Operator
from gkv.errors import GkvError
from tests.linearizability.checker import check
from tests.linearizability.history import Ending, Operation
from tests.linearizability.search import GaveUp
from tests.stack import install
from tests.stack.clients import FEATURES, KEYS, StackClient
from tests.stack.disks import Disk
from tests.stack.install import lines, loop, tell
from tests.stack.loop import Host
from tests.stack.programs import FewTokens, NodeProgram, Program, ProxyProgram, seeded
from tests.stack.rules import Rules, Wrong
from tests.stack.scenario import WEIGHTS, Fault, Scenario
from tests.stack.sockets import PORTS, Network
from tests.stack.thread import Thread

_JOINED_WITHIN = 20.0
_HEALED_WITHIN = 90.0
"""Seconds: a member that was evicted often waits for up to 30 s before it is admitted anew."""
_REST_WITHIN = 20.0
_QUIET = 0.5
_AWAY = (0.05, 2.5)
_LASTS = (0.1, 2.5)


@dataclass
class Outcome:
    """What a run has come to."""

    seed: int
    wrong: str = ""
    """Empty when nothing is."""
    operations: int = 0
    unknown: int = 0
    refused: int = 0
    acknowledged: int = 0
    epochs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    virtual: float = 0.0
    trace: int = 0
    given_up: int = 0
    story: list[str] = field(default_factory=list)


class World:
    """The machines of a run."""

    def __init__(self, scenario: Scenario, directory: Path) -> None:
        self.scenario = scenario
        self.chance = random.Random(f"faults {scenario.seed}")
        self.loop = loop()
        self.loop.chance = random.Random(f"loop {scenario.seed}")
        seeded(scenario.seed)
        self.net = install.network = Network(self.loop)
        self.names = [f"n{number}" for number in range(scenario.nodes)]
        self.disks: dict[str, Disk] = {}
        for name in ("proxy", *self.names):
            (directory / name).mkdir()
            self.disks[name] = Disk(directory / name, scenario.disk)
        Thread.loop = self.loop
        Thread.disks = {**self.disks}
        self.programs: dict[str, Program] = {}
        """By machine, the process that runs there."""
        self._starts: Counter[str] = Counter()
        self.clients: list[StackClient] = []
        self.counts: Counter[str] = Counter()
        self.rules = Rules(self)
        self._faults: dict[Fault, Callable[[str], object]] = {
            Fault.KILL: self._kill,
            Fault.KILL_ALL: self._kill_all,
            Fault.KILL_PROXY: self._kill_proxy,
            Fault.STOP: self._stop,
            Fault.PAUSE: self._pause,
            Fault.CUT: self._cut,
            Fault.CUT_ONE_WAY: partial(self._cut, both=False),
            Fault.BREAK: self.net.break_all,
            Fault.SLOW: self._slow,
            Fault.STALL: self._stall,
            Fault.FULL: self._fill,
            Fault.IO_ERROR: self._spoil,
            Fault.WEIGHT: partial(self._say, self._weigh),
            Fault.COPIES: partial(self._say, self._copy),
            Fault.UNDO: partial(self._say, self._undo),
        }

    # -- processes

    @property
    def nodes(self) -> dict[str, NodeProgram]:
        """The nodes' processes that run."""
        return {name: one for name, one in self.programs.items() if isinstance(one, NodeProgram)}

    @property
    def proxy(self) -> ProxyProgram | None:
        """The proxy's process, None while none runs."""
        found = self.programs.get("proxy")
        return found if isinstance(found, ProxyProgram) else None

    def start(self, machine: str) -> None:
        """Start a process on a machine, unless one runs there."""
        if machine in self.programs:
            return
        self._starts[machine] += 1
        place = self.names.index(machine) if machine in self.names else -1
        rate = self.scenario.rates[place] if place >= 0 else 1.0
        host = self.loop.add(Host(f"{machine}#{self._starts[machine]}", rate, 1_000.0 * (place + 2)))
        program: Program
        if machine == "proxy":
            terms = FewTokens(None, self.scenario.copies, self.scenario.min_in_sync, self.scenario.lease)
            program = ProxyProgram(host, self.net, self.disks[machine], self.gone, rules=self.rules, terms=terms)
        else:
            program = NodeProgram(host, self.net, self.disks[machine], self.gone, rules=self.rules)
        self.programs[machine] = program
        self.loop.post(host, 0.0, gevent.spawn, program.run)

    def kill(self, machine: str) -> None:
        """End the process of a machine at once, wherever it is."""
        program = self.programs.pop(machine, None)
        if program is None:
            return
        host = program.host
        program.ended = True
        self.loop.end(host)
        self.net.end_of(host)
        for release in program.releases:
            release()
        proxy = self.proxy
        if self.scenario.is_parent and proxy is not None and isinstance(program, NodeProgram) and not proxy.host.paused:
            pid = install.pid_of(host.name)
            self.loop.post(proxy.host, 0.001, self._reaped, proxy, machine, pid)

    def _reaped(self, proxy: ProxyProgram, machine: str, pid: int) -> None:
        if hasattr(proxy, "authority"):
            proxy.authority.ended(machine, pid)

    def gone(self, program: Program) -> None:
        """Take a process away that has ended by itself, and start another one soon."""
        if self.programs.get(program.machine) is program:
            self.loop.post(self.loop.outside, 0.0, self.kill, program.machine)
            self.loop.post(self.loop.outside, self.chance.uniform(*_AWAY), self.start, program.machine)

    # -- the run

    def run(self) -> None:
        """Run the scenario; raise Wrong."""
        for name in ("proxy", *self.names):
            self.start(name)
        if not self._wait(self._is_whole, _JOINED_WITHIN):
            raise Wrong("live", f"the nodes have not joined within {_JOINED_WITHIN:.0f} s")
        tell("all have joined")
        targets = {"proxy": PORTS["proxy"]} | {name: PORTS[name] for name in self.names}
        host = self.loop.add(Host("clients"))
        before, self.loop.host = self.loop.host, host
        for number in range(self.scenario.clients):
            # Each is at home somewhere else; nodes may have older documents than the proxy.
            self.clients.append(StackClient(number, self.scenario.seed, targets, FEATURES))
        self.loop.host = before
        until = self.loop.now_true + self.scenario.seconds
        while self.loop.now_true < until:
            self._sleep(self.chance.uniform(*self.scenario.gaps))
            self._fault()
        self._heal()
        self._wait_for_peace()
        self._sleep(_QUIET)
        before = {client: len(client.operations) for client in self.clients}
        self._sleep(2.0)
        for client in self.clients:
            late = client.operations[before[client] :]
            if not any(one.ending not in (Ending.REFUSED, Ending.UNKNOWN) for one in late):
                raise Wrong("live", f"a client has had no answer for 2 s although all serve: {[one.code for one in late]}")
        for client in self.clients:
            client._stop.set()
        self._sleep(6.0)
        self.rules.equal()
        for program in self.nodes.values():
            if problems := program.engine.check():
                raise Wrong("engine", f"{program.machine}: {problems}")
        broken = [line for client in self.clients for line in client.broken]
        if broken:
            raise Wrong("contract", broken[0])

    def _wait_for_peace(self) -> None:
        if not self._wait(self._is_whole, _HEALED_WITHIN):
            raise Wrong("live", f"not all serve {_HEALED_WITHIN:.0f} s after all is whole again: {self._states()}")
        tell("all serve again")
        if not self._wait(self._rest, _REST_WITHIN):
            raise Wrong("live", f"the machines of copies do not rest within {_REST_WITHIN:.0f} s, and have nothing to do")

    @property
    def history(self) -> list[Operation]:
        """All that clients have asked and were told."""
        return [one for client in self.clients for one in client.operations]

    def judge(self) -> int:
        """Raise Wrong when nothing explains the history; return the number of keys for which that is not known."""
        given_up = 0
        history = self.history
        for key in KEYS:
            try:
                offences = check([one for one in history if one.key == key])
            except GaveUp:
                given_up += 1
                continue
            for offence in offences:
                raise Wrong("R3", "\n".join(offence.lines()))
        return given_up

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        until = self.loop.now_true + seconds
        while self.loop.now_true < until:
            if condition():
                return True
            self._sleep(0.05)
        return False

    def _sleep(self, seconds: float) -> None:
        """Let time pass; raise what the rules have found, and look at the document in force."""
        until = self.loop.now_true + seconds
        while self.loop.now_true < until:
            gevent.sleep(min(0.02, until - self.loop.now_true))
            if self.rules.wrong:
                raise self.rules.wrong[0]
            if self.proxy is not None and hasattr(self.proxy, "authority"):
                self.rules.document(self.proxy.authority.document)

    def _is_whole(self) -> bool:
        proxy = self.proxy
        if proxy is None or not hasattr(proxy, "authority") or len(self.nodes) < len(self.names):
            return False
        document = proxy.authority.document
        if len(document.members) < len(self.names) or document.next is not None:
            return False
        for line in document.members:
            node = self.nodes.get(line.id)
            if line.state is not State.UP or node is None or node.incarnation != line.incarnation:
                return False
            if node.view.document != document or not node.view.acts:
                return False
            if document.copies_records and not (node.copies.active and node.copies.serves):
                return False
        return all(line.weight for line in document.members)

    def _rest(self) -> bool:
        """Return whether the machines rest, where there is one copy."""
        return self._is_whole() and all(
            not node.copies.active or node.view.document is None or node.view.document.copies_records
            for node in self.nodes.values()
        )

    def _states(self) -> str:
        proxy = self.proxy
        if proxy is None or not hasattr(proxy, "authority"):
            return "no proxy runs"
        document = proxy.authority.document
        seen = {name: node.view.document and node.view.document.epoch for name, node in self.nodes.items()}
        states = ", ".join(f"{line.id} {line.state}{' empty' if line.empty else ''}" for line in document.members)
        return f"epoch {document.epoch}: {states}; nodes have {seen}"

    # -- faults

    def _later(self, act: Callable[..., object], *args: object, within: tuple[float, float] = _LASTS) -> None:
        self.loop.post(self.loop.outside, self.chance.uniform(*within), act, *args)

    def _fault(self) -> None:
        possible = self.scenario.faults
        fault = self.chance.choices(possible, [WEIGHTS[one] for one in possible])[0]
        victim = self.chance.choice(self.names)
        self.counts[fault.value] += 1
        tell(f"{fault.value} of {victim}")
        self._faults[fault](victim)

    def _kill(self, victim: str) -> None:
        self.kill(victim)
        self._later(self.start, victim, within=_AWAY)

    def _kill_all(self, _victim: str) -> None:
        for name in self.names:
            self._kill(name)

    def _kill_proxy(self, _victim: str) -> None:
        self.kill("proxy")
        self._later(self.start, "proxy", within=(0.02, 1.0))

    def _stop(self, victim: str) -> None:
        program = self.programs.get(victim)
        if isinstance(program, NodeProgram) and hasattr(program, "copies") and not program.host.paused:
            self.loop.post(program.host, 0.0, gevent.spawn, program.stop)

    def _pause(self, victim: str) -> None:
        program = self.programs.get(victim)
        if program is not None:
            program.host.paused = True
            self._later(self._go_on, program)

    def _cut(self, victim: str, *, both: bool = True) -> None:
        other = self.chance.choice([name for name in ("proxy", *self.names) if name != victim])
        tell(f"... from {victim} to {other}")
        self.net.cut |= {(victim, other), (other, victim)} if both else {(victim, other)}
        self._later(self.net.heal)

    def _slow(self, victim: str) -> None:
        self.net.slow.add(victim)
        self._later(self.net.slow.discard, victim)

    def _stall(self, victim: str) -> None:
        self.disks[victim].stalled_until = self.loop.now_true + self.chance.uniform(*_LASTS)

    def _fill(self, victim: str) -> None:
        self.disks[victim].full = True
        self._later(self._make_room, victim)

    def _spoil(self, victim: str) -> None:
        self.disks[victim].fails = self.chance.randint(1, 2)

    # -- an operator's words

    def _say(self, word: Callable[[Operator, str, random.Random], object], victim: str) -> None:
        proxy = self.proxy
        if proxy is not None and hasattr(proxy, "authority") and not proxy.host.paused:
            self.loop.post(proxy.host, 0.0, gevent.spawn, self._said, proxy, word, victim, random.Random(self.chance.random()))

    def _said(
        self,
        proxy: ProxyProgram,
        word: Callable[[Operator, str, random.Random], object],
        victim: str,
        chance: random.Random,
    ) -> None:
        try:
            word(proxy.authority.operator, victim, chance)
        except GkvError as error:
            tell(f"refused: {error}")

    def _weigh(self, operator: Operator, victim: str, chance: random.Random) -> None:
        operator.change_member(victim, weight=chance.choice([0.5, 1.0, 2.0]), zone=None, dry_run=False)

    def _copy(self, operator: Operator, _victim: str, chance: random.Random) -> None:
        copies = chance.randint(1, min(3, len(self.names)))
        operator.change_cluster(replicas=copies, min_in_sync=None, force=False, dry_run=False)

    def _undo(self, operator: Operator, _victim: str, _chance: random.Random) -> None:
        operator.take_back(dry_run=False)

    def _go_on(self, program: Program) -> None:
        program.host.paused = False

    def _make_room(self, machine: str) -> None:
        self.disks[machine].full = False

    def _heal(self) -> None:
        tell("all is made whole again")
        self.net.heal()
        self.net.slow.clear()
        for disk in self.disks.values():
            disk.full, disk.fails, disk.stalled_until = False, 0, 0.0
        for program in [*self.programs.values()]:
            program.host.paused = False
        for name in ("proxy", *self.names):
            self.start(name)


def run(scenario: Scenario) -> Outcome:
    """Run a scenario in this process, which can run no other one afterwards."""
    outcome = Outcome(scenario.seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        world = World(scenario, Path(directory))
        tell(f"{scenario}")
        try:
            try:
                world.run()
            finally:
                world.loop.host = world.loop.outside
            outcome.given_up = world.judge()
        except Wrong as wrong:
            outcome.wrong = f"{wrong}"
            tell(f"WRONG: {wrong}")
        history = world.history
        outcome.operations = len(history)
        outcome.unknown = sum(one.ending is Ending.UNKNOWN for one in history)
        outcome.refused = sum(one.ending is Ending.REFUSED for one in history)
        outcome.acknowledged, outcome.epochs = world.rules.acknowledged, world.rules.epochs
        outcome.faults = world.counts
        outcome.steps, outcome.virtual, outcome.trace = world.loop.done, world.loop.now_true, world.loop.trace
    outcome.story = lines
    return outcome
