"""The question to all others before members are evicted (A1): are you there? Pure.

Of those that leave at one epoch any may be the last one that was up, so the dead are to leave together.
A list that loses a member to an eviction and whose others do not answer is probably dead as a whole.
"""

from gkv.cluster.document import Document, State
from gkv.cluster.placement import Placement

ANSWERED_WITHIN = 0.05
"""Seconds that an answer may take, and after which it is asked again."""


class Question:
    """The question that is open, if one is."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._asked_at = 0.0
        self._asked: frozenset[str] = frozenset()
        self._heard: set[str] = set()
        self._missing: set[str] = set()

    def heard(self, node_id: str) -> None:
        """Note that a member is there, by an answer or a call."""
        self._heard.add(node_id)

    def missing(self, node_id: str) -> None:
        """Note that asking a member has failed."""
        self._missing.add(node_id)

    def close(self) -> None:
        """Forget it: the eviction is decided, or nobody is to go any more."""
        self._since = None

    def ask(
        self, goes: frozenset[str], silent: frozenset[str], document: Document, placement: Placement | None, now: float
    ) -> frozenset[str]:
        """Return the members that are to be asked now, `goes` being those that are to leave, the `silent` among them.

        While no records are copied only the silent are asked, once more: no list has a last one.
        """
        if self._since is None:
            self._since = self._asked_at = now
            self._heard.clear()
            self._missing.clear()
            self._asked = frozenset(silent) | (frozenset() if not document.copies_records else _present(document) - goes)
            return self._asked
        if now - self._asked_at < ANSWERED_WITHIN or not self._must_wait(goes, placement):
            return frozenset()
        self._asked_at = now
        return _present(document) - self._heard - goes

    def decided(self, goes: frozenset[str], placement: Placement | None, now: float) -> bool:
        """Return whether those that are to leave may leave now."""
        if self._since is None:
            return False
        over = now - self._since >= ANSWERED_WITHIN or self._asked <= self._heard | self._missing
        return over and not self._must_wait(goes, placement)

    def _must_wait(self, goes: frozenset[str], placement: Placement | None) -> bool:
        """Return whether some list would be left to members of which none has answered."""
        for one in () if placement is None else placement.roles:
            rest = [other for other in one.acting if other not in goes]
            if 0 < len(rest) < len(one.acting) and self._heard.isdisjoint(rest):
                return True
        return False


def _present(document: Document) -> frozenset[str]:
    return frozenset(member.id for member in document.members if member.state is not State.DOWN)
