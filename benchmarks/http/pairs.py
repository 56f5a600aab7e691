"""Two systems against each other in interleaved pairs of runs, as `builds.py` and `copies.py` compare them."""

import argparse
from collections.abc import Sequence
from statistics import median

from report import Run
from run import batch_sizes, measure, operations, positive
from systems import System


def add_options(parser: argparse.ArgumentParser, engine: str, port: int, ports: str) -> None:
    """Add the options that such a benchmark has; `engine` and `port` are their defaults."""
    parser.add_argument("--seconds", type=positive, default=2, help="of each run (default: 2)")
    parser.add_argument("--rounds", type=positive, default=10, help="how often each case is run (default: 10)")
    parser.add_argument("--n", type=batch_sizes, default=[1, 10, 100], help="keys per request (default: 1,10,100)")
    parser.add_argument("--ops", type=operations, default=["get", "set"], help="operations (default: get,set)")
    parser.add_argument("--engine", choices=("memory", "lmdb"), default=engine, help=f"of the nodes (default: {engine})")
    parser.add_argument("--port", type=positive, default=port, help=f"first of {ports} ports to use (default: {port})")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")


def measure_pairs(one: System, other: System, options: argparse.Namespace) -> list[Run]:
    """Warm both up, then measure every case of every round, one system directly after the other."""
    runs = []
    for system in (one, other):
        measure(system, 0, options.ops[0], options.n[0], 1)
    for round_ in range(1, options.rounds + 1):
        order = (one, other) if round_ % 2 else (other, one)
        for op in options.ops:
            for n in options.n:
                for system in order:
                    runs.append(measure(system, round_, op, n, options.seconds))
                    print(runs[-1], flush=True)
    return runs


def ratios(runs: Sequence[Run], system: str, base: str, op: str, n: int) -> list[float]:
    """Return for each round what one system takes of the CPU per request of the other, the `base`."""
    cpu = {(run.system, run.round): run.cpu_us_total for run in runs if (run.op, run.n) == (op, n)}
    return [cpu[system, round_] / cpu[base, round_] for name, round_ in cpu if name == system]


def table(runs: Sequence[Run], system: str, base: str, options: argparse.Namespace) -> str:
    """Return the medians of CPU per request and of its ratios, a line for each case; and whether they can be trusted."""
    heads = f"{'op':>4} {'keys':>5} {system + ' us':>9} {base + ' us':>9} {'ratio':>7}"
    lines = [f"{heads}   least and greatest of {options.rounds} pairs"]
    for op in options.ops:
        for n in options.n:
            found = ratios(runs, system, base, op, n)
            mine, theirs = (
                median(run.cpu_us_total for run in runs if (run.system, run.op, run.n) == (name, op, n))
                for name in (system, base)
            )
            lines.append(
                f"{op:>4} {n:>5} {mine:>9.1f} {theirs:>9.1f} {median(found):>7.3f}   {min(found):.3f} {max(found):.3f}"
            )
    if disturbed := sum(run.disturbed for run in runs):
        lines.append(
            f"\n{disturbed} of {len(runs)} runs were disturbed by other work on this machine: do not trust these figures."
        )
    return "\n".join(lines)
