"""A member's part in copies: it gives the machines of `gkv.replication` what happens, and does what they say.

Promises: one event after the other, its actions in their order, and none of them waits; each request of a client has one
answer. Whatever has to be on the disk first comes back as an event. While no records are copied the machines rest: they answer
whoever asks whether this process is there, and decide about no key. Leaves to others: what a frame of a client means
(`gkv.node.copied_reads`, `gkv.node.copied_writes`), how words travel (`gkv.node.transport`).
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gevent
from gevent.event import Event as Flag
from gevent.hub import get_hub

from gkv.clock import boot_time
from gkv.cluster.document import Document, Durability
from gkv.cluster.duties import duties, lines_of
from gkv.cluster.placement import Placement
from gkv.cluster.view import View
from gkv.duties import Duties, Roles
from gkv.errors import EngineFailed, GkvError
from gkv.log import as_warning, say, say_exception
from gkv.node.awaited import Awaited
from gkv.node.copy_counts import CopyCounts
from gkv.node.disk import Disk
from gkv.node.fetching import Fetching
from gkv.node.listening import Listening
from gkv.node.notes import Notes
from gkv.node.rest import Rest
from gkv.node.stored import Stored
from gkv.node.takeover_news import TakeoverNews
from gkv.node.tidings import Tidings
from gkv.node.transport import Transport
from gkv.replication import actions, events
from gkv.replication.expiry import DueTime
from gkv.replication.messages import Hello
from gkv.replication.questions import USUAL, Timeouts
from gkv.replication.replica import Replica
from gkv.replication.versions import Versions

_RENEW_EVERY = 0.05
"""Seconds between two wishes for leases."""
STOPPED_WITHIN = 1.5
"""Seconds after which a process that is told to stop goes on ending, whatever its machines say: they end after 1 s."""
_TOLD_WITHIN = 0.1
"""Seconds that the last words of a process may take."""
_NEAR = 0.125
_SHORTEST = 0.001
_LONGEST = 3_600.0


class Copies:
    """The machines of one process, and what they have of it. More than 250 lines: all that comes from them and goes to them is
    bound here.
    """

    def __init__(
        self,
        me: str,
        incarnation: int,
        view: View,
        stored: Stored,
        due: DueTime,
        transport: Transport,
        notes: Notes,
        tidings: Tidings,
        on_end: Callable[[GkvError], object],
        timeouts: Timeouts = USUAL,
        fill_rate: float = 0,
        versions: Versions | None = None,
    ) -> None:
        """`on_end` is told why the process has to end; `timeouts` say when others are complained of; learners are given
        `fill_rate` records a second, 0 for as many as they ask for. `versions` are those of the writes while they rest.
        """
        self.me = me
        self._view = view
        self.disk = Disk(stored, self._handle_all, on_end)
        self._transport = transport
        self._notes = notes
        self._tidings = tidings
        self._on_end = on_end
        self.active = False
        """Whether the machines decide about all keys: they do when records are copied, and until nothing is left to do of that;
        else they rest.
        """
        self.on_active: Callable[[], object] = lambda: None
        """Called when that begins to be so."""
        self.on_rest: Callable[[], object] = lambda: None
        """Called when it ends."""
        self.rest = Rest()
        self._document: Document | None = None
        versions = versions or Versions()
        self._new_replica = partial(
            Replica, me, incarnation, stored, due, timeouts=timeouts, fill_rate=fill_rate, versions=versions
        )
        self.replica = self._new_replica(boot_time(), noted=notes.found)
        self._counts = CopyCounts()
        """Of the replicas before that one."""
        self._events: deque[Sequence[events.Event]] = deque()
        """Events that wait, those of one moment together."""
        self._handling = self._handing_over = self._broken = False
        self.listening = Listening(view, self.replica, self.handle, tidings)
        self._wakes = float("inf")
        self._alarm = Flag()
        self._renewed = 0.0
        self._stopping = False
        self._takeover_news = TakeoverNews(me)
        self._ended = Flag()
        transport.heard = self.listening.answered
        fetching = Fetching(me, view, transport)
        self._do: dict[type, Callable[[Any], None]] = {
            actions.Send: self._send,
            actions.Commit: self.disk.commit,
            actions.Replace: self.disk.replace,
            actions.Answer: self._answer,
            actions.KeepNote: self._keep_note,
            actions.Fetch: lambda action: fetching.begin(action.member),
            actions.Complain: lambda action: tidings.complain(action.member, action.fault),
            actions.Report: tidings.report,
            actions.Paused: self.listening.paused,
            actions.Leave: lambda action: tidings.leave(action.era),
            actions.End: self._end,
        }

    # -- events

    def handle(self, event: events.Event) -> None:
        """Give an event to the machines, after those that wait, and do what they say. Does not switch greenlets or raise."""
        self._handle_all((event,))

    def _handle_all(self, together: Sequence[events.Event]) -> None:
        self._events.append(together)
        if self._handling:
            return
        if self._broken:
            self._events.clear()
            return
        self._handling = True
        waiting, do = self._events, self._do
        try:
            while waiting:
                for action in self.replica.handle_all(waiting.popleft(), boot_time()):
                    do[type(action)](action)
        except GkvError as error:
            self._broken = True
            self._on_end(error)
        except Exception as error:  # noqa: BLE001 machines that have raised are not to be believed any more
            self._broken = True
            say_exception("the machines of copies have stopped by an internal error, and so the process ends")
            self._on_end(EngineFailed(f"the machines of copies have stopped: {error!r}"))
        finally:
            self._handling = False
        if self.rest.wanted and self.active and self._may_rest:
            self._begin_rest()
        if self._takeover_news.goes_on:
            self._takeover_news.tell(boot_time(), self.replica.takeovers)
        if self.replica.has_new and not self._handing_over:
            self._handing_over = True
            get_hub().loop.run_callback(self._hand_over)
        # A tick that is near looks anew, and what else is due may be as late; to ask costs a tenth of a write.
        if not self.replica.hurries and self._wakes <= boot_time() + _NEAR:
            return
        wakes = self.replica.wakes_at
        if wakes < self._wakes:
            self._wakes = wakes
            self._alarm.set()

    def _hand_over(self) -> None:
        """Have what was admitted go to the granters: all that came in one turn of the loop goes in one frame."""
        self._handing_over = False
        self.handle(events.HandOver())

    def run(self) -> None:
        """Tell the machines when time has passed. Switches greenlets, and does not end."""
        while True:
            wait = self._wakes - boot_time()
            if wait <= 0:
                self._wakes = float("inf")
                self.handle(events.Tick())
                wait = max(_SHORTEST, self._wakes - boot_time())
            self._alarm.clear()
            self._alarm.wait(min(wait, _LONGEST))

    def give_at(self, fill_rate: float) -> None:
        """Give learners so many records a second from now on."""
        self._new_replica = partial(self._new_replica, fill_rate=fill_rate)
        self.replica.pages.rate.change(fill_rate)

    # -- documents

    def prepare_for(self, document: Document) -> bool:
        """Return whether the machines begin to decide about keys by a document that is about to be in force. Those that decide
        already do not come to rest before that.
        """
        self.rest.wanted = self.rest.wanted and not document.copies_records
        return not self.active and document.copies_records

    def follow(self, document: Document, placement: Placement | None, *, foreign: bool = False) -> None:
        """Go on under a document that is on the disk and in force here now; `foreign` if it is another cluster's.

        Nothing is done about one that names this process though its records are of a later era. With the note `granted` on
        the disk at the start, leases of an earlier process may run: the machines see to that, whatever the document says.
        """
        if foreign and self.active:
            # The note may be on its way to the disk, or from there: the first grant has it written.
            self._begin_anew(self._new_replica(boot_time(), has_granted=True))
        if self._view.outdated:
            return
        self.disk.stored.follow(placement)
        self.disk.early = document.durability is Durability.ASYNC
        self._tidings.begin_anew()
        self.rest.release()
        line = self._view.line
        noted = self._document is None and self._notes.found and not (line is not None and line.is_first)
        self._document = document
        self.rest.wanted = not document.copies_records
        if not self.active and (noted or not self.rest.wanted):
            self.active = True
            self.on_active()
        if self.active and placement is not None:
            self.handle(events.Adopted(duties(document, placement, self.me)))
        elif self.active or self._view.line is not None:  # while they rest, a join that is taken back ends nothing
            self.handle(events.Adopted(_without_lists(document, self.me)))
        self._takeover_news.tell(boot_time(), self.replica.takeovers)

    def _begin_anew(self, replica: Replica) -> None:
        """Go on with machines that know of no list."""
        self._counts = self.counts
        self.replica = self.listening.replica = replica
        self._takeover_news = TakeoverNews(self.me)

    @property
    def counts(self) -> CopyCounts:
        """What was done about copies since the process began."""
        return self._counts.plus(CopyCounts.of(self.replica))

    # -- rest

    @property
    def _may_rest(self) -> bool:
        return not (self._stopping or self._broken) and self.rest.may_begin(self.replica, self.disk, boot_time())

    def _begin_rest(self) -> None:
        """Have the machines decide about no key any more: new ones know of no list, and answer that this process is there."""
        document = self._document
        assert document is not None  # noqa: S101  # they have decided by one
        self.active = False
        self._begin_anew(self._new_replica(boot_time()))
        self.on_rest()
        self.rest.release()
        self.handle(events.Adopted(_without_lists(document, self.me)))

    @property
    def serves(self) -> bool:
        """Whether this process is the one in the document, and not down there."""
        return self.replica.desk.serves

    def reach(self) -> tuple[int, ...]:
        """Return the processes of members that have answered lately; ask all that are not down, while this one is to be
        admitted (A3).
        """
        desk = self.replica.desk
        if not self.active or desk.serves:
            return ()
        for member, line in desk.duties.lines.items():
            if member != self.me and not line.down:
                self._send(actions.Send(member, desk.duties.era, Hello(0)))
        return self._tidings.reached(boot_time(), {line.incarnation for line in desk.duties.lines.values()})

    def vouches(self, found_orderly: bool) -> bool:
        """Return whether the end of this process may be noted as an orderly one (see `Replica.vouches`)."""
        return self.active and self.replica.vouches(found_orderly)

    # -- reads that need not wait

    def age_of(self, keys: Sequence[str], now: float) -> float | None:
        """Return for how many seconds this copy may not have heard a primary of these keys, None if one is not known, or if it
        is this process and has not all leases.

        Raise LookupError if it does not act for one of them.
        """
        duties = self.replica.desk.duties
        ages: list[float | None] = []
        for roles in duties.all_roles_of(keys):
            if self.me not in roles.acting or roles.primary is None:
                raise LookupError
            incarnation = duties.incarnation_of(roles.primary)
            if roles.primary == self.me:
                ages.append(0.0 if now < self.replica.reads_until else None)
            else:
                at = self.replica.grants.last_receipt(roles.primary, incarnation or 0, duties.lease)
                ages.append(None if at is None else now - at)
        known = [age for age in ages if age is not None]
        return max(known, default=0.0) if len(known) == len(ages) else None

    def is_settled(self, keys: Sequence[str]) -> bool:
        """Return whether no write of these keys is on its way."""
        return self.replica.is_settled(keys) and not (self.disk.early and self.disk.stored.touch(keys))

    def may_tell(self) -> bool:
        """Return whether what was read from the disk just now may be told, if `is_settled` holds and nothing was due."""
        now, until = boot_time(), self.replica.reads_until
        if now >= until:
            return False
        if until - now < self.replica.desk.duties.lease / 2 and now - self._renewed >= _RENEW_EVERY:
            self._renewed = now
            self.handle(events.LeasesWanted())
        return True

    # -- the end

    def stop(self) -> None:
        """Hand the keys over, as the process is about to end: return after 1 s in any case. Switches greenlets."""
        if not self.active or not self.serves:
            return
        self._stopping = self.disk.closing = True
        self.handle(events.StopAsked())
        if not self._ended.wait(STOPPED_WITHIN):
            say(as_warning(f"{self.me}: it ends without having handed its keys over"))
        until = boot_time() + _TOLD_WITHIN
        while not self._transport.idle and boot_time() < until:
            gevent.sleep(0.002)

    # -- actions

    def _send(self, action: actions.Send) -> None:
        if not self.listening.answer(action):
            self._transport.send(action)

    def _answer(self, action: actions.Answer) -> None:
        client = action.client
        assert isinstance(client, Awaited)  # noqa: S101  # nobody else asks
        client.come(action)

    def _keep_note(self, action: actions.KeepNote) -> None:
        self._notes.keep(action.there, lambda: self.handle(events.NoteKept(action.there)))

    def _end(self, action: actions.End) -> None:
        if self._stopping:
            self._ended.set()
        else:
            self._on_end(self.disk.error or EngineFailed(f"{self.me}: {action.why}"))


def _without_lists(document: Document, me: str) -> Duties:
    """Return what a member's machines know of a document while they rest, or the ring has nobody yet: all keys are of one
    list, for which nobody acts.
    """
    return Duties(
        me,
        document.order,
        lines_of(document),
        (Roles((), ()),),
        lambda keys: [0] * len(keys),
        document.lease_ms / 1_000,
        document.needed,
    )
