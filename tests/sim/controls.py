"""The guards of the design, each with what takes it out. `schedules.py` has the runs that need them.

What stands in the place of a guard is what somebody might have written who had not thought of it.

    python -m tests.sim.controls                   which guards there are
    python -m tests.sim.controls NAME 1 2000       a seed that fails without a guard, made smaller
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from gkv.cluster import changes, judge
from gkv.cluster import placement as placements
from gkv.replication import (
    clients,
    filling,
    granter,
    grants,
    mending,
    pages,
    primary,
    reading,
    recovery,
    replica,
    succession,
    takeover,
    versions,
    writing,
)
from tests.sim import clients as sim_clients
from tests.sim import engine, instead
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
    """As in `tests.sim.rules`, or "linearizable" for one of the checker of histories, or "live"; none where no run shows it."""
    out: Sequence[Replacement]


_READINGS, _PRIMARY, _GRANTS, _REPLICA = reading.Readings, primary.Primary, grants.Grants, replica.Replica
_RECOVERIES = recovery.Recoveries

CONTROLS: dict[str, Control] = {
    "no lease": Control("reads", "a read needs a lease of every granter", "R1", [(_READINGS, "_missing", instead.no_lease)]),
    "leases are looked at before": Control(
        "reads",
        "leases are looked at when a read is told, not when it is taken",
        "R1",
        [(_READINGS, "begin", instead.begin_with_leases), (_READINGS, "_missing", instead.missing_before)],
    ),
    "reads do not wait": Control(
        "F13", "a read waits until what it takes is settled", "R6", [(_READINGS, "_waited_for", instead.waits_for_nothing)]
    ),
    "tombstones are not waited for": Control(
        "expiry",
        "what is due is not missing before its tombstone is settled",
        "R6",
        [(_READINGS, "_waited_for", instead.waits_for_values)],
    ),
    "a learner need not grant": Control(
        "reads", "learners grant leases too", "R1", [(_READINGS, "_missing", instead.missing_of_acting)]
    ),
    "a failed condition is told at once": Control(
        "W9 F11",
        "a condition that fails is a read",
        "linearizable",
        [(clients.Clients, "_failed_part", instead.failed_at_once)],
    ),
    "conditions are judged on the disk": Control(
        "W2",
        "a condition is about the newest admitted record",
        "linearizable",
        [(clients.Clients, "_intact", instead.judged_on_disk)],
    ),
    "learners get no writes": Control(
        "W3", "learners get every write", "R6", [(_PRIMARY, "_targets", instead.targets_of_acting)]
    ),
    "learners are not waited for": Control(
        "W6", "a write is settled when learners have it too", "R6", [(_PRIMARY, "_direct", instead.learners_not_waited_for)]
    ),
    "the own disk is enough": Control(
        "W6", "a write waits for all granters", "R2", [(_PRIMARY, "_is_settled", instead.own_disk_alone)]
    ),
    "the counter comes first": Control(
        "W2", "a later epoch's version is greater", "linearizable", [(versions.Versions, "next", instead.counter_first)]
    ),
    "a counter for each key": Control(
        "W2 F12", "the counter is the process's, not the key's", "R2", [(writing.Writing, "admit", instead.counter_of_key)]
    ),
    "what was begun is routed anew": Control(
        "W8 F8", "what was handed over is indeterminate", "linearizable", [(writing.Writing, "fates", instead.not_begun)]
    ),
    "a coordinator writes again": Control(
        "W0", "a write is handed over once", "linearizable", [(sim_clients.Proxy, "repeats", staticmethod(instead.again))]
    ),
    "any number of copies": Control(
        "W1 W6", "min_in_sync members have an acknowledged write", "R5", [(sim_member, "duties", instead.any_number)]
    ),
    "settled is enough": Control(
        "W6 F15",
        "what is settled with too few copies is indeterminate",
        "R5",
        [(writing.Writing, "fates", instead.written_if_settled)],
    ),
    # Nothing that is told is wrong then, but n0 never becomes quiet: what it could not write is unsettled for ever.
    "a failed commit is passed over": Control(
        "W10", "a process whose commit fails ends", "live", [(replica.Replica, "_commit_failed", instead.goes_on_after_failure)]
    ),
    "a restarted process is the same": Control(
        "M2 A1",
        "every start has its own incarnation",
        "linearizable",
        [(sim_member.Member, "_next_incarnation", instead.same_incarnation)],
    ),
    "no grace": Control("T2", "a takeover waits for the own grants", "R1", [(_GRANTS, "clear", instead.always_clear)]),
    "grants to the primary before alone": Control(
        "T2 F6",
        "a takeover waits for the own grants to anybody",
        "R1",
        [(_GRANTS, "_running", instead.grants_to_the_one_before), (_GRANTS, "forget", instead.forget_and_note_primaries)],
    ),
    "whoever is down has ended": Control(
        "A8", "nothing but the end of a process is proof of it", "R1", [(changes, "_with_ended", instead.ended_if_down)]
    ),
    "a restarted granter serves at once": Control(
        "T2 F7", "grants of the process before run on", "R1", [(_GRANTS, "forgotten_until", instead.since_start)]
    ),
    "no note of grants": Control(
        "T2", "the note is on the disk before a grant is told", "R1", [(_GRANTS, "grant", instead.without_note)]
    ),
    "no margin for drift": Control("T2", "a grant lasts 1.05 leases", "R1", [(_GRANTS, "GRACE", 1.0)]),
    "nothing is written anew": Control(
        "T3", "unsettled keys are written anew", "R7", [(succession.Succession, "_write_anew", instead.nothing_anew)]
    ),
    "nobody is asked": Control(
        "T1", "all granters tell their unsettled keys", "R7", [(takeover.Takeovers, "unheard", instead.none_to_hear)]
    ),
    "pages have what is unsettled": Control(
        "L3 F9", "filling copies settled records", "R7", [(pages.Pages, "ask", instead.page_of_unsettled)]
    ),
    "sums have what is unsettled": Control(
        "L1 F9", "sums are of settled records", "R7", [(pages.Pages, "_unsettled", lambda _: ())]
    ),
    "filling overwrites new writes": Control(
        "L2 L4 F19", "what was received anew is left alone", "R6", [(filling.Fillings, "_takes", instead.takes_all)]
    ),
    "filling drops nothing": Control(
        "L4", "what the primary has not is dropped", "R6", [(filling.Fillings, "page", instead.drops_nothing)]
    ),
    "filling goes by versions": Control(
        "L4", "a page takes the place of what is there", "R7", [(engine.Engine, "forced", False)]
    ),
    "copies go before the switch": Control(
        "filling",
        "what is in neither list goes, and not before the ring has come",
        "R2",
        [(placements, "is_strange", instead.is_about_to_be_strange)],
    ),
    "a backup expires by itself": Control(
        "expiry", "only the primary looks at the time", "R2", [(engine.Engine, "tidy", instead.tidy_what_is_due)]
    ),
    "equal before the commit": Control(
        "L5", "a list is equal when the disk has it", "R6", [(filling._Filling, "equal", property(instead.at_end))]
    ),
    "tombstones go early": Control(
        "filling",
        "a tombstone stays while it may be needed",
        "R2",
        [(engine.Engine, "tombstone_ttl", property(instead.a_second))],
    ),
    "a new process is up at once": Control(
        "A1",
        "a member is down when another process calls in for it",
        "R6",
        [(changes, "_goes", instead.stays_up), (changes, "_line", instead.line_of_whoever_is_up)],
    ),
    "a list without a primary is passed over": Control(
        "A4 F2",
        "a member is promoted when each of its lists has a primary, and is equal",
        "R6",
        [
            (filling.Fillings, "filled", instead.filled_where_somebody_acts),
            (judge, "move", instead.move_whatever_has_no_primary),
        ],
    ),
    "a loss is accepted at once": Control(
        "A6",
        "an accepted loss waits for what its member may have promised",
        "R1",
        [(judge.Judge, "promised", instead.promised_nothing)],
    ),
    "left at every eviction": Control(
        "A1 F1", "an eviction out of filling leaves `left` alone", "R6", [(changes, "_evicted", instead.left_always)]
    ),
    "the first one back acts": Control(
        "acting set", "only the last one acts alone", "R6", [(placements, "acting", instead.first_back)]
    ),
    "all last ones act": Control(
        "A3 F3", "of those that left together one acts", "R6", [(placements, "acting", instead.all_last_ones)]
    ),
    "any directory is the directory": Control(
        "A3 F18", "a directory without the last process is empty", "R6", [(changes, "_admitted", instead.any_directory)]
    ),
    "a restart cures empty": Control(
        "A3", "a line is empty until its promotion", "R6", [(changes, "_admitted", instead.cured)]
    ),
    "whoever ends in order vouches": Control(
        "A3",
        "a process that nobody has named does not vouch for one before it",
        "R6",
        [(replica.Replica, "vouches", instead.always)],
    ),
    "a copied write repairs": Control(
        "reads", "what is copied does not take the place of a damaged record", "R2", [(granter, "_copied", instead.as_it_is)]
    ),
    "an old report promotes": Control(
        "A4 F17", "a report is of the epoch of now", "R6", [(changes, "_has", instead.any_epoch)]
    ),
    "what is left damaged is acknowledged": Control(
        "W4",
        "a write is acknowledged when the disk has it, not when it left a damaged record",
        "R2",
        [(granter, "_copied", instead.never_repairing), (granter.Granter, "committed", instead.whatever_it_did)],
    ),
    "damage at a granter is left": Control(
        "reads", "a primary writes anew what is damaged at a granter", "live", [(mending.Mending, "told", instead.nothing)]
    ),
    "silence is absence": Control(
        "reads",
        "who does not answer for a damaged record may have one",
        "linearizable",
        [(_RECOVERIES, "tick", instead.absent)],
    ),
    "damage is absence": Control(
        "reads", "a damaged copy is a copy", "linearizable", [(_RECOVERIES, "_end", instead.absent_if_none)]
    ),
    "no page has what is lost": Control(
        "L3", "a page names what nobody can read", "live", [(pages.Pages, "_may_name", instead.none_at_all)]
    ),
    "what a look does not find is dropped": Control(
        "L4",
        "a learner drops nothing that the primary's index of keys knows",
        "R6",
        [(pages.Pages, "_named", instead.nothing_of)],
    ),
    "what is lost is left": Control(
        "L4", "who is filled gets a mark for what nobody can read", "R6", [(filling.Fillings, "page", instead.marks_nothing)]
    ),
    "a failed commit keeps its mark": Control(
        "L2 L5",
        "pages do not leave a key to a write that the disk has not taken",
        "R6",
        [(filling.Fillings, "unmark", instead.nothing)],
    ),
    "a ring comes when it is asked for": Control(
        "A5", "a ring comes once all that learn by it are equal", "R6", [(changes, "_is_ready", instead.ready_at_once)]
    ),
}

UNSEEN: dict[str, Control] = {
    "writes are settled one by one": Control(
        "W5 F16",
        "a settled write settles the earlier ones of its key",
        "",
        [(_PRIMARY, "_settle_earlier", instead.none_earlier)],
    ),
    "older epochs count": Control("M1 F4", "the epoch is the fence", "", [(replica.Replica, "_is_current", instead.older_too)]),
    "a gap is no gap": Control(
        "M3 F20", "after a gap in the epochs all is taken over anew", "", [(takeover.Takeovers, "_goes_on", instead.gap_or_not)]
    ),
    "unsettled is noted late": Control(
        "W4 F10",
        "a key is unsettled before its commit",
        "",
        [(granter.Granter, "take", instead.take_noting_late), (granter.Granter, "committed", instead.committed_noting_late)],
    ),
    "a filling outlives its primary": Control(
        "L1 F5", "a filling is with one process of one primary", "", [(filling, "session_of", instead.session_with_anybody)]
    ),
}
"""Guards of which no run has shown that they are needed, because others stand behind them: `test_unseen.py` has a table.

Of two more a run shows nothing but that it takes longer, and tests of the machines hold them: that what is unsettled is sent
to all granters of a new document, and waits for them anew
(W7: `test_still_primary_sends_all_that_is_unsettled_under_the_new_epoch`), and that nobody reports before the grants of the
process before have run out (L6: `test_learner_that_found_the_note_reports_nothing_before_grants_have_run_out`).
"""


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
