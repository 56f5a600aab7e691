"""The leases that a member has granted, which keep it from taking over, and the durable note that
there are any (T2, F6, F7).

A grant lasts 1.05 leases from its receipt here, a lease one from its sending there. So a grant
outlasts the lease as long as two clocks differ by no more than 2 % each.
"""

from enum import Enum

from gkv.duties import Duties
from gkv.replication.actions import KeepNote

_Process = tuple[str, int]
"""A member, and the incarnation of its process."""


class _Note(Enum):
    """The durable note `granted`."""

    ABSENT = "absent"
    ADDING = "adding"
    THERE = "there"
    REMOVING = "removing"


class Grants:
    """What one process has granted to others."""

    GRACE = 1.05
    LINGER = 4.0
    """Leases for which the note stays after the last grant, so that a lease now and then costs no sync each."""

    def __init__(self, now: float, noted: bool, *, has_granted: bool = False) -> None:
        """Begin; `noted` says whether the note is on the disk, `has_granted` whether grants from before now, which nobody
        here knows of, may run in any case.
        """
        self._until: dict[_Process, float] = {}
        self._heard: set[_Process] = set()
        """Those that were heard under the document in force."""
        self._later: dict[str, tuple[int, int]] = {}
        """By member, the process of it that was heard last under a later document, and its era."""
        self._started = now
        self._found_note = noted
        self._has_granted = has_granted
        self._note = _Note.THERE if noted else _Note.ABSENT

    def begin_elsewhere(self) -> None:
        """Note that the process before has run in another directory, whose note nobody has seen."""
        self._has_granted = True

    def begin_first(self) -> None:
        """Note that there was no process before of which the note that was found could tell."""
        self._found_note = False

    # -- granting

    def grant(self, holder: str, incarnation: int, now: float, lease: float) -> KeepNote | None:
        """Note a grant, from the receipt of what asks for it; return what has to be done before it may be told."""
        process = holder, incarnation
        self._until[process] = max(self._until.get(process, now), now + self.GRACE * lease)
        if self._note is _Note.ABSENT:
            self._note = _Note.ADDING
            return KeepNote(True)
        return None

    @property
    def noted(self) -> bool:
        """Whether the note is on the disk, or on its way there or from there: what was granted may run."""
        return self._note is not _Note.ABSENT

    @property
    def may_tell(self) -> bool:
        """Whether the note is on the disk, so that a grant may leave this process."""
        return self._note is _Note.THERE

    def note_kept(self, there: bool, now: float) -> KeepNote | None:
        """Note that the note has come or gone; return what is to follow."""
        self._note = _Note.THERE if there else _Note.ABSENT
        if not there and self._running(now):
            self._note = _Note.ADDING
            return KeepNote(True)
        return None

    def drop_note(self, duties: Duties, now: float) -> KeepNote | None:
        """Return whether the note is to go: all grants have run out, also those of the process before."""
        if now < self.note_until(duties, now):
            return None
        self._note = _Note.REMOVING
        self._until = {}
        return KeepNote(False)

    def note_until(self, duties: Duties, now: float) -> float:
        """Return when the note may go, infinity if it is not there. Where no further grants are to come, it goes as soon as
        no holder may serve by a document before this one.
        """
        if self._note is not _Note.THERE:
            return float("inf")
        if not (self._until or self._found_note or self._has_granted):
            return self._started  # that of a first process: the next one is not to wait for it
        if not any(len(one.preference) > 1 or one.coming for one in duties.own):
            return self.clear_at(duties, now)
        return max([*self._until.values(), self.forgotten_until(duties.lease)]) + self.LINGER * duties.lease

    def last_receipt(self, holder: str, incarnation: int, lease: float) -> float | None:
        """Return when a process was last granted something, None if that is long ago or has never been."""
        until = self._until.get((holder, incarnation))
        return None if until is None else until - self.GRACE * lease

    # -- taking over

    def heard(self, member: str, incarnation: int, era: int, duties: Duties) -> None:
        """Note that a process was heard under a document of this era: it knows by then whose primary it no longer is.

        The word of a later document proves nothing before that very document is here: till then nobody knows that there is one.
        Of members that no document has, nothing is noted.
        """
        process = member, incarnation
        line = duties.lines.get(member)
        if era == duties.era:
            if process in self._until or (line is not None and line.incarnation == incarnation):
                self._heard.add(process)
        elif era > duties.era and line is not None:
            self._later[member] = incarnation, era

    def forget(self, duties: Duties, now: float) -> None:
        """Go on under another document: drop what no takeover will ask for any more."""
        self._until = {process: until for process, until in self._until.items() if until > now}
        later = {member: heard for member, heard in self._later.items() if member in duties.lines}
        self._heard = {(member, incarnation) for member, (incarnation, era) in later.items() if era == duties.era}
        self._later = {member: heard for member, heard in later.items() if heard[1] > duties.era}

    def forgotten_until(self, lease: float) -> float:
        """Return when the grants from before the beginning have run out (F7); the beginning if there were none."""
        return self._started + self.GRACE * lease if self._found_note or self._has_granted else self._started

    def holders(self, duties: Duties, now: float) -> list[str]:
        """Return the members whose grants keep a takeover under this document waiting (T2)."""
        return [process[0] for process in self._running(now) if not self._released(process, duties)]

    def clear(self, duties: Duties, now: float) -> bool:
        """Return whether nothing keeps a takeover waiting."""
        return now >= self.forgotten_until(duties.lease) and not self.holders(duties, now)

    def clear_at(self, duties: Duties, now: float) -> float:
        """Return when that will be so at the latest."""
        waits = [until for process, until in self._running(now).items() if not self._released(process, duties)]
        return max([self.forgotten_until(duties.lease), *waits])

    def _running(self, now: float) -> dict[_Process, float]:
        return {process: until for process, until in self._until.items() if until > now}

    def _released(self, process: _Process, duties: Duties) -> bool:
        """Return whether the holder of a grant certainly serves by no document before this one."""
        if process in self._heard or process[1] in duties.ended:
            return True
        line = duties.lines.get(process[0])
        if line is None or line.incarnation == process[1] or line.empty:
            return False
        # A later process of that member, in the directory that the holder had locked.
        return (process[0], line.incarnation) in self._heard
