"""The things that all machines of one process share while they handle an event: the time, the document in
force, and the actions that come of it.
"""

from gkv.duties import Duties, Roles
from gkv.model import Version
from gkv.replication.actions import Action, Send
from gkv.replication.events import Pair, pair_of
from gkv.replication.messages import Message
from gkv.replication.questions import USUAL, Questions, Timeouts


class Desk:
    """One for a process."""

    def __init__(self, me: str, incarnation: int, now: float, timeouts: Timeouts = USUAL) -> None:
        self.me = me
        self.incarnation = incarnation
        self.now = now
        self.duties: Duties = Duties(me, (0, 0), {}, (), lambda keys: [0] * len(keys))
        """Without a member until the first document is adopted."""
        self.roles: dict[Pair, Roles] = {}
        """By the identities of lists that this member is in, or will be, the roles of now."""
        self.is_short = False
        """Whether fewer members act for a list of this process's than a write has to be on."""
        self.actions: list[Action] = []
        self.questions = Questions(timeouts)
        self._token = 0

    def adopt(self, duties: Duties) -> None:
        """Go on under another document."""
        self.duties = duties
        self.roles = {pair_of(roles): roles for roles in duties.own}
        self.is_short = any(roles.primary == self.me and not self.is_enough(roles) for roles in duties.own)

    def token(self) -> int:
        """Return a number that no commit has had."""
        self._token += 1
        return self._token

    def send(self, to: str, message: Message) -> None:
        """Send a message under the document in force."""
        self.actions.append(Send(to, self.duties.era, message))

    def ask(self, to: str, settled: tuple[Version, ...] = (), versions: tuple[Version, ...] = (), *, owed: bool = True) -> int:
        """Note that something is asked of a member now; return the question's number."""
        return self.questions.ask(to, self.now, settled, versions, owed=owed)

    @property
    def serves(self) -> bool:
        """Whether this process is the one in the document and is not down there (M2)."""
        return self.duties.incarnation_of(self.me) == self.incarnation

    def is_enough(self, roles: Roles) -> bool:
        """Return whether as many members act for a list as a write has to be on (W1)."""
        return len(roles.acting) >= self.duties.min_in_sync

    def mine(self, roles: Roles) -> bool:
        """Return whether this process is to be the primary of a list."""
        return roles.primary == self.me and self.serves
