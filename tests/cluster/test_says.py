"""What running processes say of themselves: the story of a member in the logs, traces of clients, and no heartbeats."""

import json
import signal
from collections import Counter
from typing import Any

import pytest

from tests.cluster.conftest import Program, System, call, wait_for
from tests.cluster.copies import Copies

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
JSON = ("--log-format", "json")


def lines(program: Program, log: str = "gkv") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in program.stderr.splitlines()]
    return [line for line in found if line["log"] == log]


def said(program: Program, text: str) -> list[str]:
    """Return the levels of the lines that have this text."""
    return [line["level"] for line in lines(program) if text in line["message"]]


def test_logs_tell_once_and_with_a_level_what_becomes_of_a_member_and_of_the_proxy(system: System) -> None:
    cluster = Copies.start(system, *JSON, of_node=lambda _name: JSON)
    proxy, node, others = cluster.proxy, cluster.nodes[0], cluster.nodes[1:]
    wait_for("its word that it is in", lambda: said(node.program, "n1: member of cluster") == ["info"])
    wait_for("its word that it is up", lambda: said(node.program, "n1: up since epoch") == ["info"])

    count = 'gkv_evictions_total{node="n1"}'
    assert f"{count} 0.0" in proxy.program.call("GET", "/metrics").body.decode()
    before = {one.name: len(lines(one.program)) for one in others}
    cluster.end(node, signal.SIGKILL)
    cluster.wait_down(node)
    assert said(proxy.program, "member n1 goes: ") == ["warning"]
    assert f"{count} 1.0" in proxy.program.call("GET", "/metrics").body.decode()
    assert said(proxy.program, "member n1 is down; others that have its keys answer for them") == ["warning"]
    for other in others:
        new = wait_for(
            "the end of its takeover", lambda other=other: _since(other.program, before[other.name], "has taken over")
        )
        assert [line.split(" of ")[0] for line in new] in (
            [f"{other.name}: takes over the keys", f"{other.name}: has taken over the keys"],
            [f"{other.name}: has taken over the keys"],
        )
    cluster.start_again(node)
    cluster.wait_whole()
    assert said(proxy.program, "member n1 is filling") == ["info"]
    assert said(proxy.program, "member n1 is up") == ["info"]
    assert said(node.program, "n1: filling since epoch") == ["info"]
    wait_for("its word that it is in again", lambda: said(node.program, "n1: member of cluster") == ["info"])

    proxy.program.signal(signal.SIGKILL)
    proxy.program.ended()
    wait_for("a line about that", lambda: said(node.program, "n1: waiting for the proxy") != [])
    cluster.start_again(proxy)
    wait_for("a line about its return", lambda: said(node.program, "answers again, after ") == ["info"])
    assert set(said(node.program, "n1: waiting for the proxy")) == {"warning"}
    wait_for("its word that all is well", lambda: said(node.program, "n1: member of cluster") == ["info", "info"])

    node.program.signal(signal.SIGTERM)
    assert node.program.ended() == 0
    assert said(node.program, "n1: stopping, as SIGTERM has come") == ["info"]
    assert said(node.program, "n1: down since epoch") == ["info"]
    wait_for("the proxy's notice", lambda: said(proxy.program, "member n1 goes: it is being stopped") == ["info"])
    for one in (proxy, node, *others):
        repeated = Counter(line["message"] for line in lines(one.program))
        assert max(repeated.values()) <= 3, repeated.most_common(3)
        assert len(lines(one.program)) < 40


def _since(program: Program, begin: int, last: str) -> list[str]:
    """Return the messages about takeovers from the line `begin` on, once one with `last` is among them."""
    new = [line["message"] for line in lines(program)[begin:] if " over the keys " in line["message"]]
    return new if any(last in message for message in new) else []


@pytest.mark.parametrize("level", ["debug", "error"])
def test_log_level_counts_at_once_after_a_reload(system: System, level: str) -> None:
    path = system.directory / "gkv.toml"
    path.write_text('log_level = "warning"\n')
    proxy = system.proxy("--config", "gkv.toml")
    node = system.node(proxy)
    assert "info" not in proxy.stderr
    assert "debug" not in proxy.stderr
    path.write_text(f'log_level = "{level}"\n')
    proxy.signal(signal.SIGHUP)
    node.signal(signal.SIGKILL)
    node.ended()
    wait_for("an error", lambda: " error no member answers" in proxy.stderr)
    assert ("debug" in proxy.stderr or "info the settings were read again" in proxy.stderr) is (level == "debug")


def test_traces_go_from_a_client_to_the_logs_of_proxy_and_node_and_heartbeats_into_none(system: System) -> None:
    settings = ["--access-log", "1", *JSON]
    proxy = system.proxy(*settings)
    node = system.node(proxy, *settings)
    wrong = PARENT.replace("00-", "ff-", 1)
    kept = proxy.call("PUT", "/v1/kv/a", b"1", traceparent=PARENT, tracestate="rojo=1", X_Request_Id="traced")
    assert kept.status == 201
    assert proxy.call("GET", "/v1/kv/a", X_Request_Id="plain").status == 200
    assert proxy.call("GET", "/v1/kv/a", traceparent=wrong, X_Request_Id="wrong").status == 200
    assert call(node.port, "GET", "/v1/kv/a", traceparent=PARENT, X_Request_Id="direct").status == 200
    for path in ("/livez", "/readyz"):
        assert proxy.call("GET", path).status == 200
    wait_for("the last request", lambda: _by_id(node, "direct"))
    for program in (proxy, node):
        wait_for("the lines", lambda program=program: all(_by_id(program, one) for one in ("traced", "plain", "wrong")))
        assert [line["traceparent"] for line in _by_id(program, "traced")] == [PARENT]
        assert all("traceparent" not in line for one in ("plain", "wrong") for line in _by_id(program, one))
        assert {line["route"] for line in lines(program, "access")} <= {"/v1/kv/<key>", "/internal/frames"}
        assert all(line["id"] in ("traced", "plain", "wrong", "direct") for line in lines(program, "access"))
    assert [line["traceparent"] for line in _by_id(node, "direct")] == [PARENT]
    node.signal(signal.SIGKILL)
    node.ended()
    wait_for("a refusal", lambda: proxy.call("GET", "/readyz").status == 503)
    wait_for("its line", lambda: [line["route"] for line in lines(proxy, "access") if line["status"] == 503] != [])


def _by_id(program: Program, request_id: str) -> list[dict[str, Any]]:
    return [line for line in lines(program, "access") if line["id"] == request_id]
