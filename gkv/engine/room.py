"""Whether there is room for a write, and how large the map is to be: one state machine without I/O.

Events go in, a verdict comes out before anything of a write is begun. What stands for room are
three things: the map (address space, which cannot grow while a snapshot runs), the bound
(`--max-disk`, or the process's limit for a file) and the disk. Above the bound's last twentieth,
and once the disk has been full, only deletes go on: they copy pages before they free any.
"""

from enum import Enum
from typing import NamedTuple

MIN_MAP = 64 << 20
MAX_MAP = 1 << 45
"""Bytes of address space that a map may have: a quarter of what a process has."""
MARGIN = 1 << 20
"""Bytes that must be left beside what a write may take."""
BYTES_FOR_A_RECORD = 8 * 4096
"""An upper bound in practice: a leaf in each of three trees, and the branches above them that are
not shared."""
_STEP = 1 << 16


class Verdict(Enum):
    """What is said of a write before it is begun."""

    GOES = "goes"
    AT_BOUND = "the bound is reached"
    DISK_FULL = "the disk is full"
    SNAPSHOT = "it might not fit while a snapshot runs"


class Demand(NamedTuple):
    """What a write asks for."""

    values: int
    """Bytes of its values."""
    records: int
    sets: bool
    """Whether it brings any value; deletes free more than they take."""

    @property
    def wanted(self) -> int:
        """Bytes that must be there before it is tried."""
        return 2 * self.values + MARGIN


class Figures(NamedTuple):
    """How much room there is, in bytes."""

    end: int
    """Where the last page ends that has ever been in use."""
    held: int
    """Bytes of the pages that hold something, the others before `end` being free."""
    free: int
    """By how many bytes the data file may grow beyond the ones that it has."""
    size: int
    """Bytes that the data file has."""
    reserve: int
    """Bytes of the reserve that deletes are to find; 0 while it is in place, as it is not free
    then."""

    @property
    def beyond_end(self) -> int:
        """Bytes that new pages at the end may take."""
        return self.free + max(0, self.size - self.end)


class Room:
    """The state of a store's room. `figures` are asked for only while `tight`."""

    def __init__(self, bound: int, used: int) -> None:
        """`bound` is that of the data file, 0 for none; `used` are the bytes that the file has."""
        self._bound = bound // _STEP * _STEP
        self.map_bytes = MIN_MAP
        """Bytes of address space."""
        while self.map_bytes <= used:
            self.map_bytes *= 2
        if bound:
            self.map_bytes = max(min(self.map_bytes, self._bound), -(-used // _STEP) * _STEP)
        self._held = 0
        self._full = False
        self._met_bound_with: int | None = None
        """Bytes that were in use when values went beyond the bound; None before, and once others go or there are fewer."""
        self.snapshot_since: float | None = None
        """When the snapshot under way began; None without one."""

    @property
    def is_bounded(self) -> bool:
        """Whether `held` must be measured with each write."""
        return self._bound > 0

    @property
    def is_full(self) -> bool:
        """Whether values were refused for want of room, and nobody has found room since."""
        return self._full or self._met_bound_with is not None or (self._bound > 0 and self._held > self._for_values)

    @property
    def is_tight(self) -> bool:
        """Whether a verdict needs figures."""
        return self._full or self.snapshot_since is not None

    def verdict(self, demand: Demand, figures: Figures | None = None) -> Verdict:
        """Say whether a write may be tried; this changes nothing. While `is_tight` there must be
        `figures`.
        """
        if demand.sets and self._bound and self._held > self._for_values:
            return Verdict.AT_BOUND
        if figures is None:
            return Verdict.GOES
        wanted = demand.wanted
        if self._full and demand.sets and not self._fits_a_full_disk(wanted, figures):
            return Verdict.DISK_FULL
        if self.snapshot_since is not None:
            # Pages that are freed now cannot be used again before the snapshot is over, so all new
            # ones come from the end.
            wanted += BYTES_FOR_A_RECORD * demand.records
            if wanted > min(self.map_bytes - figures.end, figures.beyond_end):
                return Verdict.SNAPSHOT
        return Verdict.GOES

    def _fits_a_full_disk(self, wanted: int, figures: Figures) -> bool:
        """Return whether values may be tried again. Without the reserve its room must stay for
        deletes.
        """
        inside = figures.end - figures.held
        if figures.reserve:
            return inside + figures.free >= wanted + figures.reserve
        return max(inside, figures.free) >= wanted

    def exceeds(self, held: int) -> bool:
        """Return whether a transaction that brings values would leave more pages in use than values
        may have.
        """
        return self._bound > 0 and held > self._for_values

    def left(self, free: int) -> int:
        """Return the bytes that are left for values where the disk has so many, by the bound too."""
        return min(free, max(0, self._for_values - self._held)) if self._bound else free

    @property
    def _for_values(self) -> int:
        return self._bound - max(self._bound // 20, MARGIN)

    # --- events -----------------------------------------------------------------------------------------------------------

    def written(self, held: int, *, sets: bool) -> None:
        """Note how many bytes are in use after a commit, and whether it brought values. Needed only where there is a bound."""
        self._held = held
        if self._met_bound_with is not None and (sets or held < self._met_bound_with):
            self._met_bound_with = None

    def bound_was_met(self) -> None:
        """Note that values were tried for which there is no room below the bound; fewer may find some."""
        self._met_bound_with = self._held

    def disk_was_full(self) -> None:
        """Note that the disk had no room for a commit."""
        self._full = True

    def disk_has(self, figures: Figures, demand: Demand) -> None:
        """Note what the disk has before values are written: with its reserve in place and room for
        them it is not full any more.
        """
        if demand.sets and not figures.reserve and figures.free >= demand.wanted:
            self._full = False

    def snapshot_begins(self, now: float) -> None:
        self.snapshot_since = now

    def snapshot_is_over(self) -> None:
        self.snapshot_since = None

    # --- the map ----------------------------------------------------------------------------------------------------------

    def next_map(self) -> int | None:
        """Return the bytes that the map is to have when it is too small, None when it may not grow."""
        larger = 2 * self.map_bytes
        if self._bound:
            larger = min(larger, self._bound)
        return larger if larger > self.map_bytes else None

    def map_for_snapshot(self, figures: Figures) -> int:
        """Return the bytes that the map is to have before a snapshot, so that it need not grow
        while that runs.

        It is address space, which costs nothing: so as much as the disk or the bound lets the file
        have.
        """
        wanted = max(2 * figures.end, figures.end + figures.beyond_end + _STEP) // _STEP * _STEP
        return max(self.map_bytes, min(wanted, self._bound or MAX_MAP))

    def map_is(self, size: int) -> None:
        """Note that the map has been made so large."""
        self.map_bytes = size
