"""The versions that a process gives as a primary."""

from gkv.model import Version

_START = 40
"""Bits below the count of starts: writes of one run."""


class Versions:
    """A counter of the process. Each version is greater than all before, of earlier starts of its directory too, as long as the
    document's era does not fall.
    """

    def __init__(self, starts: int) -> None:
        """Begin after the versions of all earlier starts; `starts` counts them, this one included."""
        self._counter = starts << _START

    def next(self, era: int) -> Version:
        """Return the version of a write that is admitted under a document of this era."""
        self._counter += 1
        return Version(era, self._counter)
