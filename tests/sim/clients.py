"""Proxies and their clients: each call is routed to the primary by the proxy's document, and is an operation of the history.

A write is handed to a primary once (W0). Only an answer that says that nothing was begun, or a connection that was refused,
lets it be routed anew; reads are asked again. A proxy may hold an old document for long.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gkv.cluster.document import Document
from gkv.cluster.placement import Placement
from gkv.model import Value, Version
from gkv.replication.conditions import ANY_VALUE, NO_VALUE
from gkv.replication.conditions import Condition as Demand
from tests.linearizability.history import ABSENT, NEVER, PRESENT, Condition, Ending, Expiry, Kind, Operation
from tests.sim.scenario import Call, Expects

if TYPE_CHECKING:
    from tests.sim.world import World

AGAIN = 0.05
"""Seconds until a call is routed anew."""
READ_AGAIN = 1.0
"""Seconds without an answer after which a read is asked again."""


class Said(Enum):
    """A member's answer about a key."""

    DONE = "done"
    MISSING = "missing"
    CONDITION = "condition"
    WRONG_TYPE = "wrong type"
    NOTHING_BEGUN = "nothing begun"
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a member says about a key."""

    said: Said
    value: Value | None = None
    version: Version | None = None
    existed: bool | None = None


Replies = tuple[Reply, ...]
"""One for each key of a request; none if the connection broke after it was sent."""
NOT_SENT = Reply(Said.NOTHING_BEGUN)


@dataclass(frozen=True, slots=True)
class Request:
    """A call, or a part of one, as it reaches a member."""

    kind: Kind
    keys: tuple[str, ...]
    value: bytes | None
    demand: Demand | None
    ttl: int
    """Milliseconds, 0 for none."""
    within: float
    """Seconds for which the client waits still."""
    document: Document
    """The one by which it was routed."""


class Asked:
    """A key of a call, about which there is no answer yet."""

    __slots__ = ("answered", "call", "condition", "demand", "key", "number", "sent", "since", "tries")

    def __init__(self, number: int, call: Call, key: str, since: float) -> None:
        self.number = number
        """The call's."""
        self.call = call
        self.key = key
        self.since = since
        self.condition: Condition | None = None
        self.demand: Demand | None = None
        self.sent = False
        """Whether a primary may have begun it."""
        self.tries = 0
        self.answered = False


class Proxy:
    """A proxy, its clients, and what they know."""

    def __init__(self, world: "World", place: int, document: Document) -> None:
        self.id = f"p{place}"
        self._world = world
        self.document = document
        self._placement = world.placement(document)
        self.open: set[Asked] = set()

    def adopt(self, document: Document) -> None:
        """Follow a later document."""
        if document.order > self.document.order:
            self.document = document
            self._placement: Placement = self._world.placement(document)

    def ask(self, number: int, call: Call) -> None:
        """Begin a client's call."""
        world = self._world
        parts = []
        for place in (call.key, *call.also):
            key = world.keys[place]
            asked = Asked(number, call, key, world.now)
            asked.condition, asked.demand = _condition(call.expects, world.seen.get(key, []))
            parts.append(asked)
        self.open.update(parts)
        if world.story.told:
            keys = ", ".join(asked.key for asked in parts)
            condition = f" {parts[0].condition}" if parts[0].condition else ""
            world.story.tell(self.id, f"call {number}: {call.kind.value} {keys}{condition}")
        self._send(parts)
        world.scheduler.after(call.within, self._end, parts)

    def _send(self, parts: list[Asked]) -> None:
        """Hand keys to their primaries."""
        world, placement = self._world, self._placement
        by_primary: dict[str | None, list[Asked]] = {}
        for asked in parts:
            if not asked.answered:
                by_primary.setdefault(placement.roles[placement.list_of(asked.key)].primary, []).append(asked)
        for primary, some in by_primary.items():
            if primary is None:
                world.scheduler.after(0.2, self._send, some)
            else:
                self._hand_over(primary, some)

    def _hand_over(self, primary: str, parts: list[Asked]) -> None:
        world, first = self._world, parts[0]
        call = first.call
        value = b"%d" % first.number if call.kind is Kind.PUT else None
        within = call.within - (world.now - first.since)
        keys = tuple(asked.key for asked in parts)
        request = Request(call.kind, keys, value, first.demand, round(call.ttl * 1000), within, self.document)
        tries = []
        for asked in parts:
            asked.sent = True
            asked.tries += 1
            tries.append((asked, asked.tries))
        world.call_member(self, primary, request, lambda replies: self._answer(tries, replies))
        if call.kind is Kind.READ:
            world.scheduler.after(READ_AGAIN, self._ask_again, tries)

    def _ask_again(self, tries: list[tuple[Asked, int]]) -> None:
        self._send([asked for asked, number in tries if asked.tries == number])

    def _answer(self, tries: list[tuple[Asked, int]], replies: Replies) -> None:
        """Take an answer."""
        again = []
        for place, (asked, number) in enumerate(tries):
            if asked.answered or asked.tries != number:
                continue
            is_read = asked.call.kind is Kind.READ
            reply = replies[place] if replies else Reply(Said.INDETERMINATE)
            if reply.said is Said.NOTHING_BEGUN or (is_read and reply.said is Said.INDETERMINATE) or self.repeats(reply):
                asked.sent = False
                again.append(asked)
            elif reply.said is Said.INDETERMINATE:
                self._finish(asked, Ending.UNKNOWN, reply)
            else:
                self._finish(asked, _ENDINGS[reply.said], reply)
        if again:
            self._world.scheduler.after(AGAIN, self._send, again)

    @staticmethod
    def repeats(_reply: Reply) -> bool:
        """Return whether a write of unknown outcome is routed anew: never (W0)."""
        return False

    def _end(self, parts: list[Asked]) -> None:
        """Give up waiting."""
        for asked in parts:
            if not asked.answered:
                nothing = asked.call.kind is Kind.READ or not asked.sent
                self._finish(asked, Ending.REFUSED if nothing else Ending.UNKNOWN, Reply(Said.INDETERMINATE))

    def _finish(self, asked: Asked, ending: Ending, reply: Reply) -> None:
        world, call = self._world, asked.call
        asked.answered = True
        self.open.discard(asked)
        version = None if reply.version is None else str(reply.version)
        value = reply.value.decode() if isinstance(reply.value, bytes) else None
        if call.kind is Kind.PUT:
            value = str(asked.number)
        due = asked.since + call.ttl
        expiry = Expiry(due - 2 * world.wall_errors - 0.045 * due, NEVER) if call.ttl else None  # clocks drift
        operation = Operation(
            asked.key,
            call.kind,
            asked.since,
            NEVER if ending is Ending.UNKNOWN else world.now,
            ending,
            value,
            version if ending in (Ending.DONE, Ending.CONDITION) else None,
            reply.existed,
            delta=1 if call.kind is Kind.ADD else 0,
            expiry=expiry,
            condition=asked.condition,
            who=f"{self.id} call {asked.number}",
            code=reply.said.value,
        )
        if version is not None or reply.said is Said.MISSING:
            world.seen.setdefault(asked.key, []).append(version)
        if world.story.told:
            shown = f" {value}" if value is not None and call.kind is not Kind.PUT else ""
            told = f"{ending.value}{shown} {version or ''}"
            world.story.tell(self.id, f"call {asked.number}: {call.kind.value} {asked.key} is {told}")
        world.history.append(operation)
        if not any(other.number == asked.number for other in self.open):
            world.over(call)


_ENDINGS = {
    Said.DONE: Ending.DONE,
    Said.MISSING: Ending.MISSING,
    Said.CONDITION: Ending.CONDITION,
    Said.WRONG_TYPE: Ending.WRONG_TYPE,
}


def _condition(expects: Expects, seen: list[str | None]) -> tuple[Condition | None, Demand | None]:
    """Return a condition for the history, and the same one as members take it."""
    if expects is Expects.NOTHING:
        return None, None
    if expects is Expects.PRESENT:
        return PRESENT, ANY_VALUE
    version = None
    if expects is not Expects.ABSENT and seen:
        version = seen[-1] if expects is Expects.SEEN else seen[max(0, len(seen) - 3)]
    if version is None:
        return ABSENT, NO_VALUE
    return Condition((version,)), Demand.one_of([Version.parse(version)])
