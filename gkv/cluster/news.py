"""The lines about members that an operator finds in the log. Pure; `coverage` is of the document in force."""

from collections.abc import Iterator, Mapping, Sequence

from gkv.cluster.coverage import Coverage, named
from gkv.cluster.document import Document, Durability, Member, State
from gkv.cluster.losses import Outlook
from gkv.cluster.ring_change import ring_change

ALONE = "no member answers: keys have no answer until one does, and nobody is taken for down meanwhile"


def of_changes(before: Document, after: Document, coverage: Coverage | None) -> Iterator[str]:
    """Yield what is said about the states that have changed; `coverage` is None with one copy."""
    for member in after.members:
        was = before.member(member.id)
        if member.empty and (was is None or not was.empty):
            why = why_empty(after, member)
            yield f"member {member.id} has come back empty: {why}; {_fate_of_empty(member, coverage)}"
        elif was is not None and was.state is not member.state and (coverage is not None or member.state is State.DOWN):
            yield f"member {member.id} is {member.state}{_fate(member, coverage)}"


def of_ring(before: Document, after: Document) -> Iterator[str]:
    """Yield what is said about a change of the ring that is filled, at its begin and at its end, and about members that are
    none any more.
    """
    if before.next is None and after.next is not None and after.is_filled:
        yield f"the ring is changing: {ring_change(after, after.next).what}; DELETE /v1/cluster/change takes that back"
    elif before.next is not None and before.is_filled and after.next is None:
        change = ring_change(before, before.next)
        if after.layout == before.next:
            yield f"the ring has changed: {change.what}"
        else:
            yield f"the change of the ring is taken back: {change.what}"
    if before.most_copies > 1:
        for member in before.members:
            if after.member(member.id) is None:
                yield f"{member.id} is no member any more"
    if (before.replicas, before.min_in_sync) != (after.replicas, after.min_in_sync):
        yield f"a write needs {after.min_in_sync} of {after.replicas} copies (min_in_sync)"


def of_settings(line: Member, weight: float, zone: str, proxy: str) -> str:
    """Return the line of a node whose weight or zone is another one than it was started with, "" if neither is."""
    asked = {"weight": (f"{weight:g}", f"{line.weight:g}"), "zone": (zone or "none", line.zone or "none")}
    differ = {name: found for name, (given, found) in asked.items() if given != found}
    if not differ:
        return ""
    found = " and ".join(f"the {name} is {value}" for name, value in differ.items())
    flags = " and ".join(f"--{name}" for name in differ)
    return (
        f"{found}, as the cluster has it; {flags} {'counts' if len(differ) == 1 else 'count'} for a new member only: "
        f"PATCH /v1/cluster/nodes/{line.id} at {proxy} gives another one"
    )


def _fate(member: Member, coverage: Coverage | None) -> str:
    """Return what becomes of keys with a member's new state."""
    if coverage is None:
        return "; its keys cannot be answered until it is back"
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


def cure(awaited: Sequence[str], proxy: str = "") -> str:
    """Return what an operator can do about keys that wait for one of these members."""
    call = f'POST /v1/cluster/accept-loss with {{"node": "{awaited[0]}"}}{proxy and " at "}{proxy}'
    if len(awaited) == 1:
        return f"Start {awaited[0]} with its data, or accept the loss: {call}"
    return f"Start one of them with its data, or accept the loss of each, of the one with the newest records last: {call}"


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
    return f"the loss of what {node_id} held has been accepted{when and ', and counts'}{when}: {'; '.join(acts)}"


def of_this_node(document: Document, line: Member, awaited: Sequence[str], proxy: str) -> str:
    """Return the line of a node that has come back empty; keys of its wait for one of those `awaited`, if for anybody."""
    if document.most_copies == 1:
        return (
            f"this directory is not the one that the member {line.id} has had, so its keys cannot be answered. Start the node "
            f"where its data is (--data), or have it act with what is here: POST /v1/cluster/accept-loss with "
            f'{{"node": "{line.id}"}} at {proxy}'
        )
    beginning = f"the member {line.id} has come back empty: {why_empty(document, line)}"
    if awaited:
        return f"{beginning}; keys of its wait for {named(awaited)}. {cure(awaited, proxy)}"
    return f"{beginning}; it is filled from the others that have its keys"


def _fate_of_empty(member: Member, coverage: Coverage | None) -> str:
    if coverage is None:
        return (
            f"its keys cannot be answered. Start it where its data is, or POST /v1/cluster/accept-loss with "
            f'{{"node": "{member.id}"}}'
        )
    if coverage.awaited:
        return f"{coverage.waiting}. {cure(coverage.awaited)}"
    return "it is filled from the others that have its keys"
