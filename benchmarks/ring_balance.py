"""How evenly the ring spreads keys, and how many a join moves: the table behind `gkv.ring.DEFAULT_VNODES`.

    python benchmarks/ring_balance.py [--keys 1000000] [--vnodes 256 512 1024 2048 4096]

For each number of vnodes and of equal nodes it says, as the worst of several families of node ids,

    fullest  the keys of the fullest node, against the mean
    join     the keys that one more node takes over, against 1/(n + 1) of all

The keys are counted, not computed from the tokens, so the figures hold the chance in a million keys too: about 0.4 % of a
node's share at 16 nodes.
"""

import argparse
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from gkv.model import Node
from gkv.ring import HASH, TWIN, build

BATCH = 10_000
SIZES = range(2, 17)
FULLEST_BOUND = 1.08
JOIN_BOUND = 1.1

FAMILIES: dict[str, Callable[[int], str]] = {
    "127.0.0.1:9000": lambda i: f"127.0.0.1:{9000 + i}",
    "n0": lambda i: f"n{i}",
    "node-0": lambda i: f"node-{i}",
    "random": lambda i: f"{random.Random(i).getrandbits(64):016x}",
}


class Progress:
    """One line on stderr, written over again and again."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._start = time.monotonic()

    def step(self, doing: str) -> None:
        self._done += 1
        seconds = time.monotonic() - self._start
        line = f"{self._done:4}/{self._steps}  {seconds:4.0f} s  {doing}"
        sys.stderr.write(f"\r{line:<78}")
        sys.stderr.flush()

    def clear(self) -> None:
        sys.stderr.write(f"\r{'':<78}\r")
        sys.stderr.flush()


def count_keys(ids: Sequence[str], vnodes: int, batches: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return how many of the keys each node owns."""
    ring = build([Node(node_id) for node_id in ids], vnodes)
    counts = dict.fromkeys(ids, 0)
    for batch in batches:
        for node, _, keys in ring.split(batch):
            counts[node.id] += len(keys)
    return counts


def moved_by_join(before: dict[str, int], after: dict[str, int]) -> int:
    """Return how many keys a joiner took over; that no other node gained any is checked on the way."""
    (joiner,) = after.keys() - before.keys()
    if any(after[node] > before[node] for node in before):
        raise AssertionError("a join moved keys between nodes that stayed")
    return after[joiner]


def worst_of_families(
    vnodes: int, batches: Sequence[Sequence[str]], progress: Progress
) -> tuple[dict[int, float], dict[int, float]]:
    """Return by number of nodes the fullest node against the mean, and what a join moves against 1/(n + 1)."""
    keys = sum(map(len, batches))
    fullest = dict.fromkeys(SIZES, 0.0)
    join = dict.fromkeys(SIZES, 0.0)
    for family, id_of in FAMILIES.items():
        rings = {}
        for size in range(SIZES.start, SIZES.stop + 1):
            progress.step(f"{vnodes} vnodes, {size} nodes named {family}")
            rings[size] = count_keys([id_of(i) for i in range(size)], vnodes, batches)
        for size, joined in pairwise(rings):
            fullest[size] = max(fullest[size], max(rings[size].values()) * size / keys)
            join[size] = max(join[size], moved_by_join(rings[size], rings[joined]) * joined / keys)
    return fullest, join


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be above 0")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description="Print how evenly the ring spreads keys, and how many a join moves.")
    parser.add_argument("--keys", type=positive, default=1_000_000, help="how many keys to place (default: 1000000)")
    parser.add_argument(
        "--vnodes",
        type=positive,
        nargs="+",
        default=[256, 512, 1024, 2048, 4096],
        help="vnodes of each node, a column for each (default: 256 512 1024 2048 4096)",
    )
    options = parser.parse_args()
    keys = [f"user:{i}" for i in range(options.keys)]
    batches = [keys[at : at + BATCH] for at in range(0, len(keys), BATCH)]
    progress = Progress(len(options.vnodes) * len(FAMILIES) * (len(SIZES) + 1))

    try:
        results = [worst_of_families(vnodes, batches, progress) for vnodes in options.vnodes]
    finally:
        progress.clear()

    print(f"# Python {platform.python_version()} on {platform.machine()}, {HASH}, the {TWIN} twin")
    print(f"# {options.keys} keys; the worst of {len(FAMILIES)} families of node ids: {', '.join(FAMILIES)}")
    print(f"{'vnodes':>6}" + "".join(f"{vnodes:>16}" for vnodes in options.vnodes))
    print(f"{'nodes':>6}" + "  fullest   join" * len(options.vnodes))
    for size in SIZES:
        print(f"{size:>6}" + "".join(f"{fullest[size]:9.3f}{join[size]:7.3f}" for fullest, join in results))
    print(f"{'worst':>6}" + "".join(f"{max(fullest.values()):9.3f}{max(join.values()):7.3f}" for fullest, join in results))
    print(f"{'bound':>6}" + f"{FULLEST_BOUND:9.3f}{JOIN_BOUND:7.3f}" * len(results))


if __name__ == "__main__":
    main()
