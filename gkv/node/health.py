"""What a node knows about the state of its records, and the look at all of them after a stop that was no orderly one."""

from collections.abc import Callable, Iterator
from typing import Any

import gevent

from gkv.api.metrics import Figure, figure
from gkv.config import Settings
from gkv.engine import CELLS, Commits, Engine
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
        self._engine.was_clean = True
        say(f"every record has been checked, {self._problems} are damaged")

    def figures(self, settings: Settings, commits: Commits) -> Iterator[Figure]:
        """Yield what /metrics says about the engine."""
        engine, done = self._engine, commits.figures()
        store = engine.store_figures
        kind = [((settings.engine, commits.durability if engine.durable else "none"), 1.0)]
        yield Figure("gkv_engine_info", "Where the records lie", ("engine", "durability"), kind)
        yield figure("gkv_engine_keys", "Keys with a value", engine.live)
        yield figure("gkv_engine_tombstones", "Keys of which only their deletion or expiry is remembered", engine.tombstones)
        yield figure("gkv_engine_live_bytes", "Bytes of all keys and values, without overhead", engine.size)
        yield figure("gkv_engine_map_bytes", "Bytes that the data file may have before its map grows", store.map_bytes)
        yield figure("gkv_engine_file_bytes", "Bytes of the data file", store.file_bytes)
        yield figure("gkv_engine_full", "Whether values are refused for want of room on the disk", store.is_full)
        yield figure("gkv_snapshot_running", "Whether a snapshot is on its way", store.snapshot_seconds is not None)
        yield figure("gkv_snapshot_age_seconds", "Time since it began, 0 without one", store.snapshot_seconds or 0.0)
        yield figure(
            "gkv_snapshot_refused_records_total",
            "Records not written for want of room beside a snapshot",
            store.refused_by_snapshot,
        )
        yield figure(
            "gkv_engine_foreign_readers", "Transactions of other processes that read the data file", store.foreign_readers
        )
        yield figure(
            "gkv_engine_foreign_reader_seconds", "For how long the oldest of them has read", store.foreign_reader_seconds
        )
        yield figure("gkv_engine_damaged_records", "Damaged records that the check after an unclean stop found", self._problems)
        built = [] if engine.sums is None else [((), engine.sums.built / CELLS)]
        yield Figure("gkv_sums_built_ratio", "Share of the sums of records that are built, while sums are kept", (), built)
        yield figure("gkv_engine_commits_total", "Commits, each with the writes of one group", done.commits)
        yield figure("gkv_engine_commit_seconds_total", "Time of all commits together", done.seconds)
        yield figure("gkv_engine_commit_longest_seconds", "The longest commit since the start", done.longest_seconds)
        yield figure("gkv_engine_writes_total", "Writes that are on the disk", done.writes)
        yield figure("gkv_engine_records_total", "Records of those writes", done.records)
        yield figure("gkv_engine_waiting_writes", "Writes that are admitted and not yet on the disk", done.waiting)

    def describe(self, settings: Settings, commits: Commits) -> dict[str, Any]:
        """Return what /v1/info says about the engine. Sizes in bytes, times in seconds."""
        engine, figures = self._engine, commits.figures()
        return {
            "name": settings.engine,
            "durable": engine.durable,
            "durability": commits.durability,
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
