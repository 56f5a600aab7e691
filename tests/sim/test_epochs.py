"""Guards that spare a cluster epochs and waiting: nothing is wrong without them, so what they spare is counted."""

from gkv.cluster import changes
from gkv.replication.pause import Pause
from tests.linearizability.history import Ending, Kind
from tests.sim.guards import without
from tests.sim.runs import run
from tests.sim.scenario import Call, Fault, Scenario, Setup, What

THREE = Setup(lists=("012",))
WRITES = tuple(Call(at / 4, 0, Kind.PUT, 0) for at in range(1, 30))


def _epochs(scenario: Scenario) -> int:
    world, failure = run(scenario)
    assert failure is None, failure.what
    return world.facts.epochs


def test_member_that_not_all_can_reach_stays_out() -> None:
    """n2 cannot speak to n0: it goes once. Admitted blindly it would come back again and again (A3, F14)."""
    scenario = Scenario(THREE, WRITES, (Fault(0.5, What.CUT_BOTH, "n0", "n2", lasts=6.0),), heal_at=8.0)
    assert _epochs(scenario) <= 4
    with without([(changes, "_has_reached_all", lambda _call, _others: True)]):
        assert _epochs(scenario) > 6


def test_planned_moves_cost_no_write_its_outcome() -> None:
    """n0 comes back and is the primary again, while somebody writes all the time: primaries pause for that (A7)."""
    writes = tuple(Call(3 + at / 500, 0, Kind.PUT, 0) for at in range(500))
    scenario = Scenario(THREE, writes, (Fault(0.5, What.CRASH, "n0", lasts=2.0),), heal_at=5.0)
    assert _unknown(scenario) == 0
    quiet = Pause.quiet
    with without([(Pause, "holds", lambda _self, _pair: False), (Pause, "quiet", lambda self, _busy: quiet(self, set()))]):
        assert _unknown(scenario) > 0, "and it guards nothing else"


def _unknown(scenario: Scenario) -> int:
    world, failure = run(scenario)
    assert failure is None, failure.what
    return sum(one.ending is Ending.UNKNOWN for one in world.history)


def test_orderly_stops_cost_no_operation() -> None:
    """Each member ends in turn when the one before is back (A7): everything is answered."""
    calls = tuple(Call(0.5 + at / 20, at % 2, Kind.PUT if at % 3 else Kind.READ, 0) for at in range(200))
    stops = tuple(Fault(1.0 + 3 * place, What.STOP, f"n{place}", lasts=0.2) for place in range(3))
    world, failure = run(Scenario(THREE, calls, stops, heal_at=12.0))
    assert failure is None, failure.what
    assert {one.ending for one in world.history} <= {Ending.DONE, Ending.MISSING}
    assert world.facts.epochs >= 6
