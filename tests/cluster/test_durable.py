"""What is on the disks: it outlives kill -9 of everything, belongs to one node of one cluster, and can be copied away."""

import itertools
import json
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Program, System, keys_by_node, wait_for

TEXTS = [
    b"1.0",
    b"-0",
    b"1e2",
    b"123456789012345678901234567890",
    b'"\\u00e9\\/"',
    b'{ "a" : [ ] }',
    '"\u00e9\U0001f600"'.encode(),
    b"null",
]
ITEMS = [(f"k{i}", TEXTS[i % len(TEXTS)]) for i in range(1_000)] + [("big", b'"%b"' % (b"x" * 1_000_000)), ("\U0001f600", b"1")]
ASKED = json.dumps([{"key": key} for key, _ in ITEMS]).encode()


def kill(*programs: Program) -> None:
    for program in programs:
        program.signal(signal.SIGKILL)
    for program in programs:
        program.ended()


def fill(proxy: Program) -> bytes:
    """Write ITEMS and return the answer to a get of them."""
    rows = [b'{"key":%b,"value":%b}' % (json.dumps(key).encode(), text) for key, text in ITEMS]
    for start in range(0, len(rows), 100):
        answer = proxy.call("POST", "/set", b"[" + b",".join(rows[start : start + 100]) + b"]")
        assert answer.status == 200, answer
    found = proxy.call("POST", "/get", ASKED)
    assert found.status == 200
    assert all(row in found.body for row in (text for _, text in ITEMS))
    assert b"notExistedKey" not in found.body
    return found.body


def listed(program: Program, **parameters: Any) -> Iterator[str]:
    """Yield all keys, page by page."""
    while True:
        answer = program.call("GET", "/v1/kv?" + "&".join(f"{name}={value}" for name, value in parameters.items()))
        assert answer.status == 200, answer
        yield from answer.json["keys"]
        if answer.json["complete"]:
            return
        parameters["cursor"] = answer.json["cursor"]


def set_in_json(program: Program, *items: dict[str, Any]) -> Any:
    answer = program.call("POST", "/set", list(items), Accept="application/json")
    assert answer.status == 200, answer
    return answer.json


def ring_of(proxy: Program) -> list[Any]:
    """Return all that decides about owners."""
    found = proxy.call("GET", "/v1/ring").json
    return [found["cluster"], found["vnodes"], *((node["id"], node["url"], node["weight"]) for node in found["nodes"])]


# -- kill -9 of everything


def test_everything_killed_and_started_again_has_every_record_byte_for_byte(system: System) -> None:
    proxy, nodes = system.cluster(2)
    before = fill(proxy)
    keys = list(listed(proxy, limit=300))
    ring = ring_of(proxy)
    for _ in range(2):
        kill(proxy, *nodes)
        proxy = system.proxy(port=proxy.port)
        nodes = [system.node(proxy, port=node.port) for node in nodes]
        assert proxy.call("POST", "/get", ASKED).body == before
        assert list(listed(proxy, limit=300)) == keys == sorted(keys)
        assert ring_of(proxy) == ring
        for node in nodes:
            node.wait_line("every record has been checked, 0 are damaged")
            engine = node.call("GET", "/v1/info").json["engine"]
            assert (engine["durable"], engine["durability"]) == (True, "sync")
            assert engine["verification"] == {"state": "done", "damaged": 0}
    assert sum(node.call("GET", "/v1/info").json["engine"]["keys"] for node in nodes) == len(ITEMS)


def test_expiry_deletes_and_versions_go_on_after_everything_was_killed(system: System) -> None:
    proxy, nodes = system.cluster(2)
    keys = [f"k{i}" for i in range(20)]
    set_in_json(proxy, *({"key": key, "value": "first"} for key in keys))
    last = set_in_json(
        proxy,
        *({"key": f"soon{i}", "value": i, "ttl": 0.3} for i in range(20)),
        *({"key": f"late{i}", "value": i, "ttl": 3600} for i in range(20)),
    )
    deleted = proxy.call("POST", "/delete", [{"key": key} for key in keys[::2]])
    assert deleted.json == {"deleted": 10}
    kill(proxy, *nodes)

    proxy = system.proxy(port=proxy.port)
    nodes = [system.node(proxy, port=node.port) for node in nodes]
    expected = {*keys[1::2], *(f"late{i}" for i in range(20))}
    wait_for("the end of what expires", lambda: set(listed(proxy)) == expected)
    found = proxy.call("POST", "/get", [{"key": key} for key in (*keys, *(f"soon{i}" for i in range(20)))]).json
    assert [row["key"] for row in found["existedKey"]] == keys[1::2]
    assert [row["key"] for row in found["notExistedKey"]] == [*keys[::2], *(f"soon{i}" for i in range(20))]
    assert set_in_json(proxy, {"key": "k1", "value": "second"})["version"] > last["version"]
    assert set_in_json(nodes[0], {"key": "k1", "value": "third"})["version"] > last["version"]
    assert proxy.call("POST", "/delete", [{"key": "k0"}, {"key": "soon0"}, {"key": "late0"}]).json == {"deleted": 1}
    assert proxy.call("GET", "/get?key=k1").json["existedKey"][0]["value"] == "third"


def test_orderly_stop_needs_no_check_of_the_records(system: System) -> None:
    proxy, [node] = system.cluster(1)
    proxy.call("POST", "/set", [{"key": "a", "value": 1}])
    node.signal(signal.SIGTERM)
    assert node.ended() == 0
    again = system.node(proxy, port=node.port)
    assert again.call("GET", "/v1/info").json["engine"]["verification"] == {"state": "not needed", "damaged": 0}
    assert "being checked" not in again.stderr
    assert again.call("GET", "/get?key=a").json == {"existedKey": [{"key": "a", "value": 1}]}


def test_durability_async_says_so_and_keeps_what_an_orderly_stop_finds(system: System) -> None:
    proxy = system.proxy("--durability", "async")
    node = system.node(proxy)
    node.wait_line("durability is async, as the cluster was made: what is acknowledged can be lost")
    assert node.call("GET", "/v1/info").json["engine"]["durability"] == "async"
    items = [{"key": f"k{i}", "value": i} for i in range(100)]
    assert proxy.call("POST", "/set", items).status == 200
    node.signal(signal.SIGTERM)
    assert node.ended() == 0
    system.node(proxy, port=node.port)
    asked = [{"key": item["key"]} for item in items]
    wait_for("the node's return", lambda: proxy.call("POST", "/get", asked).json == {"existedKey": items})


def test_durability_of_a_node_counts_for_nothing_in_a_cluster_that_has_one(system: System) -> None:
    node = system.node(system.proxy(), "--durability", "async")
    node.wait_line("durability is sync, as the cluster was made; --durability counts for a new one only")
    assert node.call("GET", "/v1/info").json["engine"]["durability"] == "sync"


# -- whose directory it is


def test_empty_directory_under_a_members_name_never_says_missing_whoever_asks_first(system: System) -> None:
    """Coordinators tell a restarted node what to believe; what it answers for only the proxy decides."""
    proxy, [node] = system.cluster(1)
    proxy.call("POST", "/set", [{"key": "a", "value": 1}])
    kill(node)
    lonely = system.node(None, "--proxy", "http://127.0.0.1:9", "--data", "elsewhere", port=node.port)
    code = wait_for("an answer", lambda: code_of(proxy, "a"))
    for program in (proxy, lonely):
        answer = program.call("GET", "/get?key=a")
        assert answer.status == 503
        assert b"notExistedKey" not in answer.body
    assert proxy.call("POST", "/set", [{"key": "a", "value": 2}]).json["failedKey"][0]["code"] == code
    kill(lonely)
    system.node(proxy, port=node.port)
    wait_for("the node's return", lambda: proxy.call("GET", "/get?key=a").json == {"existedKey": [{"key": "a", "value": 1}]})


def code_of(proxy: Program, key: str) -> str | None:
    """Return why a key has no answer, None while the node cannot be reached."""
    answer = proxy.call("GET", f"/get?key={key}").json
    assert "notExistedKey" not in answer
    code: str = answer["failedKey"][0]["code"]
    return None if code == "unreachable" else code


def test_flag_of_the_node_that_accepted_a_loss_does_nothing_and_says_so(system: System) -> None:
    proxy, [node] = system.cluster(1)
    proxy.call("POST", "/set", [{"key": "a", "value": 1}])
    kill(node)
    url = f"http://127.0.0.1:{proxy.port}"
    again = system.start("node", str(node.port), "--proxy", url, "--data", "elsewhere", "--accept-loss")
    again.wait_line("--accept-loss does nothing any more: POST /v1/cluster/accept-loss")
    again.wait_line("this directory is not the one that the member")
    assert proxy.call("GET", "/get?key=a").json["failedKey"][0]["code"] == "no-primary"


def test_directory_of_another_cluster_is_refused_and_left_as_it_was(system: System) -> None:
    proxy, [node] = system.cluster(1)
    proxy.call("POST", "/set", [{"key": "a", "value": "mine"}])
    node.signal(signal.SIGTERM)
    node.ended()
    foreign = system.proxy("--data", "another-proxy")
    system.node(foreign, "--data", "another-node")
    # At another port, as its own proxy would find it at that one, and it would go on as a member there.
    data = ("--data", f"gkv-data/{node.port}")
    stranger = system.start("node", "0", *data, "--proxy", f"http://127.0.0.1:{foreign.port}")
    assert stranger.ended() == 1
    cluster = proxy.call("GET", "/v1/ring").json["cluster"]
    assert f"holds records of cluster {cluster}, this is " in stranger.stderr
    assert len(foreign.call("GET", "/v1/cluster").json["members"]) == 1
    system.node(proxy, port=node.port)
    wait_for("the node's return", lambda: "existedKey" in proxy.call("GET", "/get?key=a").json)
    assert proxy.call("GET", "/get?key=a").json == {"existedKey": [{"key": "a", "value": "mine"}]}


def test_directory_of_another_node_is_refused_naming_both(system: System) -> None:
    proxy = system.proxy()
    node = system.node(proxy, "--name", "n1", "--data", "data")
    node.signal(signal.SIGTERM)
    node.ended()
    other = system.start("node", str(node.port), "--name", "n2", "--data", "data", "--proxy", f"http://127.0.0.1:{proxy.port}")
    assert other.ended() == 78
    assert "data/data.mdb holds the records of node 'n1', this is node 'n2'" in other.stderr
    system.node(proxy, "--name", "n1", "--data", "data", port=node.port)


@pytest.mark.promise("I15")
def test_directory_in_use_is_refused_and_the_first_node_goes_on(system: System) -> None:
    proxy = system.proxy()
    first = system.node(proxy, "--name", "n1", "--data", "data")
    proxy.call("POST", "/set", [{"key": "a", "value": 1}])
    for name in ("n1", "n2"):
        second = system.start("node", "0", "--name", name, "--data", "data", "--proxy", f"http://127.0.0.1:{proxy.port}")
        assert second.ended() == 1
        assert "data is in use by another gkv process" in second.stderr
    assert first.call("GET", "/get?key=a").json == {"existedKey": [{"key": "a", "value": 1}]}


@pytest.mark.parametrize("content", [b"", b"x" * 100_000], ids=["empty", "something else"])
def test_data_file_that_is_none_of_ours_is_refused_naming_it_or_begun(system: System, content: bytes) -> None:
    proxy = system.proxy()
    (system.directory / "data").mkdir()
    (system.directory / "data" / "data.mdb").write_bytes(content)
    node = system.start("node", "0", "--data", "data", "--proxy", f"http://127.0.0.1:{proxy.port}")
    if content:
        assert node.ended() == 1
        assert "data/data.mdb" in node.stderr
        assert (system.directory / "data" / "data.mdb").read_bytes() == content
    else:
        node.wait_line(": member of cluster ")


# -- copies


def test_backup_that_was_taken_while_serving_is_restored_into_empty_directories(system: System) -> None:
    proxy, nodes = system.cluster(2)
    before = fill(proxy)
    copies = {}
    for node in nodes:
        answer = node.call("GET", "/v1/snapshot")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/octet-stream")
        copies[node.port] = answer.body
    members = (system.directory / "gkv-data/proxy/cluster.json").read_bytes()
    proxy.call("POST", "/delete", [{"key": key} for key, _ in ITEMS])
    kill(proxy, *nodes)
    shutil.rmtree(system.directory / "gkv-data")

    data = system.directory / "gkv-data"
    restore(data / "proxy" / "cluster.json", members)
    for port, copy in copies.items():
        restore(data / str(port) / "data.mdb", copy)
    proxy = system.proxy(port=proxy.port)
    for node in nodes:
        back = system.start("node", str(node.port), "--proxy", f"http://127.0.0.1:{proxy.port}")
        back.wait_line("this directory is not the one that the member")
        failed = proxy.call("POST", "/get", ASKED).json
        assert "notExistedKey" not in failed
        loss = {"node": f"127.0.0.1:{node.port}"}
        assert proxy.call("POST", "/v1/cluster/accept-loss", loss, Content_Type="application/json").status == 202
        back.wait_line(": member of cluster ")
    assert proxy.call("POST", "/get", ASKED).body == before
    assert proxy.call("POST", "/set", [{"key": "k1", "value": "later"}]).status == 200
    assert proxy.call("GET", "/get?key=k1").json["existedKey"] == [{"key": "k1", "value": "later"}]


def test_copy_that_is_restored_beside_an_older_member_list_takes_writes_that_count(system: System) -> None:
    proxy, [node] = system.cluster(1)
    data = system.directory / "gkv-data"
    members = (data / "proxy" / "cluster.json").read_bytes()
    for _ in range(2):  # each start has epochs of its own, which the older list does not know
        kill(node)
        node = system.node(proxy, port=node.port)
    fill(proxy)
    copy = node.call("GET", "/v1/snapshot").body
    kill(proxy, node)
    shutil.rmtree(data)

    restore(data / "proxy" / "cluster.json", members)
    restore(data / str(node.port) / "data.mdb", copy)
    proxy = system.proxy(port=proxy.port)
    back = system.start("node", str(node.port), "--proxy", f"http://127.0.0.1:{proxy.port}")
    back.wait_line("this directory is not the one that the member")
    loss = {"node": f"127.0.0.1:{node.port}"}
    assert proxy.call("POST", "/v1/cluster/accept-loss", loss, Content_Type="application/json").status == 202
    back.wait_line(": member of cluster ")
    # It acts once the document is rebuilt as a later one than its records.
    wait_for("a set", lambda: proxy.call("POST", "/set", [{"key": "k1", "value": "later"}]).status == 200)
    assert proxy.call("GET", "/get?key=k1").json["existedKey"] == [{"key": "k1", "value": "later"}]
    assert proxy.call("POST", "/delete", [{"key": "k2"}]).json == {"deleted": 1}
    assert proxy.call("GET", "/get?key=k2").json["existedKey"] == []


def restore(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(data)


@pytest.mark.parametrize("left", ["half", "8 kB", "all but 4 kB", "nothing"])
def test_node_whose_data_file_was_cut_off_ends_with_1_and_says_what_is_wrong(system: System, left: str) -> None:
    proxy, [node] = system.cluster(1)
    fill(proxy)
    node.signal(signal.SIGTERM)
    assert node.ended() == 0
    file = system.directory / "gkv-data" / str(node.port) / "data.mdb"
    size = file.stat().st_size
    content = file.read_bytes()[: {"half": size // 2, "8 kB": 8192, "all but 4 kB": size - 4096, "nothing": 0}[left]]
    file.write_bytes(content)
    again = system.start("node", str(node.port), "--proxy", f"http://127.0.0.1:{proxy.port}")
    assert again.ended() == 1
    assert re.search(
        rf"{re.escape(str(file.relative_to(system.directory)))} is (cut off: it has \d+ bytes|empty)", again.stderr
    )
    assert "put a whole snapshot of this node in its place" in again.stderr
    assert file.read_bytes() == content


def test_proxy_has_no_snapshot(system: System) -> None:
    proxy, _ = system.cluster(1)
    assert proxy.call("GET", "/v1/snapshot").status == 404


# -- listing while everything changes


def test_listing_while_writes_go_on_finds_each_lasting_key_exactly_once(system: System) -> None:
    proxy, nodes = system.cluster(2)
    lasting = [f"k{i:04}" for i in range(0, 3_000, 3)]
    for start in range(0, len(lasting), 500):
        set_in_json(proxy, *({"key": key, "value": 1} for key in lasting[start : start + 500]))
    stop = threading.Event()
    turns: list[int] = []

    def write(port: Program, offset: int) -> None:
        for turn in itertools.count():
            fleeting = [f"k{i:04}" for i in range(offset, 3_000, 3)][turn % 10 :: 10]
            assert port.call("POST", "/set", [{"key": key, "value": turn} for key in fleeting]).status == 200
            assert port.call("POST", "/set", [{"key": key, "value": turn} for key in lasting[turn % 20 :: 20]]).status == 200
            assert port.call("POST", "/delete", [{"key": key} for key in fleeting]).status == 200
            turns.append(turn)
            if stop.is_set():
                return

    writers = [threading.Thread(target=write, args=arguments) for arguments in ((proxy, 1), (nodes[0], 2))]
    for writer in writers:
        writer.start()
    try:
        wait_for("writes", lambda: len(turns) > 2)
        for limit, program in ((7, proxy), (100, nodes[1]), (999, proxy), (10_000, nodes[0])):
            found = list(listed(program, prefix="k", limit=limit))
            assert found == sorted(set(found))
            assert set(lasting) <= set(found)
        begun = len(turns)
        wait_for("writes until the end", lambda: len(turns) > begun)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert list(listed(proxy, limit=1_000)) == lasting
    assert keys_by_node(proxy).keys() == {f"127.0.0.1:{node.port}" for node in nodes}


def contents(directory: Path) -> dict[str, bytes]:
    """Return what is in the files of a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.promise("I2", "I14")
@pytest.mark.parametrize("copy", ["snapshot", "file of an earlier run"])
def test_older_records_in_the_right_directory_are_held_back_until_the_loss_is_accepted(system: System, copy: str) -> None:
    proxy, [node] = system.cluster(1)
    data = Path(system.directory, "gkv-data", str(node.port), "data.mdb")
    old, new = [{"key": f"old{n}", "value": n} for n in range(50)], [{"key": f"new{n}", "value": n} for n in range(50)]
    asked = [{"key": row["key"]} for row in old + new]
    assert node.call("POST", "/set", old).status == 200
    if copy == "snapshot":
        whole = node.call("GET", "/v1/snapshot", timeout=60).body
    else:
        node.signal(signal.SIGTERM)
        assert node.ended() == 0
        whole = data.read_bytes()
        node = system.node(proxy, port=node.port)
    assert node.call("POST", "/set", new).status == 200
    node.signal(signal.SIGTERM)
    assert node.ended() == 0
    data.write_bytes(whole)
    started = system.start("node", str(node.port), "--proxy", f"http://127.0.0.1:{proxy.port}")
    started.wait_line("this directory is not the one that the member")
    assert {row["code"] for row in proxy.call("POST", "/get", asked).json["failedKey"]} == {"no-primary"}
    loss = {"node": f"127.0.0.1:{node.port}"}
    assert proxy.call("POST", "/v1/cluster/accept-loss", loss, Content_Type="application/json").status == 202
    wait_for("what is left", lambda: proxy.call("POST", "/get", asked).json.get("existedKey") == old)


@pytest.mark.promise("I15")
def test_node_leaves_alone_the_directory_that_is_put_in_the_place_of_its_own(system: System) -> None:
    proxy, [node, other] = system.cluster(2)
    url = f"http://127.0.0.1:{proxy.port}"
    keys = keys_by_node(proxy)[f"127.0.0.1:{node.port}"]
    assert node.call("POST", "/set", [{"key": key, "value": "x" * 40_000} for key in keys]).status == 200
    node.signal(signal.SIGTERM)
    assert node.ended() == 0
    mine, right, wrong = (Path(system.directory, "gkv-data", name) for name in (str(node.port), "right", "wrong"))
    mine.rename(right)
    small = system.start("node", str(node.port), "--proxy", url)
    small.wait_line("this directory is not the one that the member")
    there = contents(right)
    mine.rename(wrong)
    right.rename(mine)
    other.signal(signal.SIGKILL)  # so that there is a new document, which is to be kept
    # The note that leases may run is to go as well, and a process that cannot see to that ends: each of the two may be first.
    small.wait_line(
        r"(document of epoch \d+ cannot be written to .*/document|/incarnations cannot be written): it is another file"
    )
    small.signal(signal.SIGTERM)
    assert small.ended() in (0, 1)
    assert contents(mine) == there
    system.node(proxy, port=node.port)
    found = proxy.call("POST", "/get", [{"key": key} for key in keys]).json
    assert [row["key"] for row in found.get("existedKey", [])] == keys


@pytest.mark.promise("I15")
def test_proxy_leaves_alone_the_directory_that_is_put_in_the_place_of_its_own(system: System) -> None:
    proxy, [node, _] = system.cluster(2)  # one that is left, as whoever hears nobody changes nothing
    mine, moved = Path(system.directory, "gkv-data/proxy"), Path(system.directory, "gkv-data/moved")
    mine.rename(moved)
    mine.mkdir()
    backup = (moved / "cluster.json").read_bytes()
    (mine / "cluster.json").write_bytes(backup)
    node.signal(signal.SIGKILL)
    proxy.wait_line("no member changes its state, as .*lock cannot be written")
    assert contents(mine) == {"cluster.json": backup}
    proxy.signal(signal.SIGTERM)
    assert proxy.ended() == 0
    assert contents(mine) == {"cluster.json": backup}
