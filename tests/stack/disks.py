"""What outlives a process: the records of a machine, and its files, which are real and in a directory of the run's own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gkv.engine.memory import MemoryEngine
from gkv.errors import EngineFailed, EngineFull
from gkv.model import Effect, Write
from gkv.ring import tokens


class Disk:
    """The disk of one machine."""

    def __init__(self, directory: Path, took: tuple[float, float]) -> None:
        self.directory = directory
        self.engine: Records | None = None
        """The one of the last process, whose records the next one has."""
        self.took = took
        """Seconds before a call is done, and after it."""
        self.stalled_until = 0.0
        """By true time."""
        self.full = False
        self.fails = 0
        """So many of the next writes fail with an I/O error."""

    def lose(self) -> None:
        """Lose all that there is."""
        self.engine = None
        for path in self.directory.iterdir():
            path.unlink()


class Records(MemoryEngine):
    """The records on a disk, as one process has them open."""

    durable = True

    def __init__(self, disk: Disk) -> None:
        super().__init__(tokens)
        self._disk = disk
        before = disk.engine
        if before is not None:
            self.__dict__.update(before.__dict__)
            self.was_clean = before.ended
            self.era = max([version.era for version in self._versions.values()], default=0)
        else:
            self.was_clean = True
        self.ended = False
        """Whether this process has closed them in an orderly way."""
        disk.engine = self

    def note_run(self, incarnation: int) -> None:
        self.last_run = incarnation

    def newest_of(self, key: str) -> Any:
        """Return the version of what is there of a key, None for nothing."""
        return self._versions.get(key)

    def live_values(self) -> dict[str, tuple[Any, ...]]:
        """Return value, order and expiry of each key that has a value."""
        return {key: (value, self._versions[key], self._times.get(key, 0)) for key, value in self._values.items()}

    def admit(self, write: Write, waiting: int) -> None:  # noqa: ARG002  # it has room, or not
        if self._disk.full and any(value is not None for value in write.values):
            raise EngineFull("the disk is full")

    def write(self, writes: Sequence[Write], now: int, syncing: Callable[[], object] = lambda: None) -> list[list[Effect]]:
        if self._disk.full and any(value is not None for write in writes for value in write.values):
            raise EngineFull("the disk is full")
        if self._disk.fails:
            self._disk.fails -= 1
            if self._disk.fails % 2:  # some of what fails is there all the same
                super().write(writes, now, syncing)
            raise EngineFailed("the disk does not work: I/O error")
        return super().write(writes, now, syncing)

    def close(self) -> None:
        self.ended = True
