"""A turn for others from within long work.

Promise: work that calls a `Turn` between its steps keeps the event loop from others for no more than
`SLICE` and one step, whatever is waiting: ready greenlets, sockets, timers. Leaves to others: to cut
the work into steps of a few milliseconds. Calls may switch greenlets.
"""

import os
from time import monotonic

from gevent import get_hub

LARGE = 65_536
"""Bytes of a body or an answer above which the work is worth a `Turn`."""

SLICE = 0.002
"""Seconds of work between two turns of others. To give way costs 20 us, a hundredth of that."""

_always_readable, _kept_open = os.pipe()
os.write(_kept_open, b"\0")


def give_way() -> None:
    """Wait for one pass of the event loop, in which it looks at all sockets.

    An event on a pipe that is always readable does that; with the lowest priority, since everybody
    whose socket is ready in that pass goes first. `gevent.sleep(0)` does not: ready greenlets run
    many times before the loop looks at a socket. A timer does, but takes a millisecond more.
    """
    hub = get_hub()
    watcher = hub.loop.io(_always_readable, 1, priority=hub.loop.MINPRI)
    try:
        hub.wait(watcher)
    finally:
        watcher.close()


class Turn:
    """Gives way when it is called `SLICE` or more after it was made, or after it gave way last.

    A call that does not give way costs 0.1 us.
    """

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = monotonic() + SLICE

    def __call__(self) -> None:
        if monotonic() >= self._until:
            give_way()
            self._until = monotonic() + SLICE
