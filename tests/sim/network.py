"""Messages between processes: they are late, lost, doubled and overtaken; connections break."""

from collections.abc import Callable, Sequence
from typing import Protocol

from tests.sim.chance import Chance
from tests.sim.scenario import AUTHORITY, EVERYBODY, Quirk, Rule
from tests.sim.scheduler import Scheduler
from tests.sim.story import Story

ORDINARY = 0.001
"""Seconds that a message takes."""
REFUSED = 0.001
"""Seconds after which a connection to nobody fails."""


class Network:
    """All connections. Names of processes: n0.. members, p0.. proxies, `AUTHORITY`."""

    def __init__(self, scheduler: Scheduler, chance: Chance, story: Story, rules: Sequence[Rule]) -> None:
        self._scheduler = scheduler
        self._chance = chance
        self._story = story
        self._rules = rules
        self._cuts: dict[tuple[str, str], int] = {}
        self._healed_at = float("inf")

    def cut(self, src: str, dst: str, change: int) -> None:
        """Lose what goes one way, once more (1) or once less (-1)."""
        left = self._cuts.get((src, dst), 0) + change
        if left > 0:
            self._cuts[src, dst] = left
        else:
            self._cuts.pop((src, dst), None)

    def is_cut(self, src: str, dst: str) -> bool:
        """Return whether what goes this way is lost."""
        return (src, dst) in self._cuts

    def heal(self) -> None:
        """End all cuts and rules."""
        self._cuts.clear()
        self._rules = ()
        self._chance.loss = 0

    def send(self, kind: str, src: str, dst: str, deliver: Callable[[], None], *, once: bool = False) -> None:
        """Have a message delivered, later, perhaps never or twice; with `once` not twice, and lost only by a cut or a rule."""
        if (src, dst) in self._cuts:
            return
        times = self._chance.message(f"{src}>{dst}", ORDINARY, once=once)
        if self._rules:
            times = self._ruled(kind, src, dst, times)
        for time in times:
            self._scheduler.after(time, deliver)

    def _ruled(self, kind: str, src: str, dst: str, times: Quirk) -> Quirk:
        now = self._scheduler.now
        for rule in self._rules:
            if (
                rule.since <= now < rule.until
                and rule.kind in (kind, EVERYBODY)
                and rule.src in (src, EVERYBODY)
                and rule.dst in (dst, EVERYBODY)
            ):
                if rule.lost:
                    return ()
                if rule.takes:
                    times = (rule.takes,)
                if rule.again:
                    times += (rule.again,)
        return times
