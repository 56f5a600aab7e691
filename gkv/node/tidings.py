"""The things that a member's machines want the authority to hear with the next call-in, which is made at once for them."""

from collections.abc import Collection

from gevent.event import Event

from gkv.duties import Fault
from gkv.replication.actions import Report

REACHED = 0.9
"""Seconds for which an answer of another member counts."""


class Tidings:
    """What is to be told under the document in force. `news` is set whenever the authority is to hear something now."""

    def __init__(self) -> None:
        self.news = Event()
        self._complaints: dict[str, Fault] = {}
        self._report: Report | None = None
        self._leaves = 0
        self._answered: dict[int, float] = {}

    def begin_anew(self) -> None:
        """Forget what was to be told under another document."""
        self._complaints = {}

    def complain(self, member: str, fault: Fault) -> None:
        """Have a complaint told (A2); the machines repeat it as long as there is reason."""
        self._complaints[member] = fault
        self.news.set()

    def report(self, report: Report) -> None:
        """Have it told which lists are equal to their primaries' (A4, A5)."""
        self._report = report
        self.news.set()

    def leave(self, era: int) -> None:
        """Ask for the eviction of this process under a document."""
        self._leaves = era
        self.news.set()

    def answered(self, incarnation: int, now: float) -> None:
        """Note that a process of another member has answered (A3)."""
        if now - self._answered.get(incarnation, -REACHED) >= REACHED:
            self.news.set()
        self._answered[incarnation] = now

    # -- for a call

    def take_complaints(self) -> tuple[tuple[str, str], ...]:
        """Take what is complained of."""
        complaints, self._complaints = self._complaints, {}
        return tuple((member, fault.value) for member, fault in complaints.items())

    def reported(self, era: int) -> tuple[bool, bool]:
        """Return whether the lists are equal under a document, those of the ring and those of the one that is to come."""
        report = self._report
        return (report.filled, report.coming) if report is not None and report.era == era else (False, False)

    def leaves(self, era: int) -> bool:
        """Return whether this process asks for its eviction under a document."""
        return self._leaves == era

    def reached(self, now: float, members: Collection[int]) -> tuple[int, ...]:
        """Return the members' processes that have answered lately: of 1,000 members many may have ended within that time."""
        self._answered = {one: at for one, at in self._answered.items() if now - at < REACHED}
        return tuple(one for one in self._answered if one in members)
