"""Writes that have been admitted and are not settled yet, and the newest of them by key.

The newest admitted record of a key is here, or else the engine's. So whoever reads takes what is
here, and waits until that very write is settled, never for later ones.

REQUIRES: writes of one key that are settled end in the order of their admission; those that fail in
any.
"""

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from gkv.model import Record, Write


class Admitted(Protocol):
    """A write on its way; identity is what distinguishes two of them."""

    write: Write

    @property
    def failed(self) -> bool:
        """Whether the write has come to nothing."""


Handle = TypeVar("Handle", bound=Admitted)


class Unsettled(Generic[Handle]):
    """The writes on their way of one process."""

    def __init__(self) -> None:
        self.newest: dict[str, Handle] = {}
        """By key, the last admitted write of it. Look, and change nothing."""
        self._open: dict[Handle, None] = {}
        """All, in the order of their admission."""
        self._places: dict[Handle, dict[str, int]] = {}
        """Where each key stands in a write, of writes that somebody has read from."""

    def admit(self, admitted: Handle) -> None:
        """Note a write, before anybody else can read. 0.1 us a key."""
        self._open[admitted] = None
        self.newest.update(dict.fromkeys(admitted.write.keys, admitted))

    def touch(self, keys: Iterable[str]) -> bool:
        """Return whether a write of any of these keys is on its way. 0.05 us a key."""
        return bool(self.newest) and not self.newest.keys().isdisjoint(keys)

    def record(self, admitted: Handle, key: str) -> Record:
        """Return what a write makes of one of its keys."""
        places = self._places.get(admitted)
        if places is None:
            places = {key: place for place, key in enumerate(admitted.write.keys)}
            if admitted in self._open:
                self._places[admitted] = places
        write, place = admitted.write, places[key]
        expires = write.expires[place] if write.expires else 0
        return Record(write.version, write.values[place], expires, write.tags[place] if write.tags else None)

    def end(self, over: Sequence[Handle]) -> None:
        """Note that these are settled, or have failed: then what was admitted before them is the newest again."""
        newest = self.newest
        uncovered: set[str] = set()
        for admitted in over:
            if admitted not in self._open:
                continue
            del self._open[admitted]
            self._places.pop(admitted, None)
            failed = admitted.failed
            for key in admitted.write.keys:
                if newest.get(key) is admitted:
                    del newest[key]
                    if failed:
                        uncovered.add(key)
        if uncovered:
            for admitted in self._open:
                newest.update(dict.fromkeys(uncovered.intersection(admitted.write.keys), admitted))

    def check(self) -> list[str]:
        """Return what is wrong with what is kept by key."""
        wanted = {key: admitted for admitted in self._open for key in admitted.write.keys}
        return [] if wanted == self.newest else ["the newest writes by key are not those that are open"]
