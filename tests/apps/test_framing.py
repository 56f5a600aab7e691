"""The server on real sockets: where each request ends, what is answered, and who is cut off.

Server and clients are greenlets of this process; clients send bytes, not requests.
"""

import errno
import os
import random
import socket as blocking_socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import monotonic, process_time, time
from typing import Any
from wsgiref.validate import validator

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from gkv.api.access import Role
from gkv.api.http import Response, Routes, render_unread
from gkv.api.operation import Unlisted
from gkv.net.server import Server, ServerLimits, listen
from tests.apps.connection import Answer, Client, GoneError

SEED = int(os.environ.get("GKV_SEED", "9112"))
MAX_BODY = 100_000
CANARY = b"GET /canary HTTP/1.1\r\nHost: localhost\r\n\r\n"


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer with what was understood."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    line = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']} "
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [line.encode("latin-1") + body]


@dataclass
class Running:
    """A server and what a test does with it."""

    server: Server
    port: int
    clients: list[Client]
    context: Any = None
    """With which clients speak TLS."""

    def client(self) -> Client:
        self.clients.append(Client(self.port, self.context))
        return self.clients[-1]

    def exchange(self, *pieces: bytes) -> list[Answer]:
        """Send bytes on a connection of their own; return all answers up to its end."""
        client = Client(self.port, self.context)
        try:
            client.send(*pieces)
            return client.rest()
        finally:
            client.socket.close()

    def gone(self) -> None:
        """Wait until the server has no connection left."""
        until = monotonic() + 5
        while self.server.connections:
            assert monotonic() < until, "connections stay"
            gevent.sleep(0.005)


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Start servers that end with the test."""
    started: list[Running] = []

    def start(app: Any = echo, *, valid: bool = True, **limits: Any) -> Running:
        listener = listen("127.0.0.1", 0)
        port = listener.getsockname()[1]
        limits = {"max_body": MAX_BODY, "linger": 0.3, "tick": 0.02, "recent": 0.1} | limits
        server = Server(validator(app) if valid else app, listener, render_unread, limits=ServerLimits(**limits))
        server.start()
        started.append(Running(server, port, []))
        return started[-1]

    yield start
    for running in started:
        for client in running.clients:
            client.socket.close()
        assert running.server.drain(5)


def lines(*headers: bytes, first: bytes = b"GET /x HTTP/1.1", host: bytes | None = b"Host: localhost") -> bytes:
    """Return a head with its empty line."""
    return b"\r\n".join([first, *([host] if host else []), *headers, b"", b""])


def post(*headers: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return lines(*headers, first=b"POST /x HTTP/" + version) + body


CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"


def chunked(body: bytes) -> bytes:
    return post(CHUNKED, body=body)


# What is refused must be refused for these bytes, whatever follows.
REFUSED = {
    "chunked twice": (post(CHUNKED, CHUNKED, body=CHUNKS), 400),
    "chunked and identity": (post(CHUNKED, b"Transfer-Encoding: identity", body=CHUNKS), 400),
    "identity and chunked": (post(b"Transfer-Encoding: identity", CHUNKED, body=CHUNKS), 400),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked", body=CHUNKS), 400),
    "xchunked": (post(b"Transfer-Encoding: xchunked", body=CHUNKS), 400),
    "chunked with Content-Length": (post(CHUNKED, b"Content-Length: 15", body=CHUNKS), 400),
    "Content-Length with chunked": (post(b"Content-Length: 15", CHUNKED, body=CHUNKS), 400),
    "chunked in HTTP/1.0": (post(CHUNKED, body=CHUNKS, version=b"1.0"), 400),
    "two differing Content-Length": (post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd"), 400),
    "the same Content-Length twice": (post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), 400),
    "Content-Length as a list": (post(b"Content-Length: 3, 3", body=b"abc"), 400),
    "Content-Length -1": (post(b"Content-Length: -1"), 400),
    "Content-Length +1": (post(b"Content-Length: +1", body=b"a"), 400),
    "Content-Length 0x3": (post(b"Content-Length: 0x3", body=b"abc"), 400),
    "Content-Length empty": (post(b"Content-Length:"), 400),
    "Content-Length of 5,000 digits": (post(b"Content-Length: " + b"1" * 5_000), 400),
    "Content-Length of 10^18": (post(b"Content-Length: 1" + b"0" * 18, body=b"abc"), 413),
    "Content-Length one too large": (post(b"Content-Length: %d" % (MAX_BODY + 1)), 413),
    "blank before the colon": (post(b"Content-Length : 5", body=b"hello"), 400),
    "header without a colon": (lines(b"X"), 400),
    "bare CR in a value": (lines(b"X: a\rb"), 400),
    "folded header": (lines(b"X: a", b" b"), 400),
    "folded Transfer-Encoding": (post(b"Transfer-Encoding:", b" chunked", body=CHUNKS), 400),
    "bare LF in the first line": (b"GET /x HTTP/1.1\nHost: localhost\r\n\r\n", 400),
    "bare LF in the headers": (lines(b"X: a\nTransfer-Encoding: chunked"), 400),
    "bare LF at the end": (b"GET /x HTTP/1.1\r\nHost: localhost\r\n\n", 400),
    "NUL in a value": (lines(b"X: a\0b"), 400),
    "NUL in a name": (lines(b"X\0: a"), 400),
    "control character in a value": (lines(b"X: \x08"), 400),
    "DEL in a value": (lines(b"X: \x7f"), 400),
    "control character in the target": (lines(first=b"GET /\x01 HTTP/1.1"), 400),
    "HTTP/0.9": (b"GET /x\r\n", 400),
    "HTTP/1.2": (lines(first=b"GET /x HTTP/1.2"), 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "TLS hello": (b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03", 400),
    "lower-case method": (lines(first=b"get /x HTTP/1.1"), 400),
    "G<T": (lines(first=b"G<T /x HTTP/1.1"), 400),
    "endless method": (b"G" * 100_000, 400),
    "two empty lines first": (b"\r\n\r\n" + lines(), 400),
    "bare CR first": (b"\r" + lines(), 400),
    "bare LF first": (b"\n" + lines(), 400),
    "no Host": (lines(host=None), 400),
    "two Hosts": (lines(b"Host: localhost"), 400),
    "Host not ours": (lines(host=b"Host: evil.example"), 421),
    "Host not ours, with a body": (post(b"Content-Length: 5", body=b"hello").replace(b"localhost", b"evil.example"), 421),
    "absolute form with another authority": (lines(first=b"GET http://evil.example/x HTTP/1.1"), 400),
    "target that is a path of nothing": (lines(first=b"GET x HTTP/1.1"), 400),
    "tunnel": (lines(first=b"CONNECT localhost:80 HTTP/1.1"), 501),
    "URI over 8 KiB": (lines(first=b"GET /%b HTTP/1.1" % (b"a" * 8_192)), 414),
    "endless URI": (b"GET /" + b"a" * 100_000, 414),
    "header over 8 KiB": (lines(b"X: " + b"a" * 8_190), 431),
    "endless header": (lines()[:-2] + b"X: " + b"a" * 100_000, 431),
    "over 64 headers": (lines(*[b"X: a"] * 64), 431),
    "over 16 KiB of headers": (lines(*[b"X: " + b"a" * 4_000] * 5), 431),
    "endless headers": (lines()[:-2] + b"X: a\r\n" * 20_000, 431),
    "chunk size g": (chunked(b"g\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk size 0x5": (chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk size -5": (chunked(b"-5\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk size empty": (chunked(b"\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk size with a blank": (chunked(b"5 \r\nhello\r\n0\r\n\r\n"), 400),
    "chunk size with bare LF": (chunked(b"5\nhello\r\n0\r\n\r\n"), 400),
    "chunk size of 17 digits": (chunked(b"00000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk size of 2^64 - 1": (chunked(b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), 413),
    "extension of 8 KiB": (chunked(b"5;" + b"a" * 8_192 + b"\r\nhello\r\n0\r\n\r\n"), 400),
    "extensions of 100 KiB in all": (chunked((b"1;" + b"a" * 1_000 + b"\r\nx\r\n") * 100), 400),
    "chunk longer than its size": (chunked(b"4\r\nhello\r\n0\r\n\r\n"), 400),
    "chunk shorter than its size": (chunked(b"6\r\nhello\r\n0\r\n\r\n"), 400),
    "chunks beyond the limit": (chunked((b"c350\r\n" + b"x" * 50_000 + b"\r\n") * 3), 413),
    "a million trailers": (chunked(b"0\r\n" + b"X: a\r\n" * 1_000_000), 431),
    "trailer without a colon": (chunked(b"0\r\nX\r\n\r\n"), 400),
    "Content-Length as a trailer": (chunked(b"0\r\nContent-Length: 5\r\n\r\n"), 400),
    "other Expect": (post(b"Expect: the-unexpected", b"Content-Length: 5", body=b"hello"), 417),
    "Expect with an oversized body": (post(b"Expect: 100-continue", b"Content-Length: 1000000"), 413),
}

SERVED = {
    "plain": (lines(), b"GET /x? "),
    "chunked": (chunked(CHUNKS), b"POST /x? hello"),
    "chunked with extensions and trailers": (chunked(b"5;a=b\r\nhello\r\n0;c\r\nX: a\r\n\r\n"), b"POST /x? hello"),
    "empty chunked": (chunked(b"0\r\n\r\n"), b"POST /x? "),
    "body like a request": (post(b"Content-Length: %d" % len(CANARY), body=CANARY), b"POST /x? " + CANARY),
    "Upgrade with a body": (
        post(b"Upgrade: websocket", b"Connection: Upgrade", b"Content-Length: %d" % len(CANARY), body=CANARY),
        b"POST /x? " + CANARY,
    ),
    "GET with a body": (lines(b"Content-Length: 5") + b"hello", b"GET /x? hello"),
    "GET with chunks": (lines(CHUNKED) + CHUNKS, b"GET /x? hello"),
    "absolute form": (lines(first=b"GET http://localhost/x?y=z HTTP/1.1"), b"GET /x?y=z "),
    "raw bytes in the target": (lines(first=b"GET /\xc3\xa4?\xff HTTP/1.1"), b"GET /\xc3\xa4?\xff "),
    "asterisk": (lines(first=b"OPTIONS * HTTP/1.1"), b"OPTIONS ? "),
    "largest URI": (lines(first=b"GET /%b HTTP/1.1" % (b"a" * 8_191)), b"GET /%b? " % (b"a" * 8_191)),
    "most headers": (lines(*[b"X: a"] * 63), b"GET /x? "),
    "length in a name with an underscore": (
        post(b"Content_Length: 500", b"Content-Length: 5", body=b"hello"),
        b"POST /x? hello",
    ),
    "HTTP/1.0 that keeps alive": (lines(b"Connection: keep-alive", first=b"GET /x HTTP/1.0"), b"GET /x? "),
    "an empty line first": (b"\r\n" + lines(), b"GET /x? "),
    "Expect with its body": (post(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"), b"POST /x? hello"),
}


def cuts(data: bytes, most: int = 400) -> list[int]:
    """Return where to cut some bytes: everywhere if they are few, else at random places and around some line ends."""
    if len(data) <= most:
        return list(range(1, len(data)))
    rng = random.Random(SEED)
    found = [place for place in range(min(len(data), 30_000)) if data[place : place + 2] == b"\r\n"]
    found = sorted({*found[:4], *found[-4:], *rng.sample(found, min(4, len(found)))})
    return sorted({rng.randrange(1, len(data)) for _ in range(40)} | {place + i for place in found for i in range(3)})


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_request_is_answered_once_and_nothing_after_it(data: bytes, status: int, serve: Any) -> None:
    running = serve()
    [alone] = running.exchange(data)
    assert (alone.status, alone.headers["connection"]) == (status, "close")
    assert alone.headers["content-type"] == "application/problem+json"
    [answer] = running.exchange(data + CANARY)
    assert answer.status == status
    for cut in cuts(data):
        answers = running.exchange(data[:cut], data[cut:] + CANARY)
        assert [answer.status for answer in answers] == [status], cut
    running.gone()


@pytest.mark.parametrize(("data", "body"), SERVED.values(), ids=SERVED.keys())
def test_served_request_leaves_the_next_one_whole(data: bytes, body: bytes, serve: Any) -> None:
    running = serve()
    client = running.client()
    client.send(data)
    assert client.good().body == body
    client.send(data + CANARY)
    assert [client.good().body, client.good().body] == [body, b"GET /canary? "]
    waits = b"Expect" in data
    for cut in cuts(data):
        client.send(data[:cut], data[cut:] + CANARY)
        answer = client.read()
        if waits and answer is not None and answer.status == 100:
            answer = client.read()
        assert answer is not None
        assert (answer.status, answer.body, client.good().body) == (200, body, b"GET /canary? "), cut


def test_cut_bytes_do_arrive_in_two_pieces(serve: Any) -> None:
    """Else the tests above would test nothing."""
    running = serve()
    client = running.client()
    client.send(lines())
    client.good()
    [connection] = running.server.connections
    for cut in range(1, len(lines())):
        client.send(lines()[:cut])
        gevent.idle()
        assert len(connection._link.buffer) == cut
        client.send(lines()[cut:])
        client.good()


def test_requests_byte_by_byte_are_served(serve: Any) -> None:
    client = serve().client()
    for data, body in [SERVED["chunked with extensions and trailers"], SERVED["GET with a body"]]:
        client.send(*(data[i : i + 1] for i in range(len(data))))
        assert client.good().body == body


# 100-continue.


def test_continue_comes_after_the_head_and_before_the_body(serve: Any) -> None:
    client = serve().client()
    head = post(b"Expect: 100-continue", b"Content-Length: 5")
    client.send(head[:-2])
    gevent.sleep(0.05)
    client.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.socket.recv(1)
    client.socket.settimeout(10)
    client.send(head[-2:])
    assert client.read() == Answer(100, {}, b"")
    client.send(b"hello" + CANARY)
    assert [client.good().body, client.good().body] == [b"POST /x? hello", b"GET /canary? "]


def test_continue_comes_for_chunks_too_and_not_without_need(serve: Any) -> None:
    client = serve().client()
    client.send(post(b"Expect: 100-continue", CHUNKED))
    assert client.read() == Answer(100, {}, b"")
    client.send(CHUNKS)
    assert client.good().body == b"POST /x? hello"
    client.send(post(b"Expect: 100-continue"), post(b"Expect: 100-continue", b"Content-Length: 2", body=b"ab"))
    assert [client.good().body, client.good().body] == [b"POST /x? ", b"POST /x? ab"]
    client.send(post(b"Expect: 100-continue", b"Connection: keep-alive", b"Content-Length: 2", version=b"1.0"))
    gevent.idle()
    client.send(b"ab")
    assert client.good().body == b"POST /x? ab"


# Many requests at once.


def test_thousand_pipelined_requests_are_answered_in_order(serve: Any) -> None:
    client = serve().client()
    client.send(b"".join(lines(first=b"GET /%d HTTP/1.1" % i) for i in range(1_000)))
    assert [client.good().body for _ in range(1_000)] == [b"GET /%d? " % i for i in range(1_000)]


@pytest.mark.parametrize("pause", [0.0, 0.0003], ids=["reads at the end", "reads slowly"])
def test_pipelined_requests_wait_outside_while_answers_are_not_taken(pause: float, serve: Any) -> None:
    def large(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode() + b"x" * 20_000]

    running = serve(large)
    client = running.client()
    # With its own bounds, which differ between machines, the kernel may hold 4 MB of requests by itself.
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    data = b"".join(lines(b"X: " + b"a" * 4_000, first=b"GET /%d HTTP/1.1" % i) for i in range(1_000))
    sender = gevent.spawn(client.send, data)
    if not pause:
        gevent.sleep(0.2)
        assert not sender.ready()  # 4 MB of requests are not taken in before their answers are
    largest = 0
    for i in range(1_000):
        for connection in running.server.connections:
            largest = max(largest, len(connection._link.buffer))
        assert client.good().body[:5] == (b"/%d" % i + b"x" * 5)[:5]
        if pause:
            gevent.sleep(pause)
    sender.get(timeout=5)
    assert largest <= 65_536 + 16_384


FLOOD = """
import socket, struct, sys, threading, time
port, times, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
first, data = [bytes.fromhex(text) for text in sys.argv[4:]]
data *= times

def swallow(sock):
    try:
        while sock.recv(65_536):
            pass
    except OSError:
        pass

def flood():
    until = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        reader = threading.Thread(target=swallow, args=[sock])
        reader.start()
        try:
            sock.sendall(first)
            while time.monotonic() < until:
                sock.sendall(data)
            sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        reader.join()
        # A reset, so that the server need not read all that is under way.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

flooding = [threading.Thread(target=flood) for _ in range(2)]
for thread in flooding:
    thread.start()
for thread in flooding:
    thread.join()
"""
"""A program with two connections that send as fast as the server reads, and take all that comes."""


@pytest.mark.undisturbed
@pytest.mark.parametrize(
    ("first", "data", "times"),
    [(b"", lines(), 2_000), (b"", b"g\r\n", 300_000), (post(CHUNKED), b"1\r\nx\r\n", 50_000)],
    ids=["pipelined requests", "bytes after a refusal", "tiny chunks"],
)
def test_client_that_never_pauses_takes_no_ones_turn(first: bytes, data: bytes, times: int, serve: Any) -> None:
    running = serve(linger=1.0, max_body=1 << 30)
    client = running.client()
    client.send(CANARY)
    client.good()
    command = [sys.executable, "-c", FLOOD, str(running.port), str(times), "1", first.hex(), data.hex()]
    waits = []
    with subprocess.Popen(command) as flooding:
        try:
            while flooding.poll() is None:
                before = process_time()  # of this process alone, whatever else the machine does
                client.send(CANARY)
                client.good()
                waits.append(process_time() - before)
                gevent.sleep(0.005)
        finally:
            flooding.kill()
    assert flooding.returncode == 0
    assert max(waits) < 0.5, waits  # without turns, it waits until the flood ends


# Clients that go.


def test_reset_in_mid_body_ends_only_that_connection(serve: Any) -> None:
    running = serve()
    for body in (post(b"Content-Length: 50", body=b"abc"), chunked(b"5\r\nhel"), lines()[:-3]):
        client = running.client()
        client.send(body)
        gevent.idle()
        client.reset()
    running.gone()
    client = running.client()
    client.send(CANARY)
    client.good()


@pytest.mark.parametrize(
    "data",
    [post(b"Content-Length: 50", body=b"abc"), chunked(b"5\r\nhel"), chunked(b"5\r\nhello\r\n"), chunked(b"0\r\nX: y\r\n")],
    ids=["length", "in a chunk", "between chunks", "in trailers"],
)
def test_half_close_in_mid_body_is_answered_400(data: bytes, serve: Any) -> None:
    running = serve()
    client = running.client()
    client.send(data)
    client.socket.shutdown(socket.SHUT_WR)
    assert [answer.status for answer in client.rest()] == [400]
    running.gone()


def test_half_close_after_a_request_is_served_and_in_a_head_not(serve: Any) -> None:
    running = serve()
    for data, count in [(CANARY * 3, 3), (CANARY + CANARY[:20], 1), (CANARY[:-2], 0), (b"", 0)]:
        client = running.client()
        client.send(data)
        client.socket.shutdown(socket.SHUT_WR)
        assert [answer.body for answer in client.rest()] == [b"GET /canary? "] * count
    running.gone()


def test_http_1_0_closes_unless_asked_not_to(serve: Any) -> None:
    running = serve()
    plain = lines(first=b"GET /x HTTP/1.0", host=None)
    [answer] = running.exchange(plain + CANARY)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    kept = lines(b"Connection: Keep-Alive", first=b"GET /x HTTP/1.0", host=None)
    first, second, third = running.exchange(kept + kept + plain + CANARY)
    assert [one.headers["connection"] for one in (first, second, third)] == ["keep-alive", "keep-alive", "close"]


def test_connection_close_is_obeyed_and_the_answer_not_lost(serve: Any) -> None:
    running = serve()
    for _ in range(20):
        # The canaries do not fit into one read, so some stay unread; closing at once would reset the connection.
        [answer] = running.exchange(lines(b"Connection: close") + CANARY * 5_000)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    running.gone()


def test_connections_beyond_the_limit_are_answered_503_and_closed(serve: Any) -> None:
    running = serve(connections=3)
    clients = [running.client() for _ in range(3)]
    for client in clients:
        client.send(CANARY)
        client.good()
    [refused] = running.exchange(CANARY)
    assert (refused.status, refused.headers["retry-after"], refused.headers["connection"]) == (503, "1", "close")
    clients[0].socket.close()
    while len(running.server.connections) == 3:
        gevent.sleep(0.005)
    client = running.client()
    client.send(CANARY)
    client.good()


# What applications may do, and what is made of what they may not.


def start(start_response: Callable[..., Any], *headers: tuple[str, str], status: str = "200 OK") -> Any:
    return start_response(status, [("Content-Type", "text/plain"), *headers])


def test_date_is_now_and_once(serve: Any) -> None:
    client = serve().client()
    client.send(CANARY)
    answer = client.good()
    assert answer.headers["date"].endswith(" GMT")
    assert abs(parsedate_to_datetime(answer.headers["date"]).timestamp() - time()) < 3


def test_head_has_the_length_but_not_the_body(serve: Any) -> None:
    client = serve().client()
    client.send(lines(first=b"HEAD /x HTTP/1.1") + CANARY)
    answer = client.read(head_only=True)
    assert answer is not None
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(b"HEAD /x? ")))
    assert client.good().body == b"GET /canary? "


def test_head_keeps_the_length_that_the_application_says(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start(start_response, ("Content-Length", "1234"))
        return []

    client = serve(app).client()
    client.send(lines(first=b"HEAD /x HTTP/1.1"))
    answer = client.read(head_only=True)
    assert answer is not None
    assert answer.headers["content-length"] == "1234"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answer_that_has_no_body_sends_none(status: str, serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] == "/canary":
            return echo(environ, start_response)
        start_response(status, [])
        return [b"all the same"]

    client = serve(app).client()
    client.send(lines() + CANARY)
    answer = client.read()
    assert answer is not None
    assert (answer.status, "content-length" in answer.headers) == (int(status[:3]), False)
    assert client.good().body == b"GET /canary? "


def test_write_and_generators_and_iterables_are_joined_in_order(serve: Any) -> None:
    closed = []

    class Body:
        def __init__(self) -> None:
            self._left = [b"e", b"f"]

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._left)

        def close(self) -> None:
            closed.append(True)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] == "/generator":
            return generator(start_response)
        write = start(start_response)
        write(b"a")
        write(b"b")
        return Body()

    def generator(start_response: Callable[..., Any]) -> Iterator[bytes]:
        start(start_response)
        yield b"c"
        yield b"d"

    client = serve(app).client()
    client.send(lines() + lines(first=b"GET /generator HTTP/1.1"))
    assert [client.good().body, client.good().body] == [b"abef", b"cd"]
    assert closed == [True]


def test_application_that_says_close_closes(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start(start_response, ("Connection", "close"))
        return [b"bye"]

    [answer] = serve(app, valid=False).exchange(CANARY + CANARY)
    assert (answer.body, answer.headers["connection"]) == (b"bye", "close")


def test_error_handler_may_start_the_response_anew(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start(start_response)
        try:
            raises(environ, start_response)
        except RuntimeError as error:
            start_response("404 Not Found", [("Content-Type", "text/plain")], (type(error), error, error.__traceback__))
        return [b"sorry"]

    client = serve(app).client()
    client.send(CANARY)
    answer = client.read()
    assert answer is not None
    assert (answer.status, answer.body) == (404, b"sorry")


def raises(environ: Any, start_response: Any) -> Any:
    raise RuntimeError("secret")


def raises_late(environ: Any, start_response: Any) -> Any:
    start(start_response)
    yield b"a"
    raise RuntimeError("secret")


def never_starts(environ: Any, start_response: Any) -> Any:
    return [b"secret"]


def starts_twice(environ: Any, start_response: Any) -> Any:
    start(start_response)
    start(start_response)
    return [b"secret"]


def splits_a_header(environ: Any, start_response: Any) -> Any:
    start(start_response, ("X", "a\r\nSecret: b"))
    return [b""]


def ends_a_header(environ: Any, start_response: Any) -> Any:
    start(start_response, ("X", "secret\n"))
    return [b""]


def splits_a_name(environ: Any, start_response: Any) -> Any:
    start(start_response, ("Secret: b\r\nX", "a"))
    return [b""]


def splits_the_status(environ: Any, start_response: Any) -> Any:
    start(start_response, status="200 OK\r\nSecret: b")
    return [b""]


def sends_a_header_beyond_latin_1(environ: Any, start_response: Any) -> Any:
    start(start_response, ("X", "secret \u20ac"))
    return [b""]


def sends_text(environ: Any, start_response: Any) -> Any:
    start(start_response)
    return ["secret"]


def sends_nothing(environ: Any, start_response: Any) -> Any:
    start(start_response)


def sends_too_little(environ: Any, start_response: Any) -> Any:
    start(start_response, ("Content-Length", "100"))
    return [b"secret"]


WRONG_APPS = [
    raises, raises_late, never_starts, starts_twice, splits_a_header, ends_a_header, splits_a_name, splits_the_status,
    sends_a_header_beyond_latin_1, sends_text, sends_nothing, sends_too_little,
]  # fmt: skip


@pytest.mark.promise("I9")
@pytest.mark.parametrize("app", WRONG_APPS, ids=[app.__name__ for app in WRONG_APPS])
def test_failing_application_costs_one_answer_500_that_tells_nothing(app: Any, serve: Any, capfd: Any) -> None:
    [answer] = serve(app, valid=False).exchange(CANARY + CANARY)
    assert (answer.status, answer.headers["connection"]) == (500, "close")
    assert answer.headers["content-type"] == "application/problem+json"
    told = str(answer).lower()
    assert not any(word in told for word in ("secret", "traceback", "error:", ".py"))
    assert "Traceback" in capfd.readouterr().err


# Answers that come piece by piece.


class Pieces(Iterator[bytes]):
    """An answer's pieces, and whether it was closed. `wait` is called before each of them."""

    def __init__(self, pieces: Iterable[bytes], wait: Callable[[], object] = lambda: None) -> None:
        self._pieces = iter(pieces)
        self._wait = wait
        self.closed = 0

    def __next__(self) -> bytes:
        self._wait()
        return next(self._pieces)

    def close(self) -> None:
        self.closed += 1


def streaming(pieces: Callable[[], Pieces]) -> Routes:
    """Return an application that answers /stream with what `pieces` makes, and /canary."""
    routes = Routes()
    routes.add(
        "GET",
        "/stream",
        lambda _request: Response(b"", "text/x", headers={"X-Kind": "y"}, stream=pieces()),
        doc=Unlisted("a test's"),
        role=Role.OPEN,
    )
    routes.add("GET", "/canary", lambda _request: Response(b"alive"), doc=Unlisted("a test's"), role=Role.OPEN)
    return routes


def stream(*headers: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    return lines(*headers, first=method + b" /stream HTTP/" + version)


def breaks_off() -> Iterator[bytes]:
    yield b"first"
    yield b"second"
    raise RuntimeError("a secret reason")


def cannot_be_read() -> Iterator[bytes]:
    yield b"first"
    raise OSError(errno.EIO, "a failing disk")


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"a"],
        [b"hello", b"world"],
        [b"", b"a", b"", b"", b"b", b""],
        [b"\r\n0\r\n\r\n", b"0", b"\r\n"],
        [bytes([i]) * (1 << i) for i in range(20)],
        [b"x" * 3_000_000],
    ],
    ids=["none", "one", "two", "empty ones", "like the last chunk", "growing", "larger than a buffer"],
)
def test_stream_comes_in_chunks_and_the_connection_goes_on(pieces: list[bytes], serve: Any) -> None:
    made: list[Pieces] = []
    client = serve(streaming(lambda: made.append(Pieces(pieces)) or made[-1]), valid=False).client()
    client.send(stream() + CANARY + stream(b"X-Request-Id: mine"))
    for request_id in (None, "mine"):
        answer, chunks = client.read_chunks()
        assert (answer.status, answer.headers["content-type"], answer.headers["x-kind"]) == (200, "text/x", "y")
        assert request_id in (None, answer.headers["x-request-id"])
        assert answer.headers["connection"] == "keep-alive"
        assert chunks == [piece for piece in pieces if piece]
        if request_id is None:
            assert client.good().body == b"alive"
    assert [one.closed for one in made] == [1, 1]


def test_stream_is_sent_as_it_comes(serve: Any) -> None:
    more = Event()
    waits = iter([False, True, False])

    def wait() -> None:
        if next(waits):
            more.wait()

    client = serve(streaming(lambda: Pieces([b"first", b"second"], wait)), valid=False, **QUICK).client()
    client.send(stream())
    assert client.read() is not None
    assert client._until(b"first") == b"5\r\n"
    gevent.sleep(0.5)  # longer than any deadline: it is the application that is waited for, not the client
    more.set()
    assert client._until(b"0\r\n\r\n") == b"\r\n6\r\nsecond\r\n"


def test_stream_to_a_client_that_wants_to_close_closes_behind_the_last_chunk(serve: Any) -> None:
    client = serve(streaming(lambda: Pieces([b"a", b"b"])), valid=False).client()
    client.send(stream(b"Connection: close") + CANARY)
    answer, chunks = client.read_chunks()
    assert (answer.headers["connection"], chunks) == ("close", [b"a", b"b"])
    assert client.read() is None


@pytest.mark.parametrize("headers", [(), (b"Connection: keep-alive",)], ids=["", "keep-alive"])
def test_stream_to_http_1_0_has_no_chunks_and_ends_with_the_connection(headers: tuple[bytes, ...], serve: Any) -> None:
    client = serve(streaming(lambda: Pieces([b"a", b"", b"b" * 100_000])), valid=False).client()
    client.send(stream(*headers, version=b"1.0") + CANARY)
    data = b""
    while chunk := client.socket.recv(65_536):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.lower().count(b"\r\nconnection: close") == 1
    assert b"transfer-encoding" not in head.lower()
    assert b"content-length" not in head.lower()
    assert body == b"a" + b"b" * 100_000


def test_stream_that_fails_ends_without_its_last_chunk_and_tells_nothing(serve: Any, capfd: Any) -> None:
    made = []
    running = serve(streaming(lambda: made.append(Pieces(breaks_off())) or made[-1]), valid=False)
    client = running.client()
    client.send(stream(b"X-Request-Id: find-me") + CANARY)
    assert client.read() is not None
    assert client._until(b"second") == b"5\r\nfirst\r\n6\r\n"
    assert client._until(b"\r\n") == b""
    with pytest.raises(GoneError):
        client._until(b"", 1)
    assert [one.closed for one in made] == [1]
    assert "request find-me: the answer broke off: a secret reason" in capfd.readouterr().err
    running.gone()
    [answer] = running.exchange(lines(b"Connection: close", first=b"GET /canary HTTP/1.1"))
    assert answer.body == b"alive"


def test_stream_that_fails_is_reset_for_http_1_0_where_its_end_would_pass_for_whole(serve: Any, capfd: Any) -> None:
    client = serve(streaming(lambda: Pieces(breaks_off())), valid=False).client()
    client.send(stream(version=b"1.0"))
    received = iter(lambda: client.socket.recv(65_536), b"")
    with pytest.raises(ConnectionResetError):
        list(received)
    assert "the answer broke off" in capfd.readouterr().err


def test_stream_that_cannot_be_read_is_not_taken_for_a_client_that_left(serve: Any, capfd: Any) -> None:
    client = serve(streaming(lambda: Pieces(cannot_be_read())), valid=False).client()
    client.send(stream(b"X-Request-Id: find-me"))
    with pytest.raises(GoneError):
        client.read_chunks()
    assert "request find-me: the answer broke off: [Errno 5] a failing disk" in capfd.readouterr().err


def test_stream_asked_for_with_head_sends_no_body_and_no_length_and_the_connection_goes_on(serve: Any) -> None:
    made = []
    client = serve(streaming(lambda: made.append(Pieces([b"a", b"b"])) or made[-1]), valid=False).client()
    client.send(stream(method=b"HEAD") + CANARY)
    answer = client.read(head_only=True)
    assert answer is not None
    assert (answer.status, answer.headers["content-type"]) == (200, "text/x")
    assert "content-length" not in answer.headers
    assert client.good().body == b"alive"
    assert [one.closed for one in made] == [1]


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_client_that_leaves_ends_its_stream(reset: bool, serve: Any, capfd: Any) -> None:
    made = []
    running = serve(streaming(lambda: made.append(Pieces([b"x" * 65_536] * 1_000_000)) or made[-1]), valid=False)
    client = running.client()
    client.send(stream())
    assert client.read() is not None
    if reset:
        client.reset()
    else:
        client.socket.close()
    running.gone()
    assert [one.closed for one in made] == [1]
    assert capfd.readouterr().err == ""  # nothing is wrong here


def test_client_that_takes_nothing_of_a_stream_is_cut_and_the_stream_ended(serve: Any) -> None:
    made = []
    running = serve(streaming(lambda: made.append(Pieces([b"x" * 65_536] * 1_000_000)) or made[-1]), valid=False, **QUICK)
    client = running.client()
    before = monotonic()
    client.send(stream())
    wait_until(lambda: made)
    running.gone()
    assert EARLIEST < monotonic() - before < 5
    assert [one.closed for one in made] == [1]


def wait_until(condition: Callable[[], object]) -> None:
    until = monotonic() + 5
    while not condition():
        assert monotonic() < until
        gevent.sleep(0.005)


# Clients that are slow.

QUICK = {"head": 0.3, "body_grace": 0.3, "write": 0.3, "idle": 0.3}
EARLIEST, LATEST = 0.1, 2.5
"""Seconds between which such a wait ends, on a machine that has other things to do: neither at once
nor with what trickles for 3 s. The server's clock is read at its ticks, so it may be behind by as
much as the process was kept from working.
"""


def trickle(client: Client, piece: bytes, every: float, seconds: float) -> Any:
    """Send a piece again and again in a greenlet of its own, as long as the server takes it."""

    def run() -> None:
        until = monotonic() + seconds
        with suppress(OSError):
            while monotonic() < until:
                client.socket.sendall(piece)
                gevent.sleep(every)

    return gevent.spawn(run)


def timed(client: Client) -> tuple[list[int], float]:
    """Read up to the end; return the statuses and how long it took."""
    before = monotonic()
    return [answer.status for answer in client.rest()], monotonic() - before


def test_idle_connection_is_closed_without_a_word(serve: Any) -> None:
    running = serve(**QUICK)
    fresh, used = running.client(), running.client()
    used.send(CANARY * 2_000)
    for _ in range(2_000):
        used.good()
    for client in (fresh, used):
        client.socket.settimeout(3)
    before = monotonic()
    assert (fresh.rest(), used.rest()) == ([], [])
    assert EARLIEST < monotonic() - before < LATEST
    running.gone()


@pytest.mark.parametrize("start", [b"GET", lines()[:-2], b"GET /x HTTP/1.1\r\nX: "], ids=["method", "headers", "value"])
def test_head_that_stalls_is_answered_408(start: bytes, serve: Any) -> None:
    running = serve(**QUICK)
    client = running.client()
    client.send(start)
    statuses, took = timed(client)
    assert statuses == [408]
    assert EARLIEST < took < LATEST
    running.gone()


def test_head_that_trickles_is_answered_408_at_the_same_time(serve: Any) -> None:
    running = serve(**QUICK)
    client = running.client()
    client.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: ")
    sender = trickle(client, b"a", 0.02, 3)
    statuses, took = timed(client)
    assert statuses == [408]
    assert EARLIEST < took < LATEST
    sender.get(timeout=1)


@pytest.mark.parametrize(
    "data",
    [
        post(b"Content-Length: 50", body=b"abc"),
        post(b"Content-Length: 90000", body=b"x" * 70_000),
        chunked(b"5\r\nhel"),
        chunked(b"5"),
        chunked(b"1\r\nx\r\n" * 15_000),
    ],
    ids=["length", "after a turn", "chunk", "size", "chunks after a turn"],
)
def test_body_that_stalls_is_answered_408(data: bytes, serve: Any) -> None:
    running = serve(**QUICK)
    client = running.client()
    client.send(data)
    statuses, took = timed(client)
    assert statuses == [408]
    assert EARLIEST < took < LATEST
    running.gone()


def test_body_below_the_rate_is_answered_408_and_above_it_served(serve: Any) -> None:
    running = serve(**QUICK, body_rate=2_000)
    slow, steady = running.client(), running.client()
    for client in (slow, steady):
        client.send(post(b"Content-Length: 8000"))
    senders = [trickle(slow, b"x" * 10, 0.02, 3), trickle(steady, b"x" * 200, 0.02, 0.79)]  # 500 and 10,000 bytes a second
    statuses, took = timed(slow)
    assert statuses == [408]
    assert took < LATEST
    steady.send(b"x" * 8_000)  # however many are missing
    assert steady.good().body == b"POST /x? " + b"x" * 8_000
    gevent.joinall(senders, timeout=5)


def test_client_without_an_answer_to_100_continue_is_cut_like_others(serve: Any) -> None:
    client = serve(**QUICK).client()
    client.send(post(b"Expect: 100-continue", b"Content-Length: 5"))
    assert timed(client)[0] == [100, 408]


@pytest.mark.promise("I8")
def test_reader_that_takes_nothing_is_cut(serve: Any) -> None:
    def huge(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start(start_response)
        return [b"x" * 20_000_000]

    running = serve(huge, **QUICK)
    client = running.client()
    before = monotonic()
    client.send(CANARY + CANARY)
    gevent.idle()
    assert len(running.server.connections) == 1
    running.gone()
    assert EARLIEST < monotonic() - before < 5
    with pytest.raises(GoneError):
        client.rest()


def test_reader_that_takes_a_little_is_not_cut(serve: Any) -> None:
    def huge(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start(start_response)
        return [b"x" * 8_000_000]

    client = serve(huge, **QUICK).client()
    client.send(CANARY)
    received, before = 0, monotonic()
    due = 0
    while received < 8_000_000:
        due += 200_000  # of less the kernel would tell the server too late: it does when a third of its buffer is free
        while received < due:
            chunk = client.socket.recv(200_000)
            assert chunk, f"it was cut after {received} bytes"
            received += len(chunk)
        gevent.sleep(0.015)
    assert monotonic() - before > 0.5  # longer than any deadline


def test_application_may_take_longer_than_clients(serve: Any) -> None:
    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        gevent.sleep(0.7)
        return echo(environ, start_response)

    client = serve(slow, **QUICK).client()
    client.send(CANARY)
    assert client.good().body == b"GET /canary? "


# The end.


@dataclass
class Gate:
    """An application that answers when it is told to."""

    entered: Event
    go_on: Event

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            self.entered.set()
            self.go_on.wait(5)
        return echo(environ, start_response)


@pytest.fixture
def gate() -> Gate:
    return Gate(Event(), Event())


def test_drain_closes_the_idle_and_lets_the_running_finish(gate: Gate, serve: Any) -> None:
    running = serve(gate)
    idle, used, busy = (running.client() for _ in range(3))
    used.send(CANARY)
    used.good()
    busy.send(lines(first=b"GET /wait HTTP/1.1") + CANARY)
    assert gate.entered.wait(5)
    drained = gevent.spawn(running.server.drain, 5.0)
    assert (idle.rest(), used.rest()) == ([], [])
    with pytest.raises(OSError, match="refused"):
        Client(running.port)
    assert not drained.ready()
    gate.go_on.set()
    answers = busy.rest()
    assert [answer.body for answer in answers] == [b"GET /wait? ", b"GET /canary? "]
    assert [answer.headers.get("connection") for answer in answers] == ["keep-alive", "close"]
    busy.socket.close()
    assert drained.get(timeout=2) is True


def test_drain_waits_for_a_request_that_is_being_sent(serve: Any) -> None:
    running = serve()
    client = running.client()
    client.send(post(b"Content-Length: 5", body=b"hel"))
    gevent.idle()
    drained = gevent.spawn(running.server.drain, 5.0)
    gevent.sleep(0.05)
    client.send(b"lo")
    [answer] = client.rest()
    assert (answer.body, answer.headers["connection"]) == (b"POST /x? hello", "close")
    client.socket.close()
    assert drained.get(timeout=2) is True


def test_drain_answers_the_next_request_of_who_was_just_answered(serve: Any) -> None:
    running = serve(recent=5.0)
    client = running.client()
    client.send(CANARY)
    assert client.good().headers["connection"] == "keep-alive"
    drained = gevent.spawn(running.server.drain, 5.0)
    gevent.sleep(0.05)
    client.send(CANARY)
    [answer] = client.rest()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    client.socket.close()
    assert drained.get(timeout=2) is True


def test_drain_answers_whoever_waits_for_being_accepted(serve: Any) -> None:
    running = serve()
    with blocking_socket.create_connection(("127.0.0.1", running.port), 5) as client:  # the server has not run since
        client.sendall(CANARY)
        drained = gevent.spawn(running.server.drain, 5.0)
        gevent.sleep(0.05)
        assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
    assert drained.get(timeout=2) is True


def test_drain_answers_pipelined_requests_that_are_here(gate: Gate, serve: Any) -> None:
    running = serve(gate)
    client = running.client()
    client.send(lines(first=b"GET /wait HTTP/1.1") + CANARY)
    assert gate.entered.wait(5)
    client.send(CANARY + CANARY[:9])  # these are still with the kernel
    drained = gevent.spawn(running.server.drain, 5.0)
    gevent.sleep(0.2)
    gate.go_on.set()
    assert [client.good().headers.get("connection") for _ in range(3)] == ["keep-alive"] * 3
    client.send(CANARY[9:] + CANARY)
    [answer] = client.rest()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    client.socket.close()
    assert drained.get(timeout=2) is True


def test_drain_ends_a_client_that_never_stops_pipelining(serve: Any) -> None:
    running = serve()
    client = running.client()
    client.send(CANARY * 20)
    drained = gevent.spawn(running.server.drain, 5.0)
    before = monotonic()
    while (answer := client.read()) is not None and answer.headers["connection"] == "keep-alive":
        client.send(CANARY)
    assert answer is not None
    assert monotonic() - before < 2
    client.socket.close()
    assert drained.get(timeout=2) is True


def test_drain_does_not_reset_who_writes_into_the_end_of_an_idle_connection(serve: Any) -> None:
    running = serve(linger=0.5)
    client = running.client()
    drained = gevent.spawn(running.server.drain, 5.0)
    assert client.rest() == []  # the server has nothing more to say
    for _ in range(3):
        client.socket.sendall(CANARY)
        gevent.sleep(0.02)
        assert client.socket.recv(100) == b""
    client.socket.close()
    assert drained.get(timeout=2) is True


def test_drain_waits_only_so_long_for_who_keeps_an_ended_connection(serve: Any) -> None:
    running = serve(linger=0.2)
    clients = [running.client(), running.client()]
    drained = gevent.spawn(running.server.drain, 5.0)
    assert [client.rest() for client in clients] == [[], []]
    clients[0].socket.sendall(CANARY)
    assert drained.get(timeout=1.5) is True


def test_drain_gives_up_when_its_time_is_over(gate: Gate, serve: Any) -> None:
    running = serve(gate)
    client = running.client()
    client.send(lines(first=b"GET /wait HTTP/1.1"))
    assert gate.entered.wait(5)
    assert running.server.drain(0.1) is False
    gate.go_on.set()
    running.gone()
