"""The look at all records in the background, round after round: what is damaged is found before anybody asks for it, and
mended where there are copies. A damaged record that a read meets first is noted and mended as one that a round has found.

After a stop that was no orderly one the first round is as fast as requests let it be; all others go at a rate. Each step takes
2 ms at most. The records are read from the pages of the data file, past the cache of values; whether the system reads them from
the disk for that or has them in memory is its own affair.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import gevent
from gevent.event import Event

from gkv.engine import Engine, Looked
from gkv.errors import GkvError
from gkv.log import as_error, as_warning
from gkv.model import Damage, Record

BETWEEN = 10.0
"""Seconds between two rounds."""
_STEP = 64
"""Entries in one step of a round at a rate, which takes some 0.5 ms."""
_PAUSE = 0.001
"""Seconds between two steps at least: others have their turn then."""
_MENDED_AT_ONCE, _MENDED_EVERY = 64, 0.1
"""Keys that are given to be mended together, and seconds until the next: each has its primary read and write a record."""
_LOOK_AGAIN = 0.5
"""Seconds between two looks at what was damaged, beside the rounds."""
_AGAIN_AT_ONCE, _BYTES_AGAIN = 8, 1 << 18
"""Keys that are looked at then, and bytes of values after which that is enough."""
_SAID = 10
"""Problems that are said one by one in a round, and records that have been mended; of the rest, how many."""
_MOST_KNOWN = 10_000
"""Damaged records that are known by their key, and other problems; of more, it is not counted when they are mended."""


@dataclass(slots=True)
class ScrubFigures:
    """Counts since the start."""

    rounds: int = 0
    records: int = 0
    """Looks at records."""
    found: int = 0
    """Records that were found to be damaged, each once until it is mended."""
    mended: int = 0
    """Those of them that are no more: written anew, or dropped."""


class Scrub:
    """The rounds over the records of one engine."""

    def __init__(
        self, engine: Engine, rate: int, mend: Callable[[Sequence[str]], object], say: Callable[[str], object]
    ) -> None:
        """`rate` is in entries a second, 0 for no round but one after an unclean stop; `mend` is given damaged keys, a few at
        a time, and does not switch greenlets.
        """
        self._engine = engine
        self._rate = rate
        self._changed = Event()
        """Set when the rate has changed: nobody goes on waiting as the one before says."""
        self._mend = mend
        self._say = say
        self._known: dict[str, None] = {}
        """Damaged keys, those whose record is lost among them."""
        self._met: dict[str, None] = {}
        """Damaged keys that reads have met and that are not noted yet."""
        self._odd: set[str] = set()
        """Lines about all else that the last round, or the one under way, has found."""
        self._failure = ""
        """Why the last round has failed, if it has."""
        self._said = self._said_mended = 0
        """Lines that the round under way has said, or since the last one."""
        self.state = "not needed" if engine.was_clean or not engine.durable else "running"
        """The state of the look after an unclean stop."""
        self.figures = ScrubFigures()

    @property
    def damaged(self) -> int:
        """The count of problems, as far as they are known."""
        return len(self._known) + len(self._odd)

    def go_on_at(self, rate: int) -> None:
        """Look at so many entries a second from now on; with 0 a round that is under way at a rate is broken off."""
        if rate != self._rate:
            self._rate = rate
            self._changed.set()

    def run(self) -> None:
        """Look at all records again and again. Switches greenlets; does not end but with an engine that keeps nothing on a
        disk.
        """
        if not self._engine.durable:
            return
        if not self._engine.was_clean:
            self._say(as_warning("the last stop was not an orderly one: every record is being checked"))
            self.round(at_once=True)
        while True:
            self._said = self._said_mended = 0
            if self._rate:
                self.round()
            for _ in range(round(BETWEEN / _LOOK_AGAIN)):
                self._pause(_LOOK_AGAIN)
                self.look_again()

    def _pause(self, seconds: float) -> None:
        """Let others have their turn for so long, or until the rate changes. Switches greenlets."""
        self._changed.clear()
        self._changed.wait(max(_PAUSE, seconds))

    def round(self, *, at_once: bool = False) -> None:
        """Look at all records once, at the rate of the moment, or as fast as requests let it be. Switches greenlets."""
        is_first = not self._engine.was_clean
        known = len(self._known)
        try:
            is_whole = self._look_at_all(at_once=at_once)
        except GkvError as error:
            if is_first:
                self.state = "failed"
            if self._failure != str(error):
                self._say(as_error(f"the check of the records has failed: {error}"))
            self._failure = str(error)
            return
        self._failure = ""
        if not is_whole:
            return
        self.figures.rounds += 1
        if is_first:
            self.state = "done"
            self._engine.was_clean = True
            line = f"every record has been checked, {self.damaged} are damaged"
            self._say(as_error(line) if self.damaged else line)
        elif len(self._known) > known:
            self._say(as_error(f"every record has been looked at, {self.damaged} are damaged"))

    def _look_at_all(self, *, at_once: bool) -> bool:
        """Return whether all were looked at, as the rate has not become 0 meanwhile."""
        self._said = self._said_mended = 0
        odd: set[str] = set()
        for step in self._engine.verify() if at_once else self._engine.verify(_STEP):
            self.figures.records += step.records
            self._note(step)
            odd.update(islice(step.problems, _MOST_KNOWN - len(odd)))
            self._odd.update(odd if step.problems else ())
            for at in range(0, len(step.damaged), _MENDED_AT_ONCE):
                self._mend(step.damaged[at : at + _MENDED_AT_ONCE])
                gevent.sleep(_MENDED_EVERY)
            self.look_again()
            self._pause(step.cost / self._rate if self._rate and not at_once else _PAUSE)
            if not (at_once or self._rate):
                return False
        self._odd = odd
        return True

    def _note(self, step: Looked) -> None:
        """Note what a step has found, and say what is new of it."""
        self._note_damaged(step.damaged)
        self._say_damaged([line for line in step.problems if line not in self._odd])

    def _note_damaged(self, keys: Sequence[str]) -> list[str]:
        """Note damaged keys, as far as there is room; return those that are new."""
        new = [key for key in keys if key not in self._known]
        self.figures.found += len(new)
        self._known.update(dict.fromkeys(new[: _MOST_KNOWN - len(self._known)]))
        self._say_damaged([f"{key!r} is damaged" for key in new])
        return new

    def _say_damaged(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._said += 1
            if self._said <= _SAID:
                self._say(as_error(f"damaged: {line}"))

    def met(self, key: str) -> None:
        """Note that a read has found a record to be damaged. Does not switch greenlets."""
        if key not in self._known and len(self._known) + len(self._met) < _MOST_KNOWN:
            self._met[key] = None

    def _note_met(self) -> None:
        """Note some of what reads have met, whatever it is by now, and give it to be mended."""
        some = list(islice(self._met, _MENDED_AT_ONCE))
        for key in some:
            del self._met[key]
        if new := self._note_damaged(some):
            self._mend(new)

    def look_again(self) -> None:
        """Note what reads have met, and see whether some of what was damaged is so no more."""
        self._note_met()
        size = 0
        for key in list(islice(self._known, _AGAIN_AT_ONCE)):
            del self._known[key]
            [found] = self._engine.records_of([key])
            if isinstance(found, Damage):
                self._known[key] = None  # at the end: the others have their turn
            else:
                self.figures.mended += 1
                self._said_mended += 1
                if self._said_mended <= _SAID:
                    self._say(f"mended: {key!r} was {_fate(found)}")
                size += len(found.value) if found is not None and found.value is not None else 0
            if size > _BYTES_AGAIN:
                return


def _fate(found: Record | None) -> str:
    """Return what has become of a damaged record."""
    return "dropped" if found is None else "deleted" if found.value is None else "written anew"
