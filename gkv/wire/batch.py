"""A client's batch on its way: read, routed to the owners of its keys, and put together again from their answers.

`PureRouter` is the definition. `NativeRouter` does the same in C and leaves each item that is wrong,
or that C is not sure of, to the definition. So it has no errors of its own: the definition refuses,
with its words.

Long work calls `pause` at least every few ms, so that others can have a turn; a `pause` may switch
greenlets.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import ceil

from gkv.model import Damage, KeyFailure, Node, Op, Record, Value
from gkv.ring import Places, Ring, Share
from gkv.wire.client import Limits, read_deletes, read_items, read_keys
from gkv.wire.meta import Entry, Found
from gkv.wire.ops import Effects, ItemRow, ItemRows, Items, Records, Values, key_request, understand
from gkv.wire.shown import KeyAnswer, render_get
from gkv.wire.strict import Pause, no_pause

Split = Callable[[Sequence[str]], list[Share]]
"""Groups keys by the node that answers for them, as `Ring.split` does."""

SIZES = b'{"sizes":['
"""What the answer to a get starts with, and no other."""
RECORDS = b'{"versions":['
"""What the answer to a fetch starts with, and no other."""
STARTS = {Op.GET: SIZES, Op.FETCH: RECORDS, Op.ITEMS: b'{"now":'}
"""For each op that reads keys, the first bytes of an answer to it; no other answer begins so."""


_SHOWN_AT_ONCE = 64
"""Records that are shown in one step."""


@dataclass(slots=True)
class Part:
    """What one owner is asked for: where its keys stand in the batch, and the frame to send."""

    node: Node
    positions: Sequence[int]
    frame: bytes


@dataclass(slots=True)
class PartResult:
    """What became of a part: the frame that answers a get, or what a write did to each key; or why there is neither."""

    part: Part
    frame: bytes = b""
    failure: KeyFailure | None = None
    effects: Effects | None = None
    hold: object = None
    """As in `NodeReply`."""


class Batch(ABC):
    """A batch that was read and routed once. `op` is one that is about keys."""

    __slots__ = ("op", "parts")

    op: Op
    parts: list[Part]
    """One for each node, by the placement that was in force when the batch was read; one may be of NOBODY."""

    @property
    @abstractmethod
    def keys(self) -> Sequence[str]:
        """All keys, in request order."""

    @property
    @abstractmethod
    def values(self) -> Sequence[Value]:
        """All values, in request order, or what is to be added; empty for what brings none."""

    @property
    def ttls(self) -> Sequence[int]:
        """For how long each key is set, in milliseconds, 0 for good; empty when all are for good."""
        return ()

    @property
    def conditions(self) -> Sequence[str | None]:
        """On which condition each key is written, as a frame has it, None for none; empty when there are none at all."""
        return ()

    def route(self, positions: Sequence[int], split: Split, cluster: str, era: int, pause: Pause = no_pause) -> list[Part]:
        """Route these keys of the batch again, by another ring or era; `split` groups keys by node."""
        keys, values, ttls, conditions = self.keys, self.values, self.ttls, self.conditions
        asked = key_request(self.op)
        parts = []
        for node, original in _shares(split, keys, positions, pause):
            part = Items(
                [keys[i] for i in original],
                [values[i] for i in original] if values else (),
                [ttls[i] for i in original] if ttls else (),
                [conditions[i] for i in original] if conditions else (),
            )
            request = asked.of_part(cluster, era, part)
            parts.append(Part(node, original, request.write()))
            pause()
        return parts

    def answers(self, done: Sequence[PartResult], pause: Pause = no_pause) -> list[KeyAnswer]:
        """Return what is known about each key of a get or fetch, in request order, from what became of its parts.

        What a fetch has found is shown with all that is known of it.
        """
        keys = self.keys
        answers: list[KeyAnswer] = [None] * len(keys)
        if self.op is Op.FETCH:
            for position, found in enumerate(self.records(done, pause)):
                answers[position] = found.show() if isinstance(found, Found) else found
                if not position % _SHOWN_AT_ONCE:
                    pause()
            return answers
        for one in done:
            pause()
            positions = one.part.positions
            failure = one.failure
            if failure is None:
                answer = understand(one.frame, Values, len(positions), pause)
                if isinstance(answer, Values):
                    for position, value in zip(positions, answer.values, strict=True):
                        answers[position] = DAMAGED_KEY if isinstance(value, Damage) else value  # type: ignore[assignment]  # read, so it is no blob
                else:
                    failure = BAD_ANSWER
            if failure is not None:
                for position in positions:
                    answers[position] = failure
        return answers

    def records(self, done: Sequence[PartResult], pause: Pause = no_pause) -> list[Found | KeyFailure | None]:
        """Return the records of a fetch that have a value, as `answers` does."""
        records: list[Found | KeyFailure | None] = [None] * len(self.keys)
        for one in done:
            pause()
            positions = one.part.positions
            found = understand(one.frame, Records, len(positions), pause) if one.failure is None else None
            for place, position in enumerate(positions):
                if not isinstance(found, Records):
                    records[position] = one.failure or BAD_ANSWER
                    continue
                records[position] = as_found(found.records[place], found.now)
        return records

    def entries(self, done: Sequence[PartResult], pause: Pause = no_pause) -> list[bytes | Entry | KeyFailure | None]:
        """Return what is there of each key of a fetch of items, as `answers` does: of a JSON value that never expires the text
        alone.
        """
        entries: list[bytes | Entry | KeyFailure | None] = [None] * len(self.keys)
        for one in done:
            pause()
            positions = one.part.positions
            found = understand(one.frame, ItemRows, len(positions), pause) if one.failure is None else None
            if not isinstance(found, ItemRows):
                for position in positions:
                    entries[position] = one.failure or BAD_ANSWER
                continue
            for position, row in zip(positions, found.rows, strict=True):
                if row is None or type(row) is bytes:
                    entries[position] = row
                else:
                    entries[position] = Entry(row.value, row.expires, found.now) if isinstance(row, ItemRow) else DAMAGED_KEY
        return entries

    def render_get(self, done: Sequence[PartResult], pause: Pause = no_pause) -> tuple[bytes, int]:
        """Return the answer to a get, put together from what became of its parts, and how many keys have no definite answer."""
        answers = self.answers(done, pause)
        failed = sum(isinstance(answer, KeyFailure) for answer in answers)
        return render_get(self.keys, answers, pause), failed


_SPLIT_AT_ONCE = 1000
"""Keys whose owners are looked up in one step; the pure ring takes 5 us for each."""


def _shares(split: Split, keys: Sequence[str], positions: Sequence[int], pause: Pause) -> list[tuple[Node, Sequence[int]]]:
    """Return for each owner of some of these keys where they stand in the batch; owners are ascending by id."""
    if len(positions) <= _SPLIT_AT_ONCE:
        return [(node, [positions[i] for i in places]) for node, places, _ in split([keys[i] for i in positions])]
    shares: dict[Node, list[int]] = {}
    for start in range(0, len(positions), _SPLIT_AT_ONCE):
        some = positions[start : start + _SPLIT_AT_ONCE]
        for node, places, _ in split([keys[i] for i in some]):
            shares.setdefault(node, []).extend([some[i] for i in places])
        pause()
    return sorted(shares.items(), key=lambda share: share[0].id)


BAD_ANSWER = KeyFailure("bad-answer", status=502)
DAMAGED_KEY = KeyFailure("damaged", retryable=False, status=500)
"""The owner has a record of this key, and its bytes are not what was written."""


def as_found(record: Record | Damage | None, now: int) -> Found | KeyFailure | None:
    """Return what a client is shown of a record that was told at `now`: nothing of a tombstone. One that has become due since
    it was read is shown: nothing is hidden by a clock.
    """
    if isinstance(record, Damage):
        return DAMAGED_KEY
    return None if record is None or record.value is None else Found(record, now)


class PureBatch(Batch):
    """A batch as Python objects."""

    __slots__ = ("_conditions", "_keys", "_ttls", "_values")

    def __init__(
        self,
        op: Op,
        keys: Sequence[str],
        values: Sequence[Value] = (),
        ttls: Sequence[int] = (),
        conditions: Sequence[str | None] = (),
    ) -> None:
        self.op = op
        self.parts = []
        self._keys = keys
        self._values = values
        self._ttls = ttls
        self._conditions = conditions

    @property
    def keys(self) -> Sequence[str]:
        return self._keys

    @property
    def values(self) -> Sequence[Value]:
        return self._values

    @property
    def ttls(self) -> Sequence[int]:
        return self._ttls

    @property
    def conditions(self) -> Sequence[str | None]:
        return self._conditions


class PureRouter:
    """Reads batches and routes them by one ring, under one era."""

    def __init__(self, ring: Ring, cluster: str, era: int, limits: Limits, places: Places | None = None) -> None:
        """`places` is of the ring's, and says who answers for each key; without it that is the owner."""
        self._places = ring.own if places is None else places
        self._split: Split = partial(ring.split, places=self._places)
        self._cluster = cluster
        self._era = era
        self._limits = limits

    def read(self, op: Op, body: bytes, pause: Pause = no_pause) -> Batch:
        """Read a batch; raise SyntaxProblem, InvalidItem or TooLarge, and then nothing of it may be applied."""
        if op == Op.SET:
            items = read_items(body, self._limits, pause)
        elif op == Op.DELETE:
            items = read_deletes(body, self._limits, pause)
        else:
            return self.of_keys(op, read_keys(body, self._limits, pause), pause)
        ttls: list[int] = []
        if any(item.ttl is not None for item in items):
            ttls = [0 if item.ttl is None else milliseconds(item.ttl) for item in items]
        conditions: list[str | None] = []
        if any(item.condition for item in items):
            conditions = [item.condition or None for item in items]
        keys, values = [item.key for item in items], [item.value for item in items] if op == Op.SET else []
        return self._route(PureBatch(op, keys, values, ttls, conditions), pause)

    def of_keys(self, op: Op, keys: Sequence[str], pause: Pause = no_pause) -> Batch:
        """Route keys that were read already."""
        return self._route(PureBatch(op, keys), pause)

    def of_value(self, key: str, value: Value, ttl: float | None, condition: str | None = None) -> Batch:
        """Route one value as a put, for `ttl` seconds or for good, on a condition or in any case."""
        ttls = [] if ttl is None else [milliseconds(ttl)]
        return self._route(PureBatch(Op.PUT, [key], [value], ttls, [condition] if condition else ()), no_pause)

    def of_delete(self, key: str, condition: str | None = None) -> Batch:
        """Route one key to be deleted, on a condition or in any case."""
        return self._route(PureBatch(Op.DELETE, [key], conditions=[condition] if condition else ()), no_pause)

    def of_add(self, key: str, delta: int, ttl: float | None) -> Batch:
        """Route an addition, which gives a ttl or keeps the expiry as it is."""
        return self._route(PureBatch(Op.ADD, [key], [b"%d" % delta], [] if ttl is None else [milliseconds(ttl)]), no_pause)

    def of_touch(self, key: str, ttl: float) -> Batch:
        """Route another expiry of a key, in `ttl` seconds, 0 for never."""
        return self._route(PureBatch(Op.TOUCH, [key], ttls=[milliseconds(ttl)]), no_pause)

    def _route(self, batch: PureBatch, pause: Pause) -> Batch:
        batch.parts = batch.route(range(len(batch.keys)), self._split, self._cluster, self._era, pause)
        return batch


def milliseconds(ttl: float) -> int:
    """Return a ttl of so many seconds in milliseconds, rounded up: nothing expires early."""
    return ceil(ttl * 1000)


def failures(done: Sequence[PartResult], keys: Sequence[str]) -> dict[str, KeyFailure]:
    """Return the failure of each key that has one."""
    failed = [[(keys[i], one.failure) for i in one.part.positions] for one in done if one.failure is not None]
    return {key: failure for key, failure in chain.from_iterable(failed) if failure is not None}
