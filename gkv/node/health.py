"""What a node knows about the state of its records, and the look at all of them after a stop that was no orderly one."""

from collections.abc import Callable
from typing import Any

import gevent

from gkv.config import Settings
from gkv.engine import Commits, Engine
from gkv.errors import GkvError

_PAUSE = 0.002
"""Seconds between two steps of the look: it should cost the requests nothing."""
_SAID = 10
"""Problems that are said one by one; of the rest, how many."""


class Health:
    """The engine's figures, and what `verify` has found."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._problems = 0
        self._state = "not needed" if engine.was_clean else "running"

    def verify(self, say: Callable[[str], None]) -> None:
        """After an unclean stop, look at every record and say what is damaged. Switches greenlets.

        What is damaged is never served anyway; this finds it before somebody asks.
        """
        if self._engine.was_clean:
            return
        say("the last stop was not an orderly one: every record is being checked")
        try:
            for problems in self._engine.verify():
                for problem in problems[: max(0, _SAID - self._problems)]:
                    say(f"damaged: {problem}")
                self._problems += len(problems)
                gevent.sleep(_PAUSE)
        except GkvError as error:
            self._state = "failed"
            say(f"the check has failed: {error}")
            return
        self._state = "done"
        say(f"every record has been checked, {self._problems} are damaged")

    def describe(self, settings: Settings, commits: Commits) -> dict[str, Any]:
        """Return what /v1/info says about the engine. Sizes in bytes, times in seconds."""
        engine, figures = self._engine, commits.figures()
        return {
            "name": settings.engine,
            "durable": engine.durable,
            "durability": settings.durability,
            "keys": engine.live,
            "tombstones": engine.tombstones,
            "bytes": engine.size,
            "verification": {"state": self._state, "damaged": self._problems},
            "commits": {
                "count": figures.commits,
                "writes": figures.writes,
                "records": figures.records,
                "lastSeconds": figures.last_seconds,
                "longestSeconds": figures.longest_seconds,
                "waiting": figures.waiting,
            },
        }
