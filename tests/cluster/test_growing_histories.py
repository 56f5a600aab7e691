"""Changes of the ring by lot, beside faults by lot: each key keeps one order of its operations, and each change ends.

An operator has nodes join, leave, be replaced and removed, changes weights, vnodes and the number of copies, pauses changes and
takes them back, in any order and without waiting; processes are killed, paused and restarted meanwhile. `GKV_SEED=n` gives back
all of it; with `--all-faults` there are twenty seeds, 40 s each.
"""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.conftest import System, Worker, wait_for
from tests.cluster.copies import CLIENTS, Copies, absences
from tests.cluster.filled import Filled
from tests.linearizability.faults import Fault, Storm, Victim
from tests.linearizability.running import Running, summary

FIXED_SEEDS = (1,)
STILL = [f"still/{number}" for number in range(600)]
"""Keys that are there all the time."""
MOVING = [f"moving/{number}" for number in range(300)]
"""Keys that one writer sets and deletes all the time."""
AT_ONCE, APART = 40, 0.1
"""So many keys are asked for at once, and the seconds between two times."""
MOST_NODES = 6
WITHIN = 90.0
"""Seconds within which all is quiet, once there are no faults any more."""
GAPS = (1.0, 4.0)
"""Seconds between two faults, so that changes get on meanwhile."""
WORDS = (0.2, 1.5)
"""Seconds between two words of the operator."""
RATES = (100, 300, 1_000)
GONE = "is no member any more, as it has left or was removed"
REFUSED = "refuses this node"
ANEW = "start it anew to have it join"
MOST_STARTS = 5
"""Starts anew of a process, as its join was taken back."""
JSON = {"Content_Type": "application/json"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    everything, given = metafunc.config.getoption("--all-faults"), os.environ.get("GKV_SEED")
    seeds = [int(given)] if given else range(1, 21) if everything else FIXED_SEEDS
    both = everything or given
    metafunc.parametrize(
        "seed, copies", [(seed, copies) for seed in seeds for copies in ((1, 3) if both else (1 + 2 * (seed % 2),))]
    )


@pytest.fixture
def seconds(everything: bool) -> float:
    """Return how long the operator and the faults go on."""
    return float(os.environ.get("GKV_SECONDS") or (40 if everything else 4))


class Operator(Storm):
    """A storm in which an operator says words, without waiting for what becomes of them."""

    def __init__(self, cluster: Copies, chance: random.Random) -> None:
        self.everybody: list[Victim] = list(cluster.victims)
        super().__init__(self.everybody, chance)
        self.cluster = cluster
        self.words: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self.dead: set[str] = set()
        """Nodes that are not to come back: they are removed or replaced."""
        self.gaps = GAPS
        self._after(0.3, self._speak)
        self.repeats = (self._speak,)
        self._made = len(cluster.nodes)

    # -- words

    def ask(self, method: str, path: str, body: Any = None) -> int:
        """Say a word; return the status, 0 where nobody answers."""
        try:
            answer = self.cluster.proxy.program.call(method, f"/v1/cluster{path}", body, 3.0, **(JSON if body else {}))
        except OSError:
            return 0
        what = f"{method} {path} {json.dumps(body) if body else ''}"
        self._note(f"{what}: {answer.status} {answer.json.get('detail', '')}")
        assert answer.status < 500 or answer.status == 503, answer
        if answer.status < 300:
            self.words[method + " " + path.rpartition("/")[0] + " " + " ".join(body or ())] += 1
        return answer.status

    def _speak(self) -> None:
        self._after(self.chance.uniform(*WORDS), self._speak)
        self._look()
        words: list[tuple[int, Callable[[], object]]] = [
            (4, self._join),
            (4, self._leave),
            (4, lambda: self.ask("PATCH", f"/nodes/{self._some()}", {"weight": self.chance.choice([0.5, 1, 2, 3])})),
            (1, lambda: self.ask("PATCH", "", {"vnodes": self.chance.choice([256, 1_024, 4_096])})),
            (2, lambda: self.ask("PATCH", "", {"replicas": self.chance.choice([1, 2, 3])})),
            (3, self._replace),
            (3, lambda: self.ask("PATCH", "/change", {"paused": self.chance.random() < 0.6})),
            (3, lambda: self.ask("PATCH", "/change", {"rate": self.chance.choice([0, 50, 2_000, None])})),
            (3, lambda: self.ask("DELETE", "/change")),
            (1, self._die),
        ]
        self.chance.choices([word for _, word in words], [weight for weight, _ in words])[0]()
        for name in sorted(self.dead):
            self.ask("DELETE", f"/nodes/{name}")

    def _some(self) -> str:
        return self.chance.choice(self.cluster.nodes).name

    def _some_to_go(self) -> str:
        """Return the name of a node other than the first, which clients ask."""
        return self.chance.choice(self.cluster.nodes[1:]).name

    def _join(self) -> None:
        if len(self.cluster.nodes) < MOST_NODES:
            weight = self.chance.choice([1, 1, 2])
            self._add("--weight", str(weight))

    def _add(self, *arguments: str) -> Victim:
        self._made += 1
        node = self.cluster.add(f"n{self._made}", "--fill-rate", str(self.chance.choice(RATES)), *arguments)
        self._note(f"{node.name} is started {' '.join(arguments)}")
        self.everybody.append(node)
        return node

    def _leave(self) -> None:
        self.ask("DELETE", f"/nodes/{self._some_to_go()}")

    def _replace(self) -> None:
        if len(self.cluster.nodes) >= MOST_NODES:
            return
        node = self._add("--standby")
        goes = self.chance.choice([one for one in self.cluster.nodes[1:] if one is not node] or [node]).name
        tries = iter(range(10))

        def say() -> None:
            status = self.ask("POST", "/replace", {"node": goes, "with": node.name})
            if status in (409, 0) and node in self.everybody and next(tries, None) is not None:
                self._after(0.3, say)

        self._after(0.3, say)

    def _die(self) -> None:
        """Have a node end for good, where all others are there and have what it has."""
        document = self.cluster.document if self.cluster.proxy.serves else {"replicas": 1}
        if document["replicas"] < 2 or self.dead or not all(one.serves for one in self.everybody):
            return
        members = [one for one in document["members"] if one["weight"]]
        if len(members) <= document["replicas"] or not all(one["state"] == "up" and one["answers"] for one in members):
            return
        victim = self.chance.choice([one for one in self.cluster.nodes[1:] if one.name in {row["id"] for row in members}])
        self.cluster.end(victim, 9)
        self.dead.add(victim.name)
        self.counts[Fault.KILL] += 1
        self._note(f"kill -9 of {victim.name}, for good")

    # -- who is there

    def _look(self) -> None:
        """Start those anew whose join was taken back; forget those that are no members any more."""
        for one in [*self.cluster.nodes]:
            if one.is_hit:
                continue
            said, ended = one.program.stderr, one.program.process.poll() is not None
            assert not ended or REFUSED in said, f"{one.name} has ended: {said}"
            if ANEW in said:
                self._note(f"{one.name} is started anew")
                self.starts[one.name] += 1
                assert self.starts[one.name] <= MOST_STARTS, f"{one.name} ends again and again: {said}"
                self.cluster.end(one, signal.SIGTERM)
                self.cluster.start_again(one)
            elif ended or GONE in said:
                self._note(f"{one.name} is none any more")
                self.cluster.nodes.remove(one)
                self.everybody.remove(one)

    def _start(self, victim: Victim, until: float) -> None:
        if victim in self.everybody and victim.program.process.poll() == 1:
            victim.is_hit = False
        elif victim in self.everybody:
            super()._start(victim, until)

    def _note(self, what: str) -> None:
        self.log.append(f"{time.monotonic():9.4f} {what}")

    def end(self) -> None:
        """Have all changes end, and wait until all members have what they should."""
        began = time.monotonic()
        try:
            wait_for("quiet", self._is_quiet, WITHIN)
        except pytest.fail.Exception as error:
            error.add_note(json.dumps(self.cluster.document, indent=1))
            raise
        print(f"quiet after {time.monotonic() - began:.1f} s")

    def _is_quiet(self) -> bool:
        self._look()
        try:
            document = self.cluster.document
        except OSError:
            return False
        if document["change"] is not None and document["change"]["paused"]:
            self.ask("PATCH", "/change", {"paused": False, "rate": 0})
        ids = {one["id"] for one in document["members"]}
        self.dead &= ids
        for name in sorted(self.dead):
            refused = self.ask("DELETE", f"/nodes/{name}") == 409
            [victim] = [one for one in self.cluster.nodes if one.name == name]
            if (
                refused
                and document["next"] is None
                and not all(one["state"] == "up" for one in document["members"] if one["id"] != name)
            ):
                self._note(f"{name} is started after all")
                self.cluster.start_again(victim)
                self.dead.discard(name)
        members = document["members"]
        if document["next"] is not None or document["change"] is not None or self.dead:
            return False
        if not all(one["state"] == "up" and one["weight"] and one["answers"] for one in members):
            return False
        # A newcomer is to join, unless that was taken back or it stands by.
        return all(one.name in ids or self._stays_out(one) for one in self.cluster.nodes)

    @staticmethod
    def _stays_out(node: Victim) -> bool:
        said = node.program.stderr
        return node.is_hit or any(words in said for words in ("stands by, until", "it can join with nothing in it"))


class Moving(Worker):
    """A writer of keys of its own, which knows what each may be; `said` is each answer that no reader may have."""

    def __init__(self, cluster: Copies, seed: int) -> None:
        self._cluster = cluster
        self._chance = random.Random(f"moving {seed}")
        self.may_be: dict[str, set[Any]] = {key: {None} for key in MOVING}
        self.wrong: list[str] = []
        self.acknowledged = 0
        super().__init__()

    def _run(self) -> None:
        turn = 0
        while not self._stop.wait(APART):
            turn += 1
            self._write(self._chance.sample(MOVING, AT_ONCE), None if turn % 5 == 0 else turn)
            self._read(self._chance.sample(STILL, AT_ONCE), {key: {"here"} for key in STILL})
            self._read(self._chance.sample(MOVING, AT_ONCE), self.may_be)

    def _write(self, keys: list[str], value: Any) -> None:
        path, more = ("/delete", {}) if value is None else ("/set", {"value": value})
        for key in keys:
            self.may_be[key].add(value)
        try:
            answer = self._cluster.proxy.program.call(
                "POST", path, [{"key": key} | more for key in keys], Accept="application/json"
            )
            failed = {row["key"]: row["code"] for row in answer.json.get("failedKey", ())}
        except (OSError, ValueError):
            return
        if answer.status not in (200, 207, 503, 504):
            self.wrong.append(f"{path}: {answer}")
        if "set" not in answer.json and "deleted" not in answer.json:
            return
        for key in set(keys) - failed.keys():
            self.may_be[key] = {value}
            self.acknowledged += 1

    def check(self) -> None:
        """All that was acknowledged is there, and nothing that was deleted."""
        self._read(MOVING, self.may_be)
        self._read(STILL, {key: {"here"} for key in STILL})
        assert self.wrong == []
        assert self.acknowledged > AT_ONCE

    def _read(self, keys: list[str], may_be: dict[str, set[Any]]) -> None:
        try:
            answer = self._cluster.proxy.program.call("POST", "/get", [{"key": key} for key in keys])
            found = answer.json
        except (OSError, ValueError):
            return
        there = {row["key"]: row["value"] for row in found.get("existedKey", ())}
        missing = {row["key"] for row in found.get("notExistedKey", ())}
        self.wrong += [
            f"{time.monotonic():.4f} {key}: {value}, not {may_be[key]}"
            for key, value in there.items()
            if value not in may_be[key]
        ]
        self.wrong += [
            f"{time.monotonic():.4f} {key}: missing, not {may_be[key]}" for key in missing if None not in may_be[key]
        ]


@pytest.mark.promise("I1", "I2", "I3", "I11")
def test_ring_that_changes_all_the_time_under_faults_loses_nothing_and_comes_to_rest(
    system: System, seed: int, seconds: float, copies: int
) -> None:
    print(f"GKV_SEED={seed}")
    chance = random.Random(f"{seed} {copies}")
    cluster = Copies.start(system, copies=copies, of_node=lambda _: ("--fill-rate", str(chance.choice(RATES))))
    filled = Filled(cluster)
    filled.put(STILL, "here")
    began = cluster.document["epoch"]
    moving = Moving(cluster, seed)
    clients = Running([cluster.proxy, cluster.nodes[0]], seed, CLIENTS, clocks_jump=False, alone=False)
    operator = Operator(cluster, chance)
    try:
        operator.run(seconds)
        operator.end()
    finally:
        clients.stop()
        moving.stop()
        print(*operator.log, sep="\n")
        print(f"{len(operator.words)} kinds of words: {dict(operator.words)}")
    document = cluster.document
    ids = {one["id"] for one in document["members"]}
    print(f"{document['epoch'] - began} epochs, {moving.acknowledged} acknowledged writes of others")
    history = clients.operations
    print(*summary(history, operator.counts), sep="\n")
    gaps = absences(history)
    print("absences: " + "; ".join(map(str, gaps)))
    outside = [one for one in cluster.nodes if one.name not in ids]
    cluster.nodes = [one for one in cluster.nodes if one.name in ids]
    cluster.copies = min(document["replicas"], len(ids))
    print(f"outside: {[one.name for one in outside]}, copies: {document['replicas']}")
    clients.judge()
    moving.check()
    filled.check()
