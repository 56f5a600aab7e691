"""Counts of the work that the machines of a member have done about copies, for /metrics."""

from typing import NamedTuple, Self

from gkv.replication.replica import Replica


class CopyCounts(NamedTuple):
    """Counts since some beginning."""

    taken: int = 0
    """Records taken from primaries."""
    dropped: int = 0
    """Records dropped because their primaries do not have them."""
    given: int = 0
    """Records given to learners."""
    taken_over: int = 0
    """Lists."""
    unleased: int = 0
    """Reads that had to wait for a lease."""

    @classmethod
    def of(cls, replica: Replica) -> Self:
        """Return those of one replica, since it began."""
        progress = replica.copying.fillings.progress
        return cls(progress.taken, progress.dropped, replica.pages.given, replica.takeovers.opened, replica.readings.unleased)

    def plus(self, other: "CopyCounts") -> "CopyCounts":
        """Return the sums of both."""
        return CopyCounts(*[one + more for one, more in zip(self, other, strict=True)])
