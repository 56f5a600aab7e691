"""Nodes that a proxy starts: where their data is, what they are told, which they may be, and what
becomes of one that ends.
"""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import Program, System, call, free_ports, wait_for

ITEMS = [{"key": f"key-{i}", "value": i} for i in range(20)]
KEYS = [{"key": item["key"]} for item in ITEMS]


def spawn(system: System, count: int, first: int, *arguments: str, **environment: str) -> Program:
    """Start a proxy with child nodes and wait until they have joined."""
    proxy = system.proxy("--spawn", str(count), "--spawn-port", str(first), *arguments, **environment)
    proxy.wait_line("Ready: ")
    return proxy


def refused(system: System, count: int, first: int, *arguments: str) -> Program:
    """Start a proxy with child nodes that cannot start, and wait for its end."""
    proxy = system.start("proxy", "--port", "0", "--spawn", str(count), "--spawn-port", str(first), *arguments)
    assert proxy.ended() in (1, 78)
    assert "Ready" not in proxy.stdout
    return proxy


def end(program: Program) -> None:
    program.signal(signal.SIGTERM)
    assert program.ended() == 0, program.stderr


def store(proxy: Program) -> None:
    assert proxy.call("POST", "/set", ITEMS).status == 200


def child(proxy: Program, port: int) -> int:
    """Return the process id of the child on a port; 0 when there is none."""
    pid = proxy.process.pid
    for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if f"\0node\0{port}\0" in Path(f"/proc/{each}/cmdline").read_text():
            return int(each)
    return 0


def test_set_before_all_nodes_have_joined_is_refused_and_keeps_none_from_joining(system: System) -> None:
    """A set that was acknowledged by the first node would have the others refused, and the system with them."""
    port = free_ports(4)
    proxy = system.proxy("--spawn", "3", "--spawn-port", str(port))
    answers = []
    while not answers or answers[-1].status != 200:
        ready = proxy.call("GET", "/readyz").status
        answers.append(proxy.call("POST", "/set", ITEMS))
        assert ready == 503 or answers[-1].status == 200
        assert answers[-1].status in (200, 503), answers[-1].body
    proxy.wait_line("Ready: 3 nodes have joined")
    assert len(proxy.call("GET", "/v1/cluster").json["members"]) == 3
    assert proxy.call("POST", "/get", KEYS).json == {"existedKey": ITEMS}
    end(proxy)


# -- data


def test_data_of_nodes_lies_below_that_of_the_proxy(system: System) -> None:
    port = free_ports(2)
    proxy = spawn(system, 2, port, "--data", "elsewhere")
    store(proxy)
    end(proxy)
    for each in (port, port + 1):
        assert (system.directory / "elsewhere" / str(each) / "data.mdb").exists()
    assert not (system.directory / "gkv-data").exists()
    (system.directory / "elsewhere").rename(system.directory / "moved")
    again = spawn(system, 2, port, GKV_DATA="moved")
    assert again.call("POST", "/get", KEYS).json == {"existedKey": ITEMS}


def test_data_that_an_older_version_has_left_elsewhere_is_named_with_what_to_do(system: System) -> None:
    port = free_ports(1)
    proxy = spawn(system, 1, port, "--data", "mine")
    store(proxy)
    end(proxy)
    (system.directory / "gkv-data").mkdir()
    (system.directory / "mine" / str(port)).rename(system.directory / "gkv-data" / str(port))  # where it was
    said = re.search(r"Move it: mv (\S+) (\S+)$", refused(system, 1, port, "--data", "mine").stderr, re.MULTILINE)
    assert said is not None
    shutil.move(system.directory / said[1], system.directory / said[2])
    assert spawn(system, 1, port, "--data", "mine").call("POST", "/get", KEYS).json == {"existedKey": ITEMS}


# -- settings


def test_settings_are_handed_on_as_they_were_written_and_secrets_are_on_no_command_line(system: System) -> None:
    port = free_ports(1)
    tokens = {role: f"{role}-secret-0123456789" for role in ("client", "peer", "reader")}
    (system.directory / "peer.token").write_text(f"{tokens['peer']}\n")
    (system.directory / "gkv.toml").write_text(
        f'deadline = "0.4ms"\nmax_answer = "3MiB"\nnames = ["a.example", "b.example"]\nreader_tokens = "{tokens["reader"]}"\n'
        'peer_tokens_file = "peer.token"\naccess_log = true\nallow = ["127.0.0.0/8"]\n[proxy]\ndrain = "1.5s"\n'
    )
    for name in ("gkv.toml", "peer.token"):
        (system.directory / name).chmod(0o600)
    arguments = ["--spawn", "1", "--spawn-port", str(port), "--tombstone-ttl", "70.5s", "--config", "gkv.toml"]
    environment = {"GKV_MAX_BODY": "2MiB", "GKV_CLIENT_TOKENS": tokens["client"], "GKV_MAX_DISK": "0", "GKV_WEIGHT": "2.50"}
    proxy = system.proxy(*arguments, "--max-buffered", "64MiB", **environment, GKV_DRAIN="2.5s", GKV_INSECURE="0")
    pid = wait_for("the child", lambda: child(proxy, port))
    wait_for("its settings", lambda: b"gkv.cli" in Path(f"/proc/{pid}/cmdline").read_bytes())
    told = dict(line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if line.startswith("GKV_"))
    told.pop("GKV_NATIVE", None)
    assert told == {
        "GKV_DEADLINE": "0.4ms",
        "GKV_TOMBSTONE_TTL": "70.5s",
        "GKV_MAX_ANSWER": "3MiB",
        "GKV_MAX_BODY": "2MiB",
        "GKV_MAX_BUFFERED": "64MiB",
        "GKV_MAX_DISK": "0",
        "GKV_DRAIN": "2.5s",
        "GKV_NAMES": "a.example,b.example",
        "GKV_ALLOW": "127.0.0.0/8",
        "GKV_ACCESS_LOG": "1",
        "GKV_INSECURE": "0",
        "GKV_WEIGHT": "2.50",
        "GKV_READER_TOKENS": tokens["reader"],
        "GKV_CLIENT_TOKENS": tokens["client"],
        "GKV_PEER_TOKENS": tokens["peer"],
    }
    for process in (pid, proxy.process.pid):
        assert "secret" not in Path(f"/proc/{process}/cmdline").read_text()

    def answers() -> bool:
        try:
            authorization = {"Authorization": f"Bearer {tokens['client']}"}
            return call(port, "GET", "/v1/info", Host="b.example", **authorization).status == 200
        except OSError:
            return False

    wait_for("the node's answer", answers)
    end(proxy)


# -- another choice of nodes on old data


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, int]]:
    """Give a system whose two nodes, on neighbouring ports, hold keys, and the first of these
    ports; all have ended, as all that a test starts with it must in the end.
    """
    system = System(tmp_path_factory.mktemp("old"))
    port = free_ports(5)
    proxy = spawn(system, 2, port)
    store(proxy)
    end(proxy)
    yield system, port
    system.end()


def check_old(system: System, port: int) -> None:
    """Check that the nodes are still there with their keys, when they are started as they were."""
    proxy = spawn(system, 2, port)
    assert proxy.call("POST", "/get", KEYS).json == {"existedKey": ITEMS}
    end(proxy)


def test_other_ports_on_old_data_say_what_to_do(old: tuple[System, int]) -> None:
    system, port = old
    for count, offset in ((2, 2), (2, 1), (1, 3)):  # others, one other, fewer and others
        proxy = refused(system, count, port + offset)
        assert f"Start them with --spawn 2 --spawn-port {port}" in proxy.stderr
    assert not (system.directory / "gkv-data" / str(port + 2)).exists()  # nothing was begun
    check_old(system, port)


def test_fewer_nodes_on_old_data_say_what_to_do_and_work(old: tuple[System, int]) -> None:
    system, port = old
    proxy = spawn(system, 1, port)
    proxy.wait_line(f"member 127.0.0.1:{port + 1} is not running; .* --spawn 2 --spawn-port {port}\n")
    answer = proxy.call("POST", "/get", KEYS).json
    assert "notExistedKey" not in answer
    end(proxy)


def test_more_nodes_on_old_data_join_and_have_their_part_of_it(old: tuple[System, int]) -> None:
    system, port = old
    proxy = spawn(system, 3, port)
    assert [node["weight"] for node in proxy.call("GET", "/v1/cluster").json["members"]] == [1.0] * 3
    assert proxy.call("POST", "/get", KEYS).json == {"existedKey": ITEMS}
    end(proxy)


def test_more_nodes_on_old_data_without_a_key_join(system: System) -> None:
    port = free_ports(3)
    end(spawn(system, 2, port))
    proxy = spawn(system, 3, port)
    assert len(proxy.call("GET", "/v1/cluster").json["members"]) == 3


# -- a child that ends


def test_child_that_ends_is_started_again_and_comes_back_with_its_records(system: System) -> None:
    port = free_ports(2)
    proxy = spawn(system, 2, port)
    store(proxy)
    for count, number in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
        doomed = child(proxy, port)
        os.kill(doomed, number)
        proxy.wait_line(
            rf"node 127.0.0.1:{port} ended with code -?\d+; its keys cannot be answered .* started in {count / 2:g} s"
        )
        wait_for("another child", lambda doomed=doomed: child(proxy, port) not in (0, doomed))
        wait_for("its records", lambda: proxy.call("POST", "/get", KEYS).json == {"existedKey": ITEMS})
    end(proxy)


def test_child_that_cannot_start_again_is_tried_ever_more_seldom(system: System) -> None:
    port = free_ports(1)
    proxy = spawn(system, 1, port)
    store(proxy)
    data = system.directory / "gkv-data" / str(port)
    data.rename(system.directory / "away")
    data.write_text("no directory")
    os.kill(child(proxy, port), signal.SIGKILL)
    for pause in (0.5, 1, 2):
        proxy.wait_line(rf"node 127.0.0.1:{port} ended with code -?\d+; .* started in {pause:g} s\n")
    assert proxy.call("GET", "/livez").status == 200
    data.unlink()
    (system.directory / "away").rename(data)
    wait_for("its records", lambda: proxy.call("POST", "/get", KEYS).json == {"existedKey": ITEMS})
    proxy.signal(signal.SIGKILL)
    proxy.ended()
    wait_for("the child's end", lambda: not listens(port))


def listens(port: int) -> bool:
    try:
        return call(port, "GET", "/livez", timeout=1).status == 200
    except OSError:
        return False


def test_child_that_ends_because_of_its_settings_is_not_started_again(system: System) -> None:
    port = free_ports(1)
    path = system.directory / "first"
    path.mkdir()
    wrong = path / "wrong"
    # Each program reads this module in its first moments.
    (path / "ujson.py").write_text(
        f"import sys\nfrom pathlib import Path\nif Path({str(wrong)!r}).exists():\n    sys.exit(78)\n"
        f"sys.path.remove({str(path)!r})\ndel sys.modules['ujson']\nimport ujson\n"
    )
    proxy = spawn(system, 1, port, PYTHONPATH=os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    wrong.touch()
    os.kill(child(proxy, port), signal.SIGKILL)
    proxy.wait_line(f"node 127.0.0.1:{port} ended with code 78, .* not started again")
    assert child(proxy, port) == 0
    assert proxy.call("GET", "/livez").status == 200
    end(proxy)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_child_that_ends_before_it_has_joined_ends_the_proxy_with_a_word(system: System, number: int) -> None:
    port = free_ports(2)
    proxy = system.start("proxy", "--port", "0", "--spawn", "2", "--spawn-port", str(port))
    os.kill(wait_for("the child", lambda: child(proxy, port)), number)
    assert proxy.ended() == 1
    assert re.search(rf"node 127.0.0.1:{port} ended with code -?\d+ before it had joined", proxy.stderr)
    assert not listens(port + 1)


def test_sigterm_while_nodes_start_ends_all(system: System) -> None:
    port = free_ports(2)
    proxy = system.start("proxy", "--port", "0", "--spawn", "2", "--spawn-port", str(port))
    wait_for("the child", lambda: child(proxy, port + 1))
    children = [child(proxy, port), child(proxy, port + 1)]
    end(proxy)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_copies_in_memory_that_all_ended_are_said_to_be_gone_and_ready_says_that_nobody_answers(system: System) -> None:
    ports = free_ports(4)
    settings = ("--port", str(ports), "--replicas", "3", "--engine", "memory", "--data", "here", "--drain", "500ms")
    proxy = spawn(system, 3, ports + 1, *settings)
    assert not re.search("^Ready: .*readyz", proxy.stdout, re.MULTILINE)
    store(proxy)
    end(proxy)
    again = spawn(system, 3, ports + 1, *settings)
    again.wait_line("Ready: 3 nodes have joined, .*; but /readyz is not ok: copies failed: 100 % of the keys wait for ")
    again.wait_line("were in memory and are gone with (its process|their processes); accept the loss")
    assert "with its data" not in again.stderr
    end(again)
