"""gkv against webdis on redis and a plain gevent baseline over HTTP: CPU per request, requests a second, p50 and p99.

    python benchmarks/http/run.py [--seconds 3] [--rounds 3] [--n 1,10,100] [--ops get,set] [--systems gkv,webdis]
                                  [--json bench-http.json] [--svg bench-http.svg]

All systems run side by side, hold the same 10,000 keys with values of 100 bytes, and are loaded by wrk in turn: one thread, 32
connections that are kept alive, keys drawn at random. Requests a second depend on the machine and its mood; what counts is
the CPU that all server processes of a system use per request, from /proc/<pid>/stat before and after. Run it on a machine that
does nothing else. It needs wrk; webdis and redis-server are compared with if they are installed (all are Debian packages).

What watching and access cost: `--systems gkv-bare,gkv,gkv-tls`, which is without metrics, as usual, and with tokens and TLS for
clients and between members.

Exit code 0 if every run was valid, whatever the ratios; 1 if not.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from report import Run, draw, medians, table, verdicts
from systems import KEYS, PORTS, SYSTEMS, VALUE_BYTES, VARIANTS, StartError, System, missing, version

CONNECTIONS = 32
LOAD = Path(__file__).with_name("load.lua")
SETTLE = 0.3
"""Seconds before each run, in which servers finish what the last clients left behind."""


def measure(system: System, round_: int, op: str, n: int, seconds: int) -> Run:
    """Run wrk once. The seed is the round: in each round, all systems of a dialect get the same requests."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(LOAD), system.url]
    command += ["--", system.dialect, op, str(n), str(KEYS), str(round_), *filter(None, [system.token])]
    time.sleep(SETTLE)
    start, busy_before, wrk_before = time.monotonic(), busy_seconds(), children_seconds()
    before = system.cpu()
    wrk = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    after = system.cpu()
    ours = sum(after.values()) - sum(before.values()) + children_seconds() - wrk_before
    others = max(0.0, busy_seconds() - busy_before - ours) / (time.monotonic() - start)
    _, found, summary = wrk.stdout.partition("\nsummary ")
    if wrk.returncode or not found:
        raise StartError(f"wrk failed on {system.name}:\n{wrk.stdout}{wrk.stderr}")
    figures = json.loads(summary)
    requests = figures["requests"]
    per_request = 1e6 / max(1, requests)
    cpu_us = {role: (after[role] - before[role]) * per_request for role in after}
    bytes_per_request = figures["bytes"] / max(1, requests)
    answered = requests > 0 and (op != "get" or bytes_per_request > n * VALUE_BYTES)  # a get brings its values
    return Run(
        round=round_,
        system=system.name,
        op=op,
        n=n,
        requests=requests,
        requests_per_second=requests * 1e6 / figures["duration"],
        p50_ms=figures["p50"] / 1e3,
        p99_ms=figures["p99"] / 1e3,
        cpu_us=cpu_us,
        cpu_us_total=sum(cpu_us.values()),
        bytes_per_request=bytes_per_request,
        others=others,
        non_2xx=figures["non_2xx"],
        socket_errors=figures["socket_errors"],
        valid=answered and not figures["non_2xx"] and not figures["socket_errors"],
    )


def busy_seconds() -> float:
    """Return the seconds of CPU that all processes of this machine have used."""
    user, nice, system = Path("/proc/stat").read_text().split(maxsplit=4)[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def children_seconds() -> float:
    """Return those of the child processes that have ended: of each wrk, once it is done."""
    times = os.times()
    return times.children_user + times.children_system


def measure_all(running: Sequence[System], options: argparse.Namespace) -> list[Run]:
    """Warm up, then measure every case of every round: the systems follow directly on each other, so drift hits all alike."""
    start = time.monotonic()
    cases = [(round_, op, n) for round_ in range(1, options.rounds + 1) for op in options.ops for n in options.n]
    total = len(cases) * len(running)
    for system in running:
        say(f"warming up {system.name}")
        measure(system, 0, options.ops[0], options.n[0], 1)
    runs = []
    for round_, op, n in cases:
        for system in running:
            say(f"{len(runs) + 1:3}/{total}  {time.monotonic() - start:4.0f} s  round {round_}: {system.name}, {op}, {n} keys")
            runs.append(measure(system, round_, op, n, options.seconds))
            print(runs[-1], flush=True)
    for system in running:
        system.check()
    return runs


def machine() -> str:
    """Return a line on what all this runs on."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    load = " ".join(f"{average:.2f}" for average in os.getloadavg())
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load average {load}"
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be above 0")
    return number


def batch_sizes(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


def operations(text: str) -> list[str]:
    parts = text.split(",")
    if not set(parts) <= {"get", "set"}:
        raise argparse.ArgumentTypeError("it may be get, set or get,set")
    return parts


def systems(text: str) -> list[str]:
    parts = text.split(",")
    if not set(parts) <= set(SYSTEMS):
        raise argparse.ArgumentTypeError(f"there are: {', '.join(SYSTEMS)}")
    return parts


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=positive, default=3, help="of each run (default: 3)")
    parser.add_argument("--rounds", type=positive, default=3, help="how often each case is run (default: 3)")
    parser.add_argument("--n", type=batch_sizes, default=[1, 10, 100], help="keys per request (default: 1,10,100)")
    parser.add_argument("--ops", type=operations, default=["get", "set"], help="operations (default: get,set)")
    ordinary = [name for name in SYSTEMS if name not in VARIANTS]
    several = f"some of {','.join(SYSTEMS)} (default: all but {','.join(VARIANTS)})"
    parser.add_argument("--systems", type=systems, default=ordinary, help=several)
    parser.add_argument("--port", type=positive, default=18_080, help="first of a dozen ports to use (default: 18080)")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    parser.add_argument("--svg", metavar="FILE", help="draw the medians to this file")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; return the exit code."""
    options = read_options()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the servers are ended
    if shutil.which("wrk") is None:
        say("wrk is not installed: apt-get install wrk")
        return 1
    names = options.systems
    for name in names:
        if missing(name):
            say(f"{name} is left out: {missing(name)}")
    names = [name for name in names if not missing(name)]
    if not names:
        return 1
    line = machine()
    versions = {name: version(name) for name in names}
    print(f"# {line}")
    for name, made_of in versions.items():
        print(f"# {name}: {made_of}")
    print(f"# wrk, 1 thread, {CONNECTIONS} connections, {options.seconds} s a run; CPU us per request, user and system")

    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gkv-bench-")))
            running = []
            for i, name in enumerate(names):
                say(f"starting {name}")
                running.append(stack.enter_context(SYSTEMS[name](options.port + i * PORTS, directory)))
                running[-1].check()
            runs = measure_all(running, options)
    except StartError as error:
        say(str(error))
        return 1

    rows = medians(runs)
    found = verdicts(rows)
    print(table(rows, found))
    disturbed = sum(run.disturbed for run in runs)
    if disturbed:
        print(f"\n{disturbed} of {len(runs)} runs were disturbed by other work on this machine: do not trust these figures.")
    if options.json:
        document = {
            "machine": line,
            "load_average_after": os.getloadavg(),
            "versions": versions,
            "options": {"seconds": options.seconds, "rounds": options.rounds, "connections": CONNECTIONS, "keys": KEYS},
            "runs": [asdict(run) for run in runs],
            "medians": [asdict(row) for row in rows],
            "ratios": [asdict(verdict) for verdict in found],
        }
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n")
    if options.svg:
        draw(rows, line, options.svg)
    return 0 if all(run.valid for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
