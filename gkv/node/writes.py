"""What a node does to write: looks at the version, admits the write, and says what it did to each key."""

from collections.abc import Sequence
from time import monotonic

from gkv.cluster.view import View
from gkv.coordinator.clock import Clock, wall_ms
from gkv.engine import Commits
from gkv.errors import FarAhead, GkvError
from gkv.model import Applied, Effect, NodeRefusal, Op, Value, Write
from gkv.node.handler import COMMIT_WITHIN, Waiting, or_refused, refused_for
from gkv.wire.ops import Effects, NodeAnswer, Refused, Set, WriteRequest


class Writes:
    """Writes through a group commit."""

    def __init__(self, view: View, commits: Commits, clock: Clock, tombstone_ttl: int) -> None:
        """`tombstone_ttl` is in ms."""
        self._view = view
        self._commits = commits
        self._clock = clock
        self._oldest = tombstone_ttl // 2

    def write(self, request: WriteRequest) -> NodeAnswer | Waiting:
        """Admit a set, a put or a delete."""
        document = self._view.document
        if document is not None and document.next is not None:
            return Refused(NodeRefusal.CHANGING)
        version = request.version
        try:
            self._clock.observe(version.stamp)
        except FarAhead:
            return Refused(NodeRefusal.AHEAD)
        if version.millis < wall_ms() - self._oldest:
            # What has been deleted since might be forgotten already, or be by the time that this comes to the disk.
            return Refused(NodeRefusal.TOO_OLD)
        keys = request.keys
        last = dict(zip(keys, range(len(keys)), strict=True))
        places = list(last.values()) if len(last) < len(keys) else None
        try:
            pending = self._commits.submit(_as_write(request, places), counted=request.op is Op.PUT)
        except GkvError as error:
            return refused_for(error)

        def wait_for_it() -> NodeAnswer:
            return _effects(pending.wait(monotonic() + COMMIT_WITHIN), len(keys), places)

        return or_refused(wait_for_it) if pending.done else lambda: or_refused(wait_for_it)


def _as_write(request: WriteRequest, places: Sequence[int] | None) -> Write:
    """Return what is to be written: the items at these places, None for all."""
    keys, version = request.keys, request.version
    values: Sequence[Value | None] = request.values if isinstance(request, Set) else [None] * len(keys)
    expires: Sequence[int] = request.expires if isinstance(request, Set) else ()
    if places is None:
        return Write(version, keys, values, expires)
    some = [expires[i] for i in places] if expires else ()
    return Write(version, [keys[i] for i in places], [values[i] for i in places], some)


def _effects(applied: Applied, count: int, places: Sequence[int] | None) -> Effects:
    """Say for each of `count` items what it did; `places` as in `_as_write`."""
    known = applied.effects or [Effect.ACCEPTED] * (count if places is None else len(places))
    if places is None:
        return Effects.of(known, applied.beaten)
    effects = [Effect.SUPERSEDED] * count
    for place, effect in zip(places, known, strict=True):
        effects[place] = effect
    return Effects.of(effects, applied.beaten)
