"""The authority: the one process that decides who is a member, and keeps the cluster document on disk.

A join changes owners, so it must not overlap with a write that still believes in the old ones, by whichever coordinator. It
takes two epochs. Under the first the document says that a node is joining: each member refuses writes from the moment it has
that document, and says in the same answer how many records it holds. Only when all of them hold none does the second epoch
have the new member. Both are on disk before anybody hears of them, and a document found half-way at the start is taken back.
"""

import uuid
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Protocol

import ujson
from gevent.lock import BoundedSemaphore

from gkv.cluster.document import Document, check_weight
from gkv.cluster.view import View
from gkv.errors import ChangeInProgress, ConfigError, InvalidMember, MemberConflict, Unavailable
from gkv.files import FULL, Lock, Reserve, make_directory, replace
from gkv.log import say
from gkv.model import Node

_WAIT_FOR_CHANGE = 5.0
RESERVE = 1 << 20
"""Bytes that are given up when the disk is full, so that a change of the members that has begun can be ended."""
UP = 3.0
"""Seconds without a call from a node after which it is shown as down."""


class Peers(Protocol):
    """How the authority talks to members. One answer for each node, None for one that does not answer."""

    def records(self, nodes: Sequence[Node]) -> list[int | None]:
        """Ask nodes how many records they hold."""

    def adopt(self, document: Document, nodes: Sequence[Node]) -> list[int | None]:
        """Give nodes a document; return how many records each holds while it is in force."""

    def reached(self, node: Node) -> None:
        """Note that a node is there, which may have been away: it has called in. Does not switch greenlets."""


class Authority:
    """Keeps `cluster.json` in a directory of its own and the process's view in step with it."""

    def __init__(self, directory: Path, view: View, peers: Peers) -> None:
        """Lock the directory and read the document, or begin a new cluster in an empty one.

        Raise Unavailable when another process has the directory or it cannot be used, ConfigError when the file cannot be read
        as a document; it is never overwritten then.
        """
        self._directory = directory
        self._path = directory / "cluster.json"
        self._view = view
        self._peers = peers
        self._changing = BoundedSemaphore(1)  # one change of the members at a time
        self._last_call: dict[str, float] = {}
        self._lock = self._acquire()
        self._reserve = Reserve(directory / "reserve", RESERVE)
        try:
            document = self._read()
            if document is None or document.joining is not None:
                document = Document(uuid.uuid4().hex, 1) if document is None else document.abandon_join()
                self._write(document)
            view.adopt(document)
            self._reserve.keep()
        except BaseException:
            self.close()
            raise

    def _acquire(self) -> Lock:
        try:
            make_directory(self._directory)
            return Lock(self._directory / "lock")
        except BlockingIOError:
            raise Unavailable(f"another gkv-proxy uses the data directory {self._directory}") from None
        except OSError as error:
            raise Unavailable(f"the data directory {self._directory} cannot be used: {error.strerror}") from None

    def _read(self) -> Document | None:
        try:
            return Document.from_json(ujson.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be read: {error.strerror}") from None
        except (ValueError, AttributeError) as error:
            raise ConfigError(
                f"{self._path} cannot be read: {error}. Put the copy from a backup in its place; without one, start with "
                f"another directory, and the nodes with empty ones"
            ) from None

    def _commit(self, document: Document) -> None:
        """Put a document into force: on disk first, then in the view. Blocks the hub for the fsyncs, a few ms.

        Raise Unavailable when it cannot be written; then it is not in force.
        """
        try:
            self._write(document)
        except OSError as error:
            say(f"{self._path} cannot be written: {error.strerror}")
            raise Unavailable("the list of members cannot be written to the proxy's disk", retry_after=10) from error
        self._view.adopt(document)
        self._reserve.keep()

    def _write(self, document: Document) -> None:
        """Write a document, on a full disk with the room of the reserve. Raise OSError when it cannot be done."""
        content = ujson.dumps(document.to_json(), indent=2, escape_forward_slashes=False).encode()
        try:
            replace(self._path, content)
        except OSError as error:
            if error.errno not in FULL or not self._reserve.give_up():
                raise
            replace(self._path, content)

    @property
    def document(self) -> Document:
        """The document in force."""
        document = self._view.document
        assert document is not None  # noqa: S101  # the constructor has committed one
        return document

    def join(self, node: Node, cluster: str | None, *, fresh: bool = False) -> Document:
        """Make a node a member, or note that a member is alive; return the document in force.

        `cluster` is the one whose records the node holds, None when it holds none. A `fresh` node keeps its records on disk and
        has never been in any cluster, by what it finds there; so it cannot be a member that comes back. Raises MemberConflict
        when the node cannot join, ChangeInProgress or Unavailable when it may later. Switches greenlets.
        """
        self._refuse_conflicts(node, cluster)
        if fresh and self.document.member(node.id) is not None:
            raise MemberConflict(
                f"{node.id} is a member already, and comes back with an empty data directory: all that it held would be "
                f"reported missing. Start it where its data is (--data), or with --accept-loss if that is lost"
            )
        if self.document.member(node.id) != node:
            if not self._changing.acquire(timeout=_WAIT_FOR_CHANGE):
                raise ChangeInProgress("another node is joining", retry_after=1)
            try:
                self._refuse_conflicts(node, cluster)  # again: the wait may have brought a new document
                if self.document.member(node.id) != node:
                    self._change(node)
            finally:
                self._changing.release()
        self._last_call[node.id] = monotonic()
        self._peers.reached(node)
        return self.document

    def is_up(self, node_id: str) -> bool:
        """Return whether a member called in lately."""
        return monotonic() - self._last_call.get(node_id, float("-inf")) < UP

    def _refuse_conflicts(self, node: Node, cluster: str | None) -> None:
        document = self.document
        if cluster is not None and cluster != document.cluster:
            raise MemberConflict(
                f"node {node.id} holds records of cluster {cluster}, this is {document.cluster}; it can join with nothing in it"
            )
        known = document.member(node.id)
        if known is not None and known.url != node.url and not _now_with_tls(known, node):
            raise MemberConflict(f"there is a member {node.id} already, at {known.url}; choose another --name")
        for other in document.members:
            if other.url == node.url and other.id != node.id:
                raise MemberConflict(f"the member at {node.url} is {other.id}; it cannot be {node.id} as well")

    def _change(self, node: Node) -> None:
        members = self.document.members
        known = self.document.member(node.id)
        if known is None or known.weight != node.weight:
            check_weight(node, self.document.vnodes)
        if known is not None and _now_with_tls(known, node) and known.weight == node.weight:
            # No key changes its owner, so no write has to wait; the others hear of it when they call in.
            self._commit(self.document.begin_join(node).finish_join())
            return
        if self._peers.records([node]) == [None]:
            raise Unavailable(f"nobody answers at {node.url}, where {node.id} says that it listens", retry_after=1)
        # Looks before it locks: a join that must be refused should not hold up a single write.
        _refuse_moves(node, members, self._peers.records(members))
        try:
            changing = self.document.begin_join(node)
        except ValueError as error:
            raise InvalidMember(f"with {node.id} the ring would be too large: {error}") from None
        self._commit(changing)
        try:
            # The new one hears of it as well, though it has no say: it takes the next document from nobody before.
            new = [] if self.document.member(node.id) else [node]
            _refuse_moves(node, members, self._peers.adopt(self.document, [*members, *new])[: len(members)])
        except BaseException:
            self._commit(self.document.abandon_join())
            self._peers.adopt(self.document, members)
            raise
        self._commit(self.document.finish_join())
        self._peers.adopt(self.document, self.document.members)

    def close(self) -> None:
        """Unlock the directory."""
        self._lock.release()


def _now_with_tls(known: Node, node: Node) -> bool:
    """Return whether a member has begun to speak TLS, at the same address."""
    return known.url.startswith("http:") and node.url == f"https:{known.url.removeprefix('http:')}"


def _refuse_moves(node: Node, members: Sequence[Node], records: Sequence[int | None]) -> None:
    """Refuse a join under which keys would change their owner: each member must hold none."""
    for member, count in zip(members, records, strict=True):
        if count is None:
            raise Unavailable(
                f"{node.id} cannot join now: member {member.id} does not answer, so nobody knows whether it holds keys "
                f"that would have to move",
                retry_after=1,
            )
        if count > 0:
            raise MemberConflict(
                f"{node.id} cannot join: member {member.id} holds {count} keys, some of them would have to move to "
                f"{node.id}, and moving keys is not available in this version"
            )
