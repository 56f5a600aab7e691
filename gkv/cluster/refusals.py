"""The reasons for which a process may not be a member, or a loss not be accepted. Pure.

What `gkv.cluster.changes` would never grant is refused here, so that whoever asks is told.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import inf

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, Layout, Member, State
from gkv.cluster.moving import may_move
from gkv.cluster.node import check_weight
from gkv.cluster.placement import Placement
from gkv.cluster.replacement import only, with_lines
from gkv.cluster.ring_change import ring_change
from gkv.errors import GkvError, InvalidMember, MemberConflict, Unavailable
from gkv.model import Node


def refused(document: Document, call: CallIn, calls: Mapping[str, CallIn]) -> GkvError | None:
    """Return why a process may not be a member now, None when it may."""
    known = document.member(call.id)
    if call.cluster not in (None, document.cluster) and not call.bare:
        return MemberConflict(
            f"node {call.id} holds records of cluster {call.cluster}, this is {document.cluster}; it can join "
            f"with nothing in it"
        )
    if not {call.incarnation, *call.ran}.isdisjoint(document.removed):
        return MemberConflict(
            f"{call.id} is no member any more, as it has left or was removed: its process can be stopped; begin with an empty "
            f"directory to join again"
        )
    if known is not None and known.url != call.node.url and not may_move(document, known, call):
        return MemberConflict(
            f"there is a member {call.id} already, at {known.url}: choose another --name, or start it with the directory that "
            f"the member had last"
        )
    # An address that a newcomer asks for is another's by the document, or not. A member has proved that it is there.
    if known is None and (error := _refused_address(document, call, calls)) is not None:
        return error
    if known is None and call.records:
        return MemberConflict(
            f"node {call.id} holds {call.records} keys of this cluster, which has no such member; it can join with "
            f"nothing in it: begin with an empty directory (--data)"
        )
    if known is None and (error := _refused_name(document, call)) is not None:
        return error
    return _refused_newcomer(document, call) if known is None else None  # a member's weight is the document's


def _refused_name(document: Document, call: CallIn) -> GkvError | None:
    """Return why nobody may have a newcomer's name now, or why it is no member before an operator says so."""
    taken = [member.id for member in document.members if member.tokens_of == call.id]
    if taken:
        return MemberConflict(f"{taken[0]} has the place of {call.id} in the ring; choose another --name")
    if call.standby:
        return Unavailable(
            f'{call.id} stands by, until POST /v1/cluster/replace with {{"node": ID, "with": "{call.id}"}} has it take the '
            f"place of a member",
            retry_after=1,
        )
    return None


def _refused_newcomer(document: Document, call: CallIn) -> GkvError | None:
    """Return why a process may not become a member now."""
    error: GkvError | None = _too_large(document, call)
    if error is None and document.next is not None:
        error = Unavailable(
            f"{call.id} cannot join while another change of the ring is under way: {ring_change(document, document.next).what}",
            retry_after=1,
        )
    return error


def _refused_address(document: Document, call: CallIn, calls: Mapping[str, CallIn]) -> GkvError | None:
    """Return why a process may not be a member at its address: somebody else is, or is about to be."""
    others: list[tuple[str, str]] = [(other.id, other.url) for other in document.members]
    others += [(other.id, other.node.url) for other in calls.values()]
    for node_id, url in others:
        if url == call.node.url and node_id != call.id:
            return MemberConflict(f"the member at {url} is {node_id}; it cannot be {call.id} as well")
    return None


def _too_large(document: Document, call: CallIn) -> InvalidMember | None:
    """Return why there is no ring with a process of that weight."""
    weights = dict(document.layout.weights) | {call.id: call.node.weight}
    try:
        check_weight(call.node, document.vnodes)
        Document(document.cluster, 1, tuple(Member(one, "", weights[one]) for one in sorted(weights)), document.vnodes)
    except InvalidMember as error:
        return error
    except ValueError as error:
        return InvalidMember(f"with {call.id} the ring would be too large: {error}")
    return None


def taken_back(node_id: str, pause: float) -> GkvError:
    """Return why a process does not become a member now whose join was taken back; `pause` is in seconds, infinity for ever."""
    if pause == inf:
        return MemberConflict(f"the join of {node_id} was taken back by an operator; start it anew to have it join")
    why = "it did not report the ring that was to come in time, or somebody else did not"
    return Unavailable(f"the join of {node_id} was taken back: {why}. It is tried again in {pause:.0f} s", retry_after=1)


def refused_loss(document: Document, node_id: str, placement: Placement | None = None) -> GkvError | None:
    """Return why the loss of a member cannot be accepted, None when it can; `placement` is the document's."""
    member = document.member(node_id)
    if member is None:
        return MemberConflict(f"there is no member {node_id}")
    if placement is not None and document.replicas > 1:
        return None if _is_missed(member, placement) else _not_missed(member)
    if not member.empty:
        known = f"nothing of {node_id} is known to be lost: it is {member.state}"
        if member.state is not State.DOWN:
            return MemberConflict(known)
        return MemberConflict(f"{known}. Start it; if its directory is not the one that it had, it waits for this call")
    return None


def _is_missed(member: Member, placement: Placement) -> bool:
    """Return whether nobody acts for a list because this member, its last one, is not there with what it had."""
    return member.id in placement.awaited(member.id)


def _not_missed(member: Member) -> GkvError:
    return MemberConflict(
        f"no key waits for {member.id}, which is {member.state}: others have what it had, or were up after it"
    )


def refused_removal(document: Document, node_id: str, placement: Placement | None = None) -> GkvError | None:
    """Return why a member cannot be removed, None when it can; `placement` is the document's."""
    member = document.member(node_id)
    if member is None:
        return MemberConflict(f"there is no member {node_id}")
    if member.state is not State.DOWN:
        return MemberConflict(f"{node_id} is {member.state}; only a member that is down can be removed")
    if member.weight and document.replicas == 1:
        return MemberConflict(
            f"{node_id} has the only copy of its keys: start it; with an empty directory if that is lost, accept the loss, and "
            f"have it leave"
        )
    if document.next is not None and (member.weight or node_id in dict(document.next.weights)):
        return MemberConflict("another ring is to come already; it can be taken back")
    if {node.id for node in document.nodes} == {node_id}:
        return MemberConflict(f"{node_id} is the only member of the ring")
    if placement is not None and _is_missed(member, placement):
        return MemberConflict(
            f"keys wait for {node_id}, whose copies are the last ones: its loss is to be accepted, and another to act"
        )
    return None


def refused_layout(document: Document, layout: Layout) -> GkvError | None:
    """Return why the ring cannot change as an operator asks for, None when it can."""
    if document.next is not None:
        return MemberConflict("another ring is to come already; it can be taken back")
    try:
        document = with_lines(document, only(layout, {one for one, _ in layout.tokens_of}))  # who replaces others
        replace(document, next=layout, next_since=document.epoch + 1)
    except ValueError as error:
        return InvalidMember(str(error))
    return None


def refused_wish(document: Document, layout: Layout, *, force: bool) -> GkvError | None:
    """Return why an operator is not to have a ring that could be: nobody would have the keys, or there would be too few copies
    of them, which is granted by `force`.
    """
    if not document.has_ring:
        return MemberConflict("no node has joined yet, so there is no ring to be changed")
    if not layout.weights:
        return MemberConflict("the last node cannot leave: nobody would have its keys")
    try:
        known = document.layout.weights if layout.vnodes == document.vnodes else ()
        for node_id, weight in set(layout.weights) - set(known):
            check_weight(Node(node_id, "", weight), layout.vnodes)
    except InvalidMember as error:
        return error
    count, before = len(layout.weights), min(document.replicas, len(document.nodes))
    if not force and count < layout.replicas and (count < len(document.nodes) or layout.replicas > document.replicas):
        return MemberConflict(
            f"with {count} nodes there would be {count} copies of each key (now {before}) instead of {layout.replicas}; "
            f"force=1 grants that"
        )
    return None
