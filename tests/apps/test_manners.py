"""Manners of HTTP that caches, browsers and careful clients count on: a node's application on a real socket."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import ssl

from gkv.api.pages import Pages
from gkv.net.server import Server, ServerLimits, listen
from gkv.net.tls import Tls
from gkv.sources import parse
from tests.apps.conftest import MAX_BODY, House
from tests.apps.connection import Answer, Client
from tests.certificates import Authority

TOKENS = {role: role[0] * 16 for role in ("reader", "client", "admin", "peer")}
GUARDED = [f"--{role}-tokens={token}" for role, token in TOKENS.items()]
APP = "https://app.example"


class Running:
    """A node's application behind a server, with the settings that flags say."""

    def __init__(self, node: House, flags: list[str], limits: dict[str, Any], tls: Tls | None = None) -> None:
        node.app.access.take(parse("proxy", flags, {}))
        pages = Pages(node.app)
        listener = listen("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        usual = {"max_body": MAX_BODY, "linger": 0.3, "tick": 0.02, "recent": 0.1}
        self.server = Server(pages, listener, pages.render, limits=ServerLimits(**(usual | limits)), tls=tls)
        self.server.start()
        self.clients: list[Client] = []

    def client(self, context: Any = None) -> Client:
        self.clients.append(Client(self.port, context))
        return self.clients[-1]

    def ask(self, first: str, *headers: str, body: str = "") -> Answer:
        """Send one request on a connection of its own; it must have one whole answer."""
        client = self.client()
        client.send(request(first, *headers, body=body))
        answer = client.read(head_only=first.startswith("HEAD "))
        assert answer is not None
        return answer


def request(first: str, *headers: str, body: str = "", host: str = "localhost") -> bytes:
    length = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([f"{first} HTTP/1.1", f"Host: {host}", *length, *headers, "", body]).encode()


@pytest.fixture
def serve(node: House) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*flags: str, tls: Tls | None = None, **limits: Any) -> Running:
        started.append(Running(node, list(flags), limits, tls))
        return started[-1]

    yield start
    for running in started:
        for client in running.clients:
            client.socket.close()
        assert running.server.drain(5)


# What caches may keep.

STORED = "Content-Type: application/json"


@pytest.mark.parametrize(
    ("first", "headers", "body", "status"),
    [
        ("GET /v1/kv/there", [], "", 200),
        ("GET /v1/kv/there", ["If-None-Match: *"], "", 304),
        ("GET /v1/kv/there", ['If-Match: "x"'], "", 412),
        ("GET /v1/kv/missing", [], "", 404),
        ("GET /v1/kv/%ff", [], "", 400),
        ("GET /v1/kv/there?r=9", [], "", 422),
        ("PUT /v1/kv/new", [STORED], "1", 201),
        ("PUT /v1/kv/there", [STORED], "1", 204),
        ("PUT /v1/kv/there", [STORED], "{", 400),
        ("PUT /v1/kv/there", ["If-None-Match: *"], "1", 412),
        ("PUT /v1/kv/there", ["Content-Encoding: gzip"], "1", 415),
        ("DELETE /v1/kv/there", [], "", 204),
        ("DELETE /v1/kv/missing", [], "", 404),
        ("POST /v1/kv/there?add=1", [], "", 200),
        ("POST /v1/kv/there?touch=1", [], "", 204),
    ],
)
def test_answer_about_a_key_may_be_kept_and_is_asked_for_again(
    first: str, headers: list[str], body: str, status: int, serve: Any
) -> None:
    running = serve()
    running.ask("PUT /v1/kv/there", STORED, body="1")
    answer = running.ask(first, *headers, body=body)
    assert (answer.status, answer.headers["cache-control"]) == (status, "no-cache")
    if first.startswith("GET "):
        head = running.ask(first.replace("GET", "HEAD"), *headers)
        assert (head.status, head.headers["cache-control"]) == (status, "no-cache")
        assert head.headers.get("content-length") == answer.headers.get("content-length")


@pytest.mark.parametrize(
    ("first", "body", "status"),
    [
        ("GET /", "", 200),
        ("GET /get?key=a", "", 200),
        ("GET /get", "", 400),
        ("POST /get", '[{"key":"a"}]', 200),
        ("POST /set", '[{"key":"a","value":1}]', 200),
        ("POST /set", "[", 400),
        ("POST /delete", '[{"key":"a"}]', 200),
        ("GET /locate?key=a", "", 200),
        ("GET /v1/kv", "", 200),
        ("GET /v1/ring", "", 200),
        ("GET /v1/info", "", 200),
        ("GET /livez", "", 200),
        ("GET /readyz", "", 200),
        ("GET /openapi.json", "", 200),
        ("GET /v1/snapshot", "", 501),
        ("GET /nowhere", "", 404),
        ("GET /v1%2Fkv", "", 404),
        ("DELETE /get", "", 405),
    ],
)
def test_nothing_else_is_kept(first: str, body: str, status: int, serve: Any) -> None:
    running = serve()
    answer = running.ask(first, body=body)
    assert (answer.status, answer.headers["cache-control"]) == (status, "no-store")
    if first.startswith("GET "):
        head = running.ask(first.replace("GET", "HEAD"))
        assert (head.status, head.headers["cache-control"]) == (status, "no-store")


# Refusals before a request is read to its end.

REFUSED = {
    "no Host": (b"%s /x HTTP/1.1\r\n\r\n", 400),
    "a header that is none": (b"%s /x HTTP/1.1\r\nHost: localhost\r\nx\r\n\r\n", 400),
    "a first line that is none": (b"%s  /x HTTP/1.1\r\n", 400),
    "another server": (b"%s /x HTTP/1.1\r\nHost: elsewhere\r\n\r\n", 421),
    "too long a target": (b"%%s /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 8_192), 414),
    "too many headers": (b"%%s /x HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (b"X: y\r\n" * 64), 431),
    "too large a body": (b"%%s /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), 413),
    "too large a chunk": (b"%s /get HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
    "another expectation": (b"%s /x HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\n\r\n", 417),
    "another version": (b"%s /x HTTP/1.2\r\nHost: localhost\r\n\r\n", 505),
    "no token, and a body": (b"%s /get HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 401),
    "no token": (b"%s /get HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 401),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_is_kept_by_nobody_and_has_no_content_for_head(name: str, serve: Any) -> None:
    data, status = REFUSED[name]
    running = serve(*(GUARDED if status == 401 else []))
    client = running.client()
    client.send(data.replace(b"%s", b"GET").replace(b"%%", b"%"))
    answer = client.read()
    assert (answer.status, answer.headers["cache-control"]) == (status, "no-store")
    assert json.loads(answer.body)["status"] == status
    client = running.client()
    client.send(data.replace(b"%s", b"HEAD").replace(b"%%", b"%"))
    head = client.read(head_only=True)
    assert (head.status, head.headers["cache-control"], head.headers["connection"]) == (status, "no-store", "close")
    # But for the request's id, which is as long, or a digit longer.
    assert abs(int(head.headers["content-length"]) - len(answer.body)) <= 1
    assert client.read() is None, "there is content"


def test_421_says_how_a_name_is_added(serve: Any) -> None:
    client = serve().client()
    client.send(request("GET /", host="elsewhere"))
    assert "--names" in json.loads(client.read().body)["detail"]


def test_head_beyond_the_connections_has_no_content(serve: Any) -> None:
    running = serve(connections=1, spare=1)
    others = [running.client() for _ in range(2)]
    while len(running.server.connections) < len(others):
        gevent.sleep(0.005)
    client = running.client()
    client.send(request("HEAD /get?key=a"))
    head = client.read(head_only=True)
    assert (head.status, int(head.headers["content-length"]) > 100) == (503, True)
    assert client.read() is None


def test_head_that_nobody_has_room_for_has_no_content(serve: Any) -> None:
    running = serve()
    running.server.admission.clients.limit = 0
    client = running.client()
    client.send(request("HEAD /get?key=a") + request("GET /livez"))
    assert client.read(head_only=True).status == 503
    assert client.good().body == b"ok\n"


# Bodies.


def test_coded_body_is_refused_by_every_call_and_changes_nothing(node: House, serve: Any) -> None:
    running = serve()
    calls = {(method, path) for method, path, _ in node.app.declared() if method in ("PUT", "POST", "PATCH")}
    assert len(calls) > 8
    calls |= {("GET", "/get"), ("DELETE", "/v1/kv/")}
    for method, path in sorted(calls):
        for coding in ("gzip", "identity, br", "x"):
            target = path + "a" if path.endswith("/") else path
            answer = running.ask(f"{method} {target}", f"Content-Encoding: {coding}", body='[{"key":"a","value":1}]')
            assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity"), (method, path)
    assert node.read(["a"]) == [None]


@pytest.mark.parametrize("coding", ["identity", "Identity", "", "identity,", "identity, identity"])
def test_body_that_is_not_coded_is_taken(coding: str, serve: Any) -> None:
    running = serve()
    assert running.ask("POST /set", f"Content-Encoding: {coding}", body='[{"key":"a","value":1}]').status == 200
    assert running.ask("PUT /v1/kv/a", f"Content-Encoding: {coding}", body="x").status == 204


def test_coding_of_no_body_is_nothing(serve: Any) -> None:
    assert serve().ask("GET /get?key=a", "Content-Encoding: gzip").status == 200


def test_who_is_not_let_in_learns_nothing_of_codings(serve: Any) -> None:
    assert serve(*GUARDED).ask("POST /set", "Content-Encoding: gzip", body="[]").status == 401


def test_form_of_curl_with_one_json_text_is_json(serve: Any) -> None:
    running = serve()
    running.ask("PUT /v1/kv/k", "Content-Type: application/x-www-form-urlencoded", body='{"a":1}')
    answer = running.ask("GET /v1/kv/k")
    assert (answer.body, answer.headers["content-type"]) == (b'{"a":1}', "application/json")
    assert running.ask("GET /get", STORED, body='[{"key":"k"}]').body == b'{"existedKey":[{"key":"k","value":{"a":1}}]}'


# Heads.


def test_empty_line_before_a_request_is_skipped_and_the_connection_stays_idle_behind_it(serve: Any) -> None:
    client = serve(head=0.1, idle=5.0).client()
    client.send(request("GET /livez") + b"\r\n" + request("GET /livez"))
    assert [client.good().body, client.good().body] == [b"ok\n"] * 2
    client.send(b"\r\n")
    gevent.sleep(0.3)  # longer than a head may take
    client.send(request("GET /livez"))
    assert client.good().body == b"ok\n"
    client.send(b"\r\n\r\n")
    assert client.read().status == 400


@pytest.mark.parametrize("expect", [["Expect:"], ["Expect: 100-continue", "Expect: 100-continue"], ["Expect: ,100-continue,"]])
def test_expectation_may_be_empty_or_repeated(expect: list[str], serve: Any) -> None:
    client = serve().client()
    client.send(request("POST /get", "Content-Length: 2", *expect))
    if len(expect[0]) > len("Expect:"):
        assert client.read().status == 100
    client.send(b"[]")
    assert client.good().body == b'{"existedKey":[]}'


def test_target_may_name_the_server_as_it_is_called_anywhere(serve: Any) -> None:
    running = serve()
    for authority in ("localhost", "LOCALHOST:80", f"127.0.0.1:{running.port}"):
        assert running.ask(f"GET http://{authority}/livez").body == b"ok\n"
    for authority in ("elsewhere", "localhost@elsewhere", "x@localhost", "localhost:x"):
        assert running.ask(f"GET http://{authority}/livez").status == 400


def test_connection_stays_as_long_as_keep_alive_says(serve: Any) -> None:
    client = serve(idle=1.2).client()
    client.send(request("GET /livez") + request("HEAD /livez") + request("GET /nowhere"))
    answers = [client.read(), client.read(head_only=True), client.read()]
    since = monotonic()
    assert {(one.headers["keep-alive"], one.headers["connection"]) for one in answers} == {("timeout=1", "keep-alive")}
    assert client.read() is None
    assert monotonic() - since >= 1
    assert "keep-alive" not in serve().ask("GET /livez", "Connection: close").headers


@pytest.mark.parametrize(
    "ciphers", ["ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:AES128-SHA", "AES128-GCM-SHA256", "TLS13", "TLS12"]
)
def test_tls_has_no_cbc_and_always_forward_secrecy(ciphers: str, serve: Any, tmp_path: Path) -> None:
    files = Authority(tmp_path).member
    running = serve(tls=Tls(parse("proxy", files.flags, {})))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files.ca)
    if ciphers == "TLS13":
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    else:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if ciphers != "TLS12":
            context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
            with pytest.raises(ssl.SSLError, match="handshake failure"):
                running.client(context)
            return
    client = running.client(context)
    assert re.search("GCM|POLY1305", client.socket.cipher()[0])
    client.send(request("GET /livez"))
    assert client.good().body == b"ok\n"


# Web pages of other origins.

PREFLIGHT = ["Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: authorization,if-match"]
SET = '[{"key":"a","value":1}]'


def of_cors(answer: Answer) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


def test_without_origins_no_answer_speaks_of_them(serve: Any) -> None:
    running = serve()
    for answer in (
        running.ask("GET /get?key=a", f"Origin: {APP}"),
        running.ask("OPTIONS /set", f"Origin: {APP}", *PREFLIGHT),
        running.ask("POST /set", f"Origin: {APP}", body=SET),
    ):
        assert of_cors(answer) == set()
        assert "vary" not in answer.headers
    assert answer.status == 403


@pytest.mark.parametrize("origins", [f"{APP},http://localhost:3000", "*"])
def test_page_that_may_call_reads_and_writes_and_reads_refusals(origins: str, serve: Any) -> None:
    running = serve(f"--cors-origins={origins}")
    allowed = "*" if origins == "*" else APP
    for first, body, status in (
        ("OPTIONS /v1/kv/a", "", 204),
        ("PUT /v1/kv/a", "1", 201),
        ("GET /v1/kv/a", "", 200),
        ("HEAD /v1/kv/a", "", 200),
        ("POST /set", SET, 200),
        ("POST /set", "[", 400),
        ("GET /nowhere", "", 404),
        ("HEAD /nowhere", "", 404),
        ("PATCH /get", "", 405),
    ):
        asked = PREFLIGHT if first.startswith("OPTIONS") else []
        answer = running.ask(first, f"Origin: {APP}", "Sec-Fetch-Site: cross-site", *asked, body=body)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, allowed), first
        assert answer.headers.get("vary") == (None if origins == "*" else "Origin")
        assert {"ETag", "X-Request-Id", "Retry-After"} <= set(answer.headers["access-control-expose-headers"].split(", "))
        assert "access-control-allow-credentials" not in answer.headers
        if asked:
            assert {"PUT", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
            sent = answer.headers["access-control-allow-headers"].lower().split(", ")
            assert {"authorization", "if-match", "content-type"} <= set(sent)
            assert answer.body == b""


@pytest.mark.parametrize("origin", ["https://app.example.evil", "http://app.example", "https://app.example:444", "null", ""])
def test_page_of_another_origin_is_told_nothing_and_changes_nothing(origin: str, node: House, serve: Any) -> None:
    running = serve(f"--cors-origins={APP}")
    for first, body, status in (("OPTIONS /set", "", 405), ("POST /set", SET, 403), ("GET /get?key=a", "", 200)):
        answer = running.ask(first, f"Origin: {origin}", *PREFLIGHT, body=body)
        assert (answer.status, of_cors(answer), answer.headers["vary"]) == (status, set(), "Origin")
    assert running.ask("GET /get?key=a").headers["vary"] == "Origin"  # a cache must not give that to the page that may
    assert node.read(["a"]) == [None]


def test_page_that_may_call_shows_a_token_where_others_do(serve: Any) -> None:
    running = serve(*GUARDED, f"--cors-origins={APP}")
    assert running.ask("OPTIONS /set", f"Origin: {APP}", *PREFLIGHT).status == 204
    assert running.ask("OPTIONS /set", f"Origin: {APP}").status == 401
    answer = running.ask("POST /set", f"Origin: {APP}", body=SET)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (401, APP)
    large = running.ask("POST /set", f"Origin: {APP}", body="x" * 70_000)
    assert (large.status, large.headers["access-control-allow-origin"]) == (401, APP)
    assert running.ask("POST /set", f"Origin: {APP}", f"Authorization: Bearer {TOKENS['client']}", body=SET).status == 200


@pytest.mark.parametrize(
    ("origins", "guarded", "status"),
    [(APP, True, 501), (APP, False, 403), ("*", True, 403), ("*", False, 403), ("", True, 403)],
)
def test_call_for_an_admin_needs_an_origin_that_is_named_and_a_token(
    origins: str, guarded: bool, status: int, serve: Any
) -> None:
    running = serve(*(GUARDED if guarded else []), f"--cors-origins={origins}")
    shown = [f"Authorization: Bearer {TOKENS['admin']}"] if guarded else []
    assert running.ask("GET /v1/snapshot", f"Origin: {APP}", *shown).status == status  # 501: memory has none


def test_refusal_for_want_of_room_can_be_read_by_a_page(serve: Any) -> None:
    running = serve(f"--cors-origins={APP}")
    running.server.admission.clients.limit = 0
    answer = running.ask("GET /get?key=a", f"Origin: {APP}")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (503, APP)


# The root.


class Page(HTMLParser):
    """Collects what a page links to and loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "action"):
                (self.links if tag == "a" else self.loads).append(str(value))


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


def test_root_links_to_what_is_there(serve: Any) -> None:
    running = serve(*GUARDED)
    shown = f"Authorization: Bearer {TOKENS['reader']}"
    assert running.ask("GET /").status == 401  # who may not call anything is told of nothing
    answer = running.ask("GET /", "Accept: */*", shown)
    assert (answer.status, answer.headers["content-type"], answer.headers["vary"]) == (200, "application/json", "Accept")
    found = json.loads(answer.body)
    assert (found["name"], found["role"]) == ("gkv", "node")
    for path in found["links"].values():
        assert running.ask(f"GET {path}", shown).status == 200, path
    assert running.ask("GET /?x", shown).status == 400


def test_root_is_a_page_for_a_browser_that_loads_nothing(serve: Any) -> None:
    running = serve()
    answer = running.ask("GET /", f"Accept: {BROWSER}")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = Page(answer.body.decode())
    assert page.links == list(json.loads(running.ask("GET /").body)["links"].values())
    assert page.loads == []
    policy = answer.headers["content-security-policy"]
    style = answer.body.split(b"<style>")[1].split(b"</style>")[0]
    assert policy.startswith("default-src 'none';")
    assert policy.endswith(f"style-src 'sha256-{b64encode(sha256(style).digest()).decode()}'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    head = running.ask("HEAD /", f"Accept: {BROWSER}")
    assert (head.status, head.headers["content-length"]) == (200, str(len(answer.body)))
