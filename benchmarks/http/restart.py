"""What clients see when a proxy or a node is restarted under load.

    python benchmarks/http/restart.py [--clients 6] [--port 18080] [--json FILE]

Starts gkv for itself, a proxy and two nodes with records on disk, and puts it under the load of clients on connections that
are kept alive, each a process that sets and gets keys at both nodes in turn. Then it restarts the proxy and each node: by
SIGTERM and by kill -9 with a socket that the program opens itself, and by SIGTERM with one that is handed over (LISTEN_FDS).

For each it prints how long the program took to end and then to be ready again, and what became of the requests from the signal
until a second after that: how many there were and how many failed, as `refused` connections, as `reset` ones (a connection
closed without an answer is one), as answers with `5xx` or as 200 with a `failedKey`; how many keys failed, by code; and the
window from the begin of the first to that of the last failed request. Other work on the machine makes the times longer.
"""

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
NODES = 2
WITHIN = 30.0
"""Seconds within which a program must start or end."""
AFTERWARDS = 1.0
"""Seconds for which requests are still counted once the program is ready."""
KEYS = 16
"""In each request: some at every node."""

RESET = (ConnectionResetError, BrokenPipeError, EOFError)


@dataclass(slots=True)
class Outcome:
    """One request."""

    began: float
    kind: str
    codes: Counter[str] = field(default_factory=Counter)


@dataclass
class Result:
    """One restart; times in milliseconds."""

    program: str
    how: str
    ended_ms: float
    ready_ms: float
    requests: int
    failed: dict[str, int]
    keys: dict[str, int]
    window_ms: float


class Client:
    """One client, with a connection that it keeps as long as the server lets it; runs in a process of its own."""

    def __init__(self, port: int, number: int) -> None:
        self._address = HOST, port
        keys = [f"client-{number}-{i}" for i in range(KEYS)]
        self._bodies = {
            "/set": json.dumps([{"key": key, "value": "v" * 100} for key in keys]).encode(),
            "/get": json.dumps([{"key": key} for key in keys]).encode(),
        }
        self._socket: socket.socket | None = None

    def call(self, path: str) -> Outcome:
        """Make one request, and no second attempt."""
        outcome = Outcome(time.monotonic(), "good")
        body = self._bodies[path]
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, WITHIN)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(
                b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
            )
            head, content = self._answer()
        except ConnectionRefusedError:
            outcome.kind = "refused"
        except RESET:
            outcome.kind = "reset"
            self._close()
        else:
            if b"\r\nConnection: close" in head:
                self._close()
            if content[:1] == b"{":
                outcome.codes.update(row["code"] for row in json.loads(content).get("failedKey", ()))
            if not head.startswith(b"HTTP/1.1 200 "):
                outcome.kind = "5xx"
            elif outcome.codes:
                outcome.kind = "failedKey"
        return outcome

    def _answer(self) -> tuple[bytes, bytes]:
        buffer = self._more()
        while b"\r\n\r\n" not in buffer:
            buffer += self._more()
        head, _, content = buffer.partition(b"\r\n\r\n")
        length = int(head.partition(b"\r\nContent-Length: ")[2].split(b"\r\n", 1)[0])
        while len(content) < length:
            content += self._more()
        return head, content

    def _more(self) -> bytes:
        assert self._socket is not None
        if not (chunk := self._socket.recv(65_536)):
            raise EOFError
        return chunk

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def be_client(port: int, number: int) -> None:
    """Load the proxy until standard input closes; then write what became of each request."""
    client = Client(port, number)
    os.set_blocking(0, False)
    lines = []
    while True:
        with suppress(BlockingIOError):
            if not os.read(0, 1):
                break
        outcome = client.call(("/set", "/get")[len(lines) % 2])
        lines.append([outcome.began, outcome.kind, outcome.codes])
        if outcome.kind != "good":
            time.sleep(0.002)  # as any client would: an attempt costs the proxy more than it brings
    json.dump(lines, sys.stdout)


@contextmanager
def load(port: int, count: int) -> Iterator[list[Outcome]]:
    """Run clients; what became of their requests is in the list when they have ended."""
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        clients = []
        for number in range(count):
            command = [sys.executable, __file__, "--be-client", str(number), "--port", str(port)]
            clients.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            stack.callback(clients[-1].wait)
            stack.callback(clients[-1].kill)
        yield outcomes
        for client in clients:
            said, _ = client.communicate(timeout=WITHIN)
            outcomes += [Outcome(began, kind, Counter(codes)) for began, kind, codes in json.loads(said)]


class Program:
    """A proxy or a node, which can be started again."""

    def __init__(self, directory: Path, port: int, arguments: list[str], listener: socket.socket | None) -> None:
        self.port = port
        self._directory = directory
        self._command = [sys.executable, "-P", "-m", "gkv.cli", *arguments]
        self._listener = listener
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, probe: str = "/readyz") -> float:
        """Start it; return the seconds until it answered a probe with 200."""
        began = time.monotonic()
        command = self._command
        given: list[int] = []
        if self._listener is not None:
            given = [self._listener.fileno()]
            script = f'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@" 3<&{given[0]}'
            command = ["bash", "-c", script, *command]
        with (self._directory / f"{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=log, pass_fds=given)
        while not self._answers(probe):
            if self._process.poll() is not None or time.monotonic() > began + WITHIN:
                raise RuntimeError((self._directory / f"{self.port}.log").read_text())
            time.sleep(0.005)
        return time.monotonic() - began

    def _answers(self, probe: str) -> bool:
        with suppress(OSError), socket.create_connection((HOST, self.port), WITHIN) as connection:
            connection.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % probe.encode())
            return connection.recv(100).startswith(b"HTTP/1.1 200 ")
        return False

    def end(self, number: int) -> float:
        """Send it a signal; return the seconds until it had ended."""
        if self._process is None:
            return 0.0
        began = time.monotonic()
        self._process.send_signal(number)
        self._process.wait(WITHIN)
        self._process = None
        return time.monotonic() - began


def restart(program: Program, name: str, how: str, proxy: int, clients: int) -> Result:
    """Restart a program under load."""
    with load(proxy, clients) as outcomes:
        time.sleep(1.0)  # until all of them are there
        since = time.monotonic()
        ended = program.end(signal.SIGKILL if "kill" in how else signal.SIGTERM)
        ready = program.start()
        time.sleep(AFTERWARDS)
        until = time.monotonic()
    # What failed may have begun before the signal.
    meant = [one for one in outcomes if one.began < until and (one.began >= since or one.kind != "good")]
    failed = [outcome for outcome in meant if outcome.kind != "good"]
    begun = [outcome.began for outcome in failed]
    codes: Counter[str] = Counter()
    for outcome in failed:
        codes += outcome.codes
    return Result(
        program=name,
        how=how,
        ended_ms=ended * 1e3,
        ready_ms=ready * 1e3,
        requests=len(meant),
        failed=dict(Counter(outcome.kind for outcome in failed)),
        keys=dict(codes),
        window_ms=(max(begun) - min(begun)) * 1e3 if begun else 0.0,
    )


def measure(port: int, clients: int, handed: bool, kinds: list[str]) -> Iterator[Result]:
    """Start a system, and restart each of its programs in all these ways."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gkv-bench-")))
        programs = {}
        for i, name in enumerate(["proxy", *(f"node {number}" for number in range(1, NODES + 1))]):
            listener = stack.enter_context(socket.create_server((HOST, port + i), backlog=1024)) if handed else None
            joining = [str(port + i), "--proxy", f"http://{HOST}:{port}"]
            arguments = ["node", *joining] if i else ["proxy", "--port", str(port)]
            programs[name] = Program(directory, port + i, arguments, listener)
            stack.callback(programs[name].end, signal.SIGTERM)
        for name, program in programs.items():
            program.start("/livez" if name == "proxy" else "/readyz")  # a proxy without members is not ready
        for how in kinds:
            for name, program in programs.items():
                yield restart(program, name, how, port, clients)


def show(result: Result) -> str:
    """Return a result as a line."""
    failed = ", ".join(f"{count} {kind}" for kind, count in sorted(result.failed.items())) or "none"
    keys = ", ".join(f"{count} {code}" for code, count in sorted(result.keys.items())) or "none"
    line = f"{result.how:<22} {result.program:<7} end {result.ended_ms:6.0f}  ready {result.ready_ms:6.0f} ms"
    return f"{line}  {result.requests:6} requests, failed: {failed}; keys: {keys}; window {result.window_ms:.0f} ms"


def main() -> int:
    """Run the measurement; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=6, help="processes with a connection each (default: %(default)s)")
    parser.add_argument("--port", type=int, default=18_080, help="first of three ports (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--be-client", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be_client is not None:
        be_client(options.port, options.be_client)
        return 0
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}")
    results = []
    for handed, kinds in ((False, ["SIGTERM", "kill -9"]), (True, ["SIGTERM, handed over"])):
        for result in measure(options.port, options.clients, handed, kinds):
            results.append(result)
            print(show(result), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
