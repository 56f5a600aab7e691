"""Whoever reads one key again and again, in whatever ways, never sees it go back."""

import http.client
import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.conftest import System, Worker, wait_for

WAYS: dict[str, tuple[str, str, bytes | None, Callable[[Any], int]]] = {
    "single": ("GET", "/v1/kv/k", None, lambda found: found),
    "get": ("GET", "/get?key=k", None, lambda found: found["existedKey"][0]["value"]),
    "batch": ("POST", "/get", b'[{"key":"k"},{"key":"other"}]', lambda found: found["existedKey"][0]["value"]),
    "listing": ("GET", "/v1/kv?prefix=k&values=1", None, lambda found: found["values"][0]),
}
READS = 3_000


class Writer(Worker):
    """Sets the key to 1, 2, 3 and so on."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        super().__init__()

    def _run(self) -> None:
        for number in itertools.count(1):
            if self._stop.is_set():
                return
            self.connection.request("PUT", "/v1/kv/k", b"%d" % number, {"Content-Type": "application/json"})
            assert self.connection.getresponse().read() is not None


class Reader(Worker):
    """Reads the key in ways that are drawn by lot, over one connection."""

    def __init__(self, port: int, seed: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        self.pick = random.Random(seed)
        self.reads = 0
        self.seen = 0
        self.back: list[tuple[str, int, int]] = []
        super().__init__()

    def _run(self) -> None:
        while not self._stop.is_set():
            way = self.pick.choice(list(WAYS))
            method, path, body, value_of = WAYS[way]
            self.connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = self.connection.getresponse()
            data = answer.read()
            assert answer.status == 200, data
            found = value_of(json.loads(data))
            if found < self.seen:
                self.back.append((way, self.seen, found))
            self.seen = found
            self.reads += 1


@pytest.mark.promise("I11")
def test_reads_of_one_client_never_go_back_while_the_key_is_written(system: System) -> None:
    _, nodes = system.cluster(1)
    port = nodes[0].port
    assert nodes[0].call("PUT", "/v1/kv/k", b"0", Content_Type="application/json").status == 201
    writer = Writer(port)
    readers = [Reader(port, seed) for seed in range(4)]
    try:
        wait_for("enough reads", lambda: sum(reader.reads for reader in readers) >= READS or not readers[0]._thread.is_alive())
    finally:
        for worker in (*readers, writer):
            worker.stop()
            worker.connection.close()
    assert sum(reader.reads for reader in readers) >= READS
    assert all(reader.reads for reader in readers)
    assert readers[0].seen > 20  # the writer was at work
    assert [reader.back for reader in readers] == [[]] * len(readers)
