"""The ring against what one would otherwise use: `pytest benchmarks/test_ring.py`; `--benchmark-json FILE` keeps the numbers.

Each group is one question put to all competitors: gkv's twins, the dozen lines one would write with mmh3 and bisect, and
uhashring. All have the same nodes and the same number of vnodes, and all answer a batch with the same thing: for each owner
the positions of its keys, and the keys. uhashring hashes by its default, MD5, so it names other owners.

The batches take turns: one and the same would soon be answered from the CPU's nearest cache.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from typing import Any

import mmh3
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from uhashring import HashRing

from gkv import native
from gkv.model import Node
from gkv.ring import DEFAULT_VNODES, Ring
from gkv.ring._pure import PureRing

NODES = (3, 16, 100)
BATCHES = (1, 10, 100, 1000)
TURNS = 64
"""How many batches take turns."""

Part = tuple[Any, list[int], list[str]]
"""What one node gets of a batch: the node, the positions of its keys, and the keys."""


# --- the competitors -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Competitor:
    owner: Callable[[str], Any]
    split: Callable[[Sequence[str]], list[Part]]


def group(owners: Iterable[Any], keys: Sequence[str]) -> list[Part]:
    """Group a batch by owner: the loop that everybody writes who has no split."""
    groups: dict[Any, tuple[list[int], list[str]]] = {}
    for position, (owner, key) in enumerate(zip(owners, keys, strict=True)):
        part = groups.get(owner)
        if part is None:
            groups[owner] = ([position], [key])
        else:
            part[0].append(position)
            part[1].append(key)
    return [(owner, *groups[owner]) for owner in sorted(groups)]


def of_gkv(twin: type[Ring], ids: Sequence[str]) -> Competitor:
    ring = twin([Node(node_id) for node_id in ids], DEFAULT_VNODES)
    return Competitor(ring.owner, ring.split)


def of_pure(ids: Sequence[str]) -> Competitor:
    return of_gkv(PureRing, ids)


def of_native(ids: Sequence[str]) -> Competitor:
    from gkv.ring._native import NativeRing  # cannot be imported when the extension was not built

    return of_gkv(NativeRing, ids)


def of_mmh3_and_bisect(ids: Sequence[str]) -> Competitor:
    hash64 = mmh3.hash64
    # hash64(key, seed, x64arch, signed), by position: keywords are slower.
    vnodes = sorted((hash64(f"{node_id}:{i}", 0, True, False)[0], node_id) for node_id in ids for i in range(DEFAULT_VNODES))
    tokens = [token for token, _ in vnodes]
    owners = [node_id for _, node_id in vnodes]
    owners.append(owners[0])  # of what is past the last token
    return Competitor(
        lambda key: owners[bisect_left(tokens, hash64(key, 0, True, False)[0])],
        lambda keys: group([owners[bisect_left(tokens, hash64(key, 0, True, False)[0])] for key in keys], keys),
    )


def of_uhashring(ids: Sequence[str]) -> Competitor:
    get_node = HashRing(nodes=list(ids), vnodes=DEFAULT_VNODES).get_node
    return Competitor(get_node, lambda keys: group(map(get_node, keys), keys))


COMPETITORS = {"native": of_native, "pure": of_pure, "mmh3+bisect": of_mmh3_and_bisect, "uhashring": of_uhashring}

competitors = pytest.mark.parametrize(
    "name",
    [
        pytest.param("native", marks=pytest.mark.skipif(native.extension is None, reason=f"no native twin: {native.why_not}")),
        *list(COMPETITORS)[1:],
    ],
)


# --- what they are asked ---------------------------------------------------------------------------------------------


def ids_of(nodes: int) -> list[str]:
    return [f"10.0.0.{i}:9000" for i in range(nodes)]


def batches_of(size: int) -> list[list[str]]:
    return [[f"user:{turn * size + i}" for i in range(size)] for turn in range(TURNS)]


@cache
def competitor(name: str, nodes: int) -> Competitor:
    """Build a competitor, once, and see that its answers are what the others are timed for too."""
    built = COMPETITORS[name](ids_of(nodes))
    keys = [f"key {i % 700}" for i in range(1000)]
    parts = built.split(keys)
    assert parts == group(map(built.owner, keys), keys)
    assert len(parts) == nodes
    if name in ("native", "pure"):
        assert [(node.id, *part) for node, *part in parts] == competitor("mmh3+bisect", nodes).split(keys)
    return built


@competitors
@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.benchmark(max_time=0.3, min_rounds=20, warmup=True, warmup_iterations=50)
def test_100_owners_one_by_one(benchmark: BenchmarkFixture, name: str, nodes: int) -> None:
    """A hundred at a time, for the clock; it compares with a split of 100."""
    owner = competitor(name, nodes).owner
    turns = cycle(batches_of(100))

    def ask() -> None:
        for key in next(turns):
            owner(key)

    benchmark.group = f"owner of 100 keys, one by one, {nodes:3} nodes"
    benchmark(ask)


@competitors
@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.benchmark(max_time=0.3, min_rounds=20, warmup=True, warmup_iterations=50)
def test_split(benchmark: BenchmarkFixture, name: str, size: int, nodes: int) -> None:
    split = competitor(name, nodes).split
    turns = cycle(batches_of(size))
    benchmark.group = f"split of {size:4} keys, {nodes:3} nodes"
    benchmark(lambda: split(next(turns)))


@competitors
@pytest.mark.parametrize("nodes", NODES)
def test_build(benchmark: BenchmarkFixture, name: str, nodes: int) -> None:
    """What a change of the members costs."""
    benchmark.group = f"build, {nodes:3} nodes"
    benchmark.pedantic(COMPETITORS[name], (ids_of(nodes),), rounds=20 if name == "native" else 3, warmup_rounds=1)
