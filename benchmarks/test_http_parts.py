"""The parts of a request in one process, without a socket: reading the head, dispatching, the outbox, a whole get.

What a request costs in all, with the kernel's share, is measured by benchmarks/http.
"""

from io import BytesIO
from time import monotonic
from typing import Any

import pytest

from gkv.api.access import Role
from gkv.api.data import DataApi
from gkv.api.http import Response, Routes
from gkv.api.operation import Unlisted
from gkv.cluster.document import Document, Member
from gkv.cluster.view import View
from gkv.coordinator import Channels, Coordinator
from gkv.engine import Commits, MemoryEngine
from gkv.model import Node, Version, Write
from gkv.net.call import ask_all
from gkv.net.http1 import HostNames, parse_head
from gkv.node.due_clock import DueClock, wall_ms
from gkv.node.order import Order
from gkv.node.service import Service
from gkv.ring import tokens

HEAD = b"POST /get HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\nContent-Length: 22"
NODES = tuple(Node(f"127.0.0.1:{port}", f"http://127.0.0.1:{port}") for port in (9000, 9001))

TTL = 86_400_000


@pytest.fixture
def services() -> dict[str, Service]:
    """Give two nodes that are members, with 10,000 keys of 100 bytes each."""
    document = Document("c" * 32, 5, tuple(Member(node.id, node.url) for node in NODES))
    services = {}
    for node in NODES:
        view, engine = View(), MemoryEngine(tokens)
        view.adopt(document)
        keys = [f"key:{i:08}" for i in range(10_000)]
        engine.write([Write(Version(1, 1), keys, [b'"%b"' % (b"x" * 98)] * len(keys))], wall_ms())
        commits = Commits(engine, tombstone_ttl=TTL)
        services[node.url] = Service(node.id, view, engine, commits, Order(view, engine, commits, DueClock()))
    return services


class Direct(Channels):
    """Channels that hand each call to its node in this process."""

    def __init__(self, services: dict[str, Service]) -> None:
        super().__init__(2.0)
        self._services = services

    def to(self, node: Node) -> Service:
        return self._services[node.url]


def environ(body: bytes) -> dict[str, Any]:
    """Return a WSGI environment as the server makes it."""
    made = parse_head(HEAD, {}, 1 << 20, HostNames(["127.0.0.1"], 8080)).environ
    return made | {"CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body)}


def test_head(benchmark: Any) -> None:
    is_ours = HostNames(["127.0.0.1"], 8080)
    base = {f"wsgi.variable{i}": "" for i in range(13)}
    assert benchmark(parse_head, HEAD, base, 1 << 20, is_ours).length == 22


def test_dispatch(benchmark: Any) -> None:
    routes = Routes()
    routes.add("POST", "/get", lambda _request: Response(b"{}"), doc=Unlisted("a benchmark's"), role=Role.OPEN)
    made = environ(b"[]")
    assert list(benchmark(routes, made, lambda _status, _headers, _exc_info=None: None)) == [b"{}"]


@pytest.mark.parametrize("nodes", [1, 2])
def test_outbox_that_is_answered_at_once(benchmark: Any, services: dict[str, Service], nodes: int) -> None:
    asked = [(service, b'{"op":"status"}\n') for service in list(services.values())[:nodes]]
    assert len(benchmark(lambda: ask_all(asked, monotonic() + 1))) == nodes


@pytest.mark.parametrize("keys", [1, 10, 100])
@pytest.mark.parametrize("op", ["get", "set"])
def test_request_through_proxy_and_nodes(benchmark: Any, services: dict[str, Service], op: str, keys: int) -> None:
    view = View()
    view.adopt(Document("c" * 32, 5, tuple(Member(node.id, node.url) for node in NODES)))
    coordinator = Coordinator(view, Direct(services), 2.0)
    data = DataApi(view, coordinator, max_body=1 << 20, info=dict, checks=list)
    routes = Routes()
    data.mount(routes)
    value = ',"value":"' + "x" * 98 + '"' if op == "set" else ""
    body = ("[" + ",".join(f'{{"key":"key:{i:08}"{value}}}' for i in range(keys)) + "]").encode()
    made = environ(body) | {"PATH_INFO": f"/{op}"}

    def request() -> bytes:
        made["wsgi.input"].seek(0)
        [answer] = routes(made, lambda _status, _headers, _exc_info=None: None)
        return answer

    expected = b"existedKey" if op == "get" else b"Success to set key"
    assert expected in benchmark(request)
