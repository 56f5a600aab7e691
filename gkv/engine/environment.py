"""The LMDB environment of a store: opened with care, its map made larger, copied.

Promises: a file that is not this node's, is cut off or makes no sense is refused with what to do,
and left as it is; what LMDB raises while something is read leaves as an error of gkv's. `resize`
and `close` may only be called while nothing is read or written; `begin`, `look` and `copy` from any
thread. Nothing switches greenlets.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, mmap
from pathlib import Path
from typing import Any

import lmdb

from gkv.engine import intact, readers
from gkv.engine.directory import Directory, file_limit
from gkv.errors import EngineError, EngineFailed, OtherNodesRecords, Unavailable
from gkv.files import allocate, is_at, naming, sync_directory
from gkv.log import as_warning, say

FORMAT = b"gkv-engine 2"
_MADE = "made"
"""File in the directory of a store that has come to its first commit."""
MIN_DISK = 8 << 20
"""Bytes of the data file that a store needs at least."""
SHORT_WRITE = 1 << 20
"""With less room for the file, an EIO is taken for a write that had only some of its bytes taken."""
_LOCK_FILE = 1 << 14
"""Bytes; more than LMDB's table of readers takes, 64 each."""
_MARGIN_PAGES = 16
"""What the pages of the sub-databases do not show: the two meta pages, the list of free pages, the
main database."""
_NAMES = (b"records", b"keys", b"due", b"meta")

COPIED = 1
"""The number that LMDB gives the one commit of a compacted copy. A store that has been used has later ones."""

STRUCTURAL = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.CursorFullError,
    lmdb.BadTxnError,
    lmdb.BadDbiError,
)
"""What LMDB says on a read when its pages make no sense."""


class Environment:
    """Four sub-databases in one file; `gkv.engine.lmdb.LmdbEngine` says what they hold."""

    def __init__(self, directory: Directory, path: Path, node: str, map_bytes: int, *, or_known: bool = False) -> None:
        """Open or create the environment in the directory `path`, which this process owns; it is of
        this node, with `or_known` of whichever node it has been of.

        Raise EngineError for what is not this node's or cannot be read, OSError when the directory
        cannot be used.
        """
        self.path = path
        self.file = path / "data.mdb"
        self.page = 0
        """Bytes of a page."""
        self.node = node
        """The id of the node whose records these are."""
        self._or_known = or_known
        self.cluster: str | None = None
        self.era = 0
        self.last_run = 0
        self.was_clean = True
        self.content = b""
        """The name of the content that was found, which no other has; nobody was told it unless the last stop was orderly."""
        self.records: Any = None
        self.listed: Any = None
        self.due: Any = None
        self.meta: Any = None
        self.directory = directory
        self._env: lmdb.Environment | None = None
        self.descriptor = -1
        """The data file, wherever it is by now: its directory may be moved while this process ends."""
        try:
            self._open(node, map_bytes)
        except BaseException:
            self.close()
            raise

    # --- opening and closing ----------------------------------------------------------------------------------------------

    def _open(self, node: str, map_bytes: int) -> None:
        new_file = not self.file.exists() or self.file.stat().st_size == 0
        _make_room_for_locks(self.path / "lock.mdb", self.directory)
        try:
            self._env = env = lmdb.open(
                str(self.path),
                map_size=map_bytes,
                max_dbs=8,
                max_readers=readers.SLOTS,
                sync=True,
                metasync=True,
                writemap=False,
                readahead=False,  # a store larger than memory is read at random
                lock=True,
                mode=0o600,
            )
            self.descriptor = os.open(self.file, os.O_RDWR | os.O_CLOEXEC)
            self.readers = readers.Readers(env, self.file)
            self.readers.free_dead()
            with env.begin() as txn, txn.cursor() as cursor:
                names = set(cursor.iternext(values=False))
        except lmdb.ReadersFullError as error:
            raise Unavailable(f"all slots for readers of {self.file} are taken by other processes") from error
        except STRUCTURAL as error:
            raise EngineError(
                f"{self.file} cannot be opened: {error}. It is no LMDB file that this version reads, or it is damaged; move "
                f"the directory {self.path} away and start with an empty one"
            ) from error
        except lmdb.Error as error:
            raise EngineError(f"{self.file} cannot be opened: {error}") from error
        _refuse_other_names(self.file, names, node)
        self.page = int(env.stat()["psize"])
        if not names:
            self._create(env, node, new_file)
        else:
            self._adopt(env, node)

    def _create(self, env: lmdb.Environment, node: str, new_file: bool) -> None:
        try:
            with env.begin(write=True) as txn:
                self._open_databases(env, txn, create=True)
                for name, value in (
                    (b"format", FORMAT),
                    (b"node", node.encode()),
                    (b"size", b"0"),
                    (b"clean", b"0"),
                ):
                    txn.put(name, value, db=self.meta)
        except lmdb.Error as error:
            if self.has_no_space(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.file)) from error
            raise EngineError(f"{self.file} cannot be written: {error}") from error
        (self.path / _MADE).touch()
        if new_file:  # or the files' names could be gone after a power cut, whatever was synced in them
            sync_directory(self.path)
            sync_directory(self.path.parent)

    def _open_databases(self, env: lmdb.Environment, txn: lmdb.Transaction, create: bool) -> None:
        self.records, self.listed, self.due, self.meta = (env.open_db(name, txn=txn, create=create) for name in _NAMES)

    def _adopt(self, env: lmdb.Environment, node: str) -> None:
        """Take over what another run has left, if it is this node's."""
        try:
            with env.begin(write=True) as txn:  # which alone keeps the handles; it changes nothing, so it writes nothing
                self._open_databases(env, txn, create=False)
                meta = dict(txn.cursor(self.meta).iternext())
            known = meta.get(b"node", b"").decode(errors="replace")
            self.node = known if self._or_known and known else node
            _refuse_foreign(self.file, meta, self.node)
            self.was_clean = meta.get(b"clean") == b"1"
            cluster = meta.get(b"cluster")
            self.cluster = None if cluster is None else cluster.decode()
            self.era = int(meta.get(b"era", b"0"))
            if env.info()["last_txnid"] > COPIED:
                self.last_run = int(meta.get(b"run", b"0"))
            self.content = _content(env, meta.get(b"stop", b""))
            int(meta[b"size"])
            if self.was_clean and self.file.stat().st_size < self.end:
                raise EngineError(intact.cut_off(self.file, self.file.stat().st_size, self.end))
            if not _note(self, env, b"clean", b"0"):
                say(
                    as_warning(
                        f"{self.file}: the disk is full and has no room for the note that the store is in use: all is checked"
                    )
                )
                self.was_clean = False
        except (lmdb.Error, KeyError, ValueError) as error:
            raise EngineError(
                f"{self.file} is damaged: {error}. Move the directory {self.path} away, then put a snapshot of this node there "
                f"as {self.file.name}, or start with an empty one and accept the loss (POST /v1/cluster/accept-loss "
                f"at the proxy): there is no other copy of its records"
            ) from error

    def note_run(self, incarnation: int) -> None:
        """Keep that a process runs on this store from now on. A snapshot has no such note of its own."""
        if not _note(self, self.env, b"run", b"%d" % incarnation):
            say(as_warning(f"{self.file}: the disk is full and has no room for the note that this process uses the store"))

    def close(self, *, clean: bool = False) -> bytes:
        """Close the environment; `clean` says that all is well with it. Doing so twice is fine.

        Return the `content` that is found by whoever opens it next; nothing without the note of an orderly stop, nor if there
        is another file at the path by now: what lies beside that is another process's.
        """
        if self._env is None:
            return b""
        content = _note_orderly_stop(self, self._env) if clean else b""
        if content and not is_at(self.file, self.descriptor):
            content = b""
        self._env.close()
        self._env = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        return content

    @property
    def env(self) -> lmdb.Environment:
        """The binding's own. Raise EngineError when it is closed."""
        if self._env is None:
            raise EngineError(f"{self.path} is closed")
        return self._env

    # --- transactions -----------------------------------------------------------------------------------------------------

    def begin(self, write: bool = False) -> lmdb.Transaction:
        """Begin a transaction on `records`. Raise what LMDB raises, and Unavailable when others
        have all slots for reading.

        About 0.5 us.
        """
        try:
            return self.env.begin(db=self.records, write=write)
        except lmdb.ReadersFullError:
            self.readers.free_dead()
        try:
            return self.env.begin(db=self.records, write=write)
        except lmdb.ReadersFullError:
            raise Unavailable(
                f"all {self.env.max_readers()} slots for readers of {self.file} are taken by other processes", retry_after=1
            ) from None

    @contextmanager
    def look(self) -> Iterator[lmdb.Transaction]:
        """Begin a transaction that reads, and end it. 1 us more than `begin`.

        Raise EngineError for pages that make no sense, EngineFailed when the file cannot be read.
        """
        try:
            with self.begin() as txn:
                yield txn
        except STRUCTURAL as error:
            raise EngineError(f"the pages of {self.file} are damaged: {error}") from error
        except lmdb.Error as error:
            raise EngineFailed(f"{self.path} cannot be read: {error}") from error

    def has_no_space(self, error: lmdb.Error) -> bool:
        """Return whether a transaction came to nothing because the disk, or what the file may have
        of it, is full.

        A disk that fills in the middle of a write takes its first part, and LMDB calls that EIO; so
        does the limit of a process for its files. The pages belong to no commit then, as after
        ENOSPC. Were it a bad disk that is full besides, this commit would not be acknowledged
        either, and after a meta page that could not be written LMDB refuses all others.
        """
        short = _says(error, errno.EIO) and self.directory.free(self.file) < SHORT_WRITE
        return isinstance(error, lmdb.DiskError) or _says(error, errno.EDQUOT, errno.EFBIG) or short

    # --- room -------------------------------------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """Bytes up to the end of the last page that has ever been in use."""
        return (int(self.env.info()["last_pgno"]) + 1) * self.page

    def held_in(self, txn: lmdb.Transaction) -> int:
        """Return the bytes of all pages that hold something. About 5 us."""
        pages = _MARGIN_PAGES
        for database in (self.records, self.listed, self.due, self.meta):
            stat = txn.stat(database)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return pages * self.page

    def held(self) -> int:
        """Return the same for the last commit."""
        with self.look() as txn:
            return self.held_in(txn)

    def resize(self, size: int) -> bool:
        """Give the map `size` bytes; return False, with nothing changed, when this process may not
        have so many.

        Raise EngineFailed when it cannot be done after all: the environment is of no use then.
        """
        # LMDB lets go of the old map before it makes the new one, so it is tried before.
        if not _has_addresses(size):
            return False
        try:
            self.env.set_mapsize(size)
        except lmdb.Error as error:
            raise EngineFailed(f"{self.path} cannot be mapped with {size} bytes: {error}") from error
        return True

    def copy(self, descriptor: int) -> None:
        """Write a compacted copy of the last commit to a file descriptor, without the GIL, for as
        long as it takes.
        """
        try:
            self.env.copyfd(descriptor, compact=True)
        except lmdb.Error as error:
            raise EngineError(f"the snapshot of {self.path} failed: {error}") from error


def _refuse_other_names(file: Path, names: set[bytes], node: str) -> None:
    """Raise EngineError for a file that has other databases than a store."""
    if names - set(_NAMES):
        raise EngineError(
            f"{file} is not gkv's: it holds {min(names)!r}. Start with an empty directory, or with the one of node {node}"
        )


def _refuse_foreign(file: Path, meta: Mapping[bytes, bytes], node: str) -> None:
    """Raise EngineError for a store of another format or of another node."""
    found = meta.get(b"format", b"").decode(errors="replace")
    if found != FORMAT.decode():
        raise EngineError(
            f"{file} has the format {found!r}, this version reads {FORMAT.decode()!r}. Start it with the version that wrote "
            f"it, or with an empty directory"
        )
    whose = meta.get(b"node", b"").decode(errors="replace")
    if whose != node:
        raise OtherNodesRecords(
            f"{file} holds the records of node {whose!r}, this is node {node!r}. Give the node its own directory, or the name "
            f"it had"
        )


def check_file(path: Path) -> int:
    """Return the bytes that a store's data file has, 0 without one. Raise EngineError when LMDB
    must not open it.
    """
    file = path / "data.mdb"
    limit = file_limit()
    if limit is not None and limit < MIN_DISK:
        raise EngineError(f"this process may write files of {limit} bytes (ulimit -f), and {file} needs {MIN_DISK} at least")
    # Locks say nothing: a process that was killed while it made the store has left them beside an
    # empty file.
    intact.check(file, used=(path / _MADE).exists())
    return file.stat().st_size if file.exists() else 0


def _says(error: lmdb.Error, *numbers: int) -> bool:
    """Return whether LMDB met one of these; the binding names them by their text alone, but ENOSPC."""
    return any(os.strerror(number) in str(error) for number in numbers)


def _has_addresses(size: int) -> bool:
    """Return whether this process may have a map of so many bytes."""
    try:
        mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS, PROT_READ).close()
    except OSError:
        return False
    return True


def _note(environment: Environment, env: lmdb.Environment, name: bytes, value: bytes) -> bool:
    """Write a note to `meta`, on a disk that is full with the room of the reserve. Return False when there is none for it.

    Raise EngineError when it cannot be written for another reason.
    """
    while True:
        try:
            with env.begin(write=True) as txn:
                txn.put(name, value, db=environment.meta)
        except lmdb.Error as error:
            if not environment.has_no_space(error):
                raise EngineError(f"{environment.file} cannot be written: {error}") from error
            if not environment.directory.reserve.give_up():
                return False
        else:
            return True


def _note_orderly_stop(environment: Environment, env: lmdb.Environment) -> bytes:
    """Keep that all is well, and have the file end with its last page.

    So after an orderly stop any file that is shorter was cut, even where only pages that
    nothing refers to are missing. The file is made long enough, on the disk, before the note
    is written, whenever this is cut short: without the length there is no note.

    Return the `content`, nothing if there is no note.
    """
    descriptor = environment.descriptor
    stop = os.urandom(16)
    content = b""
    with suppress(lmdb.Error, OSError):
        with env.begin(write=True) as txn:
            # The commit may write the list of free pages anew, with 8 bytes for each of them:
            # there is room for twice that.
            margin = _MARGIN_PAGES * environment.page + max(0, environment.end - environment.held_in(txn)) // 256
            _set_length(descriptor, max(os.fstat(descriptor).st_size, environment.end + margin))
            txn.put(b"clean", b"1", db=environment.meta)
            txn.put(b"stop", stop, db=environment.meta)
        content = _content(env, stop)
        _set_length(descriptor, environment.end)
    return content


def _content(env: lmdb.Environment, stop: bytes) -> bytes:
    """Return what tells the content of the last commit from any other; nothing if no orderly stop has ever marked one."""
    return stop and stop + int(env.info()["last_txnid"]).to_bytes(8, "big")


def _set_length(descriptor: int, size: int) -> None:
    """Make a file so long, on the disk. Behind the last page in use there is nothing to lose."""
    os.ftruncate(descriptor, size)
    os.fsync(descriptor)


def _make_room_for_locks(path: Path, directory: Directory) -> None:
    """Have the whole lock file on disk, on a full one with the room of the reserve.

    LMDB writes to it through a map, where a hole on a full disk would be a SIGBUS.
    """
    with naming(path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    return allocate(lock, _LOCK_FILE)
                except OSError:
                    if not directory.reserve.give_up():
                        raise
        finally:
            os.close(lock)
