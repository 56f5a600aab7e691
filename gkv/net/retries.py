"""How often a process may ask nodes again, over all that it asks.

Promise: in the long run at most a tenth of what is asked is asked again, so that nodes in trouble do not get a multiple of
their load. Nothing here switches greenlets.
"""

SHARE = 0.1
CAPACITY = 1_000
"""Retries in a row without a new request. When the member list changes, all requests in flight are asked again at once."""


class Retries:
    """A bucket of tokens, full at first: a request brings a part of one, a retry spends one."""

    __slots__ = ("_capacity", "_tokens", "refused")

    def __init__(self, capacity: float = CAPACITY) -> None:
        self._capacity = self._tokens = capacity
        self.refused = 0
        """How often something was not asked again."""

    def earn(self) -> None:
        """Note a request that is made for the first time."""
        if self._tokens < self._capacity:
            self._tokens += SHARE

    def spend(self) -> bool:
        """Return whether something may be asked once more."""
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        return True
