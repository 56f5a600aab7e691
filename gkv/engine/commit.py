"""Group commit: the writes of many greenlets go to the disk together.

Promises: writes are applied in the order in which they were submitted, each whole or not at all; `Pending.wait` returns when
the write is on disk (with durability "async", for a write of values alone that nobody counts, at once). What waits is bounded.
Nothing here blocks the hub for longer than `GIVE_WAY` at a time, but `Engine.grow` and what an engine that is not durable does.

`submit` and `pending_for` do not switch greenlets; `wait`, `settle`, `snapshot` and `close` do.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import gevent
from gevent.event import AsyncResult, Event
from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from gkv.engine.engine import Engine
from gkv.errors import EngineFailed, EngineFull, GkvError, OutOfRoom, Unavailable, Unsettled
from gkv.model import Applied, Write

GIVE_WAY = 0.002
"""How long the hub stands still for the writer thread at a time, in seconds.

LMDB's binding releases the GIL in each call, some three times for each record, and a busy event loop takes it back each
time: 100 records that take 0.5 ms were seen to take 2 s. So while the thread needs the interpreter the loop waits for it, in
turns with the other greenlets; while it waits for the disk, the loop runs. Beside a loop that never rests this gives 21,000
records a second instead of 12,700 (8 greenlets with 100 records each).
"""

SWITCH_INTERVAL = 0.0005
"""How long a thread waits for the GIL before it asks for it, in seconds; Python's own is 0.005. After each trip to the
disk the writer needs the GIL once, and every acknowledgement in that group waits for it."""

MAX_WRITES = 4_096
MAX_BYTES = 64 << 20
"""What may wait for its commit, the one under way included. Beyond, a write is refused."""

GROUP_RECORDS = 2_000
GROUP_BYTES = 8 << 20
"""What one commit takes. A single write may be larger."""

RECLAIM_EVERY = 1.0
RECLAIM_STEP = 200
CLOSE_WITHIN = 30.0
"""How long `close` waits for what has been admitted, in seconds."""

_MAX_GROWTHS = 64

_UNTOLD = Applied(())
"""Stands for effects that are not known, of a write that has failed or that nobody counts."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class CommitFigures:
    """For metrics; times in seconds."""

    commits: int
    writes: int
    records: int
    seconds: float
    """What all commits took together."""
    last_seconds: float
    longest_seconds: float
    waiting: int
    """Writes that are admitted and not yet on disk."""


class Pending:
    """A write that has been admitted."""

    __slots__ = ("_applied", "_error", "_event", "done", "early", "size", "write")

    def __init__(self, write: Write, size: int) -> None:
        self.write = write
        self.size = size
        self.early = False
        """Whether somebody has been told already that it is written."""
        self.done = False
        """Whether it is certain what became of it, so that `wait` does not wait."""
        self._applied = _UNTOLD
        self._error: BaseException | None = None
        self._event: Event | None = None

    def wait(self, deadline: float) -> Applied:
        """Return what became of the write, once that is certain; `deadline` is on `time.monotonic`.

        Raise what the commit raised, or Unsettled when the deadline has passed; the write may then still be applied.
        """
        if not self.done:
            if self._event is None:
                self._event = Event()
            self._event.wait(max(0.0, deadline - time.monotonic()))
            if not self.done:
                raise Unsettled("the write was not on disk by its deadline")
        if self._error is not None:
            raise self._error
        return self._applied

    def _finish(self, applied: Applied, error: BaseException | None = None) -> None:
        self._applied = applied
        self._error = error
        self.done = True
        if self._event is not None:
            self._event.set()


class Commits:
    """The one writer of an engine."""

    def __init__(
        self,
        engine: Engine,
        *,
        tombstone_ttl: int,
        durability: str = "sync",
        on_failure: Callable[[GkvError], object] = lambda _error: None,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`tombstone_ttl` is in ms. `on_failure` is called once, in a greenlet, when nothing can be acknowledged any more."""
        self._engine = engine
        self._ttl = tombstone_ttl
        self._async = durability == "async"
        self._on_failure = on_failure
        self._now = now
        self._queue: deque[Pending] = deque()
        self._waiting = 0
        """Writes in the queue and in the group under way, and their bytes."""
        self._waiting_bytes = 0
        self._uncommitted: dict[str, Pending] = {}
        """By key, the last admitted write of it; kept with durability "async" alone."""
        self._last: Pending | None = None
        self._failure: GkvError | None = None
        self._closing = False
        self._commits = self._writes = self._records = 0
        self._seconds = self._last_seconds = self._longest_seconds = 0.0
        self._under_way: list[Pending] = []
        self._headroom_wanted: deque[AsyncResult] = deque()
        self._wake = Event()
        self._pool: ThreadPool | None = None
        if engine.durable:
            sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
            self._pool = ThreadPool(1)
        self._greenlet = gevent.spawn(self._run)

    # --- for requests -----------------------------------------------------------------------------------------------------

    def submit(self, write: Write, *, counted: bool = False) -> Pending:
        """Admit a write; `counted` if its effects must be told. With durability "async" those of others may be missing.

        Raise Unavailable when too much is waiting, or what ended all writing.
        """
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise Unavailable("the node is shutting down", retry_after=1)
        if self._pool is None:
            return self._apply_inline(write)
        size = _size(write)
        if self._waiting >= MAX_WRITES or (self._waiting and self._waiting_bytes + size > MAX_BYTES):
            raise Unavailable("too many writes are waiting for the disk", retry_after=1)
        pending = Pending(write, size)
        self._queue.append(pending)
        self._last = pending
        self._waiting += 1
        self._waiting_bytes += size
        self._wake.set()
        if not self._async:
            return pending
        self._uncommitted.update(dict.fromkeys(write.keys, pending))
        if counted or None in write.values:
            return pending
        pending.early = True
        admitted = Pending(write, size)
        admitted._finish(_UNTOLD)
        return admitted

    def _apply_inline(self, write: Write) -> Pending:
        pending = Pending(write, 0)
        pending._finish(self._engine.write([write], self._now())[0])
        self._writes += 1
        self._records += len(write.keys)
        return pending

    def pending_for(self, keys: Sequence[str]) -> Pending | None:
        """Return the last admitted write of any of these keys that is not on disk yet; to be waited for before they are read.

        Always None with durability "sync", where nobody was told of such a write.
        """
        if not self._uncommitted:
            return None
        # Writes are committed in order, so the last one of them answers for all. The dict has them in no useful order.
        found = {id(pending): pending for pending in map(self._uncommitted.get, keys) if pending is not None}
        if len(found) < 2:
            return next(iter(found.values()), None)
        return next(pending for pending in reversed([*self._under_way, *self._queue]) if id(pending) in found)

    def last_pending(self) -> Pending | None:
        """Return the last admitted write that is not on disk yet; to be waited for before keys are listed. As `pending_for`."""
        return self._last if self._async else None

    def settle(self, deadline: float) -> None:
        """Wait until all that has been admitted so far is on disk, or refused. Raise Unsettled, or what ended all writing."""
        last = self._last
        if last is not None:
            try:
                last.wait(deadline)
            except Unsettled:
                raise
            except GkvError:
                pass  # its own writer has been told
        if self._failure is not None:
            raise self._failure

    def figures(self) -> CommitFigures:
        return CommitFigures(
            self._commits, self._writes, self._records, self._seconds, self._last_seconds, self._longest_seconds, self._waiting
        )

    def snapshot(self, fd: int) -> None:
        """Write a copy of the store to a file descriptor, between two commits, while writing goes on."""
        ready = AsyncResult()
        self._headroom_wanted.append(ready)
        self._wake.set()
        ready.get(timeout=CLOSE_WITHIN)
        pool = ThreadPool(1)
        try:
            error = pool.apply(_caught, (lambda: self._engine.snapshot(fd),))[1]
        finally:
            pool.kill()
        if error is not None:
            raise error

    def close(self, within: float = CLOSE_WITHIN) -> None:
        """Bring what has been admitted to disk, for so many seconds at most; admit nothing more. The engine stays open."""
        self._closing = True
        self._wake.set()
        self._greenlet.join(within)
        if not self._greenlet.dead:
            self._greenlet.kill(block=False)
            self._end(Unsettled("the node has stopped before the write was on disk"))
        elif self._pool is not None:
            self._pool.kill()

    # --- the writer -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_reclaim = time.monotonic() + RECLAIM_EVERY
        try:
            while self._failure is None:
                if not self._queue and not self._headroom_wanted:
                    if self._closing:
                        return
                    self._wake.clear()
                    self._wake.wait(max(0.0, next_reclaim - time.monotonic()))
                while self._headroom_wanted:
                    self._make_headroom(self._headroom_wanted.popleft())
                if self._queue:
                    self._commit(self._take())
                if self._failure is None and time.monotonic() >= next_reclaim:
                    more = self._reclaim() == RECLAIM_STEP
                    # Writes go first: while some wait, reclaiming takes a tenth of a second's rest after each small step.
                    pause = (0.1 if self._queue else 0.0) if more else RECLAIM_EVERY
                    next_reclaim = time.monotonic() + pause
        except Exception as error:  # noqa: BLE001 whatever it was, nobody may wait for a writer that is gone
            self._fail(EngineFailed(f"the writer has stopped: {error!r}"))

    def _take(self) -> list[Pending]:
        """Take the next group from the queue."""
        group = [self._queue.popleft()]
        records, size = len(group[0].write.keys), group[0].size
        while self._queue:
            following = self._queue[0]
            records += len(following.write.keys)
            size += following.size
            if records > GROUP_RECORDS or size > GROUP_BYTES:
                break
            group.append(self._queue.popleft())
        return group

    def _commit(self, group: list[Pending]) -> None:
        """Write a group, and answer each of it."""
        self._under_way = group
        writes = [pending.write for pending in group]
        started = time.monotonic()
        try:
            applied = self._grown(lambda syncing: self._engine.write(writes, self._now(), syncing))
        except EngineFull as error:
            self._commit_what_goes(group, error)
        except EngineFailed as error:
            self._fail(error)
        except GkvError as error:
            self._answer_all(group, error)
        except Exception as error:  # noqa: BLE001 a write that cannot be stored at all must not take the others with it
            if len(group) == 1:
                self._answer_all(group, error)
            else:
                for pending in group:
                    self._commit([pending])
        else:
            self._last_seconds = time.monotonic() - started
            self._seconds += self._last_seconds
            self._longest_seconds = max(self._longest_seconds, self._last_seconds)
            self._commits += 1
            self._writes += len(group)
            self._records += sum(len(write.keys) for write in writes)
            for pending, outcome in zip(group, applied, strict=True):
                self._answer(pending, outcome)
        self._under_way = []

    def _commit_what_goes(self, group: list[Pending], error: EngineFull) -> None:
        """On a full disk refuse what brings values, and try the deletes again; halve them while they fail together."""
        sets = [pending for pending in group if any(value is not None for value in pending.write.values)]
        deletes = [pending for pending in group if all(value is None for value in pending.write.values)]
        self._answer_all(sets, error)
        if sets and deletes:
            self._retry(deletes)
        elif len(deletes) > 1:
            self._retry(deletes[: len(deletes) // 2])
            self._retry(deletes[len(deletes) // 2 :])
        else:
            self._answer_all(deletes, error)

    def _retry(self, group: list[Pending]) -> None:
        if self._failure is None:
            self._commit(group)
        else:
            self._answer_all(group, self._failure)

    def _reclaim(self) -> int:
        try:
            return self._grown(lambda syncing: self._engine.reclaim(self._now(), self._ttl, RECLAIM_STEP, syncing))
        except EngineFailed as error:
            self._fail(error)
        except GkvError:  # no room just now; the next round is soon
            pass
        return 0

    def _grown(self, call: Callable[[Callable[[], object]], Result]) -> Result:
        """Run a call of the engine, growing the engine's map as often as it asks for it."""
        for _ in range(_MAX_GROWTHS):
            try:
                return self._in_thread(call)
            except OutOfRoom:
                self._engine.grow()
        raise EngineFailed("the engine's map grows and is still too small")

    def _in_thread(self, call: Callable[[Callable[[], object]], Result]) -> Result:
        """Run a call on the writer thread; give way to it until only the disk is waited for."""
        if self._pool is None:
            return call(lambda: None)
        needs_gil = _allocate_lock()
        needs_gil.acquire()

        def job() -> Result:
            try:
                return call(needs_gil.release)
            finally:
                if needs_gil.locked():  # it never came to the disk; or the loop has it by now, and does not want it back
                    needs_gil.release()

        task = self._pool.spawn(_caught, job)
        while not needs_gil.acquire(timeout=GIVE_WAY):
            gevent.sleep(GIVE_WAY / 2)
        result: Result
        result, error = task.get()  # without a deadline: a disk that hangs is seen by those who wait for their writes
        if error is not None:
            raise error
        return result

    def _make_headroom(self, ready: AsyncResult) -> None:
        try:
            self._engine.make_headroom()
        except GkvError as error:
            ready.set_exception(error)
        else:
            ready.set(None)

    # --- answers ----------------------------------------------------------------------------------------------------------

    def _answer(self, pending: Pending, applied: Applied, error: BaseException | None = None) -> None:
        self._waiting -= 1
        self._waiting_bytes -= pending.size
        if self._uncommitted:
            for key in pending.write.keys:
                if self._uncommitted.get(key) is pending:
                    del self._uncommitted[key]
        if self._last is pending:
            self._last = None
        self._engine.forget(pending.write.keys)
        pending._finish(applied, error)

    def _answer_all(self, group: Sequence[Pending], error: BaseException) -> None:
        for pending in group:
            self._answer(pending, _UNTOLD, error)
        if any(pending.early for pending in group):  # to go on would hide it
            self._fail(EngineFailed(f"writes that were acknowledged have failed: {error}"))

    def _fail(self, error: GkvError) -> None:
        if self._failure is None:
            self._failure = error
            self._end(error)
            self._on_failure(error)

    def _end(self, error: GkvError) -> None:
        """Answer everything that waits with an error."""
        waiting = [*self._under_way, *self._queue]
        self._queue.clear()
        for pending in waiting:
            if not pending.done:
                self._answer(pending, _UNTOLD, error)
        while self._headroom_wanted:
            self._headroom_wanted.popleft().set_exception(error)


def _size(write: Write) -> int:
    return sum(map(len, write.keys)) + sum(len(value) for value in write.values if value is not None)


def _caught(call: Callable[[], Result]) -> tuple[Any, Exception | None]:
    """Return what a call returned and what it raised: the thread pool would print the latter."""
    try:
        return call(), None
    except Exception as error:  # noqa: BLE001 it is raised again in the greenlet that asked
        return None, error


_allocate_lock = get_original("_thread", "allocate_lock")
