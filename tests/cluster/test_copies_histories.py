"""Histories of a cluster with several copies under faults that come by lot, one after another and
together: each key has one order of its operations.

Processes are killed, paused, restarted, and their clocks jump; or each has a network of its own, in
which packets are lost and late and connections are cut, one way too. Beside the clients' keys there
are others, which change all the time and are filled slowly, so that a node that is back is a learner
for a while; in the end all copies are equal. `GKV_SEED=n` gives back the faults and the clients'
choices; with `--all-faults` there are twenty seeds of each kind, 18 s each.
"""

import os
import random
import threading
from collections import Counter
from typing import Any

import pytest

from tests.cluster.conftest import System
from tests.cluster.copies import CLIENTS, Copies, absences
from tests.cluster.filled import Filled, taken
from tests.cluster.wires import Wires
from tests.linearizability.faults import Storm, faketime_library
from tests.linearizability.running import Running, invalid, summary

FIXED_SEEDS = (2,)
MOST_UNKNOWN = 0.1
OTHERS = [f"other/{number}" for number in range(500)]
"""Keys of which no client knows."""
AT_ONCE, APART = 50, 0.1
"""So many of them are set at once, and the seconds between two times."""
RATES = (100, 300, 1_000)
"""Records a second that a primary gives; it depends on the seed."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    seeds = range(1, 21) if metafunc.config.getoption("--all-faults") else FIXED_SEEDS
    given = os.environ.get("GKV_SEED")
    metafunc.parametrize("seed", [int(given)] if given else seeds)


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """Return how long faults happen."""
    return float(os.environ.get("GKV_SECONDS") or (18 if request.config.getoption("--all-faults") else 6))


@pytest.mark.promise("I1", "I2", "I3", "I11")
def test_histories_under_faults_of_processes(system: System, seed: int, seconds: float, busy: int) -> None:
    clocks_jump = seed % 2 == 0
    cluster = Copies.start(system, **_shape(seed), library=faketime_library() if clocks_jump else None)
    storm = Storm(cluster.victims, random.Random(seed))
    _judge(cluster, storm, seed, seconds, busy, clocks_jump=clocks_jump)


@pytest.mark.promise("I1", "I2", "I3", "I11")
def test_histories_under_faults_of_networks(system: System, seed: int, seconds: float, busy: int) -> None:
    shape = _shape(seed)
    wires = Wires(["clients", "proxy", *[f"n{number}" for number in range(1, shape["nodes"] + 1)]], seed)
    try:
        with wires.inside("clients"):
            cluster = Copies.start(system, **shape, wires=wires)
            storm = Storm(cluster.victims, random.Random(seed), wires=wires)
            _judge(cluster, storm, seed, seconds, busy, clocks_jump=False)
            system.end()
    finally:
        print(f"packets: {wires.close()}")


def _shape(seed: int) -> dict[str, Any]:
    """Return how many nodes and copies a run has, and how slowly nodes are filled."""
    chance = random.Random(f"shape {seed}")
    nodes = chance.choice((3, 3, 3, 4, 5))
    copies = chance.choice((2, 3, 3))
    rate = str(chance.choice(RATES))
    return {"nodes": nodes, "copies": copies, "of_node": lambda _name: ("--fill-rate", rate)}


class Others:
    """A writer of the other keys."""

    def __init__(self, cluster: Copies, seed: int) -> None:
        self.filled = Filled(cluster)
        self.filled.put(OTHERS, 0)
        self._chance = random.Random(f"others {seed}")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        proxy = self.filled.cluster.proxy
        turn = 0
        while not self._stop.wait(APART):
            turn += 1
            some = self._chance.sample(OTHERS, AT_ONCE)
            path = "/delete" if turn % 5 == 0 else "/set"
            try:
                proxy.program.call("POST", path, [{"key": key} | ({"value": turn} if path == "/set" else {}) for key in some])
            except OSError:  # the proxy is away
                continue

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """All copies of all keys are equal."""
        filled = self.filled
        live = filled.wait_equal()
        records = sum(taken(node) for node in filled.cluster.nodes)
        print(f"{sum(map(len, live.values()))} records; {records} were taken by those that run since they were started")


def _judge(cluster: Copies, storm: Storm, seed: int, seconds: float, busy: int, *, clocks_jump: bool) -> None:
    print(f"GKV_SEED={seed}, {len(cluster.nodes)} nodes, {cluster.copies} copies")
    began = cluster.document["epoch"]
    others = Others(cluster, seed)
    clients = Running(cluster.victims, seed, CLIENTS, clocks_jump=clocks_jump, alone=False)
    try:
        storm.run(seconds)
        if storm.wires is not None:
            storm.wires.heal()
        cluster.wait_whole()
    finally:
        clients.stop()
        others.stop()
        print(*storm.log, sep="\n")
    clients.read_all()
    history = clients.operations
    print(*summary(history, storm.counts), sep="\n")
    gaps = absences(history)
    kinds = Counter(what for gap in gaps for what in gap.what)
    total = sum(gap.until - gap.since for gap in gaps)
    print(f"{cluster.document['epoch'] - began} epochs; {len(gaps)} absences of {total:.1f} s together: {dict(kinds)}")
    clients.judge()
    others.check()
    assert invalid(history, storm.counts, seconds / busy, most_unknown=MOST_UNKNOWN) == []
