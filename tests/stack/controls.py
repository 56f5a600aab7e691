"""Guards of the code around the machines, each with what takes it out: few seeds pass without it.

What stands in the place of a guard is what somebody might have written who had not thought of it. The guards of the machines
have theirs in `tests.sim.controls`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gevent

from gkv.cluster.authority import Authority
from gkv.coordinator import patience
from gkv.engine.backlog import Pending
from gkv.model import Effect
from gkv.net.sender import Sender
from gkv.node import copied_listing
from gkv.node.copies import Copies
from gkv.node.disk import Disk
from gkv.node.membership import Membership
from gkv.node.notes import Notes
from gkv.node.order import Order
from gkv.replication.events import Committed
from tests.stack.install import loop
from tests.stack.rules import Watched
from tests.stack.scenario import Fault, Scenario

Replacement = tuple[Any, str, Any]
"""A class or module, the name of what is replaced there, and what takes its place."""


@dataclass(frozen=True, slots=True)
class Control:
    """A guard, what takes it out, and the rule by which it shows."""

    guard: str
    rule: str
    out: Sequence[Replacement]
    where: Mapping[str, Any] = field(default_factory=dict)
    """The parts of the seed's scenario that are others."""

    def scenario(self, seed: int) -> Scenario:
        """Return that of a seed, as the guard wants it."""
        return replace(Scenario.of(seed), **self.where)

    def take_out(self) -> None:
        """Take the guard out of this process, for good."""
        for owner, name, value in self.out:
            assert hasattr(owner, name), f"{owner} has no {name} any more"
            setattr(owner, name, value)


def _keep_later(self: Any, document: Any) -> None:
    if self._kept is not None:
        self._thread.begin(functools.partial(self._kept.keep, document))


def _commit_later(self: Any, document: Any) -> bool:
    before = self.document
    self._judge.enacted(document, loop().boot(), self._view.place(document))
    self._told.enacted(document)
    self._view.adopt(document, replace=True)
    self._thread.begin(lambda: self._store.replace_if(before, document))
    nodes = [member.node for member in document.members if member.state != "down"]
    gevent.spawn(self._peers.push, document, nodes)
    return True


def _commit_early(self: Any, action: Any) -> None:
    self.stored.write(action.write)
    self._tell([Committed(action.token, [Effect.ACCEPTED] * len(action.write.keys))])


def _note_later(self: Any, there: bool, then: Callable[[], None]) -> None:
    kept = self._kept
    if kept is not None:
        self._thread.begin(lambda: kept.note_granted(there))
    loop().run_callback(then)


def _always(self: Any, *_: Any) -> bool:
    return True


def _open_is_enough(self: Any) -> bool:
    self.rules.alone(self.node)
    return bool(self.serves)


def _values_without_waits(self: Any, keys: Any, era: int, room: float = float("inf")) -> Any:
    return _values(self, keys, era, room)[0], set()


_values = Order.values


def _returns_at_once(self: Any, deadline: float) -> Sequence[Effect]:  # as it was
    return self._effects or [Effect.ACCEPTED] * len(self.write.keys)


def _sends_again(self: Any, peer: Any, outbox: Any) -> None:
    _begin_sender(self, peer, outbox)
    self._once = False


_begin_sender = Sender.__init__

_BREAKS = {"faults": (Fault.BREAK,), "gaps": (0.1, 0.3), "clients": 4, "disk": (0.005, 0.05)}
_PAUSES = {"faults": (Fault.PAUSE,), "gaps": (0.5, 1.5), "copies": 3, "nodes": 3, "rates": (1.0, 1.01, 0.99)}
_ONE_THAT_DIES = {
    "copies": 1,
    "nodes": 1,
    "rates": (1.0,),
    "disk": (0.02, 0.1),
    "faults": (Fault.KILL,),
    "gaps": (0.3, 0.9),
    "clients": 4,
}
CONTROLS = {
    "document on the disk first": Control(
        "a node acts by no document before it is on its disk", "M1", [(Membership, "_keep", _keep_later)]
    ),
    "authority's disk first": Control(
        "nobody hears of a document before it is on the authority's disk", "M1", [(Authority, "_commit", _commit_later)]
    ),
    "commit before answer": Control(
        "a commit is told when it is on the disk, not when it is handed over", "R2", [(Disk, "commit", _commit_early)]
    ),
    "note before grant": Control("the note is on the disk before the first grant", "F7", [(Notes, "keep", _note_later)]),
    "leases": Control("a read from the disk needs the leases", "R1", [(Watched, "may_tell", _open_is_enough)], _PAUSES),
    "settled reads": Control("a read from the disk waits for what is on its way", "R2", [(Copies, "is_settled", _always)]),
    "settled listings": Control("a listing waits for what is on its way", "R2", [(copied_listing, "first_of", lambda *_: [])]),
    "reads wait for the disk": Control(
        "with one copy, a read waits for the commit of what it has seen",
        "R3",
        [(Order, "values", _values_without_waits)],
        _ONE_THAT_DIES,
    ),
    "writes wait for the disk": Control(
        "with one copy, a write is acknowledged when it is on the disk",
        "R3",
        [(Pending, "wait", _returns_at_once)],
        _ONE_THAT_DIES,
    ),
    "a write is sent once": Control("a channel sends no write again", "R3", [(Sender, "__init__", _sends_again)], _BREAKS),
    "a begun write is not routed anew": Control(
        "a coordinator routes only that anew of which nothing was begun",
        "R3",
        [(patience, "may_be_begun", lambda _reason: False)],
        _BREAKS | {"copies": 3, "nodes": 3, "rates": (1.0, 1.01, 0.99)},
    ),
}
