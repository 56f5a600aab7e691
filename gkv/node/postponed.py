"""Answers that the machines take longer for than others are to wait: one request that is answered late holds up none of
those that came with it, nor those behind them.

Promises: what was begun has one answer, which is given to whoever comes with its ticket, once; what is kept is bounded, and
nothing is kept for long that nobody asks for. A ticket that is not known is of a write that may have been begun.
"""

import secrets
from collections.abc import Callable
from time import monotonic

from gkv.model import NodeRefusal
from gkv.node.awaited import Awaited
from gkv.node.handler import Waiting
from gkv.replication.actions import Answer
from gkv.wire.ops import Await, NodeAnswer, PutOff, Refused

READ_WITHIN = 0.02
"""Seconds for which the answer to a read may keep others waiting: longer than a lease or a usual commit takes."""
WRITTEN_WITHIN = 0.05
"""The same for a write, which has others of its group with it that wait for the same disks."""
_AWAITED_WITHIN = 0.05
"""The same for an answer that was put off already, among others like it."""
_MOST = 1_024
"""Answers that are kept. Those beyond it keep others waiting."""
_KEPT = 2.0
"""Seconds after which nobody will come for an answer any more: who wants it asks all the time."""


class Asked:
    """The wait for an answer of the machines. What comes of that may be another wait."""

    __slots__ = ("_answer", "_told", "patience")

    def __init__(
        self, told: Awaited[Answer], patience: float, answer: "Callable[[Answer | None], NodeAnswer | Waiting]"
    ) -> None:
        """`patience` is how many seconds others may wait for it; `answer` says what the machines' words mean, None for none."""
        self._told = told
        self._answer = answer
        self.patience = patience

    def __call__(self) -> "NodeAnswer | Waiting":
        return self._answer(self._told.wait())

    def is_told_by(self, moment: float) -> bool:
        """Wait until a moment, by `time.monotonic`, at most; return whether nothing is to be waited for any more."""
        return self._told.is_over_by(moment)


class Postponed:
    """The answers of one process that were put off."""

    def __init__(self) -> None:
        self._ticket = secrets.randbits(63)  # so that none of another process is one here
        self._waiting: dict[int, tuple[Asked, float]] = {}
        """By ticket, the oldest first, with the time at which it was given out."""

    def put_off(self, asked: Asked) -> PutOff | None:
        """Keep a request whose answer is not there; None where too many are kept."""
        now = monotonic()
        while self._waiting:
            oldest = next(iter(self._waiting))
            if now - self._waiting[oldest][1] < _KEPT:
                break
            del self._waiting[oldest]
        if len(self._waiting) >= _MOST:
            return None
        self._ticket += 1
        asked.patience = _AWAITED_WITHIN
        self._waiting[self._ticket] = asked, now
        return PutOff(self._ticket)

    def take(self, request: Await) -> NodeAnswer | Waiting:
        """Return what waits for an answer that was put off: from now on that is for whoever asks here."""
        asked, _ = self._waiting.pop(request.ticket, (None, 0.0))
        return Refused(NodeRefusal.FAILED, detail="no such answer is kept here") if asked is None else asked
