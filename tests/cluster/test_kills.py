"""kill -9 of nodes, and now and then of the proxy, while eight clients write: what was acknowledged is there."""

import http.client
import json
import os
import random
import signal
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from tests.cluster.conftest import DEADLINE, Program, System, Worker, wait_for

CLIENTS = 8
BATCH = 20
PROXY_EACH = 10
"""Every tenth kill hits the proxy."""


class Writer(Worker):
    """A client that writes batches of new keys, and in each batch one key of its own again, until it is told to stop."""

    def __init__(self, number: int, port: int) -> None:
        self.acknowledged: dict[str, int] = {}
        self.counter = f"counter-{number}"
        self.counted = self.tried = 0
        """What the last acknowledged batch wrote to the counter, and what the last batch did."""
        self._number = number
        self._port = port
        super().__init__()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE)
        while not self._stop.is_set():
            self.tried += 1
            values = {f"w{self._number}-{self.tried}-{i}": self.tried * BATCH + i for i in range(BATCH)}
            items = [{"key": key, "value": value} for key, value in (values | {self.counter: self.tried}).items()]
            try:
                connection.request("POST", "/set", json.dumps(items), {"Accept": "application/json"})
                answer = json.loads(connection.getresponse().read())
            except (OSError, http.client.HTTPException):
                connection.close()  # the proxy is dead, or was: nobody has told us anything
                self._stop.wait(0.01)
                continue
            if "set" not in answer:
                continue  # refused whole
            failed = {row["key"] for row in answer.get("failedKey", ())}
            self.acknowledged |= {key: value for key, value in values.items() if key not in failed}
            if self.counter not in failed:
                self.counted = self.tried
        connection.close()


def read_all(proxy: Program, keys: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for start in range(0, len(keys), 1_000):
        asked = [{"key": key} for key in keys[start : start + 1_000]]
        # The proxy does not try a node at once that it could not reach.
        answer = wait_for("an answer of both nodes", partial(_ask, proxy, asked))
        found |= {row["key"]: row["value"] for row in answer["existedKey"]}
    return found


def _ask(proxy: Program, keys: list[dict[str, str]]) -> dict[str, Any] | None:
    answer: dict[str, Any] = proxy.call("POST", "/get", keys).json
    return None if "failedKey" in answer else answer


@pytest.mark.promise("I1")
def test_acknowledged_writes_outlive_kills_under_load(system: System, request: pytest.FixtureRequest) -> None:
    kills = 100 if request.config.getoption("--all-faults") else 6
    given = request.config.getoption("--fault-seed")
    seed = int.from_bytes(os.urandom(4), "big") if given is None else given
    print(f"--fault-seed={seed}")
    chance = random.Random(seed)

    proxy, nodes = system.cluster(2)
    writers = [Writer(number, proxy.port) for number in range(CLIENTS)]
    for kill in range(1, kills + 1):
        before = sum(writer.tried for writer in writers)
        wait = threading.Event()
        while sum(writer.tried for writer in writers) < before + chance.randrange(1, 60):
            wait.wait(0.001)  # so that each kill finds another moment of the writes
        if kill % PROXY_EACH == 0:
            proxy.signal(signal.SIGKILL)
            proxy.ended()
            proxy = system.proxy(port=proxy.port)
        else:
            at = chance.randrange(len(nodes))
            nodes[at].signal(signal.SIGKILL)
            nodes[at].ended()
            nodes[at] = system.node(proxy, port=nodes[at].port)
    for writer in writers:
        writer.stop()

    acknowledged = {key: value for writer in writers for key, value in writer.acknowledged.items()}
    print(f"{kills} kills, {sum(writer.tried for writer in writers)} batches, {len(acknowledged)} keys acknowledged")
    assert len(acknowledged) > kills * BATCH, "too little was written between the kills to show anything"
    found = read_all(proxy, [*acknowledged, *(writer.counter for writer in writers)])
    lost = {key for key, value in acknowledged.items() if found.get(key) != value}
    assert not lost, f"{len(lost)} of {len(acknowledged)} are lost or wrong, such as {sorted(lost)[:5]}"
    for writer in writers:
        assert writer.counted <= found[writer.counter] <= writer.tried
