"""Disks that take long: a write waits for them, and somebody else takes over in the end."""

from gkv.replication.stall import Stall
from tests.linearizability.history import Ending, Kind
from tests.sim.guards import without
from tests.sim.runs import run
from tests.sim.scenario import Call, Commits, Scenario, Setup

_HANGS = Scenario(
    Setup(lists=("012",), disk_timeout=1.0),
    (Call(0.5, 0, Kind.PUT, 0), Call(1.05, 0, Kind.PUT, 0), Call(3.5, 0, Kind.PUT, 0)),
    commits=(Commits(1.0, 1.1, "n0", 6.0),),
    heal_at=8.0,
)


def _served() -> list[bool]:
    world, failure = run(_HANGS)
    assert failure is None, failure.what
    return [one.ending is Ending.DONE for one in sorted(world.history, key=lambda one: one.call) if one.kind is Kind.PUT]


def test_primary_whose_own_disk_hangs_is_followed_by_another() -> None:
    """The granters have what n0 has not, and nobody but n0 waits for its disk (A2)."""
    assert _served() == [True, False, True]
    with without([(Stall, "tick", lambda _self: None)]):
        assert _served() == [True, False, False]
