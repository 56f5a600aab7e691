"""Planned moves, at the authority (A7): primaries of whose lists some are taken over pause first. Pure.

A pause guards nothing; it is there so that a move makes no write `indeterminate`. So after three
plans that were not answered in time the move is made without.
"""

from dataclasses import dataclass

from gkv.cluster.document import Document
from gkv.cluster.placement import Placement
from gkv.duties import Roles

ANSWERED_WITHIN = 0.2
AGAIN_AFTER = 0.5
"""Seconds between two plans: by then every primary has gone on by itself."""
MAX_TRIES = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """The request to hold what would begin a write of these lists, and to answer when all is settled."""

    number: int
    """Of no other plan: the incarnation of the authority's process and its count of plans."""
    order: tuple[int, int]
    """Of the document under which that is to be."""
    to: str
    incarnation: int
    lists: tuple[Roles, ...]


@dataclass(frozen=True, slots=True)
class GoOn:
    """The word that a plan is given up."""

    number: int
    to: str
    incarnation: int


class Plans:
    """The plan that is open, if one is."""

    def __init__(self, authority: int) -> None:
        self._number = authority << 32
        self._tries = 0
        self._not_before = float("-inf")
        self._document: Document | None = None
        """The one that the open plan is for."""
        self._open: dict[str, Plan] = {}
        """By id, those that are not answered."""
        self._sent: list[Plan] = []
        self._until = 0.0

    def propose(
        self, document: Document, after: Document, placement: Placement, now: float
    ) -> tuple[Document | None, list[Plan | GoOn]]:
        """Go on with the move from a document to the next, which is due now.

        Return the document that may be enacted now, if one may, and what is to be sent.
        """
        if self._document is not None and self._document == after:
            return self._go_on_with(now)
        given_up: list[Plan | GoOn] = [*self.give_up()]
        lists = moved(placement, Placement.of(after, placement))
        if not lists or self._tries >= MAX_TRIES:
            return after, given_up
        if now < self._not_before:
            return None, given_up
        self._number += 1
        self._sent = []
        for node_id, ones in lists.items():
            member = document.member(node_id)
            incarnation = 0 if member is None else member.incarnation
            self._sent.append(Plan(self._number, document.order, node_id, incarnation, ones))
        self._document, self._until = after, now + ANSWERED_WITHIN
        self._open = {plan.to: plan for plan in self._sent}
        return None, [*given_up, *self._sent]

    def _go_on_with(self, now: float) -> tuple[Document | None, list[Plan | GoOn]]:
        if not self._open:
            return self._document, []
        if now < self._until:
            return None, []
        self._tries += 1
        self._not_before = now + AGAIN_AFTER
        return None, [*self.give_up()]

    def give_up(self) -> list[GoOn]:
        """End the open plan, as what it is for is not due any more; return what is to be sent."""
        if self._document is None:
            return []
        self._document = None
        return [GoOn(plan.number, plan.to, plan.incarnation) for plan in self._sent]

    def held(self, node_id: str, incarnation: int, number: int, order: tuple[int, int]) -> None:
        """Note the answer of a primary: all is settled, and it holds."""
        plan = self._open.get(node_id)
        if plan is None or self._document is None:
            return
        if (number, order, incarnation) == (plan.number, plan.order, plan.incarnation):
            del self._open[node_id]

    def enacted(self, document: Document) -> None:
        """Note that a document is in force: every primary goes on by that."""
        if document == self._document or self._tries >= MAX_TRIES:
            self._tries = 0
        self._document = None


def moved(before: Placement, after: Placement) -> dict[str, tuple[Roles, ...]]:
    """Return by primary the lists that it gives away, with their roles before; and those that it keeps, where at the end of a
    change of the ring lists of others become one with them: the whole one is taken over (`Takeovers.adopt`), and what is
    unsettled there then is indeterminate as well. O(lists).
    """
    switches = before.coming is not None and after.lists is before.coming
    primaries = {one.preference: one.primary for one in after.roles}
    sources = [(one, one.coming if switches else one.preference) for one in before.roles]
    taken_over = {to for one, to in sources if one.primary != primaries[to]}
    lists: dict[str, list[Roles]] = {}
    for one, to in sources:
        if one.primary is not None and to in taken_over:
            lists.setdefault(one.primary, []).append(one)
    return {node_id: tuple(ones) for node_id, ones in lists.items()}
