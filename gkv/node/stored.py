"""The records of a member as its machines look at them: on its disk, and in the commits under way.

Promises: what is looked at is what the commits under way will leave, writes merged by their order
and replacements whatever the versions say. Nothing here waits or switches greenlets, and no call
takes longer than some 3 ms, whatever the engine holds. Cursors are texts: 16 hexadecimal digits of
a token, and a key.
"""

from collections.abc import Sequence

from gkv.cluster.placement import Placement
from gkv.engine import Commits, Engine, Pending
from gkv.model import Damage, Record, Write
from gkv.replication.events import Pair


class Stored:
    """`gkv.replication.records.Records` over an engine and the one who writes to it."""

    def __init__(self, engine: Engine, commits: Commits) -> None:
        """All that is written must go through `write` and `replace`."""
        self._engine = engine
        self._commits = commits
        self.placement: Placement | None = None
        """That of the document in force; whoever adopts another document sets it."""

    # --- changes ----------------------------------------------------------------------------------------------------------

    def write(self, write: Write) -> Pending:
        """Hand a write to the group commit, which merges by order. Raise what `Commits.submit` raises."""
        raise NotImplementedError

    def replace(self, records: Sequence[tuple[str, Record]], drops: Sequence[str]) -> Pending:
        """Have records take the place of what is there, and keys dropped. Raise what `Commits.replace` raises."""
        raise NotImplementedError

    def over(self, group: Sequence[Pending]) -> None:
        """Note that commits are over, before the machines hear of it. To be called with all that `Commits.on_over` tells."""
        raise NotImplementedError

    # --- what is there ----------------------------------------------------------------------------------------------------

    def newest(self, keys: Sequence[str]) -> list[Record | Damage | None]:
        """As `Records`."""
        raise NotImplementedError

    def walk(self, pair: Pair, after: str, limit: int) -> tuple[list[str], str | None]:
        """As `Records`."""
        raise NotImplementedError

    def between(self, pair: Pair, after: str, upto: str | None) -> list[str]:
        """As `Records`."""
        raise NotImplementedError

    def buried(self, limit: int, after: tuple[int, str]) -> list[tuple[int, str]]:
        """Return old tombstones as `Engine.buried` does, but those of keys with a commit under way."""
        raise NotImplementedError
