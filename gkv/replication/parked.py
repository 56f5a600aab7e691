"""The calls of a later epoch that wait for its document (M1). All are repeated until they are answered, so that the newest
are enough: what is kept has a bound, and nothing stays for good because its document never comes.
"""

from collections import deque

from gkv.replication.events import Received
from gkv.replication.messages import Copy, Message

MOST = 256
MOST_BYTES = 1 << 24
"""Of their values."""


class Parked:
    """The calls of one process."""

    def __init__(self) -> None:
        self._calls: deque[Received] = deque()
        self._size = 0

    def add(self, call: Received) -> None:
        """Keep a call; the oldest go when there are too many."""
        self._calls.append(call)
        self._size += _size(call.message)
        while len(self._calls) > MOST or self._size > MOST_BYTES:
            self._size -= _size(self._calls.popleft().message)

    def take(self) -> list[Received]:
        """Take all out, the oldest first."""
        calls = list(self._calls)
        self._calls.clear()
        self._size = 0
        return calls


def _size(message: Message) -> int:
    writes = message.writes if isinstance(message, Copy) else ()
    return sum(len(value) for write in writes for value in write.values if value is not None)
