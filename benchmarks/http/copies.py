"""The cost of copies: a cluster that keeps three copies of each key against one that keeps one, in interleaved pairs of runs.

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
from pairs import add_options, measure_pairs, table
from run import machine, say
from systems import StartError, System, gkv

NODES = 3
CONNECTIONS, PAIRS = 256, 3
"""Of the generator that measures latencies, and how often it does."""
ONE, THREE = "one", "three"


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
    add_options(parser, "lmdb", 18_280, "eight")
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
            runs = measure_pairs(systems[ONE], systems[THREE], options)
            rows = [latencies(systems, n, options.seconds) for n in options.n] if "set" in options.ops else []
    except StartError as error:
        say(str(error))
        return 1
    print(f"\n{table(runs, THREE, ONE, options)}")
    if "set" in options.ops:
        print("\n  op  keys    offered  three p50    one p50   ratio")
        for row in rows:
            print(row)
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": line, "runs": [asdict(run) for run in runs]}, indent=1) + "\n")
    return 0 if all(run.valid for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
