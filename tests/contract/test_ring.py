"""What every ring promises, checked on the pure and on the native twin.

The oracle is written here, from the definition alone: mmh3 hashes, a linear search finds. It shares no line with gkv.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import Any

import mmh3
import pytest

from gkv import native
from gkv.model import Node
from gkv.ring import DEFAULT_VNODES, Ring
from gkv.ring import _pure as pure
from gkv.ring.ring import MAX_NODES, MAX_VNODES, NO_PLACE, NOBODY

if native.extension is not None:
    from gkv.ring import _native as native_ring

SPACE = 1 << 64

Pair = tuple[int, str]
"""A vnode: its token, and the id of its node."""


# --- the twins -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Twin:
    """One implementation, and the two places where a test must know which one it is."""

    name: str
    ring: type[Ring]
    token: Callable[[str], int]
    murmur3: Callable[[bytes, int], tuple[int, int]]
    murmur3_at: Callable[[bytearray, int, int], tuple[int, int]]
    """Hashes (buffer, offset, size) where the bytes stand, as far as the twin can."""
    arrays: Callable[[Any], tuple[Any, Any]]
    """The tokens and owners that a ring searches in, writable."""


def pure_arrays(ring: Any) -> tuple[list[int], list[int]]:
    ring._tokens, ring.own = list(ring._tokens), list(ring.own)
    return ring._tokens, ring.own


def pure_twin() -> Twin:
    return Twin(
        name="pure",
        ring=pure.PureRing,
        token=pure.token,
        murmur3=pure.murmur3_x64_128,
        murmur3_at=lambda buffer, offset, size: pure.murmur3_x64_128(bytes(buffer[offset : offset + size])),
        arrays=pure_arrays,
    )


def native_twin() -> Twin:
    ffi, lib = native.extension.ffi, native.extension.lib

    def murmur3_at(buffer: bytearray, offset: int, size: int) -> tuple[int, int]:
        out = ffi.new("uint64_t[2]")
        lib.gkv_murmur3_x64_128(ffi.from_buffer("uint8_t[]", buffer) + offset, size, 0, out)
        return out[0], out[1]

    return Twin(
        name="native",
        ring=native_ring.NativeRing,
        token=native_ring.token,
        murmur3=native_ring.murmur3_x64_128,
        murmur3_at=murmur3_at,
        arrays=lambda ring: (memoryview(ring._tokens).cast("Q"), memoryview(ring._owners).cast("H")),
    )


@pytest.fixture(params=["pure", "native"], scope="module")
def twin(request: pytest.FixtureRequest) -> Twin:
    if request.param == "pure":
        return pure_twin()
    if native.extension is None:
        pytest.skip(f"no native twin: {native.why_not}")
    return native_twin()


@pytest.fixture
def build(twin: Twin) -> Iterator[Callable[..., Ring]]:
    """Build rings, and hold each of them against its invariants when the test is over."""
    built: list[Ring] = []

    def build(nodes: Iterable[Node], vnodes: int = DEFAULT_VNODES) -> Ring:
        built.append(twin.ring(nodes, vnodes))
        return built[-1]

    yield build
    for ring in built:
        assert ring.check() == []


# --- the definition --------------------------------------------------------------------------------------------------


def token_by_definition(key: str) -> int:
    return mmh3.hash64(key.encode(), 0, True, signed=False)[0]


def vnodes_by_definition(nodes: Iterable[Node], vnodes: int) -> list[Pair]:
    return [
        (token_by_definition(f"{node.tokens_of or node.id}:{i}"), node.id)
        for node in nodes
        for i in range(max(1, round(vnodes * node.weight)))
    ]


def owner_by_definition(pairs: list[Pair], key: str) -> str:
    token = token_by_definition(key)
    return min([pair for pair in pairs if pair[0] >= token] or pairs)[1]


def preference_by_definition(pairs: list[Pair], key: str) -> list[str]:
    token = token_by_definition(key)
    clockwise = sorted(pairs, key=lambda pair: ((pair[0] - token) % SPACE, pair[1]))
    return list(dict.fromkeys(node_id for _, node_id in clockwise))


def shares_by_definition(pairs: list[Pair]) -> dict[str, float]:
    owned = dict.fromkeys((node_id for _, node_id in pairs), 0)
    tokens = sorted({token for token, _ in pairs})
    for before, token in pairwise([tokens[-1] - SPACE, *tokens]):
        owned[min(node_id for at, node_id in pairs if at == token)] += token - before
    return {node_id: part / SPACE for node_id, part in owned.items()}


# --- inputs ----------------------------------------------------------------------------------------------------------


def nodes_named(*ids: str) -> list[Node]:
    return [Node(node_id) for node_id in ids]


THREE = nodes_named("127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:9002")
WEIGHTED = [
    Node("tiny", weight=0.0001),
    Node("quarter", weight=0.25),
    Node("half", weight=0.5),
    Node("a"),
    Node("b", weight=2.5),
]
WEIGHTED_VNODES = 10
WEIGHTED_COUNTS = {"tiny": 1, "quarter": 2, "half": 5, "a": 10, "b": 25}

# MurmurHash3_x64_128 takes a block of 16 bytes into a state of 128 bits by steps that can each be undone. So for any two
# first blocks there are second blocks that lead both to one state, and from there on the two strings hash alike, whatever
# follows. These were made so: the readable halves were fixed; random ASCII was tried for the rest of the first string,
# 8 bytes at a time, until the 8 bytes that the second string then must have were ASCII too (some 10,000 tries each).
TIED_LOWER = "lower-id-in-tie-tBID4em84IIT7q-W"
TIED_UPPER = "upper-id-in-tie-TmxJZvDPqmFmfhBV"
TWIN_KEYS = ("one-of-two-keys-t84JVtjV0V4l3O6I", "its-double-key--KPuUp0d1vJavJXzg")


def some_keys(size: int, seed: int) -> list[str]:
    """Keys of 0 to 40 characters from the whole of Unicode that UTF-8 can say, NUL not among them."""
    rng = random.Random(seed)
    alphabets = ("abcdefghijklmnopqrstuvwxyz0123456789:/.-_ ", "äßéñøłžΩжאم中文キー한글", "😀🇪🇺𝔊𐍈\U0010ffff\x01\x7f")
    return ["".join(rng.choices(rng.choice(alphabets), k=rng.randint(0, 40))) for _ in range(size)]


def ids(nodes: Iterable[Node]) -> list[str]:
    return [node.id for node in nodes]


def grouped_one_by_one(ring: Ring, keys: Iterable[str]) -> list[tuple[Node, list[int], list[str]]]:
    """Say what split must say, asked key by key."""
    groups: dict[str, tuple[Node, list[int], list[str]]] = {}
    for position, key in enumerate(keys):
        owner = ring.owner(key)
        _, positions, part = groups.setdefault(owner.id, (owner, [], []))
        positions.append(position)
        part.append(key)
    return [groups[node_id] for node_id in sorted(groups)]


# --- the hash --------------------------------------------------------------------------------------------------------


def pattern(size: int) -> bytes:
    """Return bytes that all differ, some with the top bit and some without."""
    return bytes((37 * i + 11) % 256 for i in range(size))


# Made once with mmh3 5.3: the hashes of pattern(0), pattern(1) and so on.
GOLDEN = [
    "00000000000000000000000000000000",
    "932fc7cce617f1e77a434b816c4508dc",
    "cff7e5ae5471b39d8549c3b277c47536",
    "6afac0b8de81a4b10cdcf4fb816ab243",
    "d3a4eed1b81f9f728f4cf22ad9a420cd",
    "b0330f40087f990bad93f9759963f50b",
    "32d1f10b04077a124b5791ad3829937e",
    "8340cc686662983ba08f38dfaa7ff6f9",
    "f0b144007f89ced7d02221832d7af9a1",
    "dbb3088eaec8a0b1cbde24182efe09a9",
    "7fc82ef8fd4f371e7a1ac716596298b0",
    "ce105a4d0920d564c5c7129b727fc1d6",
    "11eea59fafc3bbb8de304d589b0ddbf8",
    "3c0bc0c7790cc4e7f34ba40d12f9b27e",
    "4af05278beeea17127302e3cea75fb09",
    "2906f047b67f83ff49ca338fe7701fac",
    "da9c66580c5ef0fb885aae87bb6c5ff7",
    "78b8ee9a775e07d1e36790301698fce0",
    "5022ece9b605f7d816d1b21eec8d67ac",
    "40591a6345e2fd5e3d2b31d643027caf",
    "f85aeb21888559f3a65eec4ab46824ee",
    "2c128c13418db6f393818c98df190fa8",
    "c0ffc3389f0350726dfadfaec1dcf534",
    "01b7d4fb84dc53aa5ad5c324b9edfa99",
    "8372e2feeb61eb1ce8f405aaf3f01b03",
    "ed9e2943729d5da2704bb843bd5ff913",
    "9fcd422e337cdec4628fa90e86818db5",
    "454a6a1202a0fd74e3a5ff0398ea8b76",
    "c2ea419f1d4c02de82b2e058cfa3ecda",
    "2ab2e5425a3cf241bef6e3ba00dbfc06",
    "fde530955c73468b3e2a6a483ba0dd7c",
    "b1ca061ed4c5532fcb6926489e7b3763",
    "af7374eb8efe799b3a5200924dcdd6ff",
    "08b88a88c3099ba915c06fbdb5df8af9",
    "46e6fbb70374f1b8c970e3964acebd94",
    "3db6d4b9af498f9fa38faf048c7c1306",
    "aee3ca841fccf7f71c67089590905310",
    "ff4d3072c71df4b34b78961252ae7b6c",
    "5003e0c3f8da178f437d03b403801e49",
    "244221d812da51c7836db813dc4ac3f8",
    "bf77aa22e65e7cfc15f2951b4c05748b",
]

GOLDEN_SEEDED = [
    (0x1, 0, "4610abe56eff5cb551622daa78f83583"),
    (0x1, 15, "f2faeb7f93a1ba3e0cb26ac6cb5aac11"),
    (0x1, 16, "67070958d1d0f6e0ecd454d88c15a895"),
    (0x1, 33, "610c166472862415935c6e5e79a79a3e"),
    (0x9747B28C, 0, "392b208a1daabbb393b0608fe302957a"),
    (0x9747B28C, 15, "335f5087d2c8cc583041cdcbb287c4c5"),
    (0x9747B28C, 16, "f000e3ed91b0ee1ca98aa8ff5d8a4c22"),
    (0x9747B28C, 33, "df8ff14bc2ca0d4c3568941c7a9c1896"),
    (0xFFFFFFFF, 0, "6af1df4d9d3bc9ec857421121ee6446b"),
    (0xFFFFFFFF, 15, "797ef50a52c26dd6e74ecfae6c9f0abc"),
    (0xFFFFFFFF, 16, "06d3fc3376fe6236bf93c8eb269488d5"),
    (0xFFFFFFFF, 33, "36697d1c1a3ac3af221d723be19fac33"),
]

GOLDEN_TOKENS = {
    "": 0x0000000000000000,
    "hello": 0xCBD8A7B341BD9B02,
    "ключ": 0xF66070F271AB02C3,
    "キー": 0x1144E73D77325024,
    "\u00e9": 0xC9187AA411D463E8,
    "e\u0301": 0xB1F12462200B4E0D,
    "😀": 0x156DB15587E0545C,
    "a\0b": 0x2DEF92D2C1E6B5DB,
}


def as_hex(halves: tuple[int, int]) -> str:
    return "{:016x}{:016x}".format(*halves)


def mmh3_hex(data: bytes, seed: int = 0) -> str:
    return as_hex(mmh3.hash64(data, seed, True, signed=False))


def test_murmur3_golden_vectors_are_those_of_mmh3() -> None:
    assert [mmh3_hex(pattern(size)) for size in range(41)] == GOLDEN
    assert [(seed, size, mmh3_hex(pattern(size), seed)) for seed, size, _ in GOLDEN_SEEDED] == GOLDEN_SEEDED
    assert {key: token_by_definition(key) for key in GOLDEN_TOKENS} == GOLDEN_TOKENS


def test_murmur3_of_0_to_40_bytes_matches_golden_vectors(twin: Twin) -> None:
    assert [as_hex(twin.murmur3(pattern(size), 0)) for size in range(41)] == GOLDEN


def test_murmur3_with_other_seeds_matches_golden_vectors(twin: Twin) -> None:
    assert [(seed, size, as_hex(twin.murmur3(pattern(size), seed))) for seed, size, _ in GOLDEN_SEEDED] == GOLDEN_SEEDED


@pytest.mark.parametrize("size", [255, 256, 257, 4095, 65_536, 300_001])
def test_murmur3_of_long_input_matches_mmh3(twin: Twin, size: int) -> None:
    data = random.Random(size).randbytes(size)
    for seed in (0, 0x9747B28C):
        assert as_hex(twin.murmur3(data, seed)) == mmh3_hex(data, seed)


@pytest.mark.parametrize("around", [0x00, 0xFF])
def test_murmur3_of_unaligned_input_is_that_of_its_bytes_alone(twin: Twin, around: int) -> None:
    """Whatever the address, and whatever stands before and behind."""
    for offset in range(16):
        for size in range(41):
            buffer = bytearray([around]) * 80
            buffer[offset : offset + size] = pattern(size)
            assert as_hex(twin.murmur3_at(buffer, offset, size)) == GOLDEN[size]


def test_token_is_the_first_half_of_the_hash_of_utf_8(twin: Twin) -> None:
    assert {key: twin.token(key) for key in GOLDEN_TOKENS} == GOLDEN_TOKENS
    for key in some_keys(500, seed=1):
        assert twin.token(key) == token_by_definition(key)


@pytest.mark.parametrize("key", ["\ud800", "ab\udfffcd"])
def test_lone_surrogate_is_refused_everywhere(twin: Twin, build: Callable[..., Ring], key: str) -> None:
    ring = build(THREE, 8)
    asked: list[Callable[[], object]] = [
        lambda: twin.token(key),
        lambda: ring.owner(key),
        lambda: ring.preference(key, 2),
        lambda: ring.split([key]),
        lambda: ring.split(["a", key, "b"]),
        lambda: twin.ring([Node(key)]),
    ]
    for ask in asked:
        with pytest.raises(UnicodeEncodeError):  # a ValueError
            ask()


# --- building --------------------------------------------------------------------------------------------------------


def test_ring_vnodes_are_those_of_the_definition(build: Callable[..., Ring]) -> None:
    """Counts around 10 and 100, where the decimal of a vnode's number grows by a digit."""
    for vnodes in (1, 9, 10, 11, 99, 101, 1001):
        ring = build(THREE, vnodes)
        found = [(token, ring.nodes[place].id) for token, place in zip(ring.tokens, ring.owners, strict=True)]
        assert found == sorted(vnodes_by_definition(THREE, vnodes))


def test_ring_of_default_vnodes_has_them_for_each_node(build: Callable[..., Ring]) -> None:
    ring = build(THREE)
    assert ring.vnodes == DEFAULT_VNODES
    assert ring.counts == (DEFAULT_VNODES,) * 3
    assert Counter(ring.owners) == {0: DEFAULT_VNODES, 1: DEFAULT_VNODES, 2: DEFAULT_VNODES}


def test_ring_of_weighted_nodes_has_vnodes_in_proportion_and_at_least_one(build: Callable[..., Ring]) -> None:
    ring = build(WEIGHTED, WEIGHTED_VNODES)
    assert dict(zip(ids(ring.nodes), ring.counts, strict=True)) == WEIGHTED_COUNTS
    assert Counter(ring.nodes[place].id for place in ring.owners) == WEIGHTED_COUNTS


def test_node_in_anothers_place_has_its_tokens_and_no_others(build: Callable[..., Ring]) -> None:
    before, other = build(THREE, 64), Node("z", tokens_of=THREE[1].id)
    after = build([THREE[0], other, THREE[2]], 64)
    assert list(after.tokens) == list(before.tokens)
    names = {node.id: node.id for node in THREE} | {"z": THREE[1].id}
    owners = [names[after.nodes[place].id] for place in after.owners]
    assert owners == [before.nodes[place].id for place in before.owners]


def test_ring_nodes_are_ascending_by_id_and_keep_their_url(build: Callable[..., Ring]) -> None:
    nodes = [Node("n10", "http://c:1"), Node("n9", "http://b:2"), Node("N1", "http://a:3", 2.0), Node("ñ", "http://d:4")]
    assert build(nodes, 4).nodes == (nodes[2], nodes[0], nodes[1], nodes[3])


def test_ring_does_not_depend_on_the_order_of_nodes(build: Callable[..., Ring]) -> None:
    first = build(WEIGHTED, WEIGHTED_VNODES)
    orders = list(permutations(WEIGHTED))[1:]
    for nodes in [*orders, iter(WEIGHTED), set(WEIGHTED)]:
        ring = build(nodes, WEIGHTED_VNODES)
        assert ring.nodes == first.nodes
        assert list(ring.tokens) == list(first.tokens)
        assert list(ring.owners) == list(first.owners)


@pytest.mark.parametrize(
    ("nodes", "vnodes", "problem"),
    [
        pytest.param([], 8, "1 to 65535 nodes, not 0", id="no-nodes"),
        pytest.param([Node(f"n{i}") for i in range(MAX_NODES + 1)], 1, "nodes, not 65536", id="too-many-nodes"),
        pytest.param([Node("a"), Node("b"), Node("a", "http://x:1")], 8, "stands twice", id="duplicate-id"),
        pytest.param([Node("a"), Node("b", tokens_of="a")], 8, "the same tokens", id="duplicate-tokens"),
        pytest.param(THREE, 0, "above 0", id="vnodes-0"),
        pytest.param(THREE, -1, "above 0", id="vnodes-negative"),
        pytest.param([Node("a", weight=0)], 8, "above 0", id="weight-0"),
        pytest.param([Node("a", weight=-1)], 8, "above 0", id="weight-negative"),
        pytest.param([Node("a"), Node("b", weight=math.nan)], 8, "above 0", id="weight-nan"),
        pytest.param([Node("a"), Node("b", weight=math.inf)], 8, "above 0", id="weight-inf"),
        pytest.param([Node("a")], MAX_VNODES + 1, "at most", id="too-many-vnodes"),
        pytest.param(nodes_named("a", "b"), MAX_VNODES // 2 + 1, "at most", id="too-many-vnodes-together"),
        pytest.param([Node("a", weight=MAX_VNODES / 2)], 4, "at most", id="too-many-vnodes-by-weight"),
    ],
)
def test_ring_of_invalid_input_raises_value_error(twin: Twin, nodes: Iterable[Node], vnodes: int, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        twin.ring(nodes, vnodes)


# --- owner -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vnodes", [1, 2, 7, 64])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 16])
def test_owner_is_that_of_the_definition(build: Callable[..., Ring], size: int, vnodes: int) -> None:
    nodes = [Node(f"10.0.0.{i}:9000") for i in range(size)]
    pairs = vnodes_by_definition(nodes, vnodes)
    ring = build(nodes, vnodes)
    for key in some_keys(100, seed=size):
        assert ring.owner(key).id == owner_by_definition(pairs, key)


def test_owner_among_weighted_nodes_is_that_of_the_definition(build: Callable[..., Ring]) -> None:
    pairs = vnodes_by_definition(WEIGHTED, WEIGHTED_VNODES)
    ring = build(WEIGHTED, WEIGHTED_VNODES)
    for key in some_keys(500, seed=2):
        assert ring.owner(key).id == owner_by_definition(pairs, key)


def test_owner_among_300_nodes_is_that_of_the_definition(build: Callable[..., Ring]) -> None:
    """More nodes than a byte can number."""
    nodes = [Node(f"n{i}") for i in range(300)]
    pairs = vnodes_by_definition(nodes, 8)
    ring = build(nodes, 8)
    keys = some_keys(500, seed=3)
    owners = [ring.owner(key) for key in keys]
    assert ids(owners) == [owner_by_definition(pairs, key) for key in keys]
    assert max(ring.nodes.index(owner) for owner in owners) > 255


def test_owner_of_any_key_in_a_ring_of_one_node_is_that_node(build: Callable[..., Ring]) -> None:
    for vnodes in (1, 2, DEFAULT_VNODES):
        ring = build([THREE[0]], vnodes)
        assert {ring.owner(key) for key in some_keys(200, seed=4)} == {THREE[0]}
        assert ring.shares() == {THREE[0].id: 1.0}


def test_owner_of_a_key_on_a_vnode_token_is_that_vnodes_node(build: Callable[..., Ring]) -> None:
    """The key "<id>:<i>" has the very token of the vnode: >=, not >."""
    ring = build(THREE, 50)
    for node in THREE:
        for i in range(50):
            assert ring.owner(f"{node.id}:{i}") == node


@pytest.mark.parametrize("vnodes", [1, 2])
def test_owner_of_a_key_past_the_last_token_is_the_first_tokens_node(build: Callable[..., Ring], vnodes: int) -> None:
    nodes = nodes_named("d", "l")
    tokens = sorted(vnodes_by_definition(nodes, vnodes))
    (first, first_owner), (last, last_owner) = tokens[0], tokens[-1]
    assert first_owner != last_owner  # or the test could not tell
    candidates = [f"key-{i}" for i in range(2000)]
    past_the_end = [key for key in candidates if token_by_definition(key) > last]
    before_the_start = [key for key in candidates if token_by_definition(key) <= first]
    assert len(past_the_end) > 20
    assert len(before_the_start) > 20
    ring = build(nodes, vnodes)
    assert {ring.owner(key).id for key in past_the_end + before_the_start} == {first_owner}
    assert {ring.preference(key, 1)[0].id for key in past_the_end} == {first_owner}
    assert [(node.id, part) for node, _, part in ring.split(past_the_end)] == [(first_owner, past_the_end)]


def test_owner_of_the_lowest_token_there_is_is_the_first_tokens_node(build: Callable[..., Ring]) -> None:
    """The empty key hashes to 0."""
    ring = build(THREE, 16)
    assert ring.owner("") == ring.nodes[ring.owners[0]]


# --- ties ------------------------------------------------------------------------------------------------------------


def test_tied_ids_and_keys_do_collide(twin: Twin) -> None:
    for a, b in ((TIED_LOWER, TIED_UPPER), TWIN_KEYS):
        assert a != b
        for suffix in ("", ":0", ":4095", ":a tail of more than one whole block"):
            assert mmh3_hex((a + suffix).encode()) == mmh3_hex((b + suffix).encode())
            assert twin.murmur3((a + suffix).encode(), 0) == twin.murmur3((b + suffix).encode(), 0)
    assert TIED_LOWER < TIED_UPPER


@pytest.mark.parametrize("order", [(TIED_LOWER, TIED_UPPER), (TIED_UPPER, TIED_LOWER)], ids=["ascending", "descending"])
def test_ties_of_all_tokens_leave_every_key_to_the_lower_id(build: Callable[..., Ring], order: tuple[str, str]) -> None:
    ring = build(nodes_named(*order), 64)
    tokens, owners = list(ring.tokens), list(ring.owners)
    assert tokens[::2] == tokens[1::2] == sorted(set(tokens))
    assert len(set(tokens)) == 64
    assert owners == [0, 1] * 64
    assert ring.shares() == {TIED_LOWER: 1.0, TIED_UPPER: 0.0}
    keys = [*some_keys(500, seed=5), *(f"{TIED_UPPER}:{i}" for i in range(64))]
    for key in keys:
        assert ring.owner(key).id == TIED_LOWER
        assert ids(ring.preference(key, 2)) == [TIED_LOWER, TIED_UPPER]
    assert ring.split(keys) == [(Node(TIED_LOWER), list(range(len(keys))), keys)]


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
def test_ties_among_other_nodes_are_those_of_the_definition(build: Callable[..., Ring], weight: float) -> None:
    """A node of other weight shares only some of its tokens."""
    nodes = [Node("a"), Node(TIED_UPPER, weight=weight), Node("m"), Node(TIED_LOWER), Node("z")]
    pairs = vnodes_by_definition(nodes, 16)
    ring = build(nodes, 16)
    for key in some_keys(300, seed=6):
        assert ring.owner(key).id == owner_by_definition(pairs, key)
        assert ids(ring.preference(key, 5)) == preference_by_definition(pairs, key)
    assert ring.shares() == pytest.approx(shares_by_definition(pairs), abs=1e-15)
    assert math.isclose(sum(ring.shares().values()), 1)


def test_split_of_keys_with_one_hash_keeps_both(twin: Twin, build: Callable[..., Ring]) -> None:
    a, b = TWIN_KEYS
    ring = build(THREE, 64)
    assert twin.token(a) == twin.token(b)
    owner = ring.owner(a)
    assert ring.split([a, b, a]) == [(owner, [0, 1, 2], [a, b, a])]
    assert ring.split([b, a]) == [(owner, [0, 1], [b, a])]


# --- preference list -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [THREE, WEIGHTED, [Node(f"n{i}") for i in range(12)]], ids=["three", "weighted", "twelve"])
@pytest.mark.parametrize("vnodes", [1, 3, 20])
def test_preference_is_that_of_the_definition(build: Callable[..., Ring], nodes: list[Node], vnodes: int) -> None:
    pairs = vnodes_by_definition(nodes, vnodes)
    ring = build(nodes, vnodes)
    for key in some_keys(60, seed=vnodes):
        expected = preference_by_definition(pairs, key)
        for limit in range(len(nodes) + 1):
            assert ids(ring.preference(key, limit)) == expected[:limit]


def test_preference_over_the_number_of_nodes_is_all_of_them(build: Callable[..., Ring]) -> None:
    ring = build(THREE, 16)
    for limit in (3, 4, 1000, 100_000):
        for key in some_keys(20, seed=7):
            preference = ring.preference(key, limit)
            assert len(preference) == 3
            assert set(preference) == set(THREE)


def test_preference_of_0_is_empty(build: Callable[..., Ring]) -> None:
    ring = build(THREE, 16)
    assert ring.preference("key", 0) == []
    assert ring.preference("key", -1) == []


def test_preference_among_300_nodes_is_distinct_and_begins_with_the_owner(build: Callable[..., Ring]) -> None:
    nodes = [Node(f"n{i}") for i in range(300)]
    pairs = vnodes_by_definition(nodes, 4)
    ring = build(nodes, 4)
    for key in some_keys(30, seed=8):
        preference = ring.preference(key, 300)
        assert preference[0] == ring.owner(key)
        assert len(preference) == len(set(preference)) == 300
        assert ids(preference) == preference_by_definition(pairs, key)
        assert preference[:7] == ring.preference(key, 7)


# --- split -----------------------------------------------------------------------------------------------------------

BATCHES = {
    "empty": [],
    "one-key": ["key"],
    "one-empty-key": [""],
    "one-key-that-is-nul": ["\0"],
    "two-keys": ["a", "b"],
    "two-empty-keys": ["", ""],
    "empty-keys-at-both-ends": ["", "a", "", "b", ""],
    "repeated-keys": ["a", "b", "a", "c", "b", "a"],
    "one-key-many-times": ["a"] * 1000,
    "nul-first": ["\0a", "b", "c"],
    "nul-in-the-middle": ["a", "b\0c", "d"],
    "nul-last": ["a", "b", "c\0"],
    "nul-alone": ["a", "\0", "b", "\0\0"],
    "a-hundred": some_keys(100, seed=9),
    "ten-thousand": some_keys(10_000, seed=10),
    "ten-thousand-with-nul": [*some_keys(9_999, seed=11), "a\0b"],
    "long-keys": ["x" * 100_000, "y" * 70_001, "", "x" * 100_000],
}


@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("batch", BATCHES)
def test_split_equals_asking_one_by_one(build: Callable[..., Ring], batch: str, size: int) -> None:
    keys = BATCHES[batch]
    ring = build([Node(f"n{i}") for i in range(size)], 16)
    expected = grouped_one_by_one(ring, keys)
    assert ring.split(keys) == expected
    assert ring.split(tuple(keys)) == expected


def test_split_gives_each_position_once_in_batch_order_and_owners_ascending(build: Callable[..., Ring]) -> None:
    keys = some_keys(5_000, seed=12)
    shares = build([Node(f"n{i}") for i in range(16)], 64).split(keys)
    assert len(shares) == 16
    owners = ids(node for node, _, _ in shares)
    assert owners == sorted(owners)
    assert sorted(position for _, positions, _ in shares for position in positions) == list(range(len(keys)))
    for _, positions, part in shares:
        assert positions == sorted(positions)
        assert part == [keys[position] for position in positions]


def test_split_names_only_owners_that_have_keys(build: Callable[..., Ring]) -> None:
    ring = build([Node(f"n{i}") for i in range(300)], 8)
    keys = some_keys(20, seed=13)
    shares = ring.split(keys)
    assert shares == grouped_one_by_one(ring, keys)
    assert all(part for _, _, part in shares)


def test_split_leaves_the_batch_as_it_was(build: Callable[..., Ring]) -> None:
    ring = build(THREE, 16)
    keys = some_keys(100, seed=14)
    before = list(keys)
    for _, positions, part in ring.split(keys):
        positions.clear()
        part.clear()
    assert keys == before


# --- other places than the owners' ------------------------------------------------------------------------------------


def test_lookups_take_the_places_that_they_are_given(build: Callable[..., Ring]) -> None:
    ring = build([Node(f"n{i}") for i in range(5)], 16)
    swapped = ring.places([(place + 1) % 5 for place in ring.owners])
    keys = some_keys(300, seed=11)
    for key in keys:
        assert ring.node_of(key, swapped) == ring.nodes[(ring.nodes.index(ring.owner(key)) + 1) % 5]
    shares = ring.split(keys, swapped)
    assert [node.id for node, _, _ in shares] == ["n0", "n1", "n2", "n3", "n4"]
    assert sorted(position for _, positions, _ in shares for position in positions) == list(range(300))
    for node, positions, part in shares:
        assert part == [keys[i] for i in positions]
        assert all(ring.node_of(key, swapped) == node for key in part)
    assert ring.split(keys) == ring.split(keys, ring.own) == ring.split(keys, ring.places(ring.owners)) != shares


@pytest.mark.parametrize("more", [[], ["a\0b"]], ids=["joined", "one by one"])
def test_keys_of_nobody_are_the_last_share(build: Callable[..., Ring], more: list[str]) -> None:
    ring = build([Node(f"n{i}") for i in range(5)], 16)
    without = ring.places([NO_PLACE if place == 2 else place for place in ring.owners])
    keys = [*some_keys(300, seed=12), *more]
    lost = [i for i, key in enumerate(keys) if ring.owner(key).id == "n2"]
    *kept, (node, positions, part) = ring.split(keys, without)
    assert node is NOBODY
    assert (positions, part) == (lost, [keys[i] for i in lost])
    assert kept == [share for share in ring.split(keys) if share[0].id != "n2"]
    for i, key in enumerate(keys):
        assert (ring.node_of(key, without) is NOBODY) == (i in lost)
        [(alone, _, _)] = ring.split([key], without)
        assert (alone is NOBODY) == (i in lost)
    nobody = ring.places([NO_PLACE] * len(ring.tokens))
    assert ring.split(keys, nobody) == [(NOBODY, list(range(len(keys))), keys)]


@pytest.mark.parametrize("places", [[], [0] * 15, [0] * 17, [0] * 15 + [3], [0] * 15 + [-1], [0] * 15 + [0xFFFE]])
def test_places_that_are_not_one_of_the_nodes_for_each_token_are_refused(build: Callable[..., Ring], places: list[int]) -> None:
    with pytest.raises(ValueError, match="for each of its tokens"):
        build(THREE[:2], 8).places(places)


# --- check and shares ------------------------------------------------------------------------------------------------


WRONG_TOKENS = "the tokens are not those of the members, ascending"
WRONG_OWNER = "a token has the wrong owner"


@pytest.mark.parametrize("size", [1, 2, 63, 64, 300])
def test_check_of_a_good_ring_finds_nothing(twin: Twin, size: int) -> None:
    assert twin.ring([Node(f"n{i}", weight=1 + i % 3) for i in range(size)], 8).check() == []


def damaged(twin: Twin, ring: Ring, damage: Callable[[Any, Any], None]) -> list[str]:
    """Return what check() says about a ring whose tokens and owners were changed behind its back."""
    tokens, owners = twin.arrays(ring)
    damage(tokens, owners)
    return ring.check()


def test_check_of_swapped_tokens_reports_them(twin: Twin) -> None:
    def swap(tokens: Any, _owners: Any) -> None:
        tokens[3], tokens[4] = tokens[4], tokens[3]

    assert WRONG_TOKENS in damaged(twin, twin.ring(THREE, 8), swap)


def test_check_of_a_tie_in_the_wrong_order_reports_the_owner(twin: Twin) -> None:
    def swap(_tokens: Any, owners: Any) -> None:
        owners[6], owners[7] = owners[7], owners[6]

    assert damaged(twin, twin.ring(nodes_named(TIED_LOWER, TIED_UPPER), 8), swap) == [WRONG_OWNER]


@pytest.mark.parametrize("size", [2, 100])
def test_check_of_exchanged_owners_reports_them(twin: Twin, size: int) -> None:
    def swap(_tokens: Any, owners: Any) -> None:
        first, second = list(owners).index(0), list(owners).index(1)
        owners[first], owners[second] = 1, 0

    assert damaged(twin, twin.ring(nodes_named(*(f"n{i:03}" for i in range(size))), 4), swap) == [WRONG_OWNER]


def test_check_of_an_owner_who_is_no_member_reports_it(twin: Twin) -> None:
    def promote(_tokens: Any, owners: Any) -> None:
        owners[2] = 1

    assert damaged(twin, twin.ring(nodes_named("a"), 4), promote) == [WRONG_OWNER]


def test_check_of_a_lost_vnode_reports_the_count(twin: Twin) -> None:
    class Shortened(twin.ring):
        tokens = property(lambda self: twin.arrays(self)[0][:-1])
        owners = property(lambda self: twin.arrays(self)[1][:-1])

    assert "there are 3 tokens and 3 owners of 4 vnodes" in Shortened(nodes_named("a"), 4).check()


@pytest.mark.skipif(native.extension is None, reason=f"the C extension is not in use: {native.why_not}")
def test_check_of_a_wrong_index_reports_it() -> None:
    ring = native_ring.NativeRing(THREE, 8)
    ring._index[4:8] = b"\xff\0\0\0"
    assert ring.check() == ["the index does not lead to the tokens"]


@pytest.mark.parametrize("limit", [2**32, 2**64])
def test_preference_of_any_limit_is_all_nodes_at_most(twin: Twin, limit: int) -> None:
    assert len(twin.ring(THREE, 8).preference("hi", limit)) == 3


@pytest.mark.parametrize(("vnodes", "weight"), [(10**400, 1.0), (10**305, 1e7), (1, 1e300)])
def test_ring_of_absurd_size_is_refused(twin: Twin, vnodes: int, weight: float) -> None:
    with pytest.raises(ValueError, match="vnodes"):
        twin.ring([Node("a", weight=weight)], vnodes)


@pytest.mark.parametrize("vnodes", [1, 2, 25])
@pytest.mark.parametrize("nodes", [THREE[:1], THREE, WEIGHTED], ids=["one", "three", "weighted"])
def test_shares_are_those_of_the_definition(build: Callable[..., Ring], nodes: list[Node], vnodes: int) -> None:
    shares = build(nodes, vnodes).shares()
    assert shares == pytest.approx(shares_by_definition(vnodes_by_definition(nodes, vnodes)), abs=1e-15)
    assert list(shares) == sorted(ids(nodes))


@pytest.mark.parametrize("size", [1, 2, 16, 300])
def test_shares_sum_to_1(build: Callable[..., Ring], size: int) -> None:
    assert math.isclose(sum(build([Node(f"n{i}") for i in range(size)], 32).shares().values()), 1)


# --- balance ---------------------------------------------------------------------------------------------------------

FULLEST = 1.08
"""What the fullest node may have, against the mean."""
MOVED = 1.1
"""What a join may move, against 1/(n + 1)."""


def random_ids(seed: int) -> Callable[[int], str]:
    return lambda i: f"{random.Random(seed * 1000 + i).getrandbits(64):016x}"


FAMILIES: dict[str, Callable[[int], str]] = {
    "address": lambda i: f"127.0.0.1:{9000 + i}",
    "n": lambda i: f"n{i}",
    "node": lambda i: f"node-{i}",
    "random": random_ids(seed=15),
}


def family_of(name: str, size: int) -> list[Node]:
    return [Node(FAMILIES[name](i)) for i in range(size)]


@pytest.mark.parametrize("family", FAMILIES)
def test_balance_of_2_to_16_equal_nodes_keeps_the_fullest_below_1_08_of_the_mean(twin: Twin, family: str) -> None:
    for size in range(2, 17) if twin.name == "native" else (2, 5, 16):  # the pure twin takes 12 ms a node to build
        shares = twin.ring(family_of(family, size), DEFAULT_VNODES).shares()
        assert max(shares.values()) * size <= FULLEST, f"{size} nodes"


@pytest.mark.parametrize("family", FAMILIES)
def test_balance_after_a_join_moves_little_and_only_to_the_joiner(twin: Twin, family: str) -> None:
    keys = [f"user:{i}" for i in range(20_000)]
    nodes = family_of(family, 16 if twin.name == "native" else 4)
    before = dict.fromkeys(keys, nodes[0].id)
    for size, joiner in enumerate(nodes[1:], start=1):
        ring = twin.ring(nodes[: size + 1], DEFAULT_VNODES)
        after = {key: node.id for node, _, part in ring.split(keys) for key in part}
        moved = [key for key in keys if before[key] != after[key]]
        assert moved
        assert {after[key] for key in moved} == {joiner.id}
        assert ring.shares()[joiner.id] <= MOVED / (size + 1), f"{size} nodes and one more"
        before = after
    assert ring.check() == []
