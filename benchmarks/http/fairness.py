"""The waits of others while a process reads, serves or refuses one request that costs as much as a request may.

    python benchmarks/http/fairness.py [--rounds 5] [--engine lmdb] [--only TEXT;..]

It starts gkv, a proxy with two nodes, and sends each of the costly requests some times, while two other clients ask for
`/livez` and for one key without a pause. The longest answer of each while one costly request is under way is what it costs
the others; printed are the median and the greatest of these over the rounds, in milliseconds, how long the costly request
took, its status, and the peak memory of the proxy and the largest node in MiB. `GKV_NATIVE=off` measures the pure twins.
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from run import positive
from systems import HOST, StartError, System, gkv

MIB = 1 << 20
BODY = 31 * MIB
PAUSE = 0.2
"""Seconds before and after each costly request."""
_ITEMS = 9_000


@dataclass(frozen=True, slots=True)
class Costly:
    """A request; its body is made when it is needed."""

    method: str
    path: str
    body: Callable[[], bytes]
    before: "tuple[Costly, ...]" = ()
    """Requests that it needs to have been made."""


def items(total: int = BODY, count: int = _ITEMS, extra: bytes = b"", name: str = "k") -> bytes:
    """Return a batch of `count` items with text values, of about `total` bytes; the last item has `extra` members."""
    text = b"v" * (total // count - 40)
    rows = [b'{"key":"%b%d","value":"%b"}' % (name.encode(), i, text) for i in range(count)]
    rows[-1] = rows[-1][:-1] + extra + b"}"
    return b"[%b]" % b",".join(rows)


def large(value: bytes, count: int = 31) -> bytes:
    """Return a batch of `count` items, each with this value."""
    return b"[%b]" % b",".join(b'{"key":"l%d","value":%b}' % (i, value) for i in range(count))


def filled(unit: bytes, start: bytes = b"[", end: bytes = b"]", size: int = MIB - 64) -> bytes:
    """Return an array of so many bytes at most, of one element again and again."""
    return start + b",".join([unit] * ((size - 2) // (len(unit) + 1))) + end


def members(count: int = 95_000) -> bytes:
    return b"{%b}" % b",".join(b'"k%d":0' % i for i in range(count))


def keys(count: int = _ITEMS, name: str = "k") -> bytes:
    return b"[%b]" % b",".join(b'{"key":"%b%d"}' % (name.encode(), i) for i in range(count))


SET_LARGE = Costly("POST", "/set", lambda: items(BODY))
SET_HUGE = tuple(
    Costly("POST", "/set", lambda part=part: large(b'"%b"' % (b"x" * (MIB - 2)), 31).replace(b'"l', b'"h%d-' % part))
    for part in range(2)
)
COSTLY = {
    "set 31 MiB": SET_LARGE,
    "set 31 MiB, one ttl": Costly("POST", "/set", lambda: items(extra=b',"ttl":60')),
    "set 31 MiB, all ttl": Costly("POST", "/set", lambda: items().replace(b'"}', b'","ttl":60.5}')),
    "set 31 MiB, one escaped key": Costly("POST", "/set", lambda: items().replace(b'"k5"', b'"\\u006b5"')),
    "set 31 MiB, json.dumps of non-ASCII keys": Costly(
        "POST", "/set", lambda: json.dumps([{"key": f"é{i}", "value": "ü" * 500} for i in range(_ITEMS)]).encode()
    ),
    "set 31 MiB, comma at the end": Costly("POST", "/set", lambda: items()[:-1] + b",]"),
    "set 31 MiB, unknown member": Costly("POST", "/set", lambda: items(extra=b',"x":1')),
    "set one string of 30 MiB": Costly("POST", "/set", lambda: large(b'"%b"' % (b"x" * 30 * MIB), 1)),
    "set one array of 30 MiB": Costly("POST", "/set", lambda: large(filled(b"-1", size=30 * MIB), 1)),
    "set 31 x [-1,..]": Costly("POST", "/set", lambda: large(filled(b"-1"))),
    "set 31 x [1e1,..]": Costly("POST", "/set", lambda: large(filled(b"1e1"))),
    "set 31 x [1e308,..]": Costly("POST", "/set", lambda: large(filled(b"1e308"))),
    "set 31 x [[],..]": Costly("POST", "/set", lambda: large(filled(b"[]"))),
    'set 31 x ["\\u00e9",..]': Costly("POST", "/set", lambda: large(filled(b'"\\u00e9"'))),
    "set 31 x 95,000 members": Costly("POST", "/set", lambda: large(members())),
    "get 10,000 keys": Costly("POST", "/get", keys, (SET_LARGE,)),
    "get 62 MiB": Costly(
        "POST",
        "/get",
        lambda: b"[%b]" % b",".join(b'{"key":"h%d-%d"}' % (part, i) for part in range(2) for i in range(31)),
        SET_HUGE,
    ),
    "get 10,000 escaped keys": Costly("POST", "/get", lambda: keys().replace(b'"k', b'"\\u006b'), (SET_LARGE,)),
    "get 31 MiB of keys, wrong": Costly("POST", "/get", lambda: b"[" + b'{"key":"k"},' * (BODY // 12)),
    "get by query": Costly("GET", "/get?" + "&".join(f"key=k{i}" for i in range(900)), lambda: b"", (SET_LARGE,)),
    "locate 10,000 keys": Costly("POST", "/locate", keys),
    "list 10,000 keys": Costly("GET", "/v1/kv?limit=10000", lambda: b"", (SET_LARGE,)),
    "list values": Costly("GET", "/v1/kv?limit=100&values=1&prefix=h", lambda: b"", SET_HUGE),
    "delete 10,000 keys": Costly("POST", "/delete", keys, (SET_LARGE,)),
    "put 30 MiB": Costly("PUT", "/v1/kv/large", lambda: b"x" * 30 * MIB),
}


def call(port: int, request: Costly, body: bytes) -> int:
    """Make one call; return the status."""
    connection = http.client.HTTPConnection(HOST, port, timeout=120)
    try:
        with suppress(OSError):  # it may be refused before the body was sent whole
            connection.request(request.method, request.path, body or None)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return response.status
    finally:
        connection.close()


class Prober:
    """A client that asks for one path without a pause, in a thread, until it is told to stop."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._path = path
        self._answers: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=120)
        while not self._stop.is_set():
            started = time.perf_counter()
            connection.request("GET", self._path)
            connection.getresponse().read()
            self._answers.append((started, time.perf_counter()))
            time.sleep(0.001)
        connection.close()

    def longest(self, since: float, until: float) -> float:
        """Return the longest of the answers that were waited for between two moments, in milliseconds."""
        return max(((end - start) * 1e3 for start, end in self._answers if end > since and start < until), default=0.0)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def measure(system: System, request: Costly, rounds: int) -> tuple[list[list[float]], list[float], set[int]]:
    """Make the request some times; return what others waited for each time, how many seconds it took, and how it ended."""
    body = request.body()
    for needed in request.before:
        call(system.port, needed, needed.body())
    took: list[float] = []
    statuses: set[int] = set()
    probers = [Prober(system.port, path) for path in ("/livez", "/get?key=probe")]
    waited: list[list[float]] = [[] for _ in probers]
    try:
        for _ in range(rounds):
            time.sleep(PAUSE)
            started = time.perf_counter()
            statuses.add(call(system.port, request, body))
            ended = time.perf_counter()
            took.append(ended - started)
            time.sleep(PAUSE)
            for prober, found in zip(probers, waited, strict=True):
                found.append(prober.longest(started, ended))
    finally:
        for prober in probers:
            prober.stop()
    return waited, took, statuses


def peak(pid: int) -> int:
    """Return the most memory that a process has had, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=positive, default=5, help="for each costly request (default: 5)")
    parser.add_argument("--engine", choices=("memory", "lmdb"), default="lmdb", help="of the nodes (default: lmdb)")
    parser.add_argument("--only", default="", help="only requests whose names have one of these texts, separated by ;")
    parser.add_argument("--python", default=sys.executable, help="the Python of another build (default: this one)")
    parser.add_argument("--port", type=positive, default=18_380, help="first of three ports to use (default: 18380)")
    options = parser.parse_args()
    wanted = [text for text in options.only.split(";") if text] or [""]
    print(f"{'ms: median, greatest':42} {'/livez':>15} {'one key':>15} {'took s':>7}  status  proxy, node MiB")
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gkv-bench-")))
            system = stack.enter_context(gkv(options.port, directory, options.engine, python=options.python))
            for name, request in COSTLY.items():
                if not any(text in name for text in wanted):
                    continue
                waited, took, statuses = measure(system, request, options.rounds)
                figures = "".join(f" {median(found):7.1f} {max(found):7.1f}" for found in waited)
                memory = {role: peak(pid) for role, pid in system.processes.items()}
                nodes = max(size for role, size in memory.items() if role != "proxy")
                ended = ",".join(map(str, sorted(statuses)))
                print(f"{name:42}{figures} {median(took):7.2f}  {ended:6} {memory['proxy']:7} {nodes:5}", flush=True)
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
