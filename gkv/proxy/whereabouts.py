"""The word of a proxy to its members about where it is: they call in at the address that they know, and it may have another.

Promises: members of this cluster that are not heard are told again and again, and nobody else; a member calls there only while
nobody answers where it calls (`gkv.cluster.proxies`). Leaves to others: who may tell that (members' calls show a token). A
member that has moved at the same time is not found by this: one of both has to have a name, or be told where the other is.
"""

import gevent

from gkv.cluster.authority import Authority
from gkv.cluster.restored import awaits_its_first_process
from gkv.coordinator import Channels
from gkv.model import Node

_EVERY = 1.0
_WITHIN = 1.0


class Whereabouts:
    """The address of a proxy, told to members that do not call."""

    def __init__(self, authority: Authority, channels: Channels, url: str) -> None:
        self._authority = authority
        self._channels = channels
        self._url = url

    @property
    def _unheard(self) -> list[Node]:
        answers = self._authority.attendance.answers
        members = self._authority.document.members
        return [one.node for one in members if not (answers(one.id) or awaits_its_first_process(one))]

    def run(self) -> None:
        """Tell those that are not heard, for ever. Switches greenlets."""
        while True:
            if nodes := self._unheard:
                self._channels.tell(self._authority.document.cluster, self._url, nodes, _WITHIN)
            gevent.sleep(_EVERY)
