"""One node in the place of another: the ring in which that is so, and the newcomers that a ring has. Pure.

The newcomer takes the tokens of the one that goes, so it gets what that one has, and nothing else moves. A leave and a join
would move a third more with five nodes, and to nodes that give as much away.
"""

from collections.abc import Mapping
from dataclasses import replace

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, Layout, Member
from gkv.ring import token_name


def replaced(document: Document, member: Member, newcomer: str, zone: str) -> Layout:
    """Return the ring of a document with a newcomer in a member's place, of that one's weight, and zone if it has none."""
    weights = dict(document.layout.weights)
    zones, tokens_of = dict(document.layout.zones), dict(document.layout.tokens_of)
    weights[newcomer] = weights.pop(member.id)
    zones[newcomer] = zone or zones.pop(member.id, "")
    zones.pop(member.id, None)
    tokens_of.pop(member.id, None)
    tokens_of[newcomer] = token_name(member.node)
    zoned = tuple(sorted((one, name) for one, name in zones.items() if name))
    ring = replace(document.layout, weights=tuple(sorted(weights.items())), zones=zoned)
    return replace(ring, tokens_of=tuple(sorted(tokens_of.items())))


def only(layout: Layout, ids: set[str]) -> Layout:
    """Return a ring with only those of its members that are among `ids`."""
    return replace(
        layout,
        weights=tuple(pair for pair in layout.weights if pair[0] in ids),
        zones=tuple(pair for pair in layout.zones if pair[0] in ids),
        tokens_of=tuple(pair for pair in layout.tokens_of if pair[0] in ids),
    )


def newcomers(document: Document, layout: Layout, calls: Mapping[str, CallIn]) -> list[CallIn] | None:
    """Return the calls of a ring's nodes that are no members yet; None if one of them does not call in."""
    ids = [node_id for node_id, _ in layout.weights if document.member(node_id) is None]
    found = [calls[one] for one in ids if one in calls]
    return found if len(found) == len(ids) else None


def with_lines(document: Document, layout: Layout) -> Document:
    """Return a document that has a line for each node of a ring, as if the newcomers had been there already."""
    for node_id, _ in layout.weights:
        if document.member(node_id) is None:
            document = document.with_member(Member(node_id, f"http://{node_id}", 0.0))
    return document
