"""The word of a process that may serve nothing, since its records are of a later era than the cluster's document."""

from gkv.cluster.view import View
from gkv.log import as_error, say
from gkv.model import split_era


class Outdated:
    """Looks at each document that comes into force at a node, and says once that it is older than what is here."""

    def __init__(self, node_id: str, view: View) -> None:
        self._node_id = node_id
        self._view = view
        self._said = False
        view.watchers.add(self._look)

    def _look(self) -> None:
        view = self._view
        document, said = view.document, self._said
        self._said = view.outdated
        if document is None or not view.outdated or said:
            return
        generation, epoch = split_era(view.records_era)
        say(
            as_error(
                f"{self._node_id}: it serves nothing, as the cluster's document (generation {document.generation}, epoch "
                f"{document.epoch}) is not later than its records (generation {generation}, epoch {epoch}). The proxy has one "
                "from before them: start it with the directory that has the newest one, or this node with a new one"
            )
        )
