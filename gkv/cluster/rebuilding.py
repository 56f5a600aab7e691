"""The rebuilding of a document that was lost, or is older than one that a member shows. Pure.

Promise: the result is made of the newest document that any member of it has, under a new generation, so that no epoch means two
things. Until all members of the newest one that is known have shown theirs, or an operator has excused them, there is none.
"""

from dataclasses import replace

from gkv.cluster.document import KEPT_ANCESTORS, MAX_GENERATION, Document


def is_lost(mine: Document, shown: Document) -> bool:
    """Return whether a member shows a document that an authority with `mine` has lost."""
    if mine.cluster == shown.cluster:
        return shown.order > mine.order
    return not mine.members and bool(shown.members)


class Rebuilding:
    """The documents that members have shown so far."""

    def __init__(self, newest: Document) -> None:
        self.newest = newest
        self._shown: set[str] = set()

    def show(self, node_id: str, document: Document | None) -> None:
        """Note the document of a member; None for one that is no newer than the authority's."""
        if document is not None and document.cluster != self.newest.cluster:
            return
        self._shown.add(node_id)
        if document is not None and document.order > self.newest.order:
            self.newest = document

    def excuse(self, node_id: str) -> bool:
        """Go on without a member's; return whether it was waited for."""
        waited = node_id in self.waits_for
        self._shown.add(node_id)
        return waited

    @property
    def waits_for(self) -> list[str]:
        """The members that have shown nothing yet."""
        return [member.id for member in self.newest.members if member.id not in self._shown]

    def result(self, mine: Document) -> Document | None:
        """Return the document that takes the place of `mine`, None while members are waited for."""
        if self.waits_for:
            return None
        generation = max(self.newest.generation, mine.generation if mine.cluster == self.newest.cluster else 1) + 1
        if generation > MAX_GENERATION:
            raise ValueError("there have been too many generations")
        ancestors = [*self.newest.rebuilt_from, self.newest.order][-KEPT_ANCESTORS:]
        return replace(self.newest, generation=generation, epoch=self.newest.epoch + 1, rebuilt_from=tuple(ancestors))
