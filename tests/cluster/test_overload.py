"""More than processes can take: requests, memory, file descriptors. Real processes, real limits."""

import json
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.conftest import Program, System, call, wait_for

pytestmark = pytest.mark.undisturbed

MIB = 1 << 20
BODY_OF_ONE = b'[{"key":"k"}]'


def request(path: str, body: bytes, length: int | None = None) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


GET = request("/get", BODY_OF_ONE)


class Connections:
    """Many sockets, closed at the end; as many as the system gives."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def open(self, port: int, count: int = 1, buffer: int = 0) -> list[socket.socket]:
        opened = []
        for _ in range(count):
            sock = self._stack.enter_context(socket.socket())
            if buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            sock.settimeout(10)
            sock.connect(("127.0.0.1", port))
            opened.append(sock)
        return opened


@pytest.fixture
def connections() -> Iterator[Connections]:
    with ExitStack() as stack:
        yield Connections(stack)


def answer(sock: socket.socket) -> bytes:
    """Return what comes next, up to the end of an answer or of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(65_536)
        if not chunk:
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
    while len(body) < length:
        body += sock.recv(65_536)
    return head + b"\r\n\r\n" + body


def metric(text: bytes, name: str, **labels: str) -> float:
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    return next((one.value for one in samples if one.name == name and one.labels == labels), 0.0)


# -- requests in work


def test_excess_is_refused_at_once_while_nodes_hang_and_the_rest_is_served_when_they_go_on(
    system: System, connections: Connections
) -> None:
    proxy = system.proxy("--max-inflight", "8", "--deadline", "15s")
    node = system.node(proxy)
    proxy.call("POST", "/set", [{"key": "k", "value": "v"}])
    node.signal(signal.SIGSTOP)
    try:
        waiting = connections.open(proxy.port, 8)
        for sock in waiting:
            sock.sendall(GET)
        wait_for(
            "eight in work", lambda: metric(call(proxy.port, "GET", "/metrics").body, "gkv_http_inflight", lane="clients") == 8
        )
        refused = connections.open(proxy.port, 20)
        took = []
        for sock in refused * 2:  # the connection goes on
            before = time.perf_counter()
            sock.sendall(GET)
            found = answer(sock)
            took.append(time.perf_counter() - before)
            assert found.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in found
            assert json.loads(found.partition(b"\r\n\r\n")[2])["type"] == "urn:gkv:problem:overloaded"
        assert sorted(took)[len(took) // 2] < 0.05
        assert proxy.call("GET", "/livez").status == 200
        assert proxy.call("GET", "/readyz").status == 200
        metrics = proxy.call("GET", "/metrics").body
        assert metric(metrics, "gkv_http_rejected_total", reason="inflight") == 40
        assert metric(metrics, "gkv_http_inflight_limit") == 8
    finally:
        node.signal(signal.SIGCONT)
    for sock in waiting:
        assert answer(sock).endswith(b'{"existedKey":[{"key":"k","value":"v"}]}')
    for sock in refused[:8]:
        sock.sendall(GET)
        assert answer(sock).startswith(b"HTTP/1.1 200 ")


# -- memory

BUFFERED, BODY, ANSWER = 64 * MIB, 16 * MIB, 16 * MIB
SMALL = ("--max-buffered", "64MiB", "--max-body", "16MiB", "--max-answer", "16MiB")


def bound(connections: int, node: bool) -> int:
    """Return what docs/operations.md says, for the settings above."""
    lanes = 2 if node else 1
    return (
        100 * MIB + 64 * 1024 * connections + 256 * 256 * 1024 + 3 * lanes * BUFFERED + 4 * max(BODY, ANSWER) + 48 * MIB * node
    )


def restart_peak(program: Program) -> int:
    """Have the peak of a process count from now on; return the bytes that it has in memory now."""
    Path(f"/proc/{program.process.pid}/clear_refs").write_text("5")
    return peak(program)


def peak(program: Program) -> int:
    """Return the most bytes that a process had in memory, pages of files that it has mapped included."""
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def rejected(program: Program) -> float:
    """Return how often a program had no memory."""
    return metric(program.call("GET", "/metrics").body, "gkv_http_rejected_total", reason="memory")


def made(program: Program, status: str) -> float:
    metrics = program.call("GET", "/metrics").body
    return metric(metrics, "gkv_http_requests_total", method="POST", route="/get", status=status)


def in_work(program: Program) -> float:
    return metric(program.call("GET", "/metrics").body, "gkv_http_inflight", lane="clients")


@pytest.mark.parametrize("role", ["proxy", "node"])
def test_memory_stays_below_its_bound_with_bodies_that_are_half_sent(
    system: System, connections: Connections, role: str
) -> None:
    proxy = system.proxy(*SMALL)
    node = system.node(proxy, *SMALL)
    program = proxy if role == "proxy" else node
    before = restart_peak(program)
    socks = connections.open(program.port, 200)
    for sock in socks:
        with suppress(OSError):  # some are refused while they send
            sock.sendall(request("/set", bytes(4 * MIB), length=8 * MIB))
    held = BUFFERED // (8 * MIB)
    wait_for("the others' refusal", lambda: rejected(program) == 200 - held)
    assert peak(program) < min(before + 1.5 * BUFFERED, bound(200, node=program is node))
    [small] = connections.open(program.port)
    small.sendall(request("/set", b'[{"key":"k","value":"v"}]'))
    assert answer(small).startswith(b"HTTP/1.1 200 ")  # what comes in one piece needs no room kept
    large = json.dumps([{"key": "k", "value": "v" * 200_000}]).encode()
    assert program.call("POST", "/set", large).status == 503
    for sock in socks:
        sock.close()
    wait_for("room", lambda: program.call("POST", "/set", large).status == 200)


def test_memory_stays_below_its_bound_with_large_writes_for_a_node_that_hangs(system: System, connections: Connections) -> None:
    proxy = system.proxy(*SMALL, "--deadline", "15s")
    node = system.node(proxy, *SMALL)
    before = restart_peak(proxy)
    node.signal(signal.SIGSTOP)
    try:
        body = json.dumps([{"key": f"k{i}", "value": "v" * (MIB - 2)} for i in range(7)]).encode()
        for sock in connections.open(proxy.port, 30):
            with suppress(OSError):
                sock.sendall(request("/set", body))
        wait_for("as many in work as there is room for", lambda: in_work(proxy) >= 8 and rejected(proxy) >= 20)
        print(f"\nwrites: {before / MIB:.0f} MiB, at most {peak(proxy) / MIB:.0f} MiB")
        assert peak(proxy) < bound(30, node=False)
        assert peak(proxy) < before + 4 * BUFFERED
    finally:
        node.signal(signal.SIGCONT)


@pytest.mark.promise("I7")
@pytest.mark.parametrize("role", ["proxy", "node"])
def test_memory_stays_below_its_bound_with_large_answers_that_nobody_reads(
    system: System, connections: Connections, role: str
) -> None:
    proxy = system.proxy(*SMALL)
    node = system.node(proxy, *SMALL)
    asked = proxy if role == "proxy" else node
    for i in range(14):
        assert proxy.call("POST", "/set", [{"key": f"k{i}", "value": "v" * (MIB - 2)}]).status == 200
    before = {role: restart_peak(program) for role, program in (("proxy", proxy), ("node", node))}
    all_of_them = json.dumps([{"key": f"k{i}"} for i in range(14)]).encode()
    for sock in connections.open(asked.port, 60, buffer=4_096):
        sock.sendall(request("/get", all_of_them))
    wait_for("all answers to be made or refused", lambda: made(asked, "2xx") + made(asked, "5xx") == 60)
    assert BUFFERED // (15 * MIB) >= made(asked, "2xx") > 0
    for program in (proxy, node):
        print(
            f"\nanswers: {before}, at most {peak(program) / MIB:.0f} MiB, bound {bound(60, node=program is node) / MIB:.0f} MiB"
        )
        assert peak(program) < bound(60, node=program is node)
    assert asked.call("GET", "/livez").status == 200


@pytest.mark.parametrize("engine", ["lmdb", "memory"])
def test_get_of_ten_thousand_large_values_is_refused_and_builds_no_gigabytes(system: System, engine: str) -> None:
    proxy = system.proxy()
    nodes = [system.node(proxy, "--engine", engine) for _ in range(2)]
    for i in range(40):
        assert proxy.call("POST", "/set", [{"key": f"k{i}", "value": "v" * (MIB - 2)}]).status == 200
    before = {program.port: restart_peak(program) for program in (proxy, *nodes)}
    keys = [{"key": f"k{i % 40}"} for i in range(10_000)]
    for program in (proxy, nodes[0]):
        found = program.call("POST", "/get", keys)
        assert found.status == 413
        assert found.json["type"] == "urn:gkv:problem:too-large"
        assert "ask for fewer keys" in found.json["detail"]
        assert len(program.call("POST", "/get", keys[:40]).json["existedKey"]) == 40
    for program in (proxy, *nodes):
        grown = peak(program) - before[program.port]
        print(f"\n10,000 values: {grown / MIB:.0f} MiB more than {before[program.port] / MIB:.0f} MiB")
        assert grown < 5 * 64 * MIB


# -- file descriptors


def test_program_with_few_files_serves_as_many_as_it_can_and_everybody_later(system: System, connections: Connections) -> None:
    files = 64
    limited = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
    proxy = system.start("proxy", "--port", "0", under=limited)
    proxy.port = int(proxy.wait_line(r"Listening on port (\d+)\.\.\.")[1])
    system.node(proxy)
    assert proxy.call("POST", "/set", [{"key": "k", "value": "v"}]).status == 200
    socks = connections.open(proxy.port, 3 * files)
    served = []
    for sock in socks:
        sock.settimeout(0.2)
        with suppress(OSError):
            sock.sendall(GET)
            if answer(sock).startswith(b"HTTP/1.1 200 "):
                served.append(sock)
    assert files // 3 < len(served) < files
    for sock in served:
        sock.settimeout(5)
        sock.sendall(GET)
        assert answer(sock).startswith(b"HTTP/1.1 200 ")
    for sock in socks:
        sock.close()
    wait_for("room for a new client", lambda: proxy.call("POST", "/get", [{"key": "k"}]).status == 200)
    assert proxy.process.poll() is None


def test_accepting_pauses_while_there_are_no_files_and_goes_on_afterwards(system: System, connections: Connections) -> None:
    proxy, _ = system.cluster(1)
    [before] = connections.open(proxy.port)
    for opens_a_channel in (request("/set", b'[{"key":"k","value":"v"}]'), GET):
        before.sendall(opens_a_channel)
        assert answer(before).startswith(b"HTTP/1.1 200 ")
    pid = proxy.process.pid
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(list(Path(f"/proc/{pid}/fd").iterdir())), usual[1]))
    waiting = connections.open(proxy.port, 20)
    for sock in waiting:
        sock.sendall(GET)
    proxy.wait_line("cannot accept connections now: Too many open files")

    def errors() -> float:
        before.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return metric(answer(before).partition(b"\r\n\r\n")[2], "gkv_http_accept_errors_total")

    first, started = errors(), time.monotonic()
    wait_for("more attempts", lambda: errors() >= first + 3)
    assert errors() - first < 20 * (time.monotonic() - started) + 2  # it does not try without a pause
    before.sendall(GET)
    assert answer(before).startswith(b"HTTP/1.1 200 ")  # over the channel that is open
    resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
    for sock in waiting:
        assert answer(sock).startswith(b"HTTP/1.1 200 ")
    assert proxy.stderr.count("cannot accept") == 1
