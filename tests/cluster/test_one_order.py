"""One order of writes for each key, with real processes: a slow node, a kill or a wrong clock does not break it."""

import http.client
import json
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Program, System, Worker, keys_by_node, wait_for

CREATORS = 10
KEYS = 1_000
APART = 10
"""Keys that lie next to each other, which each creator asks for in an order of its own."""


def read(program: Program, keys: list[str]) -> dict[str, Any]:
    answer = program.call("POST", "/get", [{"key": key} for key in keys]).json
    assert answer.get("failedKey", []) == []
    return {row["key"]: row["value"] for row in answer["existedKey"]}


@pytest.mark.promise("I18")
def test_batch_beside_a_slow_node_is_applied_once(system: System) -> None:
    """The part of the fast node is done and told; what comes later to its keys stays, whatever becomes of the slow one's."""
    proxy, nodes = system.cluster(2, "--deadline", "400ms")
    owned = keys_by_node(proxy)
    slow, fast = (owned[f"127.0.0.1:{node.port}"] for node in nodes)
    for turn in range(5):
        nodes[0].signal(signal.SIGSTOP)
        first = proxy.call("POST", "/set", [{"key": key, "value": f"first {turn}"} for key in slow + fast]).json
        assert {row["code"] for row in first["failedKey"]} == {"indeterminate"}
        assert {row["key"] for row in first["failedKey"]} == set(slow)
        second = proxy.call("POST", "/set", [{"key": key, "value": f"second {turn}"} for key in fast])
        assert second.body == b"Success to set key"
        nodes[0].signal(signal.SIGCONT)
        wait_for("what was under way", lambda turn=turn: read(nodes[0], slow) == dict.fromkeys(slow, f"first {turn}"))
        third = proxy.call("POST", "/set", [{"key": key, "value": f"third {turn}"} for key in slow])
        assert third.body == b"Success to set key"
        for target in (proxy, *nodes):
            assert read(target, slow + fast) == dict.fromkeys(slow, f"third {turn}") | dict.fromkeys(fast, f"second {turn}")


class Creator(Worker):
    """Creates keys, neighbours in an order of its own, and counts by key what it is told."""

    def __init__(self, number: int, port: int, begin: threading.Barrier, seed: int) -> None:
        self.number = number
        pick = random.Random(f"{seed} {number}")
        self.order = [start + place for start in range(0, KEYS, APART) for place in pick.sample(range(APART), APART)]
        self.port = port
        self.begin = begin
        self.told: dict[str, int] = {}
        super().__init__()

    def finish(self) -> None:
        """Wait until all keys have been asked for."""
        self._thread.join(300)
        assert len(self.told) == KEYS

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.begin.wait(20)
        for number in self.order:
            key = f"new-{number}"
            headers = {"Content-Type": "application/json", "If-None-Match": "*"}
            connection.request("PUT", f"/v1/kv/{key}", b"%d" % self.number, headers)
            answer = connection.getresponse()
            answer.read()
            self.told[key] = answer.status
        connection.close()


def test_ten_creators_of_one_key_are_told_of_one_creation(system: System, request: pytest.FixtureRequest) -> None:
    """Through the proxy and both nodes, a thousand times; the value is that of the one who was told so."""
    proxy, nodes = system.cluster(2)
    begin = threading.Barrier(CREATORS)
    targets = [proxy, *nodes]
    given = request.config.getoption("--fault-seed")
    seed = random.randrange(1 << 32) if given is None else given
    print(f"--fault-seed={seed}")
    creators = [Creator(number, targets[number % 3].port, begin, seed) for number in range(CREATORS)]
    assert len({tuple(creator.order) for creator in creators}) == CREATORS
    for creator in creators:
        creator.finish()
    stored: dict[str, Any] = {}
    keys = [f"new-{number}" for number in range(KEYS)]
    for start in range(0, KEYS, 100):
        stored |= read(proxy, keys[start : start + 100])
    for key in keys:
        told = Counter(creator.told[key] for creator in creators)
        assert told == {201: 1, 412: CREATORS - 1}, key
        assert creators[stored[key]].told[key] == 201


NOTHING_BEGUN = ("not-applied", "epoch")
"""Of a delete whose node was killed before it had the delete, or the document under which that was sent."""
KILLS = 12
KILLS_AT_MOST = 60
"""At that many no kill has hit a delete, which ends the test."""


@pytest.mark.promise("I18")
def test_delete_around_a_kill_is_done_or_not_known_and_never_missing(system: System) -> None:
    """A delete that is sent again after the node has come back finds nothing, and would be told so."""
    proxy = system.proxy()
    data = system.directory / "here"
    node = system.node(proxy, "--data", str(data), "--name", "n1")
    port = node.port
    pick = random.Random(11)
    told: Counter[str] = Counter()
    for turn in range(KILLS_AT_MOST):
        if turn >= KILLS and told["indeterminate"]:
            break
        wait_for("a key", lambda: proxy.call("PUT", "/v1/kv/k", b"1").status in (201, 204))
        began = time.monotonic()
        assert proxy.call("PUT", "/v1/kv/k", b"1").status == 204
        took = time.monotonic() - began
        answers: list[Any] = []

        def delete(answers: list[Any] = answers) -> None:
            answers.append(proxy.call("DELETE", "/v1/kv/k"))

        deleting = threading.Thread(target=delete)
        pause = pick.random() * 1.5 * took
        deleting.start()
        time.sleep(pause)  # not to synchronise: the kill is to hit different moments
        node.signal(signal.SIGKILL)
        node.ended()
        deleting.join(20)
        [answer] = answers
        code = json.loads(answer.body)["type"].rpartition(":")[2] if answer.status >= 400 else ""
        told[code] += 1
        assert answer.status in (204, 503, 504), (answer, turn)
        assert code in ("", "indeterminate", *NOTHING_BEGUN), answer
        node = system.node(None, "--data", str(data), "--name", "n1", "--proxy", f"http://127.0.0.1:{proxy.port}", port=port)
        left = wait_for("the node", lambda: (found := proxy.call("GET", "/v1/kv/k")).status in (200, 404) and found)
        assert (left.status == 200) or code not in NOTHING_BEGUN
        assert (left.status == 404) or answer.status != 204
    assert told["indeterminate"], f"no kill has hit a delete: {told}"


FAKETIME = next((path for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


class Clock:
    """The system's clock as a process sees it, which the test may set while it runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set("+0")

    def set(self, offset: str) -> None:
        scratch = self.path.with_suffix(".new")
        scratch.write_text(offset)
        scratch.replace(self.path)


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
@pytest.mark.promise("I3")
def test_clock_that_is_an_hour_ahead_for_some_seconds_is_noticed_by_no_client(system: System) -> None:
    clock = Clock(system.directory / "offset")
    proxy = system.proxy()
    node = system.node(proxy, "--data", "here", **clock.environment)
    assert proxy.call("PUT", "/v1/kv/lasting?ttl=1800", b"1").status == 201
    assert proxy.call("PUT", "/v1/kv/short?ttl=1.5", b"1").status == 201
    for offset in ("+1h", "+0", "-1h", "+0"):
        clock.set(offset)
        jumped = offset != "+0"

        def shown(jumped: bool = jumped) -> bool:
            text = node.call("GET", "/readyz?verbose").body.decode()
            assert "\nok\n" in text
            return ("[!]clock the system's clock is" in text) == jumped

        wait_for("the look at the clock", shown)
        until = time.monotonic() + 1.5
        number = 0
        while time.monotonic() < until:
            number += 1
            assert proxy.call("PUT", f"/v1/kv/during?ttl={1800 + number}", b"%d" % number).status in (201, 204)
            for key in ("lasting", "during"):
                for target in (proxy, node):
                    assert target.call("GET", f"/v1/kv/{key}").status == 200
        assert number > 3
    assert proxy.call("GET", "/v1/kv/short").status == 404
    assert len([line for line in node.stderr.splitlines() if "nothing expires or comes back by that" in line]) == 2
    clock.set("+1h")
    node.signal(signal.SIGHUP)
    node.wait_line("it is taken over")
    wait_for("the expiry", lambda: node.call("GET", "/v1/kv/lasting").status == 404)
    assert "[+]clock ok" in node.call("GET", "/readyz?verbose").body.decode()
    clock.set("+0")
    node.signal(signal.SIGHUP)
    wait_for("the settings", lambda: "[+]clock ok" in node.call("GET", "/readyz?verbose").body.decode())
    assert node.call("GET", "/v1/kv/lasting").status == 404, "what has expired does not come back"
