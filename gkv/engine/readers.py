"""Readers of a store's file, in this process and in others.

Each has a slot in LMDB's table. No page that was freed after the oldest of them began can be used
again, so the file grows. One that died leaves its slot behind: `tend` frees it. One that lives is
left alone, and said. Nothing switches greenlets.
"""

import os
import time
from pathlib import Path

import lmdb

from gkv.log import as_warning, say

SLOTS = 254
"""This process needs a few, the others are for tools that look on."""
LINGERS = 10.0
"""Seconds after which a line says that another process keeps pages from being used again."""
_TEND_EVERY = 1.0


class Readers:
    """What is known about them."""

    def __init__(self, env: lmdb.Environment, file: Path) -> None:
        """`file` is for the line that is said."""
        self._env = env
        self._file = file
        self._next = 0.0
        self.foreign = 0
        """Other processes' transactions that read, a second ago at most."""
        self._seen: dict[tuple[str, ...], float] = {}
        """Since when another process's reader (its id, its thread) has kept the same transaction."""
        self._said = False

    def free_dead(self) -> int:
        """Free the slots of processes that have ended; return how many. Some 2 us a slot that is in
        use.
        """
        return int(self._env.reader_check())

    def tend(self) -> None:
        """Free dead slots, and look at what other processes read; once a second at most, however
        often called.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _TEND_EVERY
        self.free_dead()
        own = str(os.getpid())
        readers = [tuple(line.split()) for line in self._env.readers().splitlines()[1:]]
        others = [reader for reader in readers if len(reader) == 3 and reader[0] != own and reader[2] != "-"]
        self.foreign = len(others)
        self._seen = {reader: self._seen.get(reader, now) for reader in others}
        lingering = [reader for reader, since in self._seen.items() if now - since >= LINGERS]
        if lingering and not self._said:
            say(
                as_warning(
                    f"process {lingering[0][0]} has been reading {self._file} for {LINGERS:.0f} s: until it is done, freed "
                    f"pages cannot be used again, and the file grows with every write"
                )
            )
        self._said = bool(lingering)

    @property
    def oldest_foreign(self) -> float:
        """Seconds for which the oldest of them has been seen, 0 without any."""
        return max((time.monotonic() - since for since in self._seen.values()), default=0.0)
