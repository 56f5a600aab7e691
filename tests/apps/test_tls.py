"""The server over TLS on real sockets: the framing is the same, and who does not shake hands costs nobody anything.

The clients are OpenSSL as gevent uses it, not as `gkv.net.tls` does.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket, ssl

from gkv.api.http import render_unread
from gkv.net.server import Server, ServerLimits, listen
from gkv.net.tls import CERTIFICATE, Tls
from gkv.sources import parse
from tests.apps.connection import Client
from tests.apps.test_framing import (  # noqa: F401  # run here once more, with this module's `serve`
    CANARY,
    MAX_BODY,
    REFUSED,
    Pieces,
    Running,
    breaks_off,
    echo,
    gate,
    lines,
    post,
    stream,
    streaming,
    test_client_that_leaves_ends_its_stream,
    test_client_that_takes_nothing_of_a_stream_is_cut_and_the_stream_ended,
    test_connection_close_is_obeyed_and_the_answer_not_lost,
    test_drain_closes_the_idle_and_lets_the_running_finish,
    test_head_that_stalls_is_answered_408,
    test_idle_connection_is_closed_without_a_word,
    test_reader_that_takes_a_little_is_not_cut,
    test_reader_that_takes_nothing_is_cut,
    test_requests_byte_by_byte_are_served,
    test_reset_in_mid_body_ends_only_that_connection,
    test_stream_comes_in_chunks_and_the_connection_goes_on,
    test_stream_that_fails_ends_without_its_last_chunk_and_tells_nothing,
    test_stream_to_http_1_0_has_no_chunks_and_ends_with_the_connection,
    test_thousand_pipelined_requests_are_answered_in_order,
)
from tests.certificates import Authority, Files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Authority(tmp_path_factory.mktemp("tls")).member


def trusting(files: Files) -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # gevent's; create_default_context makes one that blocks
    context.load_verify_locations(files.ca)
    return context


@pytest.fixture
def context(files: Files) -> Any:
    context = trusting(files)
    context.load_cert_chain(files.cert, files.key)
    return context


@pytest.fixture
def serve(files: Files, context: Any) -> Iterator[Callable[..., Running]]:
    """Start servers that speak TLS and end with the test."""
    started: list[Running] = []

    def start(app: Any = echo, **limits: Any) -> Running:
        limits.pop("valid", None)
        listener = listen("127.0.0.1", 0)
        port = listener.getsockname()[1]
        limits = {"max_body": MAX_BODY, "linger": 0.3, "tick": 0.02} | limits
        tls = Tls(parse("proxy", files.flags, {}))
        server = Server(app, listener, render_unread, limits=ServerLimits(**limits), tls=tls)
        server.start()
        started.append(Running(server, port, [], context))
        return started[-1]

    yield start
    for running in started:
        for client in running.clients:
            client.socket.close()
        assert running.server.drain(5)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    gc.collect()


def until(condition: Callable[[], Any]) -> None:
    end = monotonic() + 5
    while not condition():
        assert monotonic() < end
        gevent.sleep(0.005)


@pytest.mark.parametrize("name", list(REFUSED)[::6])
def test_refused_request_is_the_last_one_over_tls_too(name: str, serve: Any) -> None:
    data, status = REFUSED[name]
    running = serve()
    assert [answer.status for answer in running.exchange(data + CANARY)] == [status]
    assert [answer.status for answer in running.exchange(data[:20], data[20:] + CANARY)] == [status]


def test_request_that_comes_with_the_end_of_the_handshake_is_served(serve: Any) -> None:
    running = serve()
    for _ in range(10):  # whether it does is up to the system; Python's client sends both at once
        client = running.client()
        client.send(lines())
        assert client.good().body == b"GET /x? "


def test_client_is_certified_when_it_shows_a_certificate(serve: Any, files: Files) -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append((environ[CERTIFICATE], environ["wsgi.url_scheme"]))
        return echo(environ, start_response)

    running = serve(app)
    running.client().send(lines())
    running.context = trusting(files)
    until(lambda: seen)
    client = running.client()
    client.send(lines(b"gkv.certificate: 1", b"Gkv-Certificate: 1"))
    client.good()
    assert seen == [(True, "https"), (False, "https")]


@pytest.mark.parametrize(
    ("target", "status"), [(b"https://localhost/x", 200), (b"HTTPS://localhost/x", 200), (b"http://localhost/x", 400)]
)
def test_absolute_target_has_the_scheme_of_the_connection(target: bytes, status: int, serve: Any) -> None:
    [answer] = serve().exchange(lines(b"Connection: close", first=b"GET %b HTTP/1.1" % target))
    assert answer.status == status


@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE", b"OPTIONS"])
def test_http_without_tls_is_told_so(method: bytes, serve: Any, capfd: Any) -> None:
    running = serve()
    client = Client(running.port)
    running.clients.append(client)
    client.send(method + b" /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    [answer] = client.rest()
    assert answer.status == 400
    assert b"https://" in answer.body
    running.gone()
    assert running.server.handshakes_failed == 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "data", [b"\x00" * 300, b"\x16\x03\x01\x00\x05nonsense", b"get /x HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff"]
)
def test_nonsense_is_answered_with_an_alert(data: bytes, serve: Any, capfd: Any) -> None:
    running = serve(handshake=0.2)
    client = Client(running.port)
    running.clients.append(client)
    client.send(data)
    told = b""
    while chunk := client.socket.recv(1_000):
        told += chunk
    assert told[:1] in (b"", b"\x15")
    running.gone()
    assert running.server.handshakes_failed == 1
    assert capfd.readouterr().err == ""


@pytest.mark.undisturbed
@pytest.mark.parametrize("data", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_handshake_that_does_not_go_on_is_cut_in_time(data: bytes, serve: Any) -> None:
    running = serve(handshake=1.0)
    clients = [Client(running.port) for _ in range(50)]
    running.clients.extend(clients)
    for client in clients:
        client.send(data)
    started = monotonic()
    until(lambda: len(running.server.connections) == 50)
    other = running.client()
    other.send(lines())
    other.good()
    until(lambda: len(running.server.connections) == 1)
    assert monotonic() - started < 4
    assert all(client.socket.recv(100) == b"" for client in clients)
    assert running.server.handshakes_failed == 50
    other.send(lines())
    other.good()


def test_handshakes_beyond_the_bound_drop_the_oldest(serve: Any) -> None:
    running = serve(handshakes=10, handshake=30)
    silent = []
    for number in range(15):
        silent.append(Client(running.port))
        until(lambda number=number: running.server.accepted == number + 1)
    running.clients.extend(silent)
    client = running.client()
    client.send(lines())
    client.good()
    for cut in silent[:6]:
        assert cut.socket.recv(1) == b""
    assert len(running.server.handshakes) == 9
    assert len(running.server.connections) == 10


def test_connections_beyond_the_limit_are_closed(serve: Any) -> None:
    running = serve(connections=2, spare=0)
    clients = [running.client() for _ in range(2)]
    with pytest.raises(OSError, match=r"."):
        running.client()
    for client in clients:
        client.send(lines())
        client.good()


@pytest.mark.parametrize("end", ["idle", "close", "drain"])
def test_end_is_told_by_close_notify(end: str, serve: Any) -> None:
    running = serve(idle=0.2 if end == "idle" else 60)
    client = running.client()
    client.socket.suppress_ragged_eofs = False  # an end without a close_notify raises then
    client.send(lines(b"Connection: close") if end == "close" else lines())
    client.good()
    if end == "drain":
        gevent.spawn(running.server.drain, 5)
    assert client.read() is None


class Speaker:
    """A client that decides which bytes leave in one packet."""

    def __init__(self, running: Running, files: Files) -> None:
        plain = socket.create_connection(("127.0.0.1", running.port), 5)
        self._tls = Tls(parse("proxy", files.flags, {})).connect(plain, "127.0.0.1", monotonic() + 5)
        self.socket = plain
        running.clients.append(self)  # type: ignore[arg-type]  # which are closed after the test

    def encrypt(self, data: bytes, *, last: bool = False) -> bytes:
        """Return the records of some data; if it is the `last`, with a close_notify behind."""
        self._tls._write(data)
        if last:
            with suppress(ssl.SSLError):
                self._tls._tls.unwrap()
        return bytes(self._tls._outgoing.read())

    def recv(self) -> bytes:
        return self._tls.recv(65_536)


@pytest.mark.parametrize(("requests", "takes"), [(8, 0.0), (1, 0.01)], ids=["a turn of them", "work of a turn"])
def test_end_that_comes_in_one_packet_with_the_last_request_ends_the_connection(
    requests: int, takes: float, serve: Any, files: Files
) -> None:
    """Nothing more makes the socket readable: the client keeps it open, and waits for the server."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        end = monotonic() + takes
        while monotonic() < end:
            pass  # work that does not wait
        return echo(environ, start_response)

    running = serve(app)
    client = Speaker(running, files)
    client.socket.sendall(client.encrypt(lines() * requests, last=True))
    running.gone()


def test_half_a_record_does_not_hold_up_the_answer_while_the_server_drains(
    gate: Any,  # noqa: F811  # the fixture
    serve: Any,
    files: Files,
) -> None:
    running = serve(gate)
    client = Speaker(running, files)
    client.socket.sendall(client.encrypt(lines(first=b"GET /wait HTTP/1.1")))
    assert gate.entered.wait(5)
    record = client.encrypt(lines())
    client.socket.sendall(record[:-1])
    [connection] = running.server.connections
    until(connection._link._unread)
    drained = gevent.spawn(running.server.drain, 10.0)
    until(lambda: running.server.stopping)
    gate.go_on.set()
    with gevent.Timeout(3):
        assert b"GET /wait? " in client.recv()
    client.socket.close()
    assert drained.get(timeout=2) is True


def test_stream_that_fails_has_no_close_notify_where_its_end_would_pass_for_whole(serve: Any, capfd: Any) -> None:
    client = serve(streaming(lambda: Pieces(breaks_off()))).client()
    client.socket.suppress_ragged_eofs = False
    client.send(stream(version=b"1.0"))
    received = iter(lambda: client.socket.recv(65_536), b"")
    with pytest.raises(OSError, match=r"."):
        list(received)
    assert "the answer broke off" in capfd.readouterr().err


def test_body_that_ends_before_its_length_is_answered_400_and_nobody_takes_it_for_whole(serve: Any) -> None:
    running = serve()
    client = running.client()
    client.send(post(b"Content-Length: 10", body=b"abc"))
    plain = socket.socket(fileno=socket.socket.detach(client.socket))
    plain.shutdown(socket.SHUT_WR)  # without a close_notify
    until(lambda: not running.server.connections)
    plain.close()


def test_large_body_and_answer_are_whole(serve: Any) -> None:
    running = serve(max_body=8 << 20)
    body = bytes(range(256)) * (20 << 10)
    client = running.client()
    sending = gevent.spawn(client.send, post(b"Content-Length: %d" % len(body), body=body))
    assert client.good().body == b"POST /x? " + body
    sending.get()


def test_renewed_certificate_is_for_new_connections_and_open_ones_stay(serve: Any, files: Files) -> None:
    running = serve()
    old = running.client()
    before = old.socket.getpeercert()["serialNumber"]
    tls = running.server.tls
    renewed = Authority(files.ca.parent, "other-ca").issue("renewed")
    tls.prepare(parse("proxy", renewed.flags, {}))()
    running.context = trusting(renewed)
    new = running.client()
    assert new.socket.getpeercert()["serialNumber"] != before
    for client in (old, new):
        client.send(lines())
        client.good()
