"""A snapshot in a directory of its own, before any process runs on it: what it says of itself, and its way into another
cluster.

Promises: nothing that a process has run on is taken for a snapshot; when `assign` returns, all of it is on the disk, and else
nothing. Calls block until the disk has answered.
"""

from dataclasses import dataclass
from pathlib import Path

import lmdb

from gkv.engine import intact
from gkv.engine.directory import Directory
from gkv.engine.environment import COPIED, FORMAT, STRUCTURAL
from gkv.errors import EngineError

_ROOM = 1 << 20
"""Bytes of address space for the few pages that are written."""
_ANEW = "Put a snapshot, as data.mdb, into a directory with nothing else in it"


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """The description that a snapshot has of itself."""

    node: str
    """The id of the node whose records it has."""
    cluster: str
    era: int
    """Generation and epoch that none of the records is later than, as one number."""
    dated: int
    """The time of day at which it was taken, in ms by the node's clock; 0 where an older version has taken it."""
    keys: int
    """Keys with a value."""


class SnapshotDirectory:
    """The directory of one snapshot, which this process owns until `release`."""

    def __init__(self, path: Path) -> None:
        """Look at what is there. Raise EngineError for anything but a snapshot of a member, OSError when it cannot be read."""
        self.path = path
        self._file = path / "data.mdb"
        if not self._file.exists():
            raise EngineError(f"there is no {self._file}. {_ANEW}")
        self._directory = Directory(path)
        try:
            intact.check(self._file, used=True)
            self.content = self._read()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let another process own the directory. Doing so twice is fine."""
        self._directory.release()

    def _read(self) -> SnapshotFile:
        try:
            with lmdb.open(str(self.path), readonly=True, lock=False, create=False, max_dbs=2) as env:
                if env.info()["last_txnid"] > COPIED:
                    raise EngineError(f"a node has run in {self.path}, or it was restored before: it is no snapshot. {_ANEW}")
                meta = env.open_db(b"meta", create=False)
                with env.begin(db=meta) as txn:
                    found = dict(txn.cursor())
                    keys = txn.stat(env.open_db(b"keys", txn=txn, create=False))["entries"]
        except STRUCTURAL as error:
            raise EngineError(f"{self._file} is damaged: {error}") from error
        except lmdb.Error as error:
            raise EngineError(f"{self._file} is no snapshot of a node: {error}") from error
        if found.get(b"format") != FORMAT:
            raise EngineError(f"{self._file} has another format than the {FORMAT.decode()!r} of this version")
        if b"cluster" not in found:
            raise EngineError(f"{self._file} is of a node that had not joined a cluster: there is nothing to restore")
        try:
            era, dated = int(found.get(b"era", b"0")), int(found.get(b"dated", b"0"))
            return SnapshotFile(found[b"node"].decode(), found[b"cluster"].decode(), era, dated, int(keys))
        except (KeyError, ValueError) as error:
            raise EngineError(f"{self._file} is damaged: {error}") from error

    def assign(self, cluster: str, incarnation: int) -> None:
        """Make it the records of another cluster, on which a process of this incarnation is said to have run. One commit.

        Raise EngineError when it cannot be written.
        """
        room = self._file.stat().st_size + _ROOM
        try:
            with lmdb.open(str(self.path), map_size=room, lock=False, create=False, max_dbs=1) as env:
                meta = env.open_db(b"meta", create=False)
                with env.begin(write=True, db=meta) as txn:
                    txn.put(b"cluster", cluster.encode())
                    txn.put(b"run", b"%d" % incarnation)
        except lmdb.Error as error:
            raise EngineError(f"{self._file} cannot be written: {error}") from error
