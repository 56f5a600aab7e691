"""Members that speak under a later document than this process has: it is fetched once, and their calls are kept until it is
here (M1).
"""

from gkv.replication.actions import Fetch
from gkv.replication.desk import Desk
from gkv.replication.events import Received
from gkv.replication.messages import Question
from gkv.replication.questions import RESEND

MOST_PARKED = 256
"""Calls that are kept."""


class Ahead:
    """All such words of one process."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._parked: list[Received] = []
        self._era, self._since = 0, float("-inf")
        """Of the document that is being fetched, and since when."""

    def hear(self, received: Received) -> None:
        """Take in a word of a later epoch."""
        desk = self._desk
        if received.era > self._era or desk.now - self._since >= RESEND:
            self._era, self._since = received.era, desk.now
            desk.actions.append(Fetch(received.sender, received.era))
        if isinstance(received.message, Question) and len(self._parked) < MOST_PARKED:
            self._parked.append(received)

    def take(self) -> list[Received]:
        """Take out the calls that may be heard under the document of now."""
        parked, self._parked = self._parked, []
        return [one for one in parked if one.era >= self._desk.duties.era]
