"""Reading, routing and joining of batches: `pytest benchmarks/test_wire.py`; `--benchmark-json FILE` keeps the numbers.

Each group is one step on the way of a batch, put to both twins of the router, and to the dozen lines one would write with ujson
and bisect: `ujson.loads` the body, group, `ujson.dumps` a frame for each owner; `ujson.loads` the answers, `ujson.dumps` the
whole. That peer is not strict: it takes `01`, NaN, lone surrogates, members that stand twice and raw newlines in strings, looks
at no limit, and gives `1.0` back as it likes. It owes nothing of what a router owes, and is here as the price of being strict.

The batches take turns: one and the same would soon be answered from the CPU's nearest cache.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from itertools import cycle
from typing import Any, Protocol

import mmh3
import pytest
import ujson
from pytest_benchmark.fixture import BenchmarkFixture

from gkv import native
from gkv.model import Node, Op, era_of
from gkv.ring import DEFAULT_VNODES
from gkv.ring._pure import PureRing
from gkv.wire.batch import PartResult, PureRouter
from gkv.wire.client import Limits
from gkv.wire.ops import Items, Values, key_request, read_answer, read_request

NODES = (2, 16)
SIZES = (1, 10, 100, 1000)
FRAME_SIZES = (1, 10, 100)
TURNS = 32
"""How many batches take turns."""
VALUE = b'"' + b"v" * 100 + b'"'
EVERY = 10
"""One key of so many is missing."""


# --- the competitors -------------------------------------------------------------------------------------------------


class Competitor(Protocol):
    """What reads a body into something, the frames in it, and joins the answers to them."""

    def read(self, op: Op, body: bytes) -> Any: ...

    def frames(self, batch: Any) -> list[bytes]: ...

    def join(self, batch: Any, answers: Sequence[bytes]) -> bytes: ...


class Router:
    """One of the twins."""

    def __init__(self, router: PureRouter) -> None:
        self._router = router

    def read(self, op: Op, body: bytes) -> Any:
        return self._router.read(op, body)

    def frames(self, batch: Any) -> list[bytes]:
        return [part.frame for part in batch.parts]

    def join(self, batch: Any, answers: Sequence[bytes]) -> bytes:
        answer, failed = batch.render_get([PartResult(part, frame) for part, frame in zip(batch.parts, answers, strict=True)])
        assert failed == 0
        return bytes(answer)


class Ujson:
    """What one would write who trusts everybody. Its answers carry the values themselves."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        hash64 = mmh3.hash64
        vnodes = sorted((hash64(f"{node.id}:{i}", 0, True, False)[0], node.id) for node in nodes for i in range(DEFAULT_VNODES))
        self._tokens = [token for token, _ in vnodes]
        self._owners = [owner for _, owner in vnodes]
        self._owners.append(self._owners[0])

    def read(self, op: Op, body: bytes) -> tuple[list[Any], list[list[int]], list[bytes]]:
        items = ujson.loads(body)
        groups: dict[str, list[int]] = {}
        hash64, tokens, owners = mmh3.hash64, self._tokens, self._owners
        for position, item in enumerate(items):
            owner = owners[bisect_left(tokens, hash64(item["key"], 0, True, False)[0])]
            groups.setdefault(owner, []).append(position)
        places = [groups[owner] for owner in sorted(groups)]
        frames = []
        for part in places:
            request = {"op": op, "cluster": "5f1c", "epoch": 7, "items": [items[i] for i in part]}
            frames.append(ujson.dumps(request, ensure_ascii=False, escape_forward_slashes=False).encode())
        return items, places, frames

    def frames(self, batch: Any) -> list[bytes]:
        return list(batch[2])

    def join(self, batch: Any, answers: Sequence[bytes]) -> bytes:
        items, places, _ = batch
        values: list[Any] = [None] * len(items)
        for part, answer in zip(places, answers, strict=True):
            for position, value in zip(part, ujson.loads(answer), strict=True):
                values[position] = value
        existed = [{"key": item["key"], "value": value} for item, value in zip(items, values, strict=True) if value is not None]
        missing = [{"key": item["key"], "value": ""} for item, value in zip(items, values, strict=True) if value is None]
        answer = {"existedKey": existed} | ({"notExistedKey": missing} if missing else {})
        return ujson.dumps(answer, ensure_ascii=False, escape_forward_slashes=False).encode()


def of_pure(nodes: Sequence[Node]) -> Competitor:
    return Router(PureRouter(PureRing(nodes, DEFAULT_VNODES), "5f1c", 7, Limits()))


def of_native(nodes: Sequence[Node]) -> Competitor:
    from gkv.ring._native import NativeRing  # cannot be imported when the extension was not built
    from gkv.wire._native import NativeRouter

    return Router(NativeRouter(NativeRing(nodes, DEFAULT_VNODES), "5f1c", 7, Limits()))


COMPETITORS: dict[str, Callable[[Sequence[Node]], Competitor]] = {"native": of_native, "pure": of_pure, "ujson": Ujson}

competitors = pytest.mark.parametrize(
    "name",
    [
        pytest.param("native", marks=pytest.mark.skipif(native.extension is None, reason=f"no native twin: {native.why_not}")),
        "pure",
        "ujson",
    ],
)


# --- what they are asked ---------------------------------------------------------------------------------------------


def keys_of(turn: int, size: int) -> list[str]:
    return [f"user:{turn * size + i}" for i in range(size)]


def body_of(op: Op, keys: Sequence[str]) -> bytes:
    items = [
        b'{"key":"%b","value":%b}' % (key.encode(), VALUE) if op == "set" else b'{"key":"%b"}' % key.encode() for key in keys
    ]
    return b"[" + b",".join(items) + b"]"


def exists(key: str) -> bool:
    return int(key.partition(":")[2]) % EVERY != 0


def answers_to(frames: Sequence[bytes], name: str) -> list[bytes]:
    """Answer each frame as its owner would, in the words of the competitor."""
    if name == "ujson":
        asked = [[item["key"] for item in ujson.loads(frame)["items"]] for frame in frames]
        return [b"[" + b",".join([VALUE if exists(key) else b"null" for key in keys]) + b"]" for keys in asked]
    return [Values([VALUE if exists(key) else None for key in read_request(frame).keys]).write() for frame in frames]


def joined(keys: Sequence[str]) -> bytes:
    existed = b",".join([b'{"key":"%b","value":%b}' % (key.encode(), VALUE) for key in keys if exists(key)])
    missing = b",".join([b'{"key":"%b","value":""}' % key.encode() for key in keys if not exists(key)])
    return b'{"existedKey":[%b]' % existed + (b',"notExistedKey":[%b]' % missing if missing else b"") + b"}"


@cache
def competitor(name: str, nodes: int) -> Competitor:
    """Build a competitor, once, and see that it does what it is timed for."""
    built = COMPETITORS[name]([Node(f"10.0.0.{i}:9000") for i in range(nodes)])
    keys = keys_of(0, 300)
    frames = built.frames(built.read(Op.SET, body_of("set", keys)))
    assert len(frames) == nodes
    if name != "ujson":
        assert frames == [read_request(frame).write() for frame in frames]
        assert sorted(key for frame in frames for key in read_request(frame).keys) == sorted(keys)
    batch = built.read(Op.GET, body_of("get", keys))
    assert built.join(batch, answers_to(built.frames(batch), name)) == joined(keys)
    return built


@competitors
@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("op", [Op.GET, Op.SET])
@pytest.mark.benchmark(max_time=0.3, min_rounds=20, warmup=True, warmup_iterations=50)
def test_read(benchmark: BenchmarkFixture, op: Op, name: str, size: int, nodes: int) -> None:
    """From a client's body to the frames for the owners."""
    read = competitor(name, nodes).read
    turns = cycle([body_of(op, keys_of(turn, size)) for turn in range(TURNS)])
    benchmark.group = f"read and route a {op} of {size:4} keys, {nodes:2} nodes"
    benchmark(lambda: read(op, next(turns)))


@competitors
@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.benchmark(max_time=0.3, min_rounds=20, warmup=True, warmup_iterations=50)
def test_render_get(benchmark: BenchmarkFixture, name: str, size: int, nodes: int) -> None:
    """From the owners' answers to the client's; one key of ten is missing."""
    built = competitor(name, nodes)
    batches = [built.read(Op.GET, body_of("get", keys_of(turn, size))) for turn in range(TURNS)]
    turns = cycle([(batch, answers_to(built.frames(batch), name)) for batch in batches])
    benchmark.group = f"join the answers to a get of {size:4} keys, {nodes:2} nodes"
    benchmark(lambda: built.join(*next(turns)))


@pytest.mark.parametrize("size", FRAME_SIZES)
@pytest.mark.parametrize("op", [Op.GET, Op.SET])
@pytest.mark.benchmark(max_time=0.3, min_rounds=20, warmup=True, warmup_iterations=50)
def test_read_request(benchmark: BenchmarkFixture, op: Op, size: int) -> None:
    """What a node does with what it gets."""
    values = [VALUE] * size if op == "set" else []
    turns = cycle(
        [key_request(op).of_part("5f1c", era_of(1, 7), Items(keys_of(turn, size), values)).write() for turn in range(TURNS)]
    )
    benchmark.group = f"frames: read a {op} of {size:3} keys"
    assert len(benchmark(lambda: read_request(next(turns))).keys) == size


@pytest.mark.parametrize("size", FRAME_SIZES)
@pytest.mark.benchmark(max_time=0.3, min_rounds=20, warmup=True, warmup_iterations=50)
def test_write_reply(benchmark: BenchmarkFixture, size: int) -> None:
    """What a node answers to a get; one key of ten is missing."""
    replies = [Values([VALUE if exists(key) else None for key in keys_of(turn, size)]) for turn in range(TURNS)]
    turns = cycle(replies)
    benchmark.group = f"frames: write the answer to a get of {size:3} keys"
    frame = benchmark(lambda: next(turns).write())
    assert len(read_answer(frame, Values, size).values) == size
