"""A node's application with everything behind it, in this process, and a client that speaks WSGI to it."""

import io
import json
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

import pytest

from gkv.api.data import DataApi
from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator import Coordinator, Exchanges
from gkv.engine import Engine, MemoryEngine
from gkv.model import Node
from gkv.node.app import build_app
from gkv.node.service import Service

CLUSTER = "0123456789abcdef" * 2
VNODES = 64
DEADLINE = 0.2
MAX_BODY = 1 << 20


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
        assert found.headers["content-length"] == str(len(answer)) or method == "HEAD"
        return found


@dataclass(slots=True)
class House:
    """A node and its application: what `gkv.node.process` builds, without the sockets."""

    engine: Engine
    view: View
    service: Service
    app: Any
    client: Client
    draining: list[bool] = field(default_factory=list)


@pytest.fixture
def wsgi():
    """Return the client for other applications: `wsgi(app, address)`."""
    return Client


@pytest.fixture
def build_node():
    """Return a function that builds a node which is not yet a member; engines are checked after the test."""
    built = []

    def build(node_id="n1", url="http://127.0.0.1:9000", *, engine=None, limits=None, max_body=MAX_BODY):
        view = View()
        engine = MemoryEngine() if engine is None else engine
        service = Service(node_id, view, engine)
        exchanges = Exchanges(DEADLINE, local=(url, service))
        draining = []
        data = DataApi(
            view,
            Coordinator(view, exchanges, DEADLINE, limits),
            max_body=max_body,
            info=lambda: {
                "role": "node",
                "id": node_id,
                "engine": {"name": "memory", "durable": engine.durable, "keys": engine.records, "bytes": engine.size},
            },
            checks=lambda: [("serving", not draining), ("member", view.ring is not None)],
        )
        app = build_app(data, service.answer, 2 * max_body)
        house = House(engine, view, service, app, Client(app), draining)
        built.append((house, exchanges))
        return house

    yield build
    for house, exchanges in built:
        exchanges.close()
        assert house.engine.check() == []


@pytest.fixture
def document():
    """Return the document of a cluster with the one member n1."""
    return Document(CLUSTER, 7, (Node("n1", "http://127.0.0.1:9000"),), VNODES)


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
