"""What a node does to read: values, records, a page of keys.

A read takes what is the newest at its moment and answers when that is settled; it waits for nothing
that is written later, so a key that is always being written has its readers answered all the same.
One of many keys or bytes is made in steps, between which others have their turn: it is one of each
key, not of one moment.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

from gkv.engine import Due, Engine, Pending
from gkv.errors import GkvError, Unavailable
from gkv.model import Blob, Damage, NodeRefusal, Record, Value
from gkv.node.handler import COMMIT_WITHIN, Waiting, or_refused, refused_for
from gkv.node.order import Order, PlainOrRecord
from gkv.replication.names import AT_ONCE
from gkv.wire.ops import Fetch, FetchItems, Get, ItemRows, ListKeys, NodeAnswer, Page, Records, Refused, Values
from gkv.wire.strict import Pause

STEPS = 20
"""Steps of one page: so many keys as are looked at in them have some MB at most."""
KEYS_AT_ONCE = 500
"""Keys that are read in one step: 1 ms, or 3 ms in the pure twin."""
RECORDS_AT_ONCE = 16
"""Records that are read in one step, whatever their size."""
ATTEMPTS = 3
"""Attempts at a read while the writes that it has taken come to nothing, as on a disk that is full."""
BYTES_AT_ONCE = 1 << 20
"""Bytes of values after which a step ends."""

Item = TypeVar("Item")
Taken = tuple[Item, set[Pending]]
"""An item that was taken, and the writes that have to be settled before it may be told."""
Take = Callable[[], Taken[NodeAnswer]]


class InSteps:
    """A read of much, in steps. Only few of them may be under way, until memory is reserved for what they have read."""

    __slots__ = ("_read",)

    def __init__(self, read: Waiting) -> None:
        self._read = read

    def __call__(self) -> NodeAnswer | Waiting:
        return or_refused(self._read)


def groups(gets: Sequence[Get]) -> Iterator[list[Get]]:
    """Yield so many of these together as are not too many keys for one call of the engine."""
    some: list[Get] = []
    keys = 0
    for get in gets:
        if some and keys + len(get.keys) > KEYS_AT_ONCE:
            yield some
            some, keys = [], 0
        some.append(get)
        keys += len(get.keys)
    yield some


def room_of(total: int) -> int:
    """Return how many bytes each group may read of gets that have so many keys in all."""
    return BYTES_AT_ONCE // (2 * total // KEYS_AT_ONCE + 1)  # two calls' keys together are more than one may have


def shares(gets: Sequence[Get], values: Sequence[Value | Damage | None]) -> list[NodeAnswer | Waiting]:
    """Return the answer to each get, of the values that were read for all of them."""
    answers: list[NodeAnswer | Waiting] = []
    start = 0
    for get in gets:
        end = start + len(get.keys)
        answers.append(Values(values[start:end]))
        start = end
    return answers


class Reads:
    """Reads from an engine, and from what is on its way there."""

    def __init__(self, engine: Engine, order: Order, max_answer: int, pause: Pause) -> None:
        """`max_answer` bounds the bytes of the values in one answer; `pause` gives way between two steps of a read."""
        self._engine = engine
        self._order = order
        self._newest, self._now = order.unsettled.newest, order.clock.now  # at hand, as each get needs them
        self._max_answer = max_answer
        self._pause = pause

    def values_of(self, gets: Sequence[Get], room: int = BYTES_AT_ONCE) -> Sequence[NodeAnswer | Waiting]:
        """Read these with as few calls of the engine as can be, and give way between two calls; return the answer to each, or
        what waits for it or reads it in steps.

        Together the values that were read have no more than `room` bytes, a MiB at most. Switches greenlets when there are many
        keys.
        """
        if len(gets) > 1 and (total := sum([len(get.keys) for get in gets])) > KEYS_AT_ONCE:
            return self._in_groups(gets, total)
        keys = gets[0].keys if len(gets) == 1 else [key for get in gets for key in get.keys]
        if len(keys) > KEYS_AT_ONCE or (self._newest and self._order.unsettled.touch(keys)):
            return self._each(gets, room)
        try:
            values = self._engine.read(keys, self._now(), room)
        except Due:
            return self._each(gets, room)
        except GkvError as error:
            return [refused_for(error)] * len(gets)
        if len(values) < len(keys):
            return self._each(gets, room)
        if len(gets) == 1:
            return [Values(values)]
        return shares(gets, values)

    def _in_groups(self, gets: Sequence[Get], total: int) -> Sequence[NodeAnswer | Waiting]:
        """Read so many of these with each call of the engine as are not too many keys; `total` is how many they have."""
        room = room_of(total)
        answers: list[NodeAnswer | Waiting] = []
        for number, some in enumerate(groups(gets)):
            if number:
                self._pause()
            answers += self.values_of(some, room)
        return answers

    def _each(self, gets: Sequence[Get], room: int) -> Sequence[NodeAnswer | Waiting]:
        """Read these one by one; together the values that were read have no more than `room` bytes."""
        answers = []
        for number, get in enumerate(gets):
            if number:
                self._pause()
            answers.append(self._one(get, room // len(gets)))
        return answers

    def _one(self, get: Get, room: int) -> NodeAnswer | Waiting:
        """Read one of them; return its answer, or what waits for it."""
        in_steps = InSteps(partial(_when_settled, partial(self._values_in_steps, get.keys, get.era)))
        if len(get.keys) > KEYS_AT_ONCE:
            return in_steps
        try:
            values, waits = self._order.values(get.keys, get.era, room)
        except GkvError as error:
            return refused_for(error)
        if len(values) < len(get.keys):
            return in_steps
        if not waits:
            return Values(values)

        def once_more() -> Taken[NodeAnswer]:
            again, more = self._order.values(get.keys, get.era, room)
            # The values from before are too much to be read without a turn; whoever asks again gets one.
            return (Values(again) if len(again) == len(get.keys) else Refused(NodeRefusal.BUSY)), more

        return _answer_when_settled(once_more, (Values(values), waits))

    def _values_in_steps(self, keys: Sequence[str], era: int) -> Taken[NodeAnswer]:
        """Read keys one after the other. Switches greenlets."""

        def take(some: Sequence[str]) -> Taken[list[Value | Damage | None]]:
            return self._order.values(some, era, BYTES_AT_ONCE)

        values, waits = self._in_steps(keys, KEYS_AT_ONCE, take, lambda value: value)
        return (Refused(NodeRefusal.LARGE) if values is None else Values(values)), waits

    def _in_steps(
        self,
        keys: Sequence[str],
        at_once: int,
        take: Callable[[Sequence[str]], Taken[list[Item]]],
        value_of: Callable[[Item], object],
    ) -> Taken[list[Item] | None]:
        """Take what belongs to keys, so many at once, or None where the values are too large for an answer; give way between
        two steps. A step may take less than it was asked for.
        """
        items: list[Item] = []
        waits: set[Pending] = set()
        room = self._max_answer
        while True:
            step, more = take(keys[len(items) : len(items) + at_once])
            room -= size_of(map(value_of, step))
            if room < 0:
                return None, set()
            items += step
            waits |= more
            if len(items) >= len(keys):
                return items, waits
            self._pause()

    def fetch(self, request: Fetch) -> NodeAnswer | Waiting:
        """Read whole records."""
        take = partial(self._records_in_steps, request.keys, request.era)
        if len(request.keys) > RECORDS_AT_ONCE:
            return InSteps(partial(_when_settled, take))
        return _now_or_when_settled(take)

    def fetch_items(self, request: FetchItems) -> NodeAnswer | Waiting:
        """Read values with their types and ends."""
        keys, era = request.keys, request.era
        in_steps = InSteps(partial(_when_settled, partial(self._items_in_steps, keys, era)))
        if len(keys) > KEYS_AT_ONCE:
            return in_steps
        try:
            items, waits = self._order.items(keys, era, BYTES_AT_ONCE)
        except GkvError as error:
            return refused_for(error)
        return ItemRows(items, self._order.clock.now()) if len(items) == len(keys) and not waits else in_steps

    def _items_in_steps(self, keys: Sequence[str], era: int) -> Taken[NodeAnswer]:
        """Read items one after the other. Switches greenlets when they are more than go into one step."""

        def take(some: Sequence[str]) -> Taken[list[PlainOrRecord]]:
            return self._order.items(some, era, BYTES_AT_ONCE)

        items, waits = self._in_steps(keys, KEYS_AT_ONCE, take, lambda one: one.value if isinstance(one, Record) else one)
        return (Refused(NodeRefusal.LARGE) if items is None else ItemRows(items, self._order.clock.now())), waits

    def _records_in_steps(self, keys: Sequence[str], era: int) -> Taken[NodeAnswer]:
        """Read records one after the other. Switches greenlets when they are more than go into one step."""

        def take(some: Sequence[str]) -> Taken[list[Record | Damage | None]]:
            return self._order.records(some, era)

        records, waits = self._in_steps(
            keys, RECORDS_AT_ONCE, take, lambda record: record.value if isinstance(record, Record) else None
        )
        return (Refused(NodeRefusal.LARGE) if records is None else Records(records, self._order.clock.now())), waits

    def list_keys(self, request: ListKeys) -> NodeAnswer | Waiting:
        """Read a page of names."""
        take = partial(self._names_in_steps, request)
        return _answer_when_settled(take) if request.limit > AT_ONCE or request.delimiter else _now_or_when_settled(take)

    def _names_in_steps(self, request: ListKeys) -> Taken[NodeAnswer]:
        """List names one after the other. Switches greenlets when they are more than go into one step."""
        names: set[str] = set()
        waits: set[Pending] = set()
        scope, place = request.scope, request.begin
        for _ in range(STEPS):
            found = self._order.look(scope, place, request.limit - len(names))
            names.update(found.names)
            keys = list(found.doubtful)
            for start in range(0, len(keys), RECORDS_AT_ONCE):
                some = keys[start : start + RECORDS_AT_ONCE]
                records, more = self._order.records(some, request.era)
                waits |= more
                names.update([found.doubtful[key] for key, one in zip(some, records, strict=True) if has_value(one)])
                if start:
                    self._pause()
            if found.end is None:
                return Page(sorted(names)), waits
            place = found.end
            if len(names) >= request.limit:
                break
            self._pause()
        return Page(sorted(names), place), waits


def has_value(record: Record | Damage | None) -> bool:
    """Return whether a key with this record is listed: a damaged one counts as its value, which a listing does not tell."""
    return isinstance(record, Damage) or (record is not None and record.value is not None)


def _now_or_when_settled(take: Take) -> NodeAnswer | Waiting:
    """Take once; return the answer if all of it is settled, or what waits for that."""
    try:
        taken = take()
    except GkvError as error:
        return refused_for(error)
    return _answer_when_settled(take, taken) if taken[1] else taken[0]


def _answer_when_settled(take: Take, taken: Taken[NodeAnswer] | None = None) -> Waiting:
    return partial(or_refused, partial(_when_settled, take, taken))


def _when_settled(take: Take, taken: Taken[NodeAnswer] | None = None) -> NodeAnswer:
    """Answer with what was taken when all of it is settled; take anew when a write of it has come to nothing. Switches
    greenlets.
    """
    deadline = monotonic() + COMMIT_WITHIN
    for _ in range(ATTEMPTS):
        answer, waits = taken or take()
        taken = None
        if settled(waits, deadline):
            return answer
    raise Unavailable("what was to be read has come to nothing again and again", retry_after=1)


def size_of(values: Iterable[object]) -> int:
    """Return the bytes of those that are values."""
    return sum([len(value) for value in values if isinstance(value, bytes | Blob)])


def settled(waits: Iterable[Pending], deadline: float) -> bool:
    """Wait until these are settled; return False if one of them has come to nothing. Switches greenlets."""
    for pending in waits:
        pending.wait_for_reading(deadline)
    return not any(pending.failed for pending in waits)
