"""A copy of a running node's records, as a stream of bytes.

The engine writes it from a native thread into a pipe, which bounds what lies between it and a slow
reader; the event loop reads the pipe. One at a time: while one is on its way the engine cannot use
again the pages that it may still read, and the data file grows with every write. So a reader that
takes next to nothing, or nothing any more, is cut off.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic

import gevent
from gevent.event import Event
from gevent.os import make_nonblocking, nb_read

from gkv import background
from gkv.api.metrics import Figure, figure
from gkv.engine import Snapshot
from gkv.errors import EngineError, NotSupported, SnapshotRunning, Unavailable
from gkv.log import as_warning, say

PIPE = 1 << 20
"""Bytes; the most that an unprivileged process may have by default."""
GRACE = 30.0
"""Seconds of waiting for the reader after which it is judged, again and again."""
FLOOR = 64 << 10
"""Bytes a second that it must have taken in them: a store of 20 GB would be on its way for four
days."""
_HANGS = 0.9
"""Part of the grace after which a reader that has taken nothing hangs: a server cuts it off after 29.5 s."""
_PIECE = 1 << 18
_LOOK_EVERY = 1.0


class Backup:
    """Begins copies."""

    def __init__(
        self, begin: Callable[[int], Snapshot] | None, grace: float = GRACE, is_whole: Callable[[], bool] = lambda: True
    ) -> None:
        """`begin` begins to write a copy to a file descriptor, as `Commits.snapshot`; None when
        nothing is on a disk. `is_whole` returns whether the node has all that it is to have.
        """
        self._is_whole = is_whole
        self._begin = begin
        self._grace = grace
        self._idle = Event()
        self._idle.set()
        self._stream: _Stream | None = None
        """The copy under way, once its first piece is here."""
        self._closing = Event()
        self._cut = 0

    def begin(self) -> Iterator[bytes]:
        """Begin a copy and return its pieces.

        Raise NotSupported, SnapshotRunning, or what the engine raises before the first byte.
        Whatever is raised between two pieces means that the copy is of no use. Switches greenlets.
        """
        if self._begin is None:
            raise NotSupported("this node keeps its records in memory; there is nothing to copy")
        if self._closing.is_set():
            raise _shutting_down()
        if not self._idle.is_set():
            raise SnapshotRunning("another snapshot of this node is on its way", retry_after=10)
        if not self._is_whole():
            raise _of_a_part()
        self._idle.clear()
        try:
            stream = _Stream(self._begin, self._grace, self._ended)
        except BaseException:
            self._idle.set()
            raise
        if self._closing.is_set():
            stream.stop(_shutting_down())
        elif not self._is_whole():  # the disk may have taken its time
            stream.stop(_of_a_part())
        elif not self._idle.is_set():  # or all of it is here already
            self._stream = stream
        return stream

    def close(self) -> None:
        """End the copy under way and begin no more; then nothing reads the store for one. Switches
        greenlets.
        """
        self._closing.set()
        if self._stream is not None:
            self._stream.stop(_shutting_down())
        self._idle.wait()  # without a deadline: the store must not be closed beside its copy

    def _ended(self, was_cut: bool) -> None:
        self._idle.set()
        self._stream = None
        self._cut += was_cut and not self._closing.is_set()

    def figures(self) -> Iterator[Figure]:
        """Yield what /metrics says about copies."""
        yield figure("gkv_snapshots_cut_total", "Snapshots that were cut off because their reader took too little", self._cut)


def _shutting_down() -> Unavailable:
    return Unavailable("the node is shutting down", retry_after=1)


def _of_a_part() -> Unavailable:
    return Unavailable("the node is being filled, so a snapshot of it would not be whole", retry_after=1)


class _Stream(Iterator[bytes]):
    """The pieces of one copy, from the first one on, which it waits for when it is made."""

    def __init__(self, begin: Callable[[int], Snapshot], grace: float, ended: Callable[[bool], None]) -> None:
        self._grace = grace
        self._ended = ended
        self._over = False
        self._error: Unavailable | None = None
        """Why the copy was stopped."""
        self._waited = 0.0
        """Seconds of waiting for the reader since it was judged last, and the bytes that it has
        taken in them."""
        self._taken = 0
        self._handed: float | None = None
        """When the reader was given a piece that it has not come back from; None while the disk is
        waited for."""
        self._reading, writing = os.pipe()
        try:
            if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux; elsewhere a copy goes in smaller pieces
                with suppress(OSError):
                    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE)
            make_nonblocking(self._reading)
            self._snapshot = begin(writing)
        except BaseException:
            os.close(writing)
            os.close(self._reading)
            raise
        try:
            self._first: bytes | None = self._read()
        except BaseException:
            self.close()  # again, if it was the copy that ended
            raise
        self._handed = monotonic()
        self._judging = background.start("the watch over a snapshot's reader", self._keep_judging)

    def __next__(self) -> bytes:
        if self._handed is not None:
            self._waited += monotonic() - self._handed
            self._handed = None
        if self._first is not None:
            piece, self._first = self._first, None
        elif self._error is not None:
            raise self._error
        else:
            piece = self._read()
        if not piece:
            raise StopIteration
        self._taken += len(piece)
        self._handed = monotonic()
        return piece

    def _read(self) -> bytes:
        """Return the next piece, b"" after the last one of a whole copy."""
        piece: bytes = nb_read(self._reading, _PIECE)
        if self._error is not None:
            self.close()
            raise self._error
        if not piece:
            self._end()
        return piece

    def _keep_judging(self) -> None:
        while True:
            gevent.sleep(min(_LOOK_EVERY, self._grace / 4))
            if self._over:
                return
            self._judge()

    def _judge(self) -> None:
        """Cut the reader off when it has taken too little."""
        now = monotonic()
        waited = self._waited + (0.0 if self._handed is None else now - self._handed)
        if waited < self._grace:
            return
        if self._taken < FLOOR * waited and self._handed is not None:
            say(
                as_warning(
                    f"a snapshot is cut off: its reader took {self._taken} bytes in {waited:.0f} s, less than {FLOOR} a second"
                )
            )
            self.stop(Unavailable(f"the reader of the snapshot took {self._taken / waited:.0f} bytes a second"))
        self._waited, self._taken = 0.0, 0
        if self._handed is not None:
            self._handed = now

    def _end(self) -> None:
        """End the copy, and let the next one begin; raise what the copy raised. Doing so twice is
        fine. Switches greenlets.
        """
        if self._over:
            return
        self._over = True
        os.close(self._reading)  # a copy that nobody reads any more ends at its next write
        try:
            self._snapshot.end()
        finally:
            self._ended(self._error is not None)

    def stop(self, error: Unavailable) -> None:
        """End the copy; its reader gets this error in place of the next piece. Switches greenlets."""
        self._error = error
        if self._handed is not None:  # else it waits for the pipe, which must not be closed under it
            self.close()

    def close(self) -> None:
        """End the copy, whole or not. Switches greenlets.

        A server ends the answer of a client that takes nothing at all, as a rule before the judge does.
        """
        silent = 0.0 if self._over or self._error or self._handed is None else monotonic() - self._handed
        if silent >= _HANGS * self._grace:
            say(as_warning(f"a snapshot is cut off: its reader has taken nothing for {silent:.0f} s"))
            self._error = Unavailable("the reader of the snapshot took nothing")
        with suppress(EngineError):  # who closes it early knows that it is not whole
            self._end()
