"""The promises that members may have given to others, by when they answered last. Pure: the time is an argument, in seconds.

While no records are copied nobody promises anything to anybody.
"""

from collections.abc import Iterable

from gkv.cluster.document import Document, Member, State
from gkv.cluster.liveness import SILENT_AFTER

DRIFT = 1.05
"""Two clocks run apart by less than this."""


class Promises:
    """The memory of when each process of a member answered anybody last."""

    def __init__(self, now: float, deadline: float) -> None:
        """`deadline` is the seconds for which a request may wait at a member."""
        self._started = now
        self._deadline = deadline
        self._answered: dict[int, float] = {}
        """By incarnation."""

    def note(self, document: Document, incarnations: Iterable[int], now: float) -> None:
        """Note that processes have answered."""
        if document.copies_records:
            known = {member.incarnation for member in document.members}
            self._answered.update(dict.fromkeys(known.intersection(incarnations), now))

    def follow(self, before: Document, after: Document, now: float) -> None:
        """Go on under another document. A process that it names for the first time has just called in."""
        earlier = {member.incarnation for member in before.members}
        known = {member.incarnation for member in after.members}
        kept = {one: when for one, when in self._answered.items() if one in known}
        self._answered = dict.fromkeys(known - earlier, now) | kept

    def answers(self, document: Document, node_id: str, now: float) -> bool:
        """Return whether a member that is down by the document has answered anybody lately."""
        line = _down(document, node_id)
        return line is not None and now - self._answered.get(line.incarnation, float("-inf")) < SILENT_AFTER

    def left(self, document: Document, node_id: str, now: float) -> float:
        """Return the seconds after which all that a member may have promised has run out, if it answers nobody until then."""
        line = _down(document, node_id)
        if line is None:
            return 0.0
        last = self._answered.get(line.incarnation, self._started)
        return max(0.0, last + DRIFT * document.lease_ms / 1_000 + self._deadline - now)


def _down(document: Document, node_id: str) -> Member | None:
    line = document.member(node_id) if document.copies_records else None
    return line if line is not None and line.state is State.DOWN else None
