"""A page of a listing, put together from what the primaries of all lists have of it.

Promises: whatever is listed up to a place comes from all primaries of one document, each of which had all leases when it
looked; so a key that has a value throughout is listed, once, whatever changes meanwhile, and a page is complete or is none.
With copies, whoever does not answer is asked again, or another one by a newer document, until the request's deadline. Leaves
to others: which keys a node lists (`gkv.node.copied_listing`, `gkv.node.reads`), and what a cursor is (`gkv.api.listing`).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from time import monotonic

from gkv.cluster.document import Document
from gkv.cluster.placement import Placement
from gkv.cluster.view import View
from gkv.coordinator.channels import understand
from gkv.coordinator.failures import NO_PRIMARY, OVERLOADED, STALE, TIMEOUT, GivenUp, Reason, failure
from gkv.coordinator.patience import CURES, ELSEWHERE, Again, Patience
from gkv.errors import NoCompletePage
from gkv.model import KeyFailure, Node, NodeReply, Op, Outcome
from gkv.net.call import Lane
from gkv.net.turn import Turn
from gkv.replication.names import Scope
from gkv.ring import NOBODY
from gkv.wire import Part
from gkv.wire.ops import Await, ListKeys, Page, PutOff, Refused

_SHARE, _MORE = 1.25, 64
"""Times its share of the names that a node is asked for, and beyond that: so that mostly all are there at once. What is asked
for in vain was half of a large page's cost.
"""
_WHY = {
    NO_PRIMARY: "no node answers for some of the keys",
    STALE: "the cluster went on changing until the deadline",
    TIMEOUT: "the node {node} did not answer in time",
    OVERLOADED: "too much is waiting for the node {node}",
}


@dataclass(frozen=True, slots=True)
class Names:
    """A page: names in code point order, and whether it is the last one."""

    names: Sequence[str]
    complete: bool


class _Progress:
    """The names of a page that the primaries of one document have given."""

    def __init__(self, nodes: Sequence[Node], begin: str) -> None:
        self._of: dict[Node, list[str]] = {node: [] for node in nodes}
        """By node, the names that it has given."""
        self.reached: dict[Node, str | None] = dict.fromkeys(nodes, begin)
        """By node, the place up to which it has given them, None for the end."""

    @property
    def place(self) -> str | None:
        """The place up to which all have given them, None for the end."""
        return min([place for place in self.reached.values() if place is not None], default=None)

    def take(self, node: Node, page: Page) -> None:
        """Take in a page that a node has given from the place on that it had reached."""
        self._of[node] += page.keys
        self.reached[node] = page.end

    def names(self) -> list[str]:
        """Return the names up to the place that all have reached."""
        names = sorted(chain.from_iterable(self._of.values()))  # as fast as a merge: each node's are mostly in order
        place = self.place
        done = len(names) if place is None else bisect_left(names, place)
        return list(dict.fromkeys(names[:done]))  # some prefixes come from many nodes

    def wanting(self, count: int) -> list[Node]:
        """Return the nodes that may have some of the next `count` names."""
        place = self.place or ""
        return [
            node
            for node, names in self._of.items()
            if self.reached[node] is not None and sum([name >= place for name in names]) < count
        ]


class Lister:
    """The listings of one coordinator."""

    def __init__(self, view: View, patience: Patience) -> None:
        self._view = view
        self._patience = patience

    def names(self, scope: Scope, begin: str, limit: int, request_id: str, expires: float) -> Names:
        """Return up to `limit` names from a place on; fewer only at the end.

        Raise Unavailable while there is no member, NoCompletePage when the page cannot be had. Takes memory for some `limit`
        names of each member. Switches greenlets.
        """
        found: list[str] = []
        pauses = cures = 0
        while True:
            document, placement = self._view.current()
            progress = _Progress(_primaries(document, placement), begin)
            again = self._gather(progress, document, scope, limit - len(found), request_id, expires)
            names = [name for name in progress.names() if not found or name > found[-1]]
            found += names
            if not again or len(found) >= limit:
                return Names(found[:limit], len(found) < limit)
            begin = progress.place or begin
            patience = self._patience
            if self._view.document is not document:
                pauses = cures = 0
            elif cures < CURES and patience.cure(again, expires):
                cures += 1
            elif patience.may_wait(again) and all(reason in ELSEWHERE for _, reason, _ in again):
                if not patience.wait(document, pauses, expires):
                    raise _no_page(again)
                pauses += 1
            else:
                raise _no_page(again)
            if monotonic() >= expires:
                raise _no_page(again)

    def _gather(
        self, progress: _Progress, document: Document, scope: Scope, limit: int, request_id: str, expires: float
    ) -> list[Again]:
        """Ask the primaries for names until there are enough; return who has not answered."""
        pause = Turn()
        if NOBODY in progress.reached:
            return [(Part(NOBODY, (), b""), GivenUp.NO_PRIMARY, None)]
        about = document.cluster, document.era, scope.prefix
        while (place := progress.place) is not None and (left := limit - len(progress.names())) > 0:
            nodes = progress.wanting(left)
            each = min(left, int(_SHARE * left / len(progress.reached)) + _MORE)
            requests = [ListKeys(*about, progress.reached[node] or place, each, scope.delimiter) for node in nodes]
            parts = [Part(node, (), request.write()) for node, request in zip(nodes, requests, strict=True)]
            again: list[Again] = []
            lane = Lane.READ
            while parts:
                put_off: list[Part] = []
                replies = self._patience.ask_watching(parts, expires, request_id, lane, writing=False)
                for part, reply in zip(parts, replies, strict=True):
                    pause()
                    answer = understand(reply, Page, pause=pause)
                    ticket = understand(reply, PutOff) if answer is None else None
                    if isinstance(answer, Page) and _fits(answer, scope, progress.reached[part.node] or place):
                        progress.take(part.node, answer)
                    elif isinstance(ticket, PutOff):
                        put_off.append(Part(part.node, (), Await(ticket.ticket).write()))
                    elif isinstance(answer, Refused):
                        again.append((part, answer.reason, answer))
                    else:
                        again.append((part, _reason(reply), None))
                parts, lane = put_off, Lane.AWAITED
            if again:
                return again
        return []


def _primaries(document: Document, placement: Placement) -> list[Node]:
    """Return the nodes that answer for keys, and NOBODY if nobody does for some."""
    nodes = {member.id: member.node for member in document.members}
    primaries = dict.fromkeys([roles.primary for roles in placement.roles])
    return [NOBODY if one is None else nodes[one] for one in primaries]


def _fits(page: Page, scope: Scope, begin: str) -> bool:
    """Return whether a page brings a listing on."""
    return (page.end is None or page.end > begin) and all(name.startswith(scope.prefix) for name in page.keys)


def _reason(reply: NodeReply) -> Reason:
    return reply.outcome, reply.sent or reply.outcome is Outcome.ANSWERED


def _no_page(again: Sequence[Again]) -> NoCompletePage:
    part, reason, _ = again[0]
    why: KeyFailure = failure(Op.KEYS, reason)
    detail = _WHY.get(why, "the node {node} does not answer, and some of the keys are its own")
    return NoCompletePage(detail.format(node=part.node.id), why.code, status=why.status, retryable=why.retryable)
