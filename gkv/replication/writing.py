"""The hand-over of a primary's writes: a version each, to all granters and to the own commit when the process
has taken in whatever came with them, so that one frame brings all of it (W2, W3); sent again until they are
acknowledged (W7), and told when they are settled (W5).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from gkv.model import Damage, Effect, Record, Value, Version, Write
from gkv.replication.actions import Commit, Fate
from gkv.replication.desk import Desk
from gkv.replication.events import Pair, pair_of
from gkv.replication.expiry import DueTime
from gkv.replication.messages import Copy, Question, Working
from gkv.replication.primary import OnOver, Primary, Underway, size_of
from gkv.replication.questions import RESEND
from gkv.replication.records import Records
from gkv.replication.versions import Versions

MOST_UNSETTLED, MOST_UNSETTLED_BYTES = 10_000, 1 << 26
"""Writes, and bytes of their values: a granter that is silent is gone before, unless the authority is away."""
AGAIN = 2.0
"""Seconds after which writes are sent again to a granter that works at them, or a fourth of the disk timeout."""
MOST_AT_ONCE, MOST_BYTES_AT_ONCE = 64, 1 << 20
"""Writes in one frame, and bytes that they take if it is more than one."""
MOST_ANEW = 256
"""Keys in one write of a takeover."""

_Item = TypeVar("_Item")
Newest = tuple[Record | Damage | None, Underway | None]
"""The newest admitted record of a key, and the write that brings it, unless it is settled."""


class Writing:
    """The writes of one process in its part as a primary."""

    def __init__(self, desk: Desk, records: Records, due: DueTime, versions: Versions | None = None) -> None:
        self._desk = desk
        self._records = records
        self._due = due
        self._versions = versions or Versions()
        self._told_at: dict[str, float] = {}
        self._uncommitted: dict[int, float] = {}
        """By token, writes for which the own disk had no room, and since when."""
        self.primary = Primary()
        self.lost: set[str] = set()
        """Keys whose record is damaged here and could be had from nobody (`Recoveries`), until they are written."""
        self.recovering: set[str] = set()
        """Keys whose record is asked of others (`Recoveries`), until they are written."""

    def time_of_day(self) -> int:
        """Return the time in ms by which values are due now."""
        return self._due.at(int(self._desk.now * 1000))

    def newest(self, keys: Sequence[str]) -> list[Newest]:
        """Return the newest admitted record of each key, due or not."""
        unsettled = self.primary.unsettled
        others = [key for key in keys if key not in unsettled.newest]
        stored = dict(zip(others, self._records.newest(others), strict=True)) if others else {}
        found: list[Newest] = []
        for key in keys:
            underway = unsettled.newest.get(key)
            found.append((stored[key], None) if underway is None else (unsettled.record(underway, key), underway))
        return found

    # -- handing over

    def admit(
        self,
        keys: Sequence[str],
        values: Sequence[Value | None],
        expires: Sequence[int] = (),
        tags: Sequence[Version | None] = (),
        on_over: OnOver | None = None,
    ) -> Underway:
        """Admit a plain write; `hand_over` is to follow."""
        desk = self._desk
        if self.lost:
            self.lost.difference_update(keys)
        if self.recovering:
            self.recovering.difference_update(keys)
        version = self._versions.next(desk.duties.era)
        write = Write(version, keys, values, expires, tags, self.time_of_day())
        return self.primary.admit(write, desk.duties, desk.token(), on_over)

    def hand_over(self) -> None:
        """Send the granters what was admitted since the last time, and then have it committed here: it takes the longer way
        first.
        """
        new, found = self.primary.take_new(self._desk.now)
        self._send_all(found)
        self._desk.actions += [Commit(underway.token, underway.write) for underway in new]

    def expire(self, keys: Sequence[str]) -> Underway:
        """Admit the tombstones of values that are due, whatever min_in_sync says."""
        return self.admit(keys, [None] * len(keys))

    def write_anew(self, records: Iterable[tuple[str, Record | None]]) -> None:
        """Write records, or absences as tombstones, anew: their order is new, their tag is kept (T3).

        In several writes if they are many or large, as a frame brings a write whole.
        """
        for some in _bounded(records, _size_of_value, MOST_ANEW):
            self._write_anew(some)

    def _write_anew(self, found: Sequence[tuple[str, Record | None]]) -> None:
        self.admit(
            [key for key, _ in found],
            [None if record is None else record.value for _, record in found],
            [0 if record is None else record.expires for _, record in found],
            [None if record is None else record.tag for _, record in found],
        )

    def _send_all(self, found: Mapping[str, Sequence[Write]]) -> None:
        for granter, writes in found.items():
            for some in _bounded(writes, size_of, MOST_AT_ONCE):
                self._send(granter, tuple(some))

    def _send(self, granter: str, writes: tuple[Write, ...]) -> None:
        settled = self.primary.take_untold(granter)
        self._told_at[granter] = self._desk.now
        number = self._desk.ask(granter, settled, tuple([write.version for write in writes]))
        self._desk.send(granter, Copy(number, writes, settled))

    # -- settling

    def committed(self, token: int, effects: Sequence[Effect] = ()) -> None:
        """Note that the own disk has a write, and what that did to its keys."""
        self._uncommitted.pop(token, None)
        self._over(self.primary.committed(token, effects))

    def no_room(self, token: int) -> None:
        """Note that the own disk had no room for a write, though it was looked for before: others may have it, so it is not
        taken back (W10) but tried again and again, and stays unsettled meanwhile.
        """
        if self.primary.by_token(token) is not None:
            self._uncommitted[token] = self._desk.now

    def has_room(self, size: int, keys: int) -> bool:
        """Return whether the own disk has room for values (W1)."""
        return not self._uncommitted and self._records.has_room(size, keys)

    def working(self, granter: str, word: Working) -> None:
        """Note that a granter works at what it was sent: that goes again in a while, to hear for how long it has."""
        questions = self._desk.questions
        asked = questions.working(word.number, granter, word.seconds)
        if asked is not None:
            again = max(RESEND, min(AGAIN, questions.timeouts.disk / 4))
            self.primary.arrived(granter, asked.versions, self._desk.now + again - RESEND)

    def acknowledged(self, granter: str, versions: Sequence[Version]) -> None:
        """Note that a granter's disk has writes, by an answer under the document of now."""
        self._over(self.primary.acknowledged(granter, versions))

    def _over(self, settled: Iterable[Underway]) -> None:
        for underway in settled:
            _tell(underway, True)

    def fates(self, keys: Sequence[str], settled: bool) -> Sequence[Fate]:
        """Return what becomes of keys of a write that is settled, or that is this process's no longer (W6, W8, F8)."""
        if settled and not self._desk.is_short:
            return [Fate.WRITTEN] * len(keys)
        duties = self._desk.duties
        lists = duties.lists_of(keys) if settled else ()
        kept = {one for one in set(lists) if self._desk.is_enough(duties.roles[one])}
        return [Fate.WRITTEN if one in kept else Fate.INDETERMINATE for one in lists or [-1] * len(keys)]

    # -- another document, and time

    def adopt(self, keeps: Callable[[str], bool]) -> dict[str, Version]:
        """Go on under the document of now; return the keys that this process stops being the primary of, unsettled (W8)."""
        questions, own = self._desk.questions, self._desk.duties.own
        for asked in questions.begin_anew():
            self.primary.tell_again(asked.member, asked.settled)
        questions.full &= {granter for one in own if one.primary == self._desk.me for granter in one.granters}
        lost, left = self.primary.adopt(self._desk.duties, keeps)
        for underway in lost:
            _tell(underway, False)
        return left

    def go_on(self) -> None:
        """Send all that is unsettled to the granters of the document of now (W7)."""
        self._over(self.primary.check_settled())
        self.tick()

    def tick(self) -> None:
        """Send again what has no answer, and tell what nobody was told with a frame."""
        now = self._desk.now
        for token in [token for token, since in self._uncommitted.items() if now - since >= RESEND]:
            del self._uncommitted[token]
            underway = self.primary.by_token(token)
            if underway is not None:
                self._desk.actions.append(Commit(token, underway.write))
        for asked in self._desk.questions.lost(now):
            self.primary.tell_again(asked.member, asked.settled)
        self._send_all(self.primary.unsent(now, RESEND))
        for granter in dict.fromkeys([*self.primary.untold(), *sorted(self._desk.questions.full)]):
            if now - self._told_at.setdefault(granter, now) >= RESEND:
                self._send(granter, ())  # of a full one, to hear whether it is so still

    def lists(self) -> set[Pair]:
        """Return the lists in which a write is under way."""
        return {pair_of(roles) for roles in self._desk.duties.all_roles_of(list(self.primary.unsettled.newest))}

    @property
    def crowded(self) -> bool:
        """Whether so much is unsettled that no client's write is begun."""
        return len(self.primary) >= MOST_UNSETTLED or self.primary.size >= MOST_UNSETTLED_BYTES

    @property
    def idle(self) -> bool:
        """Whether no write is under way, nor anything to be told about one."""
        return not (self.primary.has_new or self._uncommitted or len(self.primary) or self.primary.untold())

    @property
    def busy(self) -> bool:
        """Whether time alone may bring something to send."""
        return bool(len(self.primary) or self.primary.untold() or self._desk.questions.full)


def is_large(question: Question) -> bool:
    """Return whether a call brings more than one frame's share of bytes."""
    return isinstance(question, Copy) and sum(map(size_of, question.writes)) > MOST_BYTES_AT_ONCE


def _size_of_value(row: tuple[str, Record | None]) -> int:
    _, record = row
    return 0 if record is None or record.value is None else len(record.value)


def _bounded(items: Iterable[_Item], size: Callable[[_Item], int], most: int) -> Iterator[list[_Item]]:
    """Yield items in groups, in their order: at most so many together, and `MOST_BYTES_AT_ONCE` if it is more than one."""
    some: list[_Item] = []
    total = 0
    for item in items:
        more = size(item)
        if some and (len(some) == most or total + more > MOST_BYTES_AT_ONCE):
            yield some
            some, total = [], 0
        some.append(item)
        total += more
    if some:
        yield some


def _tell(underway: Underway, settled: bool) -> None:
    """Tell whoever waits for a write, once."""
    waiting, underway.on_over = underway.on_over, {}
    for one in waiting.values():
        one(underway, settled)
