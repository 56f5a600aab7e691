"""Complaints of members about each other, gathered for a moment and then judged (A2). Pure.

A complaint is the word of a primary: a member that is to have its writes, or to grant it a lease, does
not answer. Two members that cannot speak are both there in the authority's eyes, so it needs all
complaints of a moment to see which of them is the one that is cut off. A member also complains of
itself when its disk hangs, as nobody else waits for that; it goes if others act for all its lists.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from gkv.cluster.document import Document, Member, State
from gkv.cluster.placement import Placement
from gkv.duties import Fault

GATHERED = 0.1
"""Seconds between the first complaint and the verdict."""
FORGOTTEN = 0.8
"""Seconds after which a complaint counts for nothing: whoever was to judge it stood still."""
MAX_COMPLAINTS = 4_096
_SAID = {Fault.SILENT: "it does not answer", Fault.SLOW_DISK: "its disk is too slow", Fault.FULL: "its disk is full"}


@dataclass(frozen=True, slots=True)
class Complaint:
    """A member's word about another, each with its incarnation."""

    by: str
    by_incarnation: int
    about: str
    about_incarnation: int
    order: tuple[int, int]
    """Of the document that is in force at the one that complains."""
    fault: Fault = Fault.SILENT


class Complaints:
    """Those that were made lately."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int, str, int], float] = {}
        """By both sides, the time of the first word."""
        self._faults: dict[tuple[str, int, str, int], Fault] = {}
        self._own: dict[tuple[str, int], float] = {}
        """By who complains of itself, likewise."""
        self.reasons: dict[str, str] = {}
        """By member, who has said what, of those that are to go by the verdicts up to now."""

    def complain(self, complaint: Complaint, document: Document, placement: Placement, now: float) -> bool:
        """Note a complaint; return whether it counts."""
        about = _present(document, complaint.about, complaint.about_incarnation)
        by = _present(document, complaint.by, complaint.by_incarnation)
        if complaint.order != document.order or by is None or about is None:
            return False
        if by is about:
            if complaint.fault is Fault.SLOW_DISK:
                self._own.setdefault((by.id, by.incarnation), now)
            return complaint.fault is Fault.SLOW_DISK
        if complaint.fault is Fault.FULL and any(about.id in one.acting for one in placement.roles):
            return False
        sides = (by.id, by.incarnation, about.id, about.incarnation)
        if sides not in self._since and len(self._since) >= MAX_COMPLAINTS:
            return False
        self._since.setdefault(sides, now)
        self._faults[sides] = complaint.fault
        return True

    def verdicts(
        self, document: Document, placement: Placement, now: float, gone: AbstractSet[str] = frozenset()
    ) -> frozenset[str]:
        """Return the members that are to go, and forget what was said by them and about them; `gone` are those that go or do
        not answer already.
        """
        self._since = {
            sides: since
            for sides, since in self._since.items()
            if now - since < FORGOTTEN and _present(document, *sides[:2]) and _present(document, *sides[2:])
        }
        self.reasons = {one: why for one, why in self.reasons.items() if document.member(one) is not None}
        found: set[str] = set()
        while any(now - since >= GATHERED for since in self._since.values()):
            worst = self._worst(placement)
            found.add(worst)
            self.reasons[worst] = self._reason(worst)
            self._since = {sides: since for sides, since in self._since.items() if worst not in (sides[0], sides[2])}
        self._faults = {sides: self._faults[sides] for sides in self._since}
        self._own = {
            one: since
            for one, since in self._own.items()
            if now - since < FORGOTTEN and one[0] not in found and _present(document, *one)
        }
        for one, since in list(self._own.items()):
            if now - since >= GATHERED:
                del self._own[one]
                if not _are_all_that_act(frozenset({one[0], *found, *gone}), placement):
                    found.add(one[0])
                    self.reasons[one[0]] = "its own disk does not come to the end of a commit, as it says itself"
        return frozenset(found)

    def _reason(self, member: str) -> str:
        """Return what is said by a member and about it, now."""
        said = [(by, about, _SAID[self._faults[by, one, about, other]]) for by, one, about, other in self._since]
        about_it = [f"{by} says that {what}" for by, about, what in said if about == member]
        by_it = [f"it says of {about} that {what}" for by, about, what in said if by == member]
        return ", ".join(sorted(about_it) + sorted(by_it))

    def _worst(self, placement: Placement) -> str:
        """Return the member that is part of most complaints.

        Of two alike it is the one that more are about, which is not primary of the list in question;
        then the one that is primary of fewer lists.
        """
        parts: dict[str, int] = {}
        about: dict[str, int] = {}
        for by, _, other, _ in self._since:
            parts[by] = parts.get(by, 0) + 1
            parts[other] = parts.get(other, 0) + 1
            about[other] = about.get(other, 0) + 1
        primaries = [one.primary for one in placement.roles]
        return max(sorted(parts), key=lambda one: (parts[one], about.get(one, 0), -primaries.count(one)))


def _are_all_that_act(members: frozenset[str], placement: Placement) -> bool:
    """Return whether nobody but these members acts for some list."""
    return any(one.acting and members.issuperset(one.acting) for one in placement.roles)


def _present(document: Document, node_id: str, incarnation: int) -> Member | None:
    member = document.member(node_id)
    return member if member is not None and member.incarnation == incarnation and member.state is not State.DOWN else None
