"""The progress of the filling of this node, for the authority and for the log."""

from time import monotonic

import gevent

from gkv.cluster.callin import FillProgress
from gkv.log import say
from gkv.node.copies import Copies

_LOOK_EVERY = 0.25
_SAID_EVERY = 10.0
"""Seconds between two lines about a filling that takes long."""
_ALL_TOKENS = 1 << 64
_TOKEN = 16
"""Digits of a token in a cursor."""


def progress_of(copies: Copies) -> FillProgress | None:
    """Return how far the lists are that this node is a learner of; None if it is of none, or all are equal. O(lists)."""
    fillings = copies.replica.copying.fillings
    if not fillings.busy:
        return None
    reached = fillings.reached
    lists = [1.0 if cursor is None else _share(cursor) for cursor in reached]
    figures = fillings.progress
    share = round(sum(lists) / len(lists), 4)
    return FillProgress(figures.lists, figures.equal, share, figures.taken, figures.dropped)


def _share(cursor: str) -> float:
    """Return which share of all tokens lies before a cursor."""
    return int(cursor[:_TOKEN], 16) / _ALL_TOKENS if cursor else 0.0


def say_progress(me: str, copies: Copies) -> None:
    """Say how fillings go on that take more than a moment. Switches greenlets, and does not end."""
    since: float | None = None
    said = taken = dropped = 0.0
    while True:
        gevent.sleep(_LOOK_EVERY)
        now, found, figures = monotonic(), progress_of(copies), copies.replica.copying.fillings.progress
        if found is None:
            if since is not None:
                took, dropped_now = figures.taken - taken, figures.dropped - dropped
                say(f"{me}: filled from the others in {now - since:.1f} s: {took:.0f} records taken, {dropped_now:.0f} dropped")
            since = None
        elif since is None:
            since = said = now
            taken, dropped = figures.taken, figures.dropped
        elif now - said >= _SAID_EVERY:
            said = now
            say(
                f"{me}: is being filled from the others: {found.share:.0%} looked at, {found.equal} of {found.lists} lists are "
                f"equal, {figures.taken - taken:.0f} records taken"
            )
