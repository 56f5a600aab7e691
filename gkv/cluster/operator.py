"""The words of an operator about the ring: what is refused, what would follow, and what the judge is told.

A word that has not had its effect yet is forgotten at a restart of the authority; a change that has begun is in the document.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gkv.clock import boot_time
from gkv.cluster.document import Document, Layout, Member, State, default_min_in_sync
from gkv.cluster.forecast import Forecast, forecast
from gkv.cluster.judge import Judge
from gkv.cluster.refusals import refused, refused_wish
from gkv.cluster.replacement import only, replaced
from gkv.cluster.ring_change import Kind, RingChange, ring_change
from gkv.errors import ChangeUnderWay, MemberConflict, NoSuchMember, Overloaded
from gkv.pace import Pace

_MOST_FORECASTS = 8
"""Words whose effect is looked up at one time, one after the other: for a large ring each takes seconds."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A word that is granted, or would be."""

    epoch: int
    """Of the document to which it was said."""
    change: RingChange
    expected: Forecast | None
    """None where nothing moves."""
    begins_in: float = 0.0
    """Seconds: until a process that is removed can have promised nothing any more."""


class Operator:
    """The operator's side of a judge. `thread` calls a function that takes long in another thread, `news` has a look made soon.

    Each call with `dry_run` only says what would follow. All raise NoSuchMember, ChangeUnderWay, MemberConflict, InvalidMember
    or Overloaded, and switch greenlets.
    """

    def __init__(
        self,
        judge: Judge,
        thread: Callable[[Callable[[], Forecast]], Forecast],
        news: Callable[[], object],
        may_hold: Callable[[], Mapping[str, float] | None] = lambda: None,
    ) -> None:
        """`may_hold` returns the share of all keys that members may hold since the ring changed last (see `Forecast`)."""
        self._judge = judge
        self._may_hold = may_hold
        self._thread = thread
        self._news = news
        self._forecasts = 0
        """Those that are made, or waited for."""

    def remove(self, node_id: str, *, force: bool, dry_run: bool) -> Granted:
        """Have a member leave the ring, or one that is down removed."""
        document, now = self._judge.document, boot_time()
        member = self._member(node_id)
        pending = self._judge.removals(now)
        if node_id in pending and self._judge.wish.layout is None:  # the same word once more
            return self._granted(document, _without(document, node_id), pending[node_id])
        if not member.weight:
            return self._remove_rest(document, member, dry_run=dry_run)
        layout = _without(document, node_id)
        self._check(document, layout, force=force)
        if member.state is not State.DOWN:
            self._judge.change_ring(layout, dry_run=True)
            granted = self._granted(document, layout)
            if not dry_run:
                self._still(document)
                self._judge.change_ring(layout, node_id)
        else:
            self._judge.remove(node_id, now, dry_run=True)
            granted = self._granted(document, layout, self._judge.promised(node_id, now))
            if not dry_run:
                self._still(document)
                self._judge.remove(node_id, boot_time())
        return self._told(granted, dry_run=dry_run)

    def _remove_rest(self, document: Document, member: Member, *, dry_run: bool) -> Granted:
        """Let go of the line of a member that the ring does not have, if it is down."""
        if document.next is not None and member.id in dict(document.next.weights):
            self._free(document)
        if member.state is not State.DOWN:
            raise MemberConflict(f"{member.id} has left the ring already; its line goes when it holds nothing any more")
        self._judge.remove(member.id, boot_time(), dry_run=dry_run)
        change = RingChange(Kind.REMOVAL, (member.id,), f"{member.id} is removed")
        return self._told(Granted(document.epoch, change, None), dry_run=dry_run)

    def replace_member(self, node_id: str, newcomer: str, *, dry_run: bool) -> Granted:
        """Have a newcomer that calls in take the place of a member, in one change of the ring; that one leaves by it, or is
        removed if it is down.
        """
        document, now = self._judge.document, boot_time()
        member, calls = self._member(node_id), self._judge.liveness.recent(now)
        call = calls.get(newcomer)
        if not member.weight:
            self._free(document)
            raise MemberConflict(f"{node_id} has left the ring")
        if document.member(newcomer) is not None:
            raise MemberConflict(f"{newcomer} is a member already; DELETE /v1/cluster/nodes/{node_id} has {node_id} leave")
        layout = replaced(document, member, newcomer, "" if call is None else call.zone)
        self._check(document, layout, force=False)
        if call is None and not dry_run:
            raise MemberConflict(f"no process calls in as {newcomer}: start one with --standby --name {newcomer}")
        error = None if call is None else refused(document, replace(call, standby=False), calls)
        if error is not None:
            raise error
        down = member.state is State.DOWN
        if down:
            self._judge.remove(node_id, now, dry_run=True)
        self._judge.change_ring(layout, dry_run=True)
        granted = self._granted(document, layout, self._judge.promised(node_id, now))
        if not dry_run:
            self._still(document)
            if down:
                self._judge.remove(node_id, boot_time())
            self._judge.change_ring(layout, "" if down else node_id, removed=node_id if down else "")
        return self._told(granted, dry_run=dry_run)

    def change_member(self, node_id: str, *, weight: float | None, zone: str | None, dry_run: bool) -> Granted:
        """Give a member another weight or zone, or both; what is None stays."""
        member = self._member(node_id)
        document = self._judge.document
        if not member.weight:
            self._free(document)
            raise MemberConflict(f"{node_id} has left the ring")
        layout = document.layout
        weights, zones = dict(layout.weights), dict(layout.zones)
        if weight is not None:
            weights[node_id] = weight
        if zone is not None:
            zones[node_id] = zone
        zoned = tuple(sorted((one, name) for one, name in zones.items() if name))
        return self._change(document, replace(layout, weights=tuple(sorted(weights.items())), zones=zoned), dry_run=dry_run)

    def change_cluster(
        self, *, replicas: int | None, min_in_sync: int | None, vnodes: int | None = None, force: bool, dry_run: bool
    ) -> Granted:
        """Have another number of copies, of members without which a list takes no write, or of vnodes; what is None stays."""
        document = self._judge.document
        if min_in_sync is not None:
            self._check_min_in_sync(document, document.replicas if replicas is None else replicas, min_in_sync)
        granted = Granted(document.epoch, ring_change(document, document.layout), None)
        if replicas is not None or vnodes is not None:
            copies = document.replicas if replicas is None else replicas
            zones = tuple(document.zones.items())
            layout = replace(document.layout, replicas=copies, vnodes=vnodes or document.vnodes, zones=zones)
            granted = self._change(document, layout, force=force, dry_run=dry_run)
        if min_in_sync is not None:
            self._judge.set_min_in_sync(min_in_sync, dry_run=dry_run)
        return self._told(granted, dry_run=dry_run)

    def _check_min_in_sync(self, document: Document, replicas: int, number: int) -> None:
        """Raise MemberConflict unless a number may be set now, and is what it is to be when there are so many copies."""
        self._judge.set_min_in_sync(number, dry_run=True)
        then = min(number, replicas)
        if replicas != document.replicas and number == default_min_in_sync(document.replicas):
            then = default_min_in_sync(replicas)
        if then != number:
            raise MemberConflict(f"with {replicas} copies min_in_sync would become {then}; set it when there are {replicas}")

    def take_back(self, *, dry_run: bool) -> Granted:
        """Give up the change that is under way, or about to be: the ring stays as it is."""
        document = self._judge.document
        layout = self._to_come(document)
        if layout is None:
            raise MemberConflict("no change of the ring is under way")
        granted = Granted(document.epoch, ring_change(document, layout), None)
        if not dry_run:
            self._judge.take_back()
        return self._told(granted, dry_run=dry_run)

    def change_pace(self, wanted: Mapping[str, Any], *, dry_run: bool) -> tuple[Granted, Pace]:
        """Give the change that is under way, or about to be, another `rate`, or have it `paused`; return the pace that it will
        have.
        """
        document, judge = self._judge.document, self._judge
        layout = self._to_come(document)
        if layout is None or not document.has_ring:
            raise MemberConflict("no change of the ring is under way by which keys move")
        known = judge.wish.pace or document.pace
        pace = replace(known, **wanted)
        if not dry_run and pace != known:
            judge.wish.pace = pace
        return self._told(Granted(document.epoch, ring_change(document, layout), None), dry_run=dry_run), pace

    # -- what they have in common

    def _to_come(self, document: Document) -> Layout | None:
        """Return the ring that is to come, or is about to, None for no other."""
        if document.next is not None:
            return document.next
        pending = [_without(document, one) for one in self._judge.removals(boot_time())]
        return self._judge.wish.layout or next(iter(pending), None)

    def _member(self, node_id: str) -> Member:
        member = self._judge.document.member(node_id)
        if member is None:
            raise NoSuchMember(f"there is no member {node_id}")
        return member

    def _change(self, document: Document, layout: Layout, *, force: bool = False, dry_run: bool) -> Granted:
        self._check(document, layout, force=force)
        self._judge.change_ring(layout, dry_run=True)
        granted = self._granted(document, layout)
        if not dry_run and layout != document.layout:
            self._still(document)
            self._judge.change_ring(layout)
        return self._told(granted, dry_run=dry_run)

    def _check(self, document: Document, layout: Layout, *, force: bool) -> None:
        self._free(document)
        error = refused_wish(document, layout, force=force)
        if error is not None:
            raise error

    def _free(self, document: Document) -> None:
        """Raise ChangeUnderWay while the ring changes, or is about to."""
        if document.next is not None:
            what = ring_change(document, document.next).what
            raise ChangeUnderWay(
                f"the ring is changing since epoch {document.next_since}: {what}. DELETE /v1/cluster/change takes that back"
            )
        if self._judge.wish.layout is not None:
            raise ChangeUnderWay(f"the ring is about to change: {ring_change(document, self._judge.wish.layout).what}")
        for node_id, seconds in self._judge.removals(boot_time()).items():
            raise ChangeUnderWay(f"{node_id} is about to be removed, in {seconds:.0f} s")

    def _still(self, document: Document) -> None:
        """Raise ChangeUnderWay where the ring has become another one while the effect of a word was looked up."""
        now = self._judge.document
        self._free(now)
        if now.layout != document.layout:
            raise ChangeUnderWay("the ring has changed just now; nothing was begun")

    def _granted(self, document: Document, layout: Layout, begins_in: float = 0.0) -> Granted:
        placement, calls = self._judge.placement, self._judge.liveness.recent(boot_time())
        expected = None
        if layout != document.layout and placement is not None:
            expected = self._forecast(lambda: forecast(document, layout, placement, calls, self._may_hold()))
        return Granted(document.epoch, ring_change(document, layout), expected, begins_in)

    def _forecast(self, make: Callable[[], Forecast]) -> Forecast:
        if self._forecasts >= _MOST_FORECASTS:
            raise Overloaded("too many changes of the ring are being looked at", retry_after=1)
        self._forecasts += 1
        try:
            return self._thread(make)
        finally:
            self._forecasts -= 1

    def _told(self, granted: Granted, *, dry_run: bool) -> Granted:
        if not dry_run:
            self._news()
        return granted


def _without(document: Document, node_id: str) -> Layout:
    """Return the ring of a document without a member."""
    return only(document.layout, {one for one, _ in document.layout.weights if one != node_id})
