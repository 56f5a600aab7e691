"""A look at a whole snapshot, or at the data file of a node that does not run: is everything in it what was written?

Promise: nothing is changed, neither the file nor its directory. Leaves to others: a file that somebody writes meanwhile, of
which it may say anything. Blocks until all of it was read.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from gkv.engine import intact
from gkv.engine.environment import FORMAT, STRUCTURAL
from gkv.engine.sums import TOKEN, Tokens
from gkv.engine.verify import Verification
from gkv.errors import EngineError


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in a file."""

    node: str
    cluster: str
    keys: int
    """Keys with a value."""
    dated: int
    """The time of day at which a snapshot was taken, in ms; 0 where that is not known."""
    problems: tuple[str, ...]


class _File:
    """The databases of a file that is only read."""

    def __init__(self, file: Path, env: lmdb.Environment) -> None:
        self._file = file
        self._env = env
        names = (b"records", b"keys", b"due", b"meta")
        opened: list[Any] = [env.open_db(name, create=False) for name in names]
        self.records, self.listed, self.due, self.meta = opened

    @contextmanager
    def look(self) -> Iterator[lmdb.Transaction]:
        """As `Environment.look`."""
        try:
            with self._env.begin(db=self.records) as txn:
                yield txn
        except STRUCTURAL as error:
            raise EngineError(f"the pages of {self._file} are damaged: {error}") from error
        except lmdb.Error as error:
            raise EngineError(f"{self._file} cannot be read: {error}") from error


def check_snapshot(file: Path, tokens: Tokens) -> Checked:
    """Look at all that a file has; `tokens` is `gkv.ring.tokens`.

    Raise EngineError for what is no store of this version, OSError when it cannot be read.
    """

    def addresses(keys: Sequence[str]) -> list[bytes]:
        found = tokens(keys)
        return [found[at * TOKEN : (at + 1) * TOKEN] + key.encode() for at, key in enumerate(keys)]

    intact.check(file, used=True)
    if not file.exists():
        raise EngineError(f"there is no {file}")
    try:
        with lmdb.open(str(file), subdir=False, readonly=True, lock=False, create=False, max_dbs=8) as env:
            opened = _File(file, env)
            with opened.look() as txn:
                meta = dict(txn.cursor(opened.meta).iternext())
                keys = int(txn.stat(opened.listed)["entries"])
            found = meta.get(b"format", b"").decode(errors="replace")
            if found != FORMAT.decode():
                raise EngineError(f"{file} has the format {found!r}, this version reads {FORMAT.decode()!r}")
            problems = list(_problems(Verification(opened, addresses)))
    except lmdb.Error as error:
        raise EngineError(f"{file} is no snapshot of a node, or damaged: {error}") from error
    node, cluster = (meta.get(name, b"").decode(errors="replace") for name in (b"node", b"cluster"))
    dated = meta.get(b"dated", b"0")
    return Checked(node, cluster, keys, int(dated) if dated.isdigit() else 0, tuple(dict.fromkeys(problems)))


def _problems(verification: Verification) -> Iterator[str]:
    for step in verification.steps():
        yield from step.lines
        for key in step.damaged:
            yield f"{key!r} is damaged"
    if wrong := verification.count():
        yield wrong
