"""What one client waits that gets one key after the other, over one connection that is kept alive.

    python benchmarks/http/latency.py [--url http://127.0.0.1:8080] [--requests 5000]

Without --url it starts gkv, a proxy with two nodes, for itself. Prints min, median, p99 and max in milliseconds. The client
is a bare socket with one send for each request: http.client would add more than there is to measure.
"""

import argparse
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from systems import HOST, StartError, gkv

WARM_UP = 200
KEY = "latency:key"
VALUE = "v" * 100


class Client:
    """A connection, for POST requests with a JSON body."""

    def __init__(self, host: str, port: int) -> None:
        self._name = f"{host}:{port}"
        self._socket = socket.create_connection((host, port), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, path: str, body: str) -> bytes:
        """Return a request as it goes over the wire."""
        head = f"POST {path} HTTP/1.1\r\nHost: {self._name}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    def call(self, request: bytes) -> bytes:
        """Send a request and return the body of the answer. Raise StartError on any other status than 200."""
        self._socket.sendall(request)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._receive()
        head = answer[:end].lower()
        if not head.startswith(b"http/1.1 200 "):
            raise StartError(f"the answer is {answer[:200]!r}")
        length = int(head.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0])
        while len(answer) < end + 4 + length:
            answer += self._receive()
        return answer[end + 4 :]

    def _receive(self) -> bytes:
        chunk = self._socket.recv(65_536)
        if not chunk:
            raise StartError("the server has closed the connection")
        return chunk

    def close(self) -> None:
        self._socket.close()


def measure(client: Client, count: int) -> list[float]:
    """Return how many milliseconds each of `count` gets took, sorted."""
    client.call(client.request("/set", f'[{{"key":"{KEY}","value":"{VALUE}"}}]'))
    get = client.request("/get", f'[{{"key":"{KEY}"}}]')
    if VALUE.encode() not in client.call(get):
        raise StartError("the value that was set does not come back")
    for _ in range(WARM_UP):
        client.call(get)
    took = []
    for _ in range(count):
        start = time.perf_counter()
        client.call(get)
        took.append((time.perf_counter() - start) * 1e3)
    return sorted(took)


def main() -> int:
    """Run the measurement; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", help="of a running system (default: start gkv)")
    parser.add_argument("--requests", type=int, default=5_000, help="how many gets (default: %(default)s)")
    parser.add_argument("--port", type=int, default=18_080, help="first of three ports, without --url (default: %(default)s)")
    options = parser.parse_args()
    try:
        with ExitStack() as stack:
            host, port = HOST, options.port
            if options.url:
                parts = urlsplit(options.url)
                host, port = parts.hostname or HOST, parts.port or 80
            else:
                directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="gkv-bench-"))
                stack.enter_context(gkv(port, Path(directory)))
            client = Client(host, port)
            stack.callback(client.close)
            took = measure(client, options.requests)
    except (StartError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    count = len(took)
    print(f"{count} gets of one key: min {took[0]:.3f}  median {took[count // 2]:.3f}", end="")
    print(f"  p99 {took[count * 99 // 100]:.3f}  max {took[-1]:.3f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
