"""The ring that an operator has asked for and that is not to come yet, and the pace of its change. Pure.

Both are forgotten at a restart; what has begun is in the document.
"""

from collections.abc import Callable, Mapping

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, Layout
from gkv.cluster.replacement import newcomers
from gkv.pace import Pace


class Wish:
    """What is wished for, if anything is."""

    def __init__(self) -> None:
        self.layout: Layout | None = None
        self.without = ""
        """The member that is to be removed by that, if one is."""
        self.pace: Pace | None = None
        """Of the change that is under way, or about to be."""

    def ask(self, layout: Layout, without: str) -> None:
        """Wish for a ring."""
        self.layout, self.without = layout, without

    def forget(self) -> None:
        """Wish for nothing any more."""
        self.layout, self.without, self.pace = None, "", None

    def begins(
        self, document: Document, calls: Mapping[str, CallIn], removed: set[str], promised: Callable[[str], float]
    ) -> Layout | None:
        """Return the ring that may begin to come now; `promised` says how long a member's promises last. Forget one whose
        newcomer does not call in any more, and the removal that is part of it; or in which a member is replaced that is not to
        be `removed` any more.
        """
        if self.layout is None:
            return None
        if newcomers(document, self.layout, calls) is None or (self.without and self.without not in removed):
            removed.discard(self.without)
            self.layout, self.without = None, ""
            return None
        return None if self.without and promised(self.without) else self.layout

    def follow(self, before: Document, after: Document, seen: Pace | None) -> None:
        """Go on under another document, which was made with a pace."""
        if self.pace is seen and (before.next is not None or after.next is not None):
            self.pace = None
        if after.next is not None or self.layout == after.layout:
            self.layout, self.without = None, ""
