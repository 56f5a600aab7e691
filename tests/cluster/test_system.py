"""The two commands as a user meets them: starting, joining, ending."""

import json
import signal
import socket
import subprocess
import sysconfig
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import NOWHERE, Program, System, call, free_ports, keys_by_node, wait_for

FIVE = [{"key": "hi", "value": "hello"}, *({"key": f"hi{i}", "value": f"hello{i}"} for i in range(1, 5))]


def listens(port: int) -> bool:
    try:
        return call(port, "GET", "/livez", timeout=1).status == 200
    except OSError:
        return False


def spawned(system: System, count: int = 2, *arguments: str) -> tuple[Program, list[int]]:
    """Start a proxy with child nodes and wait for its ready line."""
    first = free_ports(count)
    proxy = system.proxy("--spawn", str(count), "--spawn-port", str(first), *arguments)
    proxy.wait_line("Ready: ")
    return proxy, list(range(first, first + count))


def test_spawned_system_answers_the_original_example_byte_for_byte(system: System) -> None:
    proxy, _ = spawned(system)
    stored = proxy.call("POST", "/set", FIVE)
    assert (stored.status, stored.headers["Content-Type"]) == (200, "text/plain")
    assert stored.body == b"Success to set key" * len(set(keys_owners(proxy)))
    got = proxy.call("POST", "/get", [{"key": item["key"]} for item in FIVE])
    assert got.body == json.dumps({"existedKey": FIVE}, separators=(",", ":")).encode()
    mixed = proxy.call("POST", "/get", b'[{"key":"hi"},{"key":"hi1"},{"key":"hi6"},{"key":"hi5"}]')
    assert mixed.body == (
        b'{"existedKey":[{"key":"hi","value":"hello"},{"key":"hi1","value":"hello1"}],'
        b'"notExistedKey":[{"key":"hi6","value":""},{"key":"hi5","value":""}]}'
    )


def decided(joiner: Program) -> bool:
    return joiner.process.poll() is not None or "member of" in joiner.stderr


def keys_owners(proxy: Program) -> list[str]:
    rows = proxy.call("POST", "/locate", [{"key": item["key"]} for item in FIVE]).json["keys"]
    return [row["nodes"][0]["id"] for row in rows]


def test_spawn_prints_the_documented_lines_and_nothing_else(system: System) -> None:
    proxy, ports = spawned(system)
    assert proxy.stdout.splitlines() == [
        "*** Welcome ***",
        f"Listening on port {proxy.port}...",
        f"Ready: 2 nodes have joined, on ports {ports[0]}, {ports[1]}",
    ]


def test_sigterm_ends_proxy_and_children_cleanly(system: System) -> None:
    proxy, ports = spawned(system)
    proxy.signal(signal.SIGTERM)
    assert proxy.ended() == 0
    assert not any(map(listens, ports))


def test_sigkill_of_the_proxy_takes_the_children_down(system: System) -> None:
    proxy, ports = spawned(system)
    assert all(map(listens, ports))
    proxy.signal(signal.SIGKILL)
    proxy.ended()
    wait_for("the end of both nodes", lambda: not any(map(listens, ports)))


def test_spawn_on_a_port_in_use_fails_and_leaves_nothing_behind(system: System) -> None:
    other, ports = spawned(system, 1)
    (system.directory / "second").mkdir()
    second = System(system.directory / "second")
    proxy = second.start("proxy", "--port", "0", "--spawn", "2", "--spawn-port", str(ports[0] - 1))
    try:
        assert proxy.ended() == 1
        assert f"cannot listen on 127.0.0.1:{ports[0]}" in proxy.stderr
        assert not listens(ports[0] - 1)
        assert other.call("GET", "/readyz").status == 200
    finally:
        proxy.process.kill()


def test_node_waits_for_its_proxy_and_says_so_once(system: System) -> None:
    port = free_ports(1)
    node = system.node(None, "--proxy", f"http://127.0.0.1:{port}")
    node.wait_line("waiting for the proxy")
    assert node.call("GET", "/readyz").status == 503
    assert node.call("POST", "/get", [{"key": "hi"}]).status == 503
    proxy = system.proxy(port=port)
    node.wait_line(": member of cluster ")
    assert proxy.call("POST", "/set", FIVE).body == b"Success to set key"
    assert node.stderr.count("waiting for the proxy") == 1
    assert node.call("GET", "/readyz").status == 200


def test_node_ends_cleanly_on_sigterm(system: System) -> None:
    _, [node] = system.cluster(1)
    node.signal(signal.SIGTERM)
    assert node.ended() == 0


def test_running_request_finishes_on_sigterm_and_idle_connections_do_not_hold_it_up(system: System) -> None:
    proxy, [node] = system.cluster(1)
    body = json.dumps([{"key": "slow", "value": "x" * 1000}]).encode()
    idle = socket.create_connection(("127.0.0.1", proxy.port))
    with socket.create_connection(("127.0.0.1", proxy.port)) as running, idle:
        running.sendall(b"POST /set HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body[:10]))
        wait_for("the request's start", lambda: proxy.call("GET", "/livez").status == 200)
        proxy.signal(signal.SIGTERM)
        wait_for("the listener's end", lambda: not listens(proxy.port))
        running.sendall(body[10:])
        assert running.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert proxy.ended() == 0
    assert node.process.poll() is None


def test_member_list_survives_a_restart_of_the_proxy(system: System) -> None:
    proxy, nodes = system.cluster(2)
    proxy.call("POST", "/set", FIVE)
    before = proxy.call("GET", "/v1/ring").json
    proxy.signal(signal.SIGKILL)
    proxy.ended()
    again = system.proxy(port=proxy.port)
    assert again.call("GET", "/v1/ring").json == before
    assert again.call("POST", "/get", [{"key": "hi"}]).json == {"existedKey": FIVE[:1]}
    assert all(node.process.poll() is None for node in nodes)


def test_second_proxy_in_the_same_directory_is_refused(system: System) -> None:
    system.proxy()
    second = system.start("proxy", "--port", "0")
    assert second.ended() == 1  # the other one may be draining
    assert "another gkv-proxy uses the data directory gkv-data/proxy" in second.stderr


def test_two_systems_run_side_by_side_in_two_directories(system: System) -> None:
    (system.directory / "other").mkdir()
    other = System(system.directory / "other")
    first, _ = spawned(system)
    second, _ = spawned(other)
    try:
        first.call("POST", "/set", FIVE)
        assert second.call("POST", "/get", [{"key": "hi"}]).json["existedKey"] == []
    finally:
        second.signal(signal.SIGTERM)
        assert second.ended() == 0


def test_node_that_joins_late_takes_its_keys_over(system: System) -> None:
    proxy, [node] = system.cluster(1)
    items = [{"key": f"k{i}", "value": i} for i in range(100)]
    proxy.call("POST", "/set", items)
    late = system.node(proxy)
    wait_for("the ring of two", lambda: len(proxy.call("GET", "/v1/ring").json["nodes"]) == 2)
    assert proxy.call("POST", "/get", [{"key": item["key"]} for item in items]).json == {"existedKey": items}
    held = [one.call("GET", "/v1/info").json["engine"]["keys"] for one in (node, late)]
    assert held[1] > 0
    wait_for(
        "each key at one node",
        lambda: sum(one.call("GET", "/v1/info").json["engine"]["keys"] for one in (node, late)) == 100,
    )


def test_weighted_node_gets_its_share(system: System) -> None:
    proxy = system.proxy()
    light, heavy = system.node(proxy, "--name", "light"), system.node(proxy, "--name", "heavy", "--weight", "3")
    owned = keys_by_node(proxy, 4000)
    assert len(owned["heavy"]) / len(owned["light"]) == pytest.approx(3, rel=0.25)
    assert light.process.poll() is heavy.process.poll() is None


def test_node_answers_for_keys_that_others_own(system: System) -> None:
    proxy, nodes = system.cluster(3)
    items = [{"key": f"k{i}", "value": i} for i in range(100)]
    stored = nodes[0].call("POST", "/set", items, Accept="application/json").json
    assert stored == {"set": 100, "nodes": 3, "version": stored["version"]}
    for program in (proxy, *nodes):
        assert program.call("POST", "/get", [{"key": item["key"]} for item in items]).json == {"existedKey": items}
    assert nodes[1].call("POST", "/delete", [{"key": "k1"}, {"key": "k1"}, {"key": "none"}]).json == {"deleted": 1}
    assert proxy.call("GET", "/get?key=k1&key=k2").json == {
        "existedKey": items[2:3],
        "notExistedKey": [{"key": "k1", "value": ""}],
    }


def test_locate_says_the_same_everywhere_and_the_named_node_holds_the_key(system: System) -> None:
    proxy, nodes = system.cluster(2)
    proxy.call("POST", "/set", FIVE)
    asked = [{"key": item["key"]} for item in FIVE]
    located = proxy.call("POST", "/locate", asked).json
    assert all(node.call("POST", "/locate", asked).json == located for node in nodes)
    held = {node.port: node.call("GET", "/v1/info").json["engine"]["keys"] for node in nodes}
    named = [int(row["nodes"][0]["url"].rpartition(":")[2]) for row in located["keys"]]
    assert held == {port: named.count(port) for port in held}


def test_nodes_that_join_while_clients_write_lose_no_acknowledged_key(system: System) -> None:
    proxy, _ = system.cluster(1)
    stop = threading.Event()
    acknowledged: list[str] = []

    def write() -> None:
        for i in range(10_000):
            if stop.is_set():
                return
            if proxy.call("POST", "/set", [{"key": f"w{i}", "value": i}]).status == 200:
                acknowledged.append(f"w{i}")

    joiners = [system.start("node", "0", "--proxy", f"http://127.0.0.1:{proxy.port}") for _ in range(3)]
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for joiner in joiners:
            wait_for("the joiner's fate", partial(decided, joiner))
    finally:
        stop.set()
        writer.join()
    found = proxy.call("POST", "/get", [{"key": key} for key in acknowledged]).json
    assert acknowledged
    assert "notExistedKey" not in found
    assert "failedKey" not in found


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["proxy", "--nope"], 2, "--nope"),
        (["proxy", "--port", "99999"], 2, "a port from 0 to 65535"),
        (["node"], 2, "PORT"),
        (["node", "9000", "--weight", "-1"], 2, "above 0"),
        (["node", "0", "--engine", "floppy"], 2, "one of: lmdb, memory"),
        (["node", "0", "--durability", "maybe"], 2, "one of: sync, async"),
        (["node", "0", "--data", "/proc/nowhere", "--proxy", NOWHERE], 1, "/proc/nowhere"),
        (["node", "0", "--max-disk", "1KiB"], 2, "--max-disk"),
        (["proxy", "--port", "0", "--host", "192.0.2.1"], 78, "--insecure"),
    ],
)
def test_wrong_settings_end_with_their_code_and_name_the_culprit(
    system: System, arguments: list[str], code: int, says: str
) -> None:
    program = system.start(*arguments)
    assert program.ended() == code
    assert says in program.stderr
    assert program.stdout == ""


def test_native_extension_required_but_missing_is_bad_configuration(system: System) -> None:
    blocker = system.directory / "blocker"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text("import sys\nsys.modules['gkv._native'] = None\n")
    paths: dict[str, Any] = {"PYTHONPATH": str(blocker)}
    required = system.start("proxy", "--port", "0", **paths, GKV_NATIVE="require")
    assert required.ended() == 78
    assert "GKV_NATIVE=require" in required.stderr
    automatic = system.proxy(**paths, GKV_NATIVE="auto")
    assert automatic.call("GET", "/v1/info").json["native"] == {"mode": "auto", "ring": "pure", "wire": "pure"}
    assert automatic.stderr.count("running without the C extension") == 1


def test_installed_commands_show_help_and_version() -> None:
    for command in ("gkv-proxy", "gkv-node"):
        path = Path(sysconfig.get_path("scripts")) / command
        for flag, says in (("--version", "gkv 0."), ("--help", "--deadline")):
            shown = subprocess.run([path, flag], capture_output=True, text=True, check=True)
            assert says in shown.stdout


def test_node_joins_from_the_address_that_it_listens_on(system: System) -> None:
    proxy = system.proxy()
    node = system.node(proxy, "--host", "127.0.0.3")
    assert proxy.call("GET", "/v1/cluster").json["members"][0]["url"] == f"http://127.0.0.3:{node.port}"
    assert proxy.call("POST", "/set", [{"key": "a", "value": 1}]).body == b"Success to set key"
