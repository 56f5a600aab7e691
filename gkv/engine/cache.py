"""Values that were read lately, so that asking for them again costs a lookup instead of a walk
through a tree.

It belongs to the event loop's thread. A read puts in what it found. While a write is under way,
from before the writer thread has it until it is over, its keys are barred: they are not here, and
are not put in. So a key is never here while the tree may show another value, and who has read the
tree finds nothing older here afterwards.
"""

from collections.abc import Iterable, Sequence

_OVERHEAD = 250
"""Bytes for an entry: two objects and their place in a dict."""


class Cache:
    """Text of values by key, up to `limit` bytes, overhead included; the oldest go first.

    First in, first out: keeping the order of use would cost each hit more than a miss that it saves
    now and then.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[str, bytes] = {}
        self._size = 0
        self._barred: frozenset[str] = frozenset()

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key in this order, None for one that is not here. 0.05 us a key."""
        return list(map(self._values.get, keys))

    def put(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Keep these values but those of barred keys, and let go of the oldest."""
        for key, value in items:
            if key not in self._values and key not in self._barred:
                self._values[key] = value
                self._size += _OVERHEAD + len(key) + len(value)
        while self._size > self._limit:
            self._drop(next(iter(self._values)))

    def bar(self, keys: Iterable[str]) -> None:
        """Let go of these keys, and keep out them and no others."""
        self._barred = frozenset(keys)
        for key in self._barred & self._values.keys():
            self._drop(key)

    def lift_bar(self) -> None:
        """Keep out no key any more."""
        self._barred = frozenset()

    def _drop(self, key: str) -> None:
        self._size -= _OVERHEAD + len(key) + len(self._values.pop(key))

    def check(self) -> list[str]:
        """Return what is wrong with the count of bytes, and with what is barred."""
        size = sum(_OVERHEAD + len(key) + len(value) for key, value in self._values.items())
        problems = [] if size == self._size <= self._limit else [f"the cache has {size} bytes, {self._size} were counted"]
        return problems + [f"the cache has {key!r}, which is being written" for key in self._barred & self._values.keys()]
