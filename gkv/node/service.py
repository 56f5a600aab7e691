"""What a node does with one frame."""

from typing import Any

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.engine import Engine
from gkv.model import Outcome
from gkv.net.channel import Call
from gkv.wire.frames import BadFrame, Reply, Request, read_request, write_reply


class Service:
    """Answers frames from an engine, under the epoch that the node's view has.

    Nothing here switches greenlets: between the check of the epoch and what is done under it nothing else happens.
    """

    def __init__(self, node_id: str, view: View, engine: Engine) -> None:
        self._id = node_id
        self._view = view
        self._engine = engine

    def submit(self, call: Call) -> None:
        """Answer a call of this process's own coordinator, as a channel would."""
        call.finish(Outcome.ANSWERED, self.answer(call.frame))

    def answer(self, frame: bytes) -> bytes:
        """Answer one frame. Does not raise on any input."""
        try:
            request = read_request(frame)
        except BadFrame as error:
            return write_reply(Reply(refused=f"bad frame: {error}"))
        return write_reply(self._do(request))

    def _do(self, request: Request) -> Reply:
        if request.op == "status":
            return Reply(count=self._engine.records)
        if request.op == "adopt":
            return self._take_over(request.document)
        document = self._view.document
        if document is None or (document.cluster, document.epoch) != (request.cluster, request.epoch):
            return Reply(refused="stale", document=document.to_json() if document else None)
        if request.op == "get":
            return Reply(values=self._engine.read(request.keys))
        if document.joining is not None:
            return Reply(refused="changing")
        if request.op == "delete":
            return Reply(count=self._engine.delete(request.keys))
        items = dict(zip(request.keys, request.values, strict=True))  # of a key that stands twice, the last value
        self._engine.write(items)
        return Reply(count=len(items))

    def _take_over(self, data: Any) -> Reply:
        try:
            document = Document.from_json(data)
        except ValueError as error:
            return Reply(refused=f"bad document: {error}")
        if not self.adopt(document):
            mine = self._view.document
            return Reply(refused="stale", document=mine.to_json() if mine else None)
        return Reply(count=self._engine.records)

    def adopt(self, document: Document) -> bool:
        """Take over a document that has this node as a member; return whether it is in force now.

        A document of another cluster is only taken while the node holds nothing.
        """
        if document.member(self._id) is None:
            return False
        mine = self._view.document
        if mine is not None and mine.cluster != document.cluster:
            return self._engine.records == 0 and self._view.adopt(document, replace=True)
        return self._view.adopt(document) or document == mine

    def held_cluster(self) -> str | None:
        """Return the cluster whose records this node holds, None when it holds none."""
        document = self._view.document
        return document.cluster if document is not None and self._engine.records else None
