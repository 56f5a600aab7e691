"""One request of a client, its answer as it comes together, and those that wait to be begun."""

from collections.abc import Container, Hashable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from gkv.model import Effect, Record, Value, Version
from gkv.replication.actions import Answer, Fate, KeyAnswer
from gkv.replication.admission import Verdict
from gkv.replication.events import Judge, Plain, ReadAsked, WriteAsked

MOST_WAITING = 1_000
"""Requests for lists that are not open, or held."""


class Request:
    """One request of a client."""

    __slots__ = (
        "answers",
        "begun",
        "client",
        "deadline",
        "effects",
        "given_up",
        "keys",
        "left",
        "parts",
        "version",
        "what",
        "written",
    )

    def __init__(self, asked: ReadAsked | WriteAsked) -> None:
        self.client: Hashable = asked.client
        self.keys = asked.keys
        self.deadline = asked.deadline
        self.what: Plain | Judge | None = asked.what if isinstance(asked, WriteAsked) else None
        """Of a write."""
        self.answers: list[KeyAnswer | None] = [None] * len(asked.keys)
        self.left = len(asked.keys)
        """Keys that have no answer."""
        self.effects: Sequence[Effect] = ()
        """In place of all `answers`, those of a write whatever was there that is acknowledged."""
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

    def open(self) -> Sequence[int]:
        """Return the places of the keys that have no answer, and about which nothing is under way."""
        if self.left == len(self.keys) and not self.begun:
            return range(self.left)
        return [place for place, answer in enumerate(self.answers) if answer is None and place not in self.begun]

    def keys_at(self, places: Sequence[int]) -> Sequence[str]:
        """Return the keys at some places, in ascending order."""
        keys = self.keys
        return keys if len(places) == len(keys) else [keys[place] for place in places]

    def tell(self, place: int, answer: KeyAnswer) -> None:
        """Note the answer about a key, if the client has none yet."""
        if self.is_over:
            return
        self.left -= self.answers[place] is None
        self.answers[place] = answer

    def tell_all(self, places: Sequence[int], answers: Sequence[KeyAnswer]) -> None:
        """Note the answers about keys at some places, in ascending order."""
        if len(places) == len(self.keys) and not self.is_over:
            self.answers, self.left = list(answers), 0
        else:
            for place, answer in zip(places, answers, strict=True):
                self.tell(place, answer)

    def end(self, part: "Part", fates: Sequence[Fate], effects: Sequence[Effect]) -> None:
        """Note what has become of what was written, and what that did to each key if it is known."""
        if not part.verdicts and len(effects) == len(self.keys) and fates.count(Fate.WRITTEN) == len(fates):
            self.effects, self.left = effects, 0
            return
        nothing = [None] * len(fates)
        rows = zip(fates, part.records or nothing, part.verdicts or nothing, effects or nothing, strict=True)
        self.tell_all(part.places, [KeyAnswer(fate, record, verdict, "", effect) for fate, record, verdict, effect in rows])

    def answer(self, otherwise: Fate) -> Answer:
        """Return the answer; a key that has none gets this one, if nothing was begun about it."""
        self.parts = -1
        answers = (
            ()
            if self.effects
            else tuple(
                [
                    answer or KeyAnswer(Fate.INDETERMINATE if place in self.written else otherwise)
                    for place, answer in enumerate(self.answers)
                ]
            )
        )
        self.what, self.answers = None, []  # its deadline may be noted for long
        return Answer(self.client, answers, self.version, self.effects)


@dataclass(slots=True)
class Part:
    """Keys of a request that are written together: a column for each thing that is known of them."""

    places: Sequence[int]
    """In the request, ascending."""
    values: Sequence[Value | None]
    expires: Sequence[int]
    verdicts: Sequence[Verdict] = ()
    """Empty, as `records`, for what is written whatever is there."""
    records: Sequence[Record | None] = ()
    """The records that were there."""

    @classmethod
    def plain(cls, what: Plain, places: Sequence[int], now: int) -> "Part":
        """Return the keys at some places of a request that is written whatever is there; `now` is in ms."""
        values, ttls = what.values, what.ttls
        if len(places) < len(values):
            values, ttls = [values[place] for place in places], [ttls[place] for place in places] if ttls else ()
        return cls(places, values, [now + ttl if ttl else 0 for ttl in ttls] if ttls else [0] * len(places))

    @classmethod
    def judged(cls, found: Sequence[tuple[int, Verdict, Record | None]]) -> "Part":
        """Return the keys at these places, which are written by these verdicts on these records."""
        places, verdicts, records = list(map(list, zip(*found, strict=True))) or ([], [], [])
        return cls(places, [one.value for one in verdicts], [one.expires for one in verdicts], verdicts, records)

    def without(self, rows: Container[int]) -> "Part":
        """Return all rows but these."""
        left = [row for row in range(len(self.places)) if row not in rows]
        return Part(*[[column[row] for row in left] if column else () for column in self._columns()])

    def _columns(self) -> tuple[Sequence[Any], ...]:
        return self.places, self.values, self.expires, self.verdicts, self.records


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
