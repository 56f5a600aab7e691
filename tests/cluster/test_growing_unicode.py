"""Each character of Unicode under changes of the ring: at no moment is one missing or spoilt, and what moves is what was said.

The keys are those of `examples/unicode_names.py`: a part of them, and all with `--all-faults`, which also tries more changes.
Eight clients read and write others all the time, and no order of their operations may be missing.
"""

import random
import re
import runpy
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import System, Worker, wait_for
from tests.cluster.copies import Copies, is_served, wait_until
from tests.cluster.filled import Filled, batches, taken
from tests.cluster.test_copies import BACK, Load, loads, seed, shown
from tests.cluster.test_growing import JSON, MOST_UNKNOWN, NEAR, Grown, within
from tests.cluster.test_restore import records
from tests.linearizability.faults import Victim
from tests.linearizability.history import Ending

__all__ = ["loads", "seed"]  # fixtures

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "unicode_names.py"))
ONE_IN = 71
"""Of so many characters one is a key, in an ordinary run."""
AT_ONCE, ASKED = 1_000, 100
"""Keys that are set at once, and that one reader asks for at once."""
DROPPED_WITHIN = 180.0
"""Seconds within which a node that leaves has dropped all that it had, a few keys at a time."""
STRAY = 0.02
"""The part of all keys that may lie where they are not looked for any more, where what moves is measured."""
PAUSED = 1.0
"""Seconds for which nothing of a change that is paused may move."""

pytestmark = pytest.mark.promise("I1", "I2")


def rate(*, everything: bool) -> str:
    """Return how many records a second a node gives, so that a change is under way for a moment."""
    return "2000" if everything else "500"


class Reader(Worker):
    """A client that reads some of the characters all the time."""

    def __init__(self, characters: "Characters", seed: int) -> None:
        self._characters = characters
        self._chance = random.Random(f"reader {seed}")
        self.wrong: list[str] = []
        self.failed: list[tuple[float, float, str]] = []
        """When an answer without all keys was asked for, when it came, and what it was."""
        self.count = 0
        super().__init__()

    def _run(self) -> None:
        keys = list(self._characters.texts)
        while not self._stop.wait(0.01):
            some = self._chance.sample(keys, ASKED)
            began = time.monotonic()
            answer = self._characters.get(some)
            self.count += 1
            if answer.status != 200 or b'"failedKey"' in answer.body:
                self.failed.append((began, time.monotonic(), f"{answer.status} {answer.body[:200]!r}"))
            elif answer.body != self._characters.found(some):
                self.wrong.append(f"{began:.3f}: not what was set: {answer.body[:500]!r}")
            if b'"notExistedKey"' in answer.body:
                self.wrong.append(f"{began:.3f}: {answer.body[:500]!r}")


@pytest.fixture
def readers() -> Iterator[list[Reader]]:
    """Give a list of readers that end after the test in any case."""
    readers: list[Reader] = []
    yield readers
    for reader in readers:
        reader.stop()


class Characters:
    """The cluster, its operator, and what is set."""

    def __init__(self, cluster: Copies, seed: int, loads: list[Load], readers: list[Reader], *, everything: bool) -> None:
        texts, _ = EXAMPLE["characters"]()
        self.texts: dict[str, str] = {key: texts[key] for key in list(texts)[:: 1 if everything else ONE_IN]}
        self.cluster = cluster
        self.filled = Filled(cluster)
        self._everything = everything
        self._rate = rate(everything=everything)
        self.grown = Grown(cluster)
        for some in batches(list(self.texts), AT_ONCE):
            answer = cluster.proxy.program.call("POST", "/set", EXAMPLE["items"](self.texts, some).encode())
            assert answer.status == 200, answer
            assert b"failedKey" not in answer.body, answer
        self.load = Load([cluster.proxy], seed, (5.0,), alone=False)
        loads.append(self.load)
        self.reader = Reader(self, seed)
        readers.append(self.reader)
        self._leavers: list[Victim] = []
        self.allowed: list[tuple[float, float]] = []
        """Times in which a failover may be seen."""

    def get(self, keys: Sequence[str]) -> Any:
        return self.cluster.proxy.program.call("POST", "/get", EXAMPLE["only_keys"](keys).encode())

    def found(self, keys: Sequence[str]) -> bytes:
        body: str = f'{{"existedKey":{EXAMPLE["items"](self.texts, keys)}}}'
        return body.encode()

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.cluster.nodes]

    # -- changes

    def _taken(self) -> dict[str, int]:
        return {one.name: taken(one) for one in self.cluster.nodes if not one.is_hit}

    def _is_tidy(self) -> bool:
        """Return whether members have dropped what is not theirs any more: else they need not take that again."""
        held = sum(one["keys"] or 0 for one in self.grown.document()["members"])
        return held <= (1 + STRAY) * self.cluster.copies * len(self.texts)

    def _before(self) -> bool:
        """Wait until all have dropped what is not theirs any more, if that is soon; return whether they have."""
        if not self._everything:
            wait_for("dropped keys", self._is_tidy, DROPPED_WITHIN)
        return self._is_tidy()

    def _moves(self, said: Any, before: dict[str, int], gains: set[str], *, tidy: bool) -> None:
        """Assert that near the ideal was to move, to nodes that gain, and that as much has come."""
        assert within(said["moved"], said["ideal"]), said
        assert {one["to"] for one in said["moves"]} <= gains, said
        came = {name: count - before.get(name, 0) for name, count in self._taken().items()}
        assert {name for name, count in came.items() if count} <= gains, came
        print(f"{sum(came.values())} records have moved, of {said['keys']}: {came}")
        assert sum(came.values()) <= (1 + NEAR) * said["keys"]
        assert not tidy or within(sum(came.values()), said["keys"]), came

    def join(self, name: str) -> None:
        """Have a node join, and be paused on the way."""
        tidy, before, size = self._before(), self._taken(), len(self.grown.weights())
        node = self.cluster.add(name, "--fill-rate", self._rate)
        change = wait_for("the beginning", lambda: self.grown.document()["change"])
        assert self.grown.proxy.call("PATCH", "/v1/cluster/change", {"paused": True}, **JSON).status == 202
        wait_for("a change that is paused", self._is_paused)
        wait_until(time.monotonic() + PAUSED / 2)  # for what was on its way
        came = taken(node)
        wait_until(time.monotonic() + PAUSED)
        assert taken(node) == came
        assert self.grown.document()["next"] is not None
        self.load.more(50)
        assert self.grown.proxy.call("PATCH", "/v1/cluster/change", {"paused": False}, **JSON).status == 202
        self.grown.wait(f"{name} joins", **{name: 1.0})
        assert within(change["moved"], 1 / (size + 1))
        self._moves(change | {"moves": [{"to": name}]}, before, {name}, tidy=tidy)
        self.load.more(100)

    def _is_paused(self) -> bool:
        """Return whether all nodes have the document by which the change is paused."""
        document = self.grown.document()
        rings = [one.program.call("GET", "/v1/ring").json for one in self.cluster.nodes if not one.is_hit]
        paused = bool((document["change"] or {}).get("paused"))
        return paused and all(ring.get("epoch") == document["epoch"] for ring in rings)

    def leave(self, node: Victim) -> None:
        tidy, before = self._before(), self._taken()
        said = self.grown.ask("DELETE", f"/nodes/{node.name}")
        self.grown.wait(f"{node.name} leaves", **{node.name: None})
        self._gone(node)
        self._moves(said, before, set(self.names), tidy=tidy)
        self.load.more(100)

    def replace(self, node: Victim, name: str) -> None:
        """Have a newcomer take the place of a node, which may be down."""
        tidy, before = self._before(), self._taken()
        newcomer = self.cluster.add(name, "--standby", "--fill-rate", self._rate)
        about = {"node": node.name, "with": name}
        newcomer.program.wait_line("stands by, until")
        dry = self.grown.proxy.call("POST", "/v1/cluster/replace?dryRun=1", about, **JSON).json

        def answer() -> Any:
            """Return what is said to the word, once the newcomer's call counts."""
            found = self.grown.proxy.call("POST", "/v1/cluster/replace", about, **JSON)
            assert found.status in (202, 409), found
            return found.json if found.status == 202 else None

        said = wait_for("a word that is taken", answer)
        assert [one["share"] for one in said["moves"]] == [one["share"] for one in dry["moves"]]
        print(f"forecast: {said['keys']} keys, begins in {said['begins_in']} s")
        assert said["change"]["what"] == f"{name} replaces {node.name}"
        weight = self.grown.weights()[node.name]
        self.grown.wait(f"{name} replaces {node.name}", **{name: weight, node.name: None})
        self._gone(node)
        self._moves(said, before, {name}, tidy=tidy)
        self.load.more(100)

    def weigh(self, node: Victim, weight: float) -> None:
        tidy, before = self._before(), self._taken()
        said = self.grown.ask("PATCH", f"/nodes/{node.name}", {"weight": weight})
        self.grown.wait(f"{node.name} has a weight of {weight}", **{node.name: weight})
        self._moves(said, before, {node.name}, tidy=tidy)
        self.load.more(100)

    def have(self, copies: int) -> None:
        """Have another number of copies."""
        tidy, before = self._before(), self._taken()
        said = self.grown.ask("PATCH", "", {"replicas": copies})
        self.grown.wait(f"{copies} copies", replicas=copies)
        self._moves(said, before, set(self.names), tidy=tidy)
        self.cluster.copies = copies
        self.load.more(100)

    def kill(self, node: Victim, back: float) -> None:
        at = self.cluster.end(node, signal.SIGKILL)
        self.cluster.wait_down(node)
        self.allowed.append((at, at + back))

    def remove(self, node: Victim) -> None:
        said = self.grown.ask("DELETE", f"/nodes/{node.name}")
        assert said["change"]["kind"] == "removal"
        self.grown.wait(f"{node.name} is removed", **{node.name: None})
        self._gone(node)
        self.load.more(100)

    def _gone(self, node: Victim) -> None:
        """Let go of a node that the ring has no more: it drops what it holds, and is no member then."""
        self.cluster.nodes.remove(node)
        self._leavers.append(node)

    def _wait_gone(self, node: Victim) -> None:
        """Wait until a node is no member and holds nothing."""
        wait_for("its line", lambda: all(one["id"] != node.name for one in self.grown.document()["members"]), DROPPED_WITHIN)
        if not node.is_hit:
            node.program.wait_line("is no member any more, as it has left or was removed")
            assert records(self.filled.directory(node)) == {}
            assert node.program.process.poll() is None
            self.cluster.end(node, signal.SIGTERM)

    # -- the end

    def check(self, *, everything: bool) -> None:
        """No request has failed, nothing was missing, and each node has what it should, byte for byte."""
        for node in self._leavers:
            self._wait_gone(node)
        self.cluster.wait_whole()
        self.reader.stop()
        history = self.load.end()
        print(f"{len(history)} operations, {self.reader.count} batches of {ASKED} read")
        print(f"longest answer {max(one.seen - one.call for one in history):.2f} s")
        assert self.reader.wrong == []
        failed = [one for one in history if not is_served(one) and not self._may_fail(one.call, one.seen)]
        reads = [one for one in self.reader.failed if not self._may_fail(*one[:2])]
        starved = re.findall(r"member (\S+) goes: (.*)", self.cluster.proxy.program.stderr)
        starved = starved[len(self.allowed) :]
        print(f"taken for dead, as they had no time: {starved}")
        known = [one for one in failed if one.ending is not Ending.UNKNOWN]
        most = 0 if everything else MOST_UNKNOWN
        assert starved or (not known and not reads and len(failed) <= most), f"{shown(failed)}\n{reads[:10]}"
        for some in batches(list(self.texts), AT_ONCE):
            assert self.get(some).body == self.found(some)
        for name, live in self.filled.wait_equal(DROPPED_WITHIN).items():
            mine = live.keys() & self.texts.keys()
            assert {key: (live[key].value or b"").decode() for key in mine} == {key: self.texts[key] for key in mine}, name

    def _may_fail(self, since: float, until: float) -> bool:
        return any(since < back and until >= at for at, back in self.allowed)


@pytest.mark.undisturbed
def test_no_character_is_missing_at_any_moment_while_nodes_come_go_and_die(
    system: System, seed: int, everything: bool, busy: int, loads: list[Load], readers: list[Reader]
) -> None:
    cluster = Copies.start(system, of_node=lambda _: ("--fill-rate", rate(everything=everything)))
    unicode = Characters(cluster, seed, loads, readers, everything=everything)
    n1, n2, n3 = cluster.nodes
    if everything:
        unicode.join("n4")
        unicode.join("n5")
        unicode.leave(n1)
        unicode.replace(n2, "n6")
        n4, n5 = (one for one in cluster.nodes if one.name in ("n4", "n5"))
        unicode.kill(n5, BACK)
        unicode.weigh(n3, 2.0)
        unicode.remove(n5)
        unicode.join("n7")
        unicode.kill(n4, BACK)
        unicode.replace(n4, "n8")
        unicode.have(2)
        unicode.have(3)
    else:
        unicode.kill(n3, BACK * busy)
        unicode.join("n4")
        unicode.replace(n1, "n5")
        unicode.replace(n3, "n6")
    unicode.check(everything=everything)


@pytest.mark.undisturbed
def test_no_character_is_missing_likewise_with_one_copy_and_when_it_gets_more(
    system: System, seed: int, everything: bool, loads: list[Load], readers: list[Reader]
) -> None:
    cluster = Copies.start(system, nodes=3, copies=1, of_node=lambda _: ("--fill-rate", rate(everything=everything)))
    unicode = Characters(cluster, seed, loads, readers, everything=everything)
    n1, n2, n3 = cluster.nodes
    unicode.join("n4")
    if everything:
        unicode.join("n5")
        unicode.leave(n2)
        unicode.weigh(n3, 2.0)
    unicode.replace(n1, "n6")
    if everything:
        unicode.have(3)
        unicode.have(2)
    unicode.check(everything=everything)
