"""The commits that the machines of copies want, and their ends."""

from collections.abc import Callable, Sequence

from gkv.engine import Pending
from gkv.errors import EngineFailed, EngineFull, GkvError, SnapshotRunning
from gkv.model import Damage, Effect, Record, Value, Write
from gkv.node.stored import Stored
from gkv.replication.actions import Commit, Replace
from gkv.replication.events import CommitFailed, Committed, Event
from gkv.replication.expiry import is_due


class Disk:
    """Everything of one process that is on its way there. Nothing switches greenlets."""

    def __init__(self, stored: Stored, tell: Callable[[Sequence[Event]], object], on_end: Callable[[GkvError], object]) -> None:
        """`tell` is given the ends; `on_end` is told that the process has to end."""
        self.stored = stored
        self.early = False
        """Whether a write counts as on the disk as soon as it is handed over (durability "async")."""
        self.closing = False
        """Whether the process is about to end, so that what is refused now concerns nobody."""
        self.error: EngineFailed | None = None
        """Why nothing reaches the disk any more."""
        self._tell = tell
        self._on_end = on_end
        self._tokens: dict[Pending, int | None] = {}
        """Of the commits under way; None for one that counts as on the disk already."""

    def commit(self, action: Commit) -> None:
        """Hand a write over, to be merged by its order."""
        effects = self._effects(action.write) if self.early else ()
        try:
            pending = self.stored.write(action.write)
        except GkvError as error:
            self._refused(action.token, error)
            return
        if not pending.done and self.early:
            self._tokens[pending] = None
            self._tell([Committed(action.token, effects)])
        else:
            self._handed_over(action.token, pending)

    def _effects(self, write: Write) -> Sequence[Effect]:
        """Return what a write that counts at once is going to do to its keys, where a client is told that: of one key, or of
        keys that are deleted; and of a copy that may leave a damaged record as it is.
        """
        if write.repairs and len(write.keys) > 1 and None not in write.values:
            return ()
        found = self.stored.newest(write.keys)
        return [_effect(record, value, write.at) for record, value in zip(found, write.values, strict=True)]

    def replace(self, action: Replace) -> None:
        """Have records take the place of what is there, in turn."""
        try:
            self._handed_over(action.token, self.stored.replace(action.records, action.drops, action.damaged))
        except GkvError as error:
            self._refused(action.token, error)

    def _handed_over(self, token: int, pending: Pending) -> None:
        if pending.done:
            self._tell([_end_of(pending, token)])
        else:
            self._tokens[pending] = token

    def _refused(self, token: int, error: GkvError) -> None:
        self._note(error)
        if not self.closing:
            self._tell([CommitFailed(token, _for_want_of_room(error))])

    def _note(self, error: BaseException | None) -> None:
        if isinstance(error, EngineFailed):
            self.error = self.error or error

    @property
    def idle(self) -> bool:
        """Whether no commit of the machines is under way."""
        return not self._tokens and not self.stored.under_way

    def over(self, group: Sequence[Pending]) -> None:
        """Take in the end of commits."""
        self.stored.over(group)
        ends = []
        for pending in group:
            if pending not in self._tokens:
                continue
            token = self._tokens.pop(pending)
            self._note(pending.error)
            if token is not None:
                ends.append(_end_of(pending, token))
            elif pending.error is not None and not self.closing:
                self._on_end(EngineFailed(f"writes that were acknowledged have failed: {pending.error}"))
        self._tell(ends)


def _effect(before: Record | Damage | None, value: Value | None, at: int) -> Effect:
    if isinstance(before, Damage):
        return Effect.DAMAGED
    if before is not None and before.value is not None and not is_due(before, at):
        return Effect.REPLACED
    return Effect.UNCHANGED if value is None else Effect.CREATED


def _end_of(pending: Pending, token: int) -> Event:
    if pending.error is not None:
        return CommitFailed(token, _for_want_of_room(pending.error))
    return Committed(token, pending.effects)


def _for_want_of_room(error: BaseException) -> bool:
    return isinstance(error, EngineFull | SnapshotRunning)
