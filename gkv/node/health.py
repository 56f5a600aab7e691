"""The state of a node's records, as it is shown."""

from collections.abc import Iterator
from typing import Any

from gkv.api.metrics import Figure, figure
from gkv.config import Settings
from gkv.engine import CELLS, Commits, Engine
from gkv.node.scrub import Scrub


class Health:
    """The engine's figures, and those of the look at its records."""

    def __init__(self, engine: Engine, scrub: Scrub) -> None:
        self._engine = engine
        self._scrub = scrub

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
        yield figure(
            "gkv_engine_free_bytes", "Bytes that the disk and --max-disk have left for the data file", store.free_bytes
        )
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
        scrub = self._scrub.figures
        yield figure("gkv_engine_damaged_records", "Damaged records that were found and are not mended", self._scrub.damaged)
        yield figure("gkv_scrub_records_total", "Records that were looked at in the background", scrub.records)
        yield figure("gkv_scrub_damaged_total", "Records that were found to be damaged, then or by a read", scrub.found)
        yield figure("gkv_scrub_mended_total", "Those of them that have been written anew, or dropped, since", scrub.mended)
        yield figure("gkv_scrub_rounds_total", "Looks at all records that have come to their end", scrub.rounds)
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
            "verification": {"state": self._scrub.state, "damaged": self._scrub.damaged},
            "commits": {
                "count": figures.commits,
                "writes": figures.writes,
                "records": figures.records,
                "lastSeconds": figures.last_seconds,
                "longestSeconds": figures.longest_seconds,
                "waiting": figures.waiting,
            },
        }
