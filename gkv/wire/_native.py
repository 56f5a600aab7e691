"""Reading, routing and joining of batches on the C extension."""

import json
from collections.abc import Sequence
from itertools import accumulate
from json.encoder import encode_basestring as quote
from typing import Any

from gkv import native
from gkv.model import Op, split_era
from gkv.ring._native import NativeRing, token
from gkv.ring.ring import NOBODY, Places, Ring
from gkv.wire.batch import SIZES, Batch, Part, PartResult, PureRouter, milliseconds
from gkv.wire.client import ItemReader, ItemSpans, Limits
from gkv.wire.shown import join
from gkv.wire.strict import Pause, no_pause

if native.extension is None:
    raise ImportError(f"the C extension cannot be used: {native.why_not}")

_ffi = native.extension.ffi
_lib = native.extension.lib
# Parsed once: with the type as text, `new` takes three times as long.
_ITEMS = _ffi.typeof("gkv_item[]")
_CURSOR = _ffi.typeof("gkv_cursor *")
_UINT32S = _ffi.typeof("uint32_t[]")
_INT64S = _ffi.typeof("int64_t[]")
_BYTES = _ffi.typeof("uint8_t[]")
_new = _ffi.new_allocator(should_clear_after_alloc=False)
_unpack, _buffer = _ffi.unpack, _ffi.buffer
_NULL = _ffi.NULL
_END, _DOUBT, _ROOM = _lib.GKV_END, _lib.GKV_DOUBT, _lib.GKV_ROOM
_MISSING = _lib.GKV_MISSING
# What is looked up for each request: in a library or an enum that takes 0.1 us more than here.
_scan_plain, _route, _splice = _lib.gkv_scan_plain, _lib.gkv_route, _lib.gkv_splice
_SET = Op.SET

_SCRATCH = 16_384
_LEAST_ITEM = len('{"key":"x"}') + 1
_STEP = 262_144
"""Bytes that C reads in one step, which takes a millisecond or two."""
_AT_ONCE = 2 << 20
"""Bytes that C writes in one step. What is larger is put together here, slower by 1 us a key, with pauses."""
_PAUSE_EVERY = 256
"""Keys that are worked on in one step here."""


class NativeBatch(Batch):
    """A batch as offsets into its body. Keys and values become Python objects only where something went wrong.

    Keys that had an escape have their texts in `texts`.
    """

    __slots__ = ("_ttls", "body", "count", "items", "routed", "texts")

    def __init__(self, op: Op, body: bytes, items: Any, count: int) -> None:
        self.op = op
        self.body = body
        self.items = items
        self.count = count
        self.texts = self.routed = _NULL
        self._ttls: Sequence[int] = ()

    def read_in_steps(self, limits: Limits, c_limits: Any, room: int, pause: Pause) -> bool:
        """Read the items, at most `room`; the definition reads each that is wrong, or that C is not sure of.

        Return whether all of them can stand here: one with a condition, or whose value is bytes, cannot. Raise as
        `PureRouter.read` does.
        """
        body, items, with_values = self.body, self.items, self.op == _SET
        definition = ItemReader(body, limits, self.op, pause)
        reached = _ffi.new(_CURSOR)
        texts_room = 0
        while True:
            state = _lib.gkv_scan(body, len(body), with_values, c_limits, reached, items, room, self.texts, texts_room, _STEP)
            if state in (_DOUBT, _ROOM) and not texts_room:
                texts_room = self._make_texts(reached, limits)
            if state == _DOUBT:
                definition.at, definition.count = reached.at, reached.count
                found = definition.next()
                if found is None:
                    break
                if found.condition or found.blob is not None:
                    return False
                self._note(found, definition.at, reached)
            if state == _END:
                break
            pause()
        self.count = reached.count
        if reached.ttls:
            self._read_ttls(pause)
        return True

    def _make_texts(self, reached: Any, limits: Limits) -> int:
        """Make room for the texts of all keys that are left. Memory is taken only as far as it is written to."""
        left, count = len(self.body) - reached.at, limits.max_items - reached.count
        room: int = min(left, count * (6 * limits.max_key + 2))
        self.texts = _new(_BYTES, room)
        return room

    def _note(self, found: ItemSpans, at: int, reached: Any) -> None:
        """Note an item that the definition has read, up to `at`."""
        item = self.items[reached.count]
        text = quote(found.key).encode()
        _ffi.memmove(self.texts + reached.texts, text, len(text))
        item.token = token(found.key)
        item.key, item.key_size = len(self.body) + reached.texts + 1, len(text) - 2
        item.value, item.value_size = found.value[0], found.value[1] - found.value[0]
        item.ttl, item.ttl_size = found.ttl[0], found.ttl[1] - found.ttl[0]
        reached.texts += len(text)
        reached.ttls += item.ttl_size > 0
        reached.count += 1
        reached.at = at

    def quoted_keys(self, positions: Sequence[int], pause: Pause) -> list[bytes]:
        """Return the texts of some keys, in quotes."""
        body, items, texts, size = self.body, self.items, self.texts, len(self.body)
        quoted = []
        for number, position in enumerate(positions):
            item = items[position]
            start, end = item.key - 1, item.key + item.key_size + 1
            quoted.append(body[start:end] if start < size else _buffer(texts + (start - size), end - start)[:])
            if not number % _PAUSE_EVERY:
                pause()
        return quoted

    def _read_ttls(self, pause: Pause) -> None:
        """Read the ttl of each item."""
        body, items = self.body, self.items
        ttls = []
        for number in range(self.count):
            item = items[number]
            start, size = item.ttl, item.ttl_size
            ttls.append(milliseconds(float(body[start : start + size])) if size else 0)
            if not number % _PAUSE_EVERY:
                pause()
        self._ttls = ttls

    @property
    def keys(self) -> Sequence[str]:
        quoted = self.quoted_keys(range(self.count), no_pause)
        return [text[1:-1].decode() if b"\\" not in text else json.loads(text) for text in quoted]

    @property
    def values(self) -> Sequence[bytes]:
        if self.op != _SET:
            return ()
        items, body = self.items, self.body
        spans = [(items[i].value, items[i].value_size) for i in range(self.count)]
        return [body[start : start + size] for start, size in spans]

    @property
    def ttls(self) -> Sequence[int]:
        return self._ttls

    def render_get(self, done: Sequence[PartResult], pause: Pause = no_pause) -> tuple[bytes, int]:
        if len(done) == len(self.parts):
            for one, part in zip(done, self.parts, strict=True):
                if one.part is not part or one.failure is not None or not one.frame.startswith(SIZES):
                    break
            else:
                frames = [one.frame for one in done]
                if pause is no_pause or sum(map(len, frames)) <= _AT_ONCE:
                    answer = self._splice(frames)
                else:
                    answer = self._splice_in_steps(frames, pause)
                if answer is not None:
                    return answer, 0
        return super().render_get(done, pause)

    def _splice(self, parts: list[bytes]) -> bytes | None:
        """Join the owners' answers in C; return None when one of them is not as it should be."""
        body, count = self.body, self.count
        if len(parts) == 1:
            frames = parts[0]
            ends = [len(frames)]
        else:
            frames = b"".join(parts)
            ends = list(accumulate(map(len, parts)))
        room = 64 + 40 * count + len(body) + len(frames)
        out = _new(_BYTES, room)
        size = _splice(body, len(body), self.texts, self.items, count, self.routed, len(parts), frames, ends, out, room)
        return None if size < 0 else _buffer(out, size)[:]

    def _splice_in_steps(self, frames: list[bytes], pause: Pause) -> bytes | None:
        """Join the owners' answers as `_splice` does, with no copy but the one into the answer."""
        items, count = self.items, self.count
        views: list[memoryview] = [memoryview(b"")] * count
        start = 0
        for part, frame in zip(self.parts, frames, strict=True):
            size = len(part.positions)
            if not _lib.gkv_read_answer(frame, len(frame), items, self.routed + start, size):
                return None
            start += size
            view = memoryview(frame)
            for position in part.positions:
                views[position] = view
            pause()
        existed: list[bytes | memoryview] = [b'{"existedKey":[']
        missing: list[bytes] = []
        for number, key in enumerate(self.quoted_keys(range(count), pause)):
            value, size = items[number].value, items[number].value_size
            if size == _MISSING:
                missing.append(b'{"key":%b,"value":""}' % key)
            else:
                existed += (b',{"key":%b,"value":' % key, views[number][value : value + size], b"}")
            if not number % _PAUSE_EVERY:
                pause()
        if len(existed) > 1:
            existed[1] = existed[1][1:]
        existed.append(b'],"notExistedKey":[%b]}' % b",".join(missing) if missing else b"]}")
        return join(existed, pause)


class NativeRouter(PureRouter):
    """Reads and routes in C, item by item what C leaves alone. Not for several threads at once."""

    def __init__(self, ring: Ring, cluster: str, era: int, limits: Limits, places: Places | None = None) -> None:
        super().__init__(ring, cluster, era, limits, places)
        if not isinstance(ring, NativeRing):
            raise TypeError("a native router needs a native ring")
        self._c_ring = ring.c_ring
        self._most_items = limits.max_items + 1
        self._nodes = (*ring.nodes, NOBODY)
        # Frames are written here and copied out before anything else can happen; only large batches need room of their own.
        self._scratch = _new(_BYTES, _SCRATCH)
        self._written = _buffer(self._scratch)
        self._c_limits = _ffi.new("gkv_limits *", (limits.max_items, limits.max_key, limits.max_value))
        generation, epoch = split_era(era)
        self._prefixes = {
            op: f'{{"op":"{op.value}","cluster":"{cluster}","generation":{generation},"epoch":{epoch},"keys":['.encode()
            for op in (Op.GET, Op.FETCH, Op.SET, Op.DELETE)
        }

    def read(self, op: Op, body: bytes, pause: Pause = no_pause) -> Batch:
        with_values = op == _SET
        size = len(body)
        room = size // _LEAST_ITEM + 1
        if room > self._most_items:
            room = self._most_items  # `min` takes 0.1 us more
        items = _new(_ITEMS, room)
        # Nearly every batch is read in one step, without the cursor that others need: 0.7 us less.
        count = _scan_plain(body, size, with_values, self._c_limits, items, room) if size <= _STEP else -1
        batch = NativeBatch(op, body, items, count)
        if count < 0:
            if not batch.read_in_steps(self._limits, self._c_limits, room, pause):
                return super().read(op, body, pause)
            count = batch.count
        prefix = self._prefixes[op]
        ttls = _NULL
        nodes = self._nodes
        out = _new(_UINT32S, count + 4 * len(nodes))
        owners = len(nodes)
        if count < owners:
            owners = count
        frames_room = size + 16 * count + (len(prefix) + 28) * owners
        if batch.ttls:
            ttls = _ffi.new(_INT64S, batch.ttls)
            frames_room += 20 * count
        frames, written = self._scratch, self._written
        if frames_room > _SCRATCH:
            if pause is not no_pause and frames_room > _AT_ONCE:
                frames_room = 0
            frames = _new(_BYTES, frames_room)
            written = _buffer(frames)
        found = _route(
            self._c_ring, self._places, body, size, batch.texts, items, count, with_values,
            ttls, prefix, len(prefix), out, frames, frames_room,
        )  # fmt: skip  # one argument a line would be longer than what it belongs to
        answer = _unpack(out, count + 3 * found)
        parts = []
        start = frame_start = 0
        for at in range(count, count + 3 * found, 3):
            node, end, frame_end = answer[at : at + 3]
            positions = answer[start:end]
            frame = written[frame_start:frame_end] if frame_end else _frame(batch, prefix, positions, pause)
            parts.append(Part(nodes[node], positions, frame))
            start, frame_start = end, frame_end
        batch.routed = out
        batch.parts = parts
        return batch


def _frame(batch: NativeBatch, prefix: bytes, positions: Sequence[int], pause: Pause) -> bytes:
    """Write one owner's frame in steps, as gkv_route writes it at once."""
    pieces: list[bytes | memoryview] = [prefix, b",".join(batch.quoted_keys(positions, pause)), b"]"]
    if ttls := batch.ttls:
        pieces.append(b',"ttls":[%b]' % ",".join([str(ttls[i]) for i in positions]).encode())
    if batch.op == _SET:
        items = batch.items
        sizes = [items[i].value_size for i in positions]
        pieces.append(b',"sizes":[%b]' % ",".join(map(str, sizes)).encode())
    pieces.append(b"}\n")
    if batch.op == _SET:
        view = memoryview(batch.body)
        starts = [items[i].value for i in positions]
        pieces += [view[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    pause()
    return join(pieces, pause)
