"""Filling: how soon a node is up again that was away, and what its filling costs the clients of the others.

    python benchmarks/http/filling.py [--keys 1000000] [--writes 10000] [--rounds 5] [--seconds 5] [--json bench-filling.json]

A proxy and three nodes with three copies, lmdb. One node is away in turn for an orderly stop, a kill -9 and with its
directory lost; `--writes` keys are set meanwhile, and it is filled without a bound of the rate while nobody asks anything.
Then it comes back empty at the usual `--fill-rate`, and the latencies of gets and sets that come at their times (as in
`openloop.py`), at a third of what the cluster can take, are held against those without a filling. The machine should do
nothing else.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from members import Cluster
from openloop import Generator
from run import machine, positive, say
from systems import KEYS, StartError, key

NODES = 3
CONNECTIONS = 128
_MORE = "more:{}"


def measure_return(cluster: Cluster, how: str, keys: int, writes: int) -> dict[str, Any]:
    """Have the last node away, and return what its return takes."""
    cluster.wait("its sums", lambda: cluster.figure(NODES, "gkv_sums_built_ratio") == 1)
    cluster.end(NODES, signal.SIGKILL if how == "killed" else signal.SIGTERM)
    cluster.set([_MORE.format(number) for number in random.Random(how).sample(range(keys), writes)], how)
    if how == "empty":
        cluster.lose(NODES)
    since = time.monotonic()
    cluster.start(NODES, 0)
    filling = cluster.wait("its admission", lambda: cluster.states().get(f"n{NODES}") in ("filling", "up"))
    cluster.wait("its promotion", lambda: cluster.states().get(f"n{NODES}") == "up")
    up = time.monotonic() - since
    taken = cluster.figure(NODES, "gkv_fill_records_taken_total")
    print(f"{how:>8}: filled in {up - filling:6.2f} s, up {up:6.2f} s after its start, {taken:9.0f} records taken", flush=True)
    return {"how": how, "filled": up - filling, "up": up, "taken": taken}


def p99s(cluster: Cluster, op: str, rate: float, rounds: int, seconds: int) -> list[float]:
    """Return the p99 of each round, in milliseconds."""
    generator = Generator(cluster.system(), 10, CONNECTIONS, op)
    levels = [generator.offer(1 / 3, rate, seconds) for _ in range(rounds)]
    generator.close()
    return [level.latencies(level.served)[1] for level in levels]


def measure_cost(cluster: Cluster, rounds: int, seconds: int) -> list[dict[str, Any]]:
    """Return the latencies of clients without a filling and beside one at the usual rate."""
    for number in range(1, NODES + 1):  # with the usual rate
        cluster.end(number, signal.SIGTERM)
        cluster.start(number, None)
        cluster.wait("its return", lambda: list(cluster.states().values()) == ["up"] * NODES)
    rates, without = {}, {}
    for op in ("get", "set"):
        generator = Generator(cluster.system(), 10, CONNECTIONS, op)
        rates[op] = generator.saturate(seconds) / 3
        generator.close()
        without[op] = p99s(cluster, op, rates[op], rounds, seconds)
    cluster.end(NODES, signal.SIGTERM)
    cluster.lose(NODES)
    cluster.start(NODES, None)
    cluster.wait("its admission", lambda: cluster.states().get(f"n{NODES}") == "filling")
    found = []
    for op in ("get", "set"):
        before = cluster.figure(NODES, "gkv_fill_records_taken_total")
        beside = p99s(cluster, op, rates[op], rounds, seconds)
        given = (cluster.figure(NODES, "gkv_fill_records_taken_total") - before) / (rounds * seconds)
        state = cluster.states().get(f"n{NODES}")
        one, other = median(without[op]), median(beside)
        print(
            f"{op:>8}: p99 {one:7.2f} ms without a filling, {other:7.2f} ms beside one of {given:.0f} records a second: "
            f"{other / one:.2f} times at {rates[op]:.0f} requests a second; then {state}",
            flush=True,
        )
        found.append({"op": op, "without": without[op], "beside": beside, "given": given, "state": state})
    return found


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=positive, default=1_000_000, help="records of each node (default: 1000000)")
    parser.add_argument("--writes", type=positive, default=10_000, help="while a node is away (default: 10000)")
    parser.add_argument("--rounds", type=positive, default=5, help="of latencies (default: 5)")
    parser.add_argument("--seconds", type=positive, default=5, help="of each of them (default: 5)")
    parser.add_argument("--port", type=positive, default=18_480, help="first of four ports to use (default: 18480)")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    options = parser.parse_args()
    print(f"# {machine()}")
    try:
        with tempfile.TemporaryDirectory(prefix="gkv-bench-") as directory:
            cluster = Cluster(Path(directory), options.port, NODES, NODES)
            try:
                cluster.begin()
                cluster.set([key(number) for number in range(KEYS)], "")
                cluster.set([_MORE.format(number) for number in range(options.keys)], "")
                print(f"# {options.keys} keys, {options.writes} set while a node is away", flush=True)
                returns = [measure_return(cluster, how, options.keys, options.writes) for how in ("orderly", "killed", "empty")]
                costs = measure_cost(cluster, options.rounds, options.seconds)
            finally:
                cluster.close()
    except StartError as error:
        say(str(error))
        return 1
    if options.json:
        Path(options.json).write_text(json.dumps({"returns": returns, "costs": costs}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
