"""The ring on the C extension: one crossing into C for a whole batch.

Nothing here is shared between calls but the ring itself, which never changes, so a ring may be used from any thread (C calls
run without the GIL).
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, cast

from gkv import native
from gkv.model import Node
from gkv.ring.ring import NO_PLACE, NOBODY, Places, Ring, Share

if native.extension is None:
    raise ImportError(f"the C extension cannot be used: {native.why_not}")

_ffi = native.extension.ffi
_lib = native.extension.lib
# Parsed once: with the type as text, `new` takes three times as long.
_UINT32S = _ffi.typeof("uint32_t[]")
_UINT16S = _ffi.typeof("uint16_t[]")
_UINT8S = _ffi.typeof("uint8_t[]")
_new = _ffi.new_allocator(should_clear_after_alloc=False)
_unpack = _ffi.unpack
_buffer = _ffi.buffer


def murmur3_x64_128(data: bytes, seed: int = 0) -> tuple[int, int]:
    """Return the two unsigned 64-bit halves of MurmurHash3_x64_128."""
    out = _ffi.new("uint64_t[2]")
    _lib.gkv_murmur3_x64_128(data, len(data), seed, out)
    return out[0], out[1]


def token(key: str) -> int:
    """Return a key's place on the ring: the first 64 bits of the hash of its UTF-8 bytes, seed 0."""
    data = key.encode()
    return int(_lib.gkv_token(data, len(data)))


def tokens(keys: Sequence[str] | Sequence[bytes]) -> bytes:
    """Return the token of each key in this order, 8 bytes each, the most significant first. All are texts, or all any bytes."""
    count = len(keys)
    if count and isinstance(keys[0], bytes):
        return _tokens_of_bytes(cast("Sequence[bytes]", keys))
    text = "\0".join(cast("Sequence[str]", keys)).encode()
    out = _new(_UINT8S, 8 * count)
    if _lib.gkv_tokens(text, len(text), count, out) < 0:  # a NUL in a key
        return b"".join([token(key).to_bytes(8, "big") for key in cast("Sequence[str]", keys)])
    return bytes(_buffer(out))


def _tokens_of_bytes(pieces: Sequence[bytes]) -> bytes:
    ends = array("I", accumulate(map(len, pieces)))
    out = _new(_UINT8S, 8 * len(pieces))
    _lib.gkv_tokens_of_bytes(b"".join(pieces), _ffi.from_buffer(_UINT32S, ends), len(pieces), out)
    return bytes(_buffer(out))


class NativeRing(Ring):
    """Arrays in C's layout, searched through an index on the tokens' first bits. Lookup: about 0.3 us, nearly all of it
    the crossing into C.
    """

    __slots__ = ("_index", "_named", "_owners", "_ring", "_tokens")
    token = staticmethod(token)

    def _build(self, ids: list[bytes]) -> None:
        total = sum(self.counts)
        bits = max(1, (total - 1).bit_length())  # about one token to an index entry
        self._tokens = bytearray(8 * total)
        self._owners = bytearray(2 * total)
        self._index = bytearray(4 * ((1 << bits) + 1))
        self.own = _ffi.from_buffer("uint16_t[]", self._owners)
        self._named = (*self.nodes, NOBODY)
        self._ring = _ffi.new(
            "gkv_ring *",
            {
                "tokens": _ffi.from_buffer("uint64_t[]", self._tokens),
                "owners": self.own,
                "index": _ffi.from_buffer("uint32_t[]", self._index),
                "vnodes": total,
                "nodes": len(self.nodes),
                "shift": 64 - bits,
            },
        )
        unsorted = _new("uint64_t[]", total)
        ends = list(accumulate(self.counts))
        for node_id, count, end in zip(ids, self.counts, ends, strict=True):
            name = bytearray(node_id + bytes(11))
            _lib.gkv_ring_vnode_tokens(_ffi.from_buffer("uint8_t[]", name), len(node_id), count, unsorted + (end - count))
        _lib.gkv_ring_order(self._ring, unsorted, ends)

    @property
    def c_ring(self) -> Any:
        """The `gkv_ring *` of csrc/gkv.h, valid while this ring lives."""
        return self._ring

    @property
    def tokens(self) -> Sequence[int]:
        return memoryview(self._tokens).toreadonly().cast("Q")

    @property
    def owners(self) -> Sequence[int]:
        return memoryview(self._owners).toreadonly().cast("H")

    def find(self, key: str) -> int:
        return int(_lib.gkv_ring_find(self._ring, token(key)))

    def find_all(self, keys: Sequence[str]) -> list[int]:
        count = len(keys)
        if count < 2:
            return [self.find(key) for key in keys]
        text = "\0".join(keys).encode()
        out = _new(_UINT32S, count)
        if _lib.gkv_ring_find_all(self._ring, text, len(text), count, out) < 0:  # a NUL in a key
            return [self.find(key) for key in keys]
        found: list[int] = _unpack(out, count)
        return found

    def places(self, by_token: Iterable[int]) -> Places:
        places: Places = _ffi.from_buffer("uint16_t[]", array("H", self._checked(by_token)))
        return places

    def node_of(self, key: str, places: Places) -> Node:
        data = key.encode()
        place: int = _lib.gkv_ring_node_of_key(self._ring, places, data, len(data))
        return NOBODY if place == NO_PLACE else self.nodes[place]

    def preference(self, key: str, limit: int) -> list[Node]:
        limit = max(0, min(limit, len(self.nodes)))
        out = _new(_UINT16S, max(1, limit))
        found = _lib.gkv_ring_preference(self._ring, token(key), limit, out)
        return [self.nodes[place] for place in _unpack(out, found)]

    def split(self, keys: Sequence[str], places: Places | None = None) -> list[Share]:
        places = self.own if places is None else places
        count = len(keys)
        if count < 2:  # itemgetter gives no tuple for one key, and there is nothing to group
            return [(self.node_of(key, places), [0], [key]) for key in keys]
        text = "\0".join(keys).encode()
        out = _new(_UINT32S, 2 * count + 3 * len(self._named))
        found = _lib.gkv_ring_split(self._ring, places, text, len(text), count, out)
        if found < 0:
            return self._split_one_by_one(keys, places)
        answer = _unpack(out, count + 2 * found)
        ordered = list(itemgetter(*answer[:count])(keys))
        nodes = self._named
        ends = answer[count + 1 :: 2]
        groups = zip(answer[count::2], [0, *ends[:-1]], ends, strict=True)
        return [(nodes[place], answer[start:end], ordered[start:end]) for place, start, end in groups]

    def check(self) -> list[str]:
        problems = super().check()
        tokens = self.tokens
        shift = self._ring.shift
        index = memoryview(self._index).toreadonly().cast("I")
        expected = [bisect_left(tokens, bucket << shift) for bucket in range(len(index) - 1)] + [len(tokens)]
        if list(index) != expected:
            problems.append("the index does not lead to the tokens")
        return problems

    def _split_one_by_one(self, keys: Sequence[str], places: Places) -> list[Share]:
        """Group keys with a NUL among them, which cannot be joined by NULs. gkv refuses such keys; a ring need not."""
        groups: dict[int, list[int]] = {}
        for position, key in enumerate(keys):
            data = key.encode()
            place = _lib.gkv_ring_node_of_key(self._ring, places, data, len(data))
            groups.setdefault(min(place, len(self.nodes)), []).append(position)
        return [(self._named[place], group, [keys[i] for i in group]) for place, group in sorted(groups.items())]
