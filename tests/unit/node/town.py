"""Members that keep copies, in one process: real machines, engines, commits and frames; what one says to another is given to
its service, unless the two are cut off from each other.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent

from gkv.cluster.document import Document, State
from gkv.cluster.kept import Kept
from gkv.cluster.view import View
from gkv.engine import Commits, Engine, LmdbEngine, MemoryEngine
from gkv.errors import GkvError
from gkv.model import Node, Outcome
from gkv.net.call import Call, Lane
from gkv.node.copies import Copies
from gkv.node.due_clock import DueClock
from gkv.node.membership import Membership
from gkv.node.notes import Notes
from gkv.node.order import Order
from gkv.node.service import Service
from gkv.node.stored import Stored
from gkv.node.strays import Strays
from gkv.node.tidings import Tidings
from gkv.node.tidying import Tidying
from gkv.node.transport import Transport
from gkv.replication.questions import USUAL, Timeouts
from gkv.ring import tokens
from gkv.wire.ops import Await, BadFrame, NodeRequest, PutOff, read_answer
from tests.documents import with_copies
from tests.frames import answer_to

LEASE_MS = 200
WITHIN = 4.0


def until(holds: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something holds."""
    with gevent.Timeout(seconds):
        while not holds():
            gevent.sleep(0.002)


def ticket_in(frame: bytes) -> int | None:
    """Return the ticket that came in the place of an answer, None for an answer."""
    try:
        answer = read_answer(frame, PutOff)
    except BadFrame:
        return None
    return answer.ticket if isinstance(answer, PutOff) else None


class Clock(DueClock):
    """A clock that the test moves forward."""

    def forward(self, ms: int) -> None:
        self.time.offset += ms


class Home:
    """One process of a member."""

    def __init__(self, town: "Town", name: str, incarnation: int) -> None:
        self.town = town
        self.id = name
        self.incarnation = incarnation
        self.alive = True
        self.heard: list[bytes] = []
        """Frames that have come."""
        directory = town.path / name
        self.engine = town.engine_of(name, directory)
        self.kept = Kept(directory) if self.engine.durable else None
        self.errors: list[GkvError] = []
        self.view = View()
        self.clock = Clock()
        self.commits = Commits(self.engine, tombstone_ttl=town.ttl, on_failure=self.errors.append)
        self.order = order = Order(self.view, self.engine, self.commits, self.clock)
        self.tidings = Tidings()
        self.stored = Stored(self.engine, self.commits)
        self.transport = Transport(name, incarnation, self.view)
        self.notes = Notes(name, self.kept, self.engine.last_run, self.errors.append)
        self.copies = Copies(
            name,
            incarnation,
            self.view,
            self.stored,
            self.clock.time,
            self.transport,
            self.notes,
            self.tidings,
            self.errors.append,
            town.timeouts,
            versions=order.versions,
        )
        node = Node(name, f"http://{name}:1")
        self.member = Membership(
            node,
            self.view,
            self.engine,
            self.commits,
            incarnation=incarnation,
            kept=self.kept,
            copies=self.copies,
            tidings=self.tidings,
            on_end=self.errors.append,
        )
        self.service = Service(
            name, self.view, self.engine, self.commits, order, membership=self.member, copies=self.copies, within=WITHIN
        )
        self.tidying = Tidying(self.engine, self.stored, self.copies, self.clock)
        self.strays = Strays(name, self.view, self.engine, self.commits, self.stored, self.copies)
        self.transport.connect(self)
        self._ways: dict[Home, _Way] = {}
        self._time = gevent.spawn(self.copies.run)

    def to(self, node: Node) -> "_Way":
        """Return the way to another member."""
        other = self.town.homes[node.id]
        return self._ways.setdefault(other, _Way(self, other))

    def ask(self, request: NodeRequest) -> Any:
        """Have it answer a request, however often the answer is put off."""
        [frame] = self.service.answer([request.write()])
        while (ticket := ticket_in(frame)) is not None:
            [frame] = self.service.answer([Await(ticket).write()])
        return answer_to(request, frame)

    def begin(self, request: NodeRequest) -> "gevent.Greenlet[[], Any]":
        """Ask in a greenlet."""
        asked = gevent.spawn(self.ask, request)
        gevent.sleep(0)
        return asked

    def kill(self) -> None:
        """End the process at once."""
        self.alive = False
        self._time.kill()
        self.member.close()
        self.notes.close()
        self.commits.close()
        self.engine.close()


class _Way:
    """The way from one member to another: in each lane a gathered request, and what comes meanwhile goes with the next one."""

    def __init__(self, home: Home, other: Home) -> None:
        self._home, self._other = home, other
        self._waiting: dict[Lane, list[Call]] = {}

    def submit(self, call: Call) -> None:
        call.sent = True
        if call.lane in self._waiting:
            self._waiting[call.lane].append(call)
        else:
            self._waiting[call.lane] = [call]
            gevent.spawn(self._carry, call.lane)

    def _carry(self, lane: Lane) -> None:
        while calls := self._waiting[lane]:
            self._waiting[lane] = []
            self._exchange(calls)
        del self._waiting[lane]

    def _exchange(self, calls: list[Call]) -> None:
        home, other = self._home, self._other
        if not other.alive or (home.id, other.id) in home.town.cuts:
            for call in calls:
                call.finish(Outcome.UNREACHABLE)
            return
        frames = [call.frame for call in calls]
        other.heard += frames
        answers = other.service.answer(frames)
        if home.alive and (other.id, home.id) not in home.town.cuts:
            for call, answer in zip(calls, answers, strict=True):
                call.finish(Outcome.ANSWERED, answer)


class Town:
    """Some members, and their documents."""

    def __init__(
        self,
        path: Path,
        make: Callable[[str, Path], Engine],
        ttl: int = 600_000,
        timeouts: Timeouts = USUAL,
        **parts: Any,
    ) -> None:
        self.path = path
        self.ttl = ttl
        self.timeouts = timeouts
        self.engine_of = make
        self.cuts: set[tuple[str, str]] = set()
        self.document: Document = with_copies(lease_ms=LEASE_MS, **parts)
        self.homes = {one: Home(self, one, ord(one)) for one in "abc"}

    def __getitem__(self, name: str) -> Home:
        return self.homes[name]

    def opened(self) -> "Town":
        """Give all the document, and wait until each serves its keys."""
        self.show()
        until(lambda: all(home.copies.replica.reads_until for home in self.homes.values()))
        return self

    def show(self, *names: str) -> None:
        """Give members the document; all, or these."""
        jobs = [gevent.spawn(self.homes[name].member.adopt, self.document) for name in names or self.homes]
        gevent.joinall(jobs, raise_error=True)

    def change(self, **states: Any) -> None:
        """Make the next document, with these lines changed; by it whoever goes was the last one by now."""
        epoch = self.document.epoch + 1
        members = []
        for line in self.document.members:
            changes = states.get(line.id, {})
            if changes:
                changes = {"since": epoch} | changes
                if line.state is State.UP and changes.get("state", State.UP) is not State.UP:
                    changes["left"] = epoch
            members.append(replace(line, **changes))
        self.document = replace(self.document, epoch=epoch, members=tuple(members))

    def cut(self, name: str) -> None:
        """Cut a member off from all others."""
        for other in self.homes:
            self.cuts |= {(name, other), (other, name)}

    def keys_of(self, name: str, count: int = 1) -> list[str]:
        """Return keys whose primary a member is by the document."""
        placement = self.homes["b"].view.place(self.document)
        assert placement is not None
        keys = (f"k{number}" for number in range(10_000))
        mine = (key for key in keys if placement.roles[placement.list_of(key)].primary == name)
        return [next(mine) for _ in range(count)]

    @property
    def about(self) -> tuple[str, int]:
        """What requests by the document begin with."""
        return self.document.cluster, self.document.era

    def restart(self, name: str, incarnation: int) -> Home:
        """Start another process of a member."""
        self.homes[name] = Home(self, name, incarnation)
        return self.homes[name]

    def close(self) -> None:
        for home in self.homes.values():
            if home.alive:
                home.kill()


def on_disk(name: str, directory: Path) -> Engine:
    return LmdbEngine(directory, name, tokens)


def in_memory(_name: str, directory: Path) -> Engine:
    directory.mkdir(exist_ok=True)
    return MemoryEngine(tokens)
