"""The guards of the design, each with what takes it out. `schedules.py` has the runs that need them.

What stands in the place of a guard is what somebody might have written who had not thought of it.

    python -m tests.sim.controls                   which guards there are
    python -m tests.sim.controls NAME 1 2000       a seed that fails without a guard, made smaller
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gkv.cluster import changes
from gkv.cluster import placement as placements
from gkv.cluster.document import State
from gkv.model import Duties, Version, Write
from gkv.replication import (
    actions,
    clients,
    filling,
    granter,
    grants,
    pages,
    primary,
    reading,
    replica,
    succession,
    takeover,
    versions,
    writing,
)
from gkv.replication.messages import Page
from tests.sim import clients as sim_clients
from tests.sim import engine
from tests.sim import member as sim_member
from tests.sim.guards import Replacement, without
from tests.sim.runs import run, run_seed
from tests.sim.scenario import Scenario, written
from tests.sim.shrink import shrink
from tests.sim.world import NoSuchList


@dataclass(frozen=True, slots=True)
class Control:
    """A guard: the letter of its rule, what it does, the rule of a run that its schedule breaks without it, and what takes it
    out.
    """

    letter: str
    guard: str
    breaks: str
    """As in `tests.sim.rules`, or "linearizable" for one of the checker of histories, or "live"."""
    out: Sequence[Replacement]


# -- reads


def _no_lease(self: Any, reading_: Any) -> list[str]:
    return []


def _missing_of_acting(self: Any, reading_: Any) -> list[str]:
    roles = [self._desk.roles[pair] for pair in reading_.lists]
    granters = {granter for one in roles for granter in one.acting[1:]}
    return list(self._leases.missing(sorted(granters), self._desk.duties, self._desk.now))


def _waits_for_nothing(self: Any, waits: Any) -> set[Any]:
    return set()


def _waits_for_values(self: Any, waits: Any) -> set[Any]:
    return {one for one in waits if one is not None and any(value is not None for value in one.write.values)}


def _failed_at_once(self: Any, request: Any, places: Any, waits: Any, answers: Any) -> None:
    request.tell_all(places, answers)


_judged_intact = clients.Clients._intact


def _judged_on_disk(self: Any, request: Any, places: Any) -> Any:
    if request.what is None:
        return _judged_intact(self, request, places)
    disk = self._writing._records.directory.records
    return [(disk.get(request.keys[place]), None) for place in places]


# -- writes


def _targets_of_acting(self: Any, write: Write, duties: Duties) -> dict[str, list[str]]:
    targets: dict[str, list[str]] = {}
    for key in write.keys:
        for one in duties.roles_of(key).acting[1:]:
            targets.setdefault(one, []).append(key)
    return targets


_direct = primary.Primary._direct


def _learners_not_waited_for(self: Any, underway: Any, duties: Duties) -> None:
    _direct(self, underway, duties)
    underway.waits -= {one for key in underway.write.keys for one in duties.roles_of(key).learners}


def _own_disk_alone(self: Any, underway: Any) -> bool:
    return bool(underway.committed)


def _none_earlier(self: Any, underway: Any) -> list[Any]:
    return []


def _counter_first(self: Any, era: int) -> Version:
    self._counter += 1
    return Version(self._counter, era)


_admit = writing.Writing.admit


def _counter_of_key(self: Any, keys: Any, *rest: Any, **more: Any) -> Any:
    found = [record.version.counter for record, _ in self.newest(list(keys)) if record is not None]
    self._versions._counter = max(found, default=0)
    return _admit(self, keys, *rest, **more)


def _not_begun(self: Any, keys: Sequence[str], settled: bool) -> list[actions.Fate]:
    return [actions.Fate.WRITTEN if settled else actions.Fate.NOT_BEGUN] * len(keys)


_duties = sim_member.duties


def _any_number(document: Any, placement: Any, me: str) -> Duties:
    return replace(_duties(document, placement, me), min_in_sync=0)


def _again(reply: Any) -> bool:
    return bool(reply.said is sim_clients.Said.INDETERMINATE)


def _goes_on_after_failure(self: Any, event: Any) -> None:
    self.copying.failed(event.token, event.full)


# -- epochs, incarnations


def _older_too(self: Any, era: int, mine: int) -> bool:
    return True


def _gap_or_not(self: Any, before: Duties, after: Duties) -> bool:
    return True


def _same_incarnation(self: Any) -> int:
    return int(self.incarnation or self._world.incarnation())


# -- copies


def _take_noting_late(self: Any, primary_: str, number: int, writes: Sequence[Write], now: float, token: Any) -> Any:
    noted = self.note
    self.note = lambda *_: None
    try:
        return _take(self, primary_, number, writes, now, token)
    finally:
        self.note = noted


def _committed_noting_late(self: Any, token: int) -> bool:
    write = self._committing.get(token)
    if write is not None:
        self.note(write.keys, write.version)
    return bool(_committed(self, token))


_take, _committed = granter.Granter.take, granter.Granter.committed


def _as_it_is(write: Write) -> Write:
    return write


def _always(self: Any, found_orderly: bool) -> bool:
    return True


# -- grants and takeovers


def _always_clear(self: Any, duties: Duties, now: float) -> bool:
    return True


def _since_start(self: Any, lease: float) -> float:
    return float(self._started)


def _without_note(self: Any, *args: Any) -> None:
    _grant(self, *args)
    self._note = grants._Note.THERE


_grant = grants.Grants.grant


def _nothing_anew(self: Any, keys: list[str]) -> None:
    self._granter.forget(keys)


def _none_to_hear(self: Any) -> set[str]:
    for taking in self._taking.values():
        taking.unheard = set()
    return set()


# -- filling


def _page_of_unsettled(self: Any, sender: str, asked: Any) -> None:
    pair = (asked.preference, asked.coming)
    roles = self._desk.roles.get(pair)
    if roles is None or sender not in roles.learners or self._takeovers.reign(pair) is None:
        return
    keys, upto = self._records.walk(pair, asked.after, pages.PAGE, asked.upto)
    found = zip(keys, self._records.newest(keys), strict=True)
    self._desk.send(sender, Page(asked.number, tuple((key, one) for key, one in found if one.value is not None), upto))


_session_of = filling.session_of


def _session_with_anybody(roles: Any, duties: Duties) -> Any:
    session = _session_of(roles, duties)
    return session and replace(session, primary=roles.primary, incarnation=0)


def _takes_all(self: Any, one: Any, key: str) -> bool:
    return True


_page = filling.Fillings.page


def _drops_nothing(self: Any, *args: Any) -> Any:
    found = _page(self, *args)
    return found and replace(found, drops=())


def _at_end(self: Any) -> bool:
    return bool(self.at_end)


def _a_second(self: Any) -> float:
    return 1.0


# -- the authority


def _left_always(member: Any, epoch: int) -> Any:
    return replace(member, state=State.DOWN, left=epoch, rank=0)


def _first_back(preference: Any, standings: Any) -> tuple[str, ...]:
    up = tuple(one for one in preference if standings[one][0] is State.UP)
    return up or tuple(one for one in preference if standings[one][0] is State.FILLING)[:1]


def _all_last_ones(preference: Any, standings: Any) -> tuple[str, ...]:
    up = tuple(one for one in preference if standings[one][0] is State.UP)
    if up or not preference:
        return up
    last = max(standings[one][1] for one in preference)
    return tuple(
        one for one in preference if standings[one][1] == last and standings[one][0] is State.FILLING and not standings[one][3]
    )


_admitted = changes._admitted


def _any_directory(member: Any, call: Any, document: Any) -> Any:
    return replace(_admitted(member, call, document), empty=False)


def _cured(member: Any, call: Any, document: Any) -> Any:
    return _admitted(replace(member, directory=member.incarnation), call, document)


def _any_epoch(call: Any, member: Any, document: Any) -> bool:
    return call is not None and call.incarnation == member.incarnation


def _ready_at_once(document: Any, calls: Any, placement: Any) -> bool:
    return True


_READINGS, _PRIMARY, _GRANTS = reading.Readings, primary.Primary, grants.Grants

CONTROLS: dict[str, Control] = {
    "no lease": Control("reads", "a read needs a lease of every granter", "R1", [(_READINGS, "_missing", _no_lease)]),
    "reads do not wait": Control(
        "F13", "a read waits until what it takes is settled", "R6", [(_READINGS, "_waited_for", _waits_for_nothing)]
    ),
    "tombstones are not waited for": Control(
        "expiry",
        "what is due is not missing before its tombstone is settled",
        "R6",
        [(_READINGS, "_waited_for", _waits_for_values)],
    ),
    "a learner need not grant": Control(
        "reads", "learners grant leases too", "R1", [(_READINGS, "_missing", _missing_of_acting)]
    ),
    "a failed condition is told at once": Control(
        "W9 F11", "a condition that fails is a read", "linearizable", [(clients.Clients, "_failed_part", _failed_at_once)]
    ),
    "conditions are judged on the disk": Control(
        "W2", "a condition is about the newest admitted record", "linearizable", [(clients.Clients, "_intact", _judged_on_disk)]
    ),
    "learners get no writes": Control("W3", "learners get every write", "R6", [(_PRIMARY, "_targets", _targets_of_acting)]),
    "learners are not waited for": Control(
        "W6", "a write is settled when learners have it too", "R6", [(_PRIMARY, "_direct", _learners_not_waited_for)]
    ),
    "the own disk is enough": Control(
        "W6", "a write waits for all granters", "R2", [(_PRIMARY, "_is_settled", _own_disk_alone)]
    ),
    "the counter comes first": Control(
        "W2", "a later epoch's version is greater", "linearizable", [(versions.Versions, "next", _counter_first)]
    ),
    "a counter for each key": Control(
        "W2 F12", "the counter is the process's, not the key's", "R2", [(writing.Writing, "admit", _counter_of_key)]
    ),
    "what was begun is routed anew": Control(
        "W8 F8", "what was handed over is indeterminate", "linearizable", [(writing.Writing, "fates", _not_begun)]
    ),
    "a coordinator writes again": Control(
        "W0", "a write is handed over once", "linearizable", [(sim_clients.Proxy, "repeats", staticmethod(_again))]
    ),
    "any number of copies": Control(
        "W1 W6", "min_in_sync members have an acknowledged write", "R5", [(sim_member, "duties", _any_number)]
    ),
    # Nothing that is told is wrong then, but n0 never becomes quiet: what it could not write is unsettled for ever.
    "a failed commit is passed over": Control(
        "W10", "a process whose commit fails ends", "live", [(replica.Replica, "_commit_failed", _goes_on_after_failure)]
    ),
    "a restarted process is the same": Control(
        "M2 A1",
        "every start has its own incarnation",
        "linearizable",
        [(sim_member.Member, "_next_incarnation", _same_incarnation)],
    ),
    "no grace": Control("T2", "a takeover waits for the own grants", "R1", [(_GRANTS, "clear", _always_clear)]),
    "a restarted granter serves at once": Control(
        "T2 F7", "grants of the process before run on", "R1", [(_GRANTS, "forgotten_until", _since_start)]
    ),
    "no note of grants": Control(
        "T2", "the note is on the disk before a grant is told", "R1", [(_GRANTS, "grant", _without_note)]
    ),
    "no margin for drift": Control("T2", "a grant lasts 1.05 leases", "R1", [(_GRANTS, "GRACE", 1.0)]),
    "nothing is written anew": Control(
        "T3", "unsettled keys are written anew", "R7", [(succession.Succession, "_write_anew", _nothing_anew)]
    ),
    "nobody is asked": Control(
        "T1", "all granters tell their unsettled keys", "R7", [(takeover.Takeovers, "unheard", _none_to_hear)]
    ),
    "pages have what is unsettled": Control(
        "L3 F9", "filling copies settled records", "R7", [(pages.Pages, "ask", _page_of_unsettled)]
    ),
    "filling overwrites new writes": Control(
        "L2 L4 F19", "what was received anew is left alone", "R6", [(filling.Fillings, "_takes", _takes_all)]
    ),
    "filling drops nothing": Control(
        "L4", "what the primary has not is dropped", "R6", [(filling.Fillings, "page", _drops_nothing)]
    ),
    "filling goes by versions": Control(
        "L4", "a page takes the place of what is there", "R7", [(engine.Engine, "forced", False)]
    ),
    "equal before the commit": Control(
        "L5", "a list is equal when the disk has it", "R6", [(filling._Filling, "equal", property(_at_end))]
    ),
    "tombstones go early": Control(
        "filling", "a tombstone stays while it may be needed", "R2", [(engine.Engine, "tombstone_ttl", property(_a_second))]
    ),
    "left at every eviction": Control(
        "A1 F1", "an eviction out of filling leaves `left` alone", "R6", [(changes, "_evicted", _left_always)]
    ),
    "the first one back acts": Control(
        "acting set", "only the last one acts alone", "R6", [(placements, "acting", _first_back)]
    ),
    "all last ones act": Control(
        "A3 F3", "of those that left together one acts", "R6", [(placements, "acting", _all_last_ones)]
    ),
    "any directory is the directory": Control(
        "A3 F18", "a directory without the last process is empty", "R6", [(changes, "_admitted", _any_directory)]
    ),
    "a restart cures empty": Control("A3", "a line is empty until its promotion", "R6", [(changes, "_admitted", _cured)]),
    "whoever ends in order vouches": Control(
        "A3", "a process that nobody has named does not vouch for one before it", "R6", [(replica.Replica, "vouches", _always)]
    ),
    "a copied write repairs": Control(
        "reads", "what is copied does not take the place of a damaged record", "R2", [(granter, "_copied", _as_it_is)]
    ),
    "an old report promotes": Control("A4 F17", "a report is of the epoch of now", "R6", [(changes, "_has", _any_epoch)]),
    "a ring comes when it is asked for": Control(
        "A5", "a ring comes once all that learn by it are equal", "R6", [(changes, "_is_ready", _ready_at_once)]
    ),
}

UNSEEN: dict[str, Control] = {
    "writes are settled one by one": Control(
        "W5 F16", "a settled write settles the earlier ones of its key", "", [(_PRIMARY, "_settle_earlier", _none_earlier)]
    ),
    "older epochs count": Control("M1 F4", "the epoch is the fence", "", [(replica.Replica, "_is_current", _older_too)]),
    "a gap is no gap": Control(
        "M3 F20", "after a gap in the epochs all is taken over anew", "", [(takeover.Takeovers, "_goes_on", _gap_or_not)]
    ),
    "unsettled is noted late": Control(
        "W4 F10",
        "a key is unsettled before its commit",
        "",
        [(granter.Granter, "take", _take_noting_late), (granter.Granter, "committed", _committed_noting_late)],
    ),
    "a filling outlives its primary": Control(
        "L1 F5", "a filling is with one process of one primary", "", [(filling, "session_of", _session_with_anybody)]
    ),
}
"""Guards of which no run has shown that they are needed, because others stand behind them: `test_unseen.py` has a table."""


def find(name: str, first: int, number: int) -> Scenario | None:
    """Return the smallest scenario like that of one of these seeds that fails without a guard, and passes with it."""
    out = (CONTROLS | UNSEEN)[name].out
    for seed in range(first, first + number):
        with without(out):
            world, failure = run_seed(seed)
        if failure is None or failure.rule == "live":
            continue

        def fails(candidate: Scenario, rule: str = failure.rule) -> bool:
            try:
                with without(out):
                    found = run(candidate)[1]
                return found is not None and found.rule == rule and run(candidate)[1] is None
            except NoSuchList:
                return False

        replay = world.replay()
        if fails(replay):
            print(f"{name}: seed {seed} fails: {failure.what.splitlines()[0]}", flush=True)
            return shrink(replay, fails, 600)
    return None


def main() -> int:
    """Find what the command line asks for."""
    if len(sys.argv) < 2:
        for name, control in (CONTROLS | UNSEEN).items():
            print(f"{control.letter:<10} {name:<40} {control.guard}")
        return 0
    found = find(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    print(f"FOUND {sys.argv[1]!r}: {found and written(found)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
