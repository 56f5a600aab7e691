"""The requests of a primary's clients: admitted, made to wait, answered exactly once (W1, W2, W6, W8, W9)."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from gkv.duties import Roles
from gkv.model import Damage, Record
from gkv.replication.actions import Fate, KeyAnswer
from gkv.replication.admission import Verdict
from gkv.replication.desk import Desk
from gkv.replication.events import Judge, Pair, Plain, ReadAsked, WriteAsked, pair_of
from gkv.replication.expiry import is_due
from gkv.replication.pause import Pause, Stopping
from gkv.replication.primary import Underway
from gkv.replication.reading import Readings
from gkv.replication.request import Part, Request, Waits
from gkv.replication.takeover import Takeovers
from gkv.replication.writing import Newest, Writing


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
        duties, what = self._desk.duties, request.what
        todo = request.open()
        lists = duties.lists_of(request.keys_at(todo))
        elsewhere = {one for one in set(lists) if not self._desk.mine(duties.roles[one])}
        if elsewhere:
            for place, one in zip(todo, lists, strict=True):
                if one in elsewhere:
                    request.tell(place, KeyAnswer(Fate.NOT_BEGUN))
            todo, lists = _without(todo, lists, elsewhere)
        shut = {one for one in set(lists) if not self.may_begin(duties.roles[one], what is not None)}
        if shut:
            self._wait(request)
        if what is None:
            self._begin_read(request, _without(todo, lists, shut)[0] if shut else todo)
        elif not shut:
            self._begin_write(request, what, todo, lists)
        self._finish(request)

    def may_begin(self, roles: Roles, writes: bool) -> bool:
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
        keys = request.keys_at(places)
        found = self._writing.newest(keys)
        damaged = [key for key, (record, _) in zip(keys, found, strict=True) if isinstance(record, Damage)]
        recovering = [key for key in damaged if key not in request.given_up]
        if recovering:
            self._wait(request)
            for key in recovering:
                self._recover(key)
            return None
        return found

    # -- reads

    def _begin_read(self, request: Request, todo: Sequence[int]) -> None:
        found = self._intact(request, todo) if todo and not request.is_over else None
        if found is None:
            return
        keys, now = request.keys_at(todo), self._writing.time_of_day()
        due = [key for key, (record, _) in zip(keys, found, strict=True) if isinstance(record, Record) and is_due(record, now)]
        if due:
            if any(self._held(pair_of(roles)) for roles in self._desk.duties.all_roles_of(due)):
                self._wait(request)
                return
            self._writing.expire(due)
            found = self._writing.newest(keys)
        self._read_part(
            request,
            todo,
            [underway for _, underway in found],
            [_as_read(record) for record, _ in found],
        )

    def _read_part(
        self, request: Request, places: Sequence[int], waits: list[Underway | None], answers: list[KeyAnswer]
    ) -> None:
        if not places:
            return
        request.parts += 1
        request.begun.update(places)

        def over(may_tell: bool) -> None:
            if not may_tell:
                fate = Fate.NOT_BEGUN if self._desk.now < request.deadline else Fate.LATE
                request.tell_all(places, [KeyAnswer(fate)] * len(places))
            else:
                request.tell_all(places, answers)
            self._end_part(request)

        lists = [pair_of(roles) for roles in self._desk.duties.all_roles_of(request.keys_at(places))]
        self._readings.begin(lists, waits, request.deadline, over)

    # -- writes

    def _begin_write(self, request: Request, what: Plain | Judge, todo: Sequence[int], lists: Sequence[int]) -> None:
        if self._writing.crowded:
            self._give(request, Fate.BUSY)
            return
        roles = self._desk.duties.roles
        bare = {one for one in set(lists) if not self._desk.is_enough(roles[one])} if self._desk.is_short else frozenset()
        begun = _without(todo, lists, bare)[0] if bare else todo
        found = [] if isinstance(what, Plain) else self._intact(request, begun)
        if found is None:
            return
        for place in set(todo).difference(begun) if bare else ():
            request.tell(place, KeyAnswer(Fate.TOO_FEW_COPIES))
        if isinstance(what, Plain):
            self._write_part(request, self._with_room(request, Part.plain(what, begun, self._writing.time_of_day())))
        else:
            self._judge(request, what, begun, found)

    def _judge(self, request: Request, judge: Judge, begun: Sequence[int], found: list[Newest]) -> None:
        """Have each key decided on its newest record, and do what comes of that."""
        now = self._writing.time_of_day()
        to_write: list[tuple[int, Verdict, Record | None]] = []
        nothing: list[tuple[int, Verdict, Underway | None]] = []
        for place, (record, underway) in zip(begun, found, strict=True):
            if isinstance(record, Damage):
                request.tell(place, KeyAnswer(Fate.DAMAGED))
                continue
            verdict = judge(place, record, now)
            if verdict.effect is None:
                to_write.append((place, verdict, record))
            else:
                nothing.append((place, verdict, underway))
        self._write_part(request, self._with_room(request, Part.judged(to_write)))
        waits = [underway for _, _, underway in nothing]
        expired = [request.keys[place] for place, verdict, _ in nothing if verdict.expired]
        if expired:
            waits.append(self._writing.expire(expired))
        answers = [KeyAnswer(Fate.NOTHING, verdict=verdict) for _, verdict, _ in nothing]
        self._failed_part(request, [place for place, _, _ in nothing], waits, answers)

    def _with_room(self, request: Request, part: Part) -> Part:
        """Answer for values for which there is no room (W1), and return the rest: a tombstone uses the reserve."""
        duties, me, full = self._desk.duties, self._desk.me, self._desk.questions.full
        refused: dict[int, str] = {}
        sizes = [len(value) for value in part.values if value is not None]
        if sizes and not self._writing.has_room(sum(sizes), len(sizes)):
            refused = {row: me for row, value in enumerate(part.values) if value is not None}
        elif sizes and full:
            for row, (place, value) in enumerate(zip(part.places, part.values, strict=True)):
                granters = full.intersection(duties.roles_of(request.keys[place]).granters) if value is not None else ()
                if granters:
                    refused[row] = min(granters)
        if not refused:
            return part
        for row, member in refused.items():
            request.tell(part.places[row], KeyAnswer(Fate.FULL, member=member))
        return part.without(refused)

    def _failed_part(self, request: Request, places: list[int], waits: list[Underway | None], answers: list[KeyAnswer]) -> None:
        """Answer what a judgement left undone: that is a read of the record that was judged (W9, F11)."""
        self._read_part(request, places, waits, answers)

    def _write_part(self, request: Request, part: Part) -> None:
        if not part.places:
            return
        request.parts += 1
        keys = request.keys_at(part.places)

        def over(underway: Underway, settled: bool) -> None:
            # Fewer are known of a write that was shortened before its own disk had it (`Primary.adopt`).
            effects = underway.effects if len(underway.effects) == len(keys) else ()
            request.end(part, self._writing.fates(keys, settled), effects)
            self._end_part(request)

        request.written = frozenset(part.places)
        request.begun |= request.written
        expires = part.expires if any(part.expires) else ()
        request.version = self._writing.admit(keys, part.values, expires, on_over=over).write.version

    def expire(self, keys: Sequence[str]) -> None:
        """Write the tombstones of values that the sweeper has found, those that are due still."""
        duties = self._desk.duties
        each = list(dict.fromkeys(keys))
        mine = duties.only(each, lambda roles: self._desk.mine(roles) and self.may_begin(roles, True))
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
        if request.parts == 0 and request.left == 0 and not self._waits.has(request):
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
            self._give(request, Fate.LATE)

    @property
    def wakes_at(self) -> float:
        return self._waits.wakes_at


def _as_read(record: Record | Damage | None) -> KeyAnswer:
    if isinstance(record, Damage):
        return KeyAnswer(Fate.DAMAGED)
    return KeyAnswer(Fate.READ, record)


def _without(places: Sequence[int], lists: Sequence[int], unwanted: AbstractSet[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Return the places, and lists, of the keys whose list is not one of the `unwanted`."""
    left = [(place, one) for place, one in zip(places, lists, strict=True) if one not in unwanted]
    return [place for place, _ in left], [one for _, one in left]
