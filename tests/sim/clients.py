"""Proxies and their clients: each call is routed to the primary by the proxy's document, and becomes an operation of the history.

A write is handed to a primary once (W0). Only an answer that says that nothing was begun, or a connection that was refused, lets
it be routed anew; reads are asked again. A proxy may hold an old document for long.
"""

from collections.abc import Callable
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

AGAIN = 0.02
"""Seconds until a call is routed anew."""
READ_AGAIN = 1.0
"""Seconds without an answer after which a read is asked again."""


class Said(Enum):
    """A member's answer to a client's call."""

    DONE = "done"
    MISSING = "missing"
    CONDITION = "condition"
    WRONG_TYPE = "wrong type"
    NOTHING_BEGUN = "nothing begun"
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a member says."""

    said: Said
    value: Value | None = None
    version: Version | None = None
    existed: bool | None = None


NOT_SENT = Reply(Said.NOTHING_BEGUN)


@dataclass(frozen=True, slots=True)
class Request:
    """A call as it reaches a member."""

    number: int
    kind: Kind
    key: str
    value: bytes | None
    demand: Demand | None
    ttl: int
    """Milliseconds, 0 for none."""
    within: float
    """Seconds for which the client waits still."""
    document: Document
    """The one by which it was routed."""


class Asked:
    """A call that has no answer yet."""

    __slots__ = ("answered", "call", "condition", "demand", "key", "number", "sent", "since", "tries")

    def __init__(self, number: int, call: Call, key: str, since: float) -> None:
        self.number = number
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
        self.open: dict[int, Asked] = {}

    def adopt(self, document: Document) -> None:
        """Follow a later document."""
        if document.order > self.document.order:
            self.document = document
            self._placement: Placement = self._world.placement(document)

    def ask(self, number: int, call: Call) -> None:
        """Begin a client's call."""
        world = self._world
        key = world.keys[call.key]
        asked = Asked(number, call, key, world.now)
        asked.condition, asked.demand = _condition(call.expects, world.seen.get(key, []))
        self.open[number] = asked
        if world.story.told:
            words = f"a client asks for {call.kind.value} of {key}"
            world.story.tell(self.id, f"{words}, call {number}" + (f", {asked.condition}" if asked.condition else ""))
        self._send(asked)
        world.scheduler.after(call.within, self._end, asked)

    def _send(self, asked: Asked) -> None:
        if asked.answered:
            return
        world, call = self._world, asked.call
        primary = self._placement.roles[self._placement.list_of(asked.key)].primary
        if primary is None:
            world.scheduler.after(0.1, self._send, asked)
            return
        value = b"%d" % asked.number if call.kind is Kind.PUT else b"1" if call.kind is Kind.ADD else None
        within = call.within - (world.now - asked.since)
        request = Request(
            asked.number, call.kind, asked.key, value, asked.demand, round(call.ttl * 1000), within, self.document
        )
        asked.sent = True
        asked.tries += 1
        tries = asked.tries
        world.call_member(self, primary, request, lambda reply: self._answer(asked, tries, reply))
        if call.kind is Kind.READ:
            world.scheduler.after(READ_AGAIN, self._ask_again, asked, tries)

    def _ask_again(self, asked: Asked, tries: int) -> None:
        if asked.tries == tries:
            self._send(asked)

    def _answer(self, asked: Asked, tries: int, reply: Reply | None) -> None:
        """Take an answer; None for a connection that broke after the call was sent."""
        if asked.answered or asked.tries != tries:
            return
        if reply is None:
            reply = Reply(Said.NOTHING_BEGUN if asked.call.kind is Kind.READ else Said.INDETERMINATE)
        if reply.said is Said.NOTHING_BEGUN:
            asked.sent = False
            self._world.scheduler.after(AGAIN, self._send, asked)
        elif reply.said is Said.INDETERMINATE:
            if asked.call.kind is Kind.READ:
                self._world.scheduler.after(AGAIN, self._send, asked)
            else:
                self._finish(asked, Ending.UNKNOWN, reply)
        else:
            self._finish(asked, _ENDINGS[reply.said], reply)

    def _end(self, asked: Asked) -> None:
        """Give up waiting."""
        if not asked.answered:
            lost = asked.call.kind is Kind.READ or not asked.sent
            self._finish(asked, Ending.REFUSED if lost else Ending.UNKNOWN, Reply(Said.INDETERMINATE))

    def _finish(self, asked: Asked, ending: Ending, reply: Reply) -> None:
        world, call = self._world, asked.call
        asked.answered = True
        del self.open[asked.number]
        unknown = ending is Ending.UNKNOWN
        version = None if reply.version is None else str(reply.version)
        value = reply.value.decode() if isinstance(reply.value, bytes) else None
        if call.kind is Kind.PUT:
            value = str(asked.number)
        expiry = None
        if call.ttl:
            expiry = Expiry(asked.since + call.ttl - 2 * world.wall_errors, NEVER)
        operation = Operation(
            asked.key,
            call.kind,
            asked.since,
            NEVER if unknown else world.now,
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
            what = f" {value}" if value is not None and call.kind is not Kind.PUT else ""
            world.story.tell(self.id, f"call {asked.number} ({call.kind.value} of {asked.key}): {ending.value}{what} {version or ''}")
        world.history.append(operation)


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


Answer = Callable[[Reply | None], None]
