"""What a node knows about its cluster, and which documents it takes over."""

from time import monotonic

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.engine import Commits, Engine
from gkv.errors import GkvError
from gkv.model import NodeRefusal
from gkv.node.handler import COMMIT_WITHIN, Waiting, or_refused, refused_for, stale
from gkv.wire.ops import Adopt, Held, NodeAnswer, Refused, Status


class Membership:
    """A node's part in a cluster. `node_id` is its name there."""

    def __init__(self, node_id: str, view: View, engine: Engine, commits: Commits) -> None:
        self._id = node_id
        self._view = view
        self._engine = engine
        self._commits = commits
        self._invited = False
        """Whether the authority is letting this node in, as a new member."""

    def status(self, _request: Status) -> Waiting:
        """Count the keys that have a value, once all that has been admitted is on disk."""
        return self._count_on_disk

    def _count_on_disk(self) -> NodeAnswer:
        def settled() -> NodeAnswer:
            self._commits.flush(monotonic() + COMMIT_WITHIN)
            return Held(self._engine.live)

        return or_refused(settled)

    def take_over(self, request: Adopt) -> NodeAnswer | Waiting:
        """Take over a document that a coordinator or the authority has sent."""
        try:
            document = Document.from_json(request.document)
        except ValueError as error:
            return Refused(NodeRefusal.BAD_DOCUMENT, detail=str(error))
        if document.joining is not None and document.joining.id == self._id:
            self._invited = True
        if self._engine.durable and self._engine.cluster is None and not self._invited:
            # Any coordinator may say that this node is a member. But if it was one, what it held is not here, and it would call
            # that missing: so the proxy decides, when this node calls in and says that its directory is empty.
            return Refused(NodeRefusal.STALE)
        try:
            taken = self.adopt(document)
        except GkvError as error:
            return refused_for(error)
        return self._count_on_disk if taken else stale(self._view.document)

    def adopt(self, document: Document) -> bool:
        """Take over a document that has this node as a member; return whether it is in force now.

        A document of another cluster is only taken while the node holds nothing, no tombstone either: those would stand against
        the other cluster's records. The cluster's id is on disk before anything is written under it.
        """
        if document.member(self._id) is None:
            return False
        mine = self._view.document
        if self._engine.cluster != document.cluster:
            if self.held_cluster() is not None:
                return False
            self._engine.join(document.cluster)
        if mine is not None and mine.cluster != document.cluster:
            return self._view.adopt(document, replace=True)
        return self._view.adopt(document) or document == mine

    def held_cluster(self) -> str | None:
        """Return the cluster whose records or tombstones this node holds, None when it holds neither.

        A store that cannot be looked at now, as when others have all slots for readers, may hold some.
        """
        try:
            holds = self._engine.live or self._engine.tombstones
        except GkvError:
            holds = 1
        return self._engine.cluster if holds else None
