"""Two builds of gkv against each other: CPU per request, as the median of the ratios of interleaved pairs of runs.

    python benchmarks/http/builds.py --other OTHER/.venv/bin/python [--rounds 10] [--seconds 2] [--n 1,10,100] [--ops get,set]
                                     [--engine memory] [--json bench-builds.json]

`--other` is the Python of a virtual environment with the other build: a clone of an earlier commit, say. Both builds
run side by side, each with a proxy and two nodes, hold the same keys and are loaded by wrk in turn, as in `run.py`; the
one that goes first changes with each round. A ratio below 1 says that this build takes less CPU than the other. The
machine should do nothing else.
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

from report import Run
from run import batch_sizes, machine, measure, operations, positive, say
from systems import PORTS, StartError, System, gkv

THIS, OTHER = "this", "other"


def measure_pairs(this: System, other: System, options: argparse.Namespace) -> list[Run]:
    """Warm both up, then measure every case of every round, one build directly after the other."""
    runs = []
    for system in (this, other):
        measure(system, 0, options.ops[0], options.n[0], 1)
    for round_ in range(1, options.rounds + 1):
        order = (this, other) if round_ % 2 else (other, this)
        for op in options.ops:
            for n in options.n:
                for system in order:
                    runs.append(measure(system, round_, op, n, options.seconds))
                    print(runs[-1], flush=True)
    return runs


def ratios(runs: list[Run], op: str, n: int) -> list[float]:
    """Return for each round what this build takes of the other's CPU per request."""
    cpu = {(run.system, run.round): run.cpu_us_total for run in runs if (run.op, run.n) == (op, n)}
    return [cpu[THIS, round_] / cpu[OTHER, round_] for system, round_ in cpu if system == THIS]


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--other", required=True, help="the Python of a virtual environment with the other build")
    parser.add_argument("--seconds", type=positive, default=2, help="of each run (default: 2)")
    parser.add_argument("--rounds", type=positive, default=10, help="how often each case is run (default: 10)")
    parser.add_argument("--n", type=batch_sizes, default=[1, 10, 100], help="keys per request (default: 1,10,100)")
    parser.add_argument("--ops", type=operations, default=["get", "set"], help="operations (default: get,set)")
    parser.add_argument("--engine", choices=("memory", "lmdb"), default="memory", help="of the nodes (default: memory)")
    parser.add_argument("--port", type=positive, default=18_180, help="first of half a dozen ports to use (default: 18180)")
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
            for i, (name, python) in enumerate(((THIS, sys.executable), (OTHER, options.other))):
                (directory / name).mkdir()
                started = stack.enter_context(gkv(options.port + i * PORTS, directory / name, options.engine, python=python))
                started.check()
                systems[name] = replace(started, name=name)
            runs = measure_pairs(systems[THIS], systems[OTHER], options)
    except StartError as error:
        say(str(error))
        return 1
    print(f"\n{'op':>4} {'keys':>5} {'this us':>9} {'other us':>9} {'ratio':>7}   least and greatest of {options.rounds} pairs")
    for op in options.ops:
        for n in options.n:
            found = ratios(runs, op, n)
            mine, theirs = (
                median(run.cpu_us_total for run in runs if (run.system, run.op, run.n) == (name, op, n))
                for name in (THIS, OTHER)
            )
            print(f"{op:>4} {n:>5} {mine:>9.1f} {theirs:>9.1f} {median(found):>7.3f}   {min(found):.3f} {max(found):.3f}")
    if disturbed := sum(run.disturbed for run in runs):
        print(f"\n{disturbed} of {len(runs)} runs were disturbed by other work on this machine: do not trust these figures.")
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": line, "runs": [asdict(run) for run in runs]}, indent=1) + "\n")
    return 0 if all(run.valid for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
