"""The requests of a primary's clients: admitted, made to wait, answered exactly once (W1, W2, W6, W8, W9)."""

from collections.abc import Callable, Sequence

from gkv.model import Damage, Record, Roles, Value
from gkv.replication.actions import Fate, KeyAnswer
from gkv.replication.admission import Verdict
from gkv.replication.desk import Desk
from gkv.replication.events import Judge, Pair, ReadAsked, WriteAsked, pair_of
from gkv.replication.expiry import is_due
from gkv.replication.pause import Pause, Stopping
from gkv.replication.primary import Underway
from gkv.replication.reading import Readings
from gkv.replication.request import Request, Waits
from gkv.replication.takeover import Takeovers
from gkv.replication.writing import Newest, Writing

_Written = tuple[int, Verdict, Record | None]
"""The place of a key that is to be written, the decision, and what was there."""


class Clients:
    """All requests of the clients of one process."""

    def __init__(
        self,
        desk: Desk,
        writing: Writing,
        takeovers: Takeovers,
        readings: Readings,
        pause: Pause,
        stopping: Stopping,
        recover: Callable[[str], None],
    ) -> None:
        self._desk = desk
        self._writing = writing
        self._takeovers = takeovers
        self._readings = readings
        self._pause = pause
        self._stopping = stopping
        self._recover = recover
        self._waits = Waits()

    # -- requests

    def ask(self, asked: ReadAsked | WriteAsked) -> None:
        """Take in a request."""
        request = Request(asked)
        self._waits.add(request)
        self._begin(request)

    def _begin(self, request: Request) -> None:
        duties = self._desk.duties
        todo: list[int] = []
        for place, key in enumerate(request.keys):
            if request.answers[place] is None and place not in request.begun:
                if self._desk.mine(duties.roles_of(key)):
                    todo.append(place)
                else:
                    request.answers[place] = KeyAnswer(Fate.NOT_BEGUN)
        judge = request.judge
        ready = [place for place in todo if self._may_begin(duties.roles_of(request.keys[place]), judge is not None)]
        if len(ready) < len(todo):
            self._wait(request)
        if judge is None:
            self._begin_read(request, ready)
        elif len(ready) == len(todo):
            self._begin_write(request, todo, judge)
        self._finish(request)

    def _may_begin(self, roles: Roles, writes: bool) -> bool:
        """Return whether a request for keys of a list need not wait: for its opening, or a plan's end if it writes."""
        pair = pair_of(roles)
        return self._takeovers.reign(pair) is not None and not (writes and self._held(pair))

    def _held(self, pair: Pair) -> bool:
        return self._pause.holds(pair) or self._stopping.holds

    def _wait(self, request: Request) -> None:
        if not self._waits.wait(request):
            self._give(request, Fate.BUSY)

    def _intact(self, request: Request, places: Sequence[int]) -> list[Newest] | None:
        """Take the newest records; None if one of them has to be recovered first."""
        found = self._writing.newest([request.keys[place] for place in places])
        damaged = [request.keys[place] for place, (record, _) in zip(places, found, strict=True) if isinstance(record, Damage)]
        recovering = [key for key in damaged if key not in request.given_up]
        if recovering:
            self._wait(request)
            for key in recovering:
                self._recover(key)
            return None
        return found

    # -- reads

    def _begin_read(self, request: Request, todo: list[int]) -> None:
        found = self._intact(request, todo) if todo and not request.is_over else None
        if found is None:
            return
        now = self._writing.time_of_day()
        due = [
            request.keys[place]
            for place, (record, _) in zip(todo, found, strict=True)
            if isinstance(record, Record) and is_due(record, now)
        ]
        if due:
            if any(self._held(pair_of(self._desk.duties.roles_of(key))) for key in due):
                self._wait(request)
                return
            self._writing.expire(due)
            found = self._writing.newest([request.keys[place] for place in todo])
        self._read_part(
            request,
            todo,
            [underway for _, underway in found],
            [_as_read(record) for record, _ in found],
        )

    def _read_part(self, request: Request, places: list[int], waits: list[Underway | None], answers: list[KeyAnswer]) -> None:
        if not places:
            return
        request.parts += 1
        request.begun.update(places)

        def over(may_tell: bool) -> None:
            for place, answer in zip(places, answers, strict=True):
                request.answers[place] = answer if may_tell else KeyAnswer(Fate.NOT_BEGUN)
            self._end_part(request)

        duties = self._desk.duties
        lists = dict.fromkeys(pair_of(duties.roles_of(request.keys[place])) for place in places)
        self._readings.begin(list(lists), waits, request.deadline, over)

    # -- writes

    def _begin_write(self, request: Request, todo: list[int], judge: Judge) -> None:
        duties = self._desk.duties
        if self._writing.crowded:
            self._give(request, Fate.BUSY)
            return
        begun = [place for place in todo if len(duties.roles_of(request.keys[place]).acting) >= duties.min_in_sync]
        found: list[Newest] | None = [(None, None)] * len(begun)
        if request.depends:
            found = self._intact(request, begun)
        if found is None:
            return
        for place in set(todo).difference(begun):
            request.answers[place] = KeyAnswer(Fate.TOO_FEW_COPIES)
        now = self._writing.time_of_day()
        written: list[_Written] = []
        nothing: list[tuple[int, Verdict, Underway | None]] = []
        for place, (record, underway) in zip(begun, found, strict=True):
            if isinstance(record, Damage):
                request.answers[place] = KeyAnswer(Fate.DAMAGED)
                continue
            verdict = judge(place, record, now)
            if verdict.effect is not None:
                nothing.append((place, verdict, underway))
            elif full := self._full(request.keys[place], verdict):
                request.answers[place] = KeyAnswer(Fate.FULL, member=full)
            else:
                written.append((place, verdict, record))
        written = self._with_room(request, written)
        if written:
            self._write_part(request, written)
        waits = [underway for _, _, underway in nothing]
        expired = [request.keys[place] for place, verdict, _ in nothing if verdict.expired]
        if expired:
            waits.append(self._writing.expire(expired))
        answers = [KeyAnswer(Fate.NOTHING, verdict=verdict) for _, verdict, _ in nothing]
        self._failed_part(request, [place for place, _, _ in nothing], waits, answers)

    def _full(self, key: str, verdict: Verdict) -> str | None:
        """Return a granter of a key that has no room for its value (W1); a tombstone uses the reserve."""
        full = self._desk.questions.full
        if not full or verdict.value is None:
            return None
        return next((one for one in self._desk.duties.roles_of(key).granters if one in full), None)

    def _with_room(self, request: Request, written: list[_Written]) -> list[_Written]:
        """Return what may be written, given the room on the own disk (W1): all, or what brings no value."""
        sizes = [len(verdict.value) for _, verdict, _ in written if verdict.value is not None]
        if not sizes or self._writing.has_room(sum(sizes), len(sizes)):
            return written
        for place, verdict, _ in written:
            if verdict.value is not None:
                request.answers[place] = KeyAnswer(Fate.FULL, member=self._desk.me)
        return [one for one in written if one[1].value is None]

    def _failed_part(self, request: Request, places: list[int], waits: list[Underway | None], answers: list[KeyAnswer]) -> None:
        """Answer what a judgement left undone: that is a read of the record that was judged (W9, F11)."""
        self._read_part(request, places, waits, answers)

    def _write_part(self, request: Request, written: list[_Written]) -> None:
        request.parts += 1
        values: list[Value | None] = [verdict.value for _, verdict, _ in written]
        expires = [verdict.expires for _, verdict, _ in written]

        def over(underway: Underway, settled: bool) -> None:
            effects = underway.effects or (None,) * len(written)
            for (place, verdict, record), effect in zip(written, effects, strict=True):
                fate = self._fate(request.keys[place], settled)
                request.answers[place] = KeyAnswer(fate, record, verdict, effect=effect)
            self._end_part(request)

        request.written = frozenset([place for place, _, _ in written])
        request.begun |= request.written
        keys = [request.keys[place] for place, _, _ in written]
        request.version = self._writing.admit(keys, values, expires if any(expires) else (), on_over=over).write.version

    def _fate(self, key: str, settled: bool) -> Fate:
        """Return what becomes of a key of a write that is settled, or that is this process's no longer (W6, W8, F8)."""
        duties = self._desk.duties
        if settled and len(duties.roles_of(key).acting) >= duties.min_in_sync:
            return Fate.WRITTEN
        return Fate.INDETERMINATE

    def expire(self, keys: Sequence[str]) -> None:
        """Write the tombstones of values that the sweeper has found, those that are due still."""
        duties = self._desk.duties
        mine = [key for key in dict.fromkeys(keys) if self._desk.mine(duties.roles_of(key))]
        mine = [key for key in mine if self._may_begin(duties.roles_of(key), True)]
        now = self._writing.time_of_day()
        due = [
            key
            for key, (record, _) in zip(mine, self._writing.newest(mine), strict=True)
            if isinstance(record, Record) and is_due(record, now)
        ]
        if due:
            self._writing.expire(due)

    # -- answers

    def _end_part(self, request: Request) -> None:
        if request.parts > 0:
            request.parts -= 1
            self._finish(request)

    def _finish(self, request: Request) -> None:
        if request.parts == 0 and not self._waits.has(request) and None not in request.answers:
            self._give(request, Fate.NOT_BEGUN)

    def _give(self, request: Request, fate: Fate) -> None:
        if not request.is_over:
            self._desk.actions.append(request.answer(fate))

    # -- what goes on

    def go_on(self) -> None:
        """Begin what has been waiting, if it still has to it waits again."""
        for request in self._waits.take():
            if not request.is_over:
                self._begin(request)

    def recovered(self, key: str, given_up: bool) -> None:
        """Go on with requests for a key whose record was damaged."""
        if given_up:
            for request in self._waits.waiting:
                if key in request.keys:
                    request.given_up.add(key)
        self.go_on()

    def tick(self) -> None:
        """Answer the requests whose deadline is over: what was begun of a write stays unsettled, and is sent on (W6)."""
        for request in self._waits.overdue(self._desk.now):
            self._give(request, Fate.NOT_BEGUN)

    @property
    def wakes_at(self) -> float:
        return self._waits.wakes_at


def _as_read(record: Record | Damage | None) -> KeyAnswer:
    if isinstance(record, Damage):
        return KeyAnswer(Fate.DAMAGED)
    return KeyAnswer(Fate.READ, record)
