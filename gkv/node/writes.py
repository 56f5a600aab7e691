"""What a node does to write: gives the version, admits the write, and says what it did to each key."""

from collections.abc import Sequence
from time import monotonic

from gkv.cluster.view import View
from gkv.engine import Commits
from gkv.errors import GkvError
from gkv.model import Effect, NodeRefusal, Op, Value, Version, Write
from gkv.node.handler import COMMIT_WITHIN, Waiting, or_refused, refused_for, wall_ms
from gkv.replication.versions import Versions
from gkv.wire.ops import Effects, NodeAnswer, Refused, Set, WriteRequest


class Writes:
    """Writes through a group commit."""

    def __init__(self, view: View, commits: Commits, versions: Versions) -> None:
        self._view = view
        self._commits = commits
        self._versions = versions

    def write(self, request: WriteRequest) -> NodeAnswer | Waiting:
        """Admit a set, a put or a delete."""
        document = self._view.document
        if document is not None and document.joining is not None:
            return Refused(NodeRefusal.CHANGING)
        keys = request.keys
        last = dict(zip(keys, range(len(keys)), strict=True))
        places = list(last.values()) if len(last) < len(keys) else None
        write = _as_write(request, self._versions.next(request.era), places)
        try:
            pending = self._commits.submit(write, counted=request.op is Op.PUT)
        except GkvError as error:
            return refused_for(error)

        def wait_for_it() -> NodeAnswer:
            return _effects(pending.wait(monotonic() + COMMIT_WITHIN), write.version, len(keys), places)

        return or_refused(wait_for_it) if pending.done else lambda: or_refused(wait_for_it)


def _as_write(request: WriteRequest, version: Version, places: Sequence[int] | None) -> Write:
    """Return what is to be written: the items at these places, None for all."""
    keys = request.keys
    values: Sequence[Value | None] = [None] * len(keys)
    expires: Sequence[int] = ()
    if isinstance(request, Set):
        values = request.values
        if request.ttls:
            now = wall_ms()
            expires = [now + ttl if ttl else 0 for ttl in request.ttls]
    if places is None:
        return Write(version, keys, values, expires)
    some = [expires[i] for i in places] if expires else ()
    return Write(version, [keys[i] for i in places], [values[i] for i in places], some)


def _effects(known: Sequence[Effect], version: Version, count: int, places: Sequence[int] | None) -> Effects:
    """Say for each of `count` items what it did; `places` as in `_as_write`."""
    known = known or [Effect.ACCEPTED] * (count if places is None else len(places))
    if places is None:
        return Effects.of(known, version)
    effects = [Effect.SUPERSEDED] * count
    for place, effect in zip(places, known, strict=True):
        effects[place] = effect
    return Effects.of(effects, version)
