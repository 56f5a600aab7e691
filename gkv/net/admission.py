"""Who is let in: bounds on the requests that a process has in work, and on the bytes that these
hold in memory.

Promises: what is over a bound is refused at once, and counted; members of the cluster are never
refused because of clients, and what an operator asks (is it alive?) is not refused at all. Leaves
to others: what a refusal looks like. Nothing here waits or switches greenlets.
"""

from gkv.errors import GkvError, Overloaded

CLIENTS, MEMBERS, REPLICA, BACKGROUND, OPERATORS = "clients", "members", "replica", "background", "operators"
"""The lanes. Members have three: what clients wait for, copies of writes, and work for which nobody
waits."""

MAX_INFLIGHT = 256
"""Found with benchmarks/http/openloop.py: all that are let in at once are read before the next
reject, so with 512 gets of 300 keys rejects take twice as long. The peak is the same from 128 on;
with fewer than there are clients that wait for each answer, some of these would be rejected without
need."""
MAX_BUFFERED = 256 << 20

CROWD = 64
"""Requests in work, beyond which a new one is begun only when all that lies ready was read, so that
rejects do not wait for it: at twice saturation half of them were out after 10 ms instead of 22."""

LARGE = 65_536
"""Bytes. Smaller answers, and requests that come in one piece of this size, are not counted one by
one: there are no more of them than requests in flight."""


def no_memory() -> GkvError:
    """Return the error for a request whose body or answer the budget has no room for."""
    return Overloaded("requests and answers take all the memory that they may; ask again later", retry_after=1)


class Budget:
    """Bytes that requests may hold together. One that comes alone always fits, whatever its
    size.
    """

    __slots__ = ("limit", "refused", "used")

    def __init__(self, limit: int = MAX_BUFFERED) -> None:
        self.limit = limit
        self.used = 0
        self.refused = 0
        """How often there was no room."""

    def reserve(self, size: int, *, must: bool = False) -> bool:
        """Reserve so many bytes and return True, or return False when there is no room; `must`
        reserves them all the same.
        """
        if self.used and self.used + size > self.limit and not must:
            self.refused += 1
            return False
        self.used += size
        return True

    def release(self, size: int) -> None:
        self.used -= size

    def hold(self, size: int) -> "Hold | None":
        """Reserve so many bytes for as long as anybody refers to what is returned; return None when
        there is no room.
        """
        return Hold(self, size) if self.reserve(size) else None


class Hold:
    """A part of a budget that goes back when nobody refers to it any more, as the bytes do that it
    stands for.
    """

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget, size: int) -> None:
        self._budget = budget
        self._size = size

    def __del__(self) -> None:
        self._budget.release(self._size)


class Gate:
    """The bounds of one lane: on bytes, and on requests in work, which were read whole and have no
    answer yet.

    A request that is answered without waiting never meets another one here, however many
    connections have one ready. They share the process by turns (`gkv.net.link`): to count them as
    well would refuse a single client that is always ready.
    """

    __slots__ = ("always_answers", "budget", "inflight", "limit", "refused")

    def __init__(self, limit: float, budget: Budget, *, always_answers: bool = False) -> None:
        """`always_answers` says that answers are sent even when the budget has no room for them."""
        self.limit = limit
        self.budget = budget
        self.always_answers = always_answers
        self.inflight = 0
        self.refused = 0
        """Requests up to now."""

    def enter(self) -> bool:
        """Let a request in and return True, or return False when too many are in work."""
        if self.inflight >= self.limit:
            self.refused += 1
            return False
        self.inflight += 1
        return True

    def leave(self) -> None:
        self.inflight -= 1


class Admission:
    """The gates of a process. Clients and members have the same bounds, each for themselves."""

    def __init__(self, max_inflight: int = MAX_INFLIGHT, max_buffered: int = MAX_BUFFERED) -> None:
        """`max_inflight` requests in work, `max_buffered` bytes."""
        self.clients = Gate(max_inflight, Budget(max_buffered))
        # A member's answer may acknowledge a write: it must not be replaced by a refusal.
        self.members = Gate(max_inflight, Budget(max_buffered), always_answers=True)
        self.replica = Gate(max_inflight, Budget(max_buffered // 4), always_answers=True)
        self.background = Gate(max(1, max_inflight // 4), Budget(max_buffered // 4), always_answers=True)
        self.operators = Gate(float("inf"), self.clients.budget)
        self.gates = {
            CLIENTS: self.clients,
            MEMBERS: self.members,
            REPLICA: self.replica,
            BACKGROUND: self.background,
            OPERATORS: self.operators,
        }
        """By lane."""
        self.refused_connections = 0

    def of_members(self, gate: Gate) -> bool:
        """Return whether only members come through a gate."""
        return gate is self.members or gate is self.replica or gate is self.background

    def refused(self) -> dict[str, int]:
        """Return how many requests or connections were refused, by the bound that was reached."""
        bounded = (self.clients, self.members, self.replica, self.background)
        return {
            "inflight": sum(gate.refused for gate in bounded),
            "memory": sum(gate.budget.refused for gate in bounded),
            "connections": self.refused_connections,
        }
