"""A call to a node: one frame on its way, and exactly one reply to it.

Promises: `ask_all` returns one reply for each node asked, by the deadline at the latest, and raises
nothing. Leaves to others: how a frame comes to a node, which is an `Callee`'s to know, and its
meaning.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

from gkv.model import NodeReply, Outcome
from gkv.net.deadlines import Wait


class Lane(IntEnum):
    """Which calls share an outbox and its connections; those of one lane never wait behind those of
    another.
    """

    READ = 0
    WRITE = 1
    """For these the node goes to its disk."""
    REPLICA = 2
    """Copies of writes, from a primary to those that keep them too."""
    BACKGROUND = 3
    """Work for which nobody waits."""
    AWAITED = 4
    """Answers that were put off, since they take long."""


class Counting(Protocol):
    """Somebody who wants to know that a call has its reply."""

    def one_less(self) -> None:
        """Note that. Does not switch greenlets and does not raise."""


class Call:
    """One frame on its way to a node, and the one reply to it."""

    __slots__ = ("_replies", "expires", "frame", "lane", "reply", "request_id", "sent")

    def __init__(self, frame: bytes, expires: float, replies: Counting, request_id: str = "", lane: Lane = Lane.READ) -> None:
        self.frame = frame
        self.lane = lane
        self.request_id = request_id
        """Of the client's request, for the node's log; "" when nobody would look for it."""
        self.expires = expires
        """On the clock of `time.monotonic`."""
        self.sent = False
        """Whether the node may have seen it."""
        self.reply: NodeReply | None = None
        self._replies = replies

    def finish(self, outcome: Outcome, frame: bytes = b"", detail: str = "", hold: object = None) -> bool:
        """Set the reply and return True. Only the first time counts: whoever asked may have given
        up already.
        """
        if self.reply is not None:
            return False
        self.reply = NodeReply(outcome, frame, self.sent, detail, hold)
        self._replies.one_less()
        return True


class OpenReplies(Wait):
    """The number of replies that are still to come, and the wait for the last of them."""

    __slots__ = ("count",)

    def __init__(self, count: int, expires: float) -> None:
        super().__init__(expires)
        self.count = count

    def one_less(self) -> None:
        self.count -= 1
        if self.count == 0:
            self.expire()

    def wait(self) -> None:
        """Return when all have come, or when `expires` has. Switches greenlets."""
        if self.count:
            self.sleep()


class Callee(Protocol):
    """Whatever brings a frame to a node and a reply back: a `Channel`, or the node itself for its
    own part.
    """

    def submit(self, call: Call) -> object:
        """Take a call and finish it, now or later. Does not wait and does not raise."""


def ask_all(
    asked: Sequence[tuple[Callee, bytes]], expires: float, request_id: str = "", *, lane: Lane = Lane.READ
) -> list[NodeReply]:
    """Send frames to nodes in parallel; return one reply for each, in this order, by `expires` at
    the latest.

    `request_id` is for the logs of the nodes. Switches greenlets.
    """
    replies = OpenReplies(len(asked), expires)
    calls = begin_calls(asked, replies, request_id, lane)
    replies.wait()
    return end_calls(calls)


def begin_calls(asked: Sequence[tuple[Callee, bytes]], replies: OpenReplies, request_id: str, lane: Lane) -> list[Call]:
    """Send frames to nodes in parallel; return one call for each, in this order. Does not wait."""
    calls = []
    for callee, frame in asked:
        call = Call(frame, replies.expires, replies, request_id, lane)
        calls.append(call)
        callee.submit(call)
    return calls


def end_calls(calls: Sequence[Call]) -> list[NodeReply]:
    """Return the reply to each call; one that has none yet gets none any more."""
    answers = []
    for call in calls:
        call.finish(Outcome.TIMEOUT, detail="no answer within the deadline")
        assert call.reply is not None  # noqa: S101  # for the type checker: finish() has just seen to it
        answers.append(call.reply)
    return answers
