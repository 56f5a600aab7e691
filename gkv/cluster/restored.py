"""The first document of a cluster that is made of snapshots of another one's nodes. Pure.

Promises: a new cluster id, so that nothing of the old cluster is ever taken for the new one's; every line is down, and waits
for a process with the directory that was named for it; of a list the newest snapshot acts; what is written from now on is
later than all records. Leaves to others: the directories.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gkv.cluster.document import MAX_GENERATION, Document, Member, State
from gkv.errors import ConfigError
from gkv.model import split_era
from gkv.pace import USUAL_PACE

FIRST = 1
"""The first epoch of a cluster. Only a restored one has lines of it."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A snapshot that is to be a member's directory."""

    node: str
    cluster: str
    """The cluster that it was taken of."""
    era: int
    """Generation and epoch that none of its records is later than, as one number."""
    dated: int
    """The time of day at which it was taken, in ms; 0 where that is not known."""
    directory: str
    """Its name, for those who are told what is wrong with it."""


def restored(before: Document, snapshots: Sequence[Restored], cluster: str, incarnations: Mapping[str, int]) -> Document:
    """Return the document of a new cluster with the ring of `before`. `incarnations` has one for each member of that ring, of
    which no process is.

    The newest snapshot is the one with records of the latest era, and of those the one that was taken last. Raise ConfigError
    when the snapshots do not belong to that document.
    """
    members = {node.id for node in before.nodes}
    named: dict[str, str] = {}
    for one in snapshots:
        if one.cluster != before.cluster:
            raise ConfigError(f"{one.directory} is of cluster {one.cluster}, and the member list of {before.cluster}")
        if one.node not in members:
            raise ConfigError(f"{one.directory} is of node {one.node}, which the member list does not name")
        if named.setdefault(one.node, one.directory) != one.directory:
            raise ConfigError(f"{named[one.node]} and {one.directory} are both of node {one.node}: name one of them")
    generation = 1 + max([before.generation, *[split_era(one.era)[0] for one in snapshots]])
    if generation >= MAX_GENERATION:
        raise ConfigError("the records leave no room for those of a later generation")
    oldest_first = sorted(snapshots, key=lambda one: (one.era, one.dated, one.node))
    ranks = {one.node: rank for rank, one in enumerate(oldest_first, 1)}
    return replace(
        before,
        cluster=cluster,
        generation=generation,
        epoch=FIRST,
        members=tuple(_line(one, ranks.get(one.id, 0), incarnations[one.id]) for one in before.members if one.weight),
        next=None,
        next_since=0,
        pace=USUAL_PACE,
        rebuilt_from=(),
        removed=(),
        ended=(),
    )


def _line(member: Member, rank: int, incarnation: int) -> Member:
    """Return a member's line: by `incarnation` the directory is known that was named for it, if it has a rank."""
    left = FIRST if rank else 0
    line = replace(member, state=State.DOWN, since=FIRST, left=left, rank=rank, empty=not rank)
    return replace(line, incarnation=incarnation, directory=incarnation, volatile=member.volatile and not rank)


def awaits_its_first_process(member: Member) -> bool:
    """Return whether no process has acted under a line of a restored cluster yet. Its address is the one of the member that it
    was made of, at which another cluster may go on.
    """
    return member.since == FIRST and member.state is State.DOWN
