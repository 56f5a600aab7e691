"""The names of a listing: keys, and prefixes that stand for all keys which begin with them. Pure.

A key that has the delimiter behind the listing's prefix is not listed by itself, but by its part up to the end of the first
delimiter. A place in a listing is a text: all keys before it, in code point order, are done.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest

AT_ONCE = 500
"""About so many keys are looked at in one step: 1 ms."""
_FEW, _CALL = 8, 4
"""Keys of one call of the engine where many of them may stand for one name, and what a call itself counts."""
_LAST = "\U0010ffff"
_BEHIND_ALL = _LAST * 121
"""A key has 480 bytes at most."""
_SURROGATES, _BEHIND_SURROGATES = 0xD800, 0xE000

Stored = Callable[[str, str, int], Sequence[tuple[str, int]]]
"""Returns keys that are stored, as `Engine.keys`."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a listing is about.

    >>> scope = Scope("a/", "/")
    >>> [scope.name_of(key) for key in ("a/", "a/b", "a/b/", "a/b/c/d")]
    ['a/', 'a/b', 'a/b/', 'a/b/']
    """

    prefix: str = ""
    delimiter: str = ""
    """Empty where each key is listed by itself."""

    def name_of(self, key: str) -> str:
        """Return the name by which a key is listed, which begins with the prefix."""
        if not self.delimiter:
            return key
        at = key.find(self.delimiter, len(self.prefix))
        return key if at < 0 else key[: at + len(self.delimiter)]

    def is_prefix(self, name: str) -> bool:
        """Return whether a name stands for all keys that begin with it."""
        return bool(self.delimiter) and name.find(self.delimiter, len(self.prefix)) >= 0

    def behind(self, name: str) -> str:
        """Return the place behind all keys of a name.

        >>> [Scope("", "/").behind(name) for name in ("a", "a/")]
        ['a\\x00', 'a0']
        """
        if not self.is_prefix(name):
            return name + "\0"
        stem = name.rstrip(_LAST)
        if not stem:
            return _BEHIND_ALL
        following = ord(stem[-1]) + 1
        return stem[:-1] + chr(_BEHIND_SURROGATES if following == _SURROGATES else following)


def first_of(keys: Iterable[str], prefix: str, begin: str) -> list[str]:
    """Return the first `AT_ONCE` of these keys, each once, that begin with a prefix and do not sort before a place, ascending.
    O(keys): 0.1 us for one that is left out.
    """
    return nsmallest(AT_ONCE, {key for key in keys if key >= begin and key.startswith(prefix)})


@dataclass(slots=True)
class Look:
    """What one step of a listing has found."""

    names: list[str] = field(default_factory=list)
    """Those of keys that have a value for certain."""
    doubtful: dict[str, str] = field(default_factory=dict)
    """By key whose newest record has to be asked for, its name: something may be on its way, or is due."""
    end: str | None = None
    """The place that is reached, None at the end."""

    @property
    def count(self) -> int:
        """How many names there are at most."""
        return len(self.names) + len(self.doubtful)


def look(
    scope: Scope,
    begin: str,
    limit: int,
    stored: Stored,
    unsettled: Sequence[str],
    own: Callable[[Sequence[str]], Sequence[str]],
    now: int,
) -> Look:
    """Look for up to `limit` names from a place on; fewer where many keys are others', or are passed over.

    `unsettled` are, ascending, the first `AT_ONCE` keys of the prefix from that place on with a write that is not certainly
    settled and on the disk: their records are not judged here. `own` picks the keys that are to be listed here.
    """
    found = Look()
    bound = unsettled[AT_ONCE - 1] if len(unsettled) >= AT_ONCE else None
    place, left = begin, AT_ONCE
    while True:
        size = min(left, _FEW if scope.delimiter else limit - found.count)
        rows = stored(scope.prefix, place, size)
        upto = rows[-1][0] if len(rows) == size else None
        if bound is not None and (upto is None or upto > bound):
            upto = bound
        here = {key: expires for key, expires in rows if upto is None or key <= upto}
        last = len(unsettled) if upto is None else bisect_right(unsettled, upto)
        under_way = set(unsettled[bisect_left(unsettled, place) : last])
        for key in own(sorted(under_way.union(here))):
            if key < place:
                continue  # a name that is found already stands for it
            if found.count >= limit:
                found.end = place
                return found
            name = scope.name_of(key)
            if key in under_way or 0 < here[key] <= now:
                found.doubtful[key] = name
                place = key + "\0"
                continue
            found.names.append(name)
            place = scope.behind(name)
            if name != key:
                found.doubtful = {other: one for other, one in found.doubtful.items() if one != name}
        if upto is None:
            return found
        place = max(place, upto + "\0")
        left -= _CALL + len(here) + len(under_way)
        if left <= 0 or found.count >= limit or (bound is not None and place > bound):
            found.end = place
            return found
