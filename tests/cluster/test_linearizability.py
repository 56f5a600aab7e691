"""Histories of clients while processes are killed, paused and restarted and clocks jump: each key
has one order of its operations.

Reads and writes go over the proxy and over the nodes, as batches and as single keys, with and
without conditions. `GKV_SEED=n` gives back a run's faults and its clients' choices.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cluster.conftest import System, free_ports, wait_for
from tests.linearizability import ways
from tests.linearizability.checker import check
from tests.linearizability.faults import Clock, Fault, Storm, Victim, faketime_library
from tests.linearizability.history import Ending, Kind, Operation
from tests.linearizability.load import KEYS, Client, Features

NODES = ("n1", "n2", "n3")
CLIENTS = 16
FIXED_SEEDS = (1, 2)
LEAST_WRITES = 0.2
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
    proxy, *_nodes = victims
    targets = {victim.name: victim.program.port for victim in victims}
    offered = proxy.program.call("GET", "/v1/info").json["features"]
    features = Features.of(offered, clocks_jump=clocks_jump)

    clients = [Client(number, seed, targets, features) for number in range(CLIENTS)]
    storm = Storm(victims, random.Random(seed))
    try:
        storm.run(seconds)
        wait_for("answers about all keys", lambda: all(map(answers, victims)))
    finally:
        for client in clients:
            client.stop()
            client.close()
    for target in targets:
        for key in KEYS:
            clients[0].ask(target, ways.get(key))
        clients[0].ask(target, ways.get_many(KEYS))
    clients[0].close()
    history = [operation for client in clients for operation in client.operations]

    print(*storm.log, *summary(history, storm.counts), sep="\n")
    assert [line for client in clients for line in client.broken] == []
    assert invalid(history, storm.counts, seconds) == []
    began = time.monotonic()
    offences = check(history)
    print(f"judged in {time.monotonic() - began:.1f} s")
    text = "\n".join(line for offence in offences for line in offence.lines())
    assert not offences, f"{len(offences)} keys have no order, GKV_SEED={seed}:\n{text}"


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


def victim(system: System, name: str, port: int, library: str | None, *command: str) -> Victim:
    """Start a process that can be hit by faults."""
    clock = None if library is None else Clock(Path(system.directory, f"{name}.clock"), library)

    def start():
        program = system.start(*command, **({} if clock is None else clock.environment()))
        program.port = port
        return program

    return Victim(name, start, start(), clock)


def answers(victim: Victim) -> bool:
    """Return whether a process gives definite answers about all keys."""
    assert victim.program.process.poll() is None, f"{victim.name} has ended: {victim.program.stderr}"
    try:
        answer = victim.program.call("POST", "/get", [{"key": key} for key in KEYS])
    except OSError:
        return False
    return answer.status == 200 and "failedKey" not in answer.json


def summary(history: Sequence[Operation], faults: Counter[Fault]) -> list[str]:
    """Return what was done, in lines."""
    endings = Counter(one.ending for one in history)
    kinds = Counter(one.kind for one in history)
    codes = Counter(one.code for one in history if one.code)
    used = Counter(one.who.split(maxsplit=3)[3] for one in history)
    return [
        "faults: " + counted(faults),
        f"{len(history)} operations: {counted(kinds)}",
        "endings: " + counted(endings),
        "ways: " + ", ".join(f"{way} {count}" for way, count in used.most_common()),
        "codes: " + ", ".join(f"{code} {count}" for code, count in codes.most_common()),
    ]


def counted(counts: Counter) -> str:
    return ", ".join(f"{name.value} {count}" for name, count in counts.most_common())


def invalid(history: Sequence[Operation], faults: Counter[Fault], seconds: float) -> list[str]:
    """Return why a run shows nothing, empty if it does."""
    known = [one for one in history if one.ending is not Ending.REFUSED]
    writes = sum(one.kind is not Kind.READ for one in known) / len(known)
    unknown = sum(one.ending is Ending.UNKNOWN for one in known) / len(known)
    reasons = {
        f"{len(known)} operations in {seconds} s are too few": len(known) < 100 * seconds,
        f"{writes:.0%} writes are too few": writes < LEAST_WRITES,
        f"{unknown:.1%} unknown outcomes are too many": unknown > MOST_UNKNOWN,
        f"{faults.total()} faults are too few": faults.total() < seconds / 2,
        f"{len(faults)} kinds of faults are too few": len(faults) < 3,
        "there are too many keys": len(KEYS) > 50,
    }
    return [reason for reason, holds in reasons.items() if holds]
