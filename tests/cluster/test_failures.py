"""Nodes that die, hang or come back under load: who else notices, and what is said about their keys."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.conftest import Program, System, keys_by_node, wait_for

CALM = 0.5
"""Seconds that a request for a healthy node's keys may take; the deadline of node calls is 2 s."""


class Load:
    """Clients that get the same keys over and over; each answer is kept with the time that it took."""

    def __init__(self, proxy: Program, keys: list[str], clients: int = 4) -> None:
        self.answers: list[tuple[float, Any]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(proxy, keys)) for _ in range(clients)]

    def _run(self, proxy: Program, keys: list[str]) -> None:
        body = [{"key": key} for key in keys]
        while not self._stop.is_set():
            start = time.monotonic()
            answer = proxy.call("POST", "/get", body)
            self.answers.append((time.monotonic() - start, answer.json))

    @contextmanager
    def running(self) -> Iterator["Load"]:
        for thread in self._threads:
            thread.start()
        try:
            wait_for("answers", lambda: len(self.answers) > 20)
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def after(self, count: int) -> list[tuple[float, Any]]:
        """Wait for more answers from now on and return them."""
        start = len(self.answers)
        wait_for("more answers", lambda: len(self.answers) >= start + count)
        return self.answers[start:]


def loaded(system: System, *arguments: str) -> tuple[Program, Program, Program, list[str], list[str]]:
    """Start a proxy and two nodes that hold some keys; return the healthy node, the other one, and the keys of both."""
    proxy, [healthy, doomed] = system.cluster(2, *arguments)
    owned = keys_by_node(proxy)
    alive, dead = owned[f"127.0.0.1:{healthy.port}"], owned[f"127.0.0.1:{doomed.port}"]
    assert proxy.call("POST", "/set", [{"key": key, "value": key.upper()} for key in alive + dead]).status == 200
    return proxy, healthy, doomed, alive, dead


@pytest.mark.promise("I2")
def test_killed_node_fails_only_its_own_keys_and_is_served_again_after_its_restart(system: System) -> None:
    proxy, _, doomed, alive, dead = loaded(system)
    with Load(proxy, alive).running() as others, Load(proxy, alive + dead).running() as mixed:
        doomed.signal(signal.SIGKILL)
        doomed.ended()
        during_others, during_mixed = others.after(100), mixed.after(100)

        again = system.node(proxy, port=doomed.port)
        wait_for("the node's return", lambda: "failedKey" not in mixed.answers[-1][1])

    expected = [{"key": key, "value": key.upper()} for key in alive]
    assert all(answer == {"existedKey": expected} for _, answer in others.answers)
    assert max(seconds for seconds, _ in during_others) < CALM
    for seconds, answer in during_mixed:
        assert seconds < 2.5
        assert answer["existedKey"] == expected
        assert "notExistedKey" not in answer
        assert answer["complete"] is False
        assert [row["key"] for row in answer["failedKey"]] == dead
        assert all(row["retryable"] for row in answer["failedKey"])

    # It has all that it had, and takes new values.
    found = proxy.call("POST", "/get", [{"key": key} for key in dead]).json
    assert found == {"existedKey": [{"key": key, "value": key.upper()} for key in dead]}
    assert proxy.call("POST", "/set", [{"key": dead[0], "value": 1}]).body == b"Success to set key"
    assert again.call("GET", "/v1/info").json["engine"]["keys"] == len(dead)


def test_killed_node_with_records_in_memory_is_empty_afterwards_and_says_so(system: System) -> None:
    proxy = system.proxy()
    node = system.node(proxy, "--engine", "memory")
    proxy.call("POST", "/set", [{"key": "a", "value": 1}])
    node.signal(signal.SIGKILL)
    node.ended()
    again = system.node(proxy, "--engine", "memory", port=node.port)
    wait_for("the node's return", lambda: "failedKey" not in proxy.call("GET", "/get?key=a").json)
    assert proxy.call("GET", "/get?key=a").json == {"existedKey": [], "notExistedKey": [{"key": "a", "value": ""}]}
    assert proxy.call("POST", "/set", [{"key": "a", "value": 2}]).body == b"Success to set key"
    assert again.call("GET", "/v1/info").json["engine"]["keys"] == 1
    assert not (system.directory / "gkv-data" / str(node.port)).exists()


@pytest.mark.promise("I2", "I8")
def test_paused_node_costs_its_own_askers_the_deadline_and_nobody_else_anything(system: System) -> None:
    proxy, _, doomed, alive, dead = loaded(system, "--deadline", "400ms")
    with Load(proxy, alive).running() as others:
        doomed.signal(signal.SIGSTOP)
        start = time.monotonic()
        answer = proxy.call("POST", "/get", [{"key": key} for key in [dead[0], alive[0]]])
        took = time.monotonic() - start
        during = others.after(100)
    assert 0.3 < took < 1.5
    assert answer.json["failedKey"] == [{"key": dead[0], "code": "timeout", "retryable": True}]
    assert [row["key"] for row in answer.json["existedKey"]] == [alive[0]]
    assert max(seconds for seconds, _ in during) < CALM

    written = proxy.call("POST", "/set", [{"key": dead[0], "value": "late"}, {"key": alive[0], "value": "now"}])
    assert written.status == 503
    assert written.json["set"] == 1
    # After a second the cluster knows that it does not answer, and nobody asks it any more.
    assert [row["code"] for row in written.json["failedKey"]] in (["indeterminate"], ["no-primary"])

    doomed.signal(signal.SIGCONT)
    kept = {"existedKey": [{"key": dead[1], "value": dead[1].upper()}]}
    # It may be found down once more after it has answered first: it had been silent for a second.
    wait_for("the node's return", lambda: proxy.call("GET", f"/get?key={dead[1]}").json == kept)


def test_nothing_answered_is_503_and_still_says_which_keys(system: System) -> None:
    proxy, _, doomed, alive, dead = loaded(system)
    doomed.signal(signal.SIGKILL)
    doomed.ended()
    only_dead = proxy.call("POST", "/get", [{"key": dead[0]}])
    assert (only_dead.status, only_dead.headers["Retry-After"]) == (503, "1")
    assert only_dead.json == {
        "existedKey": [],
        "failedKey": [{"key": dead[0], "code": only_dead.json["failedKey"][0]["code"], "retryable": True}],
        "complete": False,
    }
    assert only_dead.json["failedKey"][0]["code"] in ("unreachable", "no-primary")  # by whether it is known to be down
    body = [{"key": dead[0]}, {"key": alive[0]}, {"key": "nowhere"}]
    assert proxy.call("POST", "/get", body).status == 200
    assert proxy.call("POST", "/get", body, Prefer="handling=strict").status == 503

    for path, items in (("/set", [{"key": dead[0], "value": 1}]), ("/delete", [{"key": dead[0]}])):
        refused = proxy.call("POST", path, items)
        assert refused.status == 503
        assert [row["code"] for row in refused.json["failedKey"]] in (["not-applied"], ["no-primary"])


def test_restarted_node_without_its_proxy_calls_nothing_missing_and_serves_once_it_has_called_in(system: System) -> None:
    proxy, nodes = system.cluster(2)
    key = keys_by_node(proxy)[f"127.0.0.1:{nodes[1].port}"][0]
    assert proxy.call("POST", "/set", [{"key": key, "value": 1}]).status == 200
    nodes[1].signal(signal.SIGKILL)
    nodes[1].ended()
    # Who is a member by which process is the proxy's to say; what it knew of the cluster, it still knows.
    lonely = system.node(None, "--proxy", "http://127.0.0.1:9", port=nodes[1].port)
    for program in (lonely, nodes[0], proxy):
        found = program.call("GET", f"/get?key={key}").json
        assert found["existedKey"] == []
        assert [row["code"] for row in found["failedKey"]] in (["no-primary"], ["unreachable"])
    lonely.signal(signal.SIGTERM)
    lonely.ended()
    system.node(proxy, port=lonely.port)
    wait_for("its key", lambda: proxy.call("GET", f"/get?key={key}").json == {"existedKey": [{"key": key, "value": 1}]})


def test_dead_member_makes_a_join_wait_until_it_is_back(system: System) -> None:
    proxy, nodes = system.cluster(2)
    nodes[1].signal(signal.SIGKILL)
    nodes[1].ended()
    joiner = system.node(None, "--proxy", f"http://127.0.0.1:{proxy.port}")
    proxy.wait_line(f"the ring is changing: 127.0.0.1:{joiner.port} joins")
    proxy.wait_line(f"member 127.0.0.1:{nodes[1].port} is down; its keys cannot be answered until it is back")
    [line] = [one for one in proxy.call("GET", "/v1/cluster").json["members"] if one["id"].endswith(f":{joiner.port}")]
    assert line["weight"] == 0  # it has no place in the ring of now
    # A write, of nothing: who holds a key now is a reason for a refusal that is for good.
    deleted = proxy.call("POST", "/delete", [{"key": keys_by_node(proxy)[f"127.0.0.1:{nodes[0].port}"][0]}])
    assert deleted.json == {"deleted": 0}
    system.node(proxy, port=nodes[1].port)
    joiner.wait_line(": member of cluster ")
