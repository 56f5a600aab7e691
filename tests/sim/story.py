"""The story of a run in plain lines: when, who, what."""

from collections.abc import Callable

from tests.sim.scheduler import Scheduler


class Story:
    """Lines, while somebody wants them."""

    def __init__(self, scheduler: Scheduler, *, told: bool) -> None:
        self._scheduler = scheduler
        self.told = told
        """Whether lines are kept: ask before one is made that is costly."""
        self.lines: list[str] = []

    def tell(self, who: str, what: str | Callable[[], str]) -> None:
        """Note what somebody does."""
        if self.told:
            self.lines.append(f"{self._scheduler.now:9.4f}  {who:<4} {what if isinstance(what, str) else what()}")
