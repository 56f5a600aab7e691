"""The state of a cluster with copies as an operator sees it: nobody answers, keys wait for one node, a loss is accepted."""

import re
import signal
from typing import Any

from tests.cluster.conftest import Answer, Program, System, free_ports, wait_for
from tests.cluster.copies import Copies

ITEMS = [{"key": f"k{i}", "value": i} for i in range(20)]
ASKED = [{"key": item["key"]} for item in ITEMS]


def ready(program: Program) -> tuple[int, list[str]]:
    answer = program.call("GET", "/readyz?verbose")
    return answer.status, answer.body.decode().splitlines()


def metric(program: Program, name: str) -> float:
    [found] = re.findall(rf"^{name} (.*)$", program.call("GET", "/metrics").body.decode(), re.MULTILINE)
    return float(found)


def incarnations(cluster: Copies) -> set[str]:
    return {row["incarnation"] for row in cluster.document["members"]}


def accept_loss(proxy: Program, node: str, query: str = "") -> Answer:
    return proxy.call("POST", f"/v1/cluster/accept-loss{query}", {"node": node}, Content_Type="application/json")


def told(answer: Answer) -> dict[str, Any]:
    shown: dict[str, Any] = answer.json
    return {name: shown[name] for name in ("acts", "keys", "fills", "waits_for")}


def test_proxy_tells_when_all_are_gone_and_whom_keys_wait_for_and_who_acts_by_an_accepted_loss(system: System) -> None:
    cluster = Copies.start(system, "--min-in-sync", "1")
    proxy, [first, second, last] = cluster.proxy.program, cluster.nodes
    assert ready(proxy) == (200, ["[+]serving ok", "[+]members ok", "[+]copies ok", "ok"])
    assert proxy.call("POST", "/set", ITEMS).status == 200
    for node in cluster.nodes:  # all at once: nobody is left who would be heard, so nobody is evicted
        cluster.end(node, signal.SIGKILL)
    wait_for("a display of that", lambda: ready(proxy)[0] == 503)
    _, lines = ready(proxy)
    assert lines[1:3] == ["[-]members failed: no member answers", "[-]copies failed: 100 % of the keys wait for n1, n2 or n3"]
    assert metric(proxy, "gkv_unanswered_ratio") == metric(proxy, "gkv_copies_missing_ratio") == 1
    assert metric(proxy, "gkv_copies_least") == 0
    assert set(cluster.states().values()) == {"up"}
    proxy.wait_line("no member answers")
    before = incarnations(cluster)
    for node in cluster.nodes:
        cluster.start_again(node)
    wait_for("the new processes", lambda: before.isdisjoint(incarnations(cluster)))
    cluster.wait_whole()

    for node in (first, second):
        cluster.end(node, signal.SIGKILL)
        cluster.wait_down(node)
    shown = ["[+]serving ok", "[!]members 1/3 up: n1 is down, n2 is down", "[!]copies 1/3 for 100 % of the keys", "ok"]
    wait_for("a warning about copies", lambda: ready(proxy)[1] == shown)
    proxy.wait_line("n2 is down; others that have its keys answer for them")
    cluster.end(last, signal.SIGKILL)
    for node in (first, second):
        cluster.start_again(node)
    wait_for("two that are back", lambda: list(cluster.states().values()) == ["filling", "filling", "down"])
    failed = "[-]copies failed: 100 % of the keys wait for n3"
    wait_for("keys that wait", lambda: ready(proxy)[0] == 503 and failed in ready(proxy)[1])
    assert cluster.document["waits_for"] == ["n3"]
    assert re.search("n[123] is (down|filling); 100 % of the keys wait for n3", proxy.stderr)

    wait_for("silence", lambda: accept_loss(proxy, "n3", "?dryRun=1").status == 200)
    dry = accept_loss(proxy, "n3", "?dryRun=1")
    assert told(dry) == {"acts": ["n2"], "keys": len(ITEMS), "fills": ["n1", "n3"], "waits_for": []}
    assert all("loss_in" not in row for row in cluster.document["members"])
    assert told(accept_loss(proxy, "n3")) == told(accept_loss(proxy, "n3")) == told(dry)
    pending = {row["id"]: row["loss_in"] for row in cluster.document["members"] if "loss_in" in row}
    assert list(pending) == ["n3"]
    assert 0 < pending["n3"] < 11.05
    wait_for("the loss to count", lambda: proxy.call("POST", "/get", ASKED).status == 200)
    assert all("loss_in" not in row for row in cluster.document["members"])
    assert proxy.stderr.count("the loss of what n3 held has been accepted") == 1
    assert "n2 acts with the 20 keys that it has; n1 and n3 are filled from that" in proxy.stderr
    cluster.start_again(last)
    cluster.wait_whole()


def test_node_with_a_new_directory_is_said_to_be_filled_and_one_whose_proxy_is_gone_and_too_few_copies_are_shown(
    system: System,
) -> None:
    cluster = Copies.start(system)
    node = cluster.nodes[0]
    cluster.end(node, signal.SIGKILL)
    cluster.wait_down(node)
    (system.directory / "gkv-data" / str(node.program.port)).rename(system.directory / "lost")
    cluster.start_again(node)
    cluster.wait_whole()
    empty = "n1 has come back empty: its directory is not the one that it had; it is filled from the others that have its keys"
    assert f"member {empty}" in cluster.proxy.program.stderr
    assert f"the member {empty}" in node.program.stderr
    for other in cluster.nodes[1:]:
        cluster.end(other, signal.SIGKILL)
        cluster.wait_down(other)
    refused = cluster.proxy.program.call("PUT", "/v1/kv/k", 1, Content_Type="application/json")
    assert (refused.status, refused.json["type"]) == (503, "urn:gkv:problem:too-few-copies")
    assert refused.json["detail"] == "1 of the nodes that keep the key act, and a write needs 2; nothing has changed"
    assert "[+]proxy ok" in ready(node.program)[1]
    cluster.end(cluster.proxy, signal.SIGKILL)
    wait_for("a display of that", lambda: re.search(r"\[!\]proxy silent for \d+ s", "".join(ready(node.program)[1])))
    assert ready(node.program)[0] == 200


def test_proxy_that_starts_fewer_nodes_than_copies_says_that_copies_are_missing(system: System) -> None:
    first = free_ports(2)
    proxy = system.start("proxy", "--port", str(first), "--spawn", "1", "--spawn-port", str(first + 1), "--replicas", "3")
    proxy.port = first
    proxy.wait_line("Ready: 1 nodes have joined")
    proxy.wait_line("each key is to have 3 copies, and there are 1 nodes: copies are missing")
    assert ready(proxy) == (200, ["[+]serving ok", "[+]members ok", "[!]copies 1/3 for 100 % of the keys", "ok"])
