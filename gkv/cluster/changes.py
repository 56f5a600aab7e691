"""The changes of the document: pure, from a document and what is known at one moment to the next one.

All that is due at one look is one epoch, but for planned moves, which wait until nothing else is due.
The rules, by the letters of the design:

- A1: a member that is silent, has ended, asks to leave, is complained of (A2), or whose process is
  another one than the line's, is evicted: it is down. `left` is the epoch at which it stopped being
  up; those that leave together are tied.
- A3: a member that is down and calls in is admitted: it is filling. With copies its pause must be
  over, and all members that are not down must have answered it. Its line is `empty` when the directory
  does not list the last process that acted under it, so it cannot be the one in which that wrote. Of
  those that left together, the first that is back is ranked before the others.
- A4: a member that is filling is promoted when it reports the document in force. With one copy at
  once, but for an empty one; with copies when each of its lists has a primary, and it is equal to that.
- A5: a change of the ring begins by an operator's word, or when a newcomer calls in. It ends when all
  that learn by it have reported that they are equal by the document in force; a newcomer that is down
  holds it up, as its keys would have a copy less from the first moment on. The first ring of all has
  nothing to fill: it is one when all its members have reported it, and is taken back when one of them
  goes down, or takes too long, and not begun again at once (`gkv.cluster.ring_pauses`).
- A6: an operator's word clears `left` of a member whose loss is accepted, and `empty` where nobody has
  more; another removes a member.
- A8: with copies the incarnation of a process that has certainly ended is written down.

While records are not copied at all, nobody grants anything to anybody, so there is nothing to wait for at an
admission; and every member is the only one of its lists, so no pause is made before one either.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gkv.cluster.callin import CallIn
from gkv.cluster.document import (
    KEPT_ENDED,
    KEPT_REMOVED,
    Document,
    Durability,
    Layout,
    Member,
    State,
    default_min_in_sync,
)
from gkv.cluster.losses import accepted
from gkv.cluster.moving import displaced
from gkv.cluster.placement import Placement
from gkv.cluster.refusals import refused
from gkv.cluster.replacement import newcomers, only
from gkv.pace import USUAL_PACE, Pace

_NO_DIRECTORY = 0
"""Stands for the process whose directory would be right, when no directory is."""


@dataclass(frozen=True, slots=True)
class Look:
    """All that an authority knows at one moment."""

    calls: Mapping[str, CallIn]
    """By id, the newest call of each process that was heard lately, and answers where it says that it listens."""
    silent: frozenset[str] = frozenset()
    """Members that were not."""
    ended: frozenset[int] = frozenset()
    """Incarnations of processes that have certainly ended."""
    accepted: tuple[str, ...] = ()
    """Members whose loss an operator has accepted, in the order of these words: of several that were the last ones together,
    the last one acts.
    """
    overdue: bool = False
    """Whether the first ring has been to come for too long, or another one has waited too long for a newcomer that is down."""
    accused: frozenset[str] = frozenset()
    """Members that are to go by others' complaints."""
    leaving: frozenset[int] = frozenset()
    """Incarnations that have asked to leave; they do not come back."""
    paused: frozenset[str] = frozenset()
    """Members that may not be admitted yet."""
    wanted: Layout | None = None
    """The ring that an operator asks for. It has members of the document, and at most a newcomer that calls in."""
    removed: frozenset[str] = frozenset()
    """Members that an operator removes."""
    take_back: bool = False
    """Whether an operator gives up the ring that is to come."""
    min_in_sync: int | None = None
    """The settings of an operator."""
    put_off: frozenset[int] = frozenset()
    """Incarnations of processes for which no change of the ring is begun now."""
    pace: Pace | None = None
    """That an operator wants for the change that is under way, or begins now."""


def change(document: Document, look: Look, placement: Placement | None = None) -> Document | None:
    """Return the next document, None when nothing is due. O(members), and as much again for each newcomer.

    While records are copied planned moves are left out (see `move`); `placement`, the document's, is made if it is
    not given.
    """
    if not document.has_ring:
        placement = None
    elif placement is None:
        placement = Placement.of(document)
    epoch = document.epoch + 1
    heard = any(member.id in look.calls and member.id not in look.silent for member in document.members)
    if not heard:  # who hears nobody is the one that is cut off
        look = replace(look, silent=frozenset())
    look, calls = _settled(document, look)
    changed = accepted(document, look.accepted, placement)
    gone = [_evicted(member, epoch) if _goes(member, calls, look) else member for member in changed.members]
    lines = [_line(member, document, gone, calls.get(member.id), look) for member in gone]
    lines = [line if line == document.member(line.id) else replace(line, since=epoch) for line in lines]
    changed = replace(changed, members=tuple(_ranked(document, lines)))
    if document.copies_records:
        changed = _with_ended(changed, document, look)
    changed = _removed(changed, look)
    changed = _let_go(changed, document, calls)
    changed = _change_ring(changed, document, look)
    if look.pace is not None and changed.next is not None and changed.has_ring:
        changed = replace(changed, pace=look.pace)
    if look.min_in_sync is not None:
        changed = replace(changed, min_in_sync=min(look.min_in_sync, document.replicas))
    return None if changed == document else replace(changed, epoch=epoch)


def leaving(document: Document, look: Look) -> frozenset[str]:
    """Return the members that `change` would evict."""
    look, calls = _settled(document, look)
    return frozenset(member.id for member in document.members if _goes(member, calls, look))


def move(document: Document, look: Look, placement: Placement) -> Document | None:
    """Return the next document by which primaries move as planned: promotions where records are copied, and the end of a change
    of the ring.

    REQUIRES: nothing else is due. O(lists).
    """
    if not document.copies_records:
        return None
    epoch = document.epoch + 1
    promoted: dict[str, Member] = {}
    without = {node_id for one in placement.roles if one.primary is None for node_id in one.preference}
    calls = _calls(document, look)
    for member in document.members:
        call = calls.get(member.id)
        if member.state is not State.FILLING or member.id in without or not _has(call, member, document):
            continue
        if member.weight == 0 or (call is not None and call.equal):
            up = replace(member, state=State.UP, empty=False, directory=member.incarnation, since=epoch)
            promoted[member.id] = up
    changed = document
    if promoted:  # at once: 1,000 after each other took 2 s
        changed = replace(document, members=tuple(promoted.get(one.id, one) for one in document.members))
    if document.next is not None and not document.pace.paused and _is_ready(document, calls, placement):
        changed = _switched(changed, document, document.next)
    return None if changed == document else replace(changed, epoch=epoch)


def _calls(document: Document, look: Look) -> dict[str, CallIn]:
    """Return the calls under members' lines that may be made, by id."""
    ids = {member.id for member in document.members}
    return {
        node_id: call for node_id, call in look.calls.items() if node_id in ids and refused(document, call, look.calls) is None
    }


def _settled(document: Document, look: Look) -> tuple[Look, Mapping[str, CallIn]]:
    """Return the same with those members to go at whose addresses others are now, and the calls that count."""
    calls = _calls(document, look)
    gone, late = displaced(document, calls)
    if gone:
        look = replace(look, accused=look.accused | gone)
    return look, {node_id: call for node_id, call in calls.items() if node_id not in late}


def _has(call: CallIn | None, member: Member, document: Document) -> bool:
    """Return whether the process in a member's line has reported this document."""
    return call is not None and call.incarnation == member.incarnation and call.has(document)


def _goes(member: Member, calls: Mapping[str, CallIn], look: Look) -> bool:
    call = calls.get(member.id)
    return member.state is not State.DOWN and (
        member.id in look.silent
        or member.id in look.accused
        or member.incarnation in look.ended
        or member.incarnation in look.leaving
        or (call is not None and call.incarnation != member.incarnation)
    )


def _line(member: Member, document: Document, others: Sequence[Member], call: CallIn | None, look: Look) -> Member:
    """Return the next line of a member, after the evictions."""
    if call is None or call.incarnation in look.ended or call.incarnation in look.leaving:
        return member
    if member.url != call.node.url:
        member = replace(member, url=call.node.url)  # with TLS now, or from where it has moved to
    if member.state is State.DOWN and member.id not in look.silent and member.id not in look.accused:
        if not document.copies_records or (member.id not in look.paused and _has_reached_all(call, others)):
            return _admitted(member, call, document)
        return member
    if not document.copies_records and member.state is State.FILLING and call.has(document) and not member.empty:
        return replace(member, state=State.UP)
    return member


def _has_reached_all(call: CallIn, others: Sequence[Member]) -> bool:
    return all(one.id == call.id or one.state is State.DOWN or one.incarnation in call.reached for one in others)


def _evicted(member: Member, epoch: int) -> Member:
    if member.state is State.UP:
        return replace(member, state=State.DOWN, left=epoch, rank=0)
    return replace(member, state=State.DOWN)


def _admitted(member: Member, call: CallIn, document: Document) -> Member:
    """Return the line of a member that is there again, perhaps as another process.

    As an empty member acts for nobody, the last directory that acted is right still when it is back.
    With one copy a process that keeps its records in memory always comes back without them; that is
    no loss that anybody has to accept. With copies it is filled, and so is one that may have lost what
    it had acknowledged before it was on its disk: no directory is right then.
    """
    empty, directory, zone = member.empty, member.directory, call.zone
    one_copy = document.replicas == 1
    if call.incarnation != member.incarnation:
        empty = member.weight > 0 and not (call.volatile and member.volatile and one_copy) and directory not in call.ran
        lossy = call.volatile or (document.durability is Durability.ASYNC and not call.orderly)
        if member.weight > 0 and lossy and not one_copy:
            empty, directory = True, _NO_DIRECTORY
        directory = directory if empty else call.incarnation
    return replace(
        member,
        state=State.FILLING,
        incarnation=call.incarnation,
        zone=zone if one_copy else member.zone,
        empty=empty,
        volatile=call.volatile,
        directory=directory,
    )


def _with_ended(changed: Document, document: Document, look: Look) -> Document:
    ended = [
        one.incarnation for one in document.members if one.incarnation in look.ended and one.incarnation not in changed.ended
    ]
    return replace(changed, ended=(*changed.ended, *ended)[-KEPT_ENDED:]) if ended else changed


def _removed(changed: Document, look: Look) -> Document:
    """Refuse the processes of members that an operator removes; let go of those lines that no ring has."""
    for node_id in sorted(look.removed):
        member = changed.member(node_id)
        if member is None or member.state is not State.DOWN:
            continue
        if member.incarnation not in changed.removed:
            changed = replace(changed, removed=(*changed.removed, member.incarnation)[-KEPT_REMOVED:])
        if member.weight == 0 and (changed.next is None or node_id not in dict(changed.next.weights)):
            changed = replace(changed, members=tuple(one for one in changed.members if one.id != node_id))
    return changed


def _let_go(changed: Document, document: Document, calls: Mapping[str, CallIn]) -> Document:
    """Let go of the lines that no ring has, once their processes hold nothing; these do not come back by themselves."""
    for member in document.members:
        call = calls.get(member.id)
        if call is None or not (call.spare and _has(call, member, document) and document.has_left(member.id)):
            continue
        members = tuple(one for one in changed.members if one.id != member.id)
        removed = (*changed.removed, member.incarnation)[-KEPT_REMOVED:]
        changed = replace(changed, members=members, removed=removed)
    return changed


def _ranked(before: Document, members: Sequence[Member]) -> list[Member]:
    """Rank those that left together in the order in which they are back with their directories (F3)."""
    ranked = {member.left for member in members if member.rank}
    unranked = Counter(member.left for member in members if not member.rank)
    changed = []
    for member in members:
        was = before.member(member.id)
        away = was is None or was.state is State.DOWN or was.incarnation != member.incarnation
        if away and member.state is not State.DOWN and not member.empty and member.left and not member.rank:
            first = 0 if member.left in ranked else 1
            behind = unranked[member.left] - 1
            member = replace(member, rank=max(first, behind))  # noqa: PLW2901  # the same member
            if member.rank:
                ranked.add(member.left)
                unranked[member.left] -= 1
        changed.append(member)
    return changed


# -- the ring


def _change_ring(changed: Document, document: Document, look: Look) -> Document:
    if document.next is not None:
        if look.take_back or (look.overdue and document.has_ring):
            return _taken_back(changed, document.next)
        return changed if document.has_ring else _end_of_first(changed, document, document.next, look)
    wanted, joining = _asked_for(changed, document, look)
    if wanted is None:
        wanted, joining = _with_newcomers(document, look)
    if wanted == document.layout:
        return changed
    for call in joining:
        line = Member(call.id, call.node.url, 0.0, call.zone, call.incarnation, since=document.epoch + 1)
        changed = changed.with_member(replace(line, volatile=call.volatile, directory=call.incarnation))
    return replace(changed, next=wanted, next_since=document.epoch + 1)


def _asked_for(changed: Document, document: Document, look: Look) -> tuple[Layout | None, list[CallIn]]:
    """Return the ring that an operator asks for, by name or by removing members of it, without those that are none any more;
    and the newcomers that it has.
    """
    layout, joining = document.layout, newcomers(changed, look.wanted or document.layout, look.calls)
    if look.wanted is not None and joining is not None:
        layout = look.wanted
    stay = {member.id for member in changed.members if member.id not in look.removed} | {call.id for call in joining or ()}
    if not stay.isdisjoint(dict(layout.weights)):
        layout = only(layout, stay)
    return (None, []) if layout == document.layout else (layout, joining or [])


def _with_newcomers(document: Document, look: Look) -> tuple[Layout, list[CallIn]]:
    """Return the ring with all newcomers, and these. A member asks for nothing: its weight and zone are the document's."""
    weights = dict(document.layout.weights)
    zones = document.zones
    joining = []
    for call in sorted(look.calls.values(), key=lambda call: call.id):
        if call.incarnation in look.put_off or call.incarnation in look.ended:
            continue
        if refused(document, call, look.calls) is not None:
            continue
        if document.member(call.id) is None:
            joining.append(call)
            weights[call.id] = call.node.weight
            zones[call.id] = call.zone
    zoned = tuple(sorted((node_id, zone) for node_id, zone in zones.items() if zone))
    return replace(document.layout, weights=tuple(sorted(weights.items())), zones=zoned), joining


def _end_of_first(changed: Document, document: Document, layout: Layout, look: Look) -> Document:
    """Make the first ring the ring, take it back, or wait."""
    lines = [(changed.member(member.id), look.calls.get(member.id)) for member in document.members]
    reports = [call for _, call in lines if call is not None and call.has(document)]
    if look.overdue or any(line is None or line.state is not State.UP for line, _ in lines):
        return _taken_back(changed, layout)
    return _switched(changed, document, layout) if len(reports) == len(lines) else changed


def _taken_back(changed: Document, layout: Layout) -> Document:
    """Give up the ring that is to come: its newcomers are no members, and who was to be removed by it is one as before."""
    newcomers = dict(layout.weights)
    members = tuple(member for member in changed.members if member.weight or member.id not in newcomers)
    stay = {member.incarnation for member in members if member.weight}
    removed = tuple(incarnation for incarnation in changed.removed if incarnation not in stay)
    return replace(changed, next=None, pace=USUAL_PACE, members=members, removed=removed)


def _is_ready(document: Document, calls: Mapping[str, CallIn], placement: Placement) -> bool:
    """Return whether the ring that is to come may be the ring (A5): who learns by it has learnt, and every list has a member
    that is up. Newcomers have all learnt: one that is down would be filled later, with nobody to answer meanwhile for the
    keys of which it is to have the only copy.
    """
    lines = {member.id: member for member in document.members}
    coming = () if document.next is None else document.next.weights
    learners = {node_id for node_id, _ in coming if not lines[node_id].weight}
    for one in placement.roles:
        if not any(lines[node_id].state is State.UP for node_id in one.coming):
            return False
        learners.update(set(one.learners).difference(one.preference))
    return all(_has(call := calls.get(one), lines[one], document) and call is not None and call.ready for one in learners)


def _switched(changed: Document, document: Document, layout: Layout) -> Document:
    """Make a ring that is to come the ring."""
    weights, zones, tokens_of = dict(layout.weights), dict(layout.zones), dict(layout.tokens_of)
    members = []
    for member in changed.members:
        line = replace(member, weight=weights.get(member.id, 0.0), tokens_of=tokens_of.get(member.id, ""))
        if layout.replicas > 1:
            line = replace(line, zone=zones.get(member.id, ""))
        members.append(member if line == member else replace(line, since=document.epoch + 1))
    needed = min(document.min_in_sync, layout.replicas)
    if document.min_in_sync == default_min_in_sync(document.replicas):
        needed = default_min_in_sync(layout.replicas)
    ring = replace(changed, members=tuple(members), vnodes=layout.vnodes, replicas=layout.replicas, min_in_sync=needed)
    return replace(ring, next=None, next_since=0, pace=USUAL_PACE)
