"""Pages of records for learners, which a primary reads as it does for a client (L3)."""

from collections.abc import Callable

from gkv.model import Damage, Record
from gkv.replication.desk import Desk
from gkv.replication.messages import AskPage, Page
from gkv.replication.reading import Readings
from gkv.replication.records import PAGE, Records
from gkv.replication.takeover import Takeovers
from gkv.replication.writing import Writing

PATIENCE = 1.0
"""Seconds after which a page is given up; the learner asks again."""


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
    ) -> None:
        self._desk = desk
        self._records = records
        self._writing = writing
        self._takeovers = takeovers
        self._readings = readings
        self._recover = recover

    def ask(self, sender: str, asked: AskPage) -> None:
        """Answer a learner of an open list once all of the page is settled (F9); else not at all, and it asks again."""
        pair = (asked.preference, asked.coming)
        roles = self._desk.roles.get(pair)
        if roles is None or sender not in roles.learners or self._takeovers.reign(pair) is None:
            return
        keys, upto = self._records.walk(pair, asked.after, PAGE, asked.upto)
        found = self._writing.newest(keys)
        damaged = [key for key, (record, _) in zip(keys, found, strict=True) if isinstance(record, Damage)]
        if damaged:
            for key in damaged:
                self._recover(key)
            return
        records = tuple([(key, record) for key, (record, _) in zip(keys, found, strict=True) if isinstance(record, Record)])

        def over(may_tell: bool) -> None:
            if may_tell:
                self._desk.send(sender, Page(asked.number, records, upto))

        self._readings.begin([pair], [underway for _, underway in found], self._desk.now + PATIENCE, over)
