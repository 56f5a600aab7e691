"""The bringing of an authority's plans to the primaries that are to pause (A7): all at the same time, and nobody waits."""

from collections.abc import Callable

import gevent

from gkv.cluster.document import Document, Member
from gkv.cluster.plans import ANSWERED_WITHIN, GoOn, Plan
from gkv.cluster.reach import Peers


class Moves:
    """The plans under way. `held` is told which process holds what was asked of it."""

    def __init__(self, peers: Peers, held: Callable[[Member, Plan], object]) -> None:
        self._peers = peers
        self._held = held

    def send(self, word: Plan | GoOn, document: Document) -> None:
        """Have a primary of a document told, if it is still the process that is meant."""
        member = document.member(word.to)
        if member is not None and member.incarnation == word.incarnation:
            gevent.spawn(self._bring, member, word, document.cluster)

    def _bring(self, member: Member, word: Plan | GoOn, cluster: str) -> None:
        if isinstance(word, GoOn):
            self._peers.go_on(member.node, word, ANSWERED_WITHIN)
        elif self._peers.hold(cluster, member.node, word, ANSWERED_WITHIN):
            self._held(member, word)
