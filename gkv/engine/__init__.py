"""Where a node's records lie.

Promises: a batch is applied whole or not at all, and no call switches greenlets, so what happens between two calls of one
handler happens at once for everybody else. Leaves to others: which node a record belongs to, and everything about HTTP.
"""

from gkv.engine.engine import Engine
from gkv.engine.memory import MemoryEngine

__all__ = ["ENGINES", "Engine", "MemoryEngine"]

ENGINES: dict[str, type[Engine]] = {"memory": MemoryEngine}
"""By the name that `gkv-node --engine` takes."""
