"""The directory of a store: whose it is, and what is kept in it for the day on which its disk is
full.
"""

import resource
from pathlib import Path

from gkv.errors import EngineError
from gkv.files import Lock, Reserve, free_bytes, make_directory

RESERVE = 4 << 20
"""Bytes that are given up when the disk is full, so that deletes can go on: they copy pages before
they free any."""


class Directory:
    """A directory that one process owns until `release`, or until it ends, however that is."""

    def __init__(self, path: Path) -> None:
        """Make the directory, if need be, and lock it.

        Raise EngineError when another process owns it, OSError when it cannot be used.
        """
        self._path = path
        make_directory(path, 0o700)
        try:
            self._lock = Lock(path / "owner.lock")
        except BlockingIOError:
            raise EngineError(f"{path} is in use by another gkv process; give this node a directory of its own") from None
        self.reserve = Reserve(path / "reserve", RESERVE)

    def release(self) -> None:
        """Let another process own it. Doing so twice is fine."""
        self._lock.release()

    def free(self, file: Path) -> int:
        """Return by how many bytes a file here may grow, for a process without privileges. Three
        system calls.
        """
        limit = file_limit()
        free = free_bytes(self._path)
        return free if limit is None else max(0, min(free, limit - file.stat().st_size))


def file_limit() -> int | None:
    """Return the bytes that a file may have by the limit of this process (`ulimit -f`), None
    without one.
    """
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit
