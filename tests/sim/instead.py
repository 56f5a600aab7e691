"""All that stands in the place of a guard when it is taken out: what somebody might have written who had not thought of it."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from gkv.cluster import changes
from gkv.cluster.document import State
from gkv.duties import Duties, Roles
from gkv.model import Version, Write
from gkv.replication import (
    actions,
    clients,
    filling,
    granter,
    grants,
    pages,
    primary,
    reading,
    recovery,
    writing,
)
from gkv.replication.expiry import is_due
from gkv.replication.messages import Page
from tests.sim import clients as sim_clients
from tests.sim import engine
from tests.sim import member as sim_member

# -- reads


def no_lease(self: Any, reading_: Any) -> list[str]:
    return []


def missing_of_acting(self: Any, reading_: Any) -> list[str]:
    roles = [self._desk.roles[pair] for pair in reading_.lists]
    granters = {granter for one in roles for granter in one.acting[1:]}
    return list(self._leases.missing(sorted(granters), self._desk.duties, self._desk.now))


def waits_for_nothing(self: Any, waits: Any) -> set[Any]:
    return set()


def waits_for_values(self: Any, waits: Any) -> set[Any]:
    return {one for one in waits if one is not None and any(value is not None for value in one.write.values)}


def failed_at_once(self: Any, request: Any, places: Any, waits: Any, answers: Any) -> None:
    request.tell_all(places, answers)


_judged_intact = clients.Clients._intact


def judged_on_disk(self: Any, request: Any, places: Any) -> Any:
    if request.what is None:
        return _judged_intact(self, request, places)
    disk = self._writing._records.directory.records
    return [(disk.get(request.keys[place]), None) for place in places]


_begin = reading.Readings.begin
_missing = reading.Readings._missing


def begin_with_leases(self: Any, lists: Any, waits: Any, deadline: float, on_over: Any) -> None:
    had = not _missing(self, SimpleNamespace(lists=lists))

    def over(may_tell: bool) -> None:
        on_over(may_tell)

    over.had_leases = had  # type: ignore[attr-defined]
    _begin(self, lists, waits, deadline, over)


def missing_before(self: Any, reading_: Any) -> list[str]:
    return [] if reading_.on_over.had_leases else _missing(self, reading_)


# -- writes


def targets_of_acting(self: Any, write: Write, duties: Duties) -> dict[str, list[str]]:
    targets: dict[str, list[str]] = {}
    for key in write.keys:
        for one in duties.roles_of(key).acting[1:]:
            targets.setdefault(one, []).append(key)
    return targets


_direct = primary.Primary._direct


def learners_not_waited_for(self: Any, underway: Any, duties: Duties) -> None:
    _direct(self, underway, duties)
    underway.waits -= {one for key in underway.write.keys for one in duties.roles_of(key).learners}


def own_disk_alone(self: Any, underway: Any) -> bool:
    return bool(underway.committed)


def none_earlier(self: Any, underway: Any) -> list[Any]:
    return []


def counter_first(self: Any, era: int) -> Version:
    self._counter += 1
    return Version(self._counter, era)


_admit = writing.Writing.admit


def counter_of_key(self: Any, keys: Any, *rest: Any, **more: Any) -> Any:
    found = [record.version.counter for record, _ in self.newest(list(keys)) if record is not None]
    self._versions._counter = max(found, default=0)
    return _admit(self, keys, *rest, **more)


def not_begun(self: Any, keys: Sequence[str], settled: bool) -> list[actions.Fate]:
    return [actions.Fate.WRITTEN if settled else actions.Fate.NOT_BEGUN] * len(keys)


_duties = sim_member.duties


def any_number(document: Any, placement: Any, me: str) -> Duties:
    return replace(_duties(document, placement, me), min_in_sync=0)


def written_if_settled(self: Any, keys: Sequence[str], settled: bool) -> list[actions.Fate]:
    return [actions.Fate.WRITTEN if settled else actions.Fate.INDETERMINATE] * len(keys)


def again(reply: Any) -> bool:
    return bool(reply.said is sim_clients.Said.INDETERMINATE)


def goes_on_after_failure(self: Any, event: Any) -> None:
    self.copying.failed(event.token, event.full)


# -- epochs, incarnations


def older_too(self: Any, era: int, mine: int) -> bool:
    return True


def gap_or_not(self: Any, before: Duties, after: Duties) -> bool:
    return True


def same_incarnation(self: Any) -> int:
    return int(self.incarnation or self._world.incarnation())


# -- copies


def take_noting_late(self: Any, primary_: str, number: int, writes: Sequence[Write], now: float, token: Any) -> Any:
    noted = self.note
    self.note = lambda *_: None
    try:
        return _take(self, primary_, number, writes, now, token)
    finally:
        self.note = noted


def committed_noting_late(self: Any, token: int, effects: Any = ()) -> bool:
    write = self._committing.get(token)
    if write is not None:
        self.note(write.keys, write.version)
    return bool(_committed(self, token))


_take, _committed = granter.Granter.take, granter.Granter.committed


def as_it_is(write: Write, *, repairs: bool) -> Write:
    return write


def never_repairing(write: Write, *, repairs: bool) -> Write:
    return _copied(write, repairs=False)


def whatever_it_did(self: Any, token: int, effects: Any = ()) -> bool:
    return bool(_committed(self, token))


_copied = granter._copied


def nothing(self: Any, *args: Any) -> None:
    return None


def always(self: Any, found_orderly: bool) -> bool:
    return True


# -- grants and takeovers


def always_clear(self: Any, duties: Duties, now: float) -> bool:
    return True


def since_start(self: Any, lease: float) -> float:
    return float(self._started)


def without_note(self: Any, *args: Any) -> None:
    _grant(self, *args)
    self._note = grants._Note.THERE


_grant = grants.Grants.grant


def grants_to_the_one_before(self: Any, now: float) -> dict[Any, float]:
    return {process: until for process, until in _running(self, now).items() if process[0] in self.before}


def forget_and_note_primaries(self: Any, duties: Duties, now: float) -> None:
    self.before = getattr(self, "primaries", set())
    self.primaries = {roles.primary for roles in duties.roles}
    _forget(self, duties, now)


_running, _forget = grants.Grants._running, grants.Grants.forget


def nothing_anew(self: Any, keys: list[str]) -> None:
    self._granter.forget(keys)


def none_to_hear(self: Any) -> set[str]:
    for taking in self._taking.values():
        taking.unheard = set()
    return set()


_given_up, _end = recovery.Recoveries.tick, recovery.Recoveries._end


def absent(self: Any, now: float) -> list[recovery.Recovered]:
    return [replace(end, absent=True) for end in _given_up(self, now)]


def absent_if_none(self: Any, key: str, record: Any, *, absent: bool = False) -> recovery.Recovered:
    return replace(_end(self, key, record), absent=record is None)


# -- filling


def page_of_unsettled(self: Any, sender: str, asked: Any) -> None:
    pair = (asked.preference, asked.coming)
    roles = self._desk.roles.get(pair)
    if roles is None or sender not in roles.learners or self._takeovers.reign(pair) is None:
        return
    rows = self._records.look(pair, asked.ranges, pages.PAGE)
    records = tuple((key, one) for key, one in rows.records.items() if one.value is not None)
    self._desk.send(sender, Page(asked.number, records, (), rows.whole, rows.upto))


_session_of = filling.session_of


def session_with_anybody(roles: Any, duties: Duties) -> Any:
    session = _session_of(roles, duties)
    return session and replace(session, primary=roles.primary, incarnation=0)


def takes_all(self: Any, one: Any, key: str) -> bool:
    return True


_page = filling.Fillings.page


def marks_nothing(self: Any, *args: Any) -> Any:
    found = _page(self, *args)
    return found and replace(found, damaged=())


def none_at_all(self: Any, damaged: Any) -> bool:
    for key in damaged:
        self._recover(key)
    return not damaged


def nothing_of(*_: Any) -> dict[str, Any]:
    return {}


def drops_nothing(self: Any, *args: Any) -> Any:
    found = _page(self, *args)
    return found and replace(found, drops=())


def at_end(self: Any) -> bool:
    return bool(self.at_end)


def a_second(self: Any) -> float:
    return 1.0


_filled = filling.Fillings.filled


def filled_where_somebody_acts(self: Any, duties: Duties) -> bool:
    return bool(_filled(self, replace(duties, roles=tuple(one for one in duties.roles if one.primary is not None))))


_tidy = engine.Engine.tidy


def tidy_what_is_due(self: Any) -> None:
    wall = self._member.clock.wall()
    due = [key for key, record in self.directory.records.items() if is_due(record, wall)]
    if due:
        self.change(engine.NOBODYS, [(key, None, True, True) for key in due])
    _tidy(self)


def is_about_to_be_strange(roles: Roles, member: str) -> bool:
    return member not in (roles.coming or roles.preference)


# -- the authority


_goes = changes._goes
_line = changes._line


def stays_up(member: Any, calls: Any, look: Any) -> bool:
    call = calls.get(member.id)
    is_new = call is not None and call.incarnation != member.incarnation
    return _goes(member, {} if is_new else calls, look)


def line_of_whoever_is_up(member: Any, document: Any, others: Any, call: Any, look: Any) -> Any:
    if call is not None and member.state is State.UP:
        return replace(member, incarnation=call.incarnation)
    return _line(member, document, others, call, look)


def ended_if_down(changed: Any, document: Any, look: Any) -> Any:
    gone = [one.incarnation for one in changed.members if one.state is State.DOWN]
    return replace(changed, ended=tuple(dict.fromkeys((*changed.ended, *gone))))


_move = changes.move


def move_whatever_has_no_primary(document: Any, look: Any, placement: Any) -> Any:
    return _move(document, look, SimpleNamespace(roles=[one for one in placement.roles if one.primary is not None]))


def promised_nothing(self: Any, node_id: str, now: float) -> float:
    return 0.0


def left_always(member: Any, epoch: int) -> Any:
    return replace(member, state=State.DOWN, left=epoch, rank=0)


def first_back(preference: Any, standings: Any) -> tuple[str, ...]:
    up = tuple(one for one in preference if standings[one][0] is State.UP)
    return up or tuple(one for one in preference if standings[one][0] is State.FILLING)[:1]


def all_last_ones(preference: Any, standings: Any) -> tuple[str, ...]:
    up = tuple(one for one in preference if standings[one][0] is State.UP)
    if up or not preference:
        return up
    last = max(standings[one][1] for one in preference)
    return tuple(
        one for one in preference if standings[one][1] == last and standings[one][0] is State.FILLING and not standings[one][3]
    )


_admitted = changes._admitted


def any_directory(member: Any, call: Any, document: Any) -> Any:
    return replace(_admitted(member, call, document), empty=False)


def cured(member: Any, call: Any, document: Any) -> Any:
    return _admitted(replace(member, directory=member.incarnation), call, document)


def any_epoch(call: Any, member: Any, document: Any) -> bool:
    return call is not None and call.incarnation == member.incarnation


def ready_at_once(document: Any, calls: Any, placement: Any) -> bool:
    return True
