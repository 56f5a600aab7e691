"""The belief of one process about the cluster: the newest document it has seen, and the placement of keys by it."""

from collections.abc import Callable, Mapping

from gevent.event import Event

from gkv.cluster.coverage import Coverage, Coverages
from gkv.cluster.document import Document, Member, State
from gkv.cluster.placement import Placement
from gkv.errors import Unavailable


class View:
    """The current document and placement. Reading them never waits; they are replaced together, never changed."""

    def __init__(self) -> None:
        self.document: Document | None = None
        self.placement: Placement | None = None
        """None while there is no member."""
        self.incarnations: Mapping[str, int] = {}
        """By URL, the process that acts for each member that is not down."""
        self.line: Member | None = None
        """The line of this very process; None while it has none, or is another one's."""
        self.acts = False
        """Whether this process may serve keys of its own."""
        self.outdated = False
        """Whether the document in force names this process, but is not of a later era than all its records."""
        self.admits: int | None = None
        """The era under which this process may admit writes; None while it may admit none."""
        self._own: tuple[str, int] | None = None
        self.records_era = 0
        """An era that none of this process's records is later than."""
        self.keep: Callable[[Document], object] = self.adopt
        """Takes over a document that was learnt from a peer; a member has it on its disk first. May switch greenlets."""
        self._coverages = Coverages()
        self.watchers: set[Callable[[], object]] = set()
        """Called whenever a document has come into force; none of them waits or raises."""
        self._newer = Event()
        """Set when another document than the one of now is in force."""

    def act_as(self, node_id: str, incarnation: int, era: int) -> None:
        """Say which member's process this is, and an era that none of its records is later than.

        It acts under later documents alone: else what it writes would lose against what is there.
        """
        self._own = node_id, incarnation
        self.records_era = era
        self._find_line()

    def _find_line(self) -> None:
        line = None if self.document is None or self._own is None else self.document.member(self._own[0])
        self.line = line if line is not None and self._own == (line.id, line.incarnation) else None
        later = self.document is not None and self.document.era > self.records_era
        self.outdated = self.line is not None and not later
        self.acts = self.line is not None and self.line.acts and later
        self.admits = self.document.era if self.acts and self.document is not None else None

    @property
    def is_whole(self) -> bool:
        """Whether this member certainly has all that it is to have: where records are copied only while it is up. One that is
        filling, or was taken out meanwhile, may have a part.
        """
        copied = self.document is not None and self.document.copies_records
        return not copied or (self.line is not None and self.line.state is State.UP)

    def hold_writes(self) -> None:
        """Admit no write until a document is taken over, or `let_write` is called."""
        self.admits = None

    def let_write(self) -> None:
        """Admit writes again as the document in force says."""
        self._find_line()

    def adopt(self, document: Document, *, replace: bool = False, placement: Placement | None = None) -> bool:
        """Take over a document if it may follow the one in force, and return whether it did.

        With `replace` any is taken. `placement` is the document's (see `place`), where somebody has made it already; else this
        may take as long as `Placement.of`.
        """
        if not replace and self.document is not None and not document.follows(self.document):
            return False
        self.placement = placement or self.place(document)
        self.document = document
        self.incarnations = {one.url: one.incarnation for one in document.members if one.state is not State.DOWN}
        self._find_line()
        newer, self._newer = self._newer, Event()
        newer.set()
        for call in [*self.watchers]:
            call()
        return True

    def place(self, document: Document) -> Placement | None:
        """Return the placement of a document that may be taken over next, None if it has no member. Any thread may do it."""
        return Placement.of(document, self.placement) if document.nodes else None

    def learn(self, document: Document) -> None:
        """Take over a document that a peer has shown, if it is one to follow. May switch greenlets."""
        if self.document is None or document.follows(self.document):
            self.keep(document)

    def current(self) -> tuple[Document, Placement]:
        """Return document and placement; raise Unavailable while there is no member. Does not wait."""
        if self.document is None or self.placement is None:
            raise Unavailable("no node has joined yet", retry_after=1)
        return self.document, self.placement

    def coverage(self, absent: frozenset[str] = frozenset()) -> Coverage | None:
        """Return the part of all keys that has its copies where the members `absent` do not answer, None while there is no
        member. O(lists) after a change.
        """
        return None if self.placement is None else self._coverages.of(self.placement, absent)

    @property
    def awaited(self) -> tuple[str, ...]:
        """The members for one of which keys of this one wait, as nobody acts for them. O(lists)."""
        return () if self.placement is None or self._own is None else self.placement.awaited(self._own[0])

    def wait_for_other(self, document: Document | None, seconds: float) -> bool:
        """Wait until another document than this one is in force; return whether it is. Switches greenlets if it has to wait."""
        return self.document is not document or bool(self._newer.wait(max(0.0, seconds)))
