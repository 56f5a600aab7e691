"""Whether a process that calls in from another address than its member's is that member: addresses change, directories do not.
Pure.

Leaves to others: that the process answers at the address that it names (`gkv.cluster.reach`). With one of the last processes of
a member in the list of those that ran on its directory, a process is the member, wherever it is. While the member is down, any
directory of it will do, which is an older one then and makes its line `empty`.
"""

from collections.abc import Mapping

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, Member, State
from gkv.cluster.restored import awaits_its_first_process


def may_move(document: Document, line: Member, call: CallIn) -> bool:
    """Return whether a member is at the address that a call names from now on. A process stays where it has begun: only a later
    one moves, which is asked at its address before its words count.
    """
    if is_now_with_tls(line, call):
        return True
    if call.incarnation == line.incarnation:
        return False
    if awaits_its_first_process(line) and line.empty:
        return True
    is_older = line.state is State.DOWN and not awaits_its_first_process(line) and call.cluster == document.cluster
    return is_older or has_its_directory(line, call)


def has_its_directory(line: Member, call: CallIn) -> bool:
    """Return whether a process runs on the directory of a member, or of the process in its line."""
    return not {line.incarnation, line.directory}.isdisjoint((call.incarnation, *call.ran))


def is_now_with_tls(line: Member, call: CallIn) -> bool:
    """Return whether a member has begun to speak TLS, at the same address."""
    return line.url.startswith("http:") and call.node.url == f"https:{line.url.removeprefix('http:')}"


def displaced(document: Document, calls: Mapping[str, CallIn]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the members that are not where their lines have them, since another one is there that calls from its new address;
    and the members whose calls are of no account, being from an address that another one has by now. `calls` has those of
    members that may be made.

    No two members that are not down are ever at one address: a call for the keys of one would be answered by the other.
    """
    lines = {line.id: line for line in document.members}
    held = {line.url: line.id for line in document.members if line.state is not State.DOWN}
    moved = {call.node.url: one for one, call in calls.items() if call.incarnation != lines[one].incarnation}
    back = {call.node.url: one for one, call in calls.items() if lines[one].state is State.DOWN}
    gone = frozenset(one for url, one in held.items() if moved.get(url, one) != one)
    now = back | held | moved
    late = frozenset(one for one, call in calls.items() if now.get(call.node.url, one) != one)
    return gone, late


def is_replaced(document: Document, call: CallIn) -> bool:
    """Return whether a process was a member's by an earlier document, and another one is by this. It is to learn that.

    A process that no document has named yet lists those before it.
    """
    line = document.member(call.id)
    was_named = call.cluster == document.cluster and (0, 0) < call.order < document.order and not call.ran
    return was_named and line is not None and line.incarnation != call.incarnation
