"""Faults of a running system, drawn by lot: kill -9, pauses, restarts in an orderly way, clocks
that jump; and cuts and trouble on the wires between processes that have a network of their own.

A fault has an end after some time: a process that was killed or has ended is started again on the
same data, one that was paused goes on. Several processes may have one at once.
"""

import heapq
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.conftest import DEADLINE, Program
from tests.cluster.wires import Wires

LONGEST_PAUSE = 3.0
SHORT_PAUSE = 0.5
LONGEST_DOWN = 0.8
LONGEST_CUT = 3.0
MOST_LOST, LONGEST_DELAY = 0.1, 0.03
"""The share of packets that are lost at most, and the seconds by which the others are late."""
MOST_AT_ONCE = (1, 2, 2)
"""Processes that do not serve at one time. One of these by lot, so that a machine on which a start takes long has fewer
faults, and not all the time as many as may be.
"""
GAPS = (0.5, 1.7)
"""Seconds between the beginnings of two faults."""
SOON = (0.05, 0.2)
"""Seconds until another process is drawn, where the one that was drawn may not be hit."""
JUMPS = (3_600.0, -3_600.0, 3_600.0, -3_600.0, 3.0, -3.0, 0.4, -0.4)
"""Seconds by which a clock is set, where it was right before."""


class Fault(Enum):
    """Something that happens to a process."""

    KILL = "kill -9"
    PAUSE = "pause"
    RESTART = "orderly restart"
    CLOCK = "clock jumps"
    CUT = "cut one way"
    CUT_BOTH = "cut both ways"
    ALONE = "cut off from all others"
    TROUBLE = "packets lost and late"


_OF_WIRES = (Fault.CUT, Fault.CUT_BOTH, Fault.ALONE, Fault.TROUBLE)


@dataclass
class Clock:
    """The wall clock of one process, set by libfaketime, which reads it from a file each second;
    monotonic ones are left alone.
    """

    path: Path
    library: str
    offset: float = 0.0

    def set(self, offset: float) -> None:
        """Let the clock jump, also while the process does not run."""
        self.offset = offset
        new = self.path.with_suffix(".new")
        new.write_text(f"{offset:+}")
        new.replace(self.path)

    def environment(self) -> dict[str, str]:
        """Return what makes a process use it."""
        self.set(self.offset)
        return {
            "LD_PRELOAD": self.library,
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    @staticmethod
    def forget(process: int) -> None:
        """Take away what libfaketime leaves of a process that was killed."""
        for name in (f"faketime_shm_{process}", f"sem.faketime_sem_{process}"):
            Path("/dev/shm", name).unlink(missing_ok=True)


def faketime_library() -> str:
    """Return the path of libfaketime; skip the test where it is not installed."""
    try:
        done = subprocess.run(
            ["faketime", "-f", "+0", "sh", "-c", 'printf %s "$LD_PRELOAD"'], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no faketime, by which clocks are set")
    return done.stdout


@dataclass
class Victim:
    """A process that is started again and again, on the same port and data; `start` does not wait
    until it serves.
    """

    name: str
    start: Callable[[], Program]
    program: Program
    clock: Clock | None = None
    is_hit: bool = False
    """Whether a fault of it has not ended yet."""

    @property
    def serves(self) -> bool:
        """Return whether it has come so far that it listens, and no fault keeps it from answering."""
        return not self.is_hit and "Listening on port" in self.program.stdout


@dataclass
class Storm:
    """Faults that come to some processes, one after another, for some time."""

    victims: Sequence[Victim]
    chance: random.Random
    counts: Counter[Fault] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    """Each fault, with the time of the history's clock."""
    wires: Wires | None = None
    """The network between them, if that is one for them alone."""
    gaps: tuple[float, float] = GAPS
    """Seconds between the beginnings of two faults."""
    repeats: tuple[Callable[[], None], ...] = ()
    """Acts that come again and again, until the end."""
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _number: int = 0
    _coming: list[Fault] = field(default_factory=list)
    """Kinds of faults that are to come before any comes again."""

    def run(self, seconds: float) -> None:
        """Let faults happen for so long, then end those that go on."""
        until = time.monotonic() + seconds
        pace = threading.Event()
        self.repeats = (*self.repeats, self._begin)
        self._after(self.chance.uniform(*self.gaps), self._begin)
        while self._due:
            at, _, act = self._due[0]
            if at > until and act in self.repeats:
                heapq.heappop(self._due)
                continue
            pace.wait(max(0.001, min(at, until) - time.monotonic()))
            heapq.heappop(self._due)
            act()
        for victim in self.victims:
            if victim.clock is not None and victim.clock.offset:
                victim.clock.set(0)

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, self._number, act))

    def _begin(self) -> None:
        victim = self.chance.choice(self.victims)
        if not self._coming:
            self._coming = [one for one in Fault if self._is_possible(one, victim)]
            self.chance.shuffle(self._coming)
        fault = self._coming[-1]
        is_end = fault is not Fault.CLOCK and fault not in _OF_WIRES
        if is_end and (victim.is_hit or not self._may_hit(victim)):
            self._after(self.chance.uniform(*SOON), self._begin)
            return
        self._after(self.chance.uniform(*self.gaps), self._begin)
        self._coming.pop()
        self.counts[fault] += 1
        self.log.append(f"{time.monotonic():9.4f} {fault.value} of {victim.name}")
        if fault is Fault.CLOCK:
            assert victim.clock is not None
            victim.clock.set(0 if victim.clock.offset else self.chance.choice(JUMPS))
            self.log[-1] += f": {victim.clock.offset:+} s"
            return
        if fault in _OF_WIRES:
            self._break_wires(fault, victim)
            return
        victim.is_hit = True
        if fault is Fault.PAUSE:
            victim.program.signal(signal.SIGSTOP)
            self._after(
                self.chance.uniform(0.05, self.chance.choice([SHORT_PAUSE, LONGEST_PAUSE])), lambda: self._go_on(victim)
            )
        else:
            victim.program.signal(signal.SIGKILL if fault is Fault.KILL else signal.SIGTERM)
            until = time.monotonic() + DEADLINE
            self._after(self.chance.choice([0.0, self.chance.uniform(0, LONGEST_DOWN)]), lambda: self._start(victim, until))

    def _is_possible(self, fault: Fault, victim: Victim) -> bool:
        if fault is Fault.CLOCK:
            return victim.clock is not None
        return fault not in _OF_WIRES or self.wires is not None

    def _break_wires(self, fault: Fault, victim: Victim) -> None:
        """Cut a process off from another one or from all, or have the packets between all be late and lost, for a while."""
        wires = self.wires
        assert wires is not None
        lasts = self.chance.uniform(0.1, LONGEST_CUT)
        names = [one.name for one in self.victims]
        if fault is Fault.TROUBLE:
            loss, delay = self.chance.uniform(0, MOST_LOST), self.chance.uniform(0, LONGEST_DELAY)
            self.log[-1] += f": all lose {loss:.1%}, the others are late by up to {delay * 1000:.0f} ms, for {lasts:.2f} s"
            wires.trouble(loss, (0, delay), names)
            self._after(lasts, lambda: wires.trouble(0, (0, 0), names))
            return
        others = [name for name in names if name != victim.name]
        if fault is not Fault.ALONE:
            others = [self.chance.choice(others)]
        pairs = [(victim.name, other) for other in others]
        if fault is Fault.CUT and self.chance.random() < 0.5:
            pairs = [(other, name) for name, other in pairs]
        self.log[-1] += f": {', '.join('>'.join(pair) for pair in pairs)} for {lasts:.2f} s"
        both = fault is not Fault.CUT
        for src, dst in pairs:
            wires.cut(src, dst, both=both)
            self._after(lasts, partial(wires.mend, src, dst, both=both))

    def _may_hit(self, victim: Victim) -> bool:
        """Return whether enough processes are left that serve; one that starts is not spared always."""
        others = [one for one in self.victims if one is not victim and not one.serves]
        return len(others) < self.chance.choice(MOST_AT_ONCE) and (victim.serves or self.chance.random() < 0.2)

    def _go_on(self, victim: Victim) -> None:
        victim.program.signal(signal.SIGCONT)
        victim.is_hit = False

    def _start(self, victim: Victim, until: float) -> None:
        code = victim.program.process.poll()
        if code is None:
            assert time.monotonic() < until, f"{victim.name} does not end"
            self._after(0.01, lambda: self._start(victim, until))
            return
        assert code in (0, -signal.SIGKILL, -signal.SIGTERM), f"{victim.name} has ended with {code}: {victim.program.stderr}"
        if victim.clock is not None:
            victim.clock.forget(victim.program.process.pid)
        victim.program = victim.start()
        victim.is_hit = False
