"""When a value is due: by the time of day at one moment, and by what has passed since.

What passes is measured by a clock that nobody sets. So a jump of the wall clock makes nothing due
and revives nothing; it shows as a difference, until somebody takes it over. Times are in ms.
"""

from gkv.model import Record


class DueTime:
    """The time of day by which values are due."""

    def __init__(self, wall: int, elapsed: int) -> None:
        """Begin at the time of day `wall`, when the clock that nobody sets shows `elapsed`."""
        self.offset = wall - elapsed
        """To be added to what that clock shows."""

    def at(self, elapsed: int) -> int:
        """Return the time of day when that clock shows `elapsed`."""
        return elapsed + self.offset

    def difference(self, wall: int, elapsed: int) -> int:
        """Return by how much the wall clock is ahead of it."""
        return wall - self.at(elapsed)

    def take_over(self, wall: int, elapsed: int) -> None:
        """Follow the wall clock from now on."""
        self.offset = wall - elapsed


def is_due(record: Record, now: int) -> bool:
    """Return whether a record has a value whose time is over.

    >>> from gkv.model import Version
    >>> [is_due(Record(Version(1, 1), b"1", expires), 7) for expires in (0, 7, 8)]
    [False, True, False]
    """
    return record.value is not None and 0 < record.expires <= now
