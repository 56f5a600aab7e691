"""What one process believes about the cluster: the newest document it has seen, and its ring."""

from gevent.event import Event

from gkv.cluster.document import Document
from gkv.errors import Unavailable
from gkv.ring import Ring, build


class View:
    """The current document and ring. Reading them never waits; they are replaced together, never changed."""

    def __init__(self) -> None:
        self.document: Document | None = None
        self.ring: Ring | None = None
        """None while there is no member."""
        self._settled = Event()

    def adopt(self, document: Document, *, replace: bool = False) -> bool:
        """Take over a document if it is newer, and return whether it was.

        A document of another cluster is only taken with `replace`. Builds the ring when the members changed: about 1 ms for
        16 nodes on the native twin, 15 ms for each node on the pure one.
        """
        current = self.document
        newer = current is None or (document.cluster == current.cluster and document.epoch > current.epoch)
        if not newer and not replace:
            return False
        if current is None or (current.members, current.vnodes) != (document.members, document.vnodes):
            self.ring = build(document.members, document.vnodes) if document.members else None
        self.document = document
        if document.joining is None:
            self._settled.set()
        else:
            self._settled.clear()
        return True

    def current(self) -> tuple[Document, Ring]:
        """Return document and ring; raise Unavailable while there is no member. Does not wait."""
        if self.document is None or self.ring is None:
            raise Unavailable("no node has joined yet", retry_after=1)
        return self.document, self.ring

    def wait_settled(self, seconds: float) -> bool:
        """Wait until no change is under way; return whether that came in time. Switches greenlets if it has to wait."""
        return self._settled.is_set() or bool(self._settled.wait(max(0.0, seconds)))
