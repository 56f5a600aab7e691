"""Each guard is needed: its schedule passes with it, and breaks the rule that it keeps without it."""

import pytest

from tests.sim.controls import CONTROLS
from tests.sim.guards import without
from tests.sim.runs import run
from tests.sim.schedules import SCHEDULES


@pytest.mark.parametrize("name", CONTROLS)
def test_schedule_fails_without_its_guard_only(name: str) -> None:
    scenario = SCHEDULES[name]
    _, failure = run(scenario)
    assert failure is None, failure.what
    with without(CONTROLS[name].out):
        _, failure = run(scenario)
    assert failure is not None, f"nothing is wrong without it: {CONTROLS[name].guard} ({CONTROLS[name].letter})"
    assert failure.rule == CONTROLS[name].breaks, failure.what
