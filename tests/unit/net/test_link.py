"""A link whose client has stopped reading: to give way depends on the others alone."""

import socket as blocking_socket
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket

from gkv.api.http import render_unread
from gkv.net.admission import Budget, Gate
from gkv.net.link import Link
from gkv.net.server import Server, listen

REQUESTS = 8
"""Requests that are one turn of a connection."""


@pytest.fixture
def server() -> Iterator[Server]:
    with listen("127.0.0.1", 0) as listener:
        server = Server(lambda _environ, _start: [], listener, render_unread)
        server.turn = server.loop.iteration
        server.turn_began = server.now
        yield server


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.fixture
def held() -> int:
    """Return how many bytes a socket takes whose other end does not read."""
    near, far = blocking_socket.socketpair()
    with near, far:
        near.setblocking(False)
        return near.send(bytes(1 << 24))


def end_turns(link: Link, server: Server, count: int) -> None:
    """Answer requests for which nobody has to wait."""
    for _ in range(count):
        link.end_turn(server.turn_began)


def test_answer_that_the_kernel_has_taken_whole_is_sent_though_nobody_reads_it(
    server: Server, pair: tuple[socket.socket, socket.socket], held: int
) -> None:
    near, far = pair
    link, gate = Link(near, server), Gate(1, Budget())
    end_turns(link, server, REQUESTS - 1)
    answer = bytes(held * 3 // 4)
    with gevent.Timeout(5):
        link.send(b"x", gate, [answer])
    assert gate.budget.used == 0
    left = 1 + len(answer)
    while left:
        left -= len(far.recv(left))


def test_client_that_does_not_read_ends_its_turn_while_its_next_request_is_here(
    server: Server, pair: tuple[socket.socket, socket.socket], held: int
) -> None:
    near, _far = pair
    near.send(bytes(held * 3 // 4))
    link = Link(near, server)
    link.buffer += b"GET"
    passed = server.loop.iteration
    with gevent.Timeout(5):
        end_turns(link, server, REQUESTS)
    assert server.loop.iteration > passed  # the others have had their turn
