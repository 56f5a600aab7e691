"""Who is let in, through real sockets: tokens, pages of other sites, members that prove themselves, and what members may say.

One proxy and one node with tokens for all four roles serve most of it. Each request has another one right behind it on the same
connection, which must be answered as well: a refusal costs nobody the connection, unless a large body is on its way.
"""

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from gkv.cluster.document import Document
from gkv.model import NodeRefusal, Op, era_of
from gkv.wire.ops import Effects, Here, Refused, Set, read_answer, read_request
from tests.cluster.conftest import DEADLINE, Answer, Program, System, Worker, free_ports, wait_for

TOKENS = {role: f"{role}-{role}-0123456789" for role in ("reader", "client", "admin", "peer")}
SECOND = {role: f"{role}-{role}-9876543210" for role in TOKENS}
SECRETS = {f"GKV_{role.upper()}_TOKENS": f"{token},{SECOND[role]}" for role, token in TOKENS.items()}
FRAMES = "/internal/frames"
JOIN = "/v1/cluster/nodes"
STATUS = b'{"op":"status"}\n'
CANARY = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Raw:
    """One connection on which bytes are sent, and answers read."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE, source_address=(source, 0))
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self, *, head_only: bool = False) -> Answer | None:
        """Return the next answer, None at the end of the connection."""
        line = self._stream.readline()
        if not line:
            return None
        headers: dict[str, str] = {}
        while header := self._stream.readline().strip().decode("latin-1"):
            name, _, value = header.partition(": ")
            assert name not in headers
            headers[name] = value
        return Answer(int(line.split()[1]), headers, b"" if head_only else self._body(headers))

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("Transfer-Encoding") != "chunked":
            return self._stream.read(int(headers.get("Content-Length", 0)))
        body = b""
        while size := int(self._stream.readline(), 16):
            body += self._stream.read(size)
            self._stream.readline()
        self._stream.readline()
        return body


def bearer(token: str) -> bytes:
    return b"Authorization: Bearer " + token.encode("latin-1")


def request(method: str, target: str, *headers: bytes, body: bytes = b"") -> bytes:
    length = [b"Content-Length: %d" % len(body)] if body else []
    first = f"{method} {target} HTTP/1.1".encode("latin-1")
    return b"\r\n".join([first, b"Host: localhost", *length, *headers, b"", body])


def ask(port: int, method: str, target: str, *headers: bytes, body: bytes = b"", source: str = "127.0.0.1") -> Answer:
    """Send a request with another one behind it; return the answer, when the other is answered too."""
    with Raw(port, source) as connection:
        connection.send(request(method, target, *headers, body=body) + CANARY)
        answer = connection.answer(head_only=method == "HEAD")
        canary = connection.answer()
        assert answer is not None
        assert canary is not None
        assert (canary.status, canary.body) == (200, b"ok\n")
        return answer


def refused(answer: Answer, status: int, code: str) -> str:
    """Check that an answer is a problem that gives nothing away; return its detail."""
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json
    assert problem["type"] == f"urn:gkv:problem:{code}"
    assert problem["instance"] == answer.headers["X-Request-Id"]
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    said = f"{answer.headers} {answer.body!r}"
    assert not any(token in said for token in (*TOKENS.values(), *SECOND.values()))
    assert "Traceback" not in said
    assert ".py" not in said
    return str(problem["detail"])


@dataclass
class Guarded:
    """A running system with tokens."""

    system: System
    proxy: Program
    node: Program

    def ports(self) -> list[int]:
        return [self.proxy.port, self.node.port]

    def stored(self) -> bytes:
        return ask(self.proxy.port, "GET", "/get?key=kept&key=a", bearer(TOKENS["reader"])).body


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Give one running system for all of these: nothing here may harm it."""
    system = System(tmp_path_factory.mktemp("system"))
    proxy = system.proxy(**SECRETS)
    node = system.node(proxy, **SECRETS)
    body = b'[{"key":"kept","value":1}]'
    assert ask(proxy.port, "POST", "/set", bearer(TOKENS["client"]), body=body).status == 200
    yield Guarded(system, proxy, node)
    system.end()
    for started in system.programs:
        said = started.stderr + started.stdout
        assert not any(token in said for token in (*TOKENS.values(), *SECOND.values()))


# -- tokens

GOOD = TOKENS["client"]
WRONG_PROOFS: dict[str, list[bytes]] = {
    "none": [],
    "empty": [b"Authorization:"],
    "no scheme": [b"Authorization: " + GOOD.encode()],
    "Basic": [b"Authorization: Basic " + GOOD.encode()],
    "no token": [b"Authorization: Bearer"],
    "blanks for a token": [b"Authorization: Bearer    "],
    "doubled header": [bearer(GOOD), bearer(GOOD)],
    "doubled header, one wrong": [bearer("nonsense-nonsense"), bearer(GOOD)],
    "two tokens": [bearer(f"{GOOD} {GOOD}")],
    "two tokens with a comma": [bearer(f"{GOOD},{SECOND['client']}")],
    "wrong": [bearer("nonsense-nonsense")],
    "one letter more": [bearer(GOOD + "0")],
    "one letter less": [bearer(GOOD[:-1])],
    "in capitals": [bearer(GOOD.upper())],
    "non-ASCII": [bearer("\xe9" * 20)],
    "non-ASCII behind it": [bearer(GOOD + "\xe9")],
    "UTF-8": [b"Authorization: Bearer " + "\N{SNOWMAN}".encode() * 8],
    "long": [bearer("x" * 8_000)],
    "in another header": [b"Proxy-Authorization: Bearer " + GOOD.encode(), b"X-Authorization: Bearer " + GOOD.encode()],
    "with an underscore": [b"Content_Type: x/y", b"HTTP_AUTHORIZATION: Bearer " + GOOD.encode()],
}


@pytest.mark.parametrize("proof", WRONG_PROOFS.values(), ids=WRONG_PROOFS.keys())
def test_no_wrong_or_doubled_token_is_answered_401_and_changes_nothing(guarded: Guarded, proof: list[bytes]) -> None:
    before = guarded.stored()
    for port in guarded.ports():
        for method, target in (("POST", "/set"), ("PUT", "/v1/kv/a"), ("GET", "/get?key=kept"), ("GET", "/v1/nowhere")):
            body = b'[{"key":"a","value":1}]' if method != "GET" else b""
            answer = ask(port, method, target, *proof, body=body)
            refused(answer, 401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] in ("Bearer", 'Bearer error="invalid_token"')
    assert guarded.stored() == before


def test_challenge_names_an_error_only_where_a_token_was_sent(guarded: Guarded) -> None:
    given = {name: ask(guarded.proxy.port, "GET", "/get?key=a", *proof) for name, proof in WRONG_PROOFS.items()}
    challenges = {name: answer.headers["WWW-Authenticate"] for name, answer in given.items()}
    assert challenges["none"] == challenges["Basic"] == "Bearer"
    assert challenges["wrong"] == challenges["doubled header"] == challenges["non-ASCII"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("name", ["access_token", "token", "authorization"])
def test_token_in_the_query_counts_for_nothing(guarded: Guarded, name: str) -> None:
    refused(ask(guarded.proxy.port, "GET", f"/get?key=kept&{name}={GOOD}"), 401, "unauthorized")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("token", [TOKENS["reader"], SECOND["reader"]])
def test_both_tokens_of_a_role_are_taken(guarded: Guarded, token: str, scheme: str) -> None:
    for port in guarded.ports():
        assert ask(port, "GET", "/get?key=kept", f"Authorization: {scheme} {token}".encode()).status == 200


DATA = [
    ("GET", "/get?key=kept"), ("POST", "/get"), ("GET", "/locate?key=a"), ("POST", "/locate"), ("GET", "/v1/kv/kept"),
    ("HEAD", "/v1/kv/kept"), ("GET", "/v1/kv"), ("GET", "/v1/ring"), ("GET", "/v1/info"), ("HEAD", "/v1/info"),
    ("GET", "/metrics"),
]  # fmt: skip
WRITES = [("POST", "/set"), ("PUT", "/set"), ("POST", "/delete"), ("PUT", "/v1/kv/gone"), ("DELETE", "/v1/kv/gone")]
BOTH = {"reader": DATA, "client": WRITES}
CHANGES = [
    ("DELETE", "/v1/cluster/nodes/x"), ("PATCH", "/v1/cluster/nodes/x"), ("PATCH", "/v1/cluster"),
    ("DELETE", "/v1/cluster/change"),
]  # fmt: skip
PROXY = {
    "reader": [("GET", "/v1/cluster"), *((method, f"{target}?dryRun=1") for method, target in CHANGES)],
    "peer": [("POST", JOIN)],
    "admin": [*CHANGES, *((method, f"{target}?dryRun=0") for method, target in CHANGES)],
}
NODE = {"admin": [("GET", "/v1/snapshot")], "peer": [("POST", FRAMES)]}
GRANTS = {"reader": {"reader"}, "client": {"reader", "client"}, "admin": {"reader", "client", "admin"}, "peer": {"peer"}}


@pytest.mark.parametrize("role", TOKENS)
def test_role_may_do_what_it_is_for_and_nothing_else(guarded: Guarded, role: str) -> None:
    for port, own in ((guarded.proxy.port, PROXY), (guarded.node.port, NODE)):
        for needs, calls in [*BOTH.items(), *own.items()]:
            for method, target in calls:
                body = b"" if method in ("GET", "HEAD") else b"[]"
                answer = ask(port, method, target, bearer(TOKENS[role]), body=body)
                if needs in GRANTS[role]:
                    assert answer.status not in (401, 403), (method, target)
                elif method == "HEAD":
                    assert answer.status == 403
                else:
                    assert role in refused(answer, 403, "forbidden"), (method, target)


def test_health_is_open_and_nothing_else_is(guarded: Guarded) -> None:
    for port in guarded.ports():
        for method, target, status in (
            ("GET", "/livez", 200), ("HEAD", "/livez", 200), ("GET", "/readyz?verbose", 200), ("POST", "/livez", 405),
            ("GET", "/", 401), ("GET", "/v1/nowhere", 401), ("DELETE", "/get", 401), ("TRACE", "/get", 401),
            ("OPTIONS", "*", 401), ("HEAD", "/v1/kv/kept", 401), ("GET", "/livez/", 401), ("GET", "//livez", 401),
            ("GET", "/%6c%69vez", 401), ("GET", "/v1/kv/%ff", 401), ("GET", "/%ff", 401), ("GET", "/internal/frames", 401),
            ("GET", "/v1/snapshot", 401), ("HEAD", "/v1/snapshot", 401), ("GET", "/metrics", 401),
        ):  # fmt: skip
            assert ask(port, method, target).status == status, (method, target)


def test_paths_that_are_nothing_are_404_and_wrong_methods_405_with_any_token(guarded: Guarded) -> None:
    for token in TOKENS.values():
        refused(ask(guarded.proxy.port, "GET", "/v1/nowhere", bearer(token)), 404, "not-found")
        refused(ask(guarded.proxy.port, "POST", FRAMES, bearer(token), body=STATUS), 404, "not-found")
        answer = ask(guarded.proxy.port, "DELETE", "/get", bearer(token))
        refused(answer, 405, "method-not-allowed")
        assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize(
    "head", [b"Content-Length: 30000000", b"Transfer-Encoding: chunked", b"Expect: 100-continue\r\nContent-Length: 70000"]
)
def test_large_body_without_a_token_is_refused_before_it_comes(guarded: Guarded, head: bytes) -> None:
    for port in guarded.ports():
        with Raw(port) as connection:
            connection.send(request("POST", "/set", head))
            answer = connection.answer()
            assert answer is not None
            refused(answer, 401, "unauthorized")
            assert answer.headers["Connection"] == "close"
            assert connection.answer() is None


def test_repeated_head_is_refused_and_counted_each_time(guarded: Guarded) -> None:
    def count() -> float:
        text = ask(guarded.proxy.port, "GET", "/metrics", bearer(TOKENS["reader"])).body.decode()
        found = re.search(r'^gkv_access_refused_total\{reason="unknown"\} (\S+)$', text, re.MULTILINE)
        assert found
        return float(found[1])

    before = count()
    with Raw(guarded.proxy.port) as connection:
        for _ in range(20):
            connection.send(request("POST", "/get", bearer("nonsense-nonsense"), body=b"[]"))
            answer = connection.answer()
            assert answer is not None
            assert answer.status == 401
        connection.send(request("POST", "/get", bearer(GOOD), body=b"[]"))
        answer = connection.answer()
        assert answer is not None
        assert answer.status == 200
    assert count() - before == 20
    assert guarded.proxy.stderr.count("refused a request from 127.0.0.1") < 20 + count() - before


# -- pages of other sites

FOREIGN: list[list[bytes]] = [
    [b"Sec-Fetch-Site: cross-site"],
    [b"Sec-Fetch-Site: same-site"],
    [b"Sec-Fetch-Site: none", b"Sec-Fetch-Site: cross-site"],
    [b"Origin: http://evil.example"],
    [b"Origin: null"],
    [b"Origin: http://localhost:1", b"Sec-Fetch-Site: same-origin"],
]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: b" ".join(headers).decode())
@pytest.mark.parametrize(("method", "target", "role"), [
    *((method, target, "client") for method, target in WRITES), ("GET", "/v1/snapshot", "admin"), ("POST", JOIN, "peer"),
    *((method, target, "admin") for method, target in CHANGES),
    ("POST", FRAMES, "peer"),
])  # fmt: skip
def test_call_from_a_page_of_another_site_is_answered_403_and_changes_nothing(
    guarded: Guarded, headers: list[bytes], method: str, target: str, role: str
) -> None:
    before = guarded.stored()
    port = guarded.node.port if target in (FRAMES, "/v1/snapshot") else guarded.proxy.port
    body = b"" if method == "GET" else b'[{"key":"a","value":1}]'
    refused(ask(port, method, target, bearer(TOKENS[role]), *headers, body=body), 403, "cross-site")
    assert guarded.stored() == before


@pytest.mark.parametrize("headers", [
    [b"Content-Type: application/x-www-form-urlencoded"], [b"Content-Type: text/plain"], [b"Sec-Fetch-Site: same-origin"],
    [b"Sec-Fetch-Site: none"], [b"Origin: http://localhost"],
], ids=lambda headers: headers[0].decode())  # fmt: skip
def test_own_calls_need_no_header_at_all(guarded: Guarded, headers: list[bytes]) -> None:
    answer = ask(guarded.proxy.port, "POST", "/delete", bearer(GOOD), *headers, body=b'[{"key":"a"}]')
    assert (answer.status, answer.body) == (200, b'{"deleted":0}')


def test_other_sites_are_kept_out_without_tokens_too(system: System) -> None:
    proxy, [node] = system.cluster(1)
    for headers in FOREIGN:
        body = b'[{"key":"a","value":1}]'
        refused(ask(proxy.port, "POST", "/set", b"Content-Type: text/plain", *headers, body=body), 403, "cross-site")
        refused(ask(node.port, "GET", "/v1/snapshot", *headers), 403, "cross-site")
        assert ask(proxy.port, "GET", "/get?key=a", *headers).status == 200  # which that page cannot read
    refused(ask(proxy.port, "POST", JOIN, b"Content-Type: text/plain", body=b"{}"), 415, "content-type")
    assert json.loads(ask(proxy.port, "GET", "/get?key=a").body)["existedKey"] == []


# -- members


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Give a socket at which nobody should call."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.setblocking(False)
        yield found


ROGUE = f"{0xA1:016x}"


def description(port: int, **more: Any) -> bytes:
    return json.dumps({"id": f"127.0.0.1:{port}", "url": f"http://127.0.0.1:{port}", "incarnation": ROGUE} | more).encode()


JSON = b"Content-Type: application/json"


def test_nobody_calls_a_url_that_a_stranger_sent(guarded: Guarded, listener: socket.socket) -> None:
    body = description(listener.getsockname()[1])
    refused(ask(guarded.proxy.port, "POST", JOIN, JSON, body=body), 401, "unauthorized")
    for role in ("reader", "client", "admin"):
        refused(ask(guarded.proxy.port, "POST", JOIN, JSON, bearer(TOKENS[role]), body=body), 403, "forbidden")
    refused(ask(guarded.proxy.port, "POST", JOIN, JSON, bearer("nonsense-nonsense"), body=b"nonsense"), 401, "unauthorized")
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_join_that_cannot_be_is_refused_and_nobody_joins(guarded: Guarded) -> None:
    def join(body: bytes, *headers: bytes) -> Answer:
        return ask(guarded.proxy.port, "POST", JOIN, *(headers or [JSON]), bearer(TOKENS["peer"]), body=body)

    before = ask(guarded.proxy.port, "GET", "/v1/ring", bearer(TOKENS["reader"])).body
    other = free_ports(1)
    refused(join(description(other, id=f"127.0.0.1:{guarded.node.port}")), 409, "member-conflict")
    for weight in (-1, 0, "NaN", "1", None, True, 1e9):
        refused(join(description(other, weight=weight)), 422, "invalid-member")
    for text in (b"NaN", b"-Infinity", b"1e999"):  # which are no JSON
        refused(join(description(other, weight=0).replace(b": 0}", b": " + text + b"}")), 400, "invalid-item")
    refused(join(description(other), b"Content-Type: text/plain"), 415, "content-type")
    refused(join(description(other, url="http://127.0.0.2:80")), 422, "invalid-member")
    assert ask(guarded.proxy.port, "GET", "/v1/ring", bearer(TOKENS["reader"])).body == before


def document(guarded: Guarded) -> dict[str, Any]:
    found = ask(guarded.proxy.port, "GET", "/v1/ring", bearer(TOKENS["reader"])).json
    assert isinstance(found, dict)
    return found


def tell(guarded: Guarded, frame: bytes) -> Effects | Refused:
    """Have the node answer a frame that writes one key."""
    answer = ask(
        guarded.node.port, "POST", FRAMES, bearer(TOKENS["peer"]), body=b"gkv/2 %016x 0 %d\n%b" % (0, len(frame), frame)
    )
    assert answer.status == 200
    return read_answer(answer.body.partition(b"\n")[2], Effects, 1)


def write(guarded: Guarded, key: str = "inside", cluster: str = "", later: int = 0) -> bytes:
    known = document(guarded)
    return Set(cluster or known["cluster"], era_of(1, known["epoch"] + later), [key], [b"2"]).write()


def test_write_of_another_cluster_or_epoch_is_refused_and_changes_nothing(guarded: Guarded) -> None:
    epoch = document(guarded)["epoch"]
    for text in (b"-1", b"null", b"1.0", b"281474976710656"):
        refused = tell(guarded, re.sub(rb'"epoch":[0-9]+', b'"epoch":%b' % text, write(guarded)))
        assert isinstance(refused, Refused)
        assert refused.reason is NodeRefusal.BAD_FRAME
    for frame in (write(guarded, cluster="0" * 32), write(guarded, later=-1), write(guarded, later=1)):
        reply = tell(guarded, frame)
        assert isinstance(reply, Refused)
        assert reply.reason is NodeRefusal.STALE
        assert reply.document
        assert reply.document["epoch"] == epoch
    assert ask(guarded.node.port, "GET", "/v1/kv/inside", bearer(TOKENS["reader"])).status == 404


def test_write_that_comes_again_is_another_write(guarded: Guarded) -> None:
    """Frames carry no version: it is the primary that gives one, so whoever sends a frame again writes again."""
    frame = write(guarded, "again")
    answers = [tell(guarded, frame) for _ in range(3)]
    assert [answer.letters for answer in answers if isinstance(answer, Effects)] == ["c", "r", "r"]
    assert len({str(answer.version) for answer in answers if isinstance(answer, Effects)}) == 3
    assert ask(guarded.node.port, "GET", "/v1/kv/again", bearer(TOKENS["reader"])).body == b"2"


def test_node_without_the_peer_token_is_told_so_and_ends(guarded: Guarded) -> None:
    stranger = {**SECRETS, "GKV_PEER_TOKENS": "stranger-stranger"}
    proxy = f"http://127.0.0.1:{guarded.proxy.port}"
    for environment, says in ((stranger, "the proxy refuses this node's peer token"), ({}, "the proxy asks for a peer token")):
        node = guarded.system.start("node", "0", "--proxy", proxy, "--engine", "memory", **environment)
        assert node.ended() == 1
        assert says in node.stderr
        assert "stranger-stranger" not in node.stderr
    assert "refused a request from 127.0.0.1" in guarded.proxy.stderr


def test_allow_keeps_members_of_other_networks_out_and_nobody_else(system: System) -> None:
    secrets = {name: tokens for name, tokens in SECRETS.items() if name != "GKV_ADMIN_TOKENS"}
    proxy = system.proxy("--allow", "127.0.0.2,192.0.2.0/24", **secrets)
    body = description(9, id="n9")
    far = ask(proxy.port, "POST", JOIN, JSON, bearer(TOKENS["peer"]), body=body)
    refused(far, 403, "forbidden-address")
    refused(ask(proxy.port, "POST", JOIN, JSON, body=body), 403, "forbidden-address")
    near = ask(proxy.port, "POST", JOIN, JSON, bearer(TOKENS["peer"]), body=body, source="127.0.0.2")
    refused(near, 422, "invalid-member")  # it describes another address than its own
    assert ask(proxy.port, "GET", "/v1/info", bearer(TOKENS["reader"])).status == 200
    refused(ask(proxy.port, "GET", "/v1/info", bearer(TOKENS["admin"])), 401, "unauthorized")  # a role without tokens is closed


def test_spawned_nodes_are_given_the_tokens_where_nobody_sees_them(system: System) -> None:
    first = free_ports(2)
    secret = system.directory / "peers"
    secret.write_text(f"{TOKENS['peer']}\n")
    secret.chmod(0o600)
    environment = {"GKV_CLIENT_TOKENS": TOKENS["client"], "GKV_PEER_TOKENS_FILE": str(secret)}
    proxy = system.proxy("--spawn", "2", "--spawn-port", str(first), "--engine", "memory", **environment)
    proxy.wait_line("Ready: ")
    body = json.dumps([{"key": f"hi{i}", "value": i} for i in range(60)]).encode()  # some for each of the nodes
    assert ask(proxy.port, "POST", "/set", bearer(TOKENS["client"]), body=body).body == b"Success to set keySuccess to set key"
    for port in (first, first + 1):
        refused(ask(port, "POST", FRAMES, body=STATUS), 401, "unauthorized")
        assert ask(port, "GET", "/get?key=hi", bearer(TOKENS["client"])).status == 200
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert any(str(first).encode() in line for line in lines)
    assert not any(token.encode() in line for line in lines for token in TOKENS.values())


# -- a member that answers as none should


class Rogue:
    """A member that takes part until it is told to misbehave: then each get is answered by `misbehave`."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.misbehave: Callable[[socket.socket], int] | None = None
        self.sent = self.times = 0
        self.proofs: set[bytes] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(DEADLINE)
        with connection, connection.makefile("rb") as stream:
            try:
                while line := stream.readline():
                    assert line.startswith(b"POST /internal/frames")
                    headers = dict(header.split(b": ", 1) for header in iter(lambda: stream.readline().strip(), b""))
                    self.proofs.add(headers[b"Authorization"])
                    preface = stream.readline()
                    assert int(headers[b"Content-Length"]) > len(preface)
                    frames = [stream.read(int(size)) for size in preface.split()[3].split(b",")]
                    if any(read_request(frame).op not in (Op.STATUS, Op.ADOPT) for frame in frames) and self.misbehave:
                        self.times += 1
                        self.sent += self.misbehave(connection)
                        return
                    replies = [Here(0xA1).write() for _ in frames]
                    lengths = ",".join(str(len(reply)) for reply in replies).encode()
                    body = b"gkv/2 %b 0 %b\n%b" % (ROGUE.encode(), lengths, b"".join(replies))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            except OSError:
                return

    def close(self) -> None:
        self._server.close()


def pour(head: bytes, piece: bytes, most: int) -> Callable[[socket.socket], int]:
    """Return what sends a head and then pieces, as long as they are taken; it returns how many bytes were."""

    def send(connection: socket.socket) -> int:
        done = 0
        try:
            connection.sendall(head)
            while done < most:
                connection.sendall(piece)
                done += len(piece)
        except OSError:
            pass
        return done

    return send


GIGABYTE = 1 << 30
MISBEHAVIOUR = {
    "1 GB": pour(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\ngkv/2 %b 0 %d\n" % (GIGABYTE + 36, ROGUE.encode(), GIGABYTE),
        b"x" * 65_536,
        GIGABYTE,
    ),
    "endless chunks": pour(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + b"x" * 65_536 + b"\r\n",
        GIGABYTE,
    ),
    "endless head": pour(b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"x" * 8_000 + b"\r\n", GIGABYTE),
    "HTML": pour(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n", b"<html>", 1),
    "redirect": pour(b"", b"", 0),  # to where the test listens
    "an error of another program": pour(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"", 0),
    "silence and the end": pour(b"", b"", 0),
}


def resident(program: Program) -> int:
    """Return the most memory that a program ever had, in bytes."""
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) << 10


class Calls(Worker):
    """The rogue's call-ins, with whatever document the proxy has."""

    def __init__(self, proxy: int, port: int) -> None:
        self._proxy, self._port = proxy, port
        super().__init__()

    def _run(self) -> None:
        known: dict[str, Any] = {}
        while not self._stop.wait(0.1):
            answer = ask(self._proxy, "POST", JOIN, JSON, bearer(TOKENS["peer"]), body=description(self._port, **known))
            if answer.status == 200:
                known = {name: answer.json[name] for name in ("cluster", "generation", "epoch")}
                known["digest"] = Document.from_json(answer.json).digest


def test_member_that_answers_as_none_should_counts_as_failed(system: System, listener: socket.socket) -> None:
    proxy = system.proxy(**SECRETS)
    rogue = Rogue()
    try:
        calls = Calls(proxy.port, rogue.port)
        wait_for("the ring", lambda: ask(proxy.port, "GET", "/v1/ring", bearer(GOOD)).status == 200)
        before = resident(proxy)
        location = f"Location: http://127.0.0.1:{listener.getsockname()[1]}{FRAMES}".encode()
        redirect = pour(b"HTTP/1.1 302 Found\r\n%b\r\nContent-Length: 0\r\n\r\n" % location, b"", 0)
        for name, misbehave in MISBEHAVIOUR.items():
            rogue.misbehave = redirect if name == "redirect" else misbehave
            for method, path, body in (("POST", "/get", b'[{"key":"a"}]'), ("POST", "/set", b'[{"key":"a","value":1}]')):
                answer = ask(proxy.port, method, path, bearer(GOOD), body=body)
                assert answer.status == 503, name
                assert answer.json["complete"] is False
                assert [row["key"] for row in answer.json["failedKey"]] == ["a"]
        assert rogue.times >= 2 * len(MISBEHAVIOUR)
        assert rogue.proofs == {b"Bearer " + TOKENS["peer"].encode()}
        assert rogue.sent < 64 << 20
        assert resident(proxy) - before < 64 << 20
        with pytest.raises(BlockingIOError):
            listener.accept()
    finally:
        calls.stop()
        rogue.close()


# -- what comes back


def test_line_ends_in_a_key_make_no_header(guarded: Guarded) -> None:
    evil = "%0d%0aX-Evil:%201%0d%0a%0d%0a<script>"
    put = ask(guarded.proxy.port, "PUT", f"/v1/kv/{evil}", bearer(GOOD), JSON, body=b"1")
    answers = [put, *(ask(guarded.proxy.port, "GET", target + evil, bearer(GOOD)) for target in ("/v1/kv/", "/get?key=", "/"))]
    answers += [ask(guarded.proxy.port, "GET", f"/v1/kv/{evil}", bearer(GOOD), b"X-Request-Id: a\tb")]
    assert [answer.status for answer in answers] == [201, 200, 200, 404, 200]
    for answer in answers:
        assert "X-Evil" not in answer.headers
        assert answer.headers["X-Request-Id"].isalnum() or "-" in answer.headers["X-Request-Id"]
        assert b"\r\n" not in answer.body
    listed = ask(guarded.proxy.port, "GET", "/v1/kv?prefix=%0d%0a", bearer(GOOD)).json
    assert listed["keys"] == ["\r\nX-Evil: 1\r\n\r\n<script>"]


# -- rotation


def settings(system: System, client: str, peer: str, more: str = "") -> str:
    path = system.directory / "gkv.toml"
    path.write_text(f'client_tokens = "{client}"\npeer_tokens = "{peer}"\n{more}')
    path.chmod(0o600)
    return str(path)


def test_rotated_token_counts_at_once_on_open_connections_and_a_broken_file_changes_nothing(system: System) -> None:
    old, new = TOKENS["client"], SECOND["client"]
    file = settings(system, old, TOKENS["peer"])
    proxy = system.proxy("--config", file)
    node = system.node(proxy, "--config", file)
    programs = [proxy, node]

    def reload(says: str) -> None:
        seen = [program.stderr.count(says) for program in programs]
        for program in programs:
            program.signal(signal.SIGHUP)
        for program, before in zip(programs, seen, strict=True):
            wait_for(f"{says!r} again", lambda program=program, before=before: program.stderr.count(says) > before)  # type: ignore[misc]

    def status(connection: Raw, token: str) -> int:
        connection.send(request("POST", "/get", bearer(token), body=b'[{"key":"a"}]'))
        answer = connection.answer()
        assert answer is not None
        return answer.status

    with Raw(proxy.port) as one, Raw(proxy.port) as other, Raw(node.port) as third:
        connections = [one, other, third]
        assert [status(connection, old) for connection in connections] == [200] * 3
        assert [status(connection, new) for connection in connections] == [401] * 3
        assert [status(connection, old) for connection in connections] == [200] * 3

        settings(system, f"{old},{new}", f"{TOKENS['peer']},{SECOND['peer']}")
        reload("the settings were read again; changed: client_tokens, peer_tokens")
        assert [status(connection, token) for connection in connections for token in (old, new)] == [200] * 6

        settings(system, new, f"{SECOND['peer']},{TOKENS['peer']}")  # the proxy may send the new one before the node does
        reload("the settings were read again; changed: client_tokens, peer_tokens")
        assert [status(connection, old) for connection in connections] == [401] * 3
        assert [status(connection, new) for connection in connections] == [200] * 3
        settings(system, new, SECOND["peer"])
        reload("the settings were read again; changed: peer_tokens")
        assert [status(connection, new) for connection in connections] == [200] * 3

        broken = f'client_tokens = "short"\npeer_tokens = "{SECOND["peer"]}"\n'
        for text, mode in (
            (broken, 0o600),
            ("client_tokens = [", 0o600),
            (f'client_tokens = "{old}"\n', 0o600),
            ("", 0o600),
            (broken, 0o644),
        ):
            (system.directory / "gkv.toml").write_text(text)
            (system.directory / "gkv.toml").chmod(mode)
            reload("could not be read again, the old ones stay in force")
            assert [status(connection, new) for connection in connections] == [200] * 3
            assert [status(connection, old) for connection in connections] == [401] * 3

        # A request whose token is revoked while its body is on the way is not served.
        settings(system, old, SECOND["peer"])
        whole = request("POST", "/get", bearer(new), body=b'[{"key":"a"}]')
        one.send(whole[:-1])
        assert status(other, new) == 200
        reload("the settings were read again; changed: client_tokens")
        one.send(whole[-1:])
        answer = one.answer()
        assert answer is not None
        assert answer.status == 401
        assert status(one, old) == 200
    for program in programs:
        assert "short" not in program.stderr
        assert not any(token in program.stderr for token in (old, new))


def test_member_that_missed_a_rotation_says_so_and_comes_back_with_the_new_token(system: System) -> None:
    file = settings(system, TOKENS["client"], TOKENS["peer"])
    proxy = system.proxy("--config", file)
    node = system.node(proxy, "--config", file)
    settings(system, TOKENS["client"], SECOND["peer"])
    proxy.signal(signal.SIGHUP)
    node.wait_line("refuses this node: the proxy refuses this node's peer token")
    wait_for("the node's refusal", lambda: "refused a request from 127.0.0.1" in node.stderr + proxy.stderr)
    assert ask(proxy.port, "GET", "/get?key=a", bearer(TOKENS["client"])).status == 503
    node.signal(signal.SIGHUP)
    wait_for("the node's return", lambda: ask(proxy.port, "GET", "/get?key=a", bearer(TOKENS["client"])).status == 200)
    wait_for("its call", lambda: node.stderr.count(": member of cluster ") == 2)
