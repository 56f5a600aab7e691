"""Why members go down: the words of an authority for its log. Pure."""

from collections.abc import Mapping

from gkv.cluster.changes import Look
from gkv.cluster.document import Document, Member, State
from gkv.cluster.together import listed, together
from gkv.log import as_warning

_LEAVES = "it is being stopped, and has asked to leave"


def departures(before: Document, after: Document, look: Look, complaints: Mapping[str, str]) -> list[str]:
    """Return lines for the processes that are out by a document and were not before, given what was known when that was due,
    and what the complaints were by which members are to go.
    """
    lines = {was.id: was for was in before.members}
    whys = {one: _why(lines[one], after, look, complaints) for one in gone(before, after)}
    return [
        line if why == _LEAVES else as_warning(line)
        for why, ids in together(whys)
        for line in [f"member {ids[0]} goes: {why}" if len(ids) == 1 else f"members {listed(ids)} go: {why}"]
    ]


def gone(before: Document, after: Document) -> list[str]:
    """Return the members that are out by a document and were not before."""
    return [was.id for was in before.members if was.state is not State.DOWN and _is_out(was, after.member(was.id))]


def _is_out(was: Member, member: Member | None) -> bool:
    return member is not None and (member.state is State.DOWN or member.incarnation != was.incarnation)


def _why(member: Member, after: Document, look: Look, complaints: Mapping[str, str]) -> str:
    call = look.calls.get(member.id)
    if member.incarnation in look.ended:
        return "its process has ended"
    if member.incarnation in look.leaving:
        return _LEAVES
    if call is not None and call.incarnation != member.incarnation:
        return "another process has called in as this member"
    if member.id in look.accused:
        return complaints.get(member.id, "others complain of it")
    if any(one.url == member.url and one.state is not State.DOWN for one in after.members if one.id != member.id):
        return "another member is at its address now"
    return "it has not called in for a second, and did not answer"
