"""The wait of a test for what other greenlets bring about."""

import time
from collections.abc import Callable

import gevent


def soon() -> float:
    """Return a deadline on `time.monotonic` that nothing misses."""
    return time.monotonic() + 10


def eventually(condition: Callable[[], object]) -> None:
    """Return when a condition holds; fail when that does not come in time."""
    deadline = soon()
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        gevent.sleep(0.001)
