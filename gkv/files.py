"""Small files that outlive a crash and a full disk, and directories that one process owns.

Promises: a file that is replaced is there whole, as it was or as it is to be, whenever the power
goes; every OSError that leaves this module names the file. Leaves to others: what is in the files.
All calls block until the disk has answered; none of them switches greenlets.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The ways in which a system says that a file cannot grow: the disk, a quota, the limit of the
process or the file system."""

SLOT = 4096
"""Bytes of one slot: as much as a disk writes at a time, so that writing one cannot harm the other."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have each OSError name this file if it names none: calls on descriptors do not know it."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to disk: syncing a file does not keep its name."""
    with naming(path):
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def sync_data(file: int) -> None:
    """Bring what was written over in an open file to disk, and of its attributes no more than that takes. macOS knows only
    all of them.
    """
    if hasattr(os, "fdatasync"):
        os.fdatasync(file)
    else:
        os.fsync(file)


def make_directory(path: Path, mode: int = 0o777) -> None:
    """Make a directory and those above it that are missing, and keep all their names. Nothing is
    done to one that exists.
    """
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(mode, parents=True, exist_ok=True)
    for directory in missing:
        sync_directory(directory.parent)


def _write(path: Path, content: bytes, mode: str = "wb") -> None:
    """Write a file from its beginning on, and bring it to disk. One fsync."""
    with path.open(mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another or of none, so that a crash leaves the old one or the new
    one. Two fsyncs.
    """
    scratch = path.with_suffix(".new")
    with naming(path):
        try:
            _write(scratch, content)
            scratch.replace(path)
        except OSError:
            with suppress(OSError):
                scratch.unlink()  # on a full disk, half a file would only take room
            raise
    sync_directory(path.parent)


def replace_by_spare(path: Path, content: bytes) -> None:
    """As `replace`, and the old file stays as a spare one beside it, into which the next content is
    written where it lies. So there is room for that on a full disk, unless it is longer than all
    before; spaces at its end make up for what it is shorter. Two fsyncs.
    """
    spare, old = path.with_suffix(".spare"), path.with_suffix(".old")
    with naming(path):
        if old.exists():  # of a process that was killed below
            old.unlink() if path.exists() and old.samefile(path) else old.replace(spare)
        room = spare.stat().st_size if spare.exists() else 0
        size = max(room, -(-(len(content) + 1) // SLOT) * SLOT)
        _write(spare, content.ljust(size - 1) + b"\n", "r+b" if room else "wb")
        with suppress(FileNotFoundError, PermissionError):  # there is none yet, or a file can have one name only
            os.link(path, old)
        spare.replace(path)
        if old.exists():
            old.replace(spare)
    sync_directory(path.parent)


def make_slots(path: Path, content: bytes, size: int = SLOT) -> None:
    """Make a file of two slots of `size` bytes with the same content. As `replace`."""
    replace(path, 2 * content.ljust(size, b"\0"))


def read_slots(path: Path, size: int = SLOT) -> list[bytes]:
    """Return what is in each slot of a file, without the zeros at its end.

    A file that does not have the size of two slots is returned as one. Raise FileNotFoundError when
    there is none.
    """
    with naming(path):
        data = path.read_bytes()
    if len(data) != 2 * size:
        return [data]
    return [data[:size].rstrip(b"\0"), data[size:].rstrip(b"\0")]


def identity(path: Path) -> tuple[int, int]:
    """Return what tells a file from any other that comes to its path: the device and the inode."""
    with naming(path):
        stat = path.stat()
    return stat.st_dev, stat.st_ino


def is_at(path: Path, file: int) -> bool:
    """Return whether an open file is the one that is at a path."""
    stat = os.fstat(file)
    try:
        return identity(path) == (stat.st_dev, stat.st_ino)
    except OSError:
        return False


def write_slot(path: Path, slot: int, content: bytes, size: int = SLOT, known: tuple[int, int] | None = None) -> None:
    """Write one slot of a file where it lies, and bring it to disk. One fdatasync.

    It takes no room, so it works on a full disk; not where the file system copies what is
    overwritten. A crash on the way may leave the slot damaged unless it is shorter than a sector,
    and never the other one. Raise OSError if the file has another `identity` than the one that is known.
    """
    with naming(path):
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            stat = os.fstat(file)
            if known not in (None, (stat.st_dev, stat.st_ino)):
                raise replaced(path)
            os.pwrite(file, content.ljust(size, b"\0"), slot * size)
            sync_data(file)
        finally:
            os.close(file)


def replaced(path: Path) -> OSError:
    """Return the error about a path at which another file is than the one that this process uses."""
    return OSError(errno.ESTALE, "it is another file than when this process began to use it", str(path))


class Lock:
    """A lock file that one process holds until `release`, or until it ends, however that is."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raise BlockingIOError when another process has it."""
        self._file = -1
        self._path = path
        with naming(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self.release()
                if error.errno == errno.EACCES:  # so say some network file systems
                    raise BlockingIOError(*error.args) from None
                raise

    def check(self) -> None:
        """Raise OSError when the lock file is not at its path any more: then what lies beside that path is somebody else's."""
        stat = os.fstat(self._file)
        if identity(self._path) != (stat.st_dev, stat.st_ino):
            raise replaced(self._path)

    def release(self) -> None:
        """Let another process take it. Doing so twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Reserve:
    """Room on a disk that is kept in a file, and given up for what must go on when there is no
    other.
    """

    def __init__(self, path: Path, size: int) -> None:
        """`size` is in bytes. Nothing is made until `keep`."""
        self._path = path
        self._size = size

    @property
    def exists(self) -> bool:
        return self._path.exists()

    def keep(self) -> None:
        """Make the file, if it is not there and the disk has room for twice as much."""
        if self.exists or free_bytes(self._path.parent) < 2 * self._size:
            return
        try:
            with self._path.open("wb") as file:
                allocate(file.fileno(), self._size)
        except OSError:
            self.give_up()

    def give_up(self) -> bool:
        """Free the room; return whether there was any."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True


def allocate(file: int, size: int) -> None:
    """Give an open file room on the disk for its first `size` bytes; what is in it stays. Raise OSError when there is none."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    there = os.fstat(file).st_size  # macOS has no such call: what the file is shorter by is written
    while there < size:
        there += os.pwrite(file, bytes(min(size - there, 1 << 20)), there)


def free_bytes(path: Path) -> int:
    """Return the bytes that are free on a directory's disk, for a process without privileges. 1 us."""
    with naming(path):
        stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize
