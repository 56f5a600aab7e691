"""A cluster with several copies of each key, made of real processes that can be hit by faults, and
the times at which its clients had no answer.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.cluster.conftest import System, free_ports, wait_for
from tests.cluster.wires import Wires
from tests.linearizability.faults import Victim
from tests.linearizability.history import Ending, Operation
from tests.linearizability.load import KEYS
from tests.linearizability.running import answers, victim

CLIENTS = 8
SLOW = 0.5
"""Seconds; an operation that takes longer is not served meanwhile."""
APART = 0.25
"""Seconds between two times in which something was not served, if they are to count as two."""
WHOLE_WITHIN = 60.0
"""Seconds within which no copies are missing, where other tests make everybody slow."""
PORT = 7_001
"""Of the first process, where each has a network of its own."""


@dataclass
class Copies:
    """A proxy and nodes."""

    system: System
    proxy: Victim
    nodes: list[Victim]
    copies: int

    @classmethod
    def start(
        cls,
        system: System,
        *arguments: str,
        nodes: int = 3,
        copies: int = 3,
        library: str | None = None,
        under: Callable[[str], Sequence[str]] = lambda _name: (),
        of_node: Callable[[str], Sequence[str]] = lambda _name: (),
        wires: Wires | None = None,
    ) -> "Copies":
        """Start them, and wait until each key has all its copies.

        `arguments` are the proxy's, `of_node` gives more for a node; `under` gives the beginning of a
        process's command, and `library` a wall clock of its own to each.
        """
        names = ["proxy", *[f"n{number}" for number in range(1, nodes + 1)]]
        first = free_ports(len(names)) if wires is None else 0
        at = {name: ("127.0.0.1", first + place) for place, name in enumerate(names)}
        if wires is not None:
            at = {name: (wires.addresses[name], PORT + place) for place, name in enumerate(names)}
        url = "http://{}:{}".format(*at["proxy"])

        def begin(name: str, *command: str) -> Victim:
            host, port = at[name]
            beyond = () if wires is None else ("--host", host, "--insecure")
            words = under(name) if wires is None else [*wires.under(name), *under(name)]
            return victim(system, name, port, library, *command, *beyond, under=words, host=host)

        proxy = begin("proxy", "proxy", "--port", str(at["proxy"][1]), "--replicas", str(copies), *arguments)
        proxy.program.wait_line("Listening on port")
        started = [begin(name, "node", str(at[name][1]), "--name", name, "--proxy", url, *of_node(name)) for name in names[1:]]
        cluster = cls(system, proxy, started, copies)
        cluster.wait_whole()
        return cluster

    @property
    def victims(self) -> list[Victim]:
        return [self.proxy, *self.nodes]

    # -- what it says of itself

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = self.proxy.program.call("GET", "/v1/cluster").json
        return found

    def states(self) -> dict[str, str]:
        """Return the state of each member, by id."""
        return {row["id"]: row["state"] for row in self.document["members"]}

    def is_whole(self) -> bool:
        """Return whether each key has all its copies and a primary, by the ring of all nodes."""
        for one in self.victims:
            assert one.program.process.poll() is None, f"{one.name} has ended: {one.program.stderr}"
        try:
            document = self.document
            members = document["members"]
            rows = self.proxy.program.call("POST", "/locate", [{"key": key} for key in KEYS]).json.get("keys", [])
        except OSError:
            return False
        # Who is not in the ring yet has no weight, and is up already.
        if len(members) < len(self.nodes) or not all(one["state"] == "up" and one["weight"] for one in members):
            return False
        has_all = bool(rows) and all(row["primary"] and len(row["nodes"]) == self.copies for row in rows)
        return has_all and document["next"] is None

    def wait_whole(self) -> None:
        """Wait until no copies are missing, and every process answers about all keys."""
        for what, holds in (
            ("all copies", self.is_whole),
            ("answers about all keys", lambda: all(map(answers, self.victims))),
        ):
            try:
                wait_for(what, holds, WHOLE_WITHIN)
            except pytest.fail.Exception as error:
                error.add_note(f"{self.document}\n" + "\n".join(f"{one.name}: {one.program.stderr}" for one in self.victims))
                raise

    def primary(self, key: str) -> Victim:
        """Return the node that serves a key."""
        [row] = self.proxy.program.call("GET", f"/locate?key={key}").json["keys"]
        [found] = [node for node in self.nodes if node.name == row["primary"]]
        return found

    def wait_down(self, node: Victim) -> None:
        """Wait until a member is down."""
        wait_for(f"{node.name} is down", lambda: self.states()[node.name] == "down")

    # -- what happens to it

    def add(self, name: str, *arguments: str) -> Victim:
        """Start a node that is to join."""
        port = free_ports(1)
        url = f"http://127.0.0.1:{self.proxy.program.port}"
        words = ("node", str(port), "--name", name, "--proxy", url, *arguments)
        node = victim(self.system, name, port, None, *words)
        self.nodes.append(node)
        return node

    def end(self, node: Victim, number: int) -> float:
        """Send a signal by which a process ends; return when. Wait for the end."""
        at = time.monotonic()
        node.is_hit = True
        node.program.signal(number)
        node.program.ended()
        return at

    def start_again(self, node: Victim) -> None:
        """Start a process that has ended."""
        if node.clock is not None:
            node.clock.forget(node.program.process.pid)
        node.program = node.start()
        node.is_hit = False


@dataclass(frozen=True)
class Absence:
    """A time in which operations were not served."""

    since: float
    until: float
    what: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.until - self.since:.2f} s from {self.since:.2f} ({', '.join(self.what)})"


def target(operation: Operation) -> str:
    """Return the name of the process that was asked."""
    return operation.who.split()[2]


def is_served(operation: Operation) -> bool:
    """Return whether there was a definite answer."""
    return operation.ending not in (Ending.REFUSED, Ending.UNKNOWN)


def absences(history: Iterable[Operation], *, slow: float = SLOW) -> list[Absence]:
    """Return the times in which operations had no definite answer, or waited for it for long."""
    found: list[Absence] = []
    poor = [one for one in history if not is_served(one) or one.seen - one.call > slow]
    for one in sorted(poor, key=lambda one: one.call):
        what = "slow" if is_served(one) else one.code
        if found and one.call <= found[-1].until + APART:
            last = found[-1]
            found[-1] = Absence(last.since, max(last.until, one.seen), tuple(dict.fromkeys((*last.what, what))))
        else:
            found.append(Absence(one.call, one.seen, (what,)))
    return found


def unserved(history: Iterable[Operation], since: float, *targets: str) -> list[Operation]:
    """Return the operations begun after a time at one of these processes that had no definite answer."""
    return [one for one in history if one.call >= since and target(one) in targets and not is_served(one)]


def wait_until(at: float) -> None:
    """Wait for a moment."""
    wait_for("a moment", partial(_is_over, at))


def _is_over(at: float) -> bool:
    return time.monotonic() >= at
