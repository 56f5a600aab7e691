"""Complaints of members about each other, gathered for a moment and then judged (A2). Pure.

A complaint is the word of a primary: a member that is to have its writes, or to grant it a lease, does
not answer. Two members that cannot speak are both there in the authority's eyes, so it needs all
complaints of a moment to see which of them is the one that is cut off.
"""

from dataclasses import dataclass

from gkv.cluster.document import Document, Member, State
from gkv.cluster.placement import Placement
from gkv.model import Fault

GATHERED = 0.1
"""Seconds between the first complaint and the verdict."""
FORGOTTEN = 0.8
"""Seconds after which a complaint counts for nothing: whoever was to judge it stood still."""
MAX_COMPLAINTS = 4_096


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

    def complain(self, complaint: Complaint, document: Document, placement: Placement, now: float) -> bool:
        """Note a complaint; return whether it counts."""
        about = _present(document, complaint.about, complaint.about_incarnation)
        by = _present(document, complaint.by, complaint.by_incarnation)
        if complaint.order != document.order or by is None or about is None or by is about:
            return False
        if complaint.fault is Fault.FULL and any(about.id in one.acting for one in placement.roles):
            return False
        sides = (by.id, by.incarnation, about.id, about.incarnation)
        if sides not in self._since and len(self._since) >= MAX_COMPLAINTS:
            return False
        self._since.setdefault(sides, now)
        return True

    def verdicts(self, document: Document, placement: Placement, now: float) -> frozenset[str]:
        """Return the members that are to go, and forget what was said by them and about them."""
        self._since = {
            sides: since
            for sides, since in self._since.items()
            if now - since < FORGOTTEN and _present(document, *sides[:2]) and _present(document, *sides[2:])
        }
        found: set[str] = set()
        while any(now - since >= GATHERED for since in self._since.values()):
            worst = self._worst(placement)
            found.add(worst)
            self._since = {sides: since for sides, since in self._since.items() if worst not in (sides[0], sides[2])}
        return frozenset(found)

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


def _present(document: Document, node_id: str, incarnation: int) -> Member | None:
    member = document.member(node_id)
    return member if member is not None and member.incarnation == incarnation and member.state is not State.DOWN else None
