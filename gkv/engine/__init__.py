"""Where a node's records lie.

Promises: a batch is applied whole or not at all; no call of an engine switches greenlets; with `lmdb`, what a write returned
for is on disk. `Commits` gathers the writes of many greenlets into one trip to the disk, and switches greenlets where it says.
Leaves to others: which node a record belongs to, and everything about HTTP.
"""

from pathlib import Path

from gkv.engine.backlog import Pending
from gkv.engine.commit import CommitFigures, Commits
from gkv.engine.engine import NOT_BURIED, Due, Engine, Looked, Row
from gkv.engine.lmdb import LmdbEngine
from gkv.engine.memory import MemoryEngine
from gkv.engine.snapshot import Snapshot
from gkv.engine.sums import CELL_SHIFT, CELLS, Sums, Tokens

__all__ = [
    "CELLS",
    "CELL_SHIFT",
    "ENGINES",
    "NOT_BURIED",
    "CommitFigures",
    "Commits",
    "Due",
    "Engine",
    "LmdbEngine",
    "Looked",
    "MemoryEngine",
    "Pending",
    "Row",
    "Snapshot",
    "Sums",
    "open_engine",
]

ENGINES = ("lmdb", "memory")
"""The names that `gkv-node --engine` takes."""


def open_engine(
    name: str, path: Path, node: str, tokens: Tokens, max_disk: int = 0, cache: int = 0, *, or_known: bool = False
) -> Engine:
    """Open an engine by name, of a node; with `or_known` of whichever node the directory has been of: see `Engine.node`.
    `tokens` is `gkv.ring.tokens`; the rest is for the one that keeps files.
    """
    if name == "memory":
        return MemoryEngine(tokens, node)
    return LmdbEngine(path, node, tokens, max_disk, cache, or_known=or_known)
