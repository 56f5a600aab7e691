"""Messages between processes: they are late, lost, doubled and overtaken; connections break."""

from collections.abc import Callable, Sequence

from tests.sim.chance import Chance
from tests.sim.scenario import EVERYBODY, Quirk, Rule
from tests.sim.scheduler import Scheduler

ORDINARY = 0.001
"""Seconds that a message takes."""
REFUSED = 0.001
"""Seconds after which a connection to nobody fails."""


class Network:
    """All connections. Names of processes: n0.. members, p0.. proxies, `AUTHORITY`."""

    def __init__(self, scheduler: Scheduler, chance: Chance, rules: Sequence[Rule], *, breaks: bool) -> None:
        self._scheduler = scheduler
        self._chance = chance
        self._rules = rules
        self._breaks = breaks
        self._cuts: dict[tuple[str, str], int] = {}
        self._connections: dict[frozenset[str], int] = {}
        """The number of the connection between two, where it is not the first."""

    def cut(self, src: str, dst: str, change: int) -> None:
        """Lose what goes one way, once more (1) or once less (-1)."""
        left = self._cuts.get((src, dst), 0) + change
        if left > 0:
            self._cuts[src, dst] = left
        else:
            self._cuts.pop((src, dst), None)

    def break_between(self, one: str, other: str) -> None:
        """Break the connection between two: what is on its way is lost."""
        pair = frozenset((one, other))
        self._connections[pair] = self._connections.get(pair, 0) + 1

    def is_cut(self, src: str, dst: str) -> bool:
        """Return whether what goes this way is lost."""
        return (src, dst) in self._cuts

    def heal(self) -> None:
        """End all cuts and rules."""
        self._cuts.clear()
        self._rules = ()
        self._chance.loss = 0

    def send(
        self,
        kind: str,
        src: str,
        dst: str,
        deliver: Callable[[], None],
        *,
        once: bool = False,
        lost: Callable[[], None] | None = None,
    ) -> None:
        """Have a message delivered, later, perhaps never or twice; with `once` not twice, and lost only by a cut or a rule.

        `lost` is called if the connection breaks while it is on its way.
        """
        if (src, dst) in self._cuts:
            return
        times = self._chance.message(f"{src}>{dst}", ORDINARY, once=once)
        if self._rules:
            times = self._ruled(kind, src, dst, times)
        if not self._breaks:
            for time in times:
                self._scheduler.after(time, deliver)
            return
        pair = frozenset((src, dst))
        connection = self._connections.get(pair)

        def arrive() -> None:
            if self._connections.get(pair) == connection:
                deliver()
            elif lost is not None:
                lost()

        for time in times:
            self._scheduler.after(time, arrive)

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
