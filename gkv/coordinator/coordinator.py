"""Read, write and delete a batch of keys at their owners, and list keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from time import monotonic

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator.channels import Channels, understand
from gkv.coordinator.clock import Clock
from gkv.coordinator.failures import TOO_LARGE, GivenUp, failure
from gkv.errors import FarAhead, TooLarge, Unavailable
from gkv.model import WRITES, Damage, Effect, KeyFailure, Node, NodeRefusal, NodeReply, Op, Outcome, Record, Value, Version
from gkv.net.call import Lane, ask_all
from gkv.net.turn import Turn
from gkv.ring import NOBODY
from gkv.wire import Batch, Part, PartResult, PureRouter, router
from gkv.wire.batch import BAD_ANSWER, DAMAGED_KEY, RECORDS, SIZES, failures
from gkv.wire.client import Limits
from gkv.wire.ops import BadFrame, Effects, ListKeys, Page, Records, Refused, read_answer

_ATTEMPTS = 3
"""A node of another epoch costs one more; so does a join that ends meanwhile, or a clock that is behind. Then something else is
wrong.
"""

_CURABLE = frozenset((NodeRefusal.STALE, NodeRefusal.CHANGING))
"""Refusals after which `_reconcile` may help."""

_STARTS = {Op.GET: SIZES, Op.FETCH: RECORDS}
"""For each op that reads keys, the first bytes of an answer to it; no other answer begins so."""

_READ, _WRITE, _ANSWERED = Lane.READ, Lane.WRITE, Outcome.ANSWERED  # which saves 0.1 us each time

MAX_ANSWER = 64 << 20
"""Bytes of the values that one request may bring."""


@dataclass(slots=True)
class Written:
    """What became of the keys of a write: its effects on those that were written, and why the others have no definite answer.

    `parts` has the effects at each owner, for the keys at these places of the batch; `nodes` counts the owners.
    """

    version: Version | None = None
    parts: Sequence[tuple[Sequence[int], Effects]] = ()
    nodes: int = 0
    failed: dict[str, KeyFailure] = field(default_factory=dict)

    @property
    def keys(self) -> int:
        """Count of the keys that were written; one that stands twice in the batch counts once. O(keys)."""
        return sum([len(effects) - effects.count(Effect.SUPERSEDED) for _, effects in self.parts])

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
        clock: Clock,
        deadline: float,
        limits: Limits | None = None,
        max_answer: int = MAX_ANSWER,
    ) -> None:
        """`deadline` is in seconds, for a whole request; `limits` bound a batch, `max_answer` the bytes that it brings."""
        self.limits = limits or Limits()
        self.max_answer = max_answer
        self._clock = clock
        self._view = view
        self._channels = channels
        self._deadline = deadline
        self.retries = 0
        """Parts of batches that were sent once more."""
        self.writes_wait_for = ""
        """The reason for which no write is taken now; "" when there is none."""
        self._routed: Document | None = None
        self._router: PureRouter

    def router(self) -> PureRouter:
        """Return what reads and routes batches now. Raise Unavailable while there is no member."""
        document, placement = self._view.current()
        if document is not self._routed:
            self._router = router(placement.ring, document.cluster, document.epoch, self.limits, placement.primaries)
            self._routed = document
        return self._router

    def version(self) -> Version:
        """Return the version for one write. Switches greenlets at times.

        Raise Unavailable when the disk is in the way, or while `writes_wait_for` something.
        """
        if self.writes_wait_for:
            raise Unavailable(f"nothing can be written until {self.writes_wait_for}", retry_after=1)
        return self._clock.now()

    @property
    def replicas(self) -> int:
        """How many copies of each record there are. Raise Unavailable while there is no member."""
        return self._view.current()[0].replicas

    def read(self, batch: Batch, request_id: str = "") -> list[PartResult]:
        """Return what became of each part of a get. Raise TooLarge for more than `max_answer` bytes. Switches greenlets."""
        done = self._run(batch, request_id)
        size = 0
        for one in done:
            size += len(one.frame)
            if one.failure is TOO_LARGE or size > self.max_answer:
                raise TooLarge(f"the answer would have more than {self.max_answer} bytes; ask for fewer keys at a time")
        return done

    def write(self, batch: Batch, request_id: str = "") -> Written:
        """Apply a set, a put or a delete. Switches greenlets."""
        done = self._run(batch, request_id)
        parts = [(one.part.positions, one.effects) for one in done if one.effects is not None]
        nodes = {one.part.node.id for one in done if one.effects is not None}  # some keys may have been routed anew
        failed = failures(done, batch.keys) if len(parts) < len(done) else {}
        return Written(batch.version, parts, len(nodes), failed)

    def fetch(self, key: str, request_id: str = "") -> Record | KeyFailure | None:
        """Return the record of a key; None when it certainly has no value. Switches greenlets."""
        [one] = self._run(self.router().of_keys(Op.FETCH, [key]), request_id)
        if one.failure is not None:
            return one.failure
        try:
            answer = read_answer(one.frame, Records, 1)
        except BadFrame:
            return BAD_ANSWER
        if isinstance(answer, Refused):
            return BAD_ANSWER
        record = answer.records[0]
        if isinstance(record, Damage):
            return DAMAGED_KEY
        return None if record is None or record.value is None else record

    def put(self, key: str, value: Value, ttl: float | None, request_id: str = "") -> Written:
        """Set one key, for `ttl` seconds or for good. Switches greenlets."""
        return self.write(self.router().of_value(key, value, ttl, self.version()), request_id)

    def delete(self, key: str, request_id: str = "") -> Written:
        """Delete one key. Switches greenlets."""
        return self.write(self.router().of_keys(Op.DELETE, [key], self.version()), request_id)

    def keys(self, prefix: str, after: str, limit: int, request_id: str = "") -> list[str]:
        """Return up to `limit` keys that start with `prefix` and sort after `after`, in code point order.

        A key that is there throughout is among them, so every member must answer; raise Unavailable when one does not. Takes
        memory for `limit` keys of each member. Switches greenlets.
        """
        expires = monotonic() + self._deadline
        for _ in range(_ATTEMPTS):
            document, _ = self._view.current()
            frame = ListKeys(document.cluster, document.epoch, prefix, after, limit).write()
            replies = ask_all([(self._channels.to(node), frame) for node in document.nodes], expires, request_id)
            pages: list[Sequence[str]] = []
            pause = Turn()
            for node, reply in zip(document.nodes, replies, strict=True):
                pause()
                answer = understand(reply, Page, pause=pause)
                if isinstance(answer, Page):
                    pages.append(answer.keys)
                elif answer is None or not self._channels.retries.spend() or not self._reconcile(node, answer):
                    raise Unavailable(f"node {node.id} does not answer, and some of the keys are its own", retry_after=1)
            if len(pages) == len(replies):
                # Each page is in order already, which makes sorting as fast as a merge in C.
                return sorted(chain.from_iterable(pages))[:limit]
        raise Unavailable("the cluster is changing", retry_after=1)

    def _run(self, batch: Batch, request_id: str) -> list[PartResult]:
        """Bring a batch to the owners of its keys; return what became of the parts, which together have each key once."""
        expires = monotonic() + self._deadline
        retries = self._channels.retries
        retries.earn()
        done: list[PartResult] = []
        caught_up: set[int] = set()
        before: dict[int, Effect] = {}
        """By place in the batch, the effects of this write's attempts that lost with other keys."""
        parts = batch.parts
        writing = batch.op in WRITES
        lane = _WRITE if writing else _READ
        for attempt in range(_ATTEMPTS):
            parts = _answerable(batch.op, parts, done)
            if not parts:
                break
            if writing and not self._view.wait_for_change(expires - monotonic()):
                # Nothing of these has been applied: the first attempt was not made, a later one repeats what was refused.
                done += [PartResult(part, failure=failure(batch.op, GivenUp.CHANGE_TOO_LONG)) for part in parts]
                break
            again: list[int] = []
            asked = [(self._channels.to(part.node), part.frame) for part in parts]
            replies = ask_all(asked, expires, request_id, lane=lane)
            for part, reply in zip(parts, replies, strict=True):
                one = _judge(batch.op, part, reply)
                if isinstance(one, Effects) and before:
                    one = _over_all(part, one, before)
                if isinstance(one, PartResult):
                    done.append(one)
                elif isinstance(one, Refused):
                    if (
                        attempt + 1 < _ATTEMPTS
                        and one.reason in _CURABLE
                        and retries.spend()
                        and self._reconcile(part.node, one)
                    ):
                        again += part.positions
                    else:
                        done.append(PartResult(part, failure=failure(batch.op, one.reason)))
                elif not one.beaten or caught_up.issuperset(part.positions):
                    # What beats it the second time was not there when it came first: the two are concurrent, and this one is
                    # the earlier.
                    done.append(PartResult(part, effects=one))
                elif attempt + 1 < _ATTEMPTS and retries.spend() and self._catch_up(batch, one.beaten):
                    again += part.positions
                    caught_up.update(part.positions)
                    before.update(zip(part.positions, one, strict=True))
                else:
                    done.append(PartResult(part, failure=failure(batch.op, GivenUp.BEATEN)))
            if not again:
                break
            document, placement = self._view.current()
            parts = batch.route(again, placement.split, document.cluster, document.epoch, Turn())
            self.retries += len(parts)
        return done

    def _catch_up(self, batch: Batch, beaten: int) -> bool:
        """Give a write a version after the one that it lost against; return whether that can be.

        A client that has seen the other write acknowledged, by a coordinator whose clock is ahead, may rely on its own being
        the later one. Nothing has been acknowledged yet, so the whole write may just as well have begun now.
        """
        try:
            self._clock.observe(beaten)
        except FarAhead:
            return False
        if batch.version is None or batch.version.stamp <= beaten:
            batch.version = self._clock.now()
        return True

    def _reconcile(self, node: Node, refused: Refused) -> bool:
        """After a refusal, bring this process and a node to the same document. Return whether asking again may help."""
        if refused.reason is NodeRefusal.CHANGING:
            return True  # what comes next waits until the change is over
        if refused.reason is not NodeRefusal.STALE:
            return False
        mine, _ = self._view.current()
        try:
            theirs = Document.from_json(refused.document) if refused.document is not None else None
        except ValueError:
            return False
        if theirs is not None and theirs.follows(mine):
            self._view.learn(theirs)
            return True
        return self._channels.adopt(mine, node)


def _answerable(op: Op, parts: list[Part], done: list[PartResult]) -> list[Part]:
    """Return the parts that a node answers for; note in `done` that the one of nobody has failed."""
    for part in parts:
        if part.node is NOBODY:
            done.append(PartResult(part, failure=failure(op, GivenUp.NO_PRIMARY)))
            return [other for other in parts if other is not part]
    return parts


def _judge(op: Op, part: Part, reply: NodeReply) -> PartResult | Effects | Refused:
    """Return what became of a part, where that is certain: what a write did may still have lost against another one."""
    if op in WRITES:
        written = understand(reply, Effects, len(part.positions))
        return PartResult(part, failure=failure(op, (reply.outcome, reply.sent))) if written is None else written
    if reply.outcome is _ANSWERED:
        if reply.frame.startswith(_STARTS[op]):
            return PartResult(part, reply.frame, hold=reply.hold)
        refused = understand(reply, Refused)
        if refused is not None:
            return refused
    return PartResult(part, failure=failure(op, (reply.outcome, reply.sent)))


def _over_all(part: Part, last: Effects, before: Mapping[int, Effect]) -> Effects:
    """Return what all attempts of one write did together.

    An attempt that follows finds what the ones before it have done: nothing where they deleted, its own value where they set.
    """
    effects = []
    for place, effect in zip(part.positions, last, strict=True):
        earlier = before.get(place, effect)
        effects.append(effect if earlier is Effect.UNCHANGED else earlier)
    return Effects.of(effects, last.beaten)
