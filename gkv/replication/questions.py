"""What a process has asked of whom, and who owes it an answer (A2).

Answers alone prove that a member hears: what it says by itself does not. So a member is complained
of when something was asked of it and no answer to anything has come for the timeout. Time in which
this process itself stood still counts for no more than a look: answers may have come that it has not read.
"""

from dataclasses import dataclass

from gkv.duties import Fault
from gkv.model import Version
from gkv.replication.actions import Complain

RESEND = 0.25
"""Seconds after which whatever has no answer is asked again."""
_STOOD_STILL = 2 * RESEND
"""Seconds without a look at what waits after which this process has stood still: it looks every `RESEND` / 2."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds after which a member is complained of."""

    silence: float = 1.0
    """Since it was asked something, without an answer to anything."""
    disk: float = 10.0
    """Since its oldest commit began."""


USUAL = Timeouts()


@dataclass(frozen=True, slots=True)
class Asked:
    """One question."""

    member: str
    at: float
    settled: tuple[Version, ...] = ()
    """Writes of which it tells that they are settled."""
    versions: tuple[Version, ...] = ()
    """Writes that it brings."""


class Questions:
    """All questions of one process under the document of now."""

    def __init__(self, timeouts: Timeouts = USUAL) -> None:
        self.timeouts = timeouts
        self._number = 0
        self._open: dict[int, Asked] = {}
        self._silent: dict[str, float] = {}
        """By member, the first question since its last answer; later by nearly all time in which this process stood still."""
        self._looked = float("-inf")
        """When `complaints` was asked for last."""
        self._slow: dict[str, float] = {}
        """By member, for how long its oldest commit had been running by its last answer."""
        self.full: set[str] = set()
        """Members that have no room for values, by their last word about that."""
        self._complained: dict[str, float] = {}

    def ask(
        self,
        member: str,
        now: float,
        settled: tuple[Version, ...] = (),
        versions: tuple[Version, ...] = (),
        *,
        owed: bool = True,
    ) -> int:
        """Note a question; return its number. Nobody is complained of for one that is not `owed` an answer."""
        self._number += 1
        if owed:
            self._open[self._number] = Asked(member, now, settled, versions)
            self._silent.setdefault(member, now)
        return self._number

    def answered(self, number: int, member: str) -> Asked | None:
        """Note an answer; return the question, None if it is not one of now."""
        asked = self._open.get(number)
        if asked is None or asked.member != member:
            return None
        del self._open[number]
        self._silent.pop(member, None)
        self._slow.pop(member, None)
        return asked

    def working(self, number: int, member: str, seconds: float) -> Asked | None:
        """Note that a member has received something, and for how long its disk has been busy; return the question, None if it
        is not one of now.
        """
        asked = self._open.get(number)
        if asked is None or asked.member != member:
            return None
        self._silent.pop(member, None)
        self._slow[member] = seconds
        return asked

    def no_room(self, number: int, member: str) -> None:
        """Note that a member has no room for what it was sent."""
        if self.answered(number, member) is not None:
            self.has_room(member, False)

    def has_room(self, member: str, there_is: bool) -> None:
        """Note whether a member has room for values."""
        (self.full.discard if there_is else self.full.add)(member)

    def own_disk(self, me: str, seconds: float) -> None:
        """Note for how long the disk of this process has been busy, 0 if it is not."""
        if seconds:
            self._slow[me] = seconds
        else:
            self._slow.pop(me, None)

    def begin_anew(self) -> list[Asked]:
        """Forget all questions, as a new document is in force; return them."""
        forgotten = list(self._open.values())
        self._open, self._silent, self._slow, self._complained = {}, {}, {}, {}
        return forgotten

    def lost(self, now: float) -> list[Asked]:
        """Take out the questions that are so old that they were asked again."""
        old = [number for number, asked in self._open.items() if now - asked.at > 2 * self.timeouts.silence]
        return [self._open.pop(number) for number in old]

    def complaints(self, now: float) -> list[Complain]:
        """Return who is to be complained of now; each is told again after `RESEND`. To be called every `RESEND` at least, while
        anything waits.
        """
        for one, since in self._silent.items():
            unheard = now - max(since, self._looked)
            if unheard >= _STOOD_STILL:
                self._silent[one] = since + unheard - RESEND  # as a process that is steadily slow has to complain as well
        self._looked = now
        found = [(one, Fault.SILENT) for one, since in self._silent.items() if now - since >= self.timeouts.silence]
        found += [(one, Fault.SLOW_DISK) for one, seconds in self._slow.items() if seconds >= self.timeouts.disk]
        found += [(one, Fault.FULL) for one in sorted(self.full)]
        due = [Complain(one, fault) for one, fault in found if now - self._complained.get(one, -RESEND) >= RESEND]
        self._complained.update({complaint.member: now for complaint in due})
        return due

    @property
    def slow(self) -> list[str]:
        """The members whose disk has been working for longer than anything is asked again."""
        return [one for one, seconds in self._slow.items() if seconds >= RESEND]

    @property
    def waiting(self) -> bool:
        """Whether anything has no answer yet."""
        return bool(self._open)
