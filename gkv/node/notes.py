"""The durable notes on the directory of a member: that leases of this process may run, and that its end was an orderly one."""

from collections.abc import Callable
from contextlib import suppress

import gevent

from gkv.cluster.kept import Kept
from gkv.engine import Commits
from gkv.errors import EngineFailed, GkvError
from gkv.threads import NativeThread


class Notes:
    """Puts the note there, and takes it away. Without a directory there is none: who keeps records in memory begins anew."""

    def __init__(self, me: str, kept: Kept | None, last_run: int, on_end: Callable[[GkvError], object]) -> None:
        """Begin at the start of a process. `last_run` is the one that ran on the records last; `on_end` is told that the
        process has to end, as the note cannot be written. Raise OSError when that is so already.
        """
        self.found = _may_have_granted(me, kept, last_run)
        """Whether leases may run that an earlier process of this member has granted: then the note is on the disk."""
        if kept is not None and self.found and not kept.granted:
            kept.note_granted(there=True)
        self._kept = kept
        self._on_end = on_end
        self._thread = NativeThread()

    def keep(self, there: bool, then: Callable[[], None]) -> None:
        """Have the note there, or not, and do `then` once that is on the disk. Does not switch greenlets."""
        gevent.spawn(self._keep, there, then)

    def _keep(self, there: bool, then: Callable[[], None]) -> None:
        kept = self._kept
        if kept is not None:
            try:
                self._thread.call(lambda: kept.note_granted(there))
            except OSError as error:
                self._on_end(EngineFailed(f"{error.filename} cannot be written: {error.strerror}"))
                return
        then()

    def close(self) -> None:
        """End the thread for the disk."""
        self._thread.close()


class OrderlyEnd:
    """The note that all of a member is on its disk, written when nothing waits for that any more."""

    def __init__(self, kept: Kept | None) -> None:
        """To be closed after the commits, and before their engine."""
        self._kept = kept
        self._commits: Commits | None = None
        self._vouches: Callable[[], bool] = lambda: False

    def says(self, commits: Commits, vouches: Callable[[], bool]) -> None:
        """Have the note written if all `commits` are over, and `vouches` says that there is nothing else."""
        self._commits, self._vouches = commits, vouches

    def close(self) -> None:
        """Write the note, if that is so. A disk that does not take it has none."""
        kept, commits = self._kept, self._commits
        if kept is None or commits is None or commits.failure is not None or commits.figures().waiting:
            return
        if self._vouches():
            with suppress(OSError):
                kept.note_orderly()


def _may_have_granted(me: str, kept: Kept | None, last_run: int) -> bool:
    """Return whether a process of this member may have granted leases before: it has noted that, or has run elsewhere."""
    if kept is None or kept.granted or kept.document is None or last_run not in kept.ran:
        return True
    line = kept.document.member(me)
    return line is None or line.directory not in kept.ran[: kept.ran.index(last_run) + 1]
