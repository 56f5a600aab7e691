"""What a node does to read: values, records, a page of keys.

A read begins after the writes that were acknowledged before they came to the disk (durability "async"). One of many keys
or bytes is made in steps, between which others have their turn: it is one of each key, not of one moment.
"""

from collections.abc import Sequence
from functools import partial
from time import monotonic

from gkv.coordinator.clock import wall_ms
from gkv.engine import Commits, Engine, Pending
from gkv.errors import GkvError
from gkv.model import Blob, Damage, NodeRefusal, Value
from gkv.node.handler import COMMIT_WITHIN, Waiting, or_refused, refused_for
from gkv.wire.ops import Fetch, Get, ListKeys, NodeAnswer, Page, Records, Refused, Values
from gkv.wire.strict import Pause

MAX_LISTED = 10_001
"""Keys in one page."""
_KEYS_AT_ONCE = 500
"""Keys that are read in one step: 1 ms, or 3 ms in the pure twin."""
_BYTES_AT_ONCE = 1 << 20
"""Bytes of values after which a step ends."""


class Reads:
    """Reads from an engine."""

    def __init__(self, engine: Engine, commits: Commits, max_answer: int, pause: Pause) -> None:
        """`max_answer` bounds the bytes of the values in one answer; `pause` gives way between two steps of a read."""
        self._engine = engine
        self._commits = commits
        self._max_answer = max_answer
        self._pause = pause

    def get(self, request: Get) -> Get | Waiting | NodeAnswer:
        """Return the request itself, to be read by `values_of` together with others, unless a write must be waited for."""
        pending = self._commits.pending_for(request.keys)
        return request if pending is None else self._after(pending, partial(self._read_in_steps, request.keys))

    def values_of(self, gets: Sequence[Get]) -> Sequence[NodeAnswer | Waiting]:
        """Read these with as few calls of the engine as can be, and give way between two calls; return the answer to each, or
        what reads it in steps.

        Together the answers that were read have a MiB at most. Switches greenlets when there are many keys.
        """
        total = sum([len(get.keys) for get in gets])
        if total <= _KEYS_AT_ONCE:
            return self._read_together(gets, _BYTES_AT_ONCE)
        room = _BYTES_AT_ONCE // (2 * total // _KEYS_AT_ONCE + 1)  # two calls' keys together are more than one may have
        answers: list[NodeAnswer | Waiting] = []
        some: list[Get] = []
        keys = 0
        for get in gets:
            if some and keys + len(get.keys) > _KEYS_AT_ONCE:
                answers += self._read_together(some, room)
                some, keys = [], 0
                self._pause()
            some.append(get)
            keys += len(get.keys)
        return answers + list(self._read_together(some, room))

    def _read_together(self, gets: Sequence[Get], room: int) -> Sequence[NodeAnswer | Waiting]:
        """Read all of these in one call of the engine, if they are not too many keys or bytes."""
        keys = gets[0].keys if len(gets) == 1 else [key for get in gets for key in get.keys]
        if len(keys) > _KEYS_AT_ONCE:
            return self._each_in_steps(gets)
        try:
            values = self._engine.read(keys, wall_ms(), room)
        except GkvError as error:
            return [refused_for(error)] * len(gets)
        if len(values) < len(keys):
            return self._each_in_steps(gets)
        if len(gets) == 1:
            return [Values(values)]
        answers = []
        start = 0
        for get in gets:
            end = start + len(get.keys)
            answers.append(Values(values[start:end]))
            start = end
        return answers

    def _each_in_steps(self, gets: Sequence[Get]) -> Sequence[Waiting]:
        """Return what reads each of these. Values of one at a time are in memory then."""
        return [partial(or_refused, partial(self._read_in_steps, get.keys)) for get in gets]

    def _read_in_steps(self, keys: Sequence[str]) -> NodeAnswer:
        """Read keys one after the other. Switches greenlets."""
        values: list[Value | Damage | None] = []
        room = self._max_answer
        while len(values) < len(keys):
            self._pause()
            step = self._engine.read(keys[len(values) : len(values) + _KEYS_AT_ONCE], wall_ms(), _BYTES_AT_ONCE)
            room -= sum([len(value) for value in step if isinstance(value, bytes | Blob)])
            if room < 0:
                return Refused(NodeRefusal.LARGE)
            values += step
        return Values(values)

    def fetch(self, request: Fetch) -> NodeAnswer | Waiting:
        """Read whole records."""
        keys = request.keys
        return self._after(self._commits.pending_for(keys), lambda: Records(self._engine.records_of(keys, wall_ms())))

    def list_keys(self, request: ListKeys) -> NodeAnswer | Waiting:
        """Read a page of keys."""
        pending = self._commits.last_pending()
        if pending is None and request.limit > _KEYS_AT_ONCE:
            return partial(or_refused, partial(self._list_in_steps, request))
        return self._after(pending, partial(self._list_in_steps, request))

    def _list_in_steps(self, request: ListKeys) -> NodeAnswer:
        """List keys one after the other. Switches greenlets when they are more than go into one step."""
        keys: list[str] = []
        limit, after = min(request.limit, MAX_LISTED), request.after
        while True:
            wanted = min(limit - len(keys), _KEYS_AT_ONCE)
            step = self._engine.keys(request.prefix, after, wanted, wall_ms())
            keys += step
            if len(step) < wanted or len(keys) == limit:
                return Page(keys)
            after = step[-1]
            self._pause()

    def _after(self, pending: Pending | None, read: Waiting) -> NodeAnswer | Waiting:
        """Read once a write that was acknowledged already is on disk; at once, if there is none."""
        if pending is None:
            return or_refused(read)

        def wait_for_it() -> NodeAnswer:
            pending.wait_for_reading(monotonic() + COMMIT_WITHIN)
            return read()

        return lambda: or_refused(wait_for_it)
