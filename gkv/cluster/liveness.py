"""The memory of who was heard when. Pure: the time is an argument, in seconds of a clock that only goes forward.

Promises: nobody counts as silent for a time in which nobody listened; a call of a process that another one has replaced counts
for nothing. Bounded by `MAX_HEARD` processes.
"""

from collections.abc import Iterable
from dataclasses import replace

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, State

SILENT_AFTER = 1.0
_LATE = 0.5
"""Seconds between two looks after which it was the listener that stood still."""
MAX_HEARD = 4_096
_FORGOTTEN_AFTER = 30.0
"""Seconds after which a process that is no member is forgotten."""


class Liveness:
    """The newest call of each process, by id."""

    def __init__(self, now: float, silent_after: float = SILENT_AFTER) -> None:
        self._calls: dict[str, CallIn] = {}
        self._heard: dict[str, float] = {}
        self._replaced: dict[str, frozenset[int]] = {}
        self._silent_after = silent_after
        self._since = now
        """Nobody counts as silent for a time before."""
        self._looked = now

    def heard(self, call: CallIn, now: float) -> bool:
        """Note a call; return whether it says anything new."""
        before = self._calls.get(call.id)
        if self._is_late(call, before, now):
            return False
        if before is None and len(self._calls) >= MAX_HEARD:
            return False
        if before is not None and before.incarnation == call.incarnation and not call.ran:
            call = replace(call, ran=before.ran)
        elif before is not None and before.incarnation != call.incarnation:
            replaced = {*self._replaced.get(call.id, ()), before.incarnation, *call.ran} - {call.incarnation}
            if len(replaced) > MAX_HEARD:
                replaced = {before.incarnation, *call.ran} - {call.incarnation}
            self._replaced[call.id] = frozenset(replaced)
        self._calls[call.id] = call
        self._heard[call.id] = now
        return call != before

    def _is_late(self, call: CallIn, before: CallIn | None, now: float) -> bool:
        """Return whether a call is of a process that another one has replaced.

        Which of two that do not know each other came later, their calls' order tells, and it may be
        wrong: so the later one counts only while it goes on calling.
        """
        if before is None or before.incarnation == call.incarnation:
            return False
        if call.incarnation in before.ran:
            return True
        return call.incarnation in self._replaced.get(call.id, ()) and self.is_up(call.id, now)

    def answered(self, node_id: str, incarnation: int, now: float) -> None:
        """Note that the process in a member's line answers; another one that has called since is what counts."""
        known = self._calls.get(node_id)
        if known is None or known.incarnation == incarnation:
            self._heard[node_id] = now

    def is_up(self, node_id: str, now: float) -> bool:
        """Return whether a process was heard lately."""
        return now - self._heard.get(node_id, float("-inf")) < self._silent_after

    def last(self, node_id: str) -> CallIn | None:
        """Return the newest call of a process, however long ago."""
        return self._calls.get(node_id)

    def recent(self, now: float) -> dict[str, CallIn]:
        """Return the calls of the processes that were heard lately, by id."""
        return {node_id: call for node_id, call in self._calls.items() if self.is_up(node_id, now)}

    def look(self, now: float, members: Iterable[str]) -> None:
        """Note that somebody looks, which is to be done all the time."""
        if now - self._looked > _LATE:
            self._since = now
        self._looked = now
        kept = set(members)
        for node_id in [one for one, heard in self._heard.items() if one not in kept and now - heard > _FORGOTTEN_AFTER]:
            del self._heard[node_id]
            self._calls.pop(node_id, None)
            self._replaced.pop(node_id, None)

    def silent(self, document: Document, now: float) -> frozenset[str]:
        """Return the members that count, and have said nothing for too long."""
        return frozenset(
            member.id
            for member in document.members
            if member.state is not State.DOWN and now - max(self._since, self._heard.get(member.id, 0.0)) >= self._silent_after
        )
