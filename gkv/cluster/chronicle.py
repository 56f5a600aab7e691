"""The past of members since an authority's start: in the log, and counted."""

from collections import Counter
from collections.abc import Iterable

from gkv.cluster import news
from gkv.cluster.attendance import Attendance
from gkv.cluster.coverage import Coverage
from gkv.cluster.departures import gone
from gkv.cluster.document import Document
from gkv.log import as_debug, say


class Chronicle:
    """Says what has become of members, and counts how often they went. Nothing here waits."""

    def __init__(self) -> None:
        self._evictions: Counter[str] = Counter()

    def evictions(self, node_id: str) -> int:
        """Return how often a member went down."""
        return self._evictions[node_id]

    def look(self, attendance: Attendance, now: float) -> None:
        """Say whether anybody is there, when that has changed for a while; no document would tell."""
        if attendance.alone_is_news(now):
            say(news.ALONE)
        if attendance.company_is_news():
            say(news.BACK)

    def changed(self, before: Document, after: Document, departures: Iterable[str], coverage: Coverage | None) -> None:
        """Note that a document is in force; `departures` says why members have gone, `coverage` is None with one copy."""
        self._evictions.update(gone(before, after))
        for one in self._evictions.keys() - {member.id for member in after.members}:
            del self._evictions[one]
        for line in [*departures, *news.of_changes(before, after, coverage), *news.of_ring(before, after)]:
            say(line)
        say(as_debug(f"the document of generation {after.generation}, epoch {after.epoch} is in force"))
