"""The presence of members, as an authority has heard of it."""

from collections.abc import Collection

from gkv.clock import boot_time
from gkv.cluster.callin import FillProgress
from gkv.cluster.document import State
from gkv.cluster.judge import Judge
from gkv.cluster.refusals import refused_loss

_SAID = float("inf")
"""In place of a time: that is said already."""
_SAY_AFTER = 3.0
"""Seconds without an answer of any member, after which that is said."""


class Attendance:
    """The knowledge of a judge about processes, for those who ask. Nothing here waits."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._alone_since: float | None = None
        self._has_company = False

    def expect(self, nodes: Collection[str], seconds: float) -> None:
        """Have the first ring wait so long for nodes that are on their way, as each that joined later would be filled."""
        self._judge.ring_pauses.expect(nodes, boot_time() + seconds)

    def answers(self, node_id: str) -> bool:
        """Return whether a process under this name was heard lately."""
        return self._judge.liveness.is_up(node_id, boot_time())

    @property
    def absent(self) -> frozenset[str]:
        """The members that should be there by the document, and have said nothing for a second of listening."""
        return self._judge.liveness.silent(self._judge.document, boot_time())

    @property
    def is_alone(self) -> bool:
        """Whether there are members, and none of them answers: all are down, or should be there and are not, or have not been
        heard since the start.
        """
        members, absent, last = self._judge.document.members, self.absent, self._judge.liveness.last
        return bool(members) and all(
            one.id in absent or ((one.state is State.DOWN or last(one.id) is None) and not self.answers(one.id))
            for one in members
        )

    def alone_is_news(self, now: float) -> bool:
        """Return whether no member has answered for a while: once each time that this is so. No document would tell."""
        since = self._alone_since
        if not self.is_alone:
            self._has_company = since == _SAID
            self._alone_since = None
            return False
        self._alone_since = now if since is None else since
        if since is None or since >= now - _SAY_AFTER:
            return False
        self._alone_since = _SAID
        return True

    def company_is_news(self) -> bool:
        """Return whether members answer again, after `alone_is_news` was true: once each time."""
        news, self._has_company = self._has_company, False
        return news

    def is_up(self, node_id: str) -> bool:
        """Return whether a member serves, and was heard lately."""
        return self._is(node_id, State.UP)

    def has_joined(self, node_id: str) -> bool:
        """Return whether a member serves, or with copies is there and is being filled, which may take long; or is there and
        waits for an operator's word.
        """
        fills = self._judge.document.replicas > 1 and self._is(node_id, State.FILLING)
        return fills or self.is_up(node_id) or self.waits_for_word(node_id)

    def _is(self, node_id: str, state: State) -> bool:
        """Return whether a member that the ring has is in this state, and was heard lately."""
        member = self._judge.document.member(node_id)
        call = self._judge.liveness.last(node_id)
        if member is None or call is None or call.incarnation != member.incarnation:
            return False
        return member.weight > 0 and member.state is state and self.answers(node_id)

    def waits_for_word(self, node_id: str) -> bool:
        """Return whether a member is there without what it had, and keys have no answer until that loss is accepted."""
        document = self._judge.document
        member = document.member(node_id)
        if member is None or not member.empty or not self.answers(node_id):
            return False
        return document.replicas == 1 or refused_loss(document, node_id, self._judge.placement) is None

    def loss_in(self, node_id: str) -> float | None:
        """Return the seconds after which the loss of a member that was accepted takes effect, None if none is to come."""
        return self._judge.loss_in(node_id, boot_time())

    @property
    def removals(self) -> dict[str, float]:
        """The members that are to be removed, each with the seconds until that begins."""
        return self._judge.removals(boot_time())

    def keys_of(self, node_id: str) -> int | None:
        """Return how many keys with a value a process has said that it holds, None if it says nothing now."""
        call = self._judge.liveness.last(node_id)
        return None if call is None or not self.answers(node_id) else call.records

    def filling_of(self, node_id: str) -> FillProgress | None:
        """Return how far a member is that is being filled, None if it is not, or does not say so now."""
        call = self._judge.liveness.last(node_id)
        return call.filling if call is not None and self._is(node_id, State.FILLING) else None
