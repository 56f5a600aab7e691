"""A client's batch on its way: read, routed to the owners of its keys, and put together again from their answers.

`PureRouter` is the definition. `NativeRouter` does the same in one pass over the body, in C, for every batch that is as simple
as nearly all are - no escapes in keys, nothing wrong - and leaves the others to its base class. So it has no errors of its own:
what is refused is refused by the definition, with its words.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from gkv.model import KeyFailure, Node
from gkv.ring import Ring
from gkv.wire.client import Answer, Limits, read_items, read_keys, render_get
from gkv.wire.frames import BadFrame, Request, read_reply, write_request

SIZES = b'{"sizes":['
"""What the answer to a get starts with, and no other."""


@dataclass(slots=True)
class Part:
    """What one owner is asked for: where its keys stand in the batch, and the frame to send."""

    node: Node
    positions: Sequence[int]
    frame: bytes


@dataclass(slots=True)
class Done:
    """What became of a part: the frame that answers a get, or how many keys a write concerned; or why there is neither."""

    part: Part
    frame: bytes = b""
    failure: KeyFailure | None = None
    count: int = 0


class Batch(ABC):
    """A batch that was read and routed once. `op` is `get`, `set` or `delete`."""

    __slots__ = ("op", "parts")

    op: str
    parts: list[Part]
    """One for each owner, by the ring that was in force when the batch was read."""

    @property
    @abstractmethod
    def keys(self) -> Sequence[str]:
        """All keys, in request order."""

    @property
    @abstractmethod
    def values(self) -> Sequence[bytes]:
        """The texts of all values, in request order; empty but for a set."""

    def route(self, positions: Sequence[int], ring: Ring, cluster: str, epoch: int) -> list[Part]:
        """Route these keys of the batch again, by another ring or epoch."""
        keys, values = self.keys, self.values
        parts = []
        for node, places, part_keys in ring.split([keys[i] for i in positions]):
            original = [positions[i] for i in places]
            part_values = [values[i] for i in original] if self.op == "set" else []
            frame = write_request(Request(self.op, cluster, epoch, part_keys, part_values))
            parts.append(Part(node, original, frame))
        return parts

    def render_get(self, done: Sequence[Done]) -> tuple[bytes, int]:
        """Return the answer to a get, put together from what became of its parts, and how many keys have no definite answer."""
        keys = self.keys
        answers: list[Answer] = [None] * len(keys)
        failed = 0
        for one in done:
            positions = one.part.positions
            failure = one.failure
            if failure is None:
                values = _values(one.frame, [keys[i] for i in positions])
                if values is None:
                    failure = BAD_ANSWER
                else:
                    for position, value in zip(positions, values, strict=True):
                        answers[position] = value
            if failure is not None:
                failed += len(positions)
                for position in positions:
                    answers[position] = failure
        return render_get(keys, answers), failed


BAD_ANSWER = KeyFailure("bad-answer")


def _values(frame: bytes, keys: Sequence[str]) -> Sequence[bytes | None] | None:
    """Return the values in the answer to a get of these keys, None when it is no such answer."""
    try:
        reply = read_reply(frame, keys)
    except BadFrame:
        return None
    return None if reply.refused else reply.values


class PureBatch(Batch):
    """A batch as Python objects."""

    __slots__ = ("_keys", "_values")

    def __init__(self, op: str, keys: Sequence[str], values: Sequence[bytes] = ()) -> None:
        self.op = op
        self.parts = []
        self._keys = keys
        self._values = values

    @property
    def keys(self) -> Sequence[str]:
        return self._keys

    @property
    def values(self) -> Sequence[bytes]:
        return self._values


class PureRouter:
    """Reads batches and routes them by one ring, under one epoch."""

    def __init__(self, ring: Ring, cluster: str, epoch: int, limits: Limits) -> None:
        self._ring = ring
        self._cluster = cluster
        self._epoch = epoch
        self._limits = limits

    def read(self, op: str, body: bytes) -> Batch:
        """Read a batch; raise SyntaxProblem, InvalidItem, TooLarge or NotSupported, and then nothing of it may be applied."""
        if op == "set":
            items = read_items(body, self._limits)
            return self._route(PureBatch(op, [key for key, _ in items], [value for _, value in items]))
        return self.of_keys(op, read_keys(body, self._limits))

    def of_keys(self, op: str, keys: Sequence[str]) -> Batch:
        """Route keys that were read already."""
        return self._route(PureBatch(op, keys))

    def _route(self, batch: PureBatch) -> Batch:
        batch.parts = batch.route(range(len(batch.keys)), self._ring, self._cluster, self._epoch)
        return batch


def failures(done: Sequence[Done], keys: Sequence[str]) -> dict[str, KeyFailure]:
    """Return the failure of each key that has one."""
    failed = [[(keys[i], one.failure) for i in one.part.positions] for one in done if one.failure is not None]
    return {key: failure for key, failure in chain.from_iterable(failed) if failure is not None}
