"""A change of the ring in words: what is different between the ring of a document and another one. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gkv.cluster.document import Document, Layout, State
from gkv.ring import token_name


class Kind(StrEnum):
    """The kind of a change."""

    JOIN = "join"
    LEAVE = "leave"
    REMOVAL = "removal"
    """Of a member that is down."""
    REPLACEMENT = "replacement"
    """Of a member by a newcomer that takes its place."""
    WEIGHT = "weight"
    ZONE = "zone"
    COPIES = "copies"
    VNODES = "vnodes"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class RingChange:
    """A change."""

    kind: Kind
    """The first kind of those that it has."""
    nodes: tuple[str, ...]
    """Members whose lines change by it, ascending."""
    what: str
    """Words for people."""


def ring_change(document: Document, layout: Layout) -> RingChange:
    """Return the change from a document's ring to another one. O(members)."""
    found = list(_parts(document, layout))
    nodes = sorted({node_id for _, node_id, _ in found if node_id})
    what = ", ".join([words for _, _, words in found if words]) or "nothing changes"
    return RingChange(found[0][0] if found else Kind.NONE, tuple(nodes), what)


def _parts(document: Document, layout: Layout) -> Iterator[tuple[Kind, str, str]]:
    weights, coming = dict(document.layout.weights), dict(layout.weights)
    zones, zones_then = dict(document.layout.zones), dict(layout.zones)
    places = {token_name(node): node.id for node in document.nodes if node.id not in coming}
    by = {places[name]: node_id for node_id, name in layout.tokens_of if node_id not in weights and name in places}
    for node_id, newcomer in sorted(by.items()):
        yield Kind.REPLACEMENT, newcomer, f"{newcomer} replaces {node_id}"
        yield Kind.REPLACEMENT, node_id, ""
    for node_id in sorted(coming.keys() - weights.keys() - set(by.values())):
        yield Kind.JOIN, node_id, f"{node_id} joins"
    for node_id in sorted(weights.keys() - coming.keys() - by.keys()):
        line = document.member(node_id)
        down = line is not None and (line.state is State.DOWN or line.incarnation in document.removed)
        yield Kind.REMOVAL if down else Kind.LEAVE, node_id, f"{node_id} {'is removed' if down else 'leaves'}"
    for node_id in sorted(weights.keys() & coming.keys()):
        if weights[node_id] != coming[node_id]:
            words = f"the weight of {node_id} becomes {coming[node_id]:g} (now {weights[node_id]:g})"
            yield Kind.WEIGHT, node_id, words
        zone = zones_then.get(node_id, "")
        if zones.get(node_id, "") != zone and 1 not in (document.replicas, layout.replicas):
            yield Kind.ZONE, node_id, f"{node_id} comes to {f'the zone {zone}' if zone else 'no zone'}"
    if document.replicas != layout.replicas:
        yield Kind.COPIES, "", f"each key has {layout.replicas} copies (now {document.replicas})"
    if document.vnodes != layout.vnodes:
        yield Kind.VNODES, "", f"an ordinary node has {layout.vnodes} vnodes (now {document.vnodes})"
