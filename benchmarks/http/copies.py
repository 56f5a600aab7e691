"""What copies cost: a cluster that keeps three copies of each key against one that keeps one, in interleaved pairs of runs.

    python benchmarks/http/copies.py [--rounds 10] [--seconds 2] [--n 1,10,100] [--ops get,set] [--engine lmdb]
                                     [--json bench-copies.json]

Both clusters have a proxy and three nodes, run side by side, hold the same keys and are loaded by wrk in turn, as in
`run.py`; the one that goes first changes with each round. Printed is the median of the ratios of CPU per request; then,
for sets, the latency of requests that come at their times (as in `openloop.py`) at a third of what three copies can take.
The machine should do nothing else.
"""

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

from openloop import Generator
from report import Run
from run import batch_sizes, machine, measure, operations, positive, say
from systems import StartError, System, gkv

NODES = 3
CONNECTIONS, PAIRS = 256, 3
"""Of the generator that measures latencies, and how often it does."""
ONE, THREE = "one", "three"


def measure_pairs(systems: dict[str, System], options: argparse.Namespace) -> list[Run]:
    """Warm both up, then measure every case of every round, one cluster directly after the other."""
    runs = []
    for system in systems.values():
        measure(system, 0, options.ops[0], options.n[0], 1)
    for round_ in range(1, options.rounds + 1):
        order = (ONE, THREE) if round_ % 2 else (THREE, ONE)
        for op in options.ops:
            for n in options.n:
                for name in order:
                    runs.append(measure(systems[name], round_, op, n, options.seconds))
                    print(runs[-1], flush=True)
    return runs


def ratios(runs: list[Run], op: str, n: int) -> list[float]:
    """Return for each round what three copies take of the CPU per request of one."""
    cpu = {(run.system, run.round): run.cpu_us_total for run in runs if (run.op, run.n) == (op, n)}
    return [cpu[THREE, round_] / cpu[ONE, round_] for system, round_ in cpu if system == THREE]


def latencies(systems: dict[str, System], n: int, seconds: int) -> str:
    """Return the row of the table of latencies for sets of so many keys."""
    medians: dict[str, list[float]] = {ONE: [], THREE: []}
    generators = {name: Generator(system, n, CONNECTIONS, "set") for name, system in systems.items()}
    rate = generators[THREE].saturate(seconds) / 3
    for turn in range(PAIRS):
        for name in (ONE, THREE) if turn % 2 else (THREE, ONE):
            level = generators[name].offer(1 / 3, rate, seconds)
            medians[name].append(level.latencies(level.served)[0])
    for generator in generators.values():
        generator.close()
    three, one = median(medians[THREE]), median(medians[ONE])
    ratio = median([a / b for a, b in zip(medians[THREE], medians[ONE], strict=True)])
    return f" set {n:>5} {rate:>7.0f}/s {three:>7.2f} ms {one:>7.2f} ms {ratio:>7.3f}"


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=positive, default=2, help="of each run (default: 2)")
    parser.add_argument("--rounds", type=positive, default=10, help="how often each case is run (default: 10)")
    parser.add_argument("--n", type=batch_sizes, default=[1, 10, 100], help="keys per request (default: 1,10,100)")
    parser.add_argument("--ops", type=operations, default=["get", "set"], help="operations (default: get,set)")
    parser.add_argument("--engine", choices=("memory", "lmdb"), default="lmdb", help="of the nodes (default: lmdb)")
    parser.add_argument("--port", type=positive, default=18_280, help="first of eight ports to use (default: 18280)")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; return the exit code."""
    options = read_options()
    if shutil.which("wrk") is None:
        say("wrk is not installed: apt-get install wrk")
        return 1
    line = machine()
    print(f"# {line}")
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gkv-bench-")))
            systems = {}
            for port, (name, copies) in enumerate(((ONE, 1), (THREE, NODES))):
                (directory / name).mkdir()
                at = options.port + port * (1 + NODES)
                started = stack.enter_context(gkv(at, directory / name, options.engine, nodes=NODES, copies=copies))
                started.check()
                systems[name] = replace(started, name=name)
            runs = measure_pairs(systems, options)
            rows = [latencies(systems, n, options.seconds) for n in options.n] if "set" in options.ops else []
    except StartError as error:
        say(str(error))
        return 1
    print(f"\n{'op':>4} {'keys':>5} {'three us':>9} {'one us':>9} {'ratio':>7}   least and greatest of {options.rounds} pairs")
    for op in options.ops:
        for n in options.n:
            found = ratios(runs, op, n)
            three, one = (
                median(run.cpu_us_total for run in runs if (run.system, run.op, run.n) == (name, op, n))
                for name in (THREE, ONE)
            )
            print(f"{op:>4} {n:>5} {three:>9.1f} {one:>9.1f} {median(found):>7.3f}   {min(found):.3f} {max(found):.3f}")
    if disturbed := sum(run.disturbed for run in runs):
        print(f"\n{disturbed} of {len(runs)} runs were disturbed by other work on this machine: do not trust these figures.")
    if "set" in options.ops:
        print("\n  op  keys    offered  three p50    one p50   ratio")
        for row in rows:
            print(row)
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": line, "runs": [asdict(run) for run in runs]}, indent=1) + "\n")
    return 0 if all(run.valid for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
