"""The holdings of a node, in the figures that its cluster is told."""

from gkv.engine import Engine
from gkv.errors import GkvError


class Holdings:
    """The records of one engine. A store that cannot be looked at now, as others have all slots for readers, may hold some."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def is_bare(self) -> bool:
        """Whether there is neither a record nor a tombstone."""
        try:
            return not self._engine.live and not self._engine.tombstones
        except GkvError:
            return False

    @property
    def records(self) -> int:
        """Keys with a value, one for a store that cannot be looked at now."""
        try:
            return self._engine.live
        except GkvError:
            return 1

    @property
    def size(self) -> int:
        """Bytes of keys and values, 0 for a store that cannot be looked at now."""
        try:
            return self._engine.size
        except GkvError:
            return 0
