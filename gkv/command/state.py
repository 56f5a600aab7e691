"""How far an export or an import is, in a small file beside the data, for the next run after whatever ended this one.

Promise: what the file says was done is on the disk, or with the servers.
"""

import json
import os
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

from gkv.command.codes import Code, Ended


@dataclass(frozen=True, slots=True)
class State:
    """A point up to which all is done."""

    cluster: str
    """The id of the cluster: in another one nothing is done."""
    prefix: str = ""
    cursor: str | None = None
    """An export's: from where the listing goes on; None at its beginning."""
    bytes: int = 0
    """Bytes of the file up to there."""
    keys: int = 0
    lines: int = 0
    check: str = ""
    """An import's: a checksum of the bytes before there."""
    refused: int = 0


class StateFile:
    """The file, replaced whole at each change."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what

    def find(self, said: Namespace, cluster: str) -> State | None:
        """Return from where to go on, None to begin. Raises Ended unless the command line says which of both."""
        if said.resume and said.restart:
            raise Ended("--resume and --restart say different things", Code.USAGE)
        if said.restart or not self.path.exists():
            return None
        try:
            found = State(**json.loads(self.path.read_bytes()))
        except (ValueError, TypeError):
            raise Ended(f"{self.path} cannot be read; --restart begins anew", Code.REFUSED) from None
        if found.cluster != cluster:
            raise Ended(f"{self.path} is of another cluster; --restart begins anew", Code.REFUSED)
        if not said.resume:
            raise Ended(
                f"the last {self._what} ended after {found.keys:,} keys ({self.path}): --resume goes on, --restart begins anew",
                Code.USAGE,
            )
        return found

    def keep(self, state: State) -> None:
        """Replace it. The data that it speaks of has to be on the disk."""
        spare = self.path.with_name(f"{self.path.name}.new")
        with spare.open("wb") as file:
            file.write(json.dumps(asdict(state)).encode())
            file.flush()
            os.fsync(file.fileno())
        spare.replace(self.path)

    def remove(self) -> None:
        """Take it away, as all is done."""
        self.path.unlink(missing_ok=True)
