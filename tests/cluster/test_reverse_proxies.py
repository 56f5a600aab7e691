"""nginx and Varnish in front of a proxy, set up as docs/reverse-proxies.md says: nobody is given an old answer."""

import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cluster.conftest import DEADLINE, Answer, System, free_ports, wait_for

PAGE = Path(__file__).parents[2] / "docs" / "reverse-proxies.md"
SEED = int(os.environ.get("GKV_SEED", "9111"))
KEYS = ["a", "b", "dir/ä", "50%", "x y", "c//d"]
_AT = {program: shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin") for program in ("nginx", "varnishd")}


def block(name: str) -> str:
    """Return what the page has below a comment of this name."""
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, name
    return found[1]


def with_ports(text: str, target: int, own: int) -> str:
    for written, port in (("8080", target), ("8081", own)):
        text = re.sub(rf"\b{written}\b", str(port), text)
    return text


def nginx(directory: Path, target: int, own: int, more: str = "") -> list[str]:
    """Return the command that starts nginx with the page's block, and more lines before it."""
    user = "user root;" if os.geteuid() == 0 else ""
    paths = "".join(f"{name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    http = f"access_log off; {paths}\n{more}\n{with_ports(block('nginx'), target, own)}"
    (directory / "nginx.conf").write_text(f"daemon off; pid nginx.pid; {user} events {{}}\nhttp {{ {http} }}\n")
    return [str(_AT["nginx"]), "-p", str(directory), "-c", "nginx.conf", "-e", "stderr"]


def cached_nginx(directory: Path, target: int, own: int) -> list[str]:
    return nginx(directory, target, own, block("nginx cache"))


def varnish(directory: Path, target: int, own: int) -> list[str]:
    (directory / "gkv.vcl").write_text(with_ports(block("varnish"), target, own))
    where = ["-n", str(directory / "varnish"), "-f", str(directory / "gkv.vcl"), "-a", f"127.0.0.1:{own}"]
    return [str(_AT["varnishd"]), "-F", "-j", "none", "-s", "malloc,16m", *where]


Command = Callable[[Path, int, int], list[str]]
WAYS: dict[str, tuple[str, Command, int]] = {
    "nginx": ("nginx", nginx, 200),  # which keeps nothing anyway
    "nginx with a cache": ("nginx", cached_nginx, 1_000),
    "varnish": ("varnishd", varnish, 1_000),
}
"""What runs, how it is started, and how many changes it sees."""


@contextmanager
def in_front(command: Command, directory: Path, target: int) -> Iterator[int]:
    """Run a reverse proxy in front of a port; give its own port."""
    own = free_ports(1)
    log = directory / "reverse.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command(directory, target, own), stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", own)) == 0

    try:
        wait_for("the reverse proxy", listens)
        yield own
    finally:
        process.terminate()
        process.wait(DEADLINE)


class Client:
    """One connection that stays open, and what is stored by all that went through it."""

    def __init__(self, port: int) -> None:
        """Connect at the first call."""
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        self.stored: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        """Of each key, the tag that was seen last."""
        self.unchanged = 0
        """Answers 304."""
        self.sockets: set[int] = set()

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, data, named)
        response = self.connection.getresponse()
        answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        if self.connection.sock is not None:
            self.sockets.add(self.connection.sock.getsockname()[1])
        return answer

    def change(self, way: str, key: str, value: str) -> None:
        """Change a key; it need not be another value."""
        path = f"/v1/kv/{quote(key)}"
        match way:
            case "PUT":
                assert self.call("PUT", path, value, Content_Type="application/json").status in (201, 204)
            case "PUT on a condition":
                tag = self.tags.get(key, '"0"')
                status = self.call("PUT", path, value, Content_Type="application/json", If_Match=tag).status
                assert status == (204 if key in self.tags else 412)
                if status == 412:
                    return
            case "set":
                assert self.call("POST", "/set", [{"key": key, "value": value}]).status == 200
            case "DELETE":
                assert self.call("DELETE", path).status == (204 if key in self.stored else 404)
            case "delete":
                assert self.call("POST", "/delete", [{"key": key}]).json == {"deleted": int(key in self.stored)}
        if way in ("DELETE", "delete"):
            self.stored.pop(key, None)
        else:
            self.stored[key] = value

    def look(self, key: str) -> None:
        """Ask for a key, as a value and in a batch; both must know the last change."""
        path, value = f"/v1/kv/{quote(key)}", self.stored.get(key)
        old = self.tags.pop(key, "")
        answer = self.call("GET", path, **({"If_None_Match": old} if old else {}))
        batch = self.call("GET", f"/get?key={quote(key)}").json
        if value is None:
            assert answer.status == 404, key
            assert batch == {"existedKey": [], "notExistedKey": [{"key": key, "value": ""}]}
            return
        assert batch == {"existedKey": [{"key": key, "value": value}]}
        self.tags[key] = tag = answer.headers["etag"]
        if answer.status == 304:
            assert tag == old
            self.unchanged += 1
        else:  # also of a value that the client has: nginx with a cache does not hand the condition on
            assert (answer.status, answer.json) == (200, value), key

    def look_at_more(self, key: str) -> None:
        """Ask for a key in the other ways."""
        path, value = f"/v1/kv/{quote(key)}", self.stored.get(key)
        head = self.call("HEAD", path)
        assert (head.status, head.body) == (404 if value is None else 200, b""), key
        if value is not None:
            assert head.headers["etag"] == self.tags[key]
            assert int(head.headers["content-length"]) == len(json.dumps(value))
            self.look(key)  # under a condition that holds no more
        listed = self.call("GET", f"/v1/kv?prefix={quote(key, safe='')}").json["keys"]
        assert (key in listed) is (value is not None)


@pytest.mark.parametrize("name", WAYS)
def test_no_answer_is_older_than_the_last_change(name: str, system: System) -> None:
    program, command, changes = WAYS[name]
    if _AT[program] is None:
        pytest.skip(f"{program} is not installed (Debian: nginx-light, varnish)")
    proxy = system.proxy("--engine", "memory")
    system.node(proxy, "--engine", "memory")
    rng = random.Random(SEED)
    ways = ["PUT", "PUT on a condition", "set", "DELETE", "delete"]
    with ExitStack() as stack:
        port = stack.enter_context(in_front(command, system.directory, proxy.port))
        client = Client(port)
        stack.enter_context(closing(client.connection))
        for number in range(changes):
            key = rng.choice(KEYS)
            client.change(rng.choice(ways), key, f"value {number}")
            client.look(key)
            if number % 5 == 0:
                client.look_at_more(key)
        assert (client.unchanged > 0) is (command is not cached_nginx)
        assert len(client.sockets) <= 1 + changes // 100, "the connection was not kept"
        coded = client.call("POST", "/set", b"\x1f\x8b", Content_Encoding="gzip")
        assert (coded.status, coded.headers["accept-encoding"]) == (415, "identity")
        assert client.call("GET", "/livez", Host="kv.example").status == 421
        # Varnish drops the body, which leaves a call without keys.
        assert client.call("GET", "/get", [{"key": "a"}]).status == (400 if command is varnish else 200)
