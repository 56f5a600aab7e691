"""Tidiness of a member that keeps copies: values that are due and nobody asks for, and tombstones that are old. The machines
say of each key whether it may go.
"""

from collections.abc import Callable

import gevent

from gkv.engine import NOT_BURIED, Engine
from gkv.errors import GkvError
from gkv.node.copies import Copies
from gkv.node.due_clock import DueClock
from gkv.node.stored import Stored
from gkv.node.sweeper import STEP, own_due
from gkv.replication.events import DueFound

_EVERY = 1.0
_PAUSE = 0.05


class Tidying:
    """The work for which nobody waits."""

    def __init__(self, engine: Engine, stored: Stored, copies: Copies, clock: DueClock) -> None:
        self._engine = engine
        self._stored = stored
        self._copies = copies
        self._clock = clock
        self._passed = NOT_BURIED
        """The tombstone at which the next step begins: those before may not go yet."""

    def run(self, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Be tidy again and again, for as long as that is so. Switches greenlets."""
        while goes_on():
            more = False
            try:
                more = self.expire()
                more = self.forget() or more
            except GkvError:  # no room just now, or the store cannot be looked at; the next round is soon
                pass
            gevent.sleep(_PAUSE if more else _EVERY)

    def expire(self) -> bool:
        """Have the machines write tombstones for values that are due, as far as they are this process's; return whether there
        may be more.
        """
        placement = self._stored.placement
        if placement is None:
            return False
        mine = own_due(self._engine, placement, self._copies.me, self._clock.now())
        if mine:
            self._copies.handle(DueFound(mine))
        return len(mine) == STEP

    def forget(self) -> bool:
        """Drop old tombstones; return whether there may be more."""
        old, after = self._stored.buried(STEP, self._passed)
        self._passed = after or NOT_BURIED
        may_go = [key for key in old if self._copies.replica.may_forget(key)]
        if may_go:
            self._stored.replace((), may_go)
        return after is not None
