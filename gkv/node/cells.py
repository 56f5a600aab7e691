"""Cells of the token space (`gkv.engine.sums`) as parts of a list: which ones it has, and the cursors between them. Pure."""

from collections.abc import Sequence
from functools import reduce
from operator import xor
from typing import overload

from gkv.cluster.arcs import arcs
from gkv.cluster.placement import Placement
from gkv.engine import CELL_SHIFT
from gkv.node.cursors import cursor_of
from gkv.replication.events import Pair

_CELLS_AT_ONCE, _OF_A_PIECE = 8_192, 16
"""Cells of one look at sums, and how many of them a look at the records of a cell costs as much as."""

Stretch = tuple[int, int, list[tuple[int, int]]]
"""The first and the last of neighbouring cells; for a single one of which not all tokens are a list's, those that are."""


def stretches(placement: Placement, pair: Pair, first: int) -> tuple[list[Stretch], int | None]:
    """Return cells that have tokens of a list, from one on and ascending; and the one after them, None at the end.

    How many depends on the placement alone.
    """
    found: list[Stretch] = []
    left = _CELLS_AT_ONCE
    for arc in arcs(placement, *pair, first << CELL_SHIFT):
        begin, end = arc.first >> CELL_SHIFT, arc.last >> CELL_SHIFT
        if left <= 0 and (not found or begin > found[-1][1]):
            return found, begin
        if not arc.mine:
            left -= 1
            continue
        for cell in sorted({begin, end}):
            tokens_of = max(arc.first, cell << CELL_SHIFT), min(arc.last, ((cell + 1) << CELL_SHIFT) - 1)
            is_whole = tokens_of == (cell << CELL_SHIFT, ((cell + 1) << CELL_SHIFT) - 1)
            if cell == end and end > begin + 1:
                inner = min(end - 1, begin + max(1, left))
                found.append((begin + 1, inner, []))
                left -= inner - begin
                if inner < end - 1:
                    return found, inner + 1
            if found and found[-1][0] == cell and found[-1][2]:
                found[-1][2].append(tokens_of)
            else:
                found.append((cell, cell, [] if is_whole else [tokens_of]))
            left -= 1 if is_whole else _OF_A_PIECE
    return found, None


def joined(sums: Sequence[int | None]) -> int | None:
    """Return the sum of some arcs, None if one of them has none."""
    known = [one for one in sums if one is not None]
    return reduce(xor, known, 0) if len(known) == len(sums) else None


class Ends(Sequence[str | None]):
    """The cursors at the ends of cells, each made when it is asked for."""

    def __init__(self, cells: Sequence[int]) -> None:
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    @overload
    def __getitem__(self, place: int) -> str | None: ...
    @overload
    def __getitem__(self, place: slice) -> list[str | None]: ...
    def __getitem__(self, place: int | slice) -> str | list[str | None] | None:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        return cursor_of(((self._cells[place] + 1) << CELL_SHIFT, ""))
