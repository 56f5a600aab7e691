"""Read, write and delete a batch of keys at their owners, and list keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator.channels import Channels
from gkv.coordinator.failures import DISK_FULL, FATES, TOO_LARGE
from gkv.coordinator.listing import Lister, Names
from gkv.coordinator.patience import MOST_WAITING, Patience
from gkv.coordinator.stale import Copies, Peeked
from gkv.errors import TooLarge, Unavailable
from gkv.model import Effect, KeyFailure, Op, OtherVersion, Value, Version
from gkv.net.turn import Turn
from gkv.replication.names import Scope
from gkv.wire import Batch, PartResult, PureRouter, router
from gkv.wire.batch import failures
from gkv.wire.client import Limits
from gkv.wire.meta import Found
from gkv.wire.ops import Effects

_TOLD = "".join(effect for effect in Effect if effect not in FATES)
"""Letters of keys that have not failed, apart from conditions."""
_NOTHING = (Effect.SUPERSEDED, Effect.CONDITION, *FATES)

MAX_ANSWER = 64 << 20
"""Bytes of the values that one request may bring."""


@dataclass(slots=True)
class Written:
    """The outcome of a write: its effects on the keys that were written, and why the others were not, or
    have no definite answer.

    `version` is the greatest that an owner has given, None when nothing was written.
    `parts` has the effects at each owner, for the keys at these places of the batch; `nodes` counts the owners.
    """

    version: Version | None = None
    parts: Sequence[tuple[Sequence[int], Effects]] = ()
    nodes: int = 0
    failed: dict[str, KeyFailure] = field(default_factory=dict)

    @property
    def keys(self) -> int:
        """Count of the keys that were written; one that stands twice in the batch counts once. O(keys)."""
        return sum([len(effects) - sum(map(effects.count, _NOTHING)) for _, effects in self.parts])

    @property
    def existed(self) -> int:
        """Count of the keys that had a value, which was replaced or deleted. O(keys)."""
        return sum([effects.count(Effect.REPLACED) for _, effects in self.parts])

    def effects(self) -> dict[int, Effect]:
        """Return the effect on each key that was written, by its place in the batch."""
        return {place: effect for places, effects in self.parts for place, effect in zip(places, effects, strict=True)}


class Coordinator:
    """Routes batches by the ring of a view, asks the owners in parallel, joins their answers.

    A `request_id` goes to the nodes that are asked, for their logs; "" when nobody would look for it.
    """

    def __init__(
        self,
        view: View,
        channels: Channels,
        deadline: float,
        limits: Limits | None = None,
        max_answer: int = MAX_ANSWER,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """`deadline` is in seconds, for a whole request; `limits` bound a batch, `max_answer` the bytes that it brings,
        `most_waiting` the requests that wait for the copies of their keys.
        """
        self.limits = limits or Limits()
        self.max_answer = max_answer
        self._view = view
        self._channels = channels
        self._deadline = deadline
        self._copies = Copies(view, channels)
        self.patience = Patience(view, channels, most_waiting)
        self.writes_wait_for = ""
        """The reason for which no write is taken now; "" when there is none."""
        self._routed: Document | None = None
        self._router: PureRouter
        self._lister = Lister(view, self.patience)

    def router(self) -> PureRouter:
        """Return what reads and routes batches now. Raise Unavailable while there is no member."""
        document, placement = self._view.current()
        if document is not self._routed:
            self._router = router(placement.ring, document.cluster, document.era, self.limits, placement.primaries)
            self._routed = document
        return self._router

    @property
    def retries(self) -> int:
        """Parts of batches that were sent once more."""
        return self.patience.retries

    @property
    def replicas(self) -> int:
        """How many copies of each record there are. Raise Unavailable while there is no member."""
        return self._view.current()[0].replicas

    def acting(self, key: str) -> tuple[int, int]:
        """Return how many nodes act for a key, and how many have to for it to be written. Raise Unavailable likewise."""
        document, placement = self._view.current()
        return len(placement.roles[placement.list_of(key)].acting), document.needed

    def read(self, batch: Batch, request_id: str = "", expires: float | None = None) -> list[PartResult]:
        """Return what became of each part of a get, by `expires`, or in the time that a request has. Raise TooLarge for more
        than `max_answer` bytes. Switches greenlets.
        """
        done = self._run(batch, request_id, expires)
        size = 0
        for one in done:
            size += len(one.frame)
            if one.failure is TOO_LARGE or size > self.max_answer:
                raise TooLarge(f"the answer would have more than {self.max_answer} bytes; ask for fewer keys at a time")
        return done

    def write(self, batch: Batch, request_id: str = "") -> Written:
        """Apply a write, whatever its op is. Switches greenlets.

        Raise Unavailable while `writes_wait_for` something.
        """
        if self.writes_wait_for:
            raise Unavailable(f"nothing can be written until {self.writes_wait_for}", retry_after=1)
        done = self._run(batch, request_id)
        parts: list[tuple[Sequence[int], Effects]] = []
        nodes: set[str] = set()  # some keys may have been routed anew
        undone: dict[str, KeyFailure] = {}
        version: Version | None = None
        for one in done:
            if (effects := one.effects) is not None:
                positions = one.part.positions
                parts.append((positions, effects))
                nodes.add(one.part.node.id)
                if effects.version is not None and (version is None or version < effects.version):
                    version = effects.version
                if effects.present or effects.letters.strip(_TOLD):
                    undone |= _undone(batch.keys, positions, effects)
        failed = failures(done, batch.keys) | undone if len(parts) < len(done) else undone
        return Written(version, parts, len(nodes), failed)

    def fetch(self, key: str, request_id: str = "") -> Found | KeyFailure | None:
        """Return the record of a key; None when it certainly has no value. Switches greenlets."""
        batch = self.router().of_keys(Op.FETCH, [key])
        [found] = batch.records(self._run(batch, request_id))
        return found

    def peek(self, keys: Sequence[str], request_id: str = "") -> Peeked:
        """Return what any copy has of keys; with one copy that is the newest. Raise as `read`. Switches greenlets."""
        if self.replicas > 1:
            return self._copies.look(keys, request_id, monotonic() + self._deadline)
        batch = self.router().of_keys(Op.FETCH, keys)
        return Peeked(batch.records(self.read(batch, request_id), Turn()), 0)

    def put(self, key: str, value: Value, ttl: float | None, condition: str | None = None, request_id: str = "") -> Written:
        """Set one key, for `ttl` seconds or for good, on a condition as a frame has it. Switches greenlets."""
        return self.write(self.router().of_value(key, value, ttl, condition), request_id)

    def delete(self, key: str, condition: str | None = None, request_id: str = "") -> Written:
        """Delete one key, on a condition as a frame has it. Switches greenlets."""
        return self.write(self.router().of_delete(key, condition), request_id)

    def add(self, key: str, delta: int, ttl: float | None, request_id: str = "") -> Written:
        """Add to one key, which then expires in `ttl` seconds, or when it would have. Switches greenlets."""
        return self.write(self.router().of_add(key, delta, ttl), request_id)

    def touch(self, key: str, ttl: float, request_id: str = "") -> Written:
        """Let one key expire in `ttl` seconds, 0 for never. Switches greenlets."""
        return self.write(self.router().of_touch(key, ttl), request_id)

    def expires(self) -> float:
        """Return when a request that begins now is over, by `time.monotonic`."""
        return monotonic() + self._deadline

    def names(self, scope: Scope, begin: str, limit: int, request_id: str = "", expires: float | None = None) -> Names:
        """Return up to `limit` names of a listing from a place on (see `Lister.names`), by `expires`. Switches greenlets."""
        self._channels.retries.earn()
        return self._lister.names(scope, begin, limit, request_id, self.expires() if expires is None else expires)

    def _run(self, batch: Batch, request_id: str, expires: float | None = None) -> list[PartResult]:
        """Bring a batch to the owners of its keys; return what became of the parts, which together have each key once."""
        if expires is None:
            expires = self.expires()
        self._channels.retries.earn()
        return self.patience.run(batch, request_id, expires)


def _undone(keys: Sequence[str], places: Sequence[int], effects: Effects) -> dict[str, KeyFailure]:
    """Return the failure of each key whose condition did not hold, or that has another letter of those in `FATES`."""
    unmet = [place for place, effect in zip(places, effects, strict=True) if effect is Effect.CONDITION]
    failed = {keys[place]: FATES[effect] for place, effect in zip(places, effects, strict=True) if effect in FATES}
    full = iter(effects.full)
    failed = {key: replace(one, node=next(full, "")) if one is DISK_FULL else one for key, one in failed.items()}
    return failed | {keys[place]: OtherVersion(present=present) for place, present in zip(unmet, effects.present, strict=True)}
