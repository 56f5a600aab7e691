"""The changes of the document: pure functions from a document, and what is known at one moment, to the next document.

All that is due at one look is one epoch. The rules, by the letters of the design:

- A1: a member that is silent, has ended, or whose process is another one than the line's, is evicted: it is down.
- A3: a member that is down and calls in is admitted: it is filling. Its line is `empty` when the directory does not list the
  last process that acted under it, so it cannot be the one in which that wrote.
- A4: a member that is filling is promoted when it reports the document in force; an empty one is not.
- A6: an operator's word clears `empty`.
- A join: while all members hold nothing, the document gets the ring that is to come. Members accept no write from the moment at
  which they have it; when all have reported it, and hold nothing still, it becomes the ring. It is taken back otherwise, and
  not begun again at once (`gkv.cluster.pauses`).

With one copy nobody grants anything to anybody, so there is nothing to wait for at an admission; and every member is the only
one of its lists, so no pause is made before one either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, Layout, Member, State
from gkv.cluster.node import check_weight
from gkv.errors import GkvError, InvalidMember, MemberConflict, Unavailable
from gkv.model import Node


@dataclass(frozen=True, slots=True)
class Look:
    """All that an authority knows at one moment."""

    calls: Mapping[str, CallIn]
    """By id, the newest call of each process that was heard lately, and answers where it says that it listens."""
    silent: frozenset[str] = frozenset()
    """Members that were not."""
    ended: frozenset[int] = frozenset()
    """Incarnations of processes that have certainly ended."""
    accepted: frozenset[str] = frozenset()
    """Members whose loss an operator has accepted."""
    overdue: bool = False
    """Whether the ring that is to come has been so for too long."""
    paused: frozenset[int] = frozenset()
    """Incarnations of processes for which no change of the ring is begun now."""


def change(document: Document, look: Look) -> Document | None:
    """Return the next document, None when nothing is due. O(members), and as much again for each newcomer."""
    epoch = document.epoch + 1
    heard = any(member.id in look.calls and member.id not in look.silent for member in document.members)
    silent = look.silent if heard else frozenset()  # who hears nobody is the one that is cut off
    lines = [(member, _line(member, document, look, silent)) for member in document.members]
    members = [after if after == member else replace(after, since=epoch) for member, after in lines]
    changed = replace(document, members=tuple(_ranked(document, members)))
    changed = _change_ring(changed, document, look)
    return None if changed == document else replace(changed, epoch=epoch)


def _line(member: Member, document: Document, look: Look, silent: frozenset[str]) -> Member:
    call = look.calls.get(member.id)
    if member.id in look.accepted and member.empty:
        member = replace(member, empty=False, left=0, rank=0, directory=member.incarnation)
    if call is not None and refused(document, call, look.calls) is not None:
        call = None
    other = call is not None and call.incarnation != member.incarnation
    if member.state is not State.DOWN and (member.id in silent or member.incarnation in look.ended or other):
        member = _evicted(member, document.epoch + 1)
    if call is None or call.incarnation in look.ended or call.incarnation in document.removed:
        return member
    if member.url != call.node.url:
        member = replace(member, url=call.node.url)  # with TLS now
    if member.state is State.DOWN and member.id not in silent:
        return _admitted(member, call)
    if member.state is State.FILLING and call.has(document) and not member.empty:
        return replace(member, state=State.UP)
    return member


def _evicted(member: Member, epoch: int) -> Member:
    if member.state is State.UP:
        return replace(member, state=State.DOWN, left=epoch, rank=0)
    return replace(member, state=State.DOWN)


def _admitted(member: Member, call: CallIn) -> Member:
    """Return the line of a member that is there again, perhaps as another process.

    As an empty member acts for nobody, nothing is written while it is there: the right directory is right still when it is
    back. A process that keeps its records in memory always comes back without them; that is no loss that anybody has to accept.
    """
    empty, directory = member.empty, member.directory
    if call.incarnation != member.incarnation:
        empty = member.weight > 0 and not (call.volatile and member.volatile) and directory not in call.ran
        directory = directory if empty else call.incarnation
    return replace(
        member,
        state=State.FILLING,
        incarnation=call.incarnation,
        zone=call.zone,
        empty=empty,
        volatile=call.volatile,
        directory=directory,
    )


def _ranked(before: Document, members: Sequence[Member]) -> list[Member]:
    """Rank the first of those that left together before the others, once it is back with its directory."""
    ranked = {member.left for member in members if member.rank}
    changed = []
    for member in members:
        was = before.member(member.id)
        away = was is None or was.state is State.DOWN or was.incarnation != member.incarnation
        back = away and member.state is not State.DOWN and not member.empty
        if back and member.left and member.left not in ranked:
            ranked.add(member.left)
            member = replace(member, rank=1)  # noqa: PLW2901  # the same member
        changed.append(member)
    return changed


# -- the ring


def _change_ring(changed: Document, document: Document, look: Look) -> Document:
    if document.next is not None:
        return _end_of_change(changed, document, document.next, look)
    wanted, newcomers = _wanted(changed, document, look)
    if wanted == document.layout or not _all_hold_nothing(changed, look):
        return changed
    for call in newcomers:
        line = Member(call.id, call.node.url, 0.0, call.zone, call.incarnation, since=document.epoch + 1)
        changed = changed.with_member(replace(line, volatile=call.volatile, directory=call.incarnation))
    return replace(changed, next=wanted, next_since=document.epoch + 1)


def _wanted(changed: Document, document: Document, look: Look) -> tuple[Layout, list[CallIn]]:
    """Return the ring that members and newcomers ask for together, and the newcomers."""
    weights = dict(document.layout.weights)
    newcomers = []
    for call in sorted(look.calls.values(), key=lambda call: call.id):
        if call.incarnation in look.paused or call.incarnation in look.ended:
            continue
        if refused(document, call, look.calls) is not None:
            continue
        if document.member(call.id) is None:
            newcomers.append(call)
        elif changed.member(call.id) != document.member(call.id):
            continue
        weights[call.id] = call.node.weight
    return replace(document.layout, weights=tuple(sorted(weights.items()))), newcomers


def _all_hold_nothing(document: Document, look: Look) -> bool:
    """Return whether every member is up and has said that it holds no key."""
    for member in document.members:
        call = look.calls.get(member.id)
        if member.state is not State.UP or call is None or call.incarnation != member.incarnation or call.records:
            return False
    return True


def _end_of_change(changed: Document, document: Document, layout: Layout, look: Look) -> Document:
    """Make the ring that is to come the ring, take it back, or wait."""
    lines = [(changed.member(member.id), look.calls.get(member.id)) for member in document.members]
    lost = look.overdue or any(line is None or line.state is not State.UP for line, _ in lines)
    reports = [call for _, call in lines if call is not None and call.has(document)]
    lost = lost or any(call.records for call in reports)
    if lost:
        return replace(changed, next=None, members=tuple(member for member in changed.members if member.weight))
    if len(reports) < len(lines):
        return changed
    weights = dict(layout.weights)
    members = []
    for member in changed.members:
        weight = weights[member.id]
        members.append(member if weight == member.weight else replace(member, weight=weight, since=document.epoch + 1))
    return replace(changed, members=tuple(members), next=None, vnodes=layout.vnodes, next_since=0)


# -- what is refused


def refused(document: Document, call: CallIn, calls: Mapping[str, CallIn]) -> GkvError | None:
    """Return why a process may not be a member now, None when it may.

    What `change` would never grant is refused by nothing else, so that whoever asks is told.
    """
    known = document.member(call.id)
    if call.cluster not in (None, document.cluster) and not call.bare:
        return MemberConflict(
            f"node {call.id} holds records of cluster {call.cluster}, this is {document.cluster}; it can join "
            f"with nothing in it"
        )
    if call.incarnation in document.removed:
        return MemberConflict(f"node {call.id} was removed from the cluster; begin with an empty directory to join again")
    if known is not None and known.url != call.node.url and not _now_with_tls(known, call.node):
        return MemberConflict(f"there is a member {call.id} already, at {known.url}; choose another --name")
    if known is None or known.url != call.node.url:  # a member's own address is no other's: whoever asks for it is refused
        error = _refused_address(document, call, calls)
        if error is not None:
            return error
    if known is None and call.records:
        return MemberConflict(
            f"node {call.id} holds {call.records} keys of this cluster, which has no such member; it can join with "
            f"nothing in it: begin with an empty directory (--data)"
        )
    if known is None or (known.weight and known.weight != call.node.weight):
        return _refused_ring(document, call, calls)
    return None


def _refused_address(document: Document, call: CallIn, calls: Mapping[str, CallIn]) -> GkvError | None:
    """Return why a process may not be a member at its address: somebody else is, or is about to be."""
    others: list[tuple[str, str]] = [(other.id, other.url) for other in document.members]
    others += [(other.id, other.node.url) for other in calls.values()]
    for node_id, url in others:
        if url == call.node.url and node_id != call.id:
            return MemberConflict(f"the member at {url} is {node_id}; it cannot be {call.id} as well")
    return None


def _refused_ring(document: Document, call: CallIn, calls: Mapping[str, CallIn]) -> GkvError | None:
    """Return why the ring cannot change as a process asks for."""
    weights = dict(document.layout.weights) | {call.id: call.node.weight}
    try:
        check_weight(call.node, document.vnodes)
        Document(document.cluster, 1, tuple(Member(one, "", weights[one]) for one in sorted(weights)), document.vnodes)
    except InvalidMember as error:
        return error
    except ValueError as error:
        return InvalidMember(f"with {call.id} the ring would be too large: {error}")
    for member in document.members:
        other = calls.get(member.id)
        if other is not None and other.records:
            return MemberConflict(
                f"{call.id} cannot join: member {member.id} holds {other.records} keys, some of them would have to move to "
                f"{call.id}, and moving keys is not available in this version"
            )
    for member in document.members:
        if member.id not in calls or member.state is not State.UP:
            return Unavailable(
                f"{call.id} cannot join now: member {member.id} does not answer, so nobody knows whether it holds keys "
                f"that would have to move",
                retry_after=1,
            )
    return None


def refused_loss(document: Document, node_id: str) -> GkvError | None:
    """Return why the loss of a member cannot be accepted, None when it can."""
    member = document.member(node_id)
    if member is None:
        return MemberConflict(f"there is no member {node_id}")
    if not member.empty:
        known = f"nothing of {node_id} is known to be lost: it is {member.state}"
        if member.state is not State.DOWN:
            return MemberConflict(known)
        return MemberConflict(f"{known}. Start it; if its directory is not the one that it had, it waits for this call")
    return None


def _now_with_tls(known: Member, node: Node) -> bool:
    """Return whether a member has begun to speak TLS, at the same address."""
    return known.url.startswith("http:") and node.url == f"https:{known.url.removeprefix('http:')}"
