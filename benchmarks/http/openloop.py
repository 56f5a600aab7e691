"""gkv under more load than it can take: requests come at their times, whether those before were answered or not.

    python benchmarks/http/openloop.py [--seconds 5] [--keys 300] [--connections 2000] [--max-inflight 256]
                                       [--json bench-overload.json] [--svg bench-overload.svg]

First a closed loop of 64 clients finds saturation, in gets of so many keys a second; then 0.5, 1, 2, 4 times that are offered
for some seconds each, and 0.5 times again. Each request has a time at which it is to be sent, drawn beforehand (a Poisson
process with a fixed seed), and its latency counts from then: a generator that waits for answers before it goes on would leave
out just the requests that would have had to wait ("coordinated omission"). Nobody heeds Retry-After: the load stays what it is.

What is asked for: goodput at twice saturation of at least 90 % of the peak; rejects within 50 ms; memory that does not grow;
normal again at most 5 s after the load has fallen. It needs a machine that does nothing else, with a core for the generator,
which asks for a higher priority: its own lateness is in the table, and where that is large, so are all latencies. With few keys
a request the generator has as much to do as gkv, and is late.

Exit code 0 if every answer was 200 or 503, whatever the figures; 1 if not.
"""

import argparse
import json
import os
import random
import resource
import select
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from run import machine, positive, say
from systems import HOST, KEYS, StartError, System, gkv, key, value

FACTORS = (0.5, 1.0, 2.0, 4.0, 0.5)
CLOSED = 64
"""Clients that find saturation."""
PEAK, REJECT_MS, NORMAL_S, GROWTH = 0.9, 50.0, 5.0, 1.25
"""Targets: goodput at twice saturation, latency of rejects, time until all is normal again, memory against that before."""
MORE_PRIORITY = 5
"""Than gkv, for the generator, where that is allowed."""
REQUESTS = 500
_BIN = 0.1
_REST = 5.0
"""Seconds for which answers are waited for after the last request of a level."""
_SAMPLE = 0.25


class Connection:
    """A connection, and the request on it that has no answer yet."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._received = b""
        self._length = -1
        self.due = 0.0

    def send(self, request: bytes, due: float) -> None:
        """Send a request; it has at most some kilobytes, so the system takes it whole."""
        self.due = due
        if self.socket.send(request) != len(request):
            raise StartError("a request was not taken whole")

    def receive(self) -> int:
        """Take what has come; return the status if that completes the answer, else 0."""
        chunk = self.socket.recv(262_144)
        if not chunk:
            raise ConnectionResetError
        self._received = self._received + chunk if self._received else chunk
        if self._length < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return 0
            head = self._received[:end].lower()
            self._length = end + 4 + int(head.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0])
        if len(self._received) < self._length:
            return 0
        status = int(self._received[9:12])
        self._received, self._length = b"", -1
        return status


@dataclass
class Level:
    """What became of the requests of one level; times in seconds."""

    factor: float
    offered: float
    seconds: float
    served: list[tuple[float, float]] = field(default_factory=list)
    """When each was due, from the start of the level, and its latency."""
    rejected: list[tuple[float, float]] = field(default_factory=list)
    served_in_time: int = 0
    """Up to the end of the level."""
    failed: int = 0
    """Other answers than 200 and 503, and broken connections."""
    unanswered: int = 0
    late: list[float] = field(default_factory=list)
    """How late the generator itself was, with a connection that was free."""
    memory: dict[str, float] = field(default_factory=dict)
    """The most that each process had, in MB."""

    @property
    def goodput(self) -> float:
        return self.served_in_time / self.seconds

    def latencies(self, which: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
        """Return median, p99 and maximum in milliseconds."""
        found = sorted(latency * 1e3 for _, latency in which) or [0.0]
        return found[len(found) // 2], found[len(found) * 99 // 100], found[-1]

    def __str__(self) -> str:
        p50, p99, _ = self.latencies(self.served)
        fast, slow, worst = self.latencies(self.rejected)
        late = self.latencies([(0.0, one) for one in self.late])[1]
        memory = " ".join(f"{role} {megabytes:.0f}" for role, megabytes in self.memory.items())
        wrong = f"  {self.failed} FAILED, {self.unanswered} UNANSWERED" if self.failed or self.unanswered else ""
        return (
            f"{self.factor:4.1f} {self.offered:9.0f} {self.goodput:8.0f} {len(self.rejected) / self.seconds:10.0f}"
            f" {p50:9.1f} {p99:7.1f} {fast:9.1f} {slow:7.1f} {worst:7.1f} {late:7.1f}   {memory}{wrong}"
        )


HEADLINE = (
    "   x   offered   served   rejected   served ms: p50  p99  rejected ms: p50  p99   max  own p99   MB at most\n"
    "             /s       /s         /s"
)


def _request(port: int, op: str, numbers: Sequence[int], more: str) -> bytes:
    items = [{"key": key(number)} | ({"value": value(number)} if op == "set" else {}) for number in numbers]
    body = json.dumps(items, separators=(",", ":"))
    head = f"POST /{op} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n{more}\r\n{body}".encode()


class Generator:
    """Sends requests to one port over many connections, without waiting for one because of another; `more` are further lines of
    each one's head.
    """

    def __init__(self, system: System, keys: int, connections: int, op: str = "get", more: str = "") -> None:
        draw = random.Random(1)
        self._requests = [_request(system.port, op, draw.sample(range(KEYS), keys), more) for _ in range(REQUESTS)]
        self._draw = draw
        self._system = system
        self._connections = [Connection(system.port) for _ in range(connections)]
        self._by_fd = {one.socket.fileno(): one for one in self._connections}
        self._poll = select.epoll()
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)
        self._sent = 0

    def _send(self, connection: Connection, due: float) -> None:
        self._sent += 1
        connection.send(self._requests[self._sent % REQUESTS], due)

    def saturate(self, seconds: float) -> float:
        """Return how many requests a second some clients have answered that send the next when they have the answer."""
        for connection in self._connections[:CLOSED]:
            self._send(connection, 0.0)
        answered = 0
        start = time.perf_counter()
        busy = CLOSED
        while busy:
            goes_on = time.perf_counter() - start < seconds
            for fd, _ in self._poll.poll(1.0):
                status = self._by_fd[fd].receive()
                if status not in (0, 200):
                    raise StartError(f"{CLOSED} clients are too many: {status}")
                if status:
                    answered += goes_on
                    busy -= not goes_on
                    if goes_on:
                        self._send(self._by_fd[fd], 0.0)
        return answered / seconds

    def offer(self, factor: float, rate: float, seconds: float) -> Level:
        """Offer so many requests a second, for so long."""
        level = Level(factor, rate, seconds)
        idle = deque(self._connections)
        times = self._times(rate, seconds)
        start = time.perf_counter() + 0.05
        due = start + next(times)
        sampled = 0.0
        while True:
            now = time.perf_counter()
            while due <= now and idle:
                # Late is who is late with a free connection; with none, it is the server's doing.
                if len(idle) > 1:
                    level.late.append(now - due)
                with suppress(OSError):
                    self._send(idle.popleft(), due)
                due = start + next(times)
                now = time.perf_counter()
            if due == float("inf") and (len(idle) == len(self._connections) or now > start + seconds + _REST):
                break
            if now - sampled > _SAMPLE:
                sampled = now
                for role, megabytes in memory(self._system).items():
                    level.memory[role] = max(megabytes, level.memory.get(role, 0.0))
            self._collect(level, idle, start, max(0.0, min(due - now, 0.05)) if idle else 0.05)
        level.unanswered = len(self._connections) - len(idle)
        for connection in set(self._connections) - set(idle):
            self._replace(connection)
        return level

    def _times(self, rate: float, seconds: float) -> Iterator[float]:
        at = 0.0
        while (at := at + self._draw.expovariate(rate)) < seconds:
            yield at
        while True:
            yield float("inf")

    def _collect(self, level: Level, idle: deque[Connection], start: float, wait: float) -> None:
        for fd, _ in self._poll.poll(wait):
            connection = self._by_fd[fd]
            try:
                status = connection.receive()
            except OSError:
                level.failed += 1
                idle.append(self._replace(connection))
                continue
            if not status:
                continue
            now = time.perf_counter()
            found = connection.due - start, now - connection.due
            if status == 200:
                level.served.append(found)
                level.served_in_time += now <= start + level.seconds
            elif status == 503:
                level.rejected.append(found)
            else:
                level.failed += 1
            idle.append(connection)

    def _replace(self, connection: Connection) -> Connection:
        fd = connection.socket.fileno()
        self._poll.unregister(fd)
        connection.socket.close()
        del self._by_fd[fd]
        new = Connection(self._system.port)
        self._connections[self._connections.index(connection)] = new
        self._by_fd[new.socket.fileno()] = new
        self._poll.register(new.socket.fileno(), select.EPOLLIN)
        return new

    def close(self) -> None:
        for connection in self._connections:
            connection.socket.close()


def memory(system: System) -> dict[str, float]:
    """Return the megabytes that each process has in memory."""
    size = os.sysconf("SC_PAGE_SIZE") / 1e6
    return {role: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * size for role, pid in system.processes.items()}


def recovery(before: Level, after: Level) -> float:
    """Return the seconds after which all is as before: no rejects, and nothing that takes twice the p99 of before."""
    normal = 2 * before.latencies(before.served)[1] / 1e3
    bins: dict[int, list[float]] = {}
    for due, latency in after.served:
        bins.setdefault(int(due / _BIN), []).append(latency)
    bad = [int(due / _BIN) for due, _ in after.rejected]
    bad += [at for at, found in bins.items() if sorted(found)[len(found) * 95 // 100] > normal]
    return (max(bad) + 1) * _BIN if bad else 0.0


@dataclass
class Target:
    what: str
    figure: float
    bound: float
    met: bool


def judge(levels: Sequence[Level]) -> list[Target]:
    """Compare with the targets."""
    peak = max(level.goodput for level in levels)
    double = next(level for level in levels if level.factor == 2)
    share = double.goodput / peak
    found = [Target("goodput at 2x / peak", share, PEAK, share >= PEAK)]
    for level in levels:
        if level.rejected:
            _, slow, worst = level.latencies(level.rejected)
            found.append(Target(f"rejects at {level.factor:g}x, p99 ms", slow, REJECT_MS, slow <= REJECT_MS))
            found.append(Target(f"rejects at {level.factor:g}x, max ms", worst, REJECT_MS, worst <= REJECT_MS))
    for role in levels[-1].memory:
        grown = max(level.memory[role] for level in levels) / levels[1].memory[role]
        found.append(Target(f"memory of {role} at most / at 1x", grown, GROWTH, grown <= GROWTH))
    back = recovery(levels[0], levels[-1])
    found.append(Target("normal again after, s", back, NORMAL_S, back <= NORMAL_S))
    return found


def draw(levels: Sequence[Level], title: str, path: str) -> None:
    """Write a picture: for each level what was offered, served and rejected."""
    import pygal  # of the extra "bench"; nothing else here needs it

    chart = pygal.Bar(
        title=f"requests a second, offered in an open loop\n{title}",
        x_title="times saturation, one after the other",
        print_values=True,
        value_formatter=lambda number: f"{number:.0f}",
        js=(),  # the scripts for tooltips would be fetched from the network
        legend_at_bottom=True,
        width=1000,
        height=560,
    )
    chart.x_labels = [f"{level.factor:g}" for level in levels]
    chart.add("offered", [level.offered for level in levels])
    chart.add("served", [level.goodput for level in levels])
    chart.add("rejected", [len(level.rejected) / level.seconds for level in levels])
    chart.render_to_file(path)


def summary(level: Level) -> dict[str, object]:
    """Return a level as figures, without its single requests."""
    figures: dict[str, object] = {name: value for name, value in asdict(level).items() if not isinstance(value, list)}
    for name, which in (("served", level.served), ("rejected", level.rejected), ("late", [(0.0, one) for one in level.late])):
        p50, p99, worst = level.latencies(which)
        figures[name] = {"count": len(which), "p50_ms": p50, "p99_ms": p99, "max_ms": worst}
    return figures | {"goodput": level.goodput}


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=positive, default=5, help="of each level (default: %(default)s)")
    parser.add_argument("--keys", type=positive, default=300, help="of each get (default: %(default)s)")
    parser.add_argument("--connections", type=positive, default=2_000, help="to send over (default: %(default)s)")
    parser.add_argument("--max-inflight", type=positive, help="as the setting (default: gkv's)")
    parser.add_argument("--port", type=positive, default=18_080, help="first of three ports to use (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    parser.add_argument("--svg", metavar="FILE", help="draw them to this file")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; return the exit code."""
    options = read_options()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.max_inflight:
        os.environ["GKV_MAX_INFLIGHT"] = str(options.max_inflight)
    line = machine()
    print(f"# {line}")
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gkv-bench-")))
            say("starting gkv")
            system = stack.enter_context(gkv(options.port, directory))
            with suppress(PermissionError):
                os.nice(-MORE_PRIORITY)
            generator = Generator(system, options.keys, max(CLOSED, options.connections))
            stack.callback(generator.close)
            generator.saturate(1)
            rate = generator.saturate(options.seconds)
            print(
                f"# saturation, {CLOSED} clients in a closed loop: {rate:.0f} gets of {options.keys} keys a second\n{HEADLINE}"
            )
            levels = []
            for factor in FACTORS:
                levels.append(generator.offer(factor, factor * rate, options.seconds))
                print(levels[-1], flush=True)
    except (StartError, OSError) as error:
        say(str(error))
        return 1
    targets = judge(levels)
    print()
    for target in targets:
        print(f"{target.what:32} {target.figure:8.2f}   target {target.bound:g}: {'met' if target.met else 'MISSED'}")
    if options.json:
        figures = {
            "machine": line,
            "saturation": rate,
            "options": vars(options),
            "levels": [summary(level) for level in levels],
            "targets": [asdict(target) for target in targets],
        }
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")
    if options.svg:
        draw(levels, line, options.svg)
    return 0 if not any(level.failed or level.unanswered for level in levels) else 1


if __name__ == "__main__":
    sys.exit(main())
