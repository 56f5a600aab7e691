"""The machines of one process of a member, bound together: events in, actions out.

What one event leads to depends on nothing but the events before it, and on the records as they are
looked at. Whatever has to be on the disk before something else is said is an action, whose end is
an event.
"""

from collections.abc import Callable, Iterable
from typing import Any

from gkv.duties import Duties
from gkv.replication import events
from gkv.replication.actions import Action, End
from gkv.replication.clients import Clients
from gkv.replication.copying import Copying
from gkv.replication.desk import Desk
from gkv.replication.events import Event, pair_of
from gkv.replication.expiry import DueTime
from gkv.replication.grants import Grants
from gkv.replication.later import Later
from gkv.replication.leases import Leases
from gkv.replication.mending import Mending
from gkv.replication.messages import (
    AskLease,
    AskPage,
    AskRecord,
    AskSums,
    AskUnsettled,
    Behind,
    Copied,
    Copy,
    FoundDamaged,
    FoundRecord,
    Full,
    Granted,
    Hello,
    HelloBack,
    Message,
    Page,
    Question,
    Sums,
    UnsettledKeys,
    Working,
)
from gkv.replication.pages import Pages
from gkv.replication.pause import Pause, Step, Stopping
from gkv.replication.questions import RESEND, USUAL, Timeouts
from gkv.replication.reading import Readings
from gkv.replication.records import Records
from gkv.replication.stall import Stall
from gkv.replication.succession import Succession
from gkv.replication.takeover import Takeovers
from gkv.replication.versions import Versions
from gkv.replication.writing import Writing


class Replica:
    """One process of a member. More than 250 lines: it binds all machines, and each event and message has its line here."""

    def __init__(
        self,
        me: str,
        incarnation: int,
        records: Records,
        due: DueTime,
        now: float,
        *,
        noted: bool = False,
        has_granted: bool = False,
        timeouts: Timeouts = USUAL,
        fill_rate: float = 0.0,
        versions: Versions | None = None,
    ) -> None:
        """Begin; the note `granted` is on the disk if `noted`. Then earlier grants may run, and also if it `has_granted`.
        `versions` are the process's, where others give some as well.
        """
        self.desk = Desk(me, incarnation, now, timeouts)
        self.grants = Grants(now, noted, has_granted=has_granted)
        self.leases = Leases()
        self.takeovers = Takeovers()
        self.records = records
        self.writing = Writing(self.desk, records, due, versions)
        self.copying = Copying(self.desk, records, self.grants)
        self.readings = Readings(self.desk, self.takeovers, self.leases)
        self.succession = Succession(self.desk, self.takeovers, self.grants, self.copying.granter, self.writing)
        recover = self.succession.recover
        self.pages = Pages(self.desk, records, self.writing, self.takeovers, self.readings, recover, fill_rate)
        self.pause = Pause()
        self.stopping = Stopping()
        self._stall = Stall(self.desk, self.writing)
        self.clients = Clients(self.desk, self.writing, self.takeovers, self.readings, self.pause, self.stopping, recover)
        self.succession.on_recovered = self.clients.recovered
        self.mending = Mending(self.desk, self.writing, self.takeovers, recover, self.clients.may_begin)
        self._handlers: dict[type[Event], Callable[[Any], object]] = {
            events.Received: self._receive,
            events.Committed: self._committed,
            events.CommitFailed: self._commit_failed,
            events.ReadAsked: self.clients.ask,
            events.WriteAsked: self.clients.ask,
            events.HandOver: lambda _: self.writing.hand_over(),
            events.DamageFound: lambda event: self.mending.found(event.keys),
            events.LeasesWanted: lambda _: self.readings.renew(),
            events.LeasesAsked: self.readings.ask,
            events.DueFound: lambda event: self.clients.expire(event.keys),
            events.Adopted: lambda event: self._adopt(event.duties),
            events.NoteKept: lambda event: self.copying.note_kept(event.there),
            events.PauseAsked: lambda event: self.pause.begin(event, self.desk.duties.era, self.desk.now),
            events.GoOn: self._go_on,
            events.StopAsked: lambda _: self.stopping.begin(self.desk.now),
            events.Tick: lambda _: self._tick(),
        }
        self._later = Later(self.desk)
        self._named = False
        """Whether a document has had this process in its member's line."""

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in one event; return all that is to be done now."""
        return self.handle_all((event,), now)

    def handle_all(self, together: Iterable[Event], now: float) -> list[Action]:
        """Take in events of one moment, such as the ends of a group's commits; return all that is to be done now."""
        desk = self.desk
        desk.now = now
        desk.actions = []
        for event in together:
            self._handlers[type(event)](event)
        self._look()
        return desk.actions

    def _committed(self, event: events.Committed) -> None:
        self._stall.ended()
        if not self.copying.committed(event.token, event.effects):
            self.writing.committed(event.token, event.effects)

    def _commit_failed(self, event: events.CommitFailed) -> None:
        self._stall.ended()
        if self.copying.failed(event.token, event.full):
            return
        if event.full:
            self.writing.no_room(event.token)
        else:
            self.desk.actions.append(End("a write that others may have could not be committed"))  # W10

    def _go_on(self, event: events.GoOn) -> None:
        if self.pause.go_on(event.plan):
            self.clients.go_on()

    # -- messages

    def _receive(self, received: events.Received) -> None:
        message, sender = received.message, received.sender
        desk = self.desk
        era = desk.duties.era
        self.grants.heard(sender, received.incarnation, received.era, desk.duties)
        if received.era > era:
            self._later.hear(received)
        elif not self._is_current(received.era, era):
            if isinstance(message, Question):
                desk.send(sender, Behind(message.number))
            else:
                desk.questions.answered(message.number, sender)  # it hears
        elif isinstance(message, Hello):
            desk.send(sender, HelloBack(message.number))
        elif desk.serves and desk.duties.incarnation_of(sender) == received.incarnation:
            self._take(sender, received.incarnation, message)

    def _is_current(self, era: int, mine: int) -> bool:
        """Return whether what is said under a document may be acted upon: the epoch is the only fence (M1, F4)."""
        return era == mine

    def _take(self, sender: str, incarnation: int, message: Message) -> None:
        """Take in a message of the epoch of now, from the process in its document."""
        match message:
            case Copy() | AskLease() | AskUnsettled() | AskRecord() | Page() | Sums():
                self.copying.hear(sender, message)
            case Copied() | Granted() | UnsettledKeys():
                self._granted(sender, incarnation, message)
            case Working():
                self.writing.working(sender, message)
            case Full():
                self.desk.questions.no_room(message.number, sender)
            case AskPage():
                self.pages.ask(sender, message)
            case AskSums():
                self.pages.ask_sums(sender, message)
            case FoundRecord():
                self.desk.questions.answered(message.number, sender)
                self.succession.found(sender, message.number, message.record)
            case FoundDamaged():
                self.mending.told(sender, message.keys)

    def _granted(self, sender: str, incarnation: int, message: Copied | Granted | UnsettledKeys) -> None:
        """Take in an answer that grants a lease, from when it was asked for, and what else it says."""
        asked = self.desk.questions.answered(message.number, sender)
        if asked is not None:
            self.leases.granted(sender, incarnation, asked.at, self.desk.duties.lease)
            self.readings.leased(sender)
        if not isinstance(message, UnsettledKeys):
            self.desk.questions.has_room(sender, not message.full)
        if isinstance(message, Copied):
            self.writing.acknowledged(sender, message.versions)
        elif isinstance(message, UnsettledKeys):
            self.takeovers.named(sender, message.keys, self.desk.duties)

    # -- a document

    def _adopt(self, duties: Duties) -> None:
        desk = self.desk
        before, served = desk.duties, desk.serves
        if duties.order <= before.order:
            return
        line = duties.lines.get(desk.me)
        named = line is not None and line.incarnation == desk.incarnation
        if self._named and line is not None and not named:  # with no line, as it has left or joins no more, it stands idle
            desk.actions.append(End("another process has the place of this one in the document"))  # M2
        is_new = named and not self._named
        self._named = self._named or named
        desk.adopt(duties)
        if named and line is not None and line.empty:
            self.grants.begin_elsewhere()
        elif is_new and line is not None and line.first:  # later on, that a loss was accepted would make it look so
            self.grants.begin_first()
        self.pause.release()
        self.succession.adopt()
        self.pages.adopt()
        kept = self.takeovers.adopt(before, duties, desk.serves)
        left = self.writing.adopt(lambda key: pair_of(duties.roles_of(key)) in kept)
        self.copying.adopt(left)
        self.grants.forget(duties, desk.now)
        self.writing.go_on()
        self.readings.adopt()
        self.clients.go_on()
        if self.stopping.holds and served and not desk.serves:
            for member in sorted(duties.lines):
                if member != desk.me:
                    desk.send(member, HelloBack(0))  # which releases this process's leases
        for received in self._later.take(duties.era):
            self._receive(received)

    # -- time

    def _tick(self) -> None:
        if self.pause.tick(self.desk.now):
            self.clients.go_on()
        self.clients.tick()
        self.writing.tick()
        self.copying.tick()
        self.readings.tick()
        self.succession.tick()
        self._stall.tick()
        self.desk.actions += self.desk.questions.complaints(self.desk.now)

    def _look(self) -> None:
        """Do what may be due after any event."""
        desk = self.desk
        if self.succession.go_on():
            self.readings.gate()
            self.clients.go_on()
            self.pages.opened()
        if self.pause.active or self.stopping.step is Step.HOLDING:
            busy = self.writing.lists()
            told = self.pause.quiet(busy)
            if told is not None:
                desk.actions.append(told)
            leave = self.stopping.look(desk.serves, bool(busy), desk.duties.era, desk.now)
            if leave is not None:
                desk.actions.append(leave)
            if self.stopping.step is Step.GONE:
                desk.actions.append(End("it was told to stop"))
        report = self.copying.report()
        if report is not None:
            desk.actions.append(report)

    @property
    def has_new(self) -> bool:
        """Whether writes were admitted and are not handed over: a `HandOver` is to follow at once."""
        return self.writing.primary.has_new

    @property
    def hurries(self) -> bool:
        """Whether keys wait for something that is due at a moment, so that `wakes_at` is to be kept to the millisecond."""
        return self.takeovers.busy or self.pause.active or self.stopping.holds

    @property
    def wakes_at(self) -> float:
        """The time at which a `Tick` is wanted, if nothing else happens."""
        at = min(
            self.clients.wakes_at,
            self.pause.wakes_at,
            self.stopping.wakes_at,
            self.succession.wakes_at,
            self.copying.wakes_at,
        )
        waits = self.writing.busy or self.takeovers.busy or self.readings.busy or self.desk.questions.waiting
        return min(at, self.desk.now + RESEND / 2) if waits else at

    @property
    def reads_until(self) -> float:
        """The time until which a record that was taken before may be told at once, if `is_settled` and not due; 0 for none."""
        return self.readings.until

    def is_settled(self, keys: Iterable[str]) -> bool:
        """Return whether no write of these keys is on its way as this process knows."""
        return not self.writing.primary.unsettled.touch(keys)

    @property
    def may_rest(self) -> bool:
        """Whether nothing but requests of clients keeps these machines at work: all lists are open that are to be, and no lease
        runs that this process has granted.
        """
        return not (self.takeovers.busy or self.grants.noted or self.pause.active or self.stopping.holds)

    @property
    def idle(self) -> bool:
        """Whether no request of a client is here, and no write or recovery under way."""
        nothing = float("inf")
        asked = min(self.clients.wakes_at, self.succession.wakes_at) < nothing or self.readings.busy
        return not asked and self.writing.idle and self.copying.granter.oldest() is None

    def vouches(self, found_orderly: bool) -> bool:
        """Return whether an orderly end says that nothing of what was in memory is lost, given what was found at the start."""
        return found_orderly or self._named  # who was never named does not speak for one before it, which may have been killed

    def may_forget(self, key: str) -> bool:
        """Return whether the tombstone of a key may go, if it is old enough."""
        return not (key in self.writing.primary.unsettled.newest or self.copying.needs(key))
