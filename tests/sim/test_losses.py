"""What becomes of keys whose last directory is gone."""

from dataclasses import replace

from tests.linearizability.history import Ending, Kind, Operation
from tests.sim.runs import run
from tests.sim.scenario import Call, Fault, Scenario, Setup, What

TWO = Setup(nodes=2, copies=2, lists=("01",))
_AT = (4.0, 6.0, 7.0, 8.0, 9.5, 12.0)

LAST_ONE_DESTROYED = Scenario(
    TWO,
    (Call(0.2, 0, Kind.PUT, 0), Call(2.2, 0, Kind.PUT, 0), *[Call(at, 0, Kind.READ, 0, within=0.9) for at in _AT]),
    (
        Fault(0.5, What.CRASH, "n1", lasts=4.0),  # it has the first value only
        Fault(2.6, What.CRASH_EMPTY, "n0", lasts=0.1),  # it had the second one
    ),
    heal_at=13.0,
)


def _reads(scenario: Scenario) -> list[Operation]:
    world, failure = run(scenario)
    assert failure is None, failure.what
    return sorted((one for one in world.history if one.kind is Kind.READ), key=lambda one: one.call)


def test_nothing_is_served_from_an_older_copy() -> None:
    """The acknowledged value is gone with the disk of the last one: nobody says anything, and nobody says "missing"."""
    assert {one.ending for one in _reads(LAST_ONE_DESTROYED)} == {Ending.REFUSED}


def test_an_accepted_loss_lets_the_older_copy_act() -> None:
    """Only an operator's word brings the keys back, with what is left (A6)."""
    word = Fault(7.95, What.ACCEPT_LOSS, "n0")
    reads = _reads(replace(LAST_ONE_DESTROYED, faults=(*LAST_ONE_DESTROYED.faults, word)))
    assert {one.ending for one in reads if one.call < 7.5} == {Ending.REFUSED}
    assert [one.value for one in reads if one.call > 9] == ["0", "0", "0"]


def test_all_killed_at_once_have_all_that_was_acknowledged() -> None:
    """All copies die at one moment and come back in any order: the acknowledged value is there (F3)."""
    for order in ((0.1, 0.9, 2.0), (2.0, 0.1, 0.9), (0.9, 2.0, 0.1), (0.5, 0.5, 0.5)):
        faults = tuple(Fault(1.0, What.CRASH, f"n{place}", lasts=lasts) for place, lasts in enumerate(order))
        calls = (Call(0.2, 0, Kind.PUT, 0), Call(0.9, 0, Kind.PUT, 0), Call(8.0, 0, Kind.READ, 0))
        reads = _reads(Scenario(Setup(lists=("012",)), calls, faults, heal_at=9.0))
        assert [one.value for one in reads] == ["1", "1"]
