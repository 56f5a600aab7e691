"""Schedules that somebody has written: for each a guard without which it fails. Times are seconds of the world.

Members are n0, n1, n2; the list of the first key is n0, n1, n2, so n0 is its primary. Proxy 1 is the one that may have an old
document. What is ordinary takes 1 ms in the network and 2 ms on a disk; a lease is 1 s; a member calls in every 0.4 s.
"""

from dataclasses import replace

from tests.linearizability.history import Kind
from tests.sim.scenario import AUTHORITY, Call, Commits, Expects, Fault, Rule, Scenario, Setup, What

TWO = Setup(nodes=2, copies=2, lists=("01",))
THREE = Setup(lists=("012",))
HASTY_TWO = Setup(nodes=2, copies=2, lists=("01",), silent_after=0.5)
HASTY_THREE = Setup(lists=("012",), silent_after=0.5)
APART = Setup(nodes=2, copies=2, lists=("01",), silent_after=0.5, rates=(0.98, 1.02))


def _put(at: float, proxy: int = 0, expects: Expects = Expects.NOTHING, ttl: float = 0, within: float = 3.0) -> Call:
    return Call(at, proxy, Kind.PUT, 0, expects, ttl=ttl, within=within)


def _get(at: float, proxy: int = 0) -> Call:
    return Call(at, proxy, Kind.READ, 0)


def _delete(at: float) -> Call:
    return Call(at, 0, Kind.DELETE, 0)


def _cut_off(at: float, on: str, *others: str, lasts: float = 0) -> tuple[Fault, ...]:
    """Return the faults by which a member cannot speak to these any more, nor to the authority."""
    return tuple(Fault(at, What.CUT_BOTH, on, to, lasts) for to in (*others, AUTHORITY))


_OLD_PROXY = Fault(0.9, What.CUT, AUTHORITY, "p1")
"""Proxy 1 hears of no document any more."""


_REACHES_N2_ALONE = Scenario(
    THREE,
    (_put(0.5), _put(1.0)),
    (Fault(1.0025, What.CRASH, "n0", lasts=3.0),),
    (Rule(0.99, 1.5, "Copy", "n0", "n1", lost=True),),
    heal_at=6.0,
)
_NOBODY_ELSE_HAS_IT = Scenario(
    THREE,
    (),
    (Fault(1.05, What.CRASH, "n0", lasts=4.0),),
    (Rule(0.99, 1.5, "Copy", "n0", lost=True),),
    heal_at=6.0,
)


SCHEDULES: dict[str, Scenario] = {
    # n0 is cut off; n1 takes over when its grants have run out; a proxy that has not heard of it reads from n0.
    "no lease": Scenario(
        THREE, (_put(0.5), _put(3.5), _get(3.8, 1)), (*_cut_off(1.0, "n0", "n1", "n2"), _OLD_PROXY), heal_at=7.0
    ),
    # n0 takes a read while a write is under way, and stands still; it hears that the write is settled when n1 is the primary.
    "leases are looked at before": Scenario(
        THREE,
        (_put(0.5), _put(1.0, within=8), Call(1.0005, 0, Kind.READ, 0, within=8), _put(3.5)),
        (Fault(1.002, What.PAUSE, "n0", lasts=3.0),),
        (Rule(0.99, 1.1, "Copied", dst="n0", takes=0.5),),
        heal_at=6.0,
    ),
    # n0 is left alone while it writes: it is done then, and may be told, but two copies are not there.
    "settled is enough": Scenario(
        THREE,
        (_put(0.3), _put(1.0, within=6)),
        tuple(Fault(0.9995, What.CRASH, name, lasts=5.0) for name in ("n1", "n2")),
        heal_at=7.0,
    ),
    # n0 is cut off and evicted; so is n1, before it has taken over: n2 has granted n0 a lease, too.
    "grants to the primary before alone": Scenario(
        HASTY_THREE,
        (_put(1.0), _get(1.95, 1)),
        (*_cut_off(1.01, "n0", "n1", "n2"), _OLD_PROXY, Fault(1.7, What.COMPLAIN, "n2", "n1")),
        heal_at=6.0,
    ),
    # n1 is back at once, without what it had.
    "a new process is up at once": Scenario(
        THREE, (_put(0.5),), (Fault(1.0, What.CRASH_EMPTY, "n1", lasts=0.05),), heal_at=3.0
    ),
    # n0 alone has a write, and is away; n1 is back, and equal to n2 in the lists that they share.
    "a list without a primary is passed over": Scenario(
        Setup(nodes=3, copies=2, lists=("01",)),
        (_put(2.2),),
        (Fault(0.5, What.CRASH, "n1", lasts=3.0), Fault(2.6, What.CRASH, "n0", lasts=9.0)),
        heal_at=6.0,
    ),
    # n0 is alone, and cut off from all but its clients; for a while it may serve on.
    "a loss is accepted at once": Scenario(
        TWO,
        (_put(0.2), _put(2.2), _get(4.6, 1)),
        (
            Fault(0.5, What.CRASH, "n1", lasts=2.8),
            Fault(2.3, What.CUT, AUTHORITY, "p1"),
            *_cut_off(2.5, "n0", "n1"),
            Fault(4.1, What.ACCEPT_LOSS, "n0"),
        ),
        heal_at=5.5,
    ),
    # n0 is to leave the ring, and nobody who comes has anything yet.
    "copies go before the switch": Scenario(
        Setup(nodes=3, copies=2, lists=("01",)),
        (_put(0.5),),
        (Fault(1.0, What.RESIZE, "n0"),),
        (Rule(1.0, 3.0, "Page", lost=True),),
        heal_at=4.0,
    ),
    # The clock of n1 is 20 s ahead.
    "a backup expires by itself": Scenario(
        replace(THREE, walls=(0.0, 20.0, 0.0)), (_put(0.5, ttl=10.0), _get(2.0)), heal_at=3.0
    ),
    # n0 is cut off and evicted within its lease: what n1 does at once, n0 may still contradict.
    "no grace": Scenario(
        HASTY_THREE, (_put(1.0), _put(1.91), _get(1.95, 1)), (*_cut_off(1.01, "n0", "n1", "n2"), _OLD_PROXY), heal_at=6.0
    ),
    # The same with two copies, of which the granter begins anew: it remembers only that it had granted something.
    "a restarted granter serves at once": Scenario(
        HASTY_TWO,
        (_put(1.0), _put(1.65), _get(1.95, 1)),
        (*_cut_off(1.01, "n0", "n1"), Fault(1.02, What.CRASH, "n1", lasts=0.05), _OLD_PROXY),
        heal_at=6.0,
    ),
    # The clock of n0 is slow, that of n1 fast: a lease lasts until 2.021, a grant without a margin until 1.983.
    "no margin for drift": Scenario(
        APART, (_put(1.0), _put(1.92), _get(1.995, 1)), (*_cut_off(1.01, "n0", "n1"), _OLD_PROXY), heal_at=6.0
    ),
    # Two of three members are away; one copy is not enough for an acknowledgement.
    "any number of copies": Scenario(
        THREE, (_put(0.3), _put(2.5)), tuple(Fault(0.5, What.CRASH, name, lasts=5.0) for name in ("n1", "n2")), heal_at=6.0
    ),
    # n0 cannot write what the others have: it must not go on as if nothing was, until it takes that for a disk that hangs.
    "a failed commit is passed over": Scenario(
        replace(THREE, disk_timeout=100.0), (_put(0.5), _put(1.0)), (Fault(0.9, What.FAILING_DISK, "n0"),), heal_at=3.0
    ),
    # n2 comes back, and its disk takes long: it is not equal before the page is on it.
    "equal before the commit": Scenario(
        THREE, (_put(0.5),), (Fault(0.3, What.CRASH, "n2", lasts=0.1),), (), (Commits(0.4, 3.0, "n2", 1.0),), heal_at=4.0
    ),
    # A copy of a frame comes 3 s later, when the value that it brought is deleted long since.
    "tombstones go early": Scenario(
        THREE, (_put(0.5), _delete(1.0)), (), (Rule(0.4, 0.6, "Copy", "n0", "n1", again=3.0),), heal_at=5.0
    ),
    # Both die at once. n1 is back first and acts alone; while its report is lost, n0 is back, and must learn what n1 wrote.
    "all last ones act": Scenario(
        TWO,
        (_put(0.5), _put(3.6), _get(6.0)),
        (Fault(1.0, What.CRASH, "n0", lasts=2.65), Fault(1.0, What.CRASH, "n1", lasts=1.5)),
        (Rule(3.5, 4.35, "call-in", "n1", lost=True),),
        heal_at=7.0,
    ),
    # n0 is back and promoted; n1 is cut off at that moment, and has a lease of n2, but none of n0, which learnt until then.
    "a learner need not grant": Scenario(
        replace(HASTY_THREE, replica_timeout=0.4),
        (_put(0.3), _put(1.9), _get(3.6), _put(4.2), _get(4.59, 1)),
        (
            Fault(0.6, What.CRASH, "n0", lasts=1.5),
            Fault(2.8, What.CUT, AUTHORITY, "p1"),
            *_cut_off(3.6715, "n1", "n0", "n2"),
        ),
        (),
        (Commits(2.5, 3.5, "n0", 1.11),),
        heal_at=6.0,
    ),
    # A write reaches n2 alone, and n0 dies: n1 must make n2 equal again.
    "nothing is written anew": _REACHES_N2_ALONE,
    "nobody is asked": _REACHES_N2_ALONE,
    # The same, and n2 dies too: when it is back, what it has is newer, and yet not what is there.
    "filling goes by versions": replace(
        _REACHES_N2_ALONE,
        faults=(Fault(1.0025, What.CRASH, "n0", lasts=5.0), Fault(1.0045, What.CRASH, "n2", lasts=2.0)),
    ),
    # A value is deleted while n2 is away, for so long that nobody has its tombstone any more.
    "filling drops nothing": Scenario(
        replace(THREE, tombstone_ttl=0.8),
        (_put(0.3), _delete(2.0)),
        (Fault(0.5, What.CRASH, "n2", lasts=4.0),),
        heal_at=6.0,
    ),
    # A page is late, and overtaken by a new write.
    "filling overwrites new writes": Scenario(
        THREE,
        (_put(0.2), _put(1.3)),
        (Fault(0.3, What.CRASH_EMPTY, "n2", lasts=0.1),),
        (Rule(1.0, 1.9, "Page", "n0", "n2", takes=0.22),),
        heal_at=4.0,
    ),
    # n0 alone has a write, and dies. n1 comes back, and is evicted again while it is filling: n0 is still the last one.
    "left at every eviction": Scenario(
        TWO,
        (_put(2.2),),
        (
            Fault(0.5, What.CRASH, "n1", lasts=3.0),
            Fault(2.6, What.CRASH, "n0", lasts=9.0),
            Fault(4.6, What.CRASH, "n1", lasts=0.1),
        ),
        heal_at=6.0,
    ),
    # n0 alone has a write, and comes back with an empty directory.
    "any directory is the directory": Scenario(
        TWO, (_put(2.2),), (Fault(0.5, What.CRASH, "n1", lasts=9.0), Fault(2.6, What.CRASH_EMPTY, "n0", lasts=0.1)), heal_at=4.0
    ),
    # The same, and n0 begins once more on that directory.
    "a restart cures empty": Scenario(
        TWO,
        (_put(2.2),),
        (
            Fault(0.5, What.CRASH, "n1", lasts=9.0),
            Fault(2.6, What.CRASH_EMPTY, "n0", lasts=0.1),
            Fault(4.0, What.CRASH, "n0", lasts=0.1),
        ),
        heal_at=6.0,
    ),
    # n0 is to leave the ring, and those that come into its lists have nothing yet.
    "a ring comes when it is asked for": Scenario(
        Setup(nodes=3, copies=2, lists=("01",)),
        (_put(0.5),),
        (Fault(1.0, What.RESIZE, "n0"),),
        (Rule(1.0, 2.0, "Page", lost=True),),
        heal_at=4.0,
    ),
    # A report of n2 is late; meanwhile it is evicted and comes back, and has not yet what was written while it was away.
    "an old report promotes": Scenario(
        THREE,
        (_put(0.2), _put(1.75, within=6)),
        (Fault(0.3, What.CRASH, "n2", lasts=0.1), Fault(1.5, What.COMPLAIN, "n0", "n2")),
        (Rule(1.44, 1.48, "call-in", "n2", takes=1.0), Rule(1.5, 3.0, "Page", dst="n2", lost=True)),
        heal_at=4.0,
    ),
    # A page has what n0 alone has; n2 counts, and then n0 dies.
    "pages have what is unsettled": Scenario(
        THREE,
        (_put(0.2), _put(0.8)),
        (Fault(0.3, What.CRASH, "n2", lasts=0.1), Fault(1.6, What.CRASH, "n0", lasts=3.0)),
        (Rule(0.79, 2.0, "Copy", "n0", lost=True),),
        heal_at=6.0,
    ),
    # n2 has a write that n1 has not, begins anew, and counts; then n0 dies, and n1 must hear of the write.
    "sums have what is unsettled": Scenario(
        replace(THREE, compares=True),
        (_put(0.2), _put(0.8)),
        (Fault(0.82, What.CRASH, "n2", lasts=0.05), Fault(2.05, What.CRASH, "n0", lasts=3.0)),
        (Rule(0.79, 2.1, "Copy", "n0", "n1", lost=True), Rule(0.81, 2.1, "Copy", "n0", "n2", lost=True)),
        heal_at=6.0,
    ),
    # n0 alone has a write, tells somebody of it, and dies.
    "reads do not wait": replace(_NOBODY_ELSE_HAS_IT, calls=(_put(0.5), _put(1.0), _get(1.01), _get(3.5))),
    "tombstones are not waited for": replace(_NOBODY_ELSE_HAS_IT, calls=(_put(0.5), _delete(1.0), _get(1.01), _get(3.5))),
    "a failed condition is told at once": replace(
        _NOBODY_ELSE_HAS_IT, calls=(_put(0.5), _put(1.0), _put(1.01, expects=Expects.ABSENT), _get(3.5))
    ),
    "the own disk is enough": replace(_NOBODY_ELSE_HAS_IT, calls=(_put(0.5), _put(1.0), _get(3.5))),
    # Two clients expect the same version at the same moment.
    "conditions are judged on the disk": Scenario(
        THREE, (_put(0.5), _put(1.0, expects=Expects.SEEN), _put(1.001, expects=Expects.SEEN)), heal_at=2.0
    ),
    # n2 learns while something is written, and then it counts.
    "learners get no writes": Scenario(THREE, (_put(0.2), _put(0.95)), (Fault(0.3, What.CRASH, "n2", lasts=0.1),), heal_at=4.0),
    "learners are not waited for": Scenario(
        THREE,
        (_put(0.2), _put(0.95)),
        (Fault(0.3, What.CRASH, "n2", lasts=0.1),),
        (Rule(0.9, 1.5, "Copy", "n0", "n2", lost=True),),
        heal_at=4.0,
    ),
    # n0 has written more than n1 will.
    "the counter comes first": Scenario(
        THREE, (_put(0.5), _put(0.6), _put(0.7), _put(3.0), _get(3.5)), (Fault(1.0, What.CRASH, "n0", lasts=4.0),), heal_at=6.0
    ),
    # A key is deleted, its tombstone goes, and it is written again.
    "a counter for each key": Scenario(replace(THREE, tombstone_ttl=0.5), (_put(0.5), _delete(1.0), _put(4.0)), heal_at=5.0),
    # n0 stands still; n1 has the write, and somebody has written after it when n0 goes on.
    "what was begun is routed anew": Scenario(
        THREE,
        (_put(0.5), _put(1.0, within=6), _get(2.3), _put(2.5), _get(3.9)),
        (Fault(1.02, What.PAUSE, "n0", lasts=2.0), Fault(1.05, What.COMPLAIN, "n1", "n0")),
        (Rule(0.99, 1.02, "Copied", dst="n0", lost=True),),
        heal_at=6.0,
    ),
    # n0 dies with the answer; proxy 1 hears late whom it could ask now.
    "a coordinator writes again": Scenario(
        THREE,
        (_put(0.5), _put(1.0, 1, within=6), _get(2.3), _put(2.5), _get(3.9)),
        (Fault(0.9, What.CUT, AUTHORITY, "p1", lasts=2.1), Fault(1.0025, What.CRASH, "n0", lasts=5.0)),
        heal_at=6.0,
    ),
    # n0 begins anew before anybody has missed it.
    "a restarted process is the same": Scenario(
        THREE, (_put(0.5), _put(2.2)), (Fault(0.9, What.CRASH, "n0", lasts=0.05),), heal_at=3.0
    ),
    # n0 alone has a write, and is away; n1 is back.
    "the first one back acts": Scenario(
        TWO, (_put(2.2),), (Fault(0.5, What.CRASH, "n1", lasts=3.0), Fault(2.6, What.CRASH, "n0", lasts=9.0)), heal_at=6.0
    ),
    # A copy of a frame comes 2 s later to n1, where the record that a later one brought is damaged; then n0 dies.
    "a copied write repairs": Scenario(
        THREE,
        (_put(0.5), _put(1.0), _get(5.0)),
        (Fault(1.5, What.DAMAGE, "n1"), Fault(3.0, What.CRASH, "n0", lasts=5.0)),
        (Rule(0.49, 0.51, "Copy", "n0", "n1", again=2.0),),
        heal_at=7.0,
    ),
    # The record of the first put is damaged at n1, which then gets the second one.
    "what is left damaged is acknowledged": Scenario(
        replace(TWO, lists=("01",)), (_put(0.5), _put(1.5), _get(3.0)), (Fault(1.0, What.DAMAGE, "n1"),), heal_at=4.0
    ),
    # Nobody writes to a key whose record is damaged at n1.
    "damage at a granter is left": Scenario(
        replace(THREE, scrub_every=0.4), (_put(0.5), _get(4.0)), (Fault(1.0, What.DAMAGE, "n1"),), heal_at=5.0
    ),
    # The record is damaged at n0, whose questions for it do not arrive.
    "silence is absence": Scenario(
        THREE,
        (_put(0.5), _get(1.1), _get(4.5)),
        (Fault(1.0, What.DAMAGE, "n0"),),
        (Rule(0.9, 2.5, "AskRecord", lost=True),),
        heal_at=5.0,
    ),
    # It is damaged at both.
    "damage is absence": Scenario(
        replace(TWO, scrub_every=0.3),
        (_put(0.5), _get(1.5)),
        (Fault(1.0, What.DAMAGE, "n0"), Fault(1.0, What.DAMAGE, "n1")),
        heal_at=3.0,
    ),
    # n1 is away while the record is damaged at n0, which acts alone.
    "no page has what is lost": Scenario(
        TWO, (_put(0.5),), (Fault(1.0, What.CRASH, "n1", lasts=2.0), Fault(2.5, What.DAMAGE, "n0")), heal_at=4.0
    ),
    # n1 has the put, and is away while n0 loses the record. Then n0 goes.
    "what a look does not find is dropped": Scenario(
        TWO,
        (_put(0.5), _get(7.0)),
        (
            Fault(1.0, What.CRASH, "n1", lasts=2.0),
            Fault(2.5, What.LOSE, "n0"),
            Fault(6.0, What.CRASH, "n0", lasts=3.0),
        ),
        heal_at=10.0,
    ),
    # n1 has the first put, and is away for the second one. Then n0 goes.
    "what is lost is left": Scenario(
        TWO,
        (_put(0.5), _put(2.5), _get(7.0)),
        (
            Fault(1.0, What.CRASH, "n1", lasts=2.5),
            Fault(3.0, What.DAMAGE, "n0"),
            Fault(6.0, What.CRASH, "n0", lasts=3.0),
        ),
        heal_at=10.0,
    ),
    # n1 is filled while its disk is full for a moment: a page that was read before the second put leaves the key to that put,
    # which the disk has not taken. Then n0 is away.
    "a failed commit keeps its mark": Scenario(
        replace(TWO, lists=("01",)),
        (_put(0.2), _put(1.6), _get(4.6)),
        (
            Fault(0.3, What.CRASH_EMPTY, "n1", lasts=0.1),
            Fault(1.59, What.FULL_DISK, "n1", lasts=0.6),
            Fault(1.8, What.CRASH, "n0", lasts=4),
        ),
        (Rule(0.5, 1.5, "Page", "n0", "n1", lost=True), Rule(1.5, 1.75, "Page", "n0", "n1", takes=0.1)),
        heal_at=9.0,
    ),
    # Both are killed, and lose what was in memory. n0 is back at once, and is told to stop before anybody has named it.
    "whoever ends in order vouches": Scenario(
        replace(TWO, is_async=True),
        (_put(0.5), _get(5.0)),
        (
            Fault(1.0, What.CRASH, "n0", lasts=0.05),
            Fault(1.0, What.CRASH, "n1", lasts=4.0),
            Fault(1.2, What.STOP, "n0", lasts=0.2),
        ),
        quirks=(("n0 memory", 0, (1,)),),
        heal_at=7.0,
    ),
}
SCHEDULES["whoever is down has ended"] = SCHEDULES["no grace"]
SCHEDULES["no note of grants"] = SCHEDULES["a restarted granter serves at once"]
