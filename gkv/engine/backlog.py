"""Writes that have been admitted and are not on disk yet, in their order.

Promises: what waits is bounded; replacements stand behind writes, one in a commit, but for those of their own keys. Nothing
here switches greenlets but the ways to wait for a write.
"""

import time
from collections import deque
from collections.abc import Sequence

from gevent.event import Event

from gkv.errors import EngineFailed, NotOnDisk, Unavailable
from gkv.model import Effect, Replacement, Write

MAX_WRITES = 4_096
MAX_BYTES = 64 << 20
"""What may wait for its commit, the one under way included. Beyond, a write is refused."""

KEY = 256
"""Bytes that a key and its value take beside their own, in lists and in the dicts that tell what is the newest. So at most
`MAX_BYTES / KEY` keys wait, however short they are.
"""

GROUP_RECORDS = 2_000
GROUP_BYTES = 8 << 20
"""What one commit takes. A single write may be larger."""

BEHIND = 0.02
"""Seconds for which a replacement stands behind all writes: a filling must come to its end beside those that never end."""

UNTOLD: Sequence[Effect] = ()
"""Stands for effects that are not known, of a write that has failed or that nobody counts."""


class Pending:
    """A write that has been admitted."""

    __slots__ = ("_effects", "_error", "_event", "after", "copied", "done", "early", "size", "write")

    def __init__(
        self,
        write: Write,
        size: int,
        after: "Sequence[Pending]" = (),
        *,
        early: bool = False,
        copied: bool = False,
    ) -> None:
        self.write = write
        self.size = size
        self.copied = copied
        """Whether it is a replica's, so that what is there may be of a later write."""
        self.after = after
        """Writes that it was decided on; if one of them comes to nothing, so does it."""
        self.early = early
        """Whether it counts as written already, before it is on disk."""
        self.done = False
        """Whether it is certain what became of it, so that `wait` does not wait."""
        self._effects = UNTOLD
        self._error: BaseException | None = None
        self._event: Event | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing can be read of it that could vanish with the process, or may by its durability."""
        return self.early or self.done

    @property
    def failed(self) -> bool:
        """Whether it has come to nothing, as far as anybody knows."""
        return self._error is not None

    @property
    def error(self) -> BaseException | None:
        """Why it has failed: EngineFull, SnapshotRunning or Unavailable if nothing has changed and it may be tried again."""
        return self._error

    @property
    def effects(self) -> Sequence[Effect]:
        """Its effects on its keys, once it is over and has not failed; a replacement has none."""
        return self._effects

    def wait(self, deadline: float) -> Sequence[Effect]:
        """Return what the write did to its keys, once that is certain; `deadline` is on `time.monotonic`.

        Raise what the commit raised, or NotOnDisk when the deadline has passed; the write may then
        still be applied.
        """
        self.wait_until_over(deadline)
        if self._error is not None:
            raise self._error
        return self._effects

    def wait_until_over(self, deadline: float) -> None:
        """Return when it is certain what became of the write; raise NotOnDisk as `wait`."""
        if not self.done:
            if self._event is None:
                self._event = Event()
            self._event.wait(max(0.0, deadline - time.monotonic()))
            if not self.done:
                raise NotOnDisk("the write was not on disk by its deadline")

    def wait_for_reading(self, deadline: float) -> None:
        """Return when what was read of the write is settled, or the write has failed.

        Raise Unavailable when the deadline has passed, and EngineFailed when it is unknown what is on the disk. Any other error
        of the write is its own writer's alone: nothing of it was ever there.
        """
        if self.settled:
            return
        try:
            self.wait_until_over(deadline)
        except NotOnDisk:
            raise Unavailable("the disk takes too long for what was written before this read", retry_after=1) from None
        if isinstance(self._error, EngineFailed | NotOnDisk):
            raise EngineFailed(f"what was written before this read is not on disk: {self._error}") from self._error

    def finish(self, effects: Sequence[Effect], error: BaseException | None = None) -> None:
        """Say what has become of the write, to all who wait for it."""
        self._effects = effects
        self._error = error
        self.done = True
        if self._event is not None:
            self._event.set()


class Backlog:
    """The queue of the one writer, and what it has taken from there and not finished."""

    def __init__(self) -> None:
        self._queue: deque[Pending] = deque()
        self._behind: deque[tuple[Pending, frozenset[str], float]] = deque()
        """Replacements that stand behind all writes, with their keys and since when."""
        self._open: dict[Pending, None] = {}
        """All that are not over, in their order: a group stays here until each of it is finished,
        in whatever pieces and order that happens."""
        self.size = 0
        """Their bytes."""

    @property
    def writes(self) -> int:
        """Count of the writes that are not over."""
        return len(self._open)

    @property
    def open(self) -> list[Pending]:
        """All writes that are not over, in their order."""
        return list(self._open)

    def __bool__(self) -> bool:
        """Whether anything waits to be taken."""
        return bool(self._queue or self._behind)

    def add(self, pending: Pending) -> None:
        """Admit a write. Raise Unavailable when too much is waiting, but not for a replica's write: its primary has bounded
        what is unsettled, and has handed it to others already.
        """
        too_much = self.writes >= MAX_WRITES or (self._open and self.size + pending.size > MAX_BYTES)
        if too_much and not pending.copied:
            raise Unavailable("too many writes are waiting for the disk", retry_after=1)
        if isinstance(pending.write, Replacement):
            self._behind.append((pending, frozenset(pending.write.keys), time.monotonic()))
        else:
            self._pass(pending.write.keys)
            self._queue.append(pending)
        self._open[pending] = None
        self.size += pending.size

    def _pass(self, keys: Sequence[str]) -> None:
        """Put the replacements of any of these keys, and those before them, into the queue: a write stays behind them."""
        passed = max([at for at, (_, own, _) in enumerate(self._behind, 1) if not own.isdisjoint(keys)], default=0)
        for _ in range(passed):
            self._queue.append(self._behind.popleft()[0])

    def take(self) -> list[Pending]:
        """Take the next group from the queue; the next replacement if that is empty, or at its end if it has waited."""
        if not self._queue:
            return [self._behind.popleft()[0]]
        if self._behind and time.monotonic() - self._behind[0][2] >= BEHIND:
            self._queue.append(self._behind.popleft()[0])
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

    def refuse_vain(self, group: Sequence[Pending]) -> list[Pending]:
        """Strike off those that were decided on writes which have come to nothing, and return them."""
        vain = []
        for pending in group:  # in their order, as one may be decided on another
            if any(one.failed for one in pending.after):
                error = Unavailable("what this write was decided on was not written", retry_after=1)
                self.finish(pending, UNTOLD, error)
                vain.append(pending)
        return vain

    def finish(self, pending: Pending, effects: Sequence[Effect], error: BaseException | None = None) -> None:
        """Strike off a write that is over, and say what has become of it; once, what is said later
        is not heard.
        """
        if pending.done:
            return
        del self._open[pending]
        self.size -= pending.size
        pending.finish(effects, error)

    def finish_all(self, error: BaseException) -> list[Pending]:
        """Strike off everything that is left, and return it."""
        self._queue.clear()
        self._behind.clear()
        left = self.open
        for pending in left:
            self.finish(pending, UNTOLD, error)
        return left


def size_of(write: Write) -> int:
    """Return the bytes that a write is counted with."""
    return KEY * len(write.keys) + write.size
