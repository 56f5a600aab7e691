"""The pauses before a change of the ring that was taken back is begun again. Pure: the time is an argument, in seconds.

What an operator takes back is not begun again for the same processes. With one copy a change is also taken back by itself:
while a ring is to come no write is accepted anywhere then, so a process that has it taken back again and again must not have it
begun each time.
"""

from math import inf

from gkv.cluster.changes import Look
from gkv.cluster.document import Document

FIRST = 5.0
LONGEST = 320.0
"""The pause doubles from the first to this one."""
_FORGOTTEN_AFTER = 600.0


class RingPauses:
    """The processes for which no change of the ring is begun now, by incarnation. One that starts anew has no pause."""

    def __init__(self) -> None:
        self._until: dict[int, tuple[float, float]] = {}
        """By incarnation, the end of the pause and its length."""

    def note(self, before: Document, after: Document, look: Look, now: float) -> None:
        """Note what a document has become: whoever had the ring that was to come taken back has a pause, or a longer one."""
        self._until = {one: pause for one, pause in self._until.items() if now - pause[0] < _FORGOTTEN_AFTER}
        if before.next is None or after.next is not None or after.layout == before.next:
            return
        if look.take_back:
            joining = {one.incarnation for one in before.members if not one.weight and one.id in dict(before.next.weights)}
            self._until |= dict.fromkeys(joining, (inf, inf))
            return
        for incarnation in _to_blame(before, look):
            length = min(2 * self._until[incarnation][1], LONGEST) if incarnation in self._until else FIRST
            self._until[incarnation] = now + length, length

    def at(self, now: float) -> frozenset[int]:
        """Return the incarnations that have a pause."""
        return frozenset(one for one, (until, _) in self._until.items() if now < until)

    def left(self, incarnation: int, now: float) -> float:
        """Return the seconds that are left of a pause, 0 for none."""
        return max(0.0, self._until.get(incarnation, (0.0, 0.0))[0] - now)


def _to_blame(document: Document, look: Look) -> set[int]:
    """Return the processes that asked for a ring and did not report it, or hold keys; all that asked if it was to come for too
    long, and none of them kept it from coming.
    """
    weights = {} if document.next is None else dict(document.next.weights)
    asked = {member.incarnation for member in document.members if weights.get(member.id, 0.0) != member.weight}
    reported = {
        call.incarnation
        for node_id, call in look.calls.items()
        if node_id not in look.silent and call.has(document) and not call.records
    }
    return (asked - (reported - look.ended)) or (asked if look.overdue else set())
