"""The sweep: tombstones for values that are due and that nobody asks for, which frees their room."""

from collections.abc import Callable, Sequence
from time import monotonic

import gevent

from gkv.cluster.placement import Placement
from gkv.cluster.view import View
from gkv.engine import Engine
from gkv.errors import GkvError
from gkv.node.handler import COMMIT_WITHIN
from gkv.node.order import Order

_EVERY = 1.0
STEP = 200
"""Values in one step, which takes a write of its own."""
_MOST_DUE = 3_200
"""Values that are due among which a member's own are looked for: others' stay until their primary's tombstone comes, or for a
while after a change of the ring.
"""


def own_due(engine: Engine, placement: Placement, member: str, now: int) -> Sequence[str]:
    """Return the first keys, `STEP` at most, of values that are due and for which a member answers. O(`_MOST_DUE`)."""
    limit = STEP
    while True:
        due = engine.due(now, limit)
        mine = placement.led_by(member, due)[:STEP]
        if mine or len(due) < limit or limit >= _MOST_DUE:
            return mine
        limit *= 4


class Sweeper:
    """Expires what is due and this node's own, while this process may write."""

    def __init__(self, node_id: str, view: View, engine: Engine, order: Order) -> None:
        self._id = node_id
        self._view = view
        self._engine = engine
        self._order = order

    def run(self, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Sweep again and again, for as long as that is so. Switches greenlets."""
        while goes_on():
            try:
                more = self.sweep() == STEP
            except GkvError:  # no room just now, or too much waits; the next round is soon
                more = False
            gevent.sleep(0 if more else _EVERY)

    def sweep(self) -> int:
        """Write the tombstones of one step, and wait until they are settled; return how many were due of this node."""
        era, placement = self._view.admits, self._view.placement
        if era is None or placement is None:
            return 0
        mine = own_due(self._engine, placement, self._id, self._order.clock.now())
        # A write on its way replaces the value that is due, or is its tombstone.
        left = [key for key in mine if key not in self._order.unsettled.newest]
        if left:
            pending = self._order.expire(left, era)
            pending.wait(monotonic() + COMMIT_WITHIN)
        return len(mine) if left else 0
