"""The versions that a process gives as a primary."""

from gkv.model import Version


class Versions:
    """A counter of the process.

    REQUIRES: a process answers for keys only under documents that name it, so each start of a directory has
    an era of its own, later than those of all starts before.
    """

    def __init__(self) -> None:
        self._counter = 0

    def next(self, era: int) -> Version:
        """Return the version of a write that is admitted under a document of this era."""
        self._counter += 1
        return Version(era, self._counter)
