"""A proxy's own checks at `/readyz`."""

from collections.abc import Iterator, Sequence

from gkv.api.data import Check
from gkv.cluster.authority import Authority
from gkv.cluster.document import State

_NAMED = 10
"""Members in trouble that are named; of the others, how many."""


def members(authority: Authority, *, usable: bool) -> Check:
    """Return the check of the members: that there are any and one of them answers, and a warning about those that do not.

    The keys of the others are answered, so such a member does not keep the proxy from its work.
    """
    if authority.attendance.is_alone:
        return Check("members", False, "no member answers")
    troubles = []
    for member in authority.document.members:
        if authority.attendance.waits_for_word(member.id):
            troubles.append(f"{member.id} waits for accept-loss")
        elif member.state is State.DOWN or (member.empty and authority.document.replicas == 1):
            troubles.append(f"{member.id} is down")
    more = len(troubles) - _NAMED
    return Check("members", usable, ", ".join(troubles[:_NAMED]) + (f" and {more} more" if more > 0 else ""))


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
