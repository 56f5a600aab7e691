"""Planned moves: a primary holds what would begin a write, and lets what is under way settle (A7).

The pause guards nothing; it only spares clients an outcome that nobody knows.
"""

from dataclasses import dataclass, field
from enum import Enum

from gkv.replication.actions import Leave, Paused
from gkv.replication.events import Pair, PauseAsked

LONGEST = 0.5
"""Seconds after which a primary goes on by itself; the authority waits for less."""
MOST_PLANS = 8
"""Plans that hold under one document, each for once. An authority gives up after three; so the sum of all pauses is bounded,
whoever asks for them.
"""
STOP_WITHIN = 1.0
"""Seconds after which a process that was told to stop ends in any case."""
ASK_AGAIN = 0.1


@dataclass(slots=True)
class Pause:
    """The pause of one process, if there is one."""

    _asked: PauseAsked | None = None
    _until: float = 0.0
    _told: bool = False
    _era: int = 0
    _plans: set[int] = field(default_factory=set)
    """Those that have held anything under the document of that era."""

    def begin(self, asked: PauseAsked, era: int, now: float) -> None:
        """Hold the lists of a plan, which is for the document of this era alone; one that is repeated is held for no longer,
        and of too many under one document the last hold nothing.
        """
        if asked.era != era:
            return
        if self._era != era:
            self._era, self._plans = era, set()
        if self._asked == asked:
            self._told = False
        elif asked.plan not in self._plans and len(self._plans) < MOST_PLANS:
            self._plans.add(asked.plan)
            self._asked, self._until, self._told = asked, now + LONGEST, False

    @property
    def active(self) -> bool:
        return self._asked is not None

    def holds(self, pair: Pair) -> bool:
        """Return whether nothing may begin a write in a list."""
        return self._asked is not None and pair in self._asked.lists

    def quiet(self, busy: set[Pair]) -> Paused | None:
        """Return what the authority is to be told, given the lists in which a write is under way."""
        if self._asked is None or self._told or not busy.isdisjoint(self._asked.lists):
            return None
        self._told = True
        return Paused(self._asked.plan, self._asked.era)

    def go_on(self, plan: int) -> bool:
        """Release what is held for a plan; return whether anything was."""
        return self._asked is not None and self._asked.plan == plan and self.release()

    def release(self) -> bool:
        """Release what is held, as there is a newer document; return whether anything was."""
        held, self._asked = self._asked is not None, None
        return held

    def tick(self, now: float) -> bool:
        """Release what was held for too long; return whether anything was."""
        return self._asked is not None and now >= self._until and self.release()

    @property
    def wakes_at(self) -> float:
        return float("inf") if self._asked is None else self._until


class Step(Enum):
    """How far a process is that was told to stop."""

    SERVING = "serving"
    HOLDING = "holding"
    """It begins nothing, lets settle what is under way, and then asks for its eviction."""
    GONE = "gone"
    """It is to end."""


@dataclass(slots=True)
class Stopping:
    """The end of a process by SIGTERM."""

    step: Step = Step.SERVING
    wakes_at: float = float("inf")
    """The time at which something may be due, if nothing else happens."""
    _until: float = 0.0
    _ask_at: float = 0.0

    def begin(self, now: float) -> None:
        """Hold all writes from now on."""
        if self.step is Step.SERVING:
            self.step, self._until = Step.HOLDING, now + STOP_WITHIN
            self.wakes_at = self._until

    @property
    def holds(self) -> bool:
        return self.step is not Step.SERVING

    def look(self, serves: bool, busy: bool, era: int, now: float) -> Leave | None:
        """Go on; return what the authority is to be asked. `busy` says whether any write is under way."""
        if self.step is not Step.HOLDING:
            return None
        if not serves or now >= self._until:
            self.step, self.wakes_at = Step.GONE, float("inf")
            return None
        if busy:
            self.wakes_at = self._until
            return None
        if now < self._ask_at:
            return None
        self._ask_at = now + ASK_AGAIN
        self.wakes_at = min(self._until, self._ask_at)
        return Leave(era)
