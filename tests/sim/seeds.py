"""The scenario that a seed makes."""

import random
from dataclasses import replace

from tests.linearizability.history import Kind
from tests.sim.scenario import AUTHORITY, EVERYBODY, PRIMARY, Call, Commits, Expects, Fault, Rule, Scenario, Setup, What

HEAL = 5.0

_FAULTS = (
    *[What.CRASH] * 4,
    *[What.PAUSE] * 3,
    *[What.CUT] * 4,
    *[What.CUT_BOTH] * 3,
    *[What.STOP] * 3,
    What.BREAK,
    *[What.AWAY] * 2,
    What.SLOW_DISK,
    What.FAILING_DISK,
    What.FULL_DISK,
    *[What.AT_PLAN] * 2,
    What.LOSS,
    What.COMPLAIN,
    *[What.RESIZE] * 2,
    What.UNDO,
    What.WALL,
)
_MESSAGES = (
    *(
        "Copy",
        "Copied",
        "Page",
        "AskPage",
        "Sums",
        "AskSums",
        "AskUnsettled",
        "UnsettledKeys",
        "AskLease",
        "Granted",
        "Hello",
        "HelloBack",
    ),
    *("call-in", "document", "Plan", "GoOn", "held", "leave", "complaint", "ask", "answer"),
)
_KINDS = (
    (Kind.READ, Kind.READ, Kind.PUT, Kind.PUT, Kind.DELETE, Kind.ADD),
    (Kind.READ, Kind.PUT, Kind.PUT, Kind.DELETE),
    (Kind.READ, Kind.READ, Kind.READ, Kind.PUT, Kind.PUT, Kind.DELETE),
)


_TURNS = (0.0, 0.001, 0.03)
_DISK_TIMEOUTS = (10.0, 10.0, 1.0, 0.4)
_SCRUBS = (0.0, 0.3, 0.9, 2.0)


def scenario_of(seed: int) -> Scenario:
    """Return the scenario of a seed, without what is decided while it runs."""
    lot = random.Random(seed)
    nodes = lot.choice((2, 3, 3, 3, 3, 4, 5))
    copies = min(nodes, lot.choice((1, 2, 2, 3, 3, 3, 3)))
    keys = lot.choice((1, 2, 2, 3))
    outside = lot.choice((0, 0, 1)) if nodes > copies else 0
    setup = Setup(
        nodes,
        outside,
        copies,
        lot.choice((0, 0, 0, 1)),
        lot.choice((2, 3)),
        tuple(str(lot.randrange(nodes - outside)) if lot.random() < 0.5 else "0" for _ in range(keys)),
        tuple(1 + lot.choice((-0.02, 0.02, 0, round(lot.uniform(-0.02, 0.02), 4))) for _ in range(nodes)),
        tuple(lot.choice((0, 0, round(lot.uniform(-2, 2), 2))) for _ in range(nodes)),
        lot.choice((0.4, 1.0, 1.0)),
        lot.choice((0.5, 1.0, 1.0, 1.5)),
        lot.choice((9.0, 600.0)),
        3 if nodes < 4 else 2,
    )
    kinds = lot.choice(_KINDS)
    faults = _faults(lot, nodes, setup.proxies)
    ttl = 0.4 if lot.random() < 0.4 else 0.0
    calls = []
    for client in range(1, lot.choice((3, 3, 4))):
        at = lot.random() * 0.6
        while at < HEAL + 1:
            calls.append(replace(_call(lot, at, kinds, keys, setup.proxies, ttl), client=client))
            at += lot.expovariate(1 / 0.45)
    calls.sort(key=lambda one: one.at)
    scenario = Scenario(setup, tuple(calls), faults, _rules(lot, nodes), _commits(lot, nodes), heal_at=HEAL)
    turn = random.Random(f"{seed} turn").choice(_TURNS)
    disk_timeout = random.Random(f"{seed} disk").choice(_DISK_TIMEOUTS)
    scrub_every = random.Random(f"{seed} scrub").choice(_SCRUBS)
    filling = random.Random(f"{seed} filling")
    compares, fill_rate = filling.random() < 0.5, filling.choice((0.0, 0.0, 2.0, 20.0))
    setup = replace(setup, turn=turn, disk_timeout=disk_timeout, scrub_every=scrub_every)
    scenario = replace(scenario, setup=replace(setup, compares=compares, fill_rate=fill_rate))
    more = random.Random(f"{seed} more")
    scenario = scenario if copies == 1 or more.random() < 0.4 else _with_losses(more, scenario)
    return _with_changes(random.Random(f"{seed} changes"), scenario)


def _with_changes(lot: random.Random, scenario: Scenario) -> Scenario:
    """Add words of an operator about the ring: another number of copies, one node in another's place, a pause."""
    setup = scenario.setup
    if lot.random() < 0.6:
        return scenario
    inside, outside = setup.nodes - setup.outside, [f"n{setup.nodes - 1}"] * setup.outside
    faults = list(scenario.faults)
    for _ in range(lot.choice((1, 1, 2, 3))):
        at = round(lot.uniform(0.3, HEAL - 0.5), 4)
        if outside and lot.random() < 0.5:
            faults.append(Fault(at, What.REPLACE, f"n{lot.randrange(inside)}", outside[0]))
        else:
            least = min(inside, 2) if setup.is_async else 1  # with one copy what is not on the disk yet may be lost
            faults.append(Fault(at, What.COPIES, much=float(lot.randint(least, min(inside, 3)))))
        if lot.random() < 0.4:
            faults.append(Fault(round(at + lot.uniform(0.05, 0.5), 4), What.HOLD, lasts=round(lot.uniform(0.1, 2), 3)))
    return replace(scenario, faults=tuple(sorted(faults, key=lambda one: one.at)))


def _with_losses(lot: random.Random, scenario: Scenario) -> Scenario:
    """Add what makes records and members get lost: damage, a durability that promises less, and an operator's words."""
    setup = scenario.setup
    names = [f"n{place}" for place in range(setup.nodes)]
    faults = list(scenario.faults)

    def at(least: float = 0.5) -> float:
        return round(lot.uniform(min(least, HEAL - 0.3), HEAL - 0.2), 4)

    if lot.random() < 0.5:
        faults += [
            Fault(at(), What.DAMAGE, lot.choice([*names, PRIMARY]), much=float(lot.randrange(len(setup.lists))))
            for _ in range(lot.choice((1, 1, 2, 3)))
        ]
    if lot.random() < 0.3:
        setup = replace(setup, is_async=True)
    if lot.random() < 0.3:
        gone, since = lot.choice(names), at()
        faults.append(Fault(since, lot.choice((What.CRASH, What.CRASH, What.CRASH_EMPTY)), gone, lasts=lot.choice((2.0, 30.0))))
        faults += [Fault(at(since), What.REMOVE, gone) for _ in range(lot.choice((1, 2)))]
    accepts = lot.random() < 0.5
    if accepts and lot.random() < 0.5:
        since = at()
        for name in names:
            if lot.random() < 0.7:
                what = lot.choice((What.CRASH, What.CRASH, What.CRASH_EMPTY, What.CRASH_OLD))
                faults.append(Fault(since, what, name, lasts=round(lot.uniform(0.05, 2), 3)))
        faults += [Fault(at(since), What.ACCEPT_LOSS, lot.choice(names)) for _ in range(lot.choice((1, 2, 4)))]
    return replace(scenario, setup=setup, faults=tuple(sorted(faults, key=lambda one: one.at)), accepts=accepts)


def _rules(lot: random.Random, nodes: int) -> tuple[Rule, ...]:
    """Return what becomes of messages of some kind: half of the time nothing."""
    names = [f"n{place}" for place in range(nodes)]
    rules = []
    for _ in range(lot.choice((0, 0, 0, 1, 2, 3))):
        since = round(lot.uniform(0.2, HEAL - 0.5), 3)
        until = round(since + lot.uniform(0.05, 1.2), 3)
        src, dst = (lot.choice([*names, EVERYBODY]) for _ in range(2))
        lost = lot.random() < 0.5
        takes = 0.0 if lost else round(lot.uniform(0.05, 2), 3)
        again = round(lot.uniform(0.1, 2), 3) if not lost and lot.random() < 0.3 else 0.0
        rules.append(Rule(since, until, lot.choice(_MESSAGES), src, dst, lost, takes, again))
    return tuple(rules)


def _commits(lot: random.Random, nodes: int) -> tuple[Commits, ...]:
    if lot.random() < 0.7:
        return ()
    since = round(lot.uniform(0.2, HEAL - 1), 3)
    until, takes = round(since + lot.uniform(0.05, 1), 3), round(lot.uniform(0.05, 1.5), 3)
    return (Commits(since, until, f"n{lot.randrange(nodes)}", takes),)


def _call(lot: random.Random, at: float, kinds: tuple[Kind, ...], keys: int, proxies: int, ttl: float) -> Call:
    kind = lot.choice(kinds)
    expects, lasts = Expects.NOTHING, 0.0
    if kind in (Kind.PUT, Kind.DELETE) and lot.random() < 0.4:
        expects = lot.choice((Expects.SEEN, Expects.SEEN, Expects.SEEN, Expects.OLD, Expects.ABSENT, Expects.PRESENT))
    if kind is Kind.PUT and lot.random() < ttl:
        lasts = lot.choice((round(lot.uniform(0.1, 0.8), 2), round(lot.uniform(0.5, 4), 2)))
    if ttl and kind is Kind.PUT and lot.random() < 0.15:
        kind, expects, lasts = Kind.TOUCH, Expects.NOTHING, round(lot.uniform(0.1, 2), 2)
    key = 0 if lot.random() < 0.5 else lot.randrange(keys)
    batch = keys > 1 and expects is Expects.NOTHING and lot.random() < 0.2
    return Call(
        round(at, 4),
        lot.randrange(proxies),
        kind,
        key,
        expects,
        tuple(other for other in range(keys) if other != key) if batch else (),
        lasts,
        lot.choice((1.2, 4.5)),
    )


def _faults(lot: random.Random, nodes: int, proxies: int) -> tuple[Fault, ...]:
    names = [f"n{place}" for place in range(nodes)]
    faults: list[Fault] = []
    if lot.random() < 0.15:
        faults += _duel(lot, names, proxies)
    wiped = False
    at = 0.0
    for _ in range(lot.choice((1, 2, 3, 4, 5, 6))):
        # Half of the time soon after the one before.
        at = at + lot.uniform(0.02, 1.3) if at and lot.random() < 0.5 else lot.uniform(0.5, HEAL - 1)
        at = round(min(at, HEAL - 0.2), 4)
        on = lot.choice([*names, PRIMARY, PRIMARY])
        lasts = round(lot.choice((lot.uniform(0.03, 0.3), lot.uniform(0.3, 1.5), lot.uniform(1, 3))), 4)
        kind = lot.random()
        if kind < 0.1:  # its frames reach only some, then it dies, or hangs
            for to in names:
                if to != on and lot.random() < 0.6:
                    faults.append(Fault(at, What.CUT, on, to, lasts=0.5))
            then = What.PAUSE if lot.random() < 0.3 else What.CRASH
            faults.append(Fault(round(at + lot.uniform(0.05, 0.5), 4), then, on, lasts=lasts))
        elif kind < 0.16:  # all at once
            faults += [Fault(at, What.CRASH, name, lasts=lot.choice((lasts, 0.05, round(lot.random(), 3)))) for name in names]
        elif kind < 0.22:  # cut off from the members and the authority, not from the proxies
            faults += [Fault(at, What.CUT_BOTH, on, to, lasts=lasts) for to in [*names, AUTHORITY] if to != on]
            if proxies > 1:
                faults.append(Fault(at, What.CUT_BOTH, AUTHORITY, "p1", lasts=lasts))
        elif kind < 0.26 and not wiped and len(names) > 1:
            wiped = True
            faults.append(Fault(round(at * lot.random(), 4), What.SNAPSHOT, on))
            faults.append(Fault(at, lot.choice((What.CRASH_OLD, What.CRASH_EMPTY)), on, lasts=lasts))
        else:
            faults.append(_fault(lot, at, on, names, proxies, lasts))
    return tuple(sorted(faults, key=lambda one: one.at))


def _fault(lot: random.Random, at: float, on: str, names: list[str], proxies: int, lasts: float) -> Fault:
    what = lot.choice(_FAULTS)
    everybody = [*names, AUTHORITY, *[f"p{place}" for place in range(proxies)]]
    to, much = EVERYBODY, 0.0
    if what in (What.CUT, What.CUT_BOTH, What.BREAK):
        to = lot.choice([name for name in everybody if name != on] * 2 + [EVERYBODY])
        if what is What.CUT and to != EVERYBODY and lot.random() < 0.5:
            on, to = to, on
    elif what is What.COMPLAIN:
        to = lot.choice([name for name in names if name != on] or [on])
    elif what is What.SLOW_DISK:
        much = round(lot.uniform(0.05, 1.5), 3)
    elif what is What.CRASH:
        much = float(lot.random() < 0.3)
    elif what is What.AT_PLAN:
        to, much = lot.choice((What.CRASH, What.PAUSE, What.CUT, What.CUT_BOTH, What.STOP)).value, round(lot.random() * 0.1, 3)
    elif what is What.LOSS:
        much = 0.3
    elif what is What.WALL:
        much = round(lot.uniform(-2, 2), 2)
    return Fault(at, what, on, to, lasts, much)


def _duel(lot: random.Random, names: list[str], proxies: int) -> list[Fault]:
    """Return the faults of a primary that is cut off while it has a lease, and others that begin anew."""
    at = round(lot.uniform(0.7, 2.5), 3)
    faults = [Fault(at, What.CUT_BOTH, PRIMARY, to, lasts=3) for to in [*names, AUTHORITY]]
    faults += [Fault(at, What.CUT_BOTH, AUTHORITY, f"p{place}", lasts=3) for place in range(1, proxies)]
    for name in names[1:]:
        if lot.random() < 0.4:
            faults.append(Fault(round(at + lot.uniform(0.1, 0.7), 3), What.CRASH, name, lasts=round(lot.uniform(0.01, 0.1), 3)))
    return faults
