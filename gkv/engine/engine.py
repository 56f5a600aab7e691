"""The contract that every engine keeps; `tests/contract/test_engine.py` runs over all of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence


class Engine(ABC):
    """A map from key to the text of a JSON value, both exactly as they came."""

    durable: bool
    """Whether a record outlives the process."""

    @abstractmethod
    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key in this order, None where there is none."""

    @abstractmethod
    def write(self, items: Mapping[str, bytes]) -> None:
        """Set all of these, replacing what was there."""

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> int:
        """Remove these keys and return how many of them existed. A key that stands twice counts once."""

    @property
    @abstractmethod
    def records(self) -> int:
        """How many keys there are. O(1)."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes of all keys (as UTF-8) and values, without overhead. O(1)."""

    @abstractmethod
    def check(self) -> list[str]:
        """Return what is wrong with the engine's data, one line a problem; an empty list when all is well. O(records)."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything. Closing twice is fine; no other call follows."""
