"""The baseline: proxy and nodes written the straightforward way, from the libraries that one would reach for.

    python plain.py node 9000
    python plain.py proxy 8080 9000 9001

gevent's own WSGI server, Bottle, ujson both ways, geventhttpclient with keep-alive, `Pool.map`, and a ring of MurmurHash3
tokens searched with bisect. The calls `/set` and `/get` and their answers are gkv's, request order included. What gkv does
beyond that is left out, which is to the baseline's favour: no limits, no deadline, no partial answers.
"""

# Nothing may import a socket before it is patched; and only the program may patch, not whoever imports this file to look at it.
if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import hashlib
import sys
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import ujson
from bottle import Bottle, request, response
from gevent import socket
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer
from geventhttpclient import HTTPClient

try:
    import mmh3
except ImportError:
    mmh3 = None

HOST = "127.0.0.1"
VNODES = 1024
CLIENTS = 32
"""How many clients are expected at a time: each gets a connection of its own to every node."""

Item = dict[str, Any]


def token(key: str) -> int:
    """Return a key's place on the ring."""
    if mmh3 is None:
        return int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest()[:8])
    return mmh3.hash64(key, 0, True, False)[0]  # seed, x64arch, signed


def render_get(keys: Iterable[str], values: dict[str, Any]) -> str:
    """Return the answer to a get, from those of its keys that exist."""
    response.content_type = "application/json"
    answer = {"existedKey": [{"key": key, "value": values[key]} for key in keys if key in values]}
    missing = [{"key": key, "value": ""} for key in keys if key not in values]
    if missing:
        answer["notExistedKey"] = missing
    return ujson.dumps(answer)


class Node:
    """Keeps its part of the data in a dict."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def set(self) -> str:
        for item in ujson.loads(request.body.read()):
            self._values[item["key"]] = item["value"]
        return "Success to set key"

    def get(self) -> str:
        return render_get([item["key"] for item in ujson.loads(request.body.read())], self._values)


class Proxy:
    """Splits a batch by owner, asks the owners in parallel and joins what they say."""

    def __init__(self, ports: list[int]) -> None:
        ring = sorted((token(f"{HOST}:{port}:{i}"), port) for port in ports for i in range(VNODES))
        self._tokens = [at for at, _ in ring]
        self._owners = [port for _, port in ring]
        self._owners.append(self._owners[0])  # of what is past the last token
        # The default block of 4 KiB would read a large answer in many pieces.
        self._clients = {port: HTTPClient(HOST, port, concurrency=CLIENTS, block_size=65_536) for port in ports}
        self._pool = Pool(CLIENTS * len(ports))

    def set(self) -> str:
        return "".join(answer.decode() for answer in self._ask("/set", ujson.loads(request.body.read())))

    def get(self) -> str:
        items = ujson.loads(request.body.read())
        values = {}
        for answer in self._ask("/get", items):
            values.update((item["key"], item["value"]) for item in ujson.loads(answer)["existedKey"])
        return render_get([item["key"] for item in items], values)

    def _ask(self, path: str, items: list[Item]) -> list[bytes]:
        parts: dict[int, list[Item]] = {}
        for item in items:
            parts.setdefault(self._owners[bisect_left(self._tokens, token(item["key"]))], []).append(item)
        return self._pool.map(lambda port: self._post(port, path, parts[port]), parts)

    def _post(self, port: int, path: str, part: list[Item]) -> bytes:
        answer = self._clients[port].post(path, ujson.dumps(part).encode())
        body = answer.read()
        if answer.status_code != 200:
            raise RuntimeError(f"the node on port {port} answers {answer.status_code}")
        return bytes(body)


def serve(port: int, role: Node | Proxy) -> None:
    """Serve /set and /get until the process is ended."""
    app = Bottle()
    app.post("/set", callback=role.set)
    app.post("/get", callback=role.get)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # gevent sends head and body apart; without this, which accepted sockets inherit, each answer waits 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((HOST, port))
    listener.listen(1024)
    WSGIServer(listener, app, log=None).serve_forever()


def main() -> None:
    role, port, *nodes = sys.argv[1:]
    serve(int(port), Node() if role == "node" else Proxy([int(node) for node in nodes]))


if __name__ == "__main__":
    main()
