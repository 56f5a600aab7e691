"""The losses that an operator accepts (A6): what they change in a document, and what follows. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gkv.cluster.document import Document
from gkv.cluster.placement import Placement, last_ones
from gkv.cluster.refusals import refused_loss


@dataclass(frozen=True, slots=True)
class Outlook:
    """The keys of a member for which nobody acts, as it will be about them once losses are accepted. Ids, ascending."""

    acts: tuple[str, ...]
    """The members that act for them with what they have."""
    fills: tuple[str, ...] = ()
    """The others of their lists: each is made equal to the one that acts, and what it alone has is dropped."""
    awaited: tuple[str, ...] = ()
    """For one of these such keys wait still."""


def accepted(document: Document, losses: Iterable[str], placement: Placement | None) -> Document:
    """Return a document with the losses of members taken, in their order: the last one of a list is another then, or it acts
    with what it has. Those that cannot be accepted change nothing, nor does the epoch.
    """
    changed = document
    for node_id in losses:
        member = changed.member(node_id)
        if member is None or refused_loss(document, node_id, placement) is not None:
            continue
        if member.left or member.rank:
            changed = changed.with_member(replace(member, left=0, rank=0, since=document.epoch + 1))
        if member.empty and _is_all_that_is_left(changed, node_id, placement):
            line = replace(member, empty=False, left=0, rank=0 if placement is None else 1, directory=member.incarnation)
            changed = changed.with_member(replace(line, since=document.epoch + 1))
    return changed


def begun_removals(document: Document) -> frozenset[str]:
    """Return the members whose removal has begun: it goes on whoever asked for it, and whatever was forgotten meanwhile."""
    return frozenset([member.id for member in document.members if member.incarnation in document.removed])


def outlook(document: Document, losses: Iterable[str], node_id: str, placement: Placement | None) -> Outlook:
    """Return what follows for the keys of a member when losses are accepted, its own among them. O(lists)."""
    if placement is None:
        return Outlook((node_id,))
    after = Placement.of(accepted(document, losses, placement), placement)
    acts: set[str] = set()
    fills: set[str] = set()
    awaited: set[str] = set()
    for before, then in zip(placement.roles, after.roles, strict=True):
        if node_id not in before.preference or before.acting:
            continue
        if then.acting:
            acts.update(then.acting)
            fills.update(set(then.preference).difference(then.acting))
        else:
            awaited.update(last_ones(then.preference, after.standings))
    return Outlook(tuple(sorted(acts)), tuple(sorted(fills)), tuple(sorted(awaited)))


def _is_all_that_is_left(document: Document, node_id: str, placement: Placement | None) -> bool:
    """Return whether no other member of some list of a member is known to have more."""
    if placement is None:
        return True
    lines = {member.id: member for member in document.members}
    for one in placement.roles:
        if node_id in one.preference and not any(lines[other].left for other in one.preference) and not one.acting:
            return True
    return False
