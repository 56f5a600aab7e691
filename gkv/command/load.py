"""`gkv import`: lines in batches, several on their way at once; what counts as done is acknowledged without a gap.

Batches that have a key in common never travel together, so that the last line of a key counts. What was acknowledged behind a
gap is written again by the next run, line after line, up to the same values.
"""

import sys
from argparse import Namespace
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf
from pathlib import Path
from time import monotonic, sleep
from typing import BinaryIO

from gkv.client import (
    BatchFailed,
    Client,
    ClientError,
    ConditionFailed,
    Damaged,
    Indeterminate,
    InvalidRequest,
    Refused,
    TooLarge,
    key_in,
)
from gkv.command.codes import Code, Ended
from gkv.command.ending import code_of, of_error
from gkv.command.printing import document, plain
from gkv.command.progress import Progress
from gkv.command.servers import Servers, cluster_of, whole
from gkv.command.state import State, StateFile

_LINES, _BYTES = 10_000, 3 << 20
"""Of a batch, at most; a longer line is one alone."""
_EVERY = 0.5
"""Seconds between two points from which it can go on."""
_LOOKED_AT = 1 << 16
"""Bytes before such a point by which the file is known again."""
_SHOWN = 10
"""Refused keys that are named."""
_OF_A_LINE = (ConditionFailed, Damaged, TooLarge)
"""Refusals of a line, after which the others go on."""
_MOST_JOBS = 32
_PAUSE = 0.5


@dataclass(slots=True)
class Batch:
    """Lines that are sent together. `number` is that of the first one, `end` the place in the file behind the last."""

    number: int
    end: int
    lines: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    refused: dict[str, ClientError] = field(default_factory=dict)


def load(said: Namespace) -> int:
    """Import."""
    jobs = whole(said.jobs, "--jobs", 4, _MOST_JOBS)
    servers = Servers.of(said, timeout=60.0)
    from_file = said.FILE != "-"
    if not from_file and (said.resume or said.restart or said.state):
        raise Ended("--resume, --restart and --state take a FILE", Code.USAGE)
    with ExitStack() as opened:
        client = opened.enter_context(servers.client(connections=jobs + 1))
        cluster = cluster_of(client, servers.urls[0])
        path = Path(said.FILE)
        file: BinaryIO = opened.enter_context(path.open("rb")) if from_file else sys.stdin.buffer
        if from_file and not file.seekable() and (said.resume or said.restart or said.state):
            raise Ended(f"{path} is a pipe; --resume, --restart and --state take a file", Code.USAGE)
        if not from_file or not file.seekable():
            progress = Progress(quiet=said.quiet)
            run = _Run(file, client, jobs, servers.timeout, progress, State(cluster), None)
        else:
            states = StateFile(Path(said.state or f"{said.FILE}.state"), "import")
            state = states.find(said, cluster) or State(cluster)
            if state.check != _check(file, state.bytes):
                raise Ended(f"{path} is not the file of which {states.path} speaks; --restart begins anew", Code.REFUSED)
            file.seek(state.bytes)
            progress = Progress(quiet=said.quiet, whole=path.stat().st_size, by_bytes=True)
            run = _Run(file, client, jobs, servers.timeout, progress, state, states)
        return run.run(as_json=said.json)


def _check(file: BinaryIO, at: int) -> str:
    if not at:
        return ""
    start = max(0, at - _LOOKED_AT)
    file.seek(start)
    return sha256(file.read(at - start)).hexdigest()


class _Run:
    """One run of an import."""

    def __init__(
        self,
        file: BinaryIO,
        client: Client,
        jobs: int,
        patience: float,
        progress: Progress,
        state: State,
        states: StateFile | None,
    ) -> None:
        self._file = file
        self._client = client
        self._jobs = jobs
        self._patience = patience
        self._progress = progress
        self._state = state
        self._states = states
        self._lines = state.lines
        self._done = state.bytes
        self._refused = state.refused
        self._on_their_way: deque[tuple[Batch, Future[None]]] = deque()
        self._kept_at = self._done
        self._kept = -inf  # so that the first batch counts at once
        progress.skip(state.keys, state.bytes)

    def run(self, *, as_json: bool) -> int:
        pool = ThreadPoolExecutor(self._jobs, "gkv-import")
        try:
            self._send_all(pool)
        except (Exception, KeyboardInterrupt):
            pool.shutdown(cancel_futures=True)  # what is on its way ends within its deadline, and is counted
            self._settle()
            self._keep(now=True)
            self._progress.end("--resume goes on from there" if self._states else "")
            raise
        pool.shutdown()
        if self._states is not None:
            self._states.remove()
        self._progress.end(f"{self._refused:,} of them refused" if self._refused else "")
        if as_json:
            taken, seconds = self._progress.keys - self._refused, round(self._progress.seconds, 3)
            document({"keys": taken, "refused": self._refused, "seconds": seconds})
        return Code.REFUSED if self._refused else Code.DONE

    def _send_all(self, pool: ThreadPoolExecutor) -> None:
        for batch in batches(self._file, self._done, self._lines + 1):
            while len(self._on_their_way) >= self._jobs * 2 or self._shares_a_key(batch):
                wait([future for _, future in self._on_their_way if not future.done()], None, FIRST_COMPLETED)
                self._take_done()
            self._on_their_way.append((batch, pool.submit(self._send, batch)))
            self._take_done()
        while self._on_their_way:
            wait([self._on_their_way[0][1]])
            self._take_done()

    def _shares_a_key(self, batch: Batch) -> bool:
        keys = set(batch.keys)
        return any(not keys.isdisjoint(other.keys) for other, _ in self._on_their_way)

    def _send(self, batch: Batch) -> None:
        """Write a batch; what may have been written or not is written again. Raises ClientError and Ended."""
        lines, numbers = batch.lines, batch.numbers
        keys = batch.keys
        until = monotonic() + self._patience
        while lines:
            try:
                self._client.set_lines(lines)
            except BatchFailed as error:
                wrong = next((one for one in error.failed.values() if isinstance(one, InvalidRequest)), None)
                if wrong is not None:
                    raise _at_a_line(wrong, error, keys, numbers) from error
                if any(isinstance(one, Refused) and not isinstance(one, _OF_A_LINE) for one in error.failed.values()):
                    raise  # as for a token that is not taken any more: later lines would fare no better
                again = {key for key, one in error.failed.items() if isinstance(one, Indeterminate)}
                if not again or monotonic() > until:
                    if error.taken == len(lines) and all(isinstance(one, Refused) for one in error.failed.values()):
                        batch.refused |= error.failed
                        return
                    raise
                batch.refused |= {key: one for key, one in error.failed.items() if isinstance(one, Refused)}
                left = [
                    at for at, key in enumerate(keys) if at >= error.taken or (key in error.failed and key not in batch.refused)
                ]
                lines, numbers, keys = ([column[at] for at in left] for column in (lines, numbers, keys))  # type: ignore[assignment]
                sleep(_PAUSE)
            else:
                return

    def _take_done(self) -> None:
        """Count what is acknowledged without a gap. Raises what a batch has failed with."""
        while self._on_their_way and self._on_their_way[0][1].done():
            batch, future = self._on_their_way[0]
            future.result()
            self._on_their_way.popleft()
            self._count(batch)
        self._keep()

    def _settle(self) -> None:
        """Count what has been acknowledged at the end of a run that breaks off."""
        while self._on_their_way:
            batch, future = self._on_their_way.popleft()
            if future.cancelled() or future.exception() is not None:
                return
            self._count(batch)

    def _count(self, batch: Batch) -> None:
        self._progress.add(len(batch.lines), batch.end - self._done)
        self._done = batch.end
        self._lines = batch.numbers[-1]
        for key, error in batch.refused.items():
            self._refused += 1
            if self._refused <= _SHOWN:
                print(f"gkv: {plain(key)}: refused ({error.code})", file=sys.stderr)

    def _keep(self, *, now: bool = False) -> None:
        if self._states is None or self._done == self._kept_at or (not now and monotonic() - self._kept < _EVERY):
            return
        self._kept, self._kept_at = monotonic(), self._done
        at = self._file.tell()
        check = _check(self._file, self._done)
        self._file.seek(at)
        state = State(self._state.cluster, "", None, self._done, self._progress.keys, self._lines, check, self._refused)
        self._states.keep(state)


def _at_a_line(wrong: ClientError, error: BatchFailed, keys: list[str], numbers: list[int]) -> Ended:
    """Return the end for a line that the servers do not take; nothing of its batch was written."""
    first = keys.index(next(iter(error.failed)))
    pointer = wrong.pointers[0] if wrong.pointers else ("", "")
    place = pointer[0].strip("/").partition("/")[0]
    if not place.isdigit() or first + int(place) >= len(numbers):
        return of_error(error)
    return Ended(f"line {numbers[first + int(place)]:,}: {pointer[1]} ({wrong.code})", code_of(error))


def batches(file: BinaryIO, at: int, number: int) -> Iterator[Batch]:
    """Yield the lines from a place in the file on, in batches. Raises Ended for a line that has no key."""
    batch, size = Batch(number, at), 0
    for line in file:
        at += len(line)
        text = line.strip()
        if text:
            if batch.lines and (len(batch.lines) == _LINES or size + len(text) > _BYTES):
                yield batch
                batch, size = Batch(number, at), 0
            try:
                batch.keys.append(key_in(text))
            except ValueError as error:
                raise Ended(f"line {number:,}: {error}", Code.REFUSED) from None
            batch.lines.append(text)
            batch.numbers.append(number)
            size += len(text) + 1
        batch.end = at
        number += 1
    if batch.lines:
        yield batch
