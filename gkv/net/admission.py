"""Who is let in: bounds on the requests that a process has in work, and on the bytes that these hold in memory.

Promises: what is over a bound is refused at once, and counted; members of the cluster are never refused because of clients, and
what an operator asks (is it alive?) is not refused at all. Leaves to others: what a refusal looks like. Nothing here waits or
switches greenlets.
"""

CLIENTS, MEMBERS, OPERATORS = "clients", "members", "operators"
"""The lanes."""

MAX_INFLIGHT = 256
"""Found with benchmarks/http/openloop.py: all that are let in at once are read before the next reject, so with 512 gets of 300
keys rejects take twice as long. The peak is the same from 128 on; with fewer than there are clients that wait for each answer,
some of these would be rejected without need."""
MAX_BUFFERED = 256 << 20

CROWD = 64
"""Requests in work, beyond which a new one is begun only when all that lies ready was read, so that rejects do not wait for it:
at twice saturation half of them were out after 10 ms instead of 22."""

LARGE = 65_536
"""Bytes. Smaller answers, and requests that come in one piece of this size, are not counted one by one: there are no more of
them than requests in flight."""


class Budget:
    """Bytes that requests may hold together. One that comes alone always fits, whatever its size."""

    __slots__ = ("limit", "refused", "used")

    def __init__(self, limit: int = MAX_BUFFERED) -> None:
        self.limit = limit
        self.used = 0
        self.refused = 0
        """How often there was no room."""

    def take(self, size: int, *, must: bool = False) -> bool:
        """Take so many bytes and return True, or return False when there is no room; `must` takes them all the same."""
        if self.used and self.used + size > self.limit and not must:
            self.refused += 1
            return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        self.used -= size

    def hold(self, size: int) -> "Hold | None":
        """Take so many bytes for as long as anybody refers to what is returned; return None when there is no room."""
        return Hold(self, size) if self.take(size) else None


class Hold:
    """A part of a budget that goes back when nobody refers to it any more, as the bytes do that it stands for."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget, size: int) -> None:
        self._budget = budget
        self._size = size

    def __del__(self) -> None:
        self._budget.give_back(self._size)


class Lane:
    """The requests of one kind in work.

    A request leaves when its answer is made, but its place is free only when the event loop has looked at the sockets again:
    what is answered without waiting would otherwise never be in flight together with anything, and the last of 2,000 clients
    whose requests lie ready would wait for all the others to be served.
    """

    __slots__ = ("_left", "_turn", "always_answers", "budget", "inflight", "limit", "refused")

    def __init__(self, limit: float, budget: Budget, *, always_answers: bool = False) -> None:
        """`always_answers` says that answers are sent even when the budget has no room for them."""
        self.limit = limit
        self.budget = budget
        self.always_answers = always_answers
        self.inflight = 0
        self.refused = 0
        """Requests up to now."""
        self._turn = -1
        self._left = 0

    def enter(self, turn: int) -> bool:
        """Let a request in and return True, or return False when too many are in work. `turn` is the event loop's."""
        if turn != self._turn:
            self._turn = turn
            self._left = 0
        if self.inflight + self._left >= self.limit:
            self.refused += 1
            return False
        self.inflight += 1
        return True

    def leave(self) -> None:
        self.inflight -= 1
        self._left += 1


class Admission:
    """The lanes of a process. Clients and members have the same bounds, each for themselves."""

    def __init__(self, max_inflight: int = MAX_INFLIGHT, max_buffered: int = MAX_BUFFERED) -> None:
        """`max_inflight` requests in work, `max_buffered` bytes."""
        self.clients = Lane(max_inflight, Budget(max_buffered))
        # A member's answer may acknowledge a write: it must not be replaced by a refusal.
        self.members = Lane(max_inflight, Budget(max_buffered), always_answers=True)
        self.operators = Lane(float("inf"), self.clients.budget)
        self.lanes = {CLIENTS: self.clients, MEMBERS: self.members, OPERATORS: self.operators}
        self.refused_connections = 0

    def refused(self) -> dict[str, int]:
        """Return how many requests or connections were refused, by the bound that was reached."""
        both = (self.clients, self.members)
        return {
            "inflight": sum(lane.refused for lane in both),
            "memory": sum(lane.budget.refused for lane in both),
            "connections": self.refused_connections,
        }
