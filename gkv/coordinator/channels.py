"""The ways to the nodes, one for each URL, and the few calls that are not about keys."""

from collections.abc import Sequence
from time import monotonic
from typing import TypeVar

from gkv.cluster.document import Document
from gkv.cluster.plans import GoOn, Plan
from gkv.cluster.view import View
from gkv.model import Node, NodeReply, Outcome, Presence, era_of
from gkv.net.admission import Budget
from gkv.net.call import Callee, Lane, ask_all
from gkv.net.channel import Channel, ChannelFigures
from gkv.net.peer import ChannelLimits
from gkv.net.retries import Retries
from gkv.net.tls import Tls
from gkv.wire import ops
from gkv.wire.ops import Adopt, CallAt, GoOnWith, Held, Here, NodeAnswer, NodeRequest, PlanMove, Refused, Status
from gkv.wire.strict import Pause, no_pause

MAX_CHANNELS = 1_024
"""Beyond it, channels that nobody uses are forgotten. Those to members never are, nor those in
use, which only deadlines bound; so there may be more."""


class Speaker:
    """The names of this process and of those that are to answer, by the view's document."""

    def __init__(self, view: View | None, incarnation: int) -> None:
        self.incarnation = incarnation
        self._view = view

    def epoch(self) -> int:
        document = None if self._view is None else self._view.document
        return 0 if document is None else document.epoch

    def expected(self, url: str) -> int | None:
        return None if self._view is None else self._view.incarnations.get(url)


class Channels:
    """Channels by URL, made when first needed. `local` answers for this process's own node, without a socket.

    Implements `gkv.cluster.authority.Peers`.
    """

    def __init__(
        self,
        deadline: float,
        local: tuple[str, Callee] | None = None,
        *,
        budget: Budget | None = None,
        limits: ChannelLimits | None = None,
        tls: Tls | None = None,
        view: View | None = None,
        incarnation: int = 0,
    ) -> None:
        """`deadline` is in seconds, for each call made here; `budget` for the bytes of answers.

        With `tls` nodes are spoken to in no other way. `view` tells who is a member; `incarnation`
        names this process, 0 for one that is no node.
        """
        self._speaker = Speaker(view, incarnation)
        self._view = view
        self._tls = tls
        self._deadline = deadline
        self._limits = limits
        self._budget = budget or Budget()
        self.retries = Retries()
        """Of this process: what is asked again takes from it, whoever asks."""
        self._by_url: dict[str, Callee] = {}
        self._local = local
        self._token = ""
        if local is not None:
            self._by_url[local[0]] = local[1]

    def to(self, node: Node) -> Callee:
        """Return the way to a node. Does not switch greenlets."""
        callee = self._by_url.get(node.url)
        if callee is None:
            if len(self._by_url) >= MAX_CHANNELS:
                self._forget_unused()
            callee = self._by_url[node.url] = Channel(
                node.url, self._limits, budget=self._budget, retries=self.retries, tls=self._tls, names=self._speaker
            )
            callee.show_token(self._token)
        return callee

    def _forget_unused(self) -> None:
        """Make room for one more channel, if possible, at the expense of the longest unused.

        A channel that somebody has just been given, and not used yet, still works afterwards.
        """
        document = self._view.document if self._view is not None else None
        members = {node.url for node in document.members} if document is not None else set()
        unused = [
            (channel.used, url, channel)
            for url, channel in self._by_url.items()
            if isinstance(channel, Channel) and url not in members and not channel.in_use
        ]
        for _, url, channel in sorted(unused)[: len(self._by_url) - MAX_CHANNELS + 1]:
            del self._by_url[url]
            channel.retire()

    def show_token(self, token: str) -> None:
        """Send a bearer token with every request from now on; "" for none."""
        self._token = token
        for callee in self._by_url.values():
            if isinstance(callee, Channel):
                callee.show_token(token)

    def figures(self) -> dict[str, ChannelFigures]:
        """Return what was said to each node and what is about to be, by its URL; nothing about this process's own node."""
        return {url: channel.figures() for url, channel in self._by_url.items() if isinstance(channel, Channel)}

    def ask(self, nodes: Sequence[Node], within: float) -> Sequence[Presence | None]:
        """Return the process that answers for each node, None where nobody does."""
        return self._here(Status(), nodes, monotonic() + within)

    def push(self, document: Document, nodes: Sequence[Node]) -> None:
        """Give nodes a document, as far as they can be reached."""
        self._here(Adopt(document.to_json()), nodes, monotonic() + self._deadline)

    def adopt(self, document: Document, nodes: Sequence[Node], expires: float) -> list[bool]:
        """Give nodes a document at once; return for each whether it is known to be in force there, by `expires`."""
        return [answer is not None for answer in self._here(Adopt(document.to_json()), nodes, expires)]

    def tell(self, cluster: str, url: str, nodes: Sequence[Node], within: float) -> None:
        """Tell members of a cluster where its authority is, as far as they can be reached."""
        self._here(CallAt(cluster, url), nodes, monotonic() + within)

    def hold(self, cluster: str, node: Node, plan: Plan, within: float) -> bool:
        """Have a primary hold the lists of a plan; return whether all is settled there by then."""
        era = era_of(*plan.order)
        lists = tuple([(roles.preference, roles.coming) for roles in plan.lists])
        request = PlanMove(cluster, era, plan.incarnation, plan.number, lists)
        return self._held(node, request, within) == Held(plan.number, era)

    def go_on(self, node: Node, word: GoOn, within: float) -> None:
        """Tell a primary that a plan is given up."""
        self._held(node, GoOnWith(word.incarnation, word.number), within)

    def _held(self, node: Node, request: NodeRequest, within: float) -> Held | Refused | None:
        [reply] = ask_all([(self.to(node), request.write())], monotonic() + within, lane=Lane.READ)
        return understand(reply, Held)

    def reached(self, node: Node) -> None:
        """Note that a node is there: what is for it need not wait for the next attempt to reach it."""
        channel = self._by_url.get(node.url)
        if isinstance(channel, Channel):
            channel.reached()

    def _here(self, request: NodeRequest, nodes: Sequence[Node], expires: float) -> list[Here | None]:
        frame = request.write()
        asked = [(self.to(node), frame) for node in nodes]
        replies = ask_all(asked, expires, lane=Lane.BACKGROUND)
        answers = [understand(reply, Here) for reply in replies]
        return [answer if isinstance(answer, Here) else None for answer in answers]

    def close(self) -> None:
        """Close every channel. Switches greenlets."""
        for callee in self._by_url.values():
            if isinstance(callee, Channel):
                callee.close()
        self._by_url = {} if self._local is None else {self._local[0]: self._local[1]}


AnswerKind = TypeVar("AnswerKind", bound=NodeAnswer)


def understand(
    reply: NodeReply, kind: type[AnswerKind], count: int = 0, pause: Pause = no_pause
) -> AnswerKind | Refused | None:
    """Return what a node answered about `count` keys, or None when it did not answer, or in no way that can be understood.

    Calls `pause` as `read_answer` does.
    """
    return ops.understand(reply.frame, kind, count, pause) if reply.outcome is Outcome.ANSWERED else None
