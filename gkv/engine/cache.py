"""Values that were read lately, so that asking for them again costs a lookup instead of a walk through a tree.

It belongs to the event loop's thread. A read puts in what it found; `forget` must be called, on that thread, when a write of
these keys is over and before anybody is told of it. Then nobody who knows of a write is given an older value: a read after
`forget` sees what was written, and what a read before it put in is gone.
"""

from collections.abc import Iterable, Sequence

_OVERHEAD = 250
"""Bytes for an entry: two objects and their place in a dict."""


class Cache:
    """Text of values by key, up to `limit` bytes, overhead included; the oldest go first.

    First in, first out: keeping the order of use would cost each hit more than a miss that it saves now and then.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[str, bytes] = {}
        self._size = 0

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key in this order, None for one that is not here. 0.05 us a key."""
        return list(map(self._values.get, keys))

    def put(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Keep these values, and let go of the oldest."""
        for key, value in items:
            if key not in self._values:
                self._values[key] = value
                self._size += _OVERHEAD + len(key) + len(value)
        while self._size > self._limit:
            self._drop(next(iter(self._values)))

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of these keys, if they are here."""
        for key in keys:
            if key in self._values:
                self._drop(key)

    def _drop(self, key: str) -> None:
        self._size -= _OVERHEAD + len(key) + len(self._values.pop(key))

    def check(self) -> list[str]:
        """Return what is wrong with the count of bytes."""
        size = sum(_OVERHEAD + len(key) + len(value) for key, value in self._values.items())
        return [] if size == self._size <= self._limit else [f"the cache has {size} bytes, {self._size} were counted"]
