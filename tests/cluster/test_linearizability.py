"""Histories of clients while processes are killed, paused and restarted and clocks jump: each key
has one order of its operations.

Reads and writes go over the proxy and over the nodes, as batches and as single keys, with and
without conditions. `GKV_SEED=n` gives back a run's faults and its clients' choices.
"""

import os
import random

import pytest

from tests.cluster.conftest import System, free_ports, wait_for
from tests.linearizability.faults import Storm, Victim, faketime_library
from tests.linearizability.running import Running, answers, invalid, summary, victim

NODES = ("n1", "n2", "n3")
CLIENTS = 16
FIXED_SEEDS = (2,)
MOST_UNKNOWN = 0.05


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--all-faults")
        seeds = list(range(1, 21)) if everything else [*FIXED_SEEDS, int.from_bytes(os.urandom(4), "big")]
        if given := os.environ.get("GKV_SEED"):
            seeds = [int(given)]
        metafunc.parametrize("seed", seeds, ids=lambda seed: "fixed" + str(seed) if seed <= 20 else "random")


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """Return how long faults happen."""
    return 30 if request.config.getoption("--all-faults") else 8


@pytest.mark.promise("I1", "I2", "I3", "I11")
def test_histories_under_faults_have_one_order_for_each_key(system: System, seed: int, seconds: float) -> None:
    print(f"GKV_SEED={seed}")
    clocks_jump = seed % 2 == 0
    victims = started(system, faketime_library() if clocks_jump else None)
    clients = Running(victims, seed, CLIENTS, clocks_jump=clocks_jump)
    storm = Storm(victims, random.Random(seed))
    try:
        storm.run(seconds)
        wait_for("answers about all keys", lambda: all(map(answers, victims)))
    finally:
        clients.stop()
    clients.read_all()
    print(*storm.log, *summary(clients.operations, storm.counts), sep="\n")
    assert invalid(clients.operations, storm.counts, seconds, most_unknown=MOST_UNKNOWN) == []
    clients.judge()


def started(system: System, library: str | None) -> list[Victim]:
    """Start a proxy and nodes, with clocks of their own if there is a library for that."""
    first = free_ports(1 + len(NODES))
    proxy = victim(system, "proxy", first, library, "proxy", "--port", str(first))
    proxy.program.wait_line("Listening on port")
    nodes = []
    for port, name in enumerate(NODES, first + 1):
        nodes.append(
            victim(system, name, port, library, "node", str(port), "--name", name, "--proxy", f"http://127.0.0.1:{first}")
        )
        nodes[-1].program.wait_line(": member of cluster ")
    return [proxy, *nodes]
