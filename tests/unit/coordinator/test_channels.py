"""The channels of a process, by URL: which are forgotten when there are too many, and which
never.
"""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from gkv.cluster.view import View
from gkv.coordinator import channels
from gkv.coordinator.channels import Channels
from gkv.model import Node, NodeReply, Outcome
from gkv.net.call import ask_all
from tests.documents import document

MOST = 8


def node(port: int) -> Node:
    return Node(f"n{port}", f"http://127.0.0.1:{port}")


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[Channels]:
    """Give the channels of a process that keeps a few, in a cluster of two members that nobody has
    asked yet.
    """
    monkeypatch.setattr(channels, "MAX_CHANNELS", MOST)
    view = View()
    view.adopt(document([node(1), node(2)], 1))
    ways = Channels(1.0, view=view)
    yield ways
    ways.close()


class Slow:
    """A node that answers when it may."""

    def __init__(self) -> None:
        self.asked, self.go_on = Event(), Event()
        self.ended = Event()
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.node = node(self._server.server_port)

    def _serve(self, connection: Any, _address: Any) -> None:
        while connection.recv(65_536):
            self.asked.set()
            self.go_on.wait(10)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\ngkv/2 0000000000000000 7 2\nok")
        self.ended.set()

    def stop(self) -> None:
        self._server.stop(timeout=0)


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.stop()


def ask(ways: Channels, one: Node) -> NodeReply:
    [reply] = ask_all([(ways.to(one), b"frame")], monotonic() + 10)
    return reply


def test_channel_in_use_survives_any_number_of_others(ways: Channels, slow: Slow) -> None:
    asking = gevent.spawn(ask, ways, slow.node)
    assert slow.asked.wait(5)
    for port in range(1_000, 1_000 + 5 * MOST):
        ways.to(node(port))
    assert slow.node.url in ways.figures()
    slow.go_on.set()
    assert asking.get(timeout=5).frame == b"ok"


def test_channels_to_members_are_kept_and_the_longest_unused_of_the_others_are_not(ways: Channels) -> None:
    members = [ways.to(node(1)), ways.to(node(2))]
    for port in range(100, 100 + MOST):
        ways.to(node(port))
    assert list(ways.figures()) == [node(port).url for port in (1, 2, *range(102, 100 + MOST))]
    ask(ways, node(102))  # nobody is there; but it was used
    ways.to(node(200))
    assert list(ways.figures()) == [node(port).url for port in (1, 2, 102, *range(104, 100 + MOST), 200)]
    assert [ways.to(node(1)), ways.to(node(2))] == members


def test_forgotten_channel_gives_its_connection_back(ways: Channels, slow: Slow) -> None:
    slow.go_on.set()
    assert ask(ways, slow.node).frame == b"ok"
    for port in range(1_000, 1_000 + 5 * MOST):
        ways.to(node(port))
    assert slow.node.url not in ways.figures()
    assert slow.ended.wait(5)


def test_channel_that_was_given_out_and_forgotten_before_its_first_call_works(ways: Channels, slow: Slow) -> None:
    slow.go_on.set()
    assert ask(ways, slow.node).frame == b"ok"
    given = ways.to(slow.node)
    for port in range(1_000, 1_000 + 5 * MOST):
        ways.to(node(port))
    for _ in range(2):
        [reply] = ask_all([(given, b"frame")], monotonic() + 10)
        assert (reply.outcome, reply.frame) == (Outcome.ANSWERED, b"ok")


def test_with_all_channels_in_use_there_may_be_more(ways: Channels) -> None:
    silent = []
    for _ in range(MOST):
        listener = socket.create_server(("127.0.0.1", 0))
        silent.append(listener)
    asking = [gevent.spawn(ask, ways, node(listener.getsockname()[1])) for listener in silent]
    gevent.idle()
    for port in (1_000, 1_001):
        ways.to(node(port))
    assert len(ways.figures()) == MOST + 1  # those in use, and the newest
    gevent.killall(asking)
    for listener in silent:
        listener.close()
