"""A node's application with everything behind it, in this process, and a client that speaks WSGI to it."""

import io
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

import gevent
import pytest

from gkv import sources
from gkv.api.data import Check, DataApi
from gkv.cluster.view import View
from gkv.coordinator import Channels, Coordinator
from gkv.coordinator.channels import Speaker
from gkv.engine import ENGINES, Commits, Engine, MemoryEngine, open_engine
from gkv.model import Damage, Node, Outcome, Write
from gkv.node.app import build_app
from gkv.node.backup import Backup
from gkv.node.due_clock import DueClock
from gkv.node.health import Health
from gkv.node.order import Order
from gkv.node.scrub import Scrub
from gkv.node.service import Service
from gkv.replication.versions import Versions
from gkv.ring import tokens
from tests.documents import document as document_of

CLUSTER = "0123456789abcdef" * 2
VNODES = 64
DEADLINE = 0.2
MAX_BODY = 1 << 20
TTL = 86_400_000
"""How long tombstones are kept, in ms."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, which must be JSON and say so."""
        assert self.headers["content-type"] in ("application/json", "application/problem+json")
        return json.loads(self.body)


class Client:
    """Calls a WSGI application as a server would, with `wsgiref.validate` watching both sides."""

    def __init__(self, app, address="127.0.0.1"):
        self._app = app
        self._address = address

    def __call__(self, method, target, body=b"", headers=None, *, length=None):
        """Send one request. `length` is a Content-Length other than the body's."""
        path, _, query = target.partition("?")
        errors = io.StringIO()
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8080",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self._address,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": errors,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if body or length is not None:
            environ["CONTENT_LENGTH"] = str(len(body) if length is None else length)
        for name, value in (headers or {}).items():
            variable = name.upper().replace("-", "_")
            environ[variable if variable == "CONTENT_TYPE" else f"HTTP_{variable}"] = value
        started = []

        def start_response(status, sent, exc_info=None):
            assert exc_info is None
            started.append((status, sent))
            return lambda _: pytest.fail("nobody uses write()")

        chunks = validator(self._app)(environ, start_response)
        try:
            answer = b"".join(chunks)
        finally:
            chunks.close()
        [(status, sent)] = started
        names = [name.lower() for name, _ in sent]
        assert len(set(names)) == len(names), sent
        assert errors.getvalue() == ""
        found = Answer(int(status.split()[0]), dict(zip(names, (value for _, value in sent), strict=True)), answer)
        if path == "/v1/snapshot" and found.status == 200:
            assert "content-length" not in found.headers  # it comes in pieces, of unknown length
        elif found.status in (204, 304):
            assert "content-length" not in found.headers
            assert answer == b""
        else:
            assert found.headers["content-length"] == str(len(answer)) or method == "HEAD"
        return found


class Wall(DueClock):
    """The time of day in a node, which a test may let go on, in milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0

    def __call__(self) -> int:
        return super().now() + self.ahead

    def now(self) -> int:
        return self()


@dataclass(slots=True)
class House:
    """A node and its application: what `gkv.node.process` builds, without the sockets."""

    engine: Engine
    view: View
    commits: Commits
    versions: Versions
    order: Order
    service: Service
    channels: Channels
    coordinator: Coordinator
    wall: Wall
    app: Any
    client: Client
    draining: list[bool] = field(default_factory=list)

    def put(self, records: dict[str, bytes | None], expires: int = 0) -> None:
        """Write to the engine, past everything else; None deletes."""
        keys, values = list(records), list(records.values())
        write = Write(self.versions.next(0), keys, values, [expires] * len(keys) if expires else ())
        self.commits.submit(write).wait(float("inf"))

    def read(self, keys: Sequence[str]) -> list[bytes | Damage | None]:
        """Read from the engine, past everything else."""
        return self.engine.read(keys, self.wall())


class Nobody:
    """Stands at every address where no node listens."""

    def submit(self, call):
        call.finish(Outcome.UNREACHABLE, detail="nobody is there")


class InProcess(Channels):
    """Ways to services of this process, by URL; `services` may change at any time."""

    def __init__(self, deadline):
        super().__init__(deadline)
        self.services = {}

    def to(self, node):
        return self.services.get(node.url, Nobody())


@pytest.fixture(autouse=True)
def deadline():
    """End a test that waits for what never comes."""
    with gevent.Timeout(60):
        yield


@pytest.fixture
def wsgi():
    """Return the client for other applications: `wsgi(app, address)`."""
    return Client


@pytest.fixture
def build_node():
    """Return a function that builds a node which is not yet a member; engines are checked after the test."""
    built = []
    wall = Wall()

    def build(
        node_id="n1",
        url="http://127.0.0.1:9000",
        *,
        engine=None,
        limits=None,
        max_body=MAX_BODY,
        channels=None,
        deadline=DEADLINE,
    ):
        view = View()
        engine = MemoryEngine(tokens) if engine is None else engine
        commits = Commits(engine, tombstone_ttl=TTL, now=wall)
        order = Order(view, engine, commits, wall)
        service = Service(node_id, view, engine, commits, order)
        if channels is None:
            channels = Channels(DEADLINE, local=(url, service))
        else:
            channels.services[url] = service
        draining = []
        health = Health(engine, Scrub(engine, 0, lambda _keys: None, lambda _line: None))
        running = sources.parse("node", ["9000", "--engine", "lmdb" if engine.durable else "memory"], {})
        # A busy disk takes its time for an fsync; what is tested with one is not how long that may be.
        coordinator = Coordinator(view, channels, 20.0 if engine.durable else deadline, limits)
        data = DataApi(
            view,
            coordinator,
            max_body=max_body,
            info=lambda: {"role": "node", "id": node_id, "engine": health.describe(running, commits)},
            checks=lambda: [Check("serving", not draining), Check("member", view.placement is not None)],
        )
        backup = Backup(commits.snapshot if engine.durable else None)
        app = build_app(data, service.answer, backup.begin, 2 * max_body, Speaker(view, 0))
        built.append(
            House(engine, view, commits, Versions(), order, service, channels, coordinator, wall, app, Client(app), draining)
        )
        return built[-1]

    yield build
    for house in built:
        house.channels.close()
        house.commits.close()
        problems = house.engine.check()
        house.engine.close()
        assert problems == []


@pytest.fixture
def build_cluster(build_node):
    """Return a function that builds nodes which are members of one cluster; their `channels` are the way to each of them.

    Each is built by `build`, which is called like what `build_node` returns.
    """

    def build_all(count, build=build_node):
        members = tuple(Node(f"n{i}", f"http://127.0.0.1:{9000 + i}") for i in range(count))
        channels = InProcess(DEADLINE)
        houses = [build(node.id, node.url, channels=channels) for node in members]
        for house in houses:
            assert house.service.adopt(document_of(members, 7, VNODES))
        return houses

    return build_all


@pytest.fixture
def document():
    """Return the document of a cluster with the one member n1."""
    return document_of([Node("n1", "http://127.0.0.1:9000")], 7, VNODES)


@pytest.fixture
def node(build_node, document):
    """Return a node that is the only member of its cluster."""
    house = build_node()
    assert house.service.adopt(document)
    return house


@pytest.fixture
def call(node):
    """Return the client of the one-member cluster."""
    return node.client


@pytest.fixture
def dead_url():
    """Return a URL at which every connection is refused for as long as the test runs: bound, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture(params=ENGINES)
def house(request, build_node, document, tmp_path):
    """Return a node that is the only member of its cluster, with either engine."""
    house = build_node(engine=open_engine(request.param, tmp_path / "n1", "n1", tokens))
    assert house.service.adopt(document)
    return house
