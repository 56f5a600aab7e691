"""Clients that always have their next request ready: nobody is refused because of them, and
everybody else has a turn.
"""

import socket
import statistics
import subprocess
import sys
import time
from typing import Self

import pytest

from tests.cluster.conftest import System, call

pytestmark = pytest.mark.undisturbed

GET = b"GET /get?key=k HTTP/1.1\r\nHost: localhost\r\n\r\n"
AHEAD = 2
"""Requests that are on their way on each connection: when one has been answered, the next one is
there."""


CLIENT = """
import selectors, socket, sys
get, ahead, port, count = sys.argv[1].encode().decode("unicode_escape").encode(), *map(int, sys.argv[2:])
selector = selectors.DefaultSelector()
for _ in range(count):
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector.register(sock, selectors.EVENT_READ)
    for _ in range(ahead):
        sock.sendall(get)
good = bad = said = 0
while True:
    for key, _ in selector.select():
        data = key.fileobj.recv(65_536)
        answers, ok = data.count(b"HTTP/1.1 "), data.count(b"HTTP/1.1 200 ")
        good, bad = good + ok, bad + answers - ok
        for _ in range(answers):
            key.fileobj.sendall(get)
    if good + bad >= said + 1_000:
        said = good + bad
        print(good, bad, flush=True)
"""
"""A program whose connections send a request for each answer, as fast as answers come, and that
says how many it had."""


class Eager:
    """Such a program, while it runs."""

    def __init__(self, port: int, count: int) -> None:
        get = GET.decode().encode("unicode_escape").decode()
        command = [sys.executable, "-c", CLIENT, get, str(AHEAD), str(port), str(count)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.good = self.bad = 0

    def wait_for_more(self) -> None:
        """Return when it has had a thousand more answers."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the clients have ended"
        self.good, self.bad = map(int, line.split())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.communicate()


def median_of_get(port: int, count: int) -> float:
    """Return how long the get of a client takes that has just come, in seconds."""
    took = []
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            before = time.perf_counter()
            sock.sendall(GET)
            assert sock.recv(65_536).startswith(b"HTTP/1.1 200 ")
            took.append(time.perf_counter() - before)
    return statistics.median(took)


@pytest.mark.promise("I12")
@pytest.mark.parametrize("clients", [1, 300])
def test_clients_whose_next_request_is_always_there_are_served_and_take_no_more_than_their_turn(
    system: System, clients: int
) -> None:
    proxy = system.proxy()
    node = system.node(proxy)
    assert proxy.call("POST", "/set", [{"key": "k", "value": "v"}]).status == 200
    alone = median_of_get(node.port, 30)
    with Eager(node.port, clients) as eager:
        eager.wait_for_more()
        busy = median_of_get(node.port, 30)
        for _ in range(3):
            eager.wait_for_more()
        assert call(node.port, "GET", "/livez").status == 200
    print(f"\n{clients} clients: {alone * 1e3:.2f} ms alone, {busy * 1e3:.2f} ms beside {eager.good} answers")
    assert eager.bad == 0
    # Each of them may have a request served first, and the ones in front a few more.
    assert busy < 10 * alone + 0.005 + 0.0005 * clients
