"""The rebuilding of a document that was lost, or is older than one that a member shows. Pure.

Promises: the result is made of the newest document that any member of it has, under a new generation, so that no epoch means
two things, and what is written under it is later than all records. Until all members of the newest one that is known have shown
theirs, or an operator has excused them, there is none.
"""

from dataclasses import replace

from gkv.cluster.callin import CallIn
from gkv.cluster.document import KEPT_ANCESTORS, MAX_EPOCH, MAX_GENERATION, MAX_LEAP, Document
from gkv.model import Node, split_era

MOST_GENERATIONS = MAX_GENERATION - 1
"""The generation of a document or of records that is believed: one more can follow."""


def what_is_lost(mine: Document, call: CallIn) -> str:
    """Return what a member has to show that an authority with the document `mine` has lost; "" for nothing.

    With records of a later era its own document has to be older than one under which they were written, and what is written
    next would lose against them.
    """
    shown = call.document
    if shown is not None:
        return f"a document of generation {shown.generation}, epoch {shown.epoch}" if _is_lost(mine, shown, call.node) else ""
    written = split_era(call.era)
    if call.cluster == mine.cluster and mine.order < written <= (MOST_GENERATIONS, MAX_EPOCH) and mine.member(call.id):
        return f"records of generation {written[0]}, epoch {written[1]}, and so a document"
    return ""


def _is_lost(mine: Document, shown: Document, shower: Node) -> bool:
    """Return whether a document may be believed, and is one that an authority with `mine` has lost.

    Who shows it is one of its members: a newcomer whose join was taken back has a document too, and it is of no use.
    """
    line = shown.member(shower.id)
    if line is None or line.url.partition(":")[2] != shower.url.partition(":")[2]:  # it may speak TLS now
        return False
    if mine.cluster == shown.cluster:
        return shown.follows(mine) and shown.generation <= MOST_GENERATIONS
    return not mine.members and shown.generation <= MOST_GENERATIONS and shown.epoch <= MAX_EPOCH - MAX_LEAP


class Rebuilding:
    """The documents that members have shown so far."""

    def __init__(self, newest: Document) -> None:
        self.newest = newest
        self._written = (0, 0)
        """Generation and epoch that no record is later than."""
        self._shown: set[str] = set()

    def tell(self, call: CallIn, mine: Document, *, believed: bool) -> bool:
        """Note what a member says, which is believed if it shows what is lost; return whether that says anything new."""
        if believed and call.document is not None:
            self.show(call.id, call.document)
        elif call.document is None and call.cluster == mine.cluster:
            if believed:
                self._written = max(self._written, split_era(call.era))
            if not (0, 0) < call.order <= mine.order:
                return believed
            self.show(call.id, None)
        else:
            return False
        return True

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
        here = mine.generation if mine.cluster == self.newest.cluster else 1
        generation = max(self.newest.generation, here, self._written[0]) + 1
        if generation > MAX_GENERATION:
            raise ValueError("there have been too many generations")
        ancestors = [*self.newest.rebuilt_from, self.newest.order]
        if self._written[0] not in (0, *(of for of, _ in ancestors)):
            ancestors.append(self._written)
        ancestors = ancestors[-KEPT_ANCESTORS:]
        return replace(self.newest, generation=generation, epoch=self.newest.epoch + 1, rebuilt_from=tuple(ancestors))
