"""The part of a document that a member's machines know. They never see a ring. Pure."""

from collections.abc import Callable, Sequence

from gkv.cluster.document import Document, State
from gkv.cluster.placement import Placement
from gkv.duties import Duties, Line


def duties(document: Document, placement: Placement, me: str) -> Duties:
    """Return what the member `me` is to know of a document and its placement. O(members)."""
    return Duties(
        me,
        document.order,
        lines_of(document),
        placement.roles,
        _remembering(placement.lists_of),
        document.lease_ms / 1_000,
        document.needed,
        document.layout,
        document.next,
        document.next_since,
        frozenset(document.ended),
        document.pace,
    )


def lines_of(document: Document) -> dict[str, Line]:
    """Return the lines of a document, by id. O(members)."""
    return {
        one.id: Line(one.incarnation, one.state is State.DOWN, one.since, one.empty, one.is_first) for one in document.members
    }


def _remembering(lists_of: Callable[[Sequence[str]], list[int]]) -> Callable[[Sequence[str]], Sequence[int]]:
    """Return the same function, which remembers its last result: the machines ask for each write more than once."""
    last: tuple[Sequence[str], list[int]] = ((), [])

    def find(keys: Sequence[str]) -> Sequence[int]:
        nonlocal last
        if last[0] is not keys:
            last = keys, lists_of(keys)
        return last[1]

    return find
