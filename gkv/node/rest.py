"""The moment at which a member's machines may rest, as no records are copied any more."""

from gevent.event import Event as Flag

from gkv.node.disk import Disk
from gkv.replication.replica import Replica

_HELD_WITHIN = 0.25
"""Seconds for which writes are held at most: what is under way takes a commit, as a rule."""
_AGAIN = 2.0
"""Seconds from one attempt to the next."""


class Rest:
    """The wait for it. Where clients alone are in the way, as there is always one, their next writes are held for a moment."""

    def __init__(self) -> None:
        self.wanted = False
        """Whether the document in force copies no records."""
        self._held: Flag | None = None
        """Set when writes may go on."""
        self._until = self._next = 0.0

    @property
    def holds(self) -> bool:
        """Whether writes are to wait."""
        return self._held is not None

    def wait(self) -> None:
        """Wait while writes are held. Switches greenlets."""
        held = self._held
        if held is not None and not held.wait(_HELD_WITHIN):
            self.release()

    def release(self) -> None:
        """Let writes go on."""
        held, self._held = self._held, None
        if held is not None:
            held.set()

    def may_begin(self, replica: Replica, disk: Disk, now: float) -> bool:
        """Return whether nothing is left to do; hold writes if they are all that is."""
        if not replica.may_rest:
            return False
        if replica.idle and disk.idle:
            return True
        if self._held is not None and now >= self._until:
            self.release()
        elif self._held is None and now >= self._next:
            self._held = Flag()
            self._until = now + _HELD_WITHIN
            self._next = self._until + _AGAIN
        return False
