"""The belief of one process about the cluster: the newest document it has seen, and the placement of keys by it."""

from gevent.event import Event

from gkv.cluster.document import Document
from gkv.cluster.placement import Placement
from gkv.errors import Unavailable


class View:
    """The current document and placement. Reading them never waits; they are replaced together, never changed."""

    def __init__(self) -> None:
        self.document: Document | None = None
        self.placement: Placement | None = None
        """None while there is no member."""
        self._unchanging = Event()

    def adopt(self, document: Document, *, replace: bool = False) -> bool:
        """Take over a document if it is newer, and return whether it was.

        A document of another cluster is only taken with `replace`. May take as long as `Placement.of`.
        """
        current = self.document
        newer = current is None or (document.cluster == current.cluster and document.epoch > current.epoch)
        if not newer and not replace:
            return False
        self.placement = Placement.of(document, self.placement) if document.members else None
        self.document = document
        if document.joining is None:
            self._unchanging.set()
        else:
            self._unchanging.clear()
        return True

    def current(self) -> tuple[Document, Placement]:
        """Return document and placement; raise Unavailable while there is no member. Does not wait."""
        if self.document is None or self.placement is None:
            raise Unavailable("no node has joined yet", retry_after=1)
        return self.document, self.placement

    def wait_for_change(self, seconds: float) -> bool:
        """Wait until no change is under way; return whether that came in time. Switches greenlets if it has to wait."""
        return self._unchanging.is_set() or bool(self._unchanging.wait(max(0.0, seconds)))
