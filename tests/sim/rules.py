"""What must hold after each step, as functions of the world; each is called where something could break it.

R4 (nothing that could not be asked is reported missing) and R8 (nothing deleted or expired comes back) need no look at the
members: the checker of histories refuses such an answer. R9 (every change can be stopped, resumed and undone) shows in the end.
"""

from typing import TYPE_CHECKING

from gkv.cluster.document import Document, State
from gkv.cluster.document import Member as Line
from gkv.duties import Roles
from gkv.model import Record, Version
from tests.linearizability.history import Kind
from tests.sim.scenario import Call

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.world import World


class Facts:
    """What has become certain so far."""

    def __init__(self) -> None:
        self.settled: dict[str, Version] = {}
        """By key, the order of the newest record that somebody was told of, or that was acknowledged."""
        self.read: dict[str, Version] = {}
        """By key, that of the newest record that a client has read."""
        self.buried: dict[str, Version] = {}
        """By key, the newest tombstone that anybody has ever handed to its disk: a copy of it may be gone, or be no record."""
        self.lost = False
        """Whether a loss was accepted: what was certain until then is so no more."""
        self.epochs = 0
        self.acknowledged = 0
        self.answered = 0

    def note(self, key: str, order: Version) -> None:
        """Note that a record is settled."""
        self.settled[key] = max(order, self.settled.get(key, order))

    def lose(self) -> None:
        """Forget all, as somebody has accepted that something is lost."""
        self.lost = True
        self.settled.clear()
        self.read.clear()


class Wrong(Exception):
    """Something is as it must never be."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


def holds(world: "World", member: "Member", key: str, order: Version) -> bool:
    """Return whether a member's disk has a record of a key that is at least as new, or no value after a tombstone that is: an
    earlier tombstone is as good as that. Of a damaged one that counts which it was before, or what it stands for.
    """
    found = member.directory.records.get(key)
    known = found.version if found is not None and found.value is not None else world.facts.buried.get(key)
    return known is not None and known >= order


def alone(world: "World", member: "Member", key: str) -> None:
    """R1: nobody else could serve the key that a member serves now. R5: nobody serves who does not act."""
    roles = member.roles_of(key)
    if roles.primary != member.id or member.id not in roles.acting:
        raise Wrong("R5", f"{member.id} serves {key}, whose primary is {roles.primary} by its document")
    for other in world.members.values():
        if other is not member and other.alive and not other.paused and other.could_serve(key):
            raise Wrong("R1", f"{member.id} serves {key}, and {other.id} could")


def acknowledged(world: "World", member: "Member", key: str, order: Version) -> None:
    """R2: a write that is acknowledged is on the disks of all that act by the primary's document. R5: these are enough."""
    facts = world.facts
    facts.acknowledged += 1
    roles = member.roles_of(key)
    if len(roles.acting) < member.needed:
        raise Wrong("R5", f"{member.id} acknowledges {key} with {len(roles.acting)} acting members, {member.needed} are needed")
    for name in roles.acting:
        other = world.members[name]
        line = None if member.document is None else member.document.member(name)
        if line is None or line.incarnation not in other.directory.ran:
            continue  # its disk is gone; who comes back is empty
        if world.setup.is_async and (line.incarnation != other.incarnation or not other.alive):
            continue  # its memory is
        if not holds(world, other, key, order) and other.keeps(member.document, key):
            raise Wrong("R2", f"{member.id} acknowledges {key} as {order}, which is not on the disk of {name}")
    facts.note(key, order)


def read(world: "World", key: str, record: Record | None, since: Version | None) -> None:
    """R3: what has been read does not become unread; `since` is what had been read when the call came."""
    facts = world.facts
    facts.answered += 1
    if record is None:
        return
    order = record.version
    if record.value is None:
        order = max(order, facts.buried.get(key, order))  # an earlier tombstone tells the same as the newest
    if since is not None and order < since:
        raise Wrong("R3", f"{key} is read as of {order}, after it was read as of {since}")
    facts.read[key] = max(record.version, facts.read.get(key, record.version))
    facts.note(key, record.version)


def complete(world: "World", document: Document) -> None:
    """R6, R2: whoever acts by a new document has every record that is settled."""
    world.facts.epochs += 1
    for key, order in world.facts.settled.items():
        roles = world.roles_of(key, document)
        for name in roles.acting:
            member, line = world.members[name], document.member(name)
            if line is None or line.incarnation != member.incarnation or not member.alive:
                continue  # that process never acts
            if not holds(world, member, key, order):
                raise Wrong("R6", f"{name} acts in epoch {document.epoch} for {key} without {order}")


def kept(world: "World", member: "Member", key: str) -> None:
    """R2: what is settled stays on the disk of a member that acts."""
    order = world.facts.settled.get(key)
    if order is None or holds(world, member, key, order):
        return
    document = world.authority.document
    line = document.member(member.id)
    if line is not None and line.incarnation == member.incarnation and member.id in world.roles_of(key, document).acting:
        raise Wrong("R2", f"{member.id} acts for {key}, and has lost {order} from its disk")


# -- in the end


def stuck(world: "World") -> set[tuple[str, ...]]:
    """Return the lists that only an operator could bring back: the directory of the last one is gone."""
    document = world.authority.document
    lines: dict[str, Line] = {line.id: line for line in document.members}
    found = set()
    for roles in world.placement(document).roles:
        if roles.primary is None:
            last = max((lines[name].left, lines[name].rank) for name in roles.preference)
            tied = [lines[name] for name in roles.preference if (lines[name].left, lines[name].rank) == last]
            if all(line.empty or line.incarnation in document.removed for line in tied):
                found.add(roles.preference)
    return found


def last_ones(world: "World") -> list[str]:
    """Return the members whose loss keeps lists from anybody who could act."""
    lines = {line.id: line for line in world.authority.document.members}
    found = set()
    for one in stuck(world):
        last = max((lines[name].left, lines[name].rank) for name in one)
        found |= {name for name in one if (lines[name].left, lines[name].rank) == last}
    return sorted(found)


def unrest(world: "World") -> str | None:
    """Return why the world is not quiet yet, None when it is."""
    document = world.authority.document
    lists = stuck(world)
    waiting = {name for one in lists for name in one}
    if document.next is not None and not lists:
        return "the ring that is to come does not come"
    for line in document.members:
        is_out = line.incarnation in document.removed and document.next is not None  # which has been waited for
        if line.state is not State.UP and line.id not in waiting and not is_out:
            return f"{line.id} is {line.state}"
    for roles in world.placement(document).roles:
        if roles.preference in lists:
            continue
        if roles.primary is None:
            return f"nobody acts for {roles.preference}"
        primary = world.members[roles.primary]
        if primary.document is None or primary.document.order != document.order:
            return f"{primary.id} has an older document"
        if not primary.is_open(roles):
            return f"{roles.preference} is not open at {primary.id}"
    for member in world.members.values():
        if member.engine.busy:
            return f"the disk of {member.id} is busy"
        if member.unsettled and member.id not in waiting:
            return f"{member.id} has unsettled keys"
    return strays(world) or (_unmended(world, document) if world.setup.scrub_every else None)


def _unmended(world: "World", document: Document) -> str | None:
    """Return which copy is damaged though there is an intact one that acts: R7. A primary without a record is one as well."""

    def is_damaged(name: str) -> bool:
        return key in world.members[name].directory.damaged

    for key in world.keys:
        roles = world.roles_of(key, document)
        intact = [
            name
            for name in roles.acting
            if not is_damaged(name) and (name == roles.primary or key in world.members[name].directory.records)
        ]
        for name in (*roles.acting, *roles.learners) if intact else ():  # who is down is filled when it is back
            if is_damaged(name):
                return f"the record of {key} is damaged at {name}, and not at {intact[0]}"
    return None


def strays(world: "World") -> str | None:
    """Return what a member has that is not its own. A process that is no member, or none any more, keeps what it has."""
    document = world.authority.document
    for key in world.keys:
        roles = world.roles_of(key, document)
        for line in [line for line in document.members if line.incarnation not in document.removed]:
            member = world.members[line.id]
            if member.id not in (*roles.preference, *roles.coming) and _live(member.directory.records.get(key)) is not None:
                return f"{member.id} has {key}, which is not its own"
    return None


def is_served(world: "World", key: str) -> bool:
    """Return whether somebody acts for a key."""
    return world.roles_of(key, world.authority.document).primary is not None


def last_read(now: float, place: int) -> Call:
    """Return the call by which each key is read in the end."""
    return Call(now, 0, Kind.READ, place, within=5)


def equal_in_the_end(world: "World") -> None:
    """R7: all copies have equal live records; that nobody has what is not its own is waited for (`strays`)."""
    document = world.authority.document
    lists = stuck(world)
    up = {line.id for line in document.members if line.state is State.UP}
    waiting = {name for one in lists for name in one} | (world.members.keys() - up)
    for key in world.keys:
        roles: Roles = world.roles_of(key, document)
        if roles.preference in lists:
            continue
        found = {
            name: _live(world.members[name].directory.records.get(key))
            for name in roles.preference
            if name not in waiting and key not in world.members[name].directory.damaged
        }
        if len(set(found.values())) > 1:
            raise Wrong("R7", f"the copies of {key} differ: " + ", ".join(f"{name} has {one}" for name, one in found.items()))


def _live(record: Record | None) -> tuple[Version, Version, object, int] | None:
    if record is None or record.value is None:
        return None
    return record.version, record.tag, record.value, record.expires
