"""Tests that bound time or memory run alone, when several processes run the tests of one suite.

A test takes a shared lock, one that is marked `undisturbed` an exclusive one. Both come through a
gate, which the latter keeps closed while it waits for those before it: it is not starved. One after
the other in the same process they keep the lock, so that the rest waits once for all of them.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turns:
    """Two lock files, shared by the processes of one run."""

    def __init__(self, run: str) -> None:
        """`run` names the run; the files lie in the directory for temporary files."""
        self._start = Path(tempfile.gettempdir()) / f"gkv-tests-{run}"
        self._files = [
            os.open(f"{self._start}.{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for name in ("gate", "test")
        ]
        self._kept = False

    @contextmanager
    def turn(self, *, alone: bool, then_alone: bool = False) -> Iterator[None]:
        """Run one test in its turn. Blocks until the others let it.

        `then_alone` says that the next test of this process is to run alone too: it begins at once.
        """
        gate, test = self._files
        if not self._kept:
            fcntl.flock(gate, fcntl.LOCK_EX)
            try:
                fcntl.flock(test, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            finally:
                fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            self._kept = alone and then_alone
            if not self._kept:
                fcntl.flock(test, fcntl.LOCK_UN)

    def close(self) -> None:
        for name, file in zip(("gate", "test"), self._files, strict=True):
            os.close(file)
            Path(f"{self._start}.{name}").unlink(missing_ok=True)
