"""The change of the ring that is under way, watched: how far it is, how fast, and what is left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import gevent

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document
from gkv.cluster.forecast import Forecast, forecast, seconds_of
from gkv.cluster.placement import Placement
from gkv.cluster.ring_change import RingChange, ring_change
from gkv.log import say
from gkv.pace import USUAL_PACE, Pace

T = TypeVar("T")

_EVERY = 0.5
"""Seconds between two looks."""
_SAID_EVERY = 10.0
"""Seconds between two lines about a change that takes long."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a change."""

    change: RingChange
    since: int
    """The epoch at which it began."""
    nodes: Mapping[str, float]
    """By id, of each member that is filled by it, the share that is done."""
    share: float
    """That is done in all."""
    taken: int
    """Records that were taken, as far as they were watched."""
    rate: float
    """Records taken a second, since it has had its pace of now."""
    left: float | None
    """Seconds until it ends, about; None while that is not known, and while it is paused."""
    pace: Pace

    @property
    def line(self) -> str:
        """The line about it in the log."""
        if self.pace.paused:
            return f"the change of the ring is paused ({self.change.what}): {self.share:.0%} done, {self.taken} records taken"
        left = "" if self.left is None else f", about {self.left:.0f} s are left"
        return (
            f"the ring is changing ({self.change.what}): {self.share:.0%} done, {self.taken} records taken, "
            f"{self.rate:.0f} a second{left}"
        )


@dataclass(slots=True)
class _Node:
    """A member that is filled."""

    share: float = 0.0
    taken: int = 0
    """Since it was watched first."""
    counted: int | None = None
    """The count that its process said last."""


@dataclass(slots=True)
class _Watched:
    """One change."""

    change: RingChange
    order: tuple[int, int]
    """Generation, and the epoch at which it began."""
    expected: Forecast
    nodes: dict[str, _Node] = field(default_factory=dict)
    began_with: float = 0.0
    """The share that was done when it had its pace of now."""
    pace: Pace = USUAL_PACE
    paced_at: float = 0.0
    """When that was seen first."""
    paced_with: int = 0
    """Records that were taken by then."""
    seconds: float | None = None
    """That all of it takes at that pace, as far as is known before."""

    @property
    def taken(self) -> int:
        return sum(node.taken for node in self.nodes.values())


class ChangeWatch:
    """The watch over changes. `thread` calls a function that takes long in another thread."""

    def __init__(self, thread: Callable[[Callable[[], Forecast]], Forecast]) -> None:
        self._thread = thread
        self._watched: _Watched | None = None
        self._looking: gevent.Greenlet[..., None] | None = None
        """The look that is made just now."""
        self.may_hold: Mapping[str, float] | None = None
        """By id, the share of all keys that members may hold since the ring changed last (see `Forecast`)."""
        self._looked = self._said = float("-inf")
        self._now = 0.0

    def begin_look(self, document: Document, placement: Placement | None, calls: Mapping[str, CallIn], now: float) -> None:
        """Have a look made, and its line said, unless one goes on: at the beginning of a change that takes seconds in a large
        ring, and whoever decides about members is not to wait for it.
        """
        if self._looking is None or self._looking.ready():
            self._looking = gevent.spawn(self._look_and_say, document, placement, calls, now)

    def _look_and_say(self, document: Document, placement: Placement | None, calls: Mapping[str, CallIn], now: float) -> None:
        if line := self.look(document, placement, calls, now):
            say(line)

    def look(self, document: Document, placement: Placement | None, calls: Mapping[str, CallIn], now: float) -> str | None:
        """Take in what members say of themselves; return the line that is due about that. Switches greenlets when a change has
        begun.
        """
        layout = document.next
        if layout is None or placement is None:
            self._watched = None
            return None
        order = document.generation, document.next_since
        if self._watched is None or self._watched.order != order:
            expected = self._thread(lambda: forecast(document, layout, placement, calls, self.may_hold))
            self.may_hold = expected.may_hold
            self._watched = _Watched(ring_change(document, layout), order, expected)
            self._note(self._watched, document, calls)
            self._pace(self._watched, document, calls, now)
            self._looked = self._said = self._now = now
        elif document.pace != self._watched.pace:
            self._note(self._watched, document, calls)
            self._pace(self._watched, document, calls, now)
            self._looked = self._now = now
        elif now - self._looked >= _EVERY:
            self._note(self._watched, document, calls)
            self._looked = self._now = now
        if now - self._said < _SAID_EVERY:
            return None
        self._said = now
        progress = self.progress
        return None if progress is None else progress.line

    @property
    def expected(self) -> Forecast | None:
        """The forecast of the change that is under way, None if there is none."""
        return None if self._watched is None else self._watched.expected

    @property
    def progress(self) -> Progress | None:
        """The progress of the change that is under way, None if there is none."""
        watched = self._watched
        if watched is None:
            return None
        share, spent = self._share(watched), self._now - watched.paced_at
        taken, left = watched.taken, watched.seconds
        if left is not None:
            left *= 1 - share
        if spent >= 1 and share > watched.began_with:
            left = spent * (1 - share) / (share - watched.began_with)
        if watched.pace.paused:
            left = None
        rate = (taken - watched.paced_with) / spent if spent else 0.0
        nodes = {node_id: round(node.share, 4) for node_id, node in sorted(watched.nodes.items())}
        return Progress(watched.change, watched.order[1], nodes, share, taken, rate, left, watched.pace)

    def _pace(self, watched: _Watched, document: Document, calls: Mapping[str, CallIn], now: float) -> None:
        """Reckon anew from now on, as the change has begun, or goes on at another pace."""
        watched.pace, watched.paced_at, watched.paced_with = document.pace, now, watched.taken
        watched.began_with = self._share(watched)
        watched.seconds = seconds_of(watched.expected.flows, calls, document.pace.rate)

    def _share(self, watched: _Watched) -> float:
        gains = watched.expected.gains
        total = sum(gains.values())
        return sum(gain * watched.nodes[one].share for one, gain in gains.items()) / total if total else 1.0

    def _note(self, watched: _Watched, document: Document, calls: Mapping[str, CallIn]) -> None:
        for node_id in watched.expected.gains:
            node = watched.nodes.setdefault(node_id, _Node())
            call = calls.get(node_id)
            if call is None:
                continue
            if call.filling is not None:
                node.share = call.filling.share
                if node.counted is None or call.filling.taken < node.counted:  # another process counts from 0 on
                    node.counted = call.filling.taken if node.counted is None else 0
                node.taken += call.filling.taken - node.counted
                node.counted = call.filling.taken
            elif call.ready and call.has(document):
                node.share = 1.0
