"""One request of a client, and its answer as it comes together."""

from collections.abc import Hashable

from gkv.model import Version
from gkv.replication.actions import Answer, Fate, KeyAnswer
from gkv.replication.events import Judge, ReadAsked, WriteAsked


class Request:
    """One request of a client."""

    __slots__ = ("answers", "begun", "client", "deadline", "depends", "given_up", "judge", "keys", "parts", "version")

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
        self.begun: frozenset[int] = frozenset()
        """Places of the keys that are written."""
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
                answer or KeyAnswer(Fate.INDETERMINATE if place in self.begun else otherwise)
                for place, answer in enumerate(self.answers)
            ]
        )
        return Answer(self.client, answers, self.version)
