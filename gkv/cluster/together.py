"""Lines about many members of which the same is to be said: what happens to a whole zone at once is one line. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

_APART = 3
"""Members at most that have a line of their own each."""
_NAMED = 10
"""Members at most that are named in one line."""

What = TypeVar("What")


def together(found: Mapping[str, What]) -> Iterator[tuple[What, list[str]]]:
    """Yield what there is to say, and about which members, in the order of `found`: of each by itself, or of more than three at
    once.

    >>> list(together({"a": "up", "b": "down", "c": "up"}))
    [('up', ['a']), ('down', ['b']), ('up', ['c'])]
    >>> list(together(dict.fromkeys("abcd", "down") | {"e": "up"}))
    [('down', ['a', 'b', 'c', 'd']), ('up', ['e'])]
    """
    groups: dict[What, list[str]] = {}
    for node_id, what in found.items():
        groups.setdefault(what, []).append(node_id)
    said: set[What] = set()
    for node_id, what in found.items():
        if len(groups[what]) <= _APART:
            yield what, [node_id]
        elif what not in said:
            said.add(what)
            yield what, groups[what]


def listed(ids: Sequence[str]) -> str:
    """Return ids as they stand in a line, all but the first ten as a number.

    >>> listed(["a", "b", "c"]), listed([str(i) for i in range(12)])
    ('a, b and c', '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more')
    """
    shown = [*ids[:_NAMED], *([f"{len(ids) - _NAMED} more"] if len(ids) > _NAMED else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
