"""The own disk of a primary: for how long it has brought no write to its end (A2)."""

from gkv.replication.desk import Desk
from gkv.replication.writing import Writing


class Stall:
    """Looked for now and then, so that a write costs no more than a note of its end."""

    def __init__(self, desk: Desk, writing: Writing) -> None:
        self._desk = desk
        self._writing = writing
        self._since: float | None = None
        """The first look since the last end at which a write was on its way."""

    def ended(self) -> None:
        """Note that something has come to its end, whatever it was."""
        if self._since is not None:
            self._since = None
            self._desk.questions.own_disk(self._desk.me, 0.0)

    def tick(self) -> None:
        """Look; a process complains of itself as it does of others."""
        desk, newest = self._desk, self._writing.primary.unsettled.newest
        if all(one.committed for one in newest.values()):
            self._since = None
        elif self._since is None:
            self._since = desk.now
        desk.questions.own_disk(desk.me, 0.0 if self._since is None else desk.now - self._since)
