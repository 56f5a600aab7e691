"""What a primary gives to its learners: sums of records, and records, which it reads as it does for a client (L3)."""

from collections.abc import Callable, Collection, Sequence
from math import inf

from gkv.model import Damage, Record
from gkv.replication.desk import Desk
from gkv.replication.events import Pair, pair_of
from gkv.replication.messages import AskPage, AskSums, Page, Sums
from gkv.replication.reading import Readings
from gkv.replication.records import PAGE, Records
from gkv.replication.takeover import Takeovers
from gkv.replication.writing import Writing

PATIENCE = 1.0
"""Seconds after which a page is given up; the learner asks again."""


_LARGE = 12
"""Each 4 KiB of a value count as one more record."""
AT_ONCE, LEAST = 0.03, 16
"""Seconds whose records go together in a page, and the least of them: what a page takes, clients wait for."""
LATE = 0.125
"""Seconds that a learner may ask later than it might have, and be given as much as if it had not: its alarm is no better."""
LOOKS = 16
"""Records that are only looked at as they are the same count as much as one that is given."""


class Rate:
    """How many records a source gives in a second, to all learners together."""

    def __init__(self, rate: float) -> None:
        """`rate` is in records a second, 0 for no bound."""
        self.change(rate)

    def change(self, rate: float) -> None:
        """Go on at another rate: what was given by the one before is over with."""
        self.rate = rate
        self.page = max(LEAST, min(PAGE, int(rate * AT_ONCE))) if rate else PAGE
        """Records that are looked at for one page."""
        self._paid_at = -inf
        """The time at which all that was given is within the rate."""

    def give(self, records: int, looked_at: int, now: float) -> float:
        """Note that so many are given of those that were looked at; return for how many seconds no more are to be asked for."""
        if not self.rate:
            return 0.0
        begun = self._paid_at if now - self._paid_at <= LATE else now
        self._paid_at = begun + max(records, looked_at / LOOKS) / self.rate
        return max(0.0, self._paid_at - now)


class Pages:
    """What one process does for its learners."""

    def __init__(
        self,
        desk: Desk,
        records: Records,
        writing: Writing,
        takeovers: Takeovers,
        readings: Readings,
        recover: Callable[[str], None],
        rate: float,
    ) -> None:
        self._desk = desk
        self._records = records
        self._writing = writing
        self._takeovers = takeovers
        self._readings = readings
        self._recover = recover
        self.rate = Rate(rate)
        self._early: dict[tuple[str, Pair], AskPage | AskSums] = {}
        """By learner and list, the last question about one that was not open yet: it is answered when it is."""
        self._pace = Rate(0)
        """For a change of the ring that has a rate of its own."""
        self.given = 0
        """Records that learners were given since the process began."""

    def adopt(self) -> None:
        """Go on under another document: learners ask anew."""
        self._early.clear()

    def opened(self) -> None:
        """Answer the questions about lists that have been opened."""
        early, self._early = self._early, {}
        for (sender, _), asked in early.items():
            if isinstance(asked, AskSums):
                self.ask_sums(sender, asked)
            else:
                self.ask(sender, asked)

    def _may_tell(self, sender: str, pair: Pair, asked: AskPage | AskSums) -> bool:
        """Return whether this process may tell a member what is in a list; what is asked too early is kept."""
        roles = self._desk.roles.get(pair)
        if roles is None or sender not in roles.learners or not self._desk.mine(roles):
            return False
        if self._takeovers.reign(pair) is None:
            self._early[sender, pair] = asked
            return False
        return True

    def ask_sums(self, sender: str, asked: AskSums) -> None:
        """Tell a learner of an open list the sums of its next parts, but for those with a key that is not settled (F9): who has
        such a record already would not know that it is not.
        """
        pair = (asked.preference, asked.coming)
        if not self._may_tell(sender, pair, asked):
            return
        parts = self._records.sums(pair, asked.after, self._unsettled())
        answer = Sums(asked.number, tuple(parts.sums))

        def over(may_tell: bool) -> None:
            if may_tell:
                self._desk.send(sender, answer)

        self._readings.begin([pair], (), self._desk.now + PATIENCE, over)

    def _unsettled(self) -> Collection[str]:
        return self._writing.primary.unsettled.newest.keys()

    def ask(self, sender: str, asked: AskPage) -> None:
        """Answer a learner of an open list once all of the page is settled (F9); else not at all, and it asks again.

        What is damaged is recovered first; of what is lost the page has the key alone.
        """
        pair = (asked.preference, asked.coming)
        if not self._may_tell(sender, pair, asked):
            return
        rate = self._rate_for(sender, pair)
        rows = self._records.look(pair, asked.ranges, rate.page)
        there = {**self._named(asked.named, pair), **rows.records}
        unsettled = self._writing.primary.unsettled
        waits = {key: unsettled.newest[key] for key in there if key in unsettled.newest}
        found = {**there, **{key: unsettled.record(underway, key) for key, underway in waits.items()}}
        damaged = [key for key, record in found.items() if isinstance(record, Damage)]
        if not self._may_name(damaged):
            return
        records = [(key, record) for key, record in found.items() if isinstance(record, Record)]
        places = {fingerprint: place for place, fingerprint in enumerate(asked.known)}
        same, others = [], []
        for row, fingerprint in zip(records, self._records.fingerprints(records), strict=True):
            place = places.get(fingerprint)
            if place is None:
                others.append(row)
            else:
                same.append(place)

        def over(may_tell: bool) -> None:
            if may_tell:
                large = sum([len(record.value) >> _LARGE for _, record in others if record.value is not None])
                rest = rate.give(len(others) + large, len(found), self._desk.now)
                self.given += len(others)
                page = Page(asked.number, tuple(others), tuple(same), rows.whole, rows.upto, rest, tuple(damaged))
                self._desk.send(sender, page)

        self._readings.begin([pair], list(waits.values()), self._desk.now + PATIENCE, over)

    def _rate_for(self, sender: str, pair: Pair) -> Rate:
        """Return the rate at which a learner is given what is in a list."""
        wanted = self._desk.duties.pace.rate
        if wanted is None or sender in pair[0]:
            return self.rate
        if self._pace.rate != wanted:
            self._pace.change(wanted)
        return self._pace

    def _named(self, keys: Sequence[str], pair: Pair) -> dict[str, Record | Damage]:
        """Return what there is of these keys of a list, be it where a look finds it or not."""
        mine = [key for key in keys if pair_of(self._desk.duties.roles_of(key)) == pair]
        found = zip(mine, self._records.newest(mine), strict=True)
        return {key: record for key, record in found if record is not None}

    def _may_name(self, damaged: Sequence[str]) -> bool:
        """Return whether all of these keys are lost; have the records of the others recovered."""
        lost = self._writing.lost
        for key in damaged:
            if key not in lost:
                self._recover(key)
        return lost.issuperset(damaged)
