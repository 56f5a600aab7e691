"""The twins agree on every input, and placement never changes between releases: data lies where an older gkv put it."""

import hashlib
import re
import struct
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gkv
from gkv import native, ring
from gkv.errors import ConfigError
from gkv.model import Node
from gkv.ring import Ring
from gkv.ring import _pure as pure
from gkv.ring.murmur3 import tokens
from gkv.ring.ring import NO_PLACE

if native.extension is not None:
    from gkv.ring import _native as native_ring

needs_native = pytest.mark.skipif(native.extension is None, reason=f"no native twin: {native.why_not}")


# --- agreement -------------------------------------------------------------------------------------------------------

# Whatever UTF-8 can say: NUL, which ends the native twin's fast path, and characters of each encoded length.
SOME_TEXT = st.text(st.sampled_from("\0\x01a:09ßж中\ufffd😀\U0010ffff"), max_size=40)
ANY_TEXT = st.one_of(st.text(max_size=40), SOME_TEXT)
KEYS = st.lists(st.one_of(ANY_TEXT, st.sampled_from(["", "\0", "a", "a\0", "a\0b"])), max_size=50)
WEIGHTS = st.one_of(st.just(1.0), st.floats(0.001, 8.0))
NODES = st.lists(st.builds(Node, id=ANY_TEXT, weight=WEIGHTS), min_size=1, max_size=12, unique_by=lambda node: node.id)


def assert_same_ring(one: Ring, other: Ring) -> None:
    assert one.nodes == other.nodes
    assert one.counts == other.counts
    assert list(one.tokens) == list(other.tokens)
    assert list(one.owners) == list(other.owners)
    assert one.shares() == other.shares()
    assert one.check() == other.check() == []


@needs_native
@settings(max_examples=300, deadline=None, derandomize=True)
@given(nodes=NODES, vnodes=st.integers(1, 40), keys=KEYS)
@example(nodes=[Node("")], vnodes=1, keys=["", "\0", "\0\0"])
@example(nodes=[Node("\0"), Node("\0\0")], vnodes=3, keys=["a\0b"])
@example(nodes=[Node("a", weight=0.001), Node("😀", weight=8.0)], vnodes=40, keys=["😀"] * 3)
def test_twins_agree_on_any_nodes_and_keys(nodes: list[Node], vnodes: int, keys: list[str]) -> None:
    one, other = pure.PureRing(nodes, vnodes), native_ring.NativeRing(nodes, vnodes)
    assert_same_ring(one, other)
    assert tokens(keys) == native_ring.tokens(keys)
    assert tokens(keys) == b"".join(pure.token(key).to_bytes(8, "big") for key in keys)
    assert tokens(keys) == native_ring.tokens([key.encode() for key in keys])
    for key in keys:
        assert pure.token(key) == native_ring.token(key)
        assert one.owner(key) == other.owner(key)
        for limit in (0, 1, 3, len(nodes), len(nodes) + 1):
            assert one.preference(key, limit) == other.preference(key, limit)
    assert one.split(keys) == other.split(keys)
    assert one.split(tuple(keys)) == other.split(tuple(keys))
    places = [NO_PLACE if at % 3 == 0 else (place + at) % len(nodes) for at, place in enumerate(one.owners)]
    assert one.split(keys, one.places(places)) == other.split(keys, other.places(places))
    for key in keys:
        assert one.node_of(key, one.places(places)) == other.node_of(key, other.places(places))


@needs_native
@settings(max_examples=500, deadline=None, derandomize=True)
@given(data=st.binary(max_size=200), seed=st.integers(0, 2**32 - 1))
def test_twins_agree_on_the_hash_of_any_bytes(data: bytes, seed: int) -> None:
    assert pure.murmur3_x64_128(data, seed) == native_ring.murmur3_x64_128(data, seed)


@needs_native
@settings(max_examples=200, deadline=None, derandomize=True)
@given(pieces=st.lists(st.binary(max_size=60), max_size=30))
@example(pieces=[])
@example(pieces=[b"", b"\0", b"\xff" * 521])
def test_twins_agree_on_the_tokens_of_any_bytes(pieces: list[bytes]) -> None:
    assert tokens(pieces) == native_ring.tokens(pieces)
    assert tokens(pieces) == b"".join(pure.murmur3_x64_128(piece)[0].to_bytes(8, "big") for piece in pieces)


@needs_native
@pytest.mark.parametrize("size", [1, 2, 300])
def test_twins_agree_on_rings_with_many_vnodes(size: int) -> None:
    """Totals on both sides of a power of two, where the native twin's index doubles."""
    for total in (255, 256, 257, 4096, 4097):
        nodes = [Node(f"n{i}") for i in range(size)]
        vnodes = max(1, total // size)
        assert_same_ring(pure.PureRing(nodes, vnodes), native_ring.NativeRing(nodes, vnodes))


# --- placement -------------------------------------------------------------------------------------------------------

NODES_OF_THE_EXAMPLES = [Node("127.0.0.1:9000"), Node("127.0.0.1:9001"), Node("127.0.0.1:9002")]

# Never to be changed: a different answer here means that a cluster loses sight of its data when gkv is updated.
PLACEMENT = {
    "": "127.0.0.1:9000",
    "hello": "127.0.0.1:9000",
    "hi": "127.0.0.1:9000",
    "user:1": "127.0.0.1:9002",
    "user:2": "127.0.0.1:9002",
    "user:3": "127.0.0.1:9001",
    "cart/42": "127.0.0.1:9000",
    "a b": "127.0.0.1:9000",
    "a\0b": "127.0.0.1:9000",
    "ключ": "127.0.0.1:9001",
    "キー": "127.0.0.1:9001",
    "😀": "127.0.0.1:9001",
    "x" * 1000: "127.0.0.1:9000",
}
PLACEMENT_SHA256 = "907ee3ee4689fa7850c9410ff67210cfd4fb501f6be37b71b8127c08c99ca0a2"


@pytest.fixture(params=["in-use", "pure", pytest.param("native", marks=needs_native)], scope="module")
def golden(request: pytest.FixtureRequest) -> Ring:
    """Return the ring of the three nodes at the default vnodes, made in each way there is."""
    if request.param == "in-use":
        return ring.build(NODES_OF_THE_EXAMPLES)
    return (pure.PureRing if request.param == "pure" else native_ring.NativeRing)(NODES_OF_THE_EXAMPLES)


def test_placement_of_keys_never_changes(golden: Ring) -> None:
    assert {key: golden.owner(key).id for key in PLACEMENT} == PLACEMENT
    placed = {key: node.id for node, _, keys in golden.split(list(PLACEMENT)) for key in keys}
    assert placed == PLACEMENT


@pytest.mark.promise("I10")
def test_placement_of_all_vnodes_never_changes(golden: Ring) -> None:
    vnodes = b"".join(struct.pack("<QH", *vnode) for vnode in zip(golden.tokens, golden.owners, strict=True))
    assert hashlib.sha256(vnodes).hexdigest() == PLACEMENT_SHA256


def test_build_uses_the_twin_it_names() -> None:
    expected = ("pure", "PureRing") if native.extension is None else ("native", "NativeRing")
    assert (ring.TWIN, type(ring.build(NODES_OF_THE_EXAMPLES, 8)).__name__) == expected
    assert ring.token("hello") == 0xCBD8A7B341BD9B02


# --- which twin ------------------------------------------------------------------------------------------------------


def put_extension(monkeypatch: pytest.MonkeyPatch, extension: object) -> None:
    """Let the import of the extension find this; with None it fails as if nothing had been built."""
    monkeypatch.setitem(sys.modules, "gkv._native", extension)


def of_interface(number: int) -> SimpleNamespace:
    return SimpleNamespace(lib=SimpleNamespace(GKV_ABI=number))


@pytest.mark.parametrize("mode", ["", "on", "OFF", "1", " auto"])
def test_load_with_unknown_mode_names_the_modes(mode: str) -> None:
    with pytest.raises(ConfigError, match="it may be one of auto, require, off") as caught:
        native._load(mode)
    assert repr(mode) in str(caught.value)


def test_load_off_leaves_a_usable_extension_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    put_extension(monkeypatch, of_interface(native.ABI))
    assert native._load("off") == (None, "turned off by GKV_NATIVE=off")


@pytest.mark.parametrize("mode", ["auto", "require"])
def test_load_with_a_usable_extension_returns_it(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    extension = of_interface(native.ABI)
    put_extension(monkeypatch, extension)
    assert native._load(mode) == (extension, "")


def test_load_auto_without_extension_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    put_extension(monkeypatch, None)
    extension, why_not = native._load("auto")
    assert extension is None
    assert why_not.startswith("it was not built")


def test_load_require_without_extension_names_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    put_extension(monkeypatch, None)
    with pytest.raises(ConfigError, match=r"GKV_NATIVE=require.* it was not built"):
        native._load("require")


def test_load_of_a_broken_extension_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A library for another system, say: it is there, so "not built" would send the operator the wrong way."""
    broken = tmp_path / f"_native{EXTENSION_SUFFIXES[0]}"
    broken.write_bytes(b"no library")
    monkeypatch.delitem(sys.modules, "gkv._native", raising=False)
    monkeypatch.setattr(gkv, "__path__", [str(tmp_path)])
    extension, why_not = native._load("auto")
    assert extension is None
    assert str(broken) in why_not
    with pytest.raises(ConfigError, match=f"GKV_NATIVE=require.*{re.escape(str(broken))}"):
        native._load("require")


@pytest.mark.parametrize("number", [native.ABI - 1, native.ABI + 1])
def test_load_auto_with_another_interface_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    put_extension(monkeypatch, of_interface(number))
    extension, why_not = native._load("auto")
    assert extension is None
    assert f"(interface {number}, expected {native.ABI})" in why_not


@pytest.mark.parametrize("number", [native.ABI - 1, native.ABI + 1])
def test_load_require_with_another_interface_names_both(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    put_extension(monkeypatch, of_interface(number))
    with pytest.raises(ConfigError, match=rf"GKV_NATIVE=require.*\(interface {number}, expected {native.ABI}\)"):
        native._load("require")


@needs_native
def test_load_of_the_extension_that_was_built_passes() -> None:
    assert native._load("require") == (native.extension, "")
