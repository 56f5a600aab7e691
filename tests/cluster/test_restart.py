"""Ends and restarts of real processes under load: who notices, what fails, and for how long."""

import http.client
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import DEADLINE, NOWHERE, Program, System, Worker, keys_by_node, wait_for


@dataclass
class Failure:
    """A request that did not bring what was asked for."""

    began: float
    kind: str
    keys: list[str] = field(default_factory=list)


class Client(Worker):
    """Writes and reads its own keys at a proxy, one request after the other, until it is told to stop."""

    def __init__(self, port: int, keys: list[str], *, kept: bool) -> None:
        self.answered = 0
        self.failures: list[Failure] = []
        self._port, self._keys, self._kept = port, keys, kept
        super().__init__()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE)
        number = 0
        while not self._stop.is_set():
            number += 1
            began = time.monotonic()
            op = ("set", "get")[number % 2]
            body = [{"key": key, "value": number} if op == "set" else {"key": key} for key in self._keys]
            try:
                connection.request("POST", f"/{op}", json.dumps(body))
                answer = connection.getresponse()
                status, content = answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(Failure(began, f"{op}: {type(error).__name__}"))
                connection.close()
                self._stop.wait(0.01)
                continue
            if not self._kept:
                connection.close()
            failed = json.loads(content).get("failedKey", []) if content[:1] == b"{" else []
            if status != 200 or failed:
                code = failed[0]["code"] if failed else content.decode()
                self.failures.append(Failure(began, f"{op}: {status} {code}", [row["key"] for row in failed]))
                self._stop.wait(0.005)
            else:
                self.answered += 1
        connection.close()


@dataclass
class Load:
    """Clients of one proxy."""

    clients: list[Client]

    def more(self, count: int = 20) -> None:
        """Wait until every client has had so many further answers."""
        goals = [client.answered + count for client in self.clients]
        wait_for("answers", lambda: all(client.answered >= goal for client, goal in zip(self.clients, goals, strict=True)))

    def failures(self) -> list[Failure]:
        return [failure for client in self.clients for failure in client.failures]


@pytest.fixture
def load() -> Iterator[Callable[[Program], Load]]:
    """Return what puts a proxy under load: kept-alive connections, and a new one for each request."""
    loads: list[Load] = []

    def start(proxy: Program) -> Load:
        keys = [keys[:5] for keys in keys_by_node(proxy).values()]
        clients = [Client(proxy.port, some, kept=kept) for some in keys for kept in (True, True, False)]
        loads.append(Load(clients))
        loads[-1].more()
        return loads[-1]

    yield start
    for one in loads:
        for client in one.clients:
            client.stop()


HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_at(system: System, listener: socket.socket, command: str, *arguments: str) -> Program:
    """Start a command with its listening socket handed over, as a supervisor does; wait until it listens."""
    under = [sys.executable, "-c", HAND_OVER, str(listener.fileno())]
    program = system.start(command, *arguments, under=under, popen={"pass_fds": [listener.fileno()]})
    program.port = listener.getsockname()[1]
    program.wait_line("Listening on port ")
    return program


def start_proxy_at(system: System, listener: socket.socket) -> Program:
    return start_at(system, listener, "proxy", "--port", str(listener.getsockname()[1]), "--deadline", "15s")


def end(program: Program) -> float:
    """Ask a program to end, and wait for it; return how long it took."""
    began = time.monotonic()
    program.signal(signal.SIGTERM)
    assert program.ended() == 0
    return time.monotonic() - began


# -- restarts under load


def test_restart_of_a_proxy_whose_socket_a_supervisor_holds_fails_no_request(system: System, load: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        proxy = start_proxy_at(system, listener)
        for _ in range(2):
            system.node(proxy)
        running = load(proxy)
        for _ in range(2):
            end(proxy)
            proxy = start_proxy_at(system, listener)
            running.more()
        assert running.failures() == []


def test_restart_of_a_proxy_without_that_refuses_new_connections_and_breaks_none(system: System, load: Any) -> None:
    proxy, _ = system.cluster(2)
    running = load(proxy)
    end(proxy)
    system.proxy(port=proxy.port)
    running.more()
    assert {failure.kind.split(": ")[1] for failure in running.failures()} == {"ConnectionRefusedError"}


def test_restart_of_a_node_fails_its_own_keys_until_it_is_there_again_and_leaves_no_write_open(
    system: System, load: Any
) -> None:
    proxy, nodes = system.cluster(2)
    running = load(proxy)
    owned = keys_by_node(proxy)
    for node in nodes:
        before = len(running.failures())
        since = time.monotonic()
        end(node)
        again = system.node(proxy, port=node.port)
        there = time.monotonic()
        assert again.call("GET", "/readyz").status == 200
        running.more()
        failures = running.failures()
        kinds = {failure.kind for failure in failures}
        assert kinds <= {f"{call} {code}" for call in ("get: 503", "get: 200") for code in ("unreachable", "no-primary")} | {
            "set: 503 not-applied",
            "set: 503 no-primary",
        }
        late = [failure for failure in failures[before:] if failure.began > there]
        assert late == []
        mine = set(owned[f"127.0.0.1:{node.port}"])
        assert {key for failure in failures if since < failure.began < there for key in failure.keys} <= mine


def test_restart_of_a_node_whose_socket_a_supervisor_holds_leaves_no_request_open(system: System, load: Any) -> None:
    proxy = system.proxy("--deadline", "15s")
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        port = str(listener.getsockname()[1])
        arguments = ["node", port, "--proxy", f"http://127.0.0.1:{proxy.port}"]
        node = start_at(system, listener, *arguments)
        node.wait_line(": member of cluster ")
        system.node(proxy)
        running = load(proxy)
        end(node)
        start_at(system, listener, *arguments)
        running.more()
        # One that takes longer than a second, on a slow machine, is an absence.
        assert {failure.kind for failure in running.failures()} <= {
            "set: 503 no-primary",
            "get: 200 no-primary",
            "get: 503 no-primary",
        }


def test_handed_over_socket_of_another_address_is_a_wrong_setting(system: System) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for program in ("proxy", "node"):
            where = ["--port", "1"] if program == "proxy" else ["1", "--proxy", NOWHERE]
            with pytest.raises(AssertionError, match=r"it ended with 78: .*LISTEN_FDS"):
                start_at(system, listener, program, *where)


# -- the end


@pytest.fixture
def half(system: System) -> Iterator[tuple[Program, socket.socket, bytes]]:
    """Give a proxy with one node, a connection over which half of a request has come, and the other half."""
    proxy, _ = system.cluster(1)
    body = json.dumps([{"key": "slow", "value": "x" * 1000}]).encode()
    with socket.create_connection(("127.0.0.1", proxy.port), DEADLINE) as connection:
        connection.sendall(b"POST /set HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body[:10]))
        assert proxy.call("GET", "/livez").status == 200
        yield proxy, connection, body[10:]


def begin_to_end(program: Program) -> None:
    """Ask a program to end; wait until it has begun to."""
    program.signal(signal.SIGTERM)
    wait_for("the listener's end", lambda: not listens(program.port))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_second_sigterm_ends_at_once(half: tuple[Program, socket.socket, bytes]) -> None:
    proxy, connection, _ = half
    begin_to_end(proxy)
    assert proxy.process.poll() is None
    proxy.signal(signal.SIGTERM)
    assert proxy.ended() == 128 + signal.SIGTERM
    assert connection.recv(100) == b""


def test_sighup_during_the_drain_changes_nothing(half: tuple[Program, socket.socket, bytes]) -> None:
    proxy, connection, rest = half
    begin_to_end(proxy)
    proxy.signal(signal.SIGHUP)
    connection.sendall(rest)
    answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert proxy.ended() == 0
    assert "the settings" not in proxy.stderr


@pytest.mark.parametrize("moment", ["directory", "first line"])
def test_sigterm_during_the_start_ends_a_node_orderly(system: System, moment: str) -> None:
    proxy = system.proxy()
    node = system.start("node", "0", "--proxy", f"http://127.0.0.1:{proxy.port}", "--data", "here")
    there: dict[str, Callable[[], Any]] = {
        "directory": (system.directory / "here" / "data.mdb").exists,
        "first line": lambda: node.stdout,
    }
    wait_for(moment, there[moment])
    assert end(node) < DEADLINE / 2
    again = system.start("node", "0", "--proxy", f"http://127.0.0.1:{proxy.port}", "--data", "here")
    wait_for("an end or a start", lambda: again.process.poll() is not None or again.stdout)
    if again.process.poll() is not None:  # another port is another name
        assert "holds the records of node" in again.stderr


def stalled(port: int, request: bytes) -> socket.socket:
    """Return a connection with a request, of whose answer nobody reads more than the beginning."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.settimeout(DEADLINE)
    connection.connect(("127.0.0.1", port))
    connection.sendall(request)
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def rest_of(connection: socket.socket) -> tuple[int, bytes, bool]:
    """Read to the end; return how many bytes came, the last of them, and whether a reset was the end."""
    count, last = 0, b""
    try:
        while chunk := connection.recv(1 << 20):
            count += len(chunk)
            last = (last + chunk)[-10:]
    except ConnectionResetError:
        return count, last, True
    return count, last, False


def test_drain_with_readers_that_do_not_read_ends_in_time_and_leaves_no_answer_that_looks_whole(system: System) -> None:
    proxy = system.proxy("--drain", "500ms")
    node = system.node(proxy, "--drain", "500ms")
    for i in range(40):
        assert proxy.call("POST", "/set", [{"key": f"key-{i}", "value": "x" * 500_000}]).status == 200
    keys = json.dumps([{"key": f"key-{i}"} for i in range(40)]).encode()
    get = b"POST /get HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(keys), keys)
    with (
        stalled(proxy.port, get) as batch,
        stalled(node.port, b"GET /v1/snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n") as copy,
    ):
        assert 0.5 <= end(proxy) < 3
        assert 0.5 <= end(node) < 3
        count, _, _ = rest_of(batch)
        assert count < 40 * 500_000
        count, last, _ = rest_of(copy)
        assert count < 20_000_000
        assert not last.endswith(b"0\r\n\r\n")
    again = system.node(None, port=node.port)
    assert again.call("GET", "/v1/info").json["engine"]["verification"]["state"] == "not needed"


def test_drain_of_an_old_clients_copy_ends_with_a_reset(system: System) -> None:
    """To HTTP/1.0 a copy ends with the connection, so an end that is none must be seen as such."""
    proxy = system.proxy()
    node = system.node(proxy, "--drain", "300ms")
    for i in range(20):
        assert proxy.call("POST", "/set", [{"key": f"key-{i}", "value": "x" * 500_000}]).status == 200
    with stalled(node.port, b"GET /v1/snapshot HTTP/1.0\r\nHost: localhost\r\n\r\n") as copy:
        end(node)
        assert rest_of(copy)[2]


# -- a disk that fails


def test_node_whose_disk_fails_says_so_before_it_ends(system: System) -> None:
    """The error comes once, within a commit: nothing is acknowledged from then on, though the disk seems well again."""
    if not Path("/usr/bin/strace").exists():
        pytest.skip("there is no strace")
    proxy = system.proxy()
    trace = system.directory / "trace"
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace), "--trace=fdatasync"]
    strace.append("--inject=fdatasync:error=EIO:when=5")
    node = system.start("node", "0", "--proxy", f"http://127.0.0.1:{proxy.port}", under=strace)
    node.port = int(node.wait_line(r"Listening on port \.\.\.(\d+)")[1])
    node.wait_line(": member of cluster ")

    def failing() -> bool:
        answer = proxy.call("POST", "/set", [{"key": "a", "value": 1}])
        return answer.status != 200

    wait_for("the error", failing)
    ready = node.call("GET", "/readyz?verbose")
    assert ready.status == 503
    assert b"[-]disk" in ready.body
    for program in (node, proxy):
        for _ in range(5):
            answer = program.call("POST", "/set", [{"key": "a", "value": 2}])
            assert (answer.status, answer.json["failedKey"][0]["code"]) == (503, "indeterminate")
    assert node.call("GET", "/livez").status == 200
    assert node.ended() == 1
    assert "cannot be written, nothing more is acknowledged" in node.stderr
    assert trace.read_text().count("(INJECTED)") == 1
