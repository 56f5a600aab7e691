"""Read, write and delete a batch of keys at their owners, and list keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from time import monotonic

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator.clock import Clock
from gkv.coordinator.exchanges import Exchanges, understand
from gkv.errors import FarAhead, TooLarge, Unavailable
from gkv.model import Damage, KeyFailure, Node, NodeReply, Outcome, Record, Value, Version
from gkv.net.call import Lane, ask_all
from gkv.wire import Batch, Done, Part, PureRouter, router
from gkv.wire.batch import BAD_ANSWER, DAMAGED, RECORDS, SIZES, failures
from gkv.wire.client import Limits
from gkv.wire.frames import BadFrame, Reply, Request, read_records, write_request

_ATTEMPTS = 3
"""A node of another epoch costs one more; so does a join that ends meanwhile, or a clock that is behind. Then something else is
wrong.
"""

_CURABLE = ("stale", "changing")
"""Refusals after which `_reconcile` may help."""

_READS = {"get": SIZES, "fetch": RECORDS}
"""What the answer to each starts with; every other op is a write."""

OVERLOADED = KeyFailure("overloaded")
READ_FAILURES = {
    Outcome.ANSWERED: BAD_ANSWER,
    Outcome.UNREACHABLE: KeyFailure("unreachable"),
    Outcome.OVERLOADED: OVERLOADED,
    Outcome.TIMEOUT: KeyFailure("timeout"),
    Outcome.LOST: KeyFailure("unreachable"),
}
NOT_APPLIED = KeyFailure("not-applied")
INDETERMINATE = KeyFailure("indeterminate")
"""The write may show up now, later or never. Repeating it is harmless."""
STALE = KeyFailure("epoch")
DISK_FULL = KeyFailure("disk-full")
TOO_LARGE = KeyFailure("too-large", retryable=False)
REFUSED = KeyFailure("refused", retryable=False)
REFUSALS = {
    "stale": STALE,
    "changing": STALE,
    "ahead": KeyFailure("clock-ahead"),
    "full": DISK_FULL,
    "busy": OVERLOADED,
    "large": TOO_LARGE,
    "failed": INDETERMINATE,
}
"""By what a node says; everything else is REFUSED."""

MAX_ANSWER = 64 << 20
"""Bytes of the values that one request may bring."""


@dataclass(slots=True)
class Written:
    """What became of a set or a delete: how many keys it concerned, at how many owners, and the keys without a definite answer.

    For a delete or a put, only keys that existed count.
    """

    version: Version | None = None
    keys: int = 0
    nodes: int = 0
    failed: dict[str, KeyFailure] = field(default_factory=dict)


class Coordinator:
    """Routes batches by the ring of a view, asks the owners in parallel, joins their answers.

    A `request_id` goes to the nodes that are asked, for their logs; "" when nobody would look for it.
    """

    def __init__(
        self,
        view: View,
        exchanges: Exchanges,
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
        self._exchanges = exchanges
        self._deadline = deadline
        self.retries = 0
        """Parts of batches that were sent once more."""
        self._routed: Document | None = None
        self._router: PureRouter

    def router(self) -> PureRouter:
        """Return what reads and routes batches now. Raise Unavailable while there is no member."""
        document, ring = self._view.current()
        if document is not self._routed:
            self._router = router(ring, document.cluster, document.epoch, self.limits)
            self._routed = document
        return self._router

    def version(self) -> Version:
        """Return the version for one write. Switches greenlets at times; raise Unavailable when the disk is in the way."""
        return self._clock.now()

    @property
    def replicas(self) -> int:
        """How many copies of each record there are. Raise Unavailable while there is no member."""
        return self._view.current()[0].replicas

    def read(self, batch: Batch, request_id: str = "") -> list[Done]:
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
        applied = [one for one in done if one.failure is None]
        nodes = {one.part.node.id for one in applied}  # an owner may stand twice, when some keys were routed anew
        failed = failures(done, batch.keys) if len(applied) < len(done) else {}
        return Written(batch.version, sum(one.count for one in applied), len(nodes), failed)

    def fetch(self, key: str, request_id: str = "") -> Record | KeyFailure | None:
        """Return the record of a key; None when it certainly has no value. Switches greenlets."""
        [one] = self._run(self.router().of_keys("fetch", [key]), request_id)
        if one.failure is not None:
            return one.failure
        try:
            records = read_records(one.frame, 1).records
        except BadFrame:
            records = None
        if records is None:
            return BAD_ANSWER
        record = records[0]
        if isinstance(record, Damage):
            return DAMAGED
        return None if record is None or record.value is None else record

    def put(self, key: str, value: Value, ttl: float | None, request_id: str = "") -> Written:
        """Set one key, for `ttl` seconds or for good. Switches greenlets."""
        return self.write(self.router().of_value(key, value, ttl, self.version()), request_id)

    def delete(self, key: str, request_id: str = "") -> Written:
        """Delete one key. Switches greenlets."""
        return self.write(self.router().of_keys("delete", [key], self.version()), request_id)

    def keys(self, prefix: str, after: str, limit: int, request_id: str = "") -> list[str]:
        """Return up to `limit` keys that start with `prefix` and sort after `after`, in code point order.

        A key that is there throughout is among them, so every member must answer; raise Unavailable when one does not. Takes
        memory for `limit` keys of each member. Switches greenlets.
        """
        expires = monotonic() + self._deadline
        for _ in range(_ATTEMPTS):
            document, _ring = self._view.current()
            request = Request("keys", document.cluster, document.epoch, prefix=prefix, after=after, limit=limit)
            frame = write_request(request)
            replies = ask_all([(self._exchanges.to(node), frame) for node in document.members], expires, request_id)
            pages: list[Sequence[str]] = []
            for node, reply in zip(document.members, replies, strict=True):
                answer = understand(reply)
                if answer is not None and answer.keys is not None:
                    pages.append(answer.keys)
                elif answer is None or not self._exchanges.retries.spend() or not self._reconcile(node, answer):
                    raise Unavailable(f"node {node.id} does not answer, and some of the keys are its own", retry_after=1)
            if len(pages) == len(replies):
                return list(islice(merge(*pages), limit))
        raise Unavailable("the cluster is changing", retry_after=1)

    def _run(self, batch: Batch, request_id: str) -> list[Done]:
        """Bring a batch to the owners of its keys; return what became of the parts, which together have each key once."""
        expires = monotonic() + self._deadline
        retries = self._exchanges.retries
        retries.earn()
        done: list[Done] = []
        caught_up: set[int] = set()
        parts = batch.parts
        writing = batch.op not in _READS
        for attempt in range(_ATTEMPTS):
            if not parts:
                break
            if writing and not self._view.wait_settled(expires - monotonic()):
                # Nothing of these has been applied: the first attempt was not made, a later one repeats what was refused.
                done += [Done(part, failure=NOT_APPLIED) for part in parts]
                break
            again: list[int] = []
            asked = [(self._exchanges.to(part.node), part.frame) for part in parts]
            replies = ask_all(asked, expires, request_id, lane=Lane.WRITE if writing else Lane.READ)
            for part, reply in zip(parts, replies, strict=True):
                one = _judge(batch.op, part, reply)
                if isinstance(one, Done):
                    done.append(one)
                elif one.beaten and caught_up.issuperset(part.positions):
                    # What beats it now was not there when it came first: the two are concurrent, and this one is the earlier.
                    done.append(Done(part, count=one.count))
                elif one.beaten:
                    if attempt + 1 < _ATTEMPTS and retries.spend() and self._catch_up(batch, one.beaten):
                        again += part.positions
                        caught_up.update(part.positions)
                        if batch.op == "delete":  # the next attempt will not find again what this one deleted
                            done.append(Done(Part(part.node, (), b""), count=one.count))
                    else:
                        done.append(Done(part, failure=INDETERMINATE))
                elif (
                    attempt + 1 < _ATTEMPTS and one.refused in _CURABLE and retries.spend() and self._reconcile(part.node, one)
                ):
                    again += part.positions
                else:
                    done.append(Done(part, failure=REFUSALS.get(one.refused, REFUSED)))
            if not again:
                break
            document, ring = self._view.current()
            parts = batch.route(again, ring, document.cluster, document.epoch)
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

    def _reconcile(self, node: Node, reply: Reply) -> bool:
        """After a refusal, bring this process and a node to the same document. Return whether asking again may help."""
        if reply.refused == "changing":
            return True  # what comes next waits until the change is over
        if reply.refused != "stale":
            return False
        mine, _ = self._view.current()
        try:
            theirs = Document.from_json(reply.document) if reply.document is not None else None
        except ValueError:
            return False
        if theirs is not None and theirs.cluster == mine.cluster and theirs.epoch > mine.epoch:
            self._view.adopt(theirs)
            return True
        return self._exchanges.adopt(mine, [node]) != [None]


def _judge(op: str, part: Part, reply: NodeReply) -> Done | Reply:
    """Return what became of a part, or the refusal that may be overcome."""
    start = _READS.get(op)
    if reply.outcome is not Outcome.ANSWERED:
        return Done(part, failure=_write_failure(reply) if start is None else READ_FAILURES[reply.outcome])
    if start is not None and reply.frame.startswith(start):
        return Done(part, reply.frame, hold=reply.hold)
    answer = understand(reply)
    if answer is None or (start is not None and not answer.refused):
        return Done(part, failure=INDETERMINATE if start is None else BAD_ANSWER)
    return answer if answer.refused or answer.beaten else Done(part, count=answer.count)


def _write_failure(reply: NodeReply) -> KeyFailure:
    if reply.sent:
        return INDETERMINATE
    return OVERLOADED if reply.outcome is Outcome.OVERLOADED else NOT_APPLIED
