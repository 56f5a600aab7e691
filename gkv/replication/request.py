"""One request of a client, its answer as it comes together, and those that wait to be begun."""

from collections.abc import Hashable, Iterable
from heapq import heappop, heappush

from gkv.model import Version
from gkv.replication.actions import Answer, Fate, KeyAnswer
from gkv.replication.events import Judge, ReadAsked, WriteAsked

MOST_WAITING = 1_000
"""Requests for lists that are not open, or held."""


class Request:
    """One request of a client."""

    __slots__ = (
        "answers",
        "begun",
        "client",
        "deadline",
        "depends",
        "given_up",
        "judge",
        "keys",
        "parts",
        "version",
        "written",
    )

    def __init__(self, asked: ReadAsked | WriteAsked) -> None:
        self.client: Hashable = asked.client
        self.keys = asked.keys
        self.deadline = asked.deadline
        self.judge: Judge | None = asked.judge if isinstance(asked, WriteAsked) else None
        """Of a write."""
        self.depends = not isinstance(asked, WriteAsked) or asked.depends
        self.answers: list[KeyAnswer | None] = [None] * len(asked.keys)
        self.parts = 0
        """Parts that are under way; -1 once the client has its answer."""
        self.begun: set[int] = set()
        """Places of the keys that are under way, or were."""
        self.written: frozenset[int] = frozenset()
        """Places of those that are written."""
        self.version: Version | None = None
        self.given_up: set[str] = set()
        """Keys of which no intact record could be had."""

    @property
    def is_over(self) -> bool:
        """Whether the client has its answer."""
        return self.parts < 0

    def answer(self, otherwise: Fate) -> Answer:
        """Return the answer; a key that has none gets this one, if nothing was begun about it."""
        self.parts = -1
        answers = tuple(
            [
                answer or KeyAnswer(Fate.INDETERMINATE if place in self.written else otherwise)
                for place, answer in enumerate(self.answers)
            ]
        )
        return Answer(self.client, answers, self.version)


class Waits:
    """The requests that have no answer yet: some of them wait to be begun, all have a deadline."""

    def __init__(self) -> None:
        self._waiting: dict[Request, None] = {}
        self._deadlines: list[tuple[float, int, Request]] = []
        self._count = 0

    def add(self, request: Request) -> None:
        """Note a new request."""
        self._count += 1
        heappush(self._deadlines, (request.deadline, self._count, request))

    def wait(self, request: Request) -> bool:
        """Have a request wait; False if too many do already."""
        if request not in self._waiting and len(self._waiting) >= MOST_WAITING:
            return False
        self._waiting[request] = None
        return True

    def has(self, request: Request) -> bool:
        """Return whether a request waits to be begun."""
        return request in self._waiting

    @property
    def waiting(self) -> Iterable[Request]:
        """Those that wait to be begun, the oldest first."""
        return self._waiting

    def take(self) -> Iterable[Request]:
        """Take out all that wait to be begun."""
        waiting, self._waiting = self._waiting, {}
        return waiting

    def overdue(self, now: float) -> list[Request]:
        """Take out the requests whose deadline is over."""
        overdue = []
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].is_over):
            request = heappop(self._deadlines)[2]
            self._waiting.pop(request, None)
            if not request.is_over:
                overdue.append(request)
        return overdue

    @property
    def wakes_at(self) -> float:
        while self._deadlines and self._deadlines[0][2].is_over:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else float("inf")
