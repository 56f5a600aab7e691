"""The presence of members, as an authority has heard of it."""

from gkv.clock import boot_time
from gkv.cluster.document import State
from gkv.cluster.judge import Judge
from gkv.cluster.refusals import refused_loss


class Attendance:
    """The knowledge of a judge about processes, for those who ask. Nothing here waits."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def answers(self, node_id: str) -> bool:
        """Return whether a process under this name was heard lately."""
        return self._judge.liveness.is_up(node_id, boot_time())

    def is_up(self, node_id: str) -> bool:
        """Return whether a member serves, and was heard lately."""
        member = self._judge.document.member(node_id)
        call = self._judge.liveness.last(node_id)
        if member is None or call is None or call.incarnation != member.incarnation:
            return False
        return member.weight > 0 and member.state is State.UP and self.answers(node_id)

    def waits_for_word(self, node_id: str) -> bool:
        """Return whether a member is there without what it had, and keys have no answer until that loss is accepted."""
        document = self._judge.document
        member = document.member(node_id)
        if member is None or not member.empty or not self.answers(node_id):
            return False
        return document.replicas == 1 or refused_loss(document, node_id, self._judge.placement) is None

    def keys_of(self, node_id: str) -> int | None:
        """Return how many keys with a value a process has said that it holds, None if it says nothing now."""
        call = self._judge.liveness.last(node_id)
        return None if call is None or not self.answers(node_id) else call.records
