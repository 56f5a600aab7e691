"""The choices of a run that its seed makes before it begins."""

import random
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """The things that happen to a cluster."""

    KILL = "kill -9"
    STOP = "SIGTERM"
    PAUSE = "pause"
    KILL_ALL = "kill -9 of all nodes"
    KILL_PROXY = "kill -9 of the proxy"
    CUT = "cut"
    CUT_ONE_WAY = "one-way cut"
    BREAK = "broken connections"
    SLOW = "slow ways"
    STALL = "stalled disk"
    FULL = "full disk"
    IO_ERROR = "I/O error"
    WEIGHT = "another weight"
    """By an operator's word."""
    COPIES = "another number of copies"
    """Likewise."""
    UNDO = "a change of the ring is taken back"
    """Likewise."""


WEIGHTS = {
    Fault.KILL: 5,
    Fault.STOP: 4,
    Fault.PAUSE: 4,
    Fault.KILL_ALL: 0.5,
    Fault.KILL_PROXY: 1.5,
    Fault.CUT: 3,
    Fault.CUT_ONE_WAY: 3,
    Fault.BREAK: 2,
    Fault.SLOW: 1,
    Fault.STALL: 2,
    Fault.FULL: 1.5,
    Fault.IO_ERROR: 1,
    Fault.WEIGHT: 3,
    Fault.COPIES: 3,
    Fault.UNDO: 1,
}
MAX_DRIFT = 0.02


@dataclass(frozen=True, slots=True)
class Scenario:
    """A cluster, its clients, and the faults that come to it."""

    seed: int
    copies: int
    nodes: int
    min_in_sync: int
    """0 for the usual number."""
    lease: float
    clients: int
    seconds: float
    """Of faults."""
    gaps: tuple[float, float]
    """Seconds between two faults."""
    faults: tuple[Fault, ...]
    """Those that may come."""
    rates: tuple[float, ...]
    """Of the clocks of nodes."""
    disk: tuple[float, float]
    """Seconds that a disk takes at least and at most, before a call is done and after it."""
    is_parent: bool
    """Whether the proxy learns at once which of the nodes' processes have ended, as it does of its children."""

    @classmethod
    def of(cls, seed: int) -> "Scenario":
        """Return that of a seed."""
        chance = random.Random(f"scenario {seed}")
        copies = chance.choices([1, 2, 3], [2, 1, 7])[0]
        nodes = max(copies, chance.choices([2, 3, 4], [1, 6, 2])[0])
        faults = [fault for fault in Fault if chance.random() < 0.6] or [Fault.KILL]
        first = chance.choice([0.1, 0.3, 0.8])
        return cls(
            seed,
            copies,
            nodes,
            1 if chance.random() < 0.15 else 0,
            chance.choice([1.0, 1.0, 0.3]),
            chance.randint(2, 4),
            chance.uniform(2.0, 6.0),
            (first, first * 4),
            tuple(faults),
            tuple(1 + chance.uniform(-MAX_DRIFT, MAX_DRIFT) / 2 for _ in range(nodes)),
            chance.choice([(0.0001, 0.003), (0.0001, 0.003), (0.005, 0.05)]),
            chance.random() < 0.3,
        )
