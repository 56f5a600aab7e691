"""The documents that other members show, when they speak under a later one (M1)."""

import gevent

from gkv.cluster.view import View
from gkv.errors import GkvError
from gkv.log import as_warning, named, say
from gkv.node.transport import Transport


class Fetching:
    """Fetches one document at a time from each member, and has it taken over."""

    def __init__(self, me: str, view: View, transport: Transport) -> None:
        self._me = me
        self._view = view
        self._transport = transport
        self._under_way: set[str] = set()
        self._said = ""

    def begin(self, member: str) -> None:
        """Take over the document that another member has, unless that goes on already. Does not wait."""
        if member not in self._under_way:
            self._under_way.add(member)
            gevent.spawn(self._fetch, member)

    def _fetch(self, member: str) -> None:
        try:
            document = self._transport.show(member)
            if document is not None:
                self._view.learn(document)
        except GkvError as error:
            line = f"the document that {member} shows cannot be taken over: {error}"
            if line != self._said:  # as it is shown again and again
                self._said = line
                say(as_warning(named(self._me, line)))
        finally:
            self._under_way.discard(member)
