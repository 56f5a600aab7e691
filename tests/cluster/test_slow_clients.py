"""Slow, idle and single clients of real processes: what they cost the others, and what the others cost them.

The bounds are generous, for machines that do other things too; the figures are printed (pytest -s).
"""

import os
import resource
import selectors
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.cluster.conftest import Program, System, wait_for

pytestmark = pytest.mark.undisturbed

SLOW_CLIENTS = 300
IDLE_CLIENTS = 2_000
BODY = b'[{"key":"k"}]'
GET = b"POST /get HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Let this process open as many sockets as the tests need; server processes do it by themselves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE_CLIENTS + 500:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE_CLIENTS + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def get_once(sock: socket.socket) -> float:
    """Get one key; return the seconds that it took."""
    before = time.perf_counter()
    sock.sendall(GET)
    answer = sock.recv(65_536)
    took = time.perf_counter() - before
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert answer.endswith(b"}"), answer
    return took


def latencies(port: int, seconds: float) -> list[float]:
    """Get one key after the other on one connection; return the latencies, sorted."""
    with connect(port) as sock:
        for _ in range(50):
            get_once(sock)
        until = time.monotonic() + seconds
        found = []
        while time.monotonic() < until:
            found.append(get_once(sock))
    return sorted(found)


def percent(found: list[float], part: float) -> float:
    """Return a percentile in milliseconds."""
    return found[min(len(found) - 1, int(len(found) * part / 100))] * 1_000


def resident(program: Program) -> float:
    """Return the megabytes that a process has in memory."""
    pages = int(Path(f"/proc/{program.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu(program: Program) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{program.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class SlowClients:
    """Clients that send one byte a second: half of them of a head, half of a body. Nobody waits for them here."""

    def __init__(self, port: int, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._started = time.monotonic()
        self._next = self._started
        self.ended: list[tuple[float, bytes]] = []
        """When each one was cut, and what it had been told."""
        for i in range(count):
            sock = connect(port)
            if i % 2:
                sock.sendall(b"POST /set HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n")
            else:
                sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ, b"")

    def turn(self) -> bool:
        """Send the bytes that are due, read what has come; return whether all have been cut."""
        if time.monotonic() >= self._next:
            self._next += 1
            for key in list(self._selector.get_map().values()):
                with suppress(OSError):  # it has been cut, and will read so
                    key.fileobj.send(b"x")
        for key, _ in self._selector.select(0):
            try:
                chunk = key.fileobj.recv(65_536)
            except ConnectionResetError:
                chunk = b""
            if chunk:
                self._selector.modify(key.fileobj, selectors.EVENT_READ, key.data + chunk)
            else:
                self.ended.append((time.monotonic() - self._started, key.data))
                self._selector.unregister(key.fileobj)
                key.fileobj.close()
        return not self._selector.get_map()

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()


def test_slow_clients_delay_nobody_and_are_cut(system: System) -> None:
    proxy, _ = system.cluster(1)
    proxy.call("POST", "/set", [{"key": "k", "value": "v"}])
    alone = latencies(proxy.port, 2)
    slow = SlowClients(proxy.port, SLOW_CLIENTS)
    with ExitStack() as stack, connect(proxy.port) as sock:
        stack.callback(slow.close)
        beside: list[float] = []
        until = time.monotonic() + 20
        while not slow.turn():
            assert time.monotonic() < until, f"{SLOW_CLIENTS - len(slow.ended)} slow clients are still there"
            beside += [get_once(sock) for _ in range(10)]
        beside.sort()
    last = max(when for when, _ in slow.ended)
    print(
        f"\np99 alone {percent(alone, 99):.2f} ms, beside {SLOW_CLIENTS} slow clients {percent(beside, 99):.2f} ms; "
        f"medians {percent(alone, 50):.2f} and {percent(beside, 50):.2f} ms; the last was cut after {last:.1f} s"
    )
    assert percent(beside, 99) < 2 * percent(alone, 99) + 5
    assert last < 12
    assert len(slow.ended) == SLOW_CLIENTS
    assert all(told.startswith(b"HTTP/1.1 408 ") for _, told in slow.ended)


def test_idle_connections_cost_little_memory_and_no_cpu(system: System) -> None:
    proxy, _ = system.cluster(1)
    proxy.call("POST", "/set", [{"key": "k", "value": "v"}])
    latencies(proxy.port, 0.2)
    without, before = resident(proxy), cpu(proxy)
    time.sleep(2)
    idle_alone = cpu(proxy) - before
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(proxy.port)) for _ in range(IDLE_CLIENTS)]
        for client in clients:
            get_once(client)
        assert get_once(clients[0]) < 1  # all of them are served, none refused
        wait_for("calm", lambda: settled(proxy))
        cost, before, started = resident(proxy) - without, cpu(proxy), time.monotonic()
        time.sleep(4)
        share = (cpu(proxy) - before) / (time.monotonic() - started)
        print(
            f"\n{IDLE_CLIENTS} idle connections: {cost:.1f} MB more than {without:.1f} MB, {100 * share:.2f} % of a CPU "
            f"(none: {100 * idle_alone / 2:.2f} %)"
        )
        assert cost < 100
        assert share < 0.1
        get_once(clients[-1])


def settled(program: Program) -> bool:
    """Return whether a process uses hardly any CPU for a moment."""
    before = cpu(program)
    time.sleep(0.2)
    return cpu(program) - before <= 0.02


def test_single_client_waits_for_no_timer(system: System) -> None:
    """With Nagle's algorithm, an answer in two pieces takes 40 ms."""
    proxy, _ = system.cluster(1)
    proxy.call("POST", "/set", [{"key": "k", "value": "v"}])
    found = latencies(proxy.port, 2)
    stepped = sum(1 for one in found if 0.035 < one < 0.06)
    print(
        f"\none key over one connection: median {statistics.median(found) * 1_000:.3f} ms, p99 {percent(found, 99):.3f} ms, "
        f"{len(found)} calls, {stepped} of them at about 40 ms"
    )
    assert statistics.median(found) < 0.005
    assert stepped < len(found) / 100 + 2


def test_servers_take_all_the_open_files_that_they_may(system: System) -> None:
    proxy, [node] = system.cluster(1)
    for program in (proxy, node):
        limits = Path(f"/proc/{program.process.pid}/limits").read_text()
        [row] = [line.split() for line in limits.splitlines() if line.startswith("Max open files")]
        soft, hard = row[3], row[4]
        assert soft == (hard if hard != "unlimited" and int(hard) <= 65_536 else "65536")
