"""A copy of a running node's records, as a stream of bytes.

The engine writes it from a native thread into a pipe, which bounds what lies between it and a slow reader; the event loop reads
the pipe. One at a time: while one is on its way the engine cannot use again the pages that it may still read.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

import gevent
from gevent.os import make_nonblocking, nb_read

from gkv.errors import NotSupported, Unavailable

PIPE = 1 << 20
"""Bytes; the most that an unprivileged process may have by default."""
_PIECE = 1 << 18


class Backup:
    """Begins copies.

    `write` writes one to a file descriptor, which it leaves open, and switches greenlets; it is None when nothing is on a disk.
    """

    def __init__(self, write: Callable[[int], None] | None) -> None:
        self._write = write
        self._running = False

    def begin(self) -> Iterator[bytes]:
        """Begin a copy and return its pieces. Raise NotSupported, Unavailable, or what the engine raises before the first byte.

        Whatever is raised between two pieces means that the copy is of no use. Switches greenlets.
        """
        if self._write is None:
            raise NotSupported("this node keeps its records in memory; there is nothing to copy")
        if self._running:
            raise Unavailable("another snapshot of this node is on its way", retry_after=10)
        self._running = True
        pieces = self._pieces(self._write)
        try:
            first = next(pieces)
        except BaseException:
            self._running = False
            raise
        return _Stream(first, pieces, self)

    def ended(self) -> None:
        """Let the next one begin."""
        self._running = False

    def _pieces(self, write: Callable[[int], None]) -> Iterator[bytes]:
        reading, writing = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE)
        make_nonblocking(reading)

        def copy() -> None:
            try:
                write(writing)
            finally:
                os.close(writing)

        copying = gevent.spawn(_result, copy)
        try:
            while piece := nb_read(reading, _PIECE):
                yield piece
        finally:
            os.close(reading)  # a copy that nobody reads any more ends at its next write
            error = copying.get()
        if error is not None:
            raise error


class _Stream(Iterator[bytes]):
    """The pieces, and the note that the copy has ended, whichever way."""

    def __init__(self, first: bytes, rest: Iterator[bytes], backup: Backup) -> None:
        self._first: bytes | None = first
        self._rest = rest
        self._backup = backup

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._rest)

    def close(self) -> None:
        """End the copy. Switches greenlets."""
        try:
            self._rest.close()  # type: ignore[attr-defined]  # it is a generator
        finally:
            self._backup.ended()


def _result(call: Callable[[], None]) -> Exception | None:
    """Return what a call raises: gevent would print it as well."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  # raised again by whoever reads the copy
        return error
    return None
