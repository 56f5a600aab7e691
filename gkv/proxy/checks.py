"""A proxy's own checks at `/readyz`."""

from collections.abc import Iterator

from gkv.api.data import Check
from gkv.cluster.authority import Authority
from gkv.cluster.document import State

_NAMED = 10
"""Members in trouble that are named; of the others, how many."""


def members(authority: Authority, *, usable: bool) -> Check:
    """Return the check of the members: that there are any, and a warning about those of whose keys nobody answers.

    The others are answered, so such a member does not keep the proxy from its work.
    """
    troubles = []
    for member in authority.document.members:
        if authority.attendance.waits_for_word(member.id):
            troubles.append(f"{member.id} waits for accept-loss")
        elif member.state is State.DOWN or (member.empty and authority.document.replicas == 1):
            troubles.append(f"{member.id} is down")
    more = len(troubles) - _NAMED
    return Check("members", usable, ", ".join(troubles[:_NAMED]) + (f" and {more} more" if more > 0 else ""))


def copies(authority: Authority) -> Iterator[Check]:
    """Yield the check of the copies, where there are to be any: that somebody answers for every key, and a warning about those
    that have fewer copies than they should.
    """
    found = authority.coverage
    if found is not None:
        yield Check("copies", found.unanswered == 0, found.troubles)
