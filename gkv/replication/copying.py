"""A member in its part as a granter and a learner: frames and questions of primaries, answered when
that is due (W4, T1), and its filling (L1 to L6).
"""

from collections.abc import Sequence

from gkv.duties import Roles
from gkv.model import Effect, Version
from gkv.replication.actions import Commit, End, Replace, Report
from gkv.replication.desk import Desk
from gkv.replication.filling import AskedPage, Fillings, Wanted
from gkv.replication.granter import Granter
from gkv.replication.grants import Grants
from gkv.replication.messages import (
    AskLease,
    AskPage,
    AskRecord,
    AskSums,
    AskUnsettled,
    Copied,
    Copy,
    FoundRecord,
    Full,
    Granted,
    Page,
    Reply,
    Sums,
    UnsettledKeys,
    Working,
)
from gkv.replication.questions import RESEND
from gkv.replication.records import PAGE, Records


class Copying:
    """The part of one process in the lists of other primaries."""

    def __init__(self, desk: Desk, records: Records, grants: Grants) -> None:
        self._desk = desk
        self._records = records
        self._grants = grants
        self._held: list[tuple[str, Reply]] = []
        """Answers that grant something, until the note is on the disk."""
        self._primaries: dict[str, None] = {}
        """Whom this process grants leases to."""
        self._reported: Report | None = None
        self._looked = False
        """Whether the last report is right still."""
        self.granter = Granter()
        self.fillings = Fillings(lambda: records.compares)

    # -- frames and questions of the epoch of now, from the processes that are in its document

    def hear(self, sender: str, message: Copy | AskLease | AskUnsettled | AskRecord | Page | Sums) -> None:
        """Take in what a primary sends."""
        match message:
            case Copy():
                self._take(sender, message)
            case AskLease():
                self._ask_lease(sender, message)
            case AskUnsettled():
                self._ask_unsettled(sender, message)
            case AskRecord():
                self._ask_record(sender, message)
            case Page():
                self._page(sender, message)
            case Sums():
                self._sums(sender, message)

    def _take(self, sender: str, copy: Copy) -> None:
        """Take a frame, if it is from the primary of all its keys."""
        desk, duties = self._desk, self._desk.duties
        if not self._is_granter(sender) or not all(
            self._copies(roles, sender) for write in copy.writes for roles in duties.all_roles_of(write.keys)
        ):
            return
        self._grant(sender)
        self.granter.settled(sender, copy.settled, lambda keys: duties.only(keys, lambda roles: roles.primary == sender))
        handed = self.granter.take(sender, copy.number, copy.writes, desk.now, desk.token)
        for write in copy.writes:
            self.fillings.mark(write.keys, duties)
        desk.actions += [Commit(token, write) for token, write in handed]
        oldest = self.granter.oldest()
        self._acknowledge()
        if copy.writes and not handed and oldest is not None:
            desk.send(sender, Working(copy.number, desk.now - oldest))

    def _is_granter(self, primary: str) -> bool:
        return primary in self._primaries

    def _copies(self, roles: Roles, primary: str) -> bool:
        return roles.primary == primary and self._desk.me in roles.granters

    def _ask_unsettled(self, sender: str, asked: AskUnsettled) -> None:
        """Tell all unsettled keys whose primary the sender is now (T1)."""
        duties = self._desk.duties
        if self._is_granter(sender):
            self._grant(sender)
            keys = self.granter.unsettled(lambda key: duties.roles_of(key).primary == sender)
            self._tell(sender, UnsettledKeys(asked.number, tuple(keys)))

    def _ask_lease(self, sender: str, asked: AskLease) -> None:
        """Grant a lease."""
        if self._is_granter(sender):
            self._grant(sender)
            self._tell(sender, Granted(asked.number, self._is_full))

    def _ask_record(self, sender: str, asked: AskRecord) -> None:
        """Show a record to the primary, whose own is damaged."""
        roles = self._desk.duties.roles_of(asked.key)
        if roles.primary == sender and self._desk.me in roles.acting:
            self._desk.send(sender, FoundRecord(asked.number, self._records.newest([asked.key])[0]))

    # -- grants

    def _grant(self, primary: str) -> None:
        incarnation = self._desk.duties.lines[primary].incarnation
        note = self._grants.grant(primary, incarnation, self._desk.now, self._desk.duties.lease)
        if note is not None:
            self._desk.actions.append(note)

    def _tell(self, primary: str, reply: Reply) -> None:
        """Give an answer that grants a lease: not before the note is on the disk (T2)."""
        if self._grants.may_tell:
            self._desk.send(primary, reply)
        else:
            self._held.append((primary, reply))

    def note_kept(self, there: bool) -> None:
        """Go on, as the note has come or gone."""
        note = self._grants.note_kept(there, self._desk.now)
        if note is not None:
            self._desk.actions.append(note)
        if self._grants.may_tell:
            held, self._held = self._held, []
            for primary, reply in held:
                self._desk.send(primary, reply)

    def _acknowledge(self) -> None:
        for frame in self.granter.take_whole():
            self._tell(frame.primary, Copied(frame.number, frame.versions, self._is_full))

    @property
    def _is_full(self) -> bool:
        return not self._records.has_room(0, 1)

    # -- the disk

    def committed(self, token: int, effects: Sequence[Effect] = ()) -> bool:
        """Note that the disk has what was handed to it; False if that was not handed over here."""
        if self.granter.committed(token, effects):
            self._acknowledge()
            return True
        if self.fillings.committed(token):
            self._looked = False
            self.fill()
            return True
        return False

    def failed(self, token: int, full: bool) -> bool:
        """Note that it never will. A full disk acknowledges nothing, and is asked again; any other failure ends the process."""
        found = self.granter.failed(token)
        if found is None and not self.fillings.failed(token):
            return False
        if not full:
            self._desk.actions.append(End("the disk has failed"))
        elif found is not None:
            write, frames = found
            self.fillings.unmark(write.keys, self._desk.duties)
            for frame in frames:
                self._desk.send(frame.primary, Full(frame.number))
        return True

    # -- filling

    def fill(self) -> None:
        """Ask for what is next of each list that is not equal."""
        desk = self._desk
        for wanted in self.fillings.wanted(desk.now, RESEND, self._records.is_summed_up):
            session = wanted.session
            number = desk.ask(session.primary, owed=False)
            if wanted.ranges:
                page = wanted.again or self._next_page(wanted)
                self.fillings.asked(session, number, desk.now, page)
                desk.send(session.primary, AskPage(number, *session.pair, page.ranges, page.fingerprints, page.named))
            else:
                self.fillings.asked(session, number, desk.now)
                desk.send(session.primary, AskSums(number, *session.pair, wanted.after))

    def _next_page(self, wanted: Wanted) -> AskedPage:
        """Return the question for as much of what differs as can be looked at in one step here."""
        ranges = wanted.ranges
        if wanted.is_clear:
            return AskedPage(ranges, (), ())
        rows = self._records.look(wanted.session.pair, ranges, PAGE)
        known = self._records.known(rows.records)
        taken = ranges[: rows.whole]
        if rows.upto is not None:
            taken += ((ranges[rows.whole][0], rows.upto),)
        return AskedPage(taken, tuple(known), tuple(known.values()), tuple(rows.records), wanted.named)

    def _sums(self, sender: str, sums: Sums) -> None:
        """Take sums of records."""
        if self.fillings.sums(sender, sums.number, sums.sums, self._records.sums):
            self._looked = False
            self.fill()

    def _page(self, sender: str, page: Page) -> None:
        """Take a page of records."""
        desk = self._desk
        token = desk.token()
        change = self.fillings.page(sender, page, self._records.between, token, desk.now)
        if change is None:
            self.fill()
            return
        if not (change.records or change.drops or change.damaged or change.leaves):  # as many pages are
            self.committed(token)
            return
        self.granter.forget([key for key, _ in change.records])
        self.granter.forget([*change.drops, *change.damaged])
        desk.actions.append(Replace(token, change.records, change.drops, change.damaged))

    def report(self) -> Report | None:
        """Return what the authority is to be told now, if that is new; nothing before the grants of the process before have
        run out (L6).
        """
        desk, duties = self._desk, self._desk.duties
        if self._looked or not desk.serves or desk.now < self._grants.forgotten_until(duties.lease):
            return None
        self._looked = True
        report = Report(duties.era, self.fillings.filled(duties), self.fillings.coming(duties))
        known, self._reported = self._reported, report
        return None if report == known else report

    def needs(self, key: str) -> bool:
        """Return whether the tombstone of a key may be needed here, or for a page that is to come."""
        granter = self.granter
        return granter.is_unsettled(key) or granter.is_committing(key) or self.fillings.is_marked(key, self._desk.duties)

    # -- another document, and time

    def adopt(self, left: dict[str, Version]) -> None:
        """Go on under the document of now; `left` are keys that this process was the primary of until then, unsettled (W8)."""
        desk = self._desk
        duties = desk.duties
        for key, version in left.items():
            self.granter.note([key], version)
        self._held = []
        self.granter.adopt(lambda key: not desk.serves or duties.roles_of(key).has(desk.me))
        grants_to = [roles.primary for roles in duties.own if roles.primary is not None and desk.me in roles.granters]
        self._primaries = dict.fromkeys(grants_to) if desk.serves else {}
        self.fillings.adopt(duties, desk.serves)
        self._looked = False
        self.fill()

    def tick(self) -> None:
        """Ask again for pages; let the note go when all grants have run out."""
        desk = self._desk
        self.fill()
        note = self._grants.drop_note(desk.duties, desk.now)
        if note is not None:
            desk.actions.append(note)

    @property
    def wakes_at(self) -> float:
        """The time at which something may be due, if nothing else happens."""
        lease = self._desk.duties.lease
        at = self._grants.note_until(self._desk.duties, self._desk.now)
        if not self._looked and self._desk.serves:
            at = min(at, max(self._grants.forgotten_until(lease), self._desk.now))
        now = self._desk.now
        return min(at, now + RESEND / 2, self.fillings.rests_until(now)) if self.fillings.busy else at
