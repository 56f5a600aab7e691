"""The calls that are heard under a later document than the one in force: kept until that is here (M1)."""

from collections import deque

from gkv.replication.actions import Fetch
from gkv.replication.desk import Desk
from gkv.replication.events import Received
from gkv.replication.messages import Question
from gkv.replication.questions import RESEND
from gkv.replication.writing import is_large

MOST_PARKED = 64
"""Calls that are kept, unless they are large: the newest, so that none of an epoch that never comes keeps others out. All are
made again.
"""


class Later:
    """Those of one process."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._parked: deque[Received] = deque(maxlen=MOST_PARKED)
        self._fetching = (0, float("-inf"))
        """The era of the document that is being fetched, and since when."""

    def hear(self, received: Received) -> None:
        """Keep a call, and ask for the document, once in a while."""
        now = self._desk.now
        if received.era > self._fetching[0] or now - self._fetching[1] >= RESEND:
            self._fetching = received.era, now
            self._desk.actions.append(Fetch(received.sender, received.era))
        message = received.message
        if isinstance(message, Question) and not is_large(message):
            self._parked.append(received)

    def take(self, era: int) -> list[Received]:
        """Take out all that is kept, and return what is not of an older document."""
        parked = [received for received in self._parked if received.era >= era]
        self._parked.clear()
        return parked
