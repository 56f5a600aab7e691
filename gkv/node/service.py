"""What a node does with frames."""

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any

import gevent

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator import MAX_ANSWER
from gkv.coordinator.clock import Clock, wall_ms
from gkv.engine import Commits, Engine, Pending
from gkv.errors import EngineFull, FarAhead, GkvError, Unavailable
from gkv.model import Outcome, Value, Write
from gkv.net.admission import LARGE, Admission
from gkv.net.call import Call
from gkv.wire.frames import BadFrame, NoRoom, Reply, Request, read_request, write_reply

COMMIT_WITHIN = 30.0
"""Seconds that a write waits for the disk. Its coordinator has given up far earlier."""
MAX_LISTED = 10_001
"""Keys in one page."""
_GATHERED = 2
"""Times `max_answer` that the answers to one gathered request may have, beyond the small ones."""

Waiting = Callable[[], Reply]
"""Waits for what has been begun, and returns the answer to it. Switches greenlets."""


class Service:
    """Answers frames from an engine, under the epoch that the node's view has.

    Nothing switches greenlets between the check of the epoch and the moment at which a write is admitted; what has been
    admitted is counted by `_settled_count`, which waits for it.
    """

    def __init__(
        self,
        node_id: str,
        view: View,
        engine: Engine,
        commits: Commits,
        clock: Clock,
        tombstone_ttl: int,
        max_answer: int = MAX_ANSWER,
        admission: Admission | None = None,
    ) -> None:
        """`tombstone_ttl` is in ms; `max_answer` bounds the bytes that one frame brings, `admission` those of all together."""
        admission = admission or Admission()
        self._max_answer = max_answer
        self._own, self._others = admission.clients.budget, admission.members.budget
        self._id = node_id
        self._view = view
        self._engine = engine
        self._commits = commits
        self._clock = clock
        self._oldest = tombstone_ttl // 2
        self._invited = False
        """Whether the authority is letting this node in, as a new member."""

    def submit(self, call: Call) -> None:
        """Answer a call of this process's own coordinator, as a channel would."""
        call.sent = True
        begun = self._begin(call.frame)
        if isinstance(begun, Request):
            begun = self._read([begun])[0]
        if isinstance(begun, Reply):
            self._finish(call, begun)
        else:
            gevent.spawn(lambda: self._finish(call, begun()))

    def _finish(self, call: Call, reply: Reply) -> None:
        frame = self._write_reply(reply, self._max_answer)
        hold = self._own.hold(len(frame)) if len(frame) > LARGE else None
        if hold is None and len(frame) > LARGE:
            frame = write_reply(Reply(refused="busy"))
        call.finish(Outcome.ANSWERED, frame, "", hold)

    def _write_reply(self, reply: Reply, room: int) -> bytes:
        try:
            return write_reply(reply, min(room, self._max_answer))
        except NoRoom:
            # Alone it might go; if not, it never will.
            return write_reply(Reply(refused="large" if room >= self._max_answer else "busy"))

    def answer(self, frames: Sequence[bytes]) -> list[bytes]:
        """Answer frames, in their order. Does not raise on any input. Switches greenlets when it has to wait for the disk.

        All are begun before the first is waited for: the writes among them go to the disk together, and the gets are one call
        of the engine. Together the answers have few times `max_answer` bytes; a get that does not fit is refused.
        """
        begun = [self._begin(frame) for frame in frames]
        gets = [one for one in begun if isinstance(one, Request)]
        read = iter(self._read(gets) if gets else ())
        answers = []
        room = _GATHERED * self._max_answer
        holds = []
        for one in begun:
            done = next(read) if isinstance(one, Request) else one
            reply = done if isinstance(done, Reply) else done()
            frame = self._write_reply(reply, room)
            if len(frame) > LARGE:
                hold = self._others.hold(len(frame)) if len(frame) <= room + LARGE else None
                if hold is None:
                    frame = write_reply(Reply(refused="busy"))
                holds.append(hold)
                room -= len(frame)
            answers.append(frame)
        return answers

    def _read(self, gets: Sequence[Request]) -> Sequence[Reply | Waiting]:
        keys = gets[0].keys if len(gets) == 1 else [key for get in gets for key in get.keys]
        try:
            values = self._engine.read(keys, wall_ms(), self._max_answer)
        except GkvError as error:
            return [_refused(error)] * len(gets)
        if len(values) < len(keys):
            # They are too many bytes together, perhaps not each for itself. Values of one at a time are in memory then.
            return [partial(self._read_alone, get.keys) for get in gets]
        replies = []
        start = 0
        for get in gets:
            end = start + len(get.keys)
            replies.append(Reply(values=values[start:end]))
            start = end
        return replies

    def _read_alone(self, keys: Sequence[str]) -> Reply:
        def read() -> Reply:
            values = self._engine.read(keys, wall_ms(), self._max_answer)
            return Reply(values=values) if len(values) == len(keys) else Reply(refused="large")

        return _or_refused(read)

    def _begin(self, frame: bytes) -> Reply | Waiting | Request:
        """Do what can be done at once; return a get that is to be read, the answer, or what waits for it."""
        try:
            request = read_request(frame)
        except BadFrame as error:
            return Reply(refused=f"bad frame: {error}")
        if request.op == "status":
            return self._settled_count
        if request.op == "adopt":
            return self._take_over(request.document)
        document = self._view.document
        if document is None or (document.cluster, document.epoch) != (request.cluster, request.epoch):
            return Reply(refused="stale", document=document.to_json() if document else None)
        keys = request.keys
        if request.op == "get":
            pending = self._commits.pending_for(request.keys)
            return request if pending is None else self._after(pending, partial(self._read_alone, keys))
        if request.op == "fetch":
            return self._after(self._commits.pending_for(keys), lambda: Reply(records=self._engine.records_of(keys, wall_ms())))
        if request.op == "keys":
            limit = min(request.limit, MAX_LISTED)
            return self._after(
                self._commits.last_pending(),
                lambda: Reply(keys=self._engine.keys(request.prefix, request.after, limit, wall_ms())),
            )
        if document.joining is not None:
            return Reply(refused="changing")
        return self._write(request)

    def _after(self, pending: Pending | None, read: Waiting) -> Reply | Waiting:
        """Read once a write that was acknowledged already is on disk; at once, if there is none."""
        if pending is None:
            return _or_refused(read)

        def wait_for_it() -> Reply:
            pending.wait(monotonic() + COMMIT_WITHIN)
            return read()

        return lambda: _or_refused(wait_for_it)

    def _write(self, request: Request) -> Reply | Waiting:
        version = request.version
        assert version is not None  # noqa: S101  # read_request has seen to it
        try:
            self._clock.observe(version.stamp)
        except FarAhead:
            return Reply(refused="ahead")
        if version.millis < wall_ms() - self._oldest:
            # What has been deleted since might be forgotten already, or be by the time that this comes to the disk.
            return Reply(refused="the version is older than tombstones are kept")
        try:
            pending = self._commits.submit(_as_write(request), counted=request.op == "put")
        except GkvError as error:
            return _refused(error)

        def wait_for_it() -> Reply:
            applied = pending.wait(monotonic() + COMMIT_WITHIN)
            count = len(pending.write.keys) if request.op == "set" else applied.existed
            return Reply(count=count, beaten=applied.beaten)

        return _or_refused(wait_for_it) if pending.done else lambda: _or_refused(wait_for_it)

    def _take_over(self, data: Any) -> Reply | Waiting:
        try:
            document = Document.from_json(data)
        except ValueError as error:
            return Reply(refused=f"bad document: {error}")
        if document.joining is not None and document.joining.id == self._id:
            self._invited = True
        if self._engine.durable and self._engine.cluster is None and not self._invited:
            # Any coordinator may say that this node is a member. But if it was one, what it held is not here, and it would call
            # that missing: so the proxy decides, when this node calls in and says that its directory is empty.
            return Reply(refused="stale")
        try:
            taken = self.adopt(document)
        except GkvError as error:
            return _refused(error)
        if not taken:
            mine = self._view.document
            return Reply(refused="stale", document=mine.to_json() if mine else None)
        return self._settled_count

    def _settled_count(self) -> Reply:
        """Return how many records there are once all that was admitted is on disk."""

        def settled() -> Reply:
            self._commits.settle(monotonic() + COMMIT_WITHIN)
            return Reply(count=self._engine.live)

        return _or_refused(settled)

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
        """Return the cluster whose records or tombstones this node holds, None when it holds neither."""
        return self._engine.cluster if self._engine.live or self._engine.tombstones else None


def _as_write(request: Request) -> Write:
    """Return what is to be written; of a key that stands twice, the last item."""
    keys, version = request.keys, request.version
    assert version is not None  # noqa: S101  # as above
    values: Sequence[Value | None] = [None] * len(keys) if request.op == "delete" else request.values
    last = dict(zip(keys, range(len(keys)), strict=True))
    if len(last) < len(keys):
        expires = [request.expires[i] for i in last.values()] if request.expires else ()
        return Write(version, list(last), [values[i] for i in last.values()], expires)
    return Write(version, keys, values, request.expires)


def _or_refused(answer: Waiting) -> Reply:
    try:
        return answer()
    except GkvError as error:
        return _refused(error)


def _refused(error: GkvError) -> Reply:
    """Say why nothing was done, or that it is not known whether it was."""
    if isinstance(error, EngineFull):
        return Reply(refused="full")
    if isinstance(error, Unavailable) or error.code == "unavailable":
        return Reply(refused="busy")
    return Reply(refused="failed")
