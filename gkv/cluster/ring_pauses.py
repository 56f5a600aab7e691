"""The pauses before a change of the ring is begun: the first one waits for all nodes that are known to be on their way, and one
that was taken back is not begun again at once. Pure: the time is an argument, in seconds.

What an operator takes back is not begun again for the same processes. A ring that has waited too long for somebody is taken
back by itself, so a process that has it taken back again and again must not have it begun each time.
"""

from collections.abc import Collection, Mapping
from math import inf

from gkv.cluster.callin import CallIn
from gkv.cluster.changes import Look
from gkv.cluster.document import Document, State

FIRST = 5.0
LONGEST = 320.0
"""The pause doubles from the first to this one."""
_FORGOTTEN_AFTER = 600.0
_KEPT = 4096
"""Pauses, the latest."""
FIRST_WITHIN = 5.0
"""Seconds after which the first ring of all is taken back, if it is still to come."""
NEWCOMER_WITHIN = 60.0
"""Seconds for which a ring that is to come waits for a newcomer that is down."""


class RingPauses:
    """The processes for which no change of the ring is begun now, by incarnation. One that starts anew has no pause."""

    def __init__(self) -> None:
        self._until: dict[int, tuple[float, float]] = {}
        """By incarnation, the end of the pause and its length."""
        self._waits_since: float | None = None
        """The time since which the ring that is to come has waited for somebody."""
        self._expected: frozenset[str] = frozenset()
        self._expected_until = 0.0

    def expect(self, nodes: Collection[str], until: float) -> None:
        """Have the first ring wait for nodes, as each that joined later would be filled."""
        self._expected, self._expected_until = frozenset(nodes), until

    def note(self, before: Document, after: Document, look: Look, now: float) -> None:
        """Note what a document has become: whoever had the ring that was to come taken back has a pause, or a longer one."""
        self._until = {one: pause for one, pause in self._until.items() if now - pause[0] < _FORGOTTEN_AFTER}
        if before.next is None or after.next is not None or after.layout == before.next:
            return
        if look.take_back:
            joining = {one.incarnation for one in before.members if not one.weight and one.id in dict(before.next.weights)}
            self._until = dict([*self._until.items(), *dict.fromkeys(joining, (inf, inf)).items()][-_KEPT:])
            return
        for incarnation in _to_blame(before, look):
            length = min(2 * self._until[incarnation][1], LONGEST) if incarnation in self._until else FIRST
            self._until[incarnation] = now + length, length

    def at(self, document: Document, calls: Mapping[str, CallIn], now: float) -> frozenset[int]:
        """Return the incarnations that have a pause."""
        if not document.has_ring and now < self._expected_until and not self._expected <= calls.keys():
            return frozenset(call.incarnation for call in calls.values())
        return frozenset(one for one, (until, _) in self._until.items() if now < until)

    def is_overdue(self, document: Document, now: float) -> bool:
        """Return whether the ring that is to come has waited too long for somebody, and is to be given up."""
        coming = () if document.next is None else document.next.weights
        lines = [line for node_id, _ in coming if (line := document.member(node_id)) is not None]
        if document.has_ring:  # else it waits for all of them
            lines = [line for line in lines if not line.weight and line.state is State.DOWN]
        if not lines:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now
        within = NEWCOMER_WITHIN if document.has_ring else FIRST_WITHIN
        return self._waits_since is not None and now - self._waits_since > within

    def left(self, incarnation: int, now: float) -> float:
        """Return the seconds that are left of a pause, 0 for none."""
        return max(0.0, self._until.get(incarnation, (0.0, 0.0))[0] - now)


def _to_blame(document: Document, look: Look) -> set[int]:
    """Return the processes that asked for a ring and did not report it; all that asked if it was to come for too long, and none
    of them kept it from coming.
    """
    weights = {} if document.next is None else dict(document.next.weights)
    asked = {member.incarnation for member in document.members if weights.get(member.id, 0.0) != member.weight}
    reported = {call.incarnation for node_id, call in look.calls.items() if node_id not in look.silent and call.has(document)}
    return (asked - (reported - look.ended)) or (asked if look.overdue else set())
