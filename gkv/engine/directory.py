"""The directory of a store: whose it is, and what is kept in it for the day on which its disk is full."""

import errno
import fcntl
import os
from pathlib import Path

from gkv.errors import EngineError

RESERVE = 4 << 20
"""Bytes that are given up when the disk is full, so that deletes can go on: they copy pages before they free any."""


class Directory:
    """A directory that one process owns until `release`, or until it ends, however that is."""

    def __init__(self, path: Path) -> None:
        """Make the directory, if need be, and lock it.

        Raise EngineError when another process owns it, OSError when it cannot be used.
        """
        self._path = path
        self._reserve = path / "reserve"
        missing = [directory for directory in (path, *path.parents) if not directory.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in missing:
            sync_directory(directory.parent)
        self._lock = os.open(path / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise EngineError(f"{path} is in use by another gkv process; give this node a directory of its own") from None

    def release(self) -> None:
        """Let another process own it. Doing so twice is fine."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def free(self) -> int:
        """Bytes that are free on the disk, for a process without privileges."""
        stat = os.statvfs(self._path)
        return stat.f_bavail * stat.f_frsize

    @property
    def has_reserve(self) -> bool:
        return self._reserve.exists()

    def keep_reserve(self) -> None:
        """Make the reserve, if it is not there and the disk has room for twice as much."""
        if self.has_reserve or self.free < 2 * RESERVE:
            return
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE)
        except OSError:
            self.give_up_reserve()

    def give_up_reserve(self) -> bool:
        """Free the reserve's room; return whether there was any."""
        try:
            self._reserve.unlink()
        except FileNotFoundError:
            return False
        return True


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to disk: syncing a file does not keep its name."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
