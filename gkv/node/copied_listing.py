"""Listings at a member that keeps copies: the names of the keys that this process is the primary of.

Promises: a page has, from the place where it begins to the place that it says it has reached, every name of a key that had a
value throughout, of all lists whose primary the document in force makes this process; each key is judged as a read of it
would be. What is on the disk is told if this process had all leases after it was looked at; a key with a write on its way, or
a value that is due, the machines read, and so it is waited for that very write. Others' keys are passed over, and what one
page looks at is bounded, so it may end early.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from time import monotonic

from gkv.clock import boot_time
from gkv.engine import Engine
from gkv.errors import GkvError
from gkv.model import NodeRefusal
from gkv.node.awaited import Awaited
from gkv.node.copied_reads import Found, found_in
from gkv.node.copied_writes import GRACE
from gkv.node.copies import Copies
from gkv.node.due_clock import DueClock
from gkv.node.handler import Waiting, refused_for
from gkv.node.postponed import READ_WITHIN, Asked
from gkv.node.reads import RECORDS_AT_ONCE, STEPS, has_value
from gkv.replication.actions import Answer
from gkv.replication.events import Event, LeasesAsked, ReadAsked
from gkv.replication.names import Look, first_of, look
from gkv.wire.ops import ListKeys, NodeAnswer, Page, Refused
from gkv.wire.strict import Pause

_Take = Callable[[Sequence[Found]], object]


class CopiedListing:
    """The handler of listings."""

    def __init__(self, engine: Engine, copies: Copies, clock: DueClock, pause: Pause, within: float) -> None:
        """`pause` gives way between two steps; `within` is for how many seconds a request may wait."""
        self._engine = engine
        self.copies = copies
        self._clock = clock
        self.pause = pause
        self._within = within

    def list_keys(self, request: ListKeys) -> NodeAnswer | Waiting:
        """Read a page of names."""
        return _Course(self, request, boot_time() + self._within)

    def look(self, request: ListKeys, place: str, limit: int) -> Look | None:
        """Look for the next names; None if they may not be told, since a lease is missing or a list is not open.

        Raise LookupError if the machines are of another document.
        """
        replica, stored = self.copies.replica, self.copies.disk.stored
        duties, mine = replica.desk.duties, replica.desk.mine
        if duties.era != request.era:
            raise LookupError
        on_their_way = chain(replica.writing.primary.unsettled.newest, stored.under_way)
        unsettled = first_of(on_their_way, request.prefix, place)
        found = look(
            request.scope,
            place,
            limit,
            self._engine.keys,
            unsettled,
            lambda keys: duties.only(keys, mine),
            self._clock.now(),
        )
        return found if self.copies.may_tell() else None


class _Course:
    """One listing, as far as it has come."""

    def __init__(self, listing: CopiedListing, request: ListKeys, deadline: float) -> None:
        self._listing = listing
        self._request = request
        self._deadline = deadline
        self._names: set[str] = set()
        """Of the steps that are done."""
        self._place: str | None = request.begin
        """The place that is reached by them, None at the end."""
        self._steps = 0
        self._found: Look | None = None
        """The findings of the step under way."""
        self._read: dict[str, str] = {}
        """By key, its name: those of that step which the machines read now."""

    def __call__(self) -> NodeAnswer | Waiting:
        """Go on with it. Switches greenlets."""
        try:
            while (done := self._step()) is None:
                self._listing.pause()
        except GkvError as error:
            return refused_for(error)
        return done

    def _step(self) -> NodeAnswer | Waiting | None:
        """Do a little; return the answer or what waits for more, None if it is to be called again."""
        request = self._request
        if self._found is not None and self._found.doubtful:
            some = list(self._found.doubtful.items())[:RECORDS_AT_ONCE]
            self._read = dict(some)
            keys = tuple(self._read)
            return self._ask(lambda client: ReadAsked(client, keys, self._deadline), self._take)
        if self._found is not None:
            self._names.update(self._found.names)
            self._place, self._found = self._found.end, None
            self._steps += 1
        if self._place is None or len(self._names) >= request.limit or self._steps >= STEPS:
            return self._page()
        try:
            self._found = self._listing.look(request, self._place, request.limit - len(self._names))
        except LookupError:
            return Refused(NodeRefusal.NOT_BEGUN)
        if self._found is None:
            return self._ask(lambda client: LeasesAsked(client, self._deadline), lambda _: None)
        return None

    def _page(self) -> Page:
        return Page(sorted(self._names), self._place)

    def _ask(self, event: Callable[[Awaited[Answer]], Event], take: _Take) -> NodeAnswer | Waiting | None:
        """Give the machines an event, and take in what they tell; if that takes long, end the page, or put it off."""
        asked: Awaited[Answer] = Awaited(max(0.0, self._deadline - boot_time()) + GRACE)
        self._listing.copies.handle(event(asked))

        def told(answer: Answer | None) -> NodeAnswer | Waiting | None:
            found = found_in(answer, self._listing.copies)
            if isinstance(found, Refused):
                return found
            take(found)
            return None

        if asked.is_over_by(monotonic() + READ_WITHIN):
            return told(asked.value)
        has_moved = self._names or self._place != self._request.begin
        return self._page() if has_moved else Asked(asked, READ_WITHIN, lambda answer: told(answer) or self)

    def _take(self, records: Sequence[Found]) -> None:
        """Note which of the keys that were read have a value."""
        if self._found is None:
            return
        for (key, name), record in zip(self._read.items(), records, strict=True):
            del self._found.doubtful[key]
            if has_value(record):
                self._found.names.append(name)
