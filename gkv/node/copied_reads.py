"""Reads at a member that keeps copies.

What is on the disk is told at once if this process is the primary of open lists and has all leases
after it was read, no write of the keys is on its way, and nothing is due or damaged. All else the
machines take, wait for, and answer. A read of much is made in steps, between which others have their
turn: it is one of each key, not of one moment.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

from gkv.clock import boot_time
from gkv.engine import Due, Engine
from gkv.errors import GkvError
from gkv.model import Damage, NodeRefusal, Record, Value
from gkv.node.awaited import Awaited
from gkv.node.copied_writes import GRACE
from gkv.node.copies import Copies
from gkv.node.due_clock import DueClock
from gkv.node.handler import Waiting, refused_for
from gkv.node.order import PlainOrRecord
from gkv.node.postponed import READ_WITHIN, Asked
from gkv.node.reads import BYTES_AT_ONCE, KEYS_AT_ONCE, RECORDS_AT_ONCE, InSteps, groups, room_of, shares, size_of
from gkv.replication.actions import Answer, Fate
from gkv.replication.events import ReadAsked
from gkv.replication.expiry import is_due
from gkv.wire.ops import Fetch, FetchItems, Get, ItemRows, NodeAnswer, Peek, Records, Refused, Values
from gkv.wire.strict import Pause

Item = TypeVar("Item", Value | Damage | None, Record | Damage | None, PlainOrRecord)
Take = Callable[[Sequence[str], float], "list[Item] | None"]
"""Takes what belongs to keys from the disk, or to the first of them when that has more bytes than it may have; None when
it may not be told.
"""
Found = Record | Damage | None

_REFUSALS = {Fate.NOT_BEGUN: NodeRefusal.NOT_BEGUN, Fate.LATE: NodeRefusal.LATE, Fate.BUSY: NodeRefusal.BUSY}
"""By fate of a key: with one that is not to be told, nothing is."""


class CopiedReads:
    """The handlers of reads."""

    def __init__(self, engine: Engine, copies: Copies, clock: DueClock, max_answer: int, pause: Pause, within: float) -> None:
        """`max_answer` bounds the bytes of the values in one answer; `pause` gives way between two steps of a read; `within` is
        for how many seconds a request may wait.
        """
        self._engine = engine
        self._copies = copies
        self._clock = clock
        self._max_answer = max_answer
        self._pause = pause
        self._within = within

    def values_of(self, gets: Sequence[Get]) -> Sequence[NodeAnswer | Waiting]:
        """Read these; return the answer to each, or what waits for it or reads it in steps."""
        if len(gets) == 1:
            return [self._values(gets[0].keys, BYTES_AT_ONCE)]
        total = sum([len(get.keys) for get in gets])
        if total <= KEYS_AT_ONCE:
            return self._together(gets, BYTES_AT_ONCE)
        answers: list[NodeAnswer | Waiting] = []
        for number, some in enumerate(groups(gets)):
            if number:
                self._pause()
            answers += self._together(some, room_of(total))
        return answers

    def _together(self, gets: Sequence[Get], room: int) -> list[NodeAnswer | Waiting]:
        """Read these with one call of the engine if that may be told, or else one by one."""
        keys = [key for get in gets for key in get.keys]
        if len(keys) <= KEYS_AT_ONCE:
            try:
                values = self._values_now(keys, room)
            except GkvError as error:
                return [refused_for(error)] * len(gets)
            if values is not None and len(values) == len(keys):
                return shares(gets, values)
        return [self._values(get.keys, room // len(gets)) for get in gets]

    def fetch(self, request: Fetch) -> NodeAnswer | Waiting:
        """Read whole records."""
        return self._read(request.keys, self._records_now, RECORDS_AT_ONCE, BYTES_AT_ONCE, _as_record, self._records)

    def fetch_items(self, request: FetchItems) -> NodeAnswer | Waiting:
        """Read values with their types and ends."""
        return self._read(request.keys, self._items_now, KEYS_AT_ONCE, BYTES_AT_ONCE, _as_record, self._items)

    def peek(self, request: Peek) -> NodeAnswer | Waiting:
        """Read what is on the disk here, be it the newest or not."""
        keys = request.keys
        try:
            age = self._copies.age_of(keys, boot_time())
            if len(keys) > RECORDS_AT_ONCE:
                return InSteps(partial(self._peek_in_steps, keys, age))
            return self._peeked(self._engine.records_of(keys), age)
        except LookupError:
            return Refused(NodeRefusal.NOT_ACTING)
        except GkvError as error:
            return refused_for(error)

    def _peek_in_steps(self, keys: Sequence[str], age: float | None) -> NodeAnswer:
        records: list[Record | Damage | None] = []
        room = self._max_answer
        for start in range(0, len(keys), RECORDS_AT_ONCE):
            step = self._engine.records_of(keys[start : start + RECORDS_AT_ONCE])
            room -= _size(step)
            if room < 0:
                return Refused(NodeRefusal.LARGE)
            records += step
            self._pause()
        return self._peeked(records, age)

    def _peeked(self, records: Sequence[Record | Damage | None], age: float | None) -> NodeAnswer:
        return Records(records, self._clock.now(), None if age is None else round(age * 1_000))

    def _values(self, keys: Sequence[str], room: int) -> NodeAnswer | Waiting:
        return self._read(keys, self._values_now, KEYS_AT_ONCE, room, _as_value, Values)

    def _records(self, records: Sequence[Record | Damage | None]) -> NodeAnswer:
        return Records(records, self._clock.now())

    def _items(self, items: Sequence[PlainOrRecord]) -> NodeAnswer:
        return ItemRows(items, self._clock.now())

    # -- at once

    def _items_now(self, keys: Sequence[str], room: float) -> list[PlainOrRecord] | None:
        if not self._copies.is_settled(keys):
            return None
        items, now = self._engine.items_of(keys, room), self._clock.now()
        if any(one is not None and not isinstance(one, bytes) and _is_special(one, now) for one in items):
            return None
        return items if self._copies.may_tell() else None

    def _values_now(self, keys: Sequence[str], room: float) -> list[Value | Damage | None] | None:
        if not self._copies.is_settled(keys):
            return None
        try:
            values = self._engine.read(keys, self._clock.now(), room)
        except Due:
            return None
        if Damage in set(map(type, values)) or not self._copies.may_tell():
            return None
        return values

    def _records_now(self, keys: Sequence[str], _room: float) -> list[Record | Damage | None] | None:
        if not self._copies.is_settled(keys):
            return None
        records, now = self._engine.records_of(keys), self._clock.now()
        if any(record is not None and _is_special(record, now) for record in records):
            return None
        return records if self._copies.may_tell() else None

    # -- by the machines

    def _read(
        self,
        keys: Sequence[str],
        take: "Take[Item]",
        at_once: int,
        room: int,
        shown: Callable[[Found], Item],
        answer: Callable[[Sequence[Item]], NodeAnswer],
    ) -> NodeAnswer | Waiting:
        """Read keys, so many with each call of the engine."""
        try:
            if len(keys) <= at_once:
                items = take(keys, room)
                if items is not None and len(items) == len(keys):
                    return answer(items)
                if items is None and len(keys) <= RECORDS_AT_ONCE:
                    return self._ask(keys, shown, answer)
        except GkvError as error:
            return refused_for(error)
        return InSteps(partial(self._in_steps, keys, take, at_once, shown, answer, boot_time() + self._within))

    def _ask(
        self, keys: Sequence[str], shown: Callable[[Found], Item], answer: Callable[[Sequence[Item]], NodeAnswer]
    ) -> NodeAnswer | Waiting:
        """Have the machines read a few keys."""
        asked: Awaited[Answer] = Awaited(self._within + GRACE)
        self._copies.handle(ReadAsked(asked, keys, boot_time() + self._within))

        def told(said: Answer | None) -> NodeAnswer:
            found = found_in(said, self._copies)
            return found if isinstance(found, Refused) else answer([shown(one) for one in found])

        return Asked(asked, READ_WITHIN, told) if asked.value is None else told(asked.value)

    def _in_steps(
        self,
        keys: Sequence[str],
        take: "Take[Item]",
        at_once: int,
        shown: Callable[[Found], Item],
        answer: Callable[[Sequence[Item]], NodeAnswer],
        deadline: float,
    ) -> NodeAnswer | Asked:
        """Read keys one after the other: what may be told at once, and then the others. Switches greenlets.

        Where the machines take long for some, what was read is given up, so that other reads have their turn, and all is read
        anew after that.
        """
        again = partial(InSteps, partial(self._in_steps, keys, take, at_once, shown, answer, deadline))
        items: dict[str, Item] = {}
        left = list(dict.fromkeys(keys))
        room = self._max_answer
        while left:
            some = [key for key in left[:at_once] if self._copies.is_settled((key,))]
            step = take(some, BYTES_AT_ONCE) if some else None
            if not step:
                some = left[:RECORDS_AT_ONCE]
                asked: Awaited[Answer] = Awaited(max(0.0, deadline - boot_time()) + GRACE)
                self._copies.handle(ReadAsked(asked, some, deadline))
                if not asked.is_over_by(monotonic() + READ_WITHIN):
                    return Asked(asked, READ_WITHIN, partial(_or_else, again, self._copies))
                found = found_in(asked.value, self._copies)
                if isinstance(found, Refused):
                    return found
                step = [shown(one) for one in found]
            room -= _size(step)
            if room < 0:
                return Refused(NodeRefusal.LARGE)
            items.update(zip(some, step, strict=False))
            left = [key for key in left if key not in items]
            self._pause()
        return answer([items[key] for key in keys])


def found_in(answer: Answer | None, copies: Copies) -> list[Found] | Refused:
    """Return the records that the machines tell, or why they tell none: perhaps as they rest since a moment."""
    if answer is None:
        return Refused(NodeRefusal.FAILED)
    records: list[Found] = []
    for one in answer.keys:
        refusal = _REFUSALS.get(one.fate)
        if refusal is not None:
            rests = refusal is NodeRefusal.NOT_BEGUN and not copies.active
            return Refused(NodeRefusal.CHANGING if rests else refusal)
        records.append(Damage.DAMAGED if one.fate is Fate.DAMAGED else one.record)
    return records


def _or_else(again: Callable[[], InSteps], copies: Copies, answer: Answer | None) -> NodeAnswer | InSteps:
    """Return why the machines tell nothing, or what reads again."""
    found = found_in(answer, copies)
    return found if isinstance(found, Refused) else again()


def _is_special(found: Record | Damage, now: int) -> bool:
    """Return whether the machines have to see to what was found: it is damaged, or due."""
    return isinstance(found, Damage) or is_due(found, now)


def _as_value(found: Found) -> Value | Damage | None:
    return found.value if isinstance(found, Record) else found


def _as_record(found: Found) -> Record | Damage | None:
    return found


def _size(items: Iterable[Value | Record | Damage | None]) -> int:
    return size_of([item.value if isinstance(item, Record) else item for item in items])
