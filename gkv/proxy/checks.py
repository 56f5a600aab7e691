"""A proxy's own checks at `/readyz`."""

from collections.abc import Iterator, Sequence

from gkv.api.data import Check
from gkv.cluster.authority import Authority
from gkv.cluster.document import State
from gkv.cluster.view import View

_NAMED = 10
"""Members in trouble that are named; of the others, how many."""


def members(authority: Authority, view: View, waits_for: str = "") -> Check:
    """Return the check of the members: that one of them answers for some keys, and a warning about those that are not up.

    While some keys are answered the proxy has work, and no other proxy could do more. `waits_for` is what it waits for at its
    start, "" for nothing.
    """
    attendance, document = authority.attendance, authority.document
    if waits_for or not document.nodes:
        return Check("members", False, f"waits until {waits_for}" if waits_for else "no node has joined yet")
    if attendance.is_alone:
        return Check("members", False, "no member answers")
    absent = attendance.absent
    troubles = []
    for member in document.members:
        if attendance.waits_for_word(member.id):
            troubles.append(f"{member.id} waits for accept-loss")
        elif member.state is State.DOWN or (member.empty and document.replicas == 1):
            troubles.append(f"{member.id} is down")
        elif member.id in absent:
            troubles.append(f"{member.id} does not answer")
        elif member.state is State.FILLING and member.weight:
            troubles.append(f"{member.id} is filling")
    found = view.coverage(absent)
    holds = document.replicas > 1 or (found is not None and found.unanswered < 1)  # with copies, the next check tells
    if not troubles:
        return Check("members", holds)
    up = sum(attendance.is_up(node.id) for node in document.nodes)
    more = len(troubles) - _NAMED
    named = ", ".join(troubles[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return Check("members", holds, f"{up}/{len(document.nodes)} up: {named}")


def copies(authority: Authority) -> Iterator[Check]:
    """Yield the check of the copies, where there are to be any: that somebody answers for some of the keys, and a warning about
    those for which nobody does, or else about those that have fewer copies than they should.

    As with one copy, a proxy that can answer for some keys is not taken out of service for the others: their clients are told
    so, and no other proxy could answer for them either.
    """
    found = authority.coverage
    if found is not None:
        yield Check("copies", found.unanswered < 1, found.troubles)
        if found.zones:
            yield Check("zones", holds=True, warning=found.zone_troubles)


def but(found: Sequence[Check]) -> str:
    """Return the end of a line that says that all is ready: "", or why `/readyz` is not ok all the same.

    >>> but([Check("serving", True), Check("copies", False, "100 % of the keys wait for a")])
    '; but /readyz is not ok: copies failed: 100 % of the keys wait for a'
    """
    failed = [check.line.removeprefix("[-]").rstrip() for check in found if not check.holds]
    return f"; but /readyz is not ok: {', '.join(failed)}" if failed else ""
