"""The part of a document that a member's machines know. They never see a ring. Pure."""

from collections.abc import Callable, Sequence

from gkv.cluster.document import Document, State
from gkv.cluster.placement import Placement
from gkv.model import Duties, Line

_REMEMBERED = 4_096
"""Keys, and those of one request more, whose list is not looked up again: the machines ask for each of a write some times."""


def duties(document: Document, placement: Placement, me: str) -> Duties:
    """Return what the member `me` is to know of a document and its placement. O(members)."""
    return Duties(
        me,
        document.order,
        {one.id: Line(one.incarnation, one.state is State.DOWN, one.since, one.empty) for one in document.members},
        placement.roles,
        _remembering(placement.lists_of),
        document.lease_ms / 1_000,
        document.needed,
        document.layout,
        document.next,
        document.next_since,
        frozenset(document.ended),
    )


def _remembering(lists_of: Callable[[Sequence[str]], list[int]]) -> Callable[[Sequence[str]], Sequence[int]]:
    """Return the same function, which remembers its last results."""
    known: dict[str, int] = {}

    def find(keys: Sequence[str]) -> Sequence[int]:
        found = list(map(known.get, keys))
        if None not in found:
            return found  # type: ignore[return-value]  # as there is no None in it
        if len(known) >= _REMEMBERED:
            known.clear()
        places = lists_of(keys)
        known.update(zip(keys, places, strict=True))
        return places

    return find
