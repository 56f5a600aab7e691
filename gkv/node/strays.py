"""The search for others' records: those of keys that are in none of this member's lists, by the ring in force or the one that
is to come. A change of the ring leaves them behind, and they go in small steps.
"""

from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

import gevent

from gkv.cluster.document import State
from gkv.cluster.view import View
from gkv.engine import Commits, Engine, Pending
from gkv.errors import GkvError
from gkv.node.copies import Copies
from gkv.node.stored import Stored

_LOOKED_AT = 100
"""Records that are looked at in one step."""
_BYTES = 1 << 20
"""Of them, after which that is enough: each is read whole, 1 ms for so many."""
_SHORT, _LONG, _EVERY = 0.005, 0.05, 1.0
"""Seconds from one step to the next: at least, and where nothing was found; and from one search to the next."""
_TIMES = 9
"""While there are some, pauses are so many times as long as the step before them: the search takes a tenth of a core."""
_LAST_TOKEN = (1 << 64) - 1


class Strays:
    """One search. All records are looked at after a start, and whenever the lists are others."""

    def __init__(self, me: str, view: View, engine: Engine, commits: Commits, stored: Stored, copies: Copies) -> None:
        self._me = me
        self._view = view
        self._engine = engine
        self._commits = commits
        self._stored = stored
        self._copies = copies
        self._looked_for = 0
        """The lists by which others' records have been looked for, or are being, as `Stored` counts them."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._after: str | None = None
        self._dropping: Pending | None = None
        """The commit that is waited for, unless it is over: that of a drop, so that a slow disk sets the pace."""
        self._at_end = False

    def run(self) -> None:
        """Search again and again. Switches greenlets, and does not end."""
        while True:
            more, began = False, monotonic()
            with suppress(GkvError):  # no room just now, or the store cannot be looked at; the next round is soon
                more = self.step()
            gevent.sleep(self._pause(monotonic() - began) if more else _EVERY)

    def step(self) -> bool:
        """Look at the next records, and drop others', unless the drop before goes on; return whether there are more. Does not
        switch greenlets.
        """
        placement, line = self._view.placement, self._view.line
        if placement is None or line is None or line.state is State.DOWN or not self._may_write:
            return False
        if self._looked_for != self._stored.lists:  # which a change has made others, though it was taken back at once
            before = self._replace(())  # over when all is that was on its way by the lists of before
            self._begin_anew()
            self._looked_for, self._dropping = self._stored.lists, before
        if self._at_end:
            return False
        if self._dropping is not None and self._dropping.failed:  # as there was no room: what it was to drop is there still
            self._looked_for = 0
            return False
        if self._dropping is not None and not self._dropping.done:
            return True
        self._dropping = None
        found = self._engine.arc(0, _LAST_TOKEN, self._after, _LOOKED_AT, _BYTES)
        if not found:
            self._at_end = True
            self._stored.tidied = self._looked_for
            return False
        others = placement.strange_to(self._me, [key for key, _ in found])
        if others:
            self._dropping = self._replace(others)
        self._after = found[-1][0]
        return True

    def _replace(self, others: Sequence[str]) -> Pending:
        return (self._stored if self._copies.active else self._commits).replace((), others)

    def _pause(self, took: float) -> float:
        """Return the seconds to the next step after one that `took` so many: a long time where that has found nothing. A member
        that has left the ring is asked for nothing, and stays in the document until all it has is dropped.
        """
        placement, line = self._view.placement, self._view.line
        has_left = placement is not None and placement.coming is None and line is not None and not line.weight
        if has_left or self._dropping is None:
            return _SHORT if has_left else _LONG
        return max(_SHORT, _TIMES * took)

    @property
    def _may_write(self) -> bool:
        """Whether nobody waits for the end of all commits, to go on by other rules."""
        return self._copies.active or self._view.admits is not None
