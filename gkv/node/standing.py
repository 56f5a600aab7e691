"""The lines of a node about its own place in the cluster, one for each change of it."""

from collections.abc import Callable

from gkv.cluster.document import State
from gkv.cluster.view import View
from gkv.log import as_debug, as_warning, named, say


class Standing:
    """Looks at each document that comes into force at a node. `is_stopping` tells whether the process has been asked to end."""

    def __init__(self, node_id: str, view: View, is_stopping: Callable[[], bool]) -> None:
        self._node_id = node_id
        self._view = view
        self._is_stopping = is_stopping
        self._before: State | None = None
        """Of this very process, None while no document has named it."""
        self._named = False
        """Whether a document had a line of this member."""
        view.watchers.add(self._look)

    def _look(self) -> None:
        view = self._view
        document, line, before = view.document, view.line, self._before
        if document is None:
            return
        self._say(as_debug(f"the document of generation {document.generation}, epoch {document.epoch} is in force"))
        self._before = None if line is None else line.state
        was_named, self._named = self._named, document.member(self._node_id) is not None
        if was_named and not self._named:
            self._say(as_warning("it is no member any more"))
        elif self._before is not before and self._before is not None:
            self._say(self._words(self._before, f"since epoch {document.epoch}", with_copies=document.replicas > 1))

    def _words(self, state: State, since: str, *, with_copies: bool) -> str:
        if state is State.UP:
            return f"up {since}"
        if state is State.DOWN:
            words = f"down {since}: it answers for no key until it has been let in again"
            return f"down {since}, as it is being stopped" if self._is_stopping() else as_warning(words)
        if with_copies:
            return f"filling {since}: it is made equal to the others that have its keys"
        return f"let in {since}"

    def _say(self, line: str) -> None:
        say(named(self._node_id, line))
