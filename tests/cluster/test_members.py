"""Who is a member, with real processes: restarts, directories and documents that are not the right ones, kills in mid-join."""

import os
import random
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from gkv.cluster.kept import Kept
from gkv.engine import LmdbEngine
from gkv.model import Version, Write, era_of
from gkv.ring import tokens
from tests.cluster.conftest import Answer, Program, System, free_ports, wait_for
from tests.cluster.test_restart import start_at
from tests.cluster.test_spawn import child

KEYS = [f"k{i}" for i in range(100)]
ITEMS = [{"key": key, "value": key} for key in KEYS]
ASKED = [{"key": key} for key in KEYS]


def codes(answer: Answer) -> dict[str, int]:
    """Return how many keys were found, and how many have each code; none may be missing."""
    found = answer.json
    assert "notExistedKey" not in found, found
    counts = {"found": len(found.get("existedKey", []))}
    for row in found.get("failedKey", []):
        counts[row["code"]] = counts.get(row["code"], 0) + 1
    return counts


def all_found(program: Program) -> bool:
    answer = program.call("POST", "/get", ASKED)
    return answer.status in (200, 503) and b"Key" in answer.body and codes(answer) == {"found": len(KEYS)}


def kill(*programs: Program) -> None:
    for program in programs:
        program.signal(signal.SIGKILL)
    for program in programs:
        program.ended()


def cluster_of(proxy: Program) -> dict[str, Any]:
    found: dict[str, Any] = proxy.call("GET", "/v1/cluster").json
    return found


def states(proxy: Program) -> dict[str, tuple[str, bool]]:
    return {row["id"]: (row["state"], row["empty"]) for row in cluster_of(proxy)["members"]}


def again(system: System, node: Program, proxy: Program, *arguments: str) -> Program:
    """Start a node's process anew, without waiting until it has joined."""
    started = system.start("node", str(node.port), "--proxy", f"http://127.0.0.1:{proxy.port}", *arguments)
    started.port = node.port
    return started


def accept_loss(proxy: Program, node: Program) -> None:
    answer = proxy.call("POST", "/v1/cluster/accept-loss", {"node": f"127.0.0.1:{node.port}"}, Content_Type="application/json")
    assert answer.status == 202, answer


# -- restarts


def test_five_nodes_and_their_proxy_that_were_killed_serve_again_in_few_epochs(system: System) -> None:
    proxy, nodes = system.cluster(5)
    assert proxy.call("POST", "/set", ITEMS).status == 200
    before = cluster_of(proxy)["epoch"]
    kill(proxy, *nodes)
    proxy = system.start("proxy", "--port", str(proxy.port))
    proxy.port = int(proxy.wait_line(r"Listening on port (\d+)\.\.\.")[1])
    started = [again(system, node, proxy) for node in nodes]
    for node in started:
        node.wait_line("Listening on port")
    since = time.monotonic()
    wait_for("all keys", lambda: all_found(proxy))
    assert time.monotonic() - since < 2
    wait_for("all members", lambda: set(states(proxy).values()) == {("up", False)})
    assert cluster_of(proxy)["epoch"] <= before + 4 + 2 * 4


def served_after(proxy: Program) -> float:
    """Return the seconds until all keys are found, from now on."""
    since = time.monotonic()
    wait_for("all keys", lambda: all_found(proxy))
    return time.monotonic() - since


def no_grant_runs(system: System, node: Program) -> bool:
    """Return whether all that a node has granted, as those that joined were filled, has run out."""
    return not Kept(system.directory / "gkv-data" / str(node.port)).granted


def test_node_that_restarts_alone_serves_half_a_second_after_its_start(system: System) -> None:
    proxy, nodes = system.cluster(3)
    assert proxy.call("POST", "/set", ITEMS).status == 200
    wait_for("the end of the last lease", lambda: no_grant_runs(system, nodes[1]))
    kill(nodes[1])
    node = again(system, nodes[1], proxy)
    node.wait_line("Listening on port")
    assert served_after(proxy) < 0.5


@pytest.mark.promise("I16")
def test_versions_never_go_back_whatever_is_killed(system: System) -> None:
    proxy, [node] = system.cluster(1)
    given: list[str] = []
    for killed in ("", "node", "both", "node"):
        if killed:
            kill(node, *[proxy] * (killed == "both"))
            proxy = system.proxy(port=proxy.port) if killed == "both" else proxy
            node = system.node(proxy, port=node.port)
        for _ in range(20):
            answer = proxy.call("PUT", "/v1/kv/k", {}, Content_Type="application/json")
            assert answer.status in (201, 204), answer
            given.append(answer.headers["ETag"])
    assert given == sorted(set(given))


def test_proxy_that_restarts_alone_serves_half_a_second_after_its_start(system: System) -> None:
    proxy, _ = system.cluster(3)
    assert proxy.call("POST", "/set", ITEMS).status == 200
    before = cluster_of(proxy)["epoch"]
    kill(proxy)
    proxy = system.proxy(port=proxy.port)
    assert served_after(proxy) < 0.5
    wait_for("all calls", lambda: all(row["answers"] for row in cluster_of(proxy)["members"]))
    assert cluster_of(proxy)["epoch"] == before


def test_node_that_stands_still_is_down_and_comes_back_as_it_is(system: System) -> None:
    proxy, nodes = system.cluster(3)
    assert proxy.call("POST", "/set", ITEMS).status == 200
    name = f"127.0.0.1:{nodes[1].port}"
    before = cluster_of(proxy)["epoch"]
    nodes[1].signal(signal.SIGSTOP)
    wait_for("the eviction", lambda: states(proxy)[name][0] == "down")
    counts = codes(proxy.call("POST", "/get", ASKED))
    assert set(counts) == {"found", "no-primary"}
    primaries = {row["primary"] for row in proxy.call("POST", "/locate", ASKED).json["keys"]}
    assert primaries == {f"127.0.0.1:{node.port}" for node in (nodes[0], nodes[2])} | {None}
    nodes[1].signal(signal.SIGCONT)
    assert served_after(proxy) < 1
    wait_for("its return", lambda: states(proxy)[name] == ("up", False))
    assert cluster_of(proxy)["epoch"] <= before + 3
    assert nodes[1].process.poll() is None


def test_proxy_that_stood_still_evicts_nobody(system: System) -> None:
    proxy, _ = system.cluster(3)
    before = cluster_of(proxy)["epoch"]
    proxy.signal(signal.SIGSTOP)
    until = time.monotonic() + 2
    wait_for("two seconds", lambda: time.monotonic() > until)
    proxy.signal(signal.SIGCONT)
    seen = set()
    until = time.monotonic() + 1.5
    wait_for("a while", lambda: seen.add(cluster_of(proxy)["epoch"]) or time.monotonic() > until)
    assert seen == {before}


def test_process_that_finds_another_in_its_line_ends_and_says_so(system: System) -> None:
    proxy = system.proxy()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port = str(listener.getsockname()[1])
        arguments = ["node", port, "--proxy", f"http://127.0.0.1:{proxy.port}"]
        node = start_at(system, listener, *arguments)
        node.wait_line(": member of cluster ")
        [line] = cluster_of(proxy)["members"]
        node.signal(signal.SIGSTOP)
        start_at(system, listener, *arguments, "--data", str(system.directory / "other"))
        wait_for("the other one", lambda: cluster_of(proxy)["members"][0]["incarnation"] != line["incarnation"])
        node.signal(signal.SIGCONT)
        assert node.ended() == 1
    assert f"another process acts as 127.0.0.1:{port} now; this one ends" in node.stderr


def test_child_that_was_reaped_is_down_before_anybody_could_miss_it(system: System) -> None:
    first = free_ports(3)
    proxy = system.start("proxy", "--port", str(first), "--spawn", "2", "--spawn-port", str(first + 1))
    proxy.port = first
    proxy.wait_line("Ready: ")
    assert proxy.call("POST", "/set", ITEMS).status == 200
    doomed = child(proxy, first + 1)
    since = time.monotonic()
    os.kill(doomed, signal.SIGKILL)
    wait_for("the eviction", lambda: states(proxy)[f"127.0.0.1:{first + 1}"][0] == "down")
    assert time.monotonic() - since < 0.8
    wait_for("its return", lambda: all_found(proxy))


# -- directories that are not the right ones


def test_empty_directory_serves_no_key_until_its_loss_is_accepted_and_the_right_one_does_at_once(system: System) -> None:
    proxy, [node] = system.cluster(1)
    assert proxy.call("POST", "/set", ITEMS).status == 200
    kill(node)
    for _ in range(2):  # a restart cures nothing
        empty = again(system, node, proxy, "--data", "elsewhere")
        empty.wait_line("this directory is not the one that the member .* has had")
        assert "/v1/cluster/accept-loss" in empty.stderr
        for program in (proxy, empty):
            assert codes(program.call("POST", "/get", ASKED)) == {"found": 0, "no-primary": 100}
        failed = proxy.call("POST", "/set", [{"key": "a", "value": 1}]).json["failedKey"]
        assert failed == [{"key": "a", "code": "no-primary", "retryable": True}]
        kill(empty)
    right = again(system, node, proxy)
    wait_for("all keys", lambda: all_found(proxy))
    kill(right)
    lost = again(system, node, proxy, "--data", "elsewhere")
    lost.wait_line("this directory is not the one")
    accept_loss(proxy, node)
    wait_for("missing", lambda: len(proxy.call("POST", "/get", ASKED).json.get("notExistedKey", [])) == 100)
    assert proxy.call("POST", "/set", [{"key": "a", "value": 2}]).status == 200


def test_directory_of_another_cluster_is_refused_or_empty_and_nothing_is_missing(system: System) -> None:
    proxy, nodes = system.cluster(2)
    assert proxy.call("POST", "/set", ITEMS).status == 200
    other = system.proxy("--data", "other/proxy")
    port = nodes[0].port
    kill(nodes[0])
    foreign = system.node(other, "--data", "other/node", port=port)
    foreign.signal(signal.SIGTERM)
    foreign.ended()
    bare = again(system, nodes[0], proxy, "--data", "other/node")
    bare.wait_line("this directory is not the one that the member")
    counts = codes(proxy.call("POST", "/get", ASKED))
    assert set(counts) == {"found", "no-primary"}
    kill(bare)
    again(system, nodes[0], proxy)
    wait_for("all keys", lambda: all_found(proxy))


def test_older_copy_of_a_directory_serves_no_key(system: System) -> None:
    proxy, [node] = system.cluster(1)
    directory = system.directory / "gkv-data" / str(node.port)
    node.signal(signal.SIGTERM)
    node.ended()
    shutil.copytree(directory, system.directory / "older")
    node = system.node(proxy, port=node.port)
    assert proxy.call("POST", "/set", ITEMS).status == 200
    kill(node)
    older = again(system, node, proxy, "--data", "older")
    older.wait_line("this directory is not the one that the member")
    assert codes(proxy.call("POST", "/get", ASKED)) == {"found": 0, "no-primary": 100}


def test_node_whose_records_are_later_than_any_document_that_can_follow_serves_nothing_and_says_so(system: System) -> None:
    proxy, [node] = system.cluster(1)
    node.signal(signal.SIGTERM)
    node.ended()
    store = LmdbEngine(system.directory / "gkv-data" / str(node.port), f"127.0.0.1:{node.port}", tokens, cache=1 << 20)
    store.write([Write(Version(era_of(1, 10_000_000), 1), ["k"], [b"1"])], 0)
    store.close()
    later = again(system, node, proxy)
    later.wait_line("it serves nothing, as the cluster's document .* is not later than its records .*epoch 10000000")
    wait_for("a line about it", lambda: b"[-]document failed\n" in later.call("GET", "/readyz?verbose").body)
    assert codes(proxy.call("POST", "/get", ASKED))["found"] == 0


def test_node_of_another_cluster_at_a_members_address_is_refused_and_no_key_is_missing(system: System) -> None:
    proxy, nodes = system.cluster(2)
    assert proxy.call("POST", "/set", ITEMS).status == 200
    other = system.proxy("--data", "other/proxy")
    kill(nodes[0])
    system.node(other, "--data", "other/node", port=nodes[0].port)
    assert other.call("POST", "/set", [{"key": "x", "value": 1}]).status == 200
    until = time.monotonic() + 1.5

    def looked() -> bool:
        assert set(codes(proxy.call("POST", "/get", ASKED))) <= {"found", "no-primary", "epoch", "unreachable"}
        return time.monotonic() > until

    wait_for("a while of asking", looked)
    assert states(proxy)[f"127.0.0.1:{nodes[0].port}"][0] == "down"


# -- documents that are not the right ones


@pytest.mark.parametrize("kind", ["lost", "older"])
def test_document_of_the_proxy_that_is_lost_or_older_is_rebuilt_from_the_members(system: System, kind: str) -> None:
    proxy, nodes = system.cluster(2)
    path = system.directory / "gkv-data" / "proxy" / "cluster.json"
    older = path.read_bytes()
    nodes.append(system.node(proxy))
    assert proxy.call("POST", "/set", ITEMS).status == 200
    before = cluster_of(proxy)
    kill(proxy)
    if kind == "lost":
        shutil.rmtree(path.parent)
    else:
        path.write_bytes(older)
    proxy = system.proxy(port=proxy.port)

    def rebuilt() -> bool:
        answer = proxy.call("POST", "/get", ASKED)
        assert b"notExistedKey" not in answer.body
        return cluster_of(proxy)["generation"] == 2

    wait_for("the rebuilding", rebuilt)
    after = cluster_of(proxy)
    assert after["cluster"] == before["cluster"]
    assert after["rebuilt_from"] == [[1, before["epoch"]]]
    assert len(after["members"]) == 3
    wait_for("all keys", lambda: all_found(proxy))
    assert proxy.call("POST", "/set", ITEMS).status == 200
    for node in nodes:
        assert all_found(node)


def test_lost_document_waits_for_all_members_or_for_a_word(system: System) -> None:
    proxy, nodes = system.cluster(2)
    assert proxy.call("POST", "/set", ITEMS).status == 200
    kill(proxy, nodes[1])
    shutil.rmtree(system.directory / "gkv-data" / "proxy")
    proxy = system.proxy(port=proxy.port)
    name = f"127.0.0.1:{nodes[1].port}"
    wait_for("the first", lambda: cluster_of(proxy)["waits_for"] == [name])
    wait_for("what the first has", lambda: set(codes(proxy.call("POST", "/get", ASKED))) == {"found", "unreachable"})
    accept_loss(proxy, nodes[1])
    wait_for("the rebuilding", lambda: cluster_of(proxy)["generation"] == 2)
    again(system, nodes[1], proxy)
    wait_for("all keys", lambda: all_found(proxy))


# -- kills in the first join

CALLS = "fsync,fdatasync,rename,pwrite64,write,sendto"
"""All that changes a file, or tells somebody something. A thread counts its own, and a member goes on telling."""
POINTS = 25
SAMPLE = 2
"""Points of an everyday run, by lot; with --all-faults it is all of them."""


def killed_at(system: System, k: int, *command: str) -> Program:
    """Start a program that is killed at its k-th call that changes something."""
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", f"--trace={CALLS}", f"--inject={CALLS}:signal=SIGKILL:when={k}"]
    return system.start(*command, under=trace)


@pytest.mark.parametrize("who", ["proxy", "node"])
def test_kill_at_each_step_of_the_first_join_leaves_nobody_out(
    tmp_path: Path, request: pytest.FixtureRequest, who: str
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    points = range(1, POINTS + 1)
    for k in points if request.config.getoption("--all-faults") else sorted(random.sample(points, SAMPLE)):
        directory = tmp_path / str(k)
        directory.mkdir()
        system = System(directory)
        first = free_ports(2, 20_000 + random.randrange(10_000))
        commands = {
            "proxy": ["proxy", "--port", str(first)],
            "node": ["node", str(first + 1), "--proxy", f"http://127.0.0.1:{first}"],
        }
        programs = {name: system.start(*command) for name, command in commands.items() if name != who}
        victim = killed_at(system, k, *commands[who])

        assert victim.ended() != 0, "the kill did not come"
        programs[who] = system.start(*commands[who])
        programs["proxy"].port = first
        _serves(system, programs["proxy"], k)
        system.end()


def _serves(system: System, proxy: Program, k: int) -> None:
    def written() -> bool:
        try:
            return proxy.call("POST", "/set", ITEMS[:3]).body == b"Success to set key"
        except OSError:
            return False

    wait_for(f"the first write after point {k}: {[program.stderr for program in system.programs]}", written)
    answer = proxy.call("POST", "/get", ASKED[:3])
    assert answer.json == {"existedKey": ITEMS[:3]}
