"""The pace of a change of the ring, as an operator wants it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast keys move by a change."""

    rate: int | None = None
    """Records a second that each source gives for it, 0 for as many as are asked for; None for its own --fill-rate."""
    paused: bool = False
    """Whether nothing moves. What members get that are in a key's list already goes on: these keys have too few copies."""


USUAL_PACE = Pace()
