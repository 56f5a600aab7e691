"""The progress of the filling of this node, for the authority and for the log."""

from time import monotonic

import gevent

from gkv.cluster.callin import FillProgress
from gkv.log import say
from gkv.node.copies import Copies
from gkv.node.cursors import END, position_of
from gkv.replication.filling import Fillings, Progress

_LOOK_EVERY = 0.25
_SAID_EVERY = 10.0
"""Seconds between two lines about a filling that takes long."""


def progress_of(fillings: Fillings) -> FillProgress | None:
    """Return how far the lists are that this node is a learner of; None if it is of none, or all are equal. O(lists)."""
    if not fillings.busy:
        return None
    reached = fillings.reached
    lists = [1.0 if cursor is None else position_of(cursor)[0] / END[0] for cursor in reached]
    figures = fillings.progress
    share = round(sum(lists) / len(lists), 4)
    return FillProgress(figures.lists, figures.equal, share, figures.taken, figures.dropped)


class FillNews:
    """The lines about the fillings of one node."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._since: float | None = None
        """The time at which a filling was seen first that goes on."""
        self._said = 0.0
        self._before = Progress()
        """The figures when the last filling was over."""

    def look(self, now: float, found: FillProgress | None, figures: Progress, *, filled: bool) -> str | None:
        """Return the line that is due now about a filling that goes on, or is over and took more than a moment; else None.

        `filled` tells whether all lists have a primary and are equal. One that is interrupted, as its node is down or a primary
        is gone, is not over: what is left of it is counted with what came before.
        """
        taken, dropped = figures.taken - self._before.taken, figures.dropped - self._before.dropped
        if found is None and not filled:
            return None
        if found is None:
            since, self._since, self._before = self._since, None, figures
            if since is None:
                return None
            return f"{self._me}: filled from the others in {now - since:.1f} s: {taken} records taken, {dropped} dropped"
        if self._since is None:
            self._since = self._said = now
        if now - self._said < _SAID_EVERY:
            return None
        self._said = now
        return (
            f"{self._me}: is being filled from the others: {found.share:.0%} looked at, {found.equal} of {found.lists} lists "
            f"are equal, {taken} records taken"
        )


def say_progress(me: str, copies: Copies) -> None:
    """Say how fillings go on that take more than a moment. Switches greenlets, and does not end."""
    news = FillNews(me)
    while True:
        gevent.sleep(_LOOK_EVERY)
        fillings, duties = copies.replica.copying.fillings, copies.replica.desk.duties
        filled = fillings.filled(duties) and fillings.coming(duties)
        line = news.look(monotonic(), progress_of(fillings), fillings.progress, filled=filled)
        if line is not None:
            say(line)
