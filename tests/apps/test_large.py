"""Requests and answers of many megabytes: whoever else is served by the process has a turn all the
while.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import gevent
import pytest

from gkv.api.access import Role
from gkv.api.http import Request, Response, Routes, render_unread
from gkv.api.operation import Unlisted
from gkv.model import Outcome
from gkv.net.admission import MEMBERS
from gkv.net.call import ask_all
from gkv.net.channel import Channel, ChannelLimits
from gkv.net.server import Server, ServerLimits, listen
from gkv.net.tls import Tls
from gkv.sources import parse
from tests.certificates import Authority

MIB = 1 << 20
BODY, ANSWER = 31 * MIB, 64 * MIB
GAP = 0.05
"""Seconds of CPU between two turns of others."""

CLIENT = """
import socket, ssl, sys
port, tls, sent, wanted = map(int, sys.argv[1:])
sock = socket.create_connection(("127.0.0.1", port))
if tls:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sock = context.wrap_socket(sock)
sock.sendall(b"POST /large HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: %d\\r\\n\\r\\n" % sent)
sock.sendall(bytes(sent))
data, buffer = b"", bytearray(1 << 20)
while b"\\r\\n\\r\\n" not in data:
    data += sock.recv(65536)
left = wanted - len(data.partition(b"\\r\\n\\r\\n")[2])
while left > 0:
    count = sock.recv_into(buffer)
    assert count
    left -= count
"""


@contextmanager
def gaps() -> Iterator[list[float]]:
    """Measure how long this process worked without a turn for others; the one number is there at
    the end.

    Its CPU time counts, since other processes may keep it from working at all.
    """
    worst = [0.0]

    def tick() -> None:
        before = process_time()
        while True:
            gevent.sleep(0.001)
            worst[0] = max(worst[0], process_time() - before)
            before = process_time()

    ticking = gevent.spawn(tick)
    yield worst
    ticking.kill()


@pytest.fixture
def serve() -> Iterator[Any]:
    """Start a server that answers a large body with a larger one, and frames with what they ask
    for.
    """
    servers = []

    def start(tls: Tls | None = None) -> int:
        routes = Routes()
        first, *parts = bytes(MIB), bytes(MIB), bytes(ANSWER - 2 * MIB)

        def large(request: Request) -> Response:
            assert len(request.body(BODY)) == BODY
            return Response(first, parts=parts)

        routes.add("POST", "/large", large, doc=Unlisted("a test's"), role=Role.OPEN, lane=MEMBERS)
        servers.append(Server(routes, listen("127.0.0.1", 0), render_unread, (), ServerLimits(), tls=tls))
        servers[-1].start()
        return int(servers[-1].server_port)

    yield start
    for server in servers:
        server.drain(0)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_large_body_and_answer_hold_nobody_up(serve: Any, tmp_path: Path, tls: bool) -> None:
    port = serve(Tls(parse("proxy", Authority(tmp_path).member.flags, {})) if tls else None)
    command = [sys.executable, "-c", CLIENT, *map(str, (port, int(tls), BODY, ANSWER))]
    with gaps() as worst, subprocess.Popen(command) as client:
        while client.poll() is None:
            gevent.sleep(0.005)
        assert client.returncode == 0
    print(f"\nworst gap {worst[0] * 1e3:.1f} ms")
    assert worst[0] < GAP


PEER = """
import socket, ssl, sys
cert, key, received, sent = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sock, _ = listener.accept()
if cert:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    sock = context.wrap_socket(sock, server_side=True)
data, buffer = b"", bytearray(1 << 20)
while b"\\r\\n\\r\\n" not in data:
    data += sock.recv(65536)
head, _, rest = data.partition(b"\\r\\n\\r\\n")
left = int(head.rpartition(b"Content-Length: ")[2]) - len(rest)
while left > 0:
    count = sock.recv_into(buffer)
    assert count
    left -= count
body = b"gkv/2 0000000000000000 7 %d,2,%d\\n%bok%b" % (sent // 2, sent // 2, bytes(sent // 2), bytes(sent // 2))
sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
sock.recv(1)
"""


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_large_frames_of_a_request_and_its_answer_hold_nobody_up(tmp_path: Path, tls: bool) -> None:
    files = Authority(tmp_path).member
    command = [sys.executable, "-c", PEER, *((str(files.cert), str(files.key)) if tls else ("", "")), str(BODY), str(ANSWER)]
    frames = [bytes(BODY), b"small", bytes(3 * MIB)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        url = f"{'https' if tls else 'http'}://127.0.0.1:{node.stdout.readline().strip()}"
        channel = Channel(url, ChannelLimits(gathered_bytes=ANSWER), tls=Tls(parse("proxy", files.flags, {})) if tls else None)
        try:
            with gaps() as worst:
                replies = ask_all([(channel, frame) for frame in frames], monotonic() + 20)
            assert [(reply.outcome, len(reply.frame)) for reply in replies] == [
                (Outcome.ANSWERED, ANSWER // 2),
                (Outcome.ANSWERED, 2),
                (Outcome.ANSWERED, ANSWER // 2),
            ]
        finally:
            channel.close()
    print(f"\nworst gap {worst[0] * 1e3:.1f} ms")
    assert worst[0] < GAP
