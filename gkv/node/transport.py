"""The words of this member to others, as calls over its channels, and their replies.

A question is a call, and its reply the answer to that. What is lost or comes too late is nobody's
concern here: the machines ask again. Nothing switches greenlets but `show`.
"""

from collections.abc import Callable
from time import monotonic
from typing import Protocol

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.model import Node, NodeReply, Outcome
from gkv.net.call import Call, Callee, Lane, ask_all
from gkv.replication.actions import Send
from gkv.replication.messages import AskPage, AskSums, Copy, FoundDamaged, Message, Page, Sums
from gkv.wire.ops import Here, Said, Status, Word, understand

_WITHIN = 1.0
"""Seconds for which a word may be on its way: by then the machines have asked again more than once."""
_SHOWN_WITHIN = 1.0

Heard = Callable[[Said], object]
"""Takes in what another member has answered."""


class Ways(Protocol):
    """The ways to the members."""

    def to(self, node: Node) -> Callee:
        """Return the way to a node. Does not switch greenlets."""


class _Asked(Call):
    """A word on its way. Where the replies of other calls are counted, this one's answer is taken in."""

    __slots__ = ("_transport", "to")

    def __init__(self, transport: "Transport", to: str, frame: bytes, lane: Lane) -> None:
        super().__init__(frame, monotonic() + _WITHIN, self, lane=lane)
        self._transport = transport
        self.to = to

    def one_less(self) -> None:
        """Take the answer in."""
        assert self.reply is not None  # noqa: S101  # for the type checker: it is what has just come
        self._transport.ended(self, self.reply)


class Transport:
    """All words of one process."""

    def __init__(self, me: str, incarnation: int, view: View) -> None:
        self._me = me
        self._incarnation = incarnation
        self._view = view
        self._ways: Ways | None = None
        self._open = 0
        self.heard: Heard = lambda _said: None
        """Is given each answer that says something."""

    def connect(self, ways: Ways) -> None:
        """Use these ways from now on; what was to be sent before is lost."""
        self._ways = ways

    @property
    def idle(self) -> bool:
        """Whether no word is on its way."""
        return self._open == 0

    def send(self, action: Send) -> None:
        """Send a message to a member of the document in force."""
        document, ways = self._view.document, self._ways
        line = None if document is None else document.member(action.to)
        if document is None or line is None or ways is None:
            return
        word = Word(document.cluster, action.era, self._me, self._incarnation, action.message)
        self._open += 1
        ways.to(line.node).submit(_Asked(self, action.to, word.write(), _lane_of(action.message)))

    def ended(self, asked: _Asked, reply: NodeReply) -> None:
        """Note the end of a word, and take in what was answered."""
        self._open -= 1
        if reply.outcome is not Outcome.ANSWERED:
            return
        said = understand(reply.frame, Said)
        if isinstance(said, Said) and said.sender == asked.to and said.message is not None:
            self.heard(said)

    def show(self, member: str) -> Document | None:
        """Ask a member for its document; None if it shows none. Switches greenlets."""
        document, ways = self._view.document, self._ways
        line = None if document is None else document.member(member)
        if line is None or ways is None:
            return None
        [reply] = ask_all([(ways.to(line.node), Status(show=True).write())], monotonic() + _SHOWN_WITHIN, lane=Lane.READ)
        here = understand(reply.frame, Here) if reply.outcome is Outcome.ANSWERED else None
        if not isinstance(here, Here) or here.document is None:
            return None
        try:
            return Document.from_json(here.document)
        except ValueError:
            return None


def _lane_of(message: Message) -> Lane:
    """Return the lane of a message: none must wait behind commits but copies, nor behind pages."""
    if isinstance(message, Copy):
        return Lane.REPLICA
    return Lane.BACKGROUND if isinstance(message, AskPage | AskSums | Page | Sums | FoundDamaged) else Lane.READ
