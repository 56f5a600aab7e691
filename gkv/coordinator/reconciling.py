"""The cure of nodes that refused a call since they believe in another document.

Promises: `cure` raises nothing, as other parts of the same batch may have been applied; it ends when its time has come.
Leaves to others: which refusals it is about, and whether anything is asked again.
"""

from collections.abc import Sequence
from time import monotonic

import gevent

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator.channels import Channels
from gkv.errors import GkvError
from gkv.log import as_warning, say
from gkv.model import Node, NodeRefusal
from gkv.wire.ops import Refused

CURABLE = frozenset((NodeRefusal.STALE, NodeRefusal.CHANGING))
"""Refusals after which `Reconciler.cure` may help."""


class Reconciler:
    """Brings the process of a view and the nodes that it asks to one document."""

    def __init__(self, view: View, channels: Channels) -> None:
        self._view = view
        self._channels = channels
        self._learning: gevent.Greenlet | None = None
        """Takes over a document that a node has shown; one at a time, however many requests wait for it."""
        self._said = ""

    def cure(self, refused: Sequence[tuple[Node, Refused]], expires: float) -> list[bool]:
        """Return for each of some curable refusals whether asking again may help. Switches greenlets."""
        shown = [_shown(answer) for _, answer in refused]
        mine = self._view.document
        newer = [theirs for theirs in shown if theirs is not None and mine is not None and theirs.follows(mine)]
        if newer:
            self._learn(max(newer, key=lambda theirs: theirs.order), expires)
            mine = self._view.document
        # Of a change that is under way nothing is to be learnt: what comes next waits until it is over.
        cured = [
            answer.reason is NodeRefusal.CHANGING or theirs == mine for (_, answer), theirs in zip(refused, shown, strict=True)
        ]
        if mine is None:
            return cured
        behind = [
            place for place, (_, answer) in enumerate(refused) if not cured[place] and _is_behind(shown[place], answer, mine)
        ]
        if behind:
            taken = self._channels.adopt(mine, [refused[place][0] for place in behind], expires)
            for place, is_taken in zip(behind, taken, strict=True):
                cured[place] = is_taken
        return cured

    def _learn(self, document: Document, expires: float) -> None:
        """Take over a document, as far as that is done in time."""
        if self._learning is not None:
            self._learning.join(max(0.0, expires - monotonic()))
        if self._learning is None or self._learning.ready():
            self._learning = gevent.spawn(self._take_over, document)
            self._learning.join(max(0.0, expires - monotonic()))

    def _take_over(self, document: Document) -> None:
        try:
            self._view.learn(document)
        except GkvError as error:
            if str(error) != self._said:
                self._said = str(error)
                say(as_warning(f"the document of epoch {document.epoch} that a node has shown cannot be taken over: {error}"))


def _shown(refused: Refused) -> Document | None:
    """Return the document that a node shows with its refusal, None for none, or what is none."""
    try:
        return None if refused.document is None else Document.from_json(refused.document)
    except ValueError:
        return None


def _is_behind(theirs: Document | None, refused: Refused, mine: Document) -> bool:
    """Return whether a node is to be given a document: not one that knows a later one, or shows what cannot be read."""
    return refused.document is None if theirs is None else not theirs.follows(mine)
