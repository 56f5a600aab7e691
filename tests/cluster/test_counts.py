"""Increments by eight clients at once, over proxy and nodes, while nodes are killed: none is lost, none counts twice."""

import http.client
import json
import os
import random
import signal
import threading
from time import monotonic

import pytest

from tests.cluster.conftest import DEADLINE, Program, System, Worker, wait_for

CLIENTS = 8
COUNTERS = 3
SECONDS = float(os.environ.get("GKV_COUNT_SECONDS", "6"))
NOT_BEGUN = {"not-applied", "overloaded", "no-primary", "epoch", "unavailable", "snapshot-running", "disk-full"}


class Client(Worker):
    """Counts up one counter after another, and notes what it was told."""

    def __init__(self, number: int, ports: list[int]) -> None:
        self.counted = [0] * COUNTERS
        self.unknown = [0] * COUNTERS
        self.refused = 0
        self._ports = ports
        self._chance = random.Random(number)
        super().__init__()

    def _run(self) -> None:
        while not self._stop.is_set():
            counter = self._chance.randrange(COUNTERS)
            connection = http.client.HTTPConnection("127.0.0.1", self._chance.choice(self._ports), timeout=DEADLINE)
            try:
                self._step(connection, counter)
            except ConnectionRefusedError:
                self._stop.wait(0.01)
            finally:
                connection.close()

    def _step(self, connection: http.client.HTTPConnection, counter: int) -> None:
        raise NotImplementedError

    def _write(self, connection: http.client.HTTPConnection, counter: int, method: str, path: str, *more: object) -> None:
        connection.connect()  # a refusal is certain, and all that breaks later is not
        try:
            connection.request(method, path, *more)  # type: ignore[arg-type]
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self.unknown[counter] += 1
            return
        if answer.status in (200, 201, 204):
            self.counted[counter] += 1
        elif answer.status == 412:
            self.refused += 1
        else:
            code = json.loads(body)["type"].rpartition(":")[2]
            assert code == "indeterminate" or code in NOT_BEGUN, body
            self.unknown[counter] += code == "indeterminate"


class Adder(Client):
    """Counts with `add`."""

    def _step(self, connection: http.client.HTTPConnection, counter: int) -> None:
        self._write(connection, counter, "POST", f"/v1/kv/add-{counter}?add=1")


class Comparer(Client):
    """Counts by reading, and writing if that is still there."""

    def _step(self, connection: http.client.HTTPConnection, counter: int) -> None:
        path = f"/v1/kv/match-{counter}"
        try:
            connection.request("GET", path)
            found = connection.getresponse()
            body = found.read()
        except ConnectionRefusedError:
            raise
        except (OSError, http.client.HTTPException):
            return  # nothing was written yet
        headers = {"Content-Type": "application/json"}
        if found.status == 200:
            headers["If-Match"] = found.headers["ETag"]
        elif found.status == 404:
            headers["If-None-Match"] = "*"
        else:
            return
        connection.close()
        value = json.loads(body) + 1 if found.status == 200 else 1
        self._write(connection, counter, "PUT", path, str(value).encode(), headers)


@pytest.mark.parametrize("kind", [Adder, Comparer])
def test_increments_are_neither_lost_nor_counted_twice(
    system: System, request: pytest.FixtureRequest, kind: type[Client]
) -> None:
    given = request.config.getoption("--fault-seed")
    seed = int.from_bytes(os.urandom(4), "big") if given is None else given
    print(f"--fault-seed={seed}")
    chance = random.Random(seed)
    proxy, nodes = system.cluster(3)
    clients = [kind(seed + number, [proxy.port, *(node.port for node in nodes)]) for number in range(CLIENTS)]
    end, kills = monotonic() + SECONDS, 0
    while monotonic() < end:
        before = done(clients)
        wait_for("some increments between two kills", lambda before=before: done(clients) > before + 30)  # type: ignore[misc]
        threading.Event().wait(chance.random() * 0.3)  # so that each kill finds another moment
        at = chance.randrange(len(nodes))
        nodes[at].signal(signal.SIGKILL)
        nodes[at].ended()
        nodes[at] = system.node(proxy, port=nodes[at].port)
        kills += 1
    for client in clients:
        client.stop()
    name = "add" if kind is Adder else "match"
    for counter in range(COUNTERS):
        counted = sum(client.counted[counter] for client in clients)
        unknown = sum(client.unknown[counter] for client in clients)
        total = wait_for("an answer", lambda counter=counter: value_of(proxy, f"{name}-{counter}"))  # type: ignore[misc]
        print(f"{name}-{counter}: {counted} counted, {unknown} unknown, sum {total}, {kills} kills")
        assert counted <= total <= counted + unknown


def done(clients: list[Client]) -> int:
    return sum(sum(client.counted) for client in clients)


def value_of(proxy: Program, key: str) -> int | None:
    answer = proxy.call("GET", f"/v1/kv/{key}")
    return answer.json if answer.status == 200 else None
