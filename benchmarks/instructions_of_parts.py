"""Instructions per request of the parts of a proxy and a node, without sockets; two builds of gkv against each other.

    python benchmarks/instructions_of_parts.py --other OTHER/.venv/bin/python [--n 1,10,100] [--parts REGEX]

"proxy" is the way of a client's /get or /set through the WSGI application, with the answer of its node at hand; "read" alone
is the reading and routing of the body, by either twin. "node" is what a node does with the frame of such a request, in memory,
in LMDB, and in LMDB without its cache; a set in LMDB comes to the disk. callgrind counts, so a count does not depend on the
machine's mood: two of one build differ by a few thousandths. But a set in LMDB has two threads that wait for each other, and
two such counts may differ by a tenth. It needs valgrind. benchmarks/http/instructions.py counts whole processes.
"""

import argparse
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

KEYS = 10_000
REQUESTS = {1: 400, 10: 200, 100: 60}
"""Count of the requests that are counted, by keys in each."""
WARM_UP = 40
_TEXT = "x" * 98
_CACHE = 32 << 20
_WITHIN = 60.0
CLUSTER = "c" * 32

Part = Callable[[int], object]
"""Makes the request of this number."""


# --- in the process that is counted -----------------------------------------------------------------------------------


def body(op: str, n: int, number: int) -> bytes:
    """Return a request's body."""
    keys = [f"key:{(number * n + i) % KEYS:08}" for i in range(n)]
    value = f',"value":"{_TEXT}"' if op == "set" else ""
    return ("[" + ",".join(f'{{"key":"{key}"{value}}}' for key in keys) + "]").encode()


class Cluster:
    """A proxy and a node in this process."""

    def __init__(self, engine: str, directory: str) -> None:
        from gkv.cluster import document
        from gkv.cluster.view import View
        from gkv.engine import Commits, open_engine
        from gkv.model import Node
        from gkv.node.service import Service
        from gkv.ring import tokens

        node = Node("127.0.0.1:9000", "http://127.0.0.1:9000")
        self.view = View()
        has_lines = hasattr(document, "Member")  # in an older build a node is a member as it is
        member: Any = document.Member(node.id, node.url) if has_lines else node
        self.view.adopt(document.Document(CLUSTER, 5, (member,)))
        name, _, cache = engine.partition("-")
        path = Path(tempfile.mkdtemp(dir=directory))
        self.engine = open_engine(name, path, node.id, tokens, 1 << 30, 0 if cache else _CACHE)
        self.engine.join(CLUSTER)
        commits = Commits(self.engine, tombstone_ttl=86_400_000)
        try:
            from gkv.node.due_clock import DueClock
            from gkv.node.order import Order
        except ImportError:  # an older build, whose versions come from a clock
            from gkv.coordinator import Clock  # type: ignore[attr-defined]

            self.service: Any = Service(node.id, self.view, self.engine, commits, Clock(None), 86_400_000)
        else:
            self.service = Service(node.id, self.view, self.engine, commits, Order(self.view, self.engine, commits, DueClock()))
        self.frames: list[bytes] = []
        self.answers: list[bytes] | None = None
        self.proxy = self._make_proxy()
        for start in range(0, KEYS, 500):
            self.ask("set", body("set", 500, start // 500))

    def _make_proxy(self) -> Any:
        from gkv.api.data import DataApi
        from gkv.api.http import Routes
        from gkv.coordinator import Channels, Coordinator

        cluster = self

        class Given(Channels):
            """Channels of a node whose answers are given, or which is asked."""

            def __init__(self) -> None:
                super().__init__(2.0)

            def to(self, node: Any) -> Any:  # noqa: ARG002  # there is one
                return self

            def submit(self, call: Any) -> None:
                from gkv.model import Outcome

                call.sent = True
                if cluster.answers is not None:
                    call.finish(Outcome.ANSWERED, cluster.answers.pop(), "", None)
                    return
                cluster.frames.append(call.frame)
                call.finish(Outcome.ANSWERED, cluster.service.answer([call.frame])[0], "", None)

        try:
            coordinator = Coordinator(self.view, Given(), 2.0)
        except TypeError:  # an older build
            from gkv.coordinator import Clock  # type: ignore[attr-defined]

            coordinator = Coordinator(self.view, Given(), Clock(None), 2.0)  # type: ignore[arg-type, call-arg]
        routes = Routes()
        DataApi(self.view, coordinator, max_body=1 << 20, info=dict, checks=list).mount(routes)
        return routes

    def ask(self, op: str, text: bytes) -> bytes:
        """Send one request through the proxy."""
        answer: bytes = self.send(self.environ(op, text))
        if (b"existedKey" if op == "get" else b"Success") not in answer:
            raise SystemExit(f"{op} was answered with {answer[:200]!r}")
        return answer

    def environ(self, op: str, text: bytes) -> dict[str, Any]:
        from gkv.net.http1 import HostNames, parse_head

        head = b"POST /%b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\nContent-Length: %d"
        made = parse_head(head % (op.encode(), len(text)), {}, 1 << 20, HostNames(["127.0.0.1"], 8080)).environ
        return made | {"CONTENT_LENGTH": str(len(text)), "wsgi.input": BytesIO(text)}

    def send(self, environ: dict[str, Any]) -> Any:
        [answer] = self.proxy(environ, lambda _status, _headers, _exc_info=None: None)
        return answer


def proxy(cluster: Cluster, op: str, n: int, count: int) -> Part:
    """Return what takes a client's request to an answer."""
    made = [cluster.environ(op, body(op, n, number)) for number in range(count)]
    cluster.ask(op, body(op, n, 0))
    frame = cluster.frames[-1]
    cluster.answers = cluster.service.answer([frame]) * count
    return lambda number: cluster.send(made[number])


def node(cluster: Cluster, op: str, n: int, count: int) -> Part:
    """Return what takes a frame to its answer."""
    cluster.frames.clear()
    for number in range(count):
        cluster.ask(op, body(op, n, number))
    frames = list(cluster.frames)  # of older builds each has its version: those that are applied again would change nothing
    if op == "set" and b'"version"' in frames[0]:
        frames = [_newer(frame) for frame in frames]
    return lambda number: cluster.service.answer([frames[number]])


def _newer(frame: bytes) -> bytes:
    start = frame.index(b'"version":"') + len(b'"version":"')
    return frame[:start] + b"%016x" % (int(frame[start : start + 16], 16) + (100 << 16)) + frame[start + 16 :]


def read(twin: str) -> Callable[[Cluster, str, int, int], Part]:
    """Return what makes what reads and routes a body."""

    def make(cluster: Cluster, op: str, n: int, count: int) -> Part:
        from gkv.model import Op, Version
        from gkv.ring._native import NativeRing
        from gkv.ring._pure import PureRing
        from gkv.wire._native import NativeRouter
        from gkv.wire.batch import PureRouter
        from gkv.wire.client import Limits
        from gkv.wire.strict import no_pause

        document = cluster.view.document
        assert document is not None
        era, nodes = getattr(document, "era", 5), getattr(document, "nodes", document.members)
        router: Any
        if twin == "native":
            router = NativeRouter(NativeRing(nodes, 256), CLUSTER, era, Limits())
        else:
            router = PureRouter(PureRing(nodes, 256), CLUSTER, era, Limits())
        kind = Op(op)
        bodies = [body(op, n, number) for number in range(count)]
        if hasattr(document, "era"):
            return lambda number: router.read(kind, bodies[number], no_pause)
        version = Version(1 << 60, 1)  # an older build, whose coordinator gives versions
        return lambda number: router.read(kind, bodies[number], version if op == "set" else None, no_pause)

    return make


PARTS: dict[str, tuple[Callable[[Cluster, str, int, int], Part], str]] = {
    "read": (read("native"), "memory"),
    "read pure": (read("pure"), "memory"),
    "proxy": (proxy, "memory"),
    "node memory": (node, "memory"),
    "node lmdb": (node, "lmdb"),
    "node lmdb uncached": (node, "lmdb-uncached"),
}


def be_counted(wanted: Sequence[tuple[str, str, int]], directory: str) -> None:
    """Make the requests of each of these parts between two lines of input, after a line that says so."""
    for name, op, n in wanted:
        make, engine = PARTS[name]
        count = REQUESTS[n]
        part = make(Cluster(engine, directory), op, n, WARM_UP + count)
        for number in range(WARM_UP):
            part(number)
        gc.collect()
        gc.disable()
        say("ready")
        for number in range(WARM_UP, WARM_UP + count):
            part(number)
        say("done")
        gc.enable()
    os._exit(0)  # threads of engines that nobody closes


def say(what: str) -> None:
    """Tell the process that counts, and wait until it has understood."""
    print(what, flush=True)
    sys.stdin.readline()


# --- in the process that counts ---------------------------------------------------------------------------------------


def counts(python: str, wanted: Sequence[tuple[str, str, int]], keep: Path | None) -> Iterator[float]:
    """Yield the instructions per request of each part, in one build."""
    with tempfile.TemporaryDirectory(prefix="gkv-bench-") as directory:
        out = Path(directory, "callgrind.out")
        valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        names = [f"{name}/{op}/{n}" for name, op, n in wanted]
        with subprocess.Popen(
            [*valgrind, python, "-P", __file__, "--counted", directory, *names],
            cwd=directory, env=os.environ | {"PYTHONHASHSEED": "0"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            for number, (_, _, n) in enumerate(wanted, 1):
                for expected, controls in (("ready", ["-z", "-i on"]), ("done", ["-i off", "-d"])):
                    if (told := process.stdout.readline().strip()) != expected:
                        raise SystemExit(f"{python} says {told!r}, not {expected!r}")
                    for control in controls:
                        subprocess.run(
                            ["callgrind_control", *control.split(), str(process.pid)], check=True, capture_output=True
                        )
                    process.stdin.write("\n")
                    process.stdin.flush()
                dump = Path(f"{out}.{number}")
                yield _total(dump) / REQUESTS[n]
                if keep is not None:
                    shutil.copy(dump, keep / names[number - 1].replace("/", "-").replace(" ", "-"))


def _total(dump: Path) -> int:
    """Return the count of a dump, which callgrind writes some time after it was told to."""
    until = time.monotonic() + _WITHIN
    while time.monotonic() < until:
        found = dump.exists() and re.search(r"^totals: (\d+)", dump.read_text(errors="replace"), re.MULTILINE)
        if found:
            return int(found[1])
        time.sleep(0.05)
    raise SystemExit("callgrind wrote no count")


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--other", help="the Python of a virtual environment with another build")
    parser.add_argument("--n", default="1,10,100", help="keys per request, of 1, 10 and 100 (default: all)")
    parser.add_argument("--parts", default=".", help="a regular expression for what is counted, as the table has it")
    parser.add_argument("--keep", type=Path, help="a directory for callgrind's files about this build")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: apt-get install valgrind", file=sys.stderr)
        return 1
    sizes = [int(n) for n in options.n.split(",")]
    every = [(name, op, n) for name in PARTS for op in ("get", "set") for n in sizes]
    wanted = [one for one in every if re.search(options.parts, "{} {} {}".format(*one))]
    if not set(sizes) <= REQUESTS.keys() or not wanted:
        parser.error("there is no such part")
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    print(f"{'part':>18} {'op':>3} {'keys':>4} {'this':>9} {'other':>9} {'ratio':>6}   instructions per request")
    others = counts(options.other, wanted, None) if options.other else iter(())
    for (name, op, n), this in zip(wanted, counts(sys.executable, wanted, options.keep), strict=True):
        other = next(others, None)
        compared = "" if other is None else f" {other:>9.0f} {this / other:>6.3f}"
        print(f"{name:>18} {op:>3} {n:>4} {this:>9.0f}{compared}", flush=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--counted"]:
        be_counted([(name, op, int(n)) for name, op, n in (one.split("/") for one in sys.argv[3:])], sys.argv[2])
    sys.exit(main())
