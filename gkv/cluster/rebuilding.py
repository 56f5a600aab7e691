"""The rebuilding of a document that was lost, or is older than one that a member shows. Pure: the time is an argument.

Promises: the result is made of the newest document that any member of it has, under a new generation, so that no epoch
means two things, and what is written under it is later than all records. Until all members that are known have shown theirs,
or an operator has excused them, there is none. No member that holds keys by one of these documents is forgotten, unless the
newest one says that it was removed. Leaves to others: whether whoever shows a document is the process that it says it is.
"""

from collections.abc import Iterable
from dataclasses import replace

from gkv.cluster.callin import CallIn
from gkv.cluster.document import KEPT_ANCESTORS, MAX_EPOCH, MAX_GENERATION, MAX_LEAP, Document, Member, State
from gkv.cluster.liveness import SILENT_AFTER
from gkv.cluster.moving import has_its_directory
from gkv.errors import GkvError, InvalidMember, Unavailable
from gkv.log import as_warning, say
from gkv.model import Presence, split_era
from gkv.pace import USUAL_PACE
from gkv.ring import token_name

_MOST_GENERATIONS = MAX_GENERATION - 1
"""The generation of a document or of records that is believed: one more can follow."""


def is_lost(mine: Document, shown: Document) -> bool:
    """Return whether a member shows a document that an authority with `mine` has lost."""
    if mine.cluster == shown.cluster:
        return is_ahead(mine, shown.order, shown.digest)
    return not mine.members and bool(shown.members)


def is_ahead(mine: Document, order: tuple[int, int], digest: str) -> bool:
    """Return whether a document of the same cluster is later than `mine`, or another one of its order."""
    return order > mine.order or (order == mine.order and digest != mine.digest)


def _has_later_records(mine: Document, call: CallIn) -> bool:
    """Return whether a member has records of a later era than a document's.

    Its own document has to be older than one under which they were written, and what is written next would lose against them.
    """
    generation, epoch = split_era(call.era)
    line = mine.member(call.id)
    if call.cluster != mine.cluster or line is None or not _is_of(line, call):
        return False
    bounded = generation <= min(mine.generation + KEPT_ANCESTORS, _MOST_GENERATIONS) and epoch <= mine.epoch + MAX_LEAP
    return bounded and (generation, epoch) > mine.order


def refused_document(mine: Document, call: CallIn, newest: Document | None = None) -> GkvError | None:
    """Return why a document that is shown is none to rebuild from, None when it is one.

    `newest` is the one that is being rebuilt from. Whoever shows a document is a member in it, and in `mine` or `newest` unless
    all that is known of the cluster is lost; and the document is not absurdly far ahead.
    """
    shown = call.document
    if shown is None or not call.has(shown):
        return _not_that("the document that is shown is not the one that the call speaks of")
    line = shown.member(call.id)
    if line is None or not has_its_directory(line, call):
        return Unavailable(f"{call.id} shows a document that does not name it, by this process or its directory", retry_after=1)
    if shown.epoch > MAX_EPOCH - MAX_LEAP or shown.generation > _MOST_GENERATIONS:
        return _not_that("the document that is shown leaves no room for later ones")
    if mine.members and not _may_follow(mine, shown):
        return _not_that("the document that is shown does not follow from the one that is here")
    if newest is not None and (shown.cluster != newest.cluster or abs(shown.epoch - newest.epoch) > MAX_LEAP):
        return _not_that(f"the document of cluster {newest.cluster} is being rebuilt, and the one that is shown is none of it")
    known = mine.member(call.id) or (None if newest is None else newest.member(call.id))
    if mine.members and known is None:
        return Unavailable(f"{call.id} shows a document, and is no member in the one that is here", retry_after=1)
    if known is not None and not (_is_at(known, call) or has_its_directory(known, call)):
        return _not_that(f"there is a member {call.id}, at {known.url}")
    return None


def _may_follow(mine: Document, shown: Document) -> bool:
    return shown.order == mine.order or (shown.follows(mine) and shown.epoch <= mine.epoch + MAX_LEAP)


def _is_of(line: Member, call: CallIn) -> bool:
    """Return whether a call comes from a member's process, or from a later one on its directory, at its address. One that has
    moved shows its document; its mere words do not count.
    """
    return _is_at(line, call) and has_its_directory(line, call)


def _is_at(line: Member, call: CallIn) -> bool:
    return call.node.url in (line.url, line.url.replace("http:", "https:", 1))


def _not_that(detail: str) -> InvalidMember:
    return InvalidMember(detail, pointers=[("/document", "not a document to rebuild from")])


class Rebuilding:
    """The documents that members have shown so far."""

    def __init__(self, mine: Document, newest: Document, now: float) -> None:
        self.newest = newest
        self.since = now
        self._mine = mine
        self._written = (0, 0)
        """Generation and epoch that no record is later than."""
        self._shown: dict[str, str | None] = {}
        """By id, the digest of what each has shown; None for one that is not waited for."""
        self._holding: dict[str, Member] = {}
        """The members that hold keys by any document, by id."""
        self._note(mine)
        self._note(newest)

    def _note(self, document: Document) -> None:
        lines = {member.id: member for member in document.members if member.weight}
        if document.cluster == self.newest.cluster:
            self._holding = self._holding | lines if document.order >= self.newest.order else lines | self._holding

    def enacted(self, mine: Document) -> None:
        """Note that the authority has brought a document into force, which it was writing when the rebuilding began."""
        self._mine = mine
        if mine.cluster == self.newest.cluster and mine.order > self.newest.order:
            self.newest = mine
        self._note(mine)

    def knows(self, call: CallIn) -> bool:
        """Return whether a member has shown what it has now."""
        return self._shown.get(call.id) == call.digest and split_era(call.era) <= max(self._written, self._mine.order)

    def counts(self, call: CallIn) -> bool:
        """Return whether a call says of a member that it has no later document than the authority's."""
        line = self.newest.member(call.id) or self._holding.get(call.id)
        if line is None or not _is_of(line, call) or call.cluster != self._mine.cluster:
            return False
        return call.has(self._mine) or (0, 0) < call.order < self._mine.order

    def show(self, call: CallIn) -> None:
        """Note what a member has: a document, or none that is later than the authority's, and records."""
        document = call.document
        if _has_later_records(self._mine, call):
            self._written = max(self._written, split_era(call.era))
        if document is None and not self.counts(call):
            return
        self._shown[call.id] = call.digest
        if document is not None:
            self._note(document)
            if document.order > self.newest.order:
                self.newest = document

    def excuse(self, node_id: str) -> None:
        """Go on without a member's."""
        self._shown[node_id] = None

    @property
    def waits_for(self) -> list[str]:
        """The members that have shown nothing yet, ascending."""
        removed = self.newest.removed
        holding = {member.id for member in self._holding.values() if member.incarnation not in removed}
        return sorted(({member.id for member in self.newest.members} | holding) - self._shown.keys())

    def result(self) -> Document | None:
        """Return the document that is to be in force, None while members are waited for.

        Raise ValueError when the members of all documents do not fit into one ring.
        """
        if self.waits_for:
            return None
        newest, mine = self.newest, self._mine
        here = mine.generation if mine.cluster == newest.cluster else 1
        generation = max(newest.generation, here, self._written[0]) + 1
        epoch = newest.epoch + 1
        ancestors = [*newest.rebuilt_from, newest.order]
        if self._written[0] not in (0, *(of for of, _ in ancestors)):
            ancestors.append(self._written)
        in_ring = {member.id for member in newest.members if member.weight}
        places = {token_name(member.node) for member in newest.members if member.weight}
        forgotten = [
            replace(member, state=State.DOWN, since=epoch, left=epoch if member.state is State.UP else member.left)
            for member in self._holding.values()
            if member.id not in in_ring
            and member.incarnation not in newest.removed
            and token_name(member.node) not in places  # somebody has taken its place, and what it had
        ]
        rebuilt = replace(newest, generation=generation, epoch=epoch, rebuilt_from=tuple(ancestors[-KEPT_ANCESTORS:]))
        if not forgotten:
            return rebuilt
        lines = sorted([*(one for one in newest.members if one.weight), *forgotten], key=lambda member: member.id)
        return replace(rebuilt, members=tuple(lines), next=None, pace=USUAL_PACE)


class Unheard:
    """The members of which an authority does not know, after its start, whether they have a later document than its own.

    Until they have called in, or have answered, or have been silent for as long as counts, nothing is decided.
    """

    def __init__(self, members: Iterable[str], now: float) -> None:
        self._ahead = dict.fromkeys(members, False)
        """By id, whether a member is known to have a later document, which it has not shown yet."""
        self._since = now

    @property
    def all(self) -> list[str]:
        return list(self._ahead)

    def heard(self, node_id: str) -> None:
        """Note that a member has no later document, or is not to be waited for."""
        self._ahead.pop(node_id, None)

    def answered(self, node_id: str, there: Presence, mine: Document) -> None:
        """Note which document a member has."""
        if there.cluster == mine.cluster and is_ahead(mine, there.order, there.digest):
            self._ahead[node_id] = True
        else:
            self.heard(node_id)

    def waits_for(self, now: float) -> list[str]:
        """Return the members that are waited for."""
        if now - self._since < SILENT_AFTER:
            return list(self._ahead)
        self._ahead = {node_id: ahead for node_id, ahead in self._ahead.items() if ahead}
        return list(self._ahead)


class Told:
    """All that an authority knows about documents that are not its own."""

    def __init__(self, members: Iterable[str], now: float) -> None:
        self.unheard = Unheard(members, now)
        self.rebuilding: Rebuilding | None = None

    def is_lost_to(self, mine: Document, call: CallIn) -> bool:
        """Return whether a caller has a document that is lost here, shown or not. Raise GkvError when it shows one that is
        none to rebuild from.
        """
        shown = call.document
        if shown is not None and is_lost(mine, shown):
            error = refused_document(mine, call, None if self.rebuilding is None else self.rebuilding.newest)
            if error is not None:
                raise error
            return True
        if shown is not None or call.cluster is None:
            return False
        if call.cluster != mine.cluster:
            return not mine.members
        return call.order > (0, 0) and is_ahead(mine, call.order, call.digest)

    def is_news(self, mine: Document, call: CallIn) -> bool:
        """Return whether a call says of a document what matters, once the caller has answered at its address. Raise as
        `is_lost_to`.
        """
        if self.rebuilding is not None and self.rebuilding.knows(call):
            return False
        if call.document is not None and self.is_lost_to(mine, call):
            return True
        counts = self.rebuilding is not None and self.rebuilding.counts(call)
        return counts or (call.document is None and _has_later_records(mine, call))

    def note(self, mine: Document, call: CallIn, there: Presence, now: float) -> bool:
        """Note the words of a process that has answered at its address; return whether they matter."""
        if there.era != call.era:
            return False
        if (there.cluster, there.order, there.digest) != (call.cluster, call.order, call.digest):
            if call.document is not None:
                return False
            call = replace(call, order=(0, 0), digest="")  # it has another document by now, and the same records
        try:
            if not self.is_news(mine, call):
                return False
        except GkvError:  # what is here has changed meanwhile
            return False
        if self.rebuilding is None:
            shown = call.document
            self.rebuilding = Rebuilding(mine, shown or mine, now)
            generation, epoch = split_era(call.era) if shown is None else shown.order
            lost = f"{'records' if shown is None else 'a document'} of generation {generation}, epoch {epoch}"
            say(
                as_warning(
                    f"{call.id} has {lost}, whose document is not here: it is rebuilt once all members have shown theirs"
                )
            )
        self.rebuilding.show(call)
        return True

    def enacted(self, mine: Document) -> None:
        """Note that a document is in force."""
        if self.rebuilding is not None:
            self.rebuilding.enacted(mine)

    def waits_for(self, now: float) -> list[str]:
        """Return the members whose documents are waited for."""
        return self.unheard.waits_for(now) if self.rebuilding is None else self.rebuilding.waits_for

    def excuse(self, node_id: str) -> None:
        """Go on without a member's document."""
        self.unheard.heard(node_id)
        if self.rebuilding is not None:
            self.rebuilding.excuse(node_id)
