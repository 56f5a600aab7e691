"""The many small decisions of a run: by lot, and written down; or as they were written down."""

import random
from collections.abc import Iterable

from tests.sim.scenario import Quirk


class Chance:
    """Decides how long things take. Each decision has a name, so one that is left out changes no other."""

    def __init__(
        self,
        seed: int | None,
        quirks: Iterable[tuple[str, int, Quirk]] = (),
        loss: float = 0,
        twice: float = 0,
        slow: float = 0,
    ) -> None:
        """Decide by lot if there is a seed, else all is ordinary but for the quirks."""
        self._lot = None if seed is None else random.Random(seed)
        self._known = {(name, number): quirk for name, number, quirk in quirks}
        self.taken: list[tuple[str, int, Quirk]] = []
        """What was not ordinary."""
        self._counts: dict[str, int] = {}
        self.loss = loss
        """The share of messages that are lost; the world changes it."""
        self._twice = twice
        self.slow = slow
        """The share of those that take long; likewise."""

    def message(self, name: str, ordinary: float, *, once: bool = False) -> Quirk:
        """Return how long each copy of a message takes, nothing if it is lost. With `once` it comes exactly once."""
        number = self._next(name)
        lot = self._lot
        if lot is None:
            return self._known.get((name, number), (ordinary,))
        draw = lot.random
        if not once and self.loss and draw() < self.loss:
            times: Quirk = ()
        else:
            times = (self._time(ordinary),)
            if not once and self._twice and draw() < self._twice:
                times += (self._time(ordinary),)
        if times != (ordinary,):
            self.taken.append((name, number, times))
        return times

    def _time(self, ordinary: float) -> float:
        draw = self._lot.random  # type: ignore[union-attr]
        if draw() < self.slow:
            return round(draw() * (3.0 if draw() < 0.3 else 0.3), 4)
        return ordinary if draw() < 0.5 else round(ordinary * (0.2 + 2 * draw()), 4)

    def duration(self, name: str, ordinary: float) -> float:
        """Return how long something takes that always ends."""
        number = self._next(name)
        lot = self._lot
        if lot is None:
            return self._known.get((name, number), (ordinary,))[0]
        draw = lot.random()
        if draw < 0.5:
            return ordinary
        time = round(ordinary * (0.2 + 2 * lot.random()), 4) if draw < 0.97 else round(lot.random() * 0.5, 4)
        self.taken.append((name, number, (time,)))
        return time

    def below(self, name: str, most: int) -> int:
        """Return a number below `most`, ordinarily 0."""
        number = self._next(name)
        if self._lot is None:
            return int(self._known.get((name, number), (0,))[0]) % most
        chosen = self._lot.randrange(most)
        if chosen:
            self.taken.append((name, number, (chosen,)))
        return chosen

    def _next(self, name: str) -> int:
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        return number
