"""Histories of a cluster with several copies under faults that come by lot, one after another and
together: each key has one order of its operations.

Processes are killed, paused, restarted, and their clocks jump; or each has a network of its own, in
which packets are lost and late and connections are cut, one way too. `GKV_SEED=n` gives back the
faults and the clients' choices; with `--all-faults` there are twenty seeds of each kind, 18 s each.
"""

import os
import random
from collections import Counter

import pytest

from tests.cluster.conftest import System
from tests.cluster.copies import CLIENTS, Copies, absences
from tests.cluster.wires import Wires
from tests.linearizability.faults import Storm, faketime_library
from tests.linearizability.running import Running, invalid, summary

FIXED_SEEDS = (2,)
MOST_UNKNOWN = 0.1


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    seeds = range(1, 21) if metafunc.config.getoption("--all-faults") else FIXED_SEEDS
    given = os.environ.get("GKV_SEED")
    metafunc.parametrize("seed", [int(given)] if given else seeds)


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """Return how long faults happen."""
    return float(os.environ.get("GKV_SECONDS") or (18 if request.config.getoption("--all-faults") else 6))


@pytest.mark.promise("I1", "I2", "I3", "I11")
def test_histories_under_faults_of_processes(system: System, seed: int, seconds: float) -> None:
    clocks_jump = seed % 2 == 0
    cluster = Copies.start(system, **_shape(seed), library=faketime_library() if clocks_jump else None)
    storm = Storm(cluster.victims, random.Random(seed))
    _judge(cluster, storm, seed, seconds, clocks_jump=clocks_jump)


@pytest.mark.promise("I1", "I2", "I3", "I11")
def test_histories_under_faults_of_networks(system: System, seed: int, seconds: float) -> None:
    shape = _shape(seed)
    wires = Wires(["clients", "proxy", *[f"n{number}" for number in range(1, shape["nodes"] + 1)]], seed)
    try:
        with wires.inside("clients"):
            cluster = Copies.start(system, **shape, wires=wires)
            storm = Storm(cluster.victims, random.Random(seed), wires=wires)
            _judge(cluster, storm, seed, seconds, clocks_jump=False)
            system.end()
    finally:
        print(f"packets: {wires.close()}")


def _shape(seed: int) -> dict[str, int]:
    """Return how many nodes and copies a run has."""
    chance = random.Random(f"shape {seed}")
    nodes = chance.choice((3, 3, 3, 4, 5))
    return {"nodes": nodes, "copies": chance.choice((2, 3, 3))}


def _judge(cluster: Copies, storm: Storm, seed: int, seconds: float, *, clocks_jump: bool) -> None:
    print(f"GKV_SEED={seed}, {len(cluster.nodes)} nodes, {cluster.copies} copies")
    began = cluster.document["epoch"]
    clients = Running(cluster.victims, seed, CLIENTS, clocks_jump=clocks_jump)
    try:
        storm.run(seconds)
        if storm.wires is not None:
            storm.wires.heal()
        cluster.wait_whole()
    finally:
        clients.stop()
        print(*storm.log, sep="\n")
    clients.read_all()
    history = clients.operations
    print(*summary(history, storm.counts), sep="\n")
    gaps = absences(history)
    kinds = Counter(what for gap in gaps for what in gap.what)
    total = sum(gap.until - gap.since for gap in gaps)
    print(f"{cluster.document['epoch'] - began} epochs; {len(gaps)} absences of {total:.1f} s together: {dict(kinds)}")
    clients.judge()
    assert invalid(history, storm.counts, seconds, most_unknown=MOST_UNKNOWN) == []
