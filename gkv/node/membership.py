"""A node's part in its cluster: which documents it takes over, whether it may serve, and its words to the authority."""

import os
from collections.abc import Callable
from time import monotonic

from gevent.lock import BoundedSemaphore

from gkv.cluster.callin import CallIn, FillProgress
from gkv.cluster.coverage import named
from gkv.cluster.document import Document, Durability, Member, State
from gkv.cluster.kept import Kept
from gkv.cluster.news import why_empty
from gkv.cluster.view import View
from gkv.engine import Commits, Engine
from gkv.errors import ConfigError, GkvError, MemberConflict, Unavailable
from gkv.log import as_error, as_warning, say
from gkv.model import Node, NodeRefusal
from gkv.node.copies import Copies
from gkv.node.handler import COMMIT_WITHIN, Waiting, or_refused, stale
from gkv.node.holdings import Holdings
from gkv.node.progress import progress_of
from gkv.node.tidings import Tidings
from gkv.threads import NativeThread
from gkv.wire.ops import Adopt, CallAt, Here, NodeAnswer, Refused, Status


def _ignore(_error: GkvError) -> None:
    """Do nothing about an error."""


def _ignore_url(_url: str) -> None:
    """Do nothing about an address."""


class Membership:
    """A node's part in a cluster. `incarnation` names this process, `kept` is what its directory has beside the records. A
    document is on the disk before it is in force. `on_end` is told why the process must end: another one acts in its place.
    """

    def __init__(
        self,
        node: Node,
        view: View,
        engine: Engine,
        commits: Commits,
        *,
        incarnation: int = 0,
        kept: Kept | None = None,
        copies: Copies | None = None,
        tidings: Tidings | None = None,
        on_end: Callable[[GkvError], object] = _ignore,
        zone: str = "",
        standby: bool = False,
    ) -> None:
        """Take over the document that the directory has, and list this process there. `copies` follows each document, and has
        put into `tidings` what the authority is to hear besides; `zone` counts for a new member, and so does `standby`: whether
        it becomes one by an operator's word only.

        Raise ConfigError when the directory is of two clusters, OSError when it cannot be written.
        """
        self.incarnation = incarnation
        self._copies = copies
        self._tidings = tidings or Tidings()
        self.news = self._tidings.news
        """Set when a document has come into force, or the authority is to hear something else now."""
        self.was_orderly = kept is not None and kept.orderly  # before this process is listed there
        self._node = node
        self._zone = zone
        self._standby = standby
        self._view = view
        self._engine = engine
        self._holdings = Holdings(engine)
        self._commits = commits
        self._kept = kept
        self._on_end = on_end
        self._thread = NativeThread()
        self._taking = BoundedSemaphore(1)  # documents come into force one after the other, each on disk first
        self._era = engine.era
        self._told = False
        self._said = ""
        self.on_proxy: Callable[[str], object] = _ignore_url
        """Told of an address at which the authority says that it is."""
        view.keep = self.adopt
        view.act_as(node.id, incarnation, self._era)
        if kept is not None:
            self._begin(kept)

    def _begin(self, kept: Kept) -> None:
        document = kept.document
        line = None if document is None else document.member(self._node.id)
        if document is not None and self._engine.cluster not in (None, document.cluster):
            if not self._holdings.is_bare:
                raise ConfigError(
                    f"the records of this directory are of cluster {self._engine.cluster}, its document of {document.cluster}"
                )
            document = None
        # The processes that ran on these very records: others can have been put beside the list, and a process that is
        # listed can have ended before it touched them. Where no cluster is known, nothing has ever been written.
        last = self._engine.last_run
        known = self._engine.cluster is not None and last in kept.ran
        kept.ran = kept.ran[: kept.ran.index(last) + 1] if known else ()
        kept.begin(self.incarnation, None if line is None else line.directory)
        self._engine.note_run(self.incarnation)
        if document is not None and self._engine.cluster is not None:
            self._view.adopt(document)
            self._follow(document)

    def _follow(self, document: Document, *, foreign: bool = False) -> None:
        """Go on under a document that is in force now. Does not switch greenlets."""
        self._follow_durability(document)
        if self._copies is not None:
            self._copies.follow(document, self._view.placement, foreign=foreign)

    def _follow_durability(self, document: Document) -> None:
        """Acknowledge writes as the document says, and say once what that means."""
        wanted, self._commits.durability = self._commits.durability, document.durability
        if self._told or not self._engine.durable:
            return
        self._told = True
        made = f"{self._node.id}: durability is {document.durability}, as the cluster was made"
        if document.durability is Durability.ASYNC:
            say(as_warning(f"{made}: what is acknowledged can be lost until it is on disk, some milliseconds later"))
        elif wanted != document.durability:
            say(as_warning(f"{made}; --durability counts for a new one only"))

    @property
    def line(self) -> Member | None:
        """The line of this process in the document in force."""
        return self._view.line

    def status(self, request: Status) -> NodeAnswer:
        """Say which process answers, and which document is in force there."""
        return self._here(show=request.show)

    def _here(self, *, show: bool = False) -> Here:
        document = self._view.document
        if document is None:
            return Here(self.incarnation, era=self._era)
        shown = document.to_json() if show else None
        return Here(self.incarnation, document.cluster, document.order, document.digest, self._era, shown)

    def take_over(self, request: Adopt) -> NodeAnswer | Waiting:
        """Take over a document that a coordinator or the authority has sent."""
        try:
            document = Document.from_json(request.document)
        except ValueError as error:
            return Refused(NodeRefusal.BAD_DOCUMENT, detail=str(error))
        if document == self._view.document:
            return self._here()

        def taken() -> NodeAnswer:
            return self._here() if self.adopt(document) else stale(self._view.document)

        return lambda: or_refused(taken)

    def call_at(self, request: CallAt) -> NodeAnswer:
        """Note where the authority of this member's cluster says that it is."""
        if request.cluster == self._engine.cluster:
            self.on_proxy(request.url)
        return self._here()

    def adopt(self, document: Document) -> bool:
        """Take over a document; return whether it is in force now. Switches greenlets.

        One of another cluster is only taken while the node holds nothing, no tombstone either: those would stand against the
        other cluster's records. So no write is admitted from the look at the records until it is in force. The records get the
        cluster's id once its document is on disk, and before anything is written under it. Raise Unavailable when the disk
        cannot take the document, GkvError when what has been admitted does not come to the disk.
        """
        with self._taking:
            mine = self._view.document
            if document == mine:
                return True
            line = document.member(self._node.id)
            foreign = mine is not None and mine.cluster != document.cluster
            moves = foreign or self._engine.cluster not in (None, document.cluster)
            if moves:
                if line is None or not self._holdings.is_bare:
                    return False
            elif (line is None) if mine is None else not document.follows(mine):
                return False
            named = self._view.line is not None
            if moves and not self._nothing_comes():
                return False
            if self._copies is not None and self._copies.prepare_for(document):
                self._settle_alone()
            try:
                self._keep(document)
            except Unavailable:
                self._view.let_write()
                raise
            if line is not None and self._engine.cluster != document.cluster:
                self._join(document.cluster, mine)
            self._view.adopt(document, replace=foreign)
            if named and line is not None and line.incarnation != self.incarnation:
                self._on_end(MemberConflict(f"another process acts as {self._node.id} now; this one ends"))
            self._follow(document, foreign=foreign)
        self.news.set()
        return True

    def _settle_alone(self) -> None:
        """Bring to the disk what was admitted while no records were copied; nothing more is admitted then."""
        self._view.hold_writes()
        try:
            self._commits.flush(monotonic() + COMMIT_WITHIN)
        except GkvError:
            self._view.let_write()
            raise

    def _nothing_comes(self) -> bool:
        """Return whether the node holds nothing, of what has been admitted either; nothing more is admitted then."""
        self._view.hold_writes()
        bare = False
        try:
            self._commits.flush(monotonic() + COMMIT_WITHIN)
            bare = self._holdings.is_bare
        finally:
            if not bare:
                self._view.let_write()
        return bare

    def _join(self, cluster: str, before: Document | None) -> None:
        """Give the records a cluster's id; if that fails, the document from before is kept again before writes go on."""
        try:
            self._engine.join(cluster)
        except GkvError:
            if before is not None:
                self._keep(before)
            self._view.let_write()
            raise
        self._era = 0  # as there was no record before
        self._view.act_as(self._node.id, self.incarnation, 0)

    def _keep(self, document: Document) -> None:
        kept = self._kept
        if kept is None:
            return
        try:
            self._thread.call(lambda: kept.keep(document))
        except OSError as error:
            where = f"cannot be written to {error.filename}: {error.strerror}"
            line = f"{self._node.id}: the document of epoch {document.epoch} {where}"
            if line != self._said:  # as the proxy gives it again and again
                self._said = line
                say(as_error(line))
            raise Unavailable("the cluster document cannot be written", retry_after=1) from error

    def call_in(self, *, show: bool) -> CallIn:
        """Return what the authority is to hear, with the document if it is to see it."""
        document = self._view.document
        named = self._view.line is not None
        era = 0 if document is None else document.era
        equal, ready = self._tidings.reported(era)
        return CallIn(
            self._node,
            self.incarnation,
            self._zone,
            pid=os.getpid(),
            cluster=self._engine.cluster if document is None else document.cluster,
            order=(0, 0) if document is None else document.order,
            digest="" if document is None else document.digest,
            records=self._holdings.records,
            bare=self._holdings.is_bare,
            volatile=not self._engine.durable,
            era=self._era,
            ran=() if (named and not show) or self._kept is None else self._kept.ran[-1_000:],
            document=document if show else None,
            reached=() if self._copies is None else self._copies.reach(),
            equal=equal,
            ready=ready,
            orderly=self.was_orderly,
            complaints=self._tidings.take_complaints(),
            leaves=self._tidings.leaves(era),
            filling=None if self._copies is None else progress_of(self._copies.replica.copying.fillings),
            size=self._holdings.size,
            fill_rate=0 if self._copies is None else round(self._copies.replica.pages.rate.rate),
            tidy=self._copies is not None and self._copies.disk.stored.is_tidy,
            standby=self._standby and not named,
            spare=named and document is not None and document.has_left(self._node.id) and not self._holdings.records,
        )

    def close(self) -> None:
        """End the thread for the disk."""
        self._thread.close()


def why_idle(view: View, filling: FillProgress | None) -> str:
    """Return why a process answers for no keys, "" if it does; `filling` is how far it is filled. O(lists) then."""
    if view.acts:
        return ""
    document, line = view.document, view.line
    if document is None or line is None:
        return "it has not joined yet"
    if view.outdated:
        return "the document in force is not later than its records"
    if line.state is State.DOWN:
        return "it is down by the document"
    if document.replicas == 1 and line.empty:
        return f"it waits for accept-loss: {why_empty(document, line)}"
    if view.awaited:
        return f"it has come back empty, and keys of its wait for {named(view.awaited)}"
    return "it is being filled" if filling is None else f"it is being filled ({int(100 * filling.share)} %)"
