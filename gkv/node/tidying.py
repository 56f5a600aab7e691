"""Tidiness of a member that keeps copies: values that are due and nobody asks for, tombstones that are old, records of keys
that are others' by now. The machines say of each key whether it may go.
"""

import gevent

from gkv.cluster.lists import Lists
from gkv.cluster.placement import Placement
from gkv.engine import NOT_BURIED, Engine
from gkv.errors import GkvError
from gkv.node.copies import Copies
from gkv.node.due_clock import DueClock
from gkv.node.stored import Stored
from gkv.replication.events import DueFound

_EVERY = 1.0
_STEP = 200
"""Keys in one step, which takes a write of its own."""
_MOST_DUE = 3_200
"""Values that are due among which this process's own are looked for: others' stay until their primary's tombstone comes."""
_LOOKED_AT = 100
"""Records that are looked at in one step of the search for others'."""
_BYTES = 1 << 20
"""Of them, after which that is enough: each is read whole, 1 ms for so many."""
_PAUSE = 0.05
_LAST_TOKEN = (1 << 64) - 1


class Tidying:
    """The work for which nobody waits."""

    def __init__(self, engine: Engine, stored: Stored, copies: Copies, clock: DueClock) -> None:
        self._engine = engine
        self._stored = stored
        self._copies = copies
        self._clock = clock
        self._passed = NOT_BURIED
        """The tombstone at which the next step begins: those before may not go yet."""
        self._looked_for: tuple[Lists, Lists | None] | None = None
        """The lists by which others' records have been looked for, or are being."""
        self._after: str | None = None
        self._at_end = False

    def run(self) -> None:
        """Be tidy again and again. Switches greenlets, and does not end."""
        while True:
            more = False
            try:
                more = self.expire()
                more = self.forget() or more
                more = self.drop() or more
            except GkvError:  # no room just now, or the store cannot be looked at; the next round is soon
                pass
            gevent.sleep(_PAUSE if more else _EVERY)

    def expire(self) -> bool:
        """Have the machines write tombstones for values that are due, as far as they are this process's; return whether there
        may be more.
        """
        now, limit = self._clock.now(), _STEP
        placement = self._stored.placement
        while placement is not None:
            due = self._engine.due(now, limit)
            mine = [key for key in due if self._is_mine(key, placement)]
            if mine or len(due) < limit or limit >= _MOST_DUE:
                if mine:
                    self._copies.handle(DueFound(mine[:_STEP]))
                return len(mine) >= _STEP
            limit *= 4
        return False

    def _is_mine(self, key: str, placement: Placement) -> bool:
        return placement.roles[placement.list_of(key)].primary == self._copies.me

    def forget(self) -> bool:
        """Drop old tombstones; return whether there may be more."""
        old, after = self._stored.buried(_STEP, self._passed)
        self._passed = after or NOT_BURIED
        may_go = [key for key in old if self._copies.replica.may_forget(key)]
        if may_go:
            self._stored.replace((), may_go)
        return after is not None

    def drop(self) -> bool:
        """Look at the next records, and drop those of keys that are in others' lists alone; return whether there are more.

        All are looked at after a start, and whenever the lists are others.
        """
        placement = self._stored.placement
        if placement is None or not self._copies.serves:
            return False
        lists = placement.lists, placement.coming
        if self._looked_for is None or any(one is not other for one, other in zip(lists, self._looked_for, strict=True)):
            self._looked_for, self._after, self._at_end = lists, None, False
        if self._at_end:
            return False
        found = self._engine.arc(0, _LAST_TOKEN, self._after, _LOOKED_AT, _BYTES)
        self._at_end = not found
        if self._at_end:
            self._stored.tidied = lists
        if found:
            self._after = found[-1][0]
        others = [key for key, _ in found if self._copies.replica.may_drop(key)]
        if others:
            self._stored.replace((), others)
        return not self._at_end
