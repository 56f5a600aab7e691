"""Asking processes whether they are where they say, so that words alone take no member's place. Bounded by `_AT_ONCE` each."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import gevent

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document
from gkv.cluster.plans import GoOn, Plan
from gkv.model import Node, Presence

_WITHIN = 1.0
_AT_ONCE = 256


class Peers(Protocol):
    """The authority's calls to members. None of them raises."""

    def ask(self, nodes: Sequence[Node], within: float) -> Sequence[Presence | None]:
        """Return the process that answers for each node, None where nobody does."""

    def push(self, document: Document, nodes: Sequence[Node]) -> None:
        """Give nodes a document, as far as they can be reached."""

    def hold(self, cluster: str, node: Node, plan: Plan, within: float) -> bool:
        """Have a primary hold the lists of a plan; return whether all is settled there by then."""

    def go_on(self, node: Node, word: GoOn, within: float) -> None:
        """Tell a primary that a plan is given up."""

    def reached(self, node: Node) -> None:
        """Note that a node is there, which may have been away: it has called in. Does not switch greenlets."""


class Reach:
    """The processes that have answered at their address, and those that do not. `found` is told of each that answers."""

    def __init__(self, peers: Peers, found: Callable[[CallIn, Presence], object]) -> None:
        self._peers = peers
        self._found = found
        self._asked: set[int] = set()
        self._there: set[int] = set()
        self._away: set[int] = set()

    def has(self, incarnation: int) -> bool:
        """Return whether a process has answered."""
        return incarnation in self._there

    def misses(self, incarnation: int) -> bool:
        """Return whether a process did not answer when it was asked."""
        return incarnation in self._away

    def keep(self, incarnations: Iterable[int]) -> None:
        """Forget all that have answered but these."""
        self._there &= set(incarnations)

    def ask(self, call: CallIn) -> None:
        """Ask who answers at the address of a call, unless that is being asked. Does not wait."""
        self._peers.reached(call.node)
        if call.incarnation not in self._asked and len(self._asked) < _AT_ONCE:
            self._asked.add(call.incarnation)
            gevent.spawn(self._ask, call)

    def _ask(self, call: CallIn) -> None:
        [there] = self._peers.ask([call.node], _WITHIN)
        self._asked.discard(call.incarnation)
        if there is not None and there.incarnation == call.incarnation:
            self._away.discard(call.incarnation)
            self._there.add(call.incarnation)
            self._found(call, there)
        elif len(self._away) < _AT_ONCE:
            self._away.add(call.incarnation)
        else:
            self._away = {call.incarnation}
