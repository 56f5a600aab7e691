"""The lines about members that an operator finds in the log. Pure; `coverage` is of the document in force."""

from collections.abc import Iterator, Mapping, Sequence

from gkv.cluster.coverage import Coverage, named
from gkv.cluster.document import Document, Durability, Member, State
from gkv.cluster.losses import Outlook
from gkv.cluster.ring_change import ring_change
from gkv.cluster.together import listed, together
from gkv.log import Level, Line, as_error, as_warning
from gkv.pace import Pace

ALONE = as_error("no member answers: keys have no answer until one does, and nobody is taken for down meanwhile")
BACK = "members answer again"


def of_changes(before: Document, after: Document, coverage: Coverage | None) -> Iterator[str]:
    """Yield what is said about states that have changed, and about members that are new; `coverage` is None with one copy."""
    if not before.has_ring:  # else the change of the ring says it
        for _, ids in together({one.id: "" for one in after.members if one.weight and _is_new(one, before)}):
            yield f"{_subject(ids)} {'has' if len(ids) == 1 else 'have'} joined"
    states: dict[str, tuple[str, Level]] = {}
    for member in after.members:
        was = before.member(member.id)
        if was is not None and was.url != member.url:
            yield f"member {member.id} is at {member.url} now"
        if member.empty and (was is None or not was.empty):
            why = why_empty(after, member)
            line = f"member {member.id} has come back empty: {why}; {_fate_of_empty(after, member, coverage)}"
            yield as_error(line) if coverage is None or coverage.awaited else as_warning(line)
        elif was is not None and was.state is not member.state and (coverage is not None or member.state is not State.FILLING):
            states[member.id] = f"{member.state}{_fate(member, coverage)}", _weight(member, coverage)
    for (words, level), ids in together(states):
        yield Line(f"{_subject(ids)} {'is' if len(ids) == 1 else 'are'} {words}", level)


def _is_new(member: Member, before: Document) -> bool:
    was = before.member(member.id)
    return was is None or not was.weight


def _subject(ids: Sequence[str]) -> str:
    return f"member {ids[0]}" if len(ids) == 1 else f"members {listed(ids)}"


def _weight(member: Member, coverage: Coverage | None) -> Level:
    """Return the weight of a member's new state: whether keys have no answer by it, or a copy less."""
    if member.state is State.DOWN:
        without_answer = member.weight > 0 if coverage is None else coverage.unanswered
        return Level.ERROR if without_answer else Level.WARNING
    return Level.INFO


def of_ring(before: Document, after: Document) -> Iterator[str]:
    """Yield what is said about a change of the ring that is filled, at its begin and at its end, and about members that are
    none any more.
    """
    if before.next is None and after.next is not None and after.has_ring:
        yield f"the ring is changing: {ring_change(after, after.next).what}; DELETE /v1/cluster/change takes that back"
    elif before.next is not None and before.has_ring and after.next is None:
        change = ring_change(before, before.next)
        if after.layout == before.next:
            yield f"the ring has changed: {change.what}"
        else:
            yield f"the change of the ring is taken back: {change.what}"
    if before.next is not None and after.next is not None and before.pace != after.pace:
        yield f"the change of the ring {_at_pace(after.pace)}"
    for member in before.members if before.has_ring else ():
        if after.member(member.id) is None:
            yield f"{member.id} is no member any more"
    if (before.replicas, before.min_in_sync) != (after.replicas, after.min_in_sync):
        yield f"a write needs {after.min_in_sync} of {after.replicas} copies (min_in_sync)"


def _at_pace(pace: Pace) -> str:
    if pace.paused:
        return 'is paused; PATCH /v1/cluster/change with {"paused": false} has it go on'
    if pace.rate is None:
        return "goes on at the nodes' --fill-rate"
    return f"goes on at {pace.rate} records a second and source" if pace.rate else "goes on as fast as it can"


def of_settings(line: Member, weight: float, zone: str, proxy: str) -> str:
    """Return the line of a node whose weight or zone is another one than it was started with, "" if neither is."""
    asked = {"weight": (f"{weight:g}", f"{line.weight:g}"), "zone": (zone or "none", line.zone or "none")}
    differ = {name: found for name, (given, found) in asked.items() if given != found}
    if not differ:
        return ""
    found = " and ".join(f"the {name} is {value}" for name, value in differ.items())
    flags = " and ".join(f"--{name}" for name in differ)
    return as_warning(
        f"{found}, as the cluster has it; {flags} {'counts' if len(differ) == 1 else 'count'} for a new member only: "
        f"PATCH /v1/cluster/nodes/{line.id} at {proxy} gives another one"
    )


def _fate(member: Member, coverage: Coverage | None) -> str:
    """Return what becomes of keys with a member's new state."""
    if coverage is None and member.state is State.DOWN:
        return "; its keys cannot be answered until it is back" if member.weight else "; the ring does not have it"
    if coverage is None:
        return ""
    if coverage.waiting:
        return f"; {coverage.waiting}"
    if member.state is State.DOWN:
        return "; others that have its keys answer for them"
    if member.state is State.FILLING and coverage.primaries.get(member.id):
        return "; it was the last one that was up, and answers for its keys already"
    return ""


def why_empty(document: Document, line: Member) -> str:
    """Return why a member is taken to lack what it has had."""
    if document.replicas > 1 and line.volatile:
        return "it keeps its records in memory"
    if document.replicas > 1 and document.durability is Durability.ASYNC:
        return "its directory is not the one that it had, or the process before it did not end in an orderly way"
    return "its directory is not the one that it had"


def cure(document: Document, awaited: Sequence[str], proxy: str = "") -> str:
    """Return what an operator can do about keys that wait for one of these members."""
    lines = [line for one in awaited if (line := document.member(one)) is not None]
    order = _oldest_first(lines)
    at = f" at {proxy}" if proxy else ""
    call = f'POST /v1/cluster/accept-loss with {{"node": "{order[0][0] if order else awaited[0]}"}}{at}'
    kept = [line.id for line in lines if not _is_gone(line)]
    if not kept:
        if len(awaited) == 1:
            return f"The records of {awaited[0]} were in memory and are gone with its process; accept the loss: {call}"
        return f"Their records were in memory and are gone with their processes; accept the loss of each, in any order: {call}"
    start = f"Start {'one of them' if 1 < len(kept) == len(awaited) else named(kept)} with its data"
    if document.durability is Durability.ASYNC and all(line.empty for line in lines):
        start += " if that is elsewhere"  # else it has come back with all that it has
    if len(awaited) == 1:
        return f"{start}, or accept the loss: {call}"
    return f"{start}, or accept the loss of each, {_in_order(order)}: {call}"


def _is_gone(line: Member) -> bool:
    """Return whether what a member had was in the memory of a process that does not act any more."""
    return line.volatile and not line.acts


def _oldest_first(lines: Sequence[Member]) -> list[list[str]]:
    """Return members in the order in which their losses are to be accepted, those together that left together."""
    groups: dict[tuple[bool, int, int], list[str]] = {}
    for line in lines:
        groups.setdefault((not _is_gone(line), line.left, line.rank), []).append(line.id)
    return [groups[one] for one in sorted(groups)]


def _in_order(order: Sequence[Sequence[str]]) -> str:
    """Return in which order the losses of several members are to be accepted, as far as that is known."""
    if len(order) == 1:
        return "in any order, as it is not known who has the newest records: the last one acts with what it has"
    known = f"the newest records last: {', then '.join([' and '.join(together) for together in order])}"
    return known if all(len(one) == 1 for one in order) else f"{known} (in which order those that left together is not known)"


def of_loss(node_id: str, follows: Outlook, keys: Mapping[str, int | None], seconds: float) -> str:
    """Return the line about a loss that an operator has accepted; `keys` says how many each has that is to act, as far as it
    is known, `seconds` when that comes.
    """
    acts = [f"{one} acts with the {keys.get(one) or 0} keys that it has" for one in follows.acts]
    if follows.fills:
        acts.append(f"{' and '.join(follows.fills)} {'is' if len(follows.fills) == 1 else 'are'} filled from that")
    if follows.awaited:
        acts.append(f"keys wait for {named(follows.awaited)}")
    when = f" in {seconds:.0f} s" if seconds >= 1 else ""
    return as_warning(f"the loss of what {node_id} held has been accepted{when and ', and counts'}{when}: {'; '.join(acts)}")


def of_this_node(document: Document, line: Member, awaited: Sequence[str], proxy: str) -> str:
    """Return the line of a node that has come back empty; keys of its wait for one of those `awaited`, if for anybody."""
    if document.replicas == 1:
        return as_error(
            f"this directory is not the one that the member {line.id} has had, so its keys cannot be answered. Start the node "
            f"where its data is (--data), or have it act with what is here: POST /v1/cluster/accept-loss with "
            f'{{"node": "{line.id}"}} at {proxy}'
        )
    beginning = f"the member {line.id} has come back empty: {why_empty(document, line)}"
    if awaited:
        return as_error(f"{beginning}; keys of its wait for {named(awaited)}. {cure(document, awaited, proxy)}")
    return as_warning(f"{beginning}; it is filled from the others that have its keys")


def _fate_of_empty(document: Document, member: Member, coverage: Coverage | None) -> str:
    if coverage is None:
        return (
            f"its keys cannot be answered. Start it where its data is, or POST /v1/cluster/accept-loss with "
            f'{{"node": "{member.id}"}}'
        )
    if coverage.awaited:
        return f"{coverage.waiting}. {cure(document, coverage.awaited)}"
    return "it is filled from the others that have its keys"
