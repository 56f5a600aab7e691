"""What a node does to read: values, records, a page of keys.

A read begins after the writes that were acknowledged before they came to the disk (durability "async").
"""

from collections.abc import Sequence
from functools import partial
from time import monotonic

from gkv.coordinator.clock import wall_ms
from gkv.engine import Commits, Engine, Pending
from gkv.errors import GkvError
from gkv.model import NodeRefusal
from gkv.node.handler import COMMIT_WITHIN, Waiting, or_refused, refused_for
from gkv.wire.ops import Fetch, Get, ListKeys, NodeAnswer, Page, Records, Refused, Values

MAX_LISTED = 10_001
"""Keys in one page."""


class Reads:
    """Reads from an engine."""

    def __init__(self, engine: Engine, commits: Commits, max_answer: int) -> None:
        """`max_answer` bounds the bytes of the values that one call of the engine copies."""
        self._engine = engine
        self._commits = commits
        self._max_answer = max_answer

    def get(self, request: Get) -> Get | Waiting | NodeAnswer:
        """Return the request itself, to be read by `values_of` together with others, unless a write must be waited for."""
        pending = self._commits.pending_for(request.keys)
        return request if pending is None else self._after(pending, partial(self._read_alone, request.keys))

    def values_of(self, gets: Sequence[Get]) -> Sequence[NodeAnswer | Waiting]:
        """Read all of these in one call of the engine; return the answer to each."""
        keys = gets[0].keys if len(gets) == 1 else [key for get in gets for key in get.keys]
        try:
            values = self._engine.read(keys, wall_ms(), self._max_answer)
        except GkvError as error:
            return [refused_for(error)] * len(gets)
        if len(values) < len(keys):
            # They are too many bytes together, perhaps not each for itself. Values of one at a time are in memory then.
            return [partial(self._read_alone, get.keys) for get in gets]
        if len(gets) == 1:
            return [Values(values)]
        answers = []
        start = 0
        for get in gets:
            end = start + len(get.keys)
            answers.append(Values(values[start:end]))
            start = end
        return answers

    def _read_alone(self, keys: Sequence[str]) -> NodeAnswer:
        def read() -> NodeAnswer:
            values = self._engine.read(keys, wall_ms(), self._max_answer)
            return Values(values) if len(values) == len(keys) else Refused(NodeRefusal.LARGE)

        return or_refused(read)

    def fetch(self, request: Fetch) -> NodeAnswer | Waiting:
        """Read whole records."""
        keys = request.keys
        return self._after(self._commits.pending_for(keys), lambda: Records(self._engine.records_of(keys, wall_ms())))

    def list_keys(self, request: ListKeys) -> NodeAnswer | Waiting:
        """Read a page of keys."""
        limit = min(request.limit, MAX_LISTED)
        return self._after(
            self._commits.last_pending(),
            lambda: Page(self._engine.keys(request.prefix, request.after, limit, wall_ms())),
        )

    def _after(self, pending: Pending | None, read: Waiting) -> NodeAnswer | Waiting:
        """Read once a write that was acknowledged already is on disk; at once, if there is none."""
        if pending is None:
            return or_refused(read)

        def wait_for_it() -> NodeAnswer:
            pending.wait_for_reading(monotonic() + COMMIT_WITHIN)
            return read()

        return lambda: or_refused(wait_for_it)
