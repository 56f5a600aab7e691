"""A proxy's own checks at `/readyz`."""

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
        if authority.waits_for_word(member.id):
            troubles.append(f"{member.id} waits for accept-loss")
        elif member.empty or member.state is State.DOWN:
            troubles.append(f"{member.id} is down")
    more = len(troubles) - _NAMED
    return Check("members", usable, ", ".join(troubles[:_NAMED]) + (f" and {more} more" if more > 0 else ""))
