"""What must hold while the stack runs, looked at where something could break it; the checker of histories sees the rest.

R1, R2, M1 and F7 are looked at in the node itself, at the moment at which a read is told, a write is
acknowledged, a document comes into force, a note is told to be there; R6 in each new document of the
authority's; R7 in the end.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gkv.cluster.document import Document, State
from gkv.cluster.placement import Placement
from gkv.model import Version
from gkv.node.copied_listing import CopiedListing
from gkv.node.copies import Copies
from gkv.replication.actions import Answer, Fate
from gkv.replication.events import Event, LeasesAsked, NoteKept, ReadAsked, WriteAsked
from gkv.replication.names import Look
from gkv.wire.ops import ListKeys

if TYPE_CHECKING:
    from tests.stack.programs import NodeProgram
    from tests.stack.world import World


class Wrong(Exception):
    """Something is as it must never be."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")


class Watched(Copies):
    """Copies of a node that are looked at."""

    rules: "Rules"
    node: "NodeProgram"
    asked: dict[Any, Any]
    """The keys of the requests that the machines have."""
    looked_at: Sequence[str] = ()
    """Those of the read from the disk of now."""

    def handle(self, event: Event) -> None:
        if isinstance(event, ReadAsked | WriteAsked):
            self.asked[event.client] = event.keys
        if isinstance(event, LeasesAsked):
            self.asked[event.client] = [""]  # told as of one key
        if isinstance(event, NoteKept) and event.there and not self.node.kept.granted:
            self.rules.found("F7", f"{self.me} grants, and the note is not on its disk")
        super().handle(event)

    def is_settled(self, keys: Sequence[str]) -> bool:
        self.looked_at = keys
        return super().is_settled(keys)

    def may_tell(self) -> bool:
        told = super().may_tell()
        if told:
            self.rules.alone(self.node)
            self.rules.told(self.node, self.looked_at)
        return told

    def _answer(self, action: Answer) -> None:
        version = action.version
        for key, one in zip(self.asked.pop(action.client), action.each, strict=True):
            if one.fate is Fate.WRITTEN and version is not None:
                self.rules.written(self.node, key, version)
        super()._answer(action)


class WatchedListing(CopiedListing):
    """Listings of a node that are looked at."""

    copies: Watched

    def look(self, request: ListKeys, place: str, limit: int) -> Look | None:
        self.copies.looked_at = ()
        found = super().look(request, place, limit)
        if found is not None and not request.delimiter:
            self.copies.rules.told(self.copies.node, found.names)
        return found


class Rules:
    """The rules over one world."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.acknowledged = 0
        self.epochs = 0
        self.wrong: list[Wrong] = []
        """What was found; raised by the world's own greenlet."""
        self._settled: dict[str, Version] = {}
        self._document: Document | None = None

    def found(self, rule: str, what: str) -> None:
        """Note that something is wrong."""
        self.wrong.append(Wrong(rule, what))

    def alone(self, node: "NodeProgram") -> None:
        """R1: nobody else could tell now what belongs to a list whose primary this process is."""
        world = self._world
        placement = node.view.placement
        mine = {(one.preference, one.coming) for one in _roles(placement) if one.primary == node.machine}
        for other in world.nodes.values():
            copies = getattr(other, "copies", None)
            if other is node or copies is None or not copies.active or not copies.serves or other.host.paused:
                continue
            clock = other.host.began + world.loop.now_true * other.host.rate
            if clock >= copies.replica.reads_until:
                continue
            both = mine & {(one.preference, one.coming) for one in _roles(other.view.placement) if one.primary == other.machine}
            if both:
                self.found("R1", f"{node.machine} serves {min(both)}, and {other.machine} could")

    def in_force(self, who: str, document: Document | None, kept: Document | None) -> None:
        """M1: what is in force is on the disk. Called when it has come into force."""
        if document is not None and (kept is None or kept != document):
            self.found("M1", f"{who} acts by epoch {document.epoch}, which is not on its disk")

    def written(self, node: "NodeProgram", key: str, version: Version) -> None:
        """R2: an acknowledged write is on the disks of all that act for its key by the primary's document."""
        self.acknowledged += 1
        self._is_everywhere(node, "acknowledges", key, version)

    def told(self, node: "NodeProgram", keys: Sequence[str]) -> None:
        """R2: so is what a read tells from the disk."""
        for key in keys:
            version = node.engine.newest_of(key)
            if version is not None:
                self._is_everywhere(node, "tells", key, version)

    def _is_everywhere(self, node: "NodeProgram", does: str, key: str, version: Version) -> None:
        placement = node.view.placement
        if placement is None:
            return
        acting = placement.roles[placement.list_of(key)].acting
        if self._document is not None and self._document.has_ring:  # who has left the list since has dropped what it had
            newest = Placement.of(self._document, None)
            acting = tuple(set(acting).intersection(newest.roles[newest.list_of(key)].acting))
        for name in sorted(acting):
            engine = self._world.disks[name].engine
            found = None if engine is None else engine.newest_of(key)
            if found is None or found < version:
                self.found("R2", f"{node.machine} {does} {key} as {version}; {name} has {found} on its disk")
        self._settled[key] = max(version, self._settled.get(key, version))

    def document(self, document: Document) -> None:
        """R6: whoever acts by a document has every record that is settled."""
        if document is self._document:
            return
        self._document = document
        self.epochs += 1
        if not document.has_ring:
            return
        placement = Placement.of(document, None)
        for key, version in self._settled.items():
            for name in placement.roles[placement.list_of(key)].acting:
                engine = self._world.disks[name].engine
                found = None if engine is None else engine.newest_of(key)
                if found is None or found < version:
                    self.found("R6", f"{name} acts in epoch {document.epoch} for {key} with {found} instead of {version}")

    def equal(self) -> None:
        """R7: all copies of a list are equal in what lives, and nobody has what is not its own. Raise Wrong."""
        world = self._world
        nodes = world.nodes
        document = next(iter(nodes.values())).view.document
        placement = next(iter(nodes.values())).view.placement
        assert document is not None
        assert placement is not None
        assert all(line.state is State.UP for line in document.members)
        live: dict[str, dict[str, Any]] = {name: node.engine.live_values() for name, node in nodes.items()}
        for key in sorted({key for values in live.values() for key in values}):
            acting = placement.roles[placement.list_of(key)].acting
            found = {name: live[name].get(key) for name in acting}
            if len({repr(one) for one in found.values()}) > 1:
                raise Wrong("R7", f"{key}: {found}")
            if strangers := [name for name in nodes if name not in acting and key in live[name]]:
                raise Wrong("R7", f"{key} is in {strangers}, and belongs to {acting}")


def _roles(placement: Placement | None) -> tuple[Any, ...]:
    return () if placement is None else tuple(placement.roles)
