"""A million keys on disk: loading, listing all of them while writes go on, what a node's loop waits, and the time to be ready.

    python benchmarks/http/million.py [--keys 1000000] [--port 18080]

Starts a proxy and two nodes with records on disk in a temporary directory, and sets the keys with 8 clients in batches of
1,000. While another client goes on writing keys that come and go, it lists all keys by prefix, page by page, and checks that
each is there exactly once. While keys are set, a client asks each node for /livez every 5 ms: what it waits beyond the usual is
how long the loop of the node stood still, for whatever reason. In the end it kills everything, and says how long a start takes.

Exit code 0 if every key was listed once and all was there after the start.
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

HOST = "127.0.0.1"
BATCH = 1_000
PAGE = 10_000
CLIENTS = 8
VALUE = "v" * 100
NODES = 2
START_WITHIN = 60.0


def key(i: int) -> str:
    return f"k/{i:09d}"


class Client:
    """One connection that is kept alive."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=60)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of the answer, or its text. Raise OSError on any other status than 200."""
        self._connection.request(method, path, None if body is None else json.dumps(body))
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise OSError(f"{method} {path[:80]}: {response.status} {answer[:300]!r}")
        return json.loads(answer) if response.getheader("Content-Type") == "application/json" else answer.decode()


class System:
    """A proxy and its nodes, each a process that can be killed."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> float:
        """Start all; return the seconds until every node can answer for its keys."""
        begun = time.perf_counter()
        commands = [["proxy", "--port", str(self.port)]]
        commands += [["node", str(self.port + i), "--proxy", f"http://{HOST}:{self.port}"] for i in range(1, NODES + 1)]
        with (self._directory / "log").open("ab") as log:
            for command in commands:
                program = [sys.executable, "-P", "-m", "gkv.cli", *command]
                self._processes.append(subprocess.Popen(program, cwd=self._directory, stdout=log, stderr=log))
        while not all(self._ready(self.port + i) for i in range(1, NODES + 1)):
            if time.perf_counter() - begun > START_WITHIN or any(process.poll() is not None for process in self._processes):
                sys.exit(f"the system does not start:\n{(self._directory / 'log').read_text()}")
            time.sleep(0.005)
        return time.perf_counter() - begun

    def _ready(self, port: int) -> bool:
        try:
            return str(Client(port).call("GET", "/readyz")) == "ok\n"
        except (OSError, http.client.HTTPException):
            return False

    def kill(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
        for process in self._processes:
            process.wait()
        self._processes = []


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work(0)` .. `work(count - 1)` in threads, to the end of all; exit on the first error."""
    errors: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            work(i)
        except BaseException as error:  # noqa: BLE001  # told in the main thread
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        sys.exit(f"{type(errors[0]).__name__}: {errors[0]}")


class Probe:
    """Asks one node for /livez again and again, and keeps how long each answer took, in ms."""

    def __init__(self, port: int) -> None:
        self.took: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(port,), daemon=True)
        self._thread.start()

    def _run(self, port: int) -> None:
        client = Client(port)
        while not self._ended.wait(0.005):
            begun = time.perf_counter()
            client.call("GET", "/livez")
            self.took.append((time.perf_counter() - begun) * 1e3)

    def end(self) -> str:
        self._ended.set()
        self._thread.join()
        took = sorted(self.took)
        return f"median {took[len(took) // 2]:.1f}  p99 {took[len(took) * 99 // 100]:.1f}  max {took[-1]:.1f} ms of {len(took)}"


def load(port: int, count: int) -> None:
    """Set all keys with several clients."""
    done = [0] * CLIENTS

    def work(i: int) -> None:
        client = Client(port)
        for start in range(i * BATCH, count, CLIENTS * BATCH):
            client.call("POST", "/set", [{"key": key(j), "value": VALUE} for j in range(start, min(start + BATCH, count))])
            done[i] += 1
            print(f"\rset {min(sum(done) * BATCH, count):>9,} of {count:,}", end="", file=sys.stderr, flush=True)

    in_threads(CLIENTS, work)
    print(file=sys.stderr)


def list_all(port: int) -> tuple[list[str], int]:
    """Return all keys as the listing gives them, and how many pages they took."""
    client = Client(port)
    listed: list[str] = []
    pages = 0
    cursor = ""
    while True:
        page = client.call("GET", f"/v1/kv?prefix={quote('k/')}&limit={PAGE}" + (cursor and f"&cursor={cursor}"))
        listed += page["keys"]
        pages += 1
        print(f"\rlisted {len(listed):>9,}", end="", file=sys.stderr, flush=True)
        if page["complete"]:
            print(file=sys.stderr)
            return listed, pages
        cursor = page["cursor"]


def main() -> int:
    """Run the measurement; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, default=1_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--port", type=int, default=18_080, help="first of three ports (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gkv-million-") as directory:
        system = System(Path(directory), options.port)
        try:
            return measure(system, options.keys)
        finally:
            system.kill()


def measure(system: System, count: int) -> int:
    print(f"# {count:,} keys, values of {len(VALUE)} bytes, {NODES} nodes, {os.cpu_count()} cores")
    print(f"first start, with empty directories: ready after {system.start():.2f} s")
    ports = [system.port + i for i in range(1, NODES + 1)]

    probes = [Probe(port) for port in ports]
    begun = time.perf_counter()
    load(system.port, count)
    seconds = time.perf_counter() - begun
    print(f"set in {seconds:.1f} s, {count / seconds:,.0f} keys a second")
    for port, probe in zip(ports, probes, strict=True):
        print(f"  /livez of node {port} meanwhile: {probe.end()}")

    ended = threading.Event()
    written = [0]

    def go_on_writing() -> None:
        client = Client(system.port)
        while not ended.is_set():
            batch = [f"k/{i:09d}/brief" for i in range(written[0] % count, written[0] % count + 100)]
            client.call("POST", "/set", [{"key": name, "value": 1} for name in batch])
            client.call("POST", "/delete", [{"key": name} for name in batch])
            written[0] += 100

    writer = threading.Thread(target=go_on_writing, daemon=True)
    writer.start()
    begun = time.perf_counter()
    listed, pages = list_all(system.port)
    seconds = time.perf_counter() - begun
    ended.set()
    writer.join()
    lasting = [name for name in listed if not name.endswith("/brief")]
    once = lasting == [key(i) for i in range(count)]
    print(f"listed in {pages} pages and {seconds:.1f} s, while {written[0]:,} keys came and went: ", end="")
    print(f"{'every key exactly once, in order' if once else 'NOT every key exactly once'}")

    system.kill()
    print(f"killed; ready again after {system.start():.2f} s")
    held = sum(Client(port).call("GET", "/v1/info")["engine"]["keys"] for port in ports)
    print(f"{held:,} keys are there")
    return 0 if once and held >= count else 1


if __name__ == "__main__":
    sys.exit(main())
