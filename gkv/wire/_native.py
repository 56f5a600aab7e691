"""Reading, routing and joining of batches on the C extension."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from gkv import native
from gkv.model import Op, Version
from gkv.ring._native import NativeRing
from gkv.ring.ring import Ring
from gkv.wire.batch import SIZES, Batch, Done, Part, PureRouter
from gkv.wire.client import Limits

if native.extension is None:
    raise ImportError(f"the C extension cannot be used: {native.why_not}")

_ffi = native.extension.ffi
_lib = native.extension.lib
# Parsed once: with the type as text, `new` takes three times as long.
_ITEMS = _ffi.typeof("gkv_item[]")
_UINT32S = _ffi.typeof("uint32_t[]")
_BYTES = _ffi.typeof("uint8_t[]")
_new = _ffi.new_allocator(should_clear_after_alloc=False)
_unpack, _buffer = _ffi.unpack, _ffi.buffer

_SCRATCH = 16_384
_LEAST_ITEM = len('{"key":"x"}') + 1


class NativeBatch(Batch):
    """A batch as offsets into its body. Keys and values become Python objects only where something went wrong."""

    __slots__ = ("_body", "_count", "_items", "_routed")

    def __init__(
        self, op: Op, body: bytes, items: Any, count: int, routed: Any, parts: list[Part], version: Version | None
    ) -> None:
        self.op = op
        self.version = version
        self.parts = parts
        self._body = body
        self._items = items
        self._count = count
        self._routed = routed

    @property
    def keys(self) -> Sequence[str]:
        spans = [(self._items[i].key, self._items[i].key_size) for i in range(self._count)]
        return [self._body[start : start + size].decode() for start, size in spans]

    @property
    def values(self) -> Sequence[bytes]:
        if self.op != Op.SET:
            return ()
        spans = [(self._items[i].value, self._items[i].value_size) for i in range(self._count)]
        return [self._body[start : start + size] for start, size in spans]

    def render_get(self, done: Sequence[Done]) -> tuple[bytes, int]:
        if len(done) == len(self.parts):
            for one, part in zip(done, self.parts, strict=True):
                if one.part is not part or one.failure is not None or not one.frame.startswith(SIZES):
                    break
            else:
                answer = self._splice(done)
                if answer is not None:
                    return answer, 0
        return super().render_get(done)

    def _splice(self, done: Sequence[Done]) -> bytes | None:
        parts = [one.frame for one in done]
        frames = parts[0] if len(parts) == 1 else b"".join(parts)
        ends = list(accumulate(map(len, parts)))
        room = 64 + 40 * self._count + len(self._body) + len(frames)
        out = _new(_BYTES, room)
        size = _lib.gkv_splice(self._body, self._items, self._count, self._routed, len(parts), frames, ends, out, room)
        return None if size < 0 else _buffer(out, size)[:]


class NativeRouter(PureRouter):
    """Reads and routes in C; what C leaves alone, its base class reads. Not for several threads at once."""

    def __init__(self, ring: Ring, cluster: str, epoch: int, limits: Limits) -> None:
        super().__init__(ring, cluster, epoch, limits)
        if not isinstance(ring, NativeRing):
            raise TypeError("a native router needs a native ring")
        self._c_ring = ring.c_ring
        self._nodes = ring.nodes
        # Frames are written here and copied out before anything else can happen; only large batches need room of their own.
        self._scratch = _new(_BYTES, _SCRATCH)
        self._written = _buffer(self._scratch)
        self._c_limits = _ffi.new("gkv_limits *", (limits.max_items, limits.max_key, limits.max_value))
        self._prefixes = {
            op: f'{{"op":"{op.value}","cluster":"{cluster}","epoch":{epoch},{rest}'.encode()
            for op, rest in ((Op.GET, '"keys":['), (Op.SET, '"version":"'), (Op.DELETE, '"version":"'))
        }

    def read(self, op: Op, body: bytes, version: Version | None = None) -> Batch:
        with_values = op == Op.SET
        size = len(body)
        room = min(self._limits.max_items, size // _LEAST_ITEM) + 1
        items = _new(_ITEMS, room)
        count = _lib.gkv_scan(body, size, with_values, self._c_limits, items, room)
        if count < 0:
            return super().read(op, body, version)
        prefix = self._prefixes[op]
        if version is not None:
            prefix = b'%b%b","keys":[' % (prefix, str(version).encode())
        nodes = self._nodes
        out = _new(_UINT32S, count + 4 * len(nodes))
        frames_room = size + 16 * count + (len(prefix) + 16) * min(len(nodes), count)
        frames, written = self._scratch, self._written
        if frames_room > _SCRATCH:
            frames = _new(_BYTES, frames_room)
            written = _buffer(frames)
        found = _lib.gkv_route(self._c_ring, body, items, count, with_values, prefix, len(prefix), out, frames, frames_room)
        if found < 0:
            return super().read(op, body, version)
        answer = _unpack(out, count + 3 * found)
        parts = []
        start = frame_start = 0
        for at in range(count, count + 3 * found, 3):
            node, end, frame_end = answer[at : at + 3]
            parts.append(Part(nodes[node], answer[start:end], written[frame_start:frame_end]))
            start, frame_start = end, frame_end
        return NativeBatch(op, body, items, count, out, parts, version)
