"""Instructions per request of a proxy and of a node, counted by callgrind; two builds of gkv against each other.

    python benchmarks/http/instructions.py --other OTHER/.venv/bin/python [--requests 400] [--n 1,100] [--ops get,set]

One client sends one request after the other, over one connection, to a proxy with one node, both with `--engine memory`;
either the proxy or the node runs under valgrind. A count does not depend on the machine's mood, so it shows differences
that a measurement of CPU cannot. Work in the background (calls to join) is counted too: two counts of one build
differ by some percent, less with more requests. It needs valgrind.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from latency import Client
from run import batch_sizes, operations, positive, say
from systems import HOST, KEYS, StartError, key, value

WARM_UP = 100
_LOAD_BATCH = 500
_START_WITHIN = 120.0
ROLES = ("proxy", "node")


def body(op: str, n: int, i: int) -> str:
    """Return the i-th request's body."""
    keys = [(i * n + j) % KEYS for j in range(n)]
    items = [f'{{"key":"{key(k)}","value":"{value(k)}"}}' if op == "set" else f'{{"key":"{key(k)}"}}' for k in keys]
    return f"[{','.join(items)}]"


@contextmanager
def running(command: Sequence[str], directory: Path, log: Path, until: bytes) -> Iterator[int]:
    """Run a program until the block ends; give its process id once it has said `until`."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + _START_WITHIN
        while until not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"{command} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait(_START_WITHIN)


def count(python: str, role: str, op: str, n: int, options: argparse.Namespace) -> float:
    """Return the instructions per request of one role of one build."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gkv-bench-")))
        out = directory / "callgrind.out"
        watched = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        gkv = [python, "-P", "-m", "gkv.cli"]
        pids = {}
        url = f"http://{HOST}:{options.port}"
        commands = {
            "proxy": ([*gkv, "proxy", "--port", str(options.port)], b"Listening on port"),
            "node": ([*gkv, "node", str(options.port + 1), "--proxy", url, "--engine", "memory"], b"member of cluster"),
        }
        for name, (command, until) in commands.items():
            prefix = watched if name == role else []
            pids[name] = stack.enter_context(running([*prefix, *command], directory, directory / f"{name}.log", until))
        client = Client(HOST, options.port)
        stack.callback(client.close)
        for i in range(KEYS // _LOAD_BATCH):
            client.call(client.request("/set", body("set", _LOAD_BATCH, i)))
        for i in range(WARM_UP):
            client.call(client.request(f"/{op}", body(op, n, i)))
        requests = [client.request(f"/{op}", body(op, n, i)) for i in range(options.requests)]
        _control("-i on", pids[role])
        for request in requests:
            client.call(request)
        _control("-i off", pids[role])
        _control("-d", pids[role])
        return _total(directory, out.name) / options.requests


def _control(what: str, pid: int) -> None:
    subprocess.run(["callgrind_control", *what.split(), str(pid)], check=True, capture_output=True)


def _total(directory: Path, name: str) -> int:
    """Return the count of the dump, which callgrind writes some time after it was told to."""
    until = time.monotonic() + _START_WITHIN
    while time.monotonic() < until:
        for path in directory.glob(f"{name}.*"):
            found = re.search(r"^totals: (\d+)", path.read_text(errors="replace"), re.MULTILINE)
            if found:
                return int(found[1])
        time.sleep(0.05)
    raise StartError("callgrind wrote no count")


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--other", required=True, help="the Python of a virtual environment with the other build")
    parser.add_argument("--requests", type=positive, default=400, help="that are counted (default: 400)")
    parser.add_argument("--n", type=batch_sizes, default=[1, 100], help="keys per request (default: 1,100)")
    parser.add_argument("--ops", type=operations, default=["get", "set"], help="operations (default: get,set)")
    parser.add_argument("--port", type=positive, default=18_280, help="first of two ports to use (default: 18280)")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        say("valgrind is not installed: apt-get install valgrind")
        return 1
    print(f"{'role':>6} {'op':>4} {'keys':>5} {'this':>10} {'other':>10} {'ratio':>7}   instructions per request")
    try:
        for role in ROLES:
            for op in options.ops:
                for n in options.n:
                    this = count(sys.executable, role, op, n, options)
                    other = count(options.other, role, op, n, options)
                    print(f"{role:>6} {op:>4} {n:>5} {this:>10.0f} {other:>10.0f} {this / other:>7.3f}", flush=True)
    except StartError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
