"""Runs of seeds, and that they can be repeated and made smaller."""

import os
import random
from dataclasses import replace

import pytest

from tests.linearizability.history import Kind
from tests.sim import scenario
from tests.sim.runs import report, run, run_seed
from tests.sim.scenario import Call, Fault, Scenario, What, written
from tests.sim.seeds import scenario_of
from tests.sim.shrink import shrink

FIRST = 1
RUNS = 60
ALL_RUNS = 50_000


def test_seeds(request: pytest.FixtureRequest) -> None:
    """Runs of seeds show nothing wrong; more of them with `--all-faults`, or as GKV_SIM_RUNS says, on all cores."""
    asked = os.environ.get("GKV_SIM_RUNS") or (ALL_RUNS if request.config.getoption("--all-faults") else 0)
    cores = (os.cpu_count() or 1) if asked else 1
    assert not report(FIRST, int(asked or RUNS), cores)


def test_a_seed_of_now() -> None:
    """A seed that nobody has chosen: the output of a failure has it."""
    assert not report(random.randrange(1 << 32, 1 << 48), 10, 1)


@pytest.mark.parametrize("seed", range(20, 25))
def test_a_run_is_repeated_exactly(seed: int) -> None:
    """What was decided by lot is written down, and gives the same run again, to the last line of its story."""
    first, _ = run(scenario_of(seed), seed, told=True)
    again, _ = run(first.replay(), told=True)
    assert first.story.lines == again.story.lines
    assert first.history == again.history
    assert eval(written(first.replay()), vars(scenario)) == first.replay()


def test_seeds_reach_what_they_are_to_reach() -> None:
    """Some runs have many epochs, writes of unknown outcome, and clients that get answers all the same."""
    worlds = [run_seed(seed)[0] for seed in range(30, 50)]
    assert sum(world.facts.epochs for world in worlds) > 60
    assert sum(world.facts.acknowledged for world in worlds) > 150
    assert sum(one.ending.value == "unknown" for world in worlds for one in world.history) > 5


def test_the_smallest_scenario_is_found() -> None:
    """All is left out that does not matter."""
    calls = tuple(Call(float(at), 0, Kind.PUT, 0) for at in range(20))
    faults = tuple(Fault(float(at), What.CRASH, f"n{at % 3}") for at in range(12))
    quirks = tuple(("n0>n1", number, (0.5,)) for number in range(50))

    def fails(found: Scenario) -> bool:
        return calls[7] in found.calls and {faults[2], faults[9]} <= {*found.faults} and quirks[33] in found.quirks

    found = shrink(Scenario(calls=calls, faults=faults, quirks=quirks), fails)
    expected = Scenario(calls=(calls[7],), faults=(faults[2], faults[9]), quirks=(quirks[33],))
    assert found == replace(expected, setup=found.setup)
