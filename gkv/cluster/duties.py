"""The part of a document that a member's machines know. They never see a ring. Pure."""

from collections.abc import Callable

from gkv.cluster.document import Document, State
from gkv.cluster.placement import Placement
from gkv.model import Duties, Line

_REMEMBERED = 4_096
"""Keys whose list is not looked up again: the machines ask some ten times for each key of a write, half of its cost."""


def duties(document: Document, placement: Placement, me: str) -> Duties:
    """Return what the member `me` is to know of a document and its placement. O(members)."""
    return Duties(
        me,
        document.order,
        {one.id: Line(one.incarnation, one.state is State.DOWN, one.since, one.empty) for one in document.members},
        placement.roles,
        _remembering(placement.list_of),
        document.lease_ms / 1_000,
        document.needed,
        document.layout,
        document.next,
        document.next_since,
        frozenset(document.ended),
    )


def _remembering(list_of: Callable[[str], int]) -> Callable[[str], int]:
    """Return the same function, which remembers its last results."""
    known: dict[str, int] = {}

    def find(key: str) -> int:
        place = known.get(key)
        if place is None:
            if len(known) >= _REMEMBERED:
                known.clear()
            place = known[key] = list_of(key)
        return place

    return find
