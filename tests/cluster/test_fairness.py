"""One request must not stop a process: others are answered while a large body is read or refused, or
a large answer is made.
"""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gkv import native
from tests.cluster.conftest import DEADLINE, Program, System, Worker

pytestmark = pytest.mark.undisturbed

MIB = 1 << 20
SIZE = 31 * MIB
SAMPLES = 20
BOUND = 0.25
"""Seconds that others typically wait at most, on a machine that has other things to do."""

CONNECTIONS, INFLIGHT, BUFFERED, LARGEST = 64, 32, 64 * MIB, 32 * MIB
SETTINGS = ["--max-inflight", str(INFLIGHT), "--max-buffered", "64MiB", "--max-body", "32MiB", "--max-answer", "32MiB"]
PROXY_MEMORY = 100 * MIB + 65_536 * CONNECTIONS + 262_144 * INFLIGHT + 3 * BUFFERED + 4 * LARGEST
"""As docs/operations.md reckons it, "Memory and overload"."""


def batch(items: Iterator[bytes] | list[bytes], end: bytes = b"]") -> bytes:
    return b"[" + b",".join(items) + end


def filled(element: bytes, size: int = MIB - 3) -> bytes:
    """Return an array of as many equal elements as go into a value."""
    return b"[" + b",".join([element] * (size // (len(element) + 1))) + b"]"


def valued(value: bytes, count: int = 31) -> bytes:
    return batch([b'{"key":"k%d","value":%b}' % (i, value) for i in range(count)])


def plain(count: int = 9_900, last: bytes = b"") -> list[bytes]:
    """Return items of a body of 31 MiB."""
    value = b"v" * (SIZE // 9_900 - 40)
    items = [b'{"key":"k%d","value":"%b"}' % (i, value) for i in range(count)]
    return [*items, last] if last else items


def members(count: int = 95_000) -> bytes:
    return b"{" + b",".join([b'"k%d":0' % i for i in range(count)])[: MIB - 12].rpartition(b",")[0] + b"}"


BODIES: dict[str, tuple[int, Callable[[], bytes]]] = {
    # name: (status, body)
    "valid items": (200, lambda: batch(plain())),
    "a ttl among them": (200, lambda: batch(plain(last=b'{"key":"t","value":1,"ttl":60}'))),
    "a ttl that C leaves": (200, lambda: batch(plain(last=b'{"key":"t","value":1,"ttl":6e1}'))),
    "an escaped key among them": (200, lambda: batch(plain(last=rb'{"key":"\u00e9","value":1}'))),
    "an escaped name among them": (200, lambda: batch(plain(last=rb'{"\u006bey":"e","value":1}'))),
    "json.dumps of keys beyond ASCII": (
        200,
        lambda: json.dumps([{"key": f"ключ{i}", "value": "ж" * 510, "ttl": 1.5} for i in range(9_900)]).encode(),
    ),
    "a comma at the end": (400, lambda: batch(plain(), b",]")),
    "the end is missing": (400, lambda: batch(plain(), b"")),
    "UTF-8 wrong at the end": (400, lambda: batch(plain(), b',{"key":"\xff","value":1}]')),
    "a member twice at the end": (400, lambda: batch(plain(last=b'{"key":"a","key":"b","value":1}'))),
    "one string of 30 MiB": (413, lambda: b'[{"key":"a","value":"%b"}]' % (b"x" * (30 * MIB))),
    "one array of 30 MiB": (413, lambda: b'[{"key":"a","value":%b}]' % filled(b"1", 30 * MIB)),
    "one number of 30 MiB": (413, lambda: b'[{"key":"a","value":%b}]' % (b"1" * (30 * MIB))),
    "one key of 30 MiB": (413, lambda: b'[{"key":"%b","value":1}]' % (b"k" * (30 * MIB))),
    "30 MiB of white space": (200, lambda: b'[{"key":"a",%b"value":1}]' % (b" " * (30 * MIB))),
    "arrays of -1": (200, lambda: valued(filled(b"-1"))),
    "arrays of 1e1": (200, lambda: valued(filled(b"1e1"))),
    "arrays of 1e222": (200, lambda: valued(filled(b"1e222"), 1)),
    "arrays of arrays": (200, lambda: valued(filled(b"[]"))),
    "arrays of arrays of numbers that C leaves": (200, lambda: valued(filled(b"[[1e222]]"), 1)),
    "objects of 95,000 members": (200, lambda: valued(members(), 2)),
    "strings of escapes": (200, lambda: valued(b'"' + rb"\ud83d\ude00" * 87_000 + b'"')),
}

if native.extension is None:  # the twin takes seconds for each, so a few of other kinds stand for all
    BODIES = {name: BODIES[name] for name in ("a comma at the end", "arrays of 1e222", "objects of 95,000 members")}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Program]]:
    system = System(tmp_path_factory.mktemp("system"))
    proxy = system.proxy(*SETTINGS)
    node = system.node(proxy, "--max-body", "32MiB", "--max-answer", "32MiB", "--engine", "memory")
    assert proxy.call("POST", "/set", [{"key": "mine", "value": 1}]).status == 200
    yield [proxy, node]
    system.end()


class Hostile(Worker):
    """Sends the same request again and again."""

    def __init__(self, program: Program, method: str, path: str, body: bytes | None, chunked: bool) -> None:
        self._request = (method, path, body, {"Transfer-Encoding": "chunked"} if chunked else {})
        self._port = program.port
        self.statuses: list[int] = []
        super().__init__()

    def _run(self) -> None:
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            connection.request(*self._request)
            answer = connection.getresponse()
            answer.read()
            self.statuses.append(answer.status)
            connection.close()


def peak(program: Program) -> int:
    """Return the most bytes of memory that a process has had since `forget_peak`."""
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak(program: Program) -> None:
    Path(f"/proc/{program.process.pid}/clear_refs").write_text("5")


def latencies(program: Program, hostile: Hostile) -> dict[str, list[float]]:
    """Ask for somebody else while the hostile requests are in work; return how long each answer took."""
    took: dict[str, list[float]] = {"/livez": [], "/get?key=mine": []}
    connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=60)
    until = time.monotonic() + 2 * DEADLINE
    while len(took["/livez"]) < SAMPLES or not hostile.statuses:
        assert time.monotonic() < until
        for path, times in took.items():
            start = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            times.append(time.perf_counter() - start)
            assert answer.status == 200
    connection.close()
    return took


def typical(times: list[float]) -> float:
    """Return the median wait of those who come at any moment: a wait counts for as long as it lasts.

    The plain median would not do, since many quick answers fit between two slow ones.
    """
    half, passed = sum(times) / 2, 0.0
    for wait in sorted(times):
        passed += wait
        if passed >= half:
            break
    return wait


def check_fair(program: Program, method: str, path: str, body: bytes | None, *, chunked: bool = False) -> set[int]:
    """Check that others are answered in time; return the hostile requests' statuses."""
    hostile = Hostile(program, method, path, body, chunked)
    try:
        took = latencies(program, hostile)
    finally:
        hostile.stop()
    waits = {path: typical(times) for path, times in took.items()}
    print({path: f"typical {1e3 * waits[path]:.0f} ms, worst {1e3 * max(times):.0f} ms" for path, times in took.items()})
    assert max(waits.values()) < BOUND
    return set(hostile.statuses)


@pytest.mark.promise("I12")
@pytest.mark.parametrize(("status", "body"), BODIES.values(), ids=BODIES.keys())
def test_others_are_answered_while_a_large_body_is_read_or_refused(
    programs: list[Program], status: int, body: Callable[[], bytes]
) -> None:
    proxy = programs[0]
    forget_peak(proxy)
    assert check_fair(proxy, "POST", "/set", body()) == {status}
    print(f"peak {peak(proxy) >> 20} MiB")
    assert peak(proxy) < PROXY_MEMORY


def test_others_are_answered_while_tiny_chunks_are_read(programs: list[Program]) -> None:
    body = b'[{"key":"a","value":"%b"}]' % (b"x" * 100_000)
    chunks = b"".join([b"1\r\n%c\r\n" % byte for byte in body]) + b"0\r\n\r\n"
    assert check_fair(programs[0], "POST", "/set", chunks, chunked=True) == {200}


ASKED = json.dumps([{"key": f"listed/{i}"} for i in range(10_000)]).encode()
ANSWERS: dict[str, tuple[str, str, bytes | None]] = {
    "a get of 24 MiB": ("POST", "/get", json.dumps([{"key": f"large/{i}"} for i in range(24)]).encode()),
    "a get of 10,000 keys": ("POST", "/get", ASKED),
    "a get by query of as many keys as a target has room for": ("GET", "/get?" + "&".join(["key=mine"] * 900), None),
    "a locate of 10,000 keys": ("POST", "/locate", ASKED),
    "a listing of 10,000 keys": ("GET", "/v1/kv?prefix=listed/&limit=10000", None),
    "a listing with values": ("GET", "/v1/kv?prefix=large/&values=1", None),
    "a delete of 10,000 keys": ("POST", "/delete", json.dumps([{"key": f"gone/{i}"} for i in range(10_000)]).encode()),
}


@pytest.fixture(scope="module")
def stored(programs: list[Program]) -> Program:
    """Give the proxy, with what large answers are made of."""
    value = "x" * (MIB - 2)
    large = json.dumps([{"key": f"large/{i}", "value": value} for i in range(24)]).encode()
    listed = json.dumps([{"key": f"listed/{i}", "value": "v" * 100} for i in range(10_000)]).encode()
    for body in (large, listed):
        assert programs[0].call("POST", "/set", body).status == 200
    return programs[0]


@pytest.mark.promise("I12")
@pytest.mark.parametrize(("method", "path", "body"), ANSWERS.values(), ids=ANSWERS.keys())
def test_others_are_answered_while_a_large_answer_is_made(stored: Program, method: str, path: str, body: bytes | None) -> None:
    assert check_fair(stored, method, path, body) == {200}
