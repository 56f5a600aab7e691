"""Group commit: the writes of many greenlets go to the disk together.

Promises: writes are applied in the order in which they were submitted, each whole or not at all;
`Pending.wait` returns when the write is on disk. With durability "async" a write of values alone
that nobody counts is `early`: it may be acknowledged, and read, at once. A write that was decided
on others is applied only if they are. What waits is bounded. No error ends the writing silently: it
goes on, or `on_failure` is told why it does not.

`submit` does not switch greenlets; `wait`, `flush`, `snapshot` and `close` do.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from gevent.event import Event

from gkv import background
from gkv.clock import BOOT_CLOCK
from gkv.engine.backlog import UNTOLD, Backlog, Pending, size_of
from gkv.engine.engine import Engine
from gkv.engine.reclaim import Chores, Reclaimer
from gkv.engine.snapshot import Snapshot, SnapshotRequests
from gkv.engine.writer import Writer
from gkv.errors import EngineFailed, EngineFull, GkvError, NotOnDisk, Unavailable
from gkv.model import Effect, Record, Replacement, Write

_KEPT = Effect.KEPT.value
CLOSE_WITHIN = 30.0
"""How long `close` waits for what has been admitted, in seconds."""

Result = TypeVar("Result")


@dataclass(slots=True)
class CommitFigures:
    """For metrics; times in seconds."""

    commits: int = 0
    writes: int = 0
    records: int = 0
    seconds: float = 0.0
    """What all commits took together."""
    last_seconds: float = 0.0
    longest_seconds: float = 0.0
    waiting: int = 0
    """Writes that are admitted and not yet on disk."""

    def count(self, writes: Sequence[Write], seconds: float) -> None:
        """Count one commit."""
        self.commits += 1
        self.writes += len(writes)
        self.records += sum([len(write.keys) for write in writes])
        self.seconds += seconds
        self.last_seconds = seconds
        self.longest_seconds = max(self.longest_seconds, seconds)


class Commits:
    """The one writer of an engine."""

    def __init__(
        self,
        engine: Engine,
        *,
        tombstone_ttl: int,
        durability: str = "sync",
        on_failure: Callable[[GkvError], object] = lambda _error: None,
        now: Callable[[], int] | None = None,
    ) -> None:
        """`tombstone_ttl` is in ms. `on_failure` is called once, in a greenlet, when nothing can be
        acknowledged any more. `now` is what tombstones age by; by default the time of day at this
        moment and what has passed since, so that nobody can set it.
        """
        self._engine = engine
        self.durability = durability
        """Of the writes that are admitted from now on, "sync" or "async"."""
        self._on_failure = on_failure
        self._now = now or _time_since_now()
        self._reclaimer = Reclaimer(engine, tombstone_ttl, self._now)
        self._chores = Chores(engine, self._reclaimer, self._make)
        self.on_over: Callable[[Sequence[Pending]], object] = _nobody
        """Is told of writes that are over, before anybody who waits for them goes on; not of those that are over when `submit`
        or `replace` returns.
        """
        self._backlog = Backlog()
        self.failure: GkvError | None = None
        self._closing = False
        self._figures = CommitFigures()
        self._snapshots = SnapshotRequests(engine)
        self._wake = Event()
        self._writer = Writer(engine) if engine.durable else None
        self._greenlet = background.start("the writer", self._run)

    # --- for requests -----------------------------------------------------------------------------------------------------

    def submit(self, write: Write, *, counted: bool = False, after: Sequence[Pending] = (), copied: bool = False) -> Pending:
        """Admit a write; `counted` if its effects must be told, `after` which others it was decided on.

        A `copied` one is a replica's: it may find later writes of its keys, is on disk before it counts with any durability,
        and is admitted whatever waits (`Backlog.add`).

        Raise Unavailable when too much is waiting, or what ended all writing.
        """
        self._refuse_in_the_end()
        if self._writer is None:
            return self._apply_inline(Pending(write, 0, copied=copied))
        early = self.durability == "async" and not counted and not copied and None not in write.values
        if early:  # who has been told cannot be refused any more
            self._engine.admit(write, self._backlog.size)
        return self._add(Pending(write, size_of(write), after, early=early, copied=copied))

    def replace(self, records: Sequence[tuple[str, Record]], drops: Sequence[str], damaged: Sequence[str] = ()) -> Pending:
        """Have records take the place of what is there whatever the versions say, keys dropped without a tombstone, and others
        read as damaged, in turn with the writes. No key stands twice.

        Admitted whatever waits: a learner has one page of each list under way. Raise as `submit`.
        """
        self._refuse_in_the_end()
        replacement = Replacement.of(records, drops, damaged)
        if self._writer is None:
            return self._apply_inline(Pending(replacement, 0, copied=True))
        return self._add(Pending(replacement, size_of(replacement), copied=True))

    def admit(self, write: Write) -> None:
        """Raise EngineFull or SnapshotRunning when there might be no room for a write that is submitted now."""
        self._engine.admit(write, self._backlog.size)

    @property
    def reclaims(self) -> bool:
        """Whether tombstones are dropped here when they are old; else by whoever knows which of them may go."""
        return self._chores.reclaims

    @reclaims.setter
    def reclaims(self, do: bool) -> None:
        self._chores.reclaims = do

    @property
    def forgets_until(self) -> int:
        """The time until which tombstones are old enough to go, -1 while none are."""
        return self._reclaimer.until

    def _refuse_in_the_end(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._closing:
            raise Unavailable("the node is shutting down", retry_after=1)

    def _add(self, pending: Pending) -> Pending:
        self._backlog.add(pending)
        self._wake.set()
        return pending

    def _apply_inline(self, pending: Pending) -> Pending:
        write = pending.write
        pending.finish(_told([pending], self._engine.write([write], self._now()))[0])
        self._figures.writes += 1
        self._figures.records += len(write.keys)
        return pending

    def flush(self, deadline: float) -> None:
        """Wait until all that has been admitted so far is on disk, or refused. Raise NotOnDisk, or
        what ended all writing.
        """
        for pending in reversed(self._backlog.open):  # once the last is over, few others are not
            pending.wait_until_over(deadline)
        if self.failure is not None:
            raise self.failure

    def figures(self) -> CommitFigures:
        return replace(self._figures, waiting=self._backlog.writes)

    def snapshot(self, fd: int) -> Snapshot:
        """Begin to write a copy of the store to a file descriptor, between two commits; writing
        goes on beside it.

        The descriptor is closed when the copy ends, but not when this raises: EngineError,
        SnapshotRunning, Unavailable, or what ended all writing.
        """
        if self.failure is not None:
            raise self.failure
        self._snapshots.ask(self._wake)
        return Snapshot(self._engine, fd)

    def close(self, within: float = CLOSE_WITHIN) -> None:
        """Bring what has been admitted to disk, for so many seconds at most; admit nothing more.
        The engine stays open.
        """
        self._closing = True
        self._wake.set()
        self._greenlet.join(within)
        if not self._greenlet.dead:
            self._greenlet.kill(block=False)
            self._engine.abandon()
            self.failure = self.failure or EngineFailed("a commit does not come to its end")
            self._end(NotOnDisk("the node has stopped before the write was on disk"))
        elif self._writer is not None:
            self._writer.close()

    # --- the writer -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self.failure is None:
                if not self._backlog and not self._snapshots:
                    if self._closing:
                        return
                    self._wake.clear()
                    self._wake.wait(self._chores.wait)
                while self._snapshots:
                    failed = self._snapshots.begin_next(self._make, self._now())
                    if failed is not None:
                        self._fail(failed)
                if self._backlog:
                    self._commit(self._backlog.take())
                if self.failure is None:
                    self._chores.do(bool(self._backlog))
        except EngineFailed as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 whatever it was, nobody may wait for a writer that is gone
            self._fail(EngineFailed(f"the writer has stopped: {error!r}"))

    def _commit(self, group: list[Pending]) -> None:
        """Write a group, and answer each of it; after a failure all has been answered already."""
        if self.failure is not None:
            return
        if any(pending.after for pending in group):
            self.on_over(self._backlog.refuse_vain(group))
            group = [pending for pending in group if not pending.done]
            if not group:
                return
        writes = [pending.write for pending in group]
        started = time.monotonic()
        try:
            applied = _told(group, self._write(writes))
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
            self._figures.count(writes, time.monotonic() - started)
            for pending, effects in zip(group, applied, strict=True):
                self._backlog.finish(pending, effects)
            self.on_over(group)

    def _write(self, writes: Sequence[Write]) -> Sequence[Sequence[Effect]]:
        # Not in a `finally`: of a writer that is killed nobody knows whether its thread has come to
        # the commit.
        self._engine.begin_group(writes)
        try:
            applied = self._make(lambda syncing: self._engine.write(writes, self._now(), syncing))
        except Exception:
            self._engine.end_group()
            raise
        self._engine.end_group()
        return applied

    def _commit_what_goes(self, group: list[Pending], error: EngineFull) -> None:
        """On a full disk refuse what brings values, and try the deletes again; halve them while
        they fail together.
        """
        sets = [pending for pending in group if any(value is not None for value in pending.write.values)]
        deletes = [pending for pending in group if all(value is None for value in pending.write.values)]
        self._answer_all(sets, error)
        if sets and deletes:
            self._commit(deletes)
        elif len(deletes) > 1:
            self._commit(deletes[: len(deletes) // 2])
            self._commit(deletes[len(deletes) // 2 :])
        else:
            self._answer_all(deletes, error)

    def _make(self, call: Callable[[Callable[[], object]], Result]) -> Result:
        """Make a call of the engine that changes something; it is given what it calls when only the
        disk is waited for.
        """
        return call(lambda: None) if self._writer is None else self._writer.run(call)

    # --- answers ----------------------------------------------------------------------------------------------------------

    def _answer_all(self, group: Sequence[Pending], error: BaseException) -> None:
        for pending in group:
            self._backlog.finish(pending, UNTOLD, error)
        self.on_over(group)
        if any(pending.early for pending in group):  # to go on would hide it
            self._fail(EngineFailed(f"writes that were acknowledged have failed: {error}"))

    def _fail(self, error: GkvError) -> None:
        if self.failure is None:
            self.failure = error
            self._end(error)
            self._on_failure(error)

    def _end(self, error: GkvError) -> None:
        """Answer everything that waits with an error."""
        self.on_over(self._backlog.finish_all(error))
        self._snapshots.refuse(error)


def _told(group: Sequence[Pending], applied: Sequence[Sequence[Effect]]) -> Sequence[Sequence[Effect]]:
    """Return what writes did; raise EngineFailed when one that is no replica's has not taken the place of what was there."""
    for pending, effects in zip(group, applied, strict=True):
        # To join them is far quicker than to look for it in the list.
        if not pending.copied and _KEPT in "".join(effects):
            raise EngineFailed("a write has a lesser version than the record that is there: it is not acknowledged")
    return applied


def _time_since_now() -> Callable[[], int]:
    """Return what tells the time of day in ms, by a clock that counts on from this moment."""
    offset = time.time_ns() - time.clock_gettime_ns(BOOT_CLOCK)
    return lambda: (time.clock_gettime_ns(BOOT_CLOCK) + offset) // 1_000_000


def _nobody(_over: Sequence[Pending]) -> None:
    """Nobody wants to know."""
