"""Reads of a primary (section "A read"): records that were taken wait until they are settled; then
they may be told if their lists have been open since, and every granter's lease is valid now.
"""

from collections.abc import Callable, Hashable, Sequence

from gkv.replication.actions import Answer, Fate, KeyAnswer
from gkv.replication.desk import Desk
from gkv.replication.events import LeasesAsked, Pair
from gkv.replication.leases import Leases
from gkv.replication.messages import AskLease
from gkv.replication.primary import Underway
from gkv.replication.questions import RESEND
from gkv.replication.request import MOST_WAITING
from gkv.replication.takeover import Takeovers


class Reading:
    """Records that were taken and may not be told yet."""

    __slots__ = ("deadline", "lists", "on_over", "reigns", "waits")

    def __init__(
        self, lists: Sequence[Pair], reigns: list[int | None], deadline: float, on_over: Callable[[bool], None]
    ) -> None:
        self.lists = lists
        self.deadline = deadline
        self.reigns = reigns
        """For each list, since when it is open without a break."""
        self.on_over: Callable[[bool], None] | None = on_over
        """Called once, with whether what was taken may be told."""
        self.waits: set[Underway] = set()

    def end(self, may_tell: bool) -> None:
        """Tell whoever reads, once, and wait for nothing any more."""
        for underway in self.waits:
            underway.on_over.pop(self, None)
        self.waits = set()
        if self.on_over is not None:
            on_over, self.on_over = self.on_over, None
            on_over(may_tell)


class Readings:
    """All reads of one process."""

    def __init__(self, desk: Desk, takeovers: Takeovers, leases: Leases) -> None:
        self._desk = desk
        self._takeovers = takeovers
        self._leases = leases
        self._readings: dict[Reading, None] = {}
        """All that are not over."""
        self._unleased: dict[Reading, None] = {}
        """Those that are settled, and without a lease of every granter."""
        self._asked: dict[str, float] = {}
        self.unleased = 0
        """Reads that had to wait for a lease, ever."""
        self._granters: tuple[str, ...] | None = None
        """Of all lists of which this process is the primary; None if one of them is closed, or there is none."""
        self.until = 0.0
        """The time until which every such list is open and has a lease of every granter: infinity if there is none, 0 if not.

        A record that is taken under this document, and is settled, may be told if the time has not come when it was taken.
        """
        self._asking: dict[Hashable, float] = {}
        """Clients that wait for that time to be later than now, and their deadlines."""

    def gate(self) -> None:
        """Note that lists may have been opened or closed."""
        desk = self._desk
        mine = [(pair, roles) for pair, roles in desk.roles.items() if desk.mine(roles)]
        is_open = bool(mine) and all(self._takeovers.reign(pair) is not None for pair, _ in mine)
        self._granters = tuple({one: None for _, roles in mine for one in roles.granters}) if is_open else None
        self._look_at_leases()

    def _look_at_leases(self) -> None:
        granters = self._granters
        self.until = 0.0 if granters is None else self._leases.until(granters, self._desk.duties)
        if self._asking:
            self._look_at_asking()

    def ask(self, asked: LeasesAsked) -> None:
        """Take in that a client waits until it may look for all keys of this process."""
        if len(self._asking) >= MOST_WAITING:
            self._tell(asked.client, Fate.BUSY)
            return
        self._asking[asked.client] = asked.deadline
        self._look_at_asking()

    def _look_at_asking(self) -> None:
        """Tell whoever waits, or ask for the leases that are missing."""
        desk, now = self._desk, self._desk.now
        if now < self.until:
            fate = Fate.READ
        elif not any(desk.mine(roles) for roles in desk.roles.values()):
            fate = Fate.NOT_BEGUN
        else:
            for granter in self._leases.missing(self._granters or (), desk.duties, now):
                self._ask(granter)
            return
        asking, self._asking = self._asking, {}
        for client in asking:
            self._tell(client, fate)

    def _tell(self, client: Hashable, fate: Fate) -> None:
        self._desk.actions.append(Answer(client, (KeyAnswer(fate),)))

    def renew(self) -> None:
        """Ask for the leases of which less than half is left, so that reads go on without waiting for one."""
        desk = self._desk
        for granter in self._granters or ():
            if self._leases.until((granter,), desk.duties) - desk.now < desk.duties.lease / 2:
                self._ask(granter)

    def begin(
        self,
        lists: Sequence[Pair],
        waits: Sequence[Underway | None],
        deadline: float,
        on_over: Callable[[bool], None],
    ) -> None:
        """Note what was taken just now: the newest records of keys of these lists, with the writes that bring them."""
        reading = Reading(lists, self._reigns(lists), deadline, on_over)
        reading.waits = self._waited_for(waits)

        def over(underway: Underway, settled: bool) -> None:
            reading.waits.discard(underway)
            if not settled:
                self._end(reading, False)
            elif not reading.waits:
                self._look(reading)

        for underway in reading.waits:
            underway.on_over[reading] = over
        if reading.waits:
            self._readings[reading] = None
        else:
            self._look(reading)

    def _waited_for(self, waits: Sequence[Underway | None]) -> set[Underway]:
        """Return the writes that have to be settled first: those that bring what was taken, and no later ones (F13)."""
        return {underway for underway in waits if underway is not None}

    def _reigns(self, lists: Sequence[Pair]) -> list[int | None]:
        return [self._takeovers.reign(pair) for pair in lists]

    def _look(self, reading: Reading) -> None:
        reigns = self._reigns(reading.lists)
        if None in reigns or reigns != reading.reigns:
            self._end(reading, False)
            return
        missing = self._missing(reading)
        if not missing:
            self._end(reading, True)
            return
        self.unleased += reading not in self._unleased
        self._readings[reading] = self._unleased[reading] = None
        for granter in missing:
            self._ask(granter)

    def _end(self, reading: Reading, may_tell: bool) -> None:
        self._readings.pop(reading, None)
        self._unleased.pop(reading, None)
        reading.end(may_tell)

    def _missing(self, reading: Reading) -> list[str]:
        """Return the granters whose lease is not valid now, learners too."""
        duties = self._desk.duties
        granters = {granter for pair in reading.lists for granter in self._desk.roles[pair].granters}
        return self._leases.missing(sorted(granters), duties, self._desk.now)

    def _ask(self, granter: str) -> None:
        if self._desk.now - self._asked.get(granter, -RESEND) >= RESEND:
            self._asked[granter] = self._desk.now
            self._desk.send(granter, AskLease(self._desk.ask(granter)))

    def look(self) -> None:
        """Look at all that have no lease, as there is a new one, another document, or time has passed."""
        for reading in list(self._unleased):
            self._look(reading)

    def tick(self) -> None:
        """Look at them, and end those whose deadline is over."""
        for reading in [one for one in self._readings if one.deadline <= self._desk.now]:
            self._end(reading, False)
        for client in [one for one, deadline in self._asking.items() if deadline <= self._desk.now]:
            del self._asking[client]
            self._tell(client, Fate.LATE)
        if self._asking:
            self._look_at_asking()
        self.look()

    def adopt(self) -> None:
        """Go on under another document."""
        self._asked = {}
        self.gate()
        self.look()

    def leased(self, granter: str) -> None:
        """Go on with a granter's new lease."""
        self._asked.pop(granter, None)
        self._look_at_leases()
        self.look()

    @property
    def busy(self) -> bool:
        return bool(self._readings or self._asking)
