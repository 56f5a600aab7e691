"""Pauses before a member that went is admitted again (A3): the first is none, then they double. Pure."""

from gkv.cluster.document import Document, State

FIRST = 0.2
LONGEST = 30.0
FORGOTTEN = 600.0
"""Seconds for which a member is up, after which its earlier ends count for nothing."""


class AdmissionPauses:
    """The pause of each member, by id. An authority that starts knows of none."""

    def __init__(self, document: Document, now: float) -> None:
        self._next: dict[str, float] = {}
        """Seconds that the next pause takes; 0 for a member that is not in here."""
        self._until: dict[str, float] = {}
        self._up_since = {member.id: now for member in document.members if member.state is State.UP}

    def follow(self, before: Document, after: Document, planned: frozenset[int], now: float) -> None:
        """Note what a document in force has changed; `planned` are incarnations that had asked to leave."""
        for member in before.members:
            line = after.member(member.id)
            if line is None:
                for known in (self._next, self._until, self._up_since):
                    known.pop(member.id, None)
            elif member.state is not State.DOWN and (line.state is State.DOWN or line.incarnation != member.incarnation):
                self._went(member.id, planned=member.incarnation in planned, now=now)
            if line is not None and line.state is State.UP:
                self._up_since.setdefault(member.id, now)

    def _went(self, node_id: str, *, planned: bool, now: float) -> None:
        up_since = self._up_since.pop(node_id, None)
        if up_since is not None and now - up_since >= FORGOTTEN:
            self._next.pop(node_id, None)
        if not planned:
            pause = self._next.get(node_id, 0.0)
            self._until[node_id] = now + pause
            self._next[node_id] = min(LONGEST, max(FIRST, 2 * pause))

    def running(self, document: Document, now: float) -> frozenset[str]:
        """Return the members that may not be admitted now, and those that could not be if they went now."""
        running = set()
        for member in document.members:
            if member.state is State.DOWN:
                if now < self._until.get(member.id, now):
                    running.add(member.id)
            elif self._next.get(member.id) and now - self._up_since.get(member.id, now) < FORGOTTEN:
                running.add(member.id)
        return frozenset(running)
