"""Writes at a node: each is decided on the newest record, admitted, and answered with what it did to each key."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from gkv.cluster.view import View
from gkv.engine import Pending
from gkv.errors import GkvError, Unavailable
from gkv.model import Effect, NodeRefusal, Op, Value, Version
from gkv.node.handler import COMMIT_WITHIN, Waiting, each_once, not_admitted, or_refused, refused_for
from gkv.node.judges import Judge, judge_of
from gkv.node.order import Order, waited_for
from gkv.node.reads import ATTEMPTS, settled
from gkv.replication.admission import Verdict
from gkv.wire.ops import Add, Delete, Effects, NodeAnswer, Refused, Set, Touch, WriteRequest


class Writes:
    """Writes in the one order of their keys."""

    def __init__(self, view: View, order: Order) -> None:
        self._view = view
        self._order = order

    def write(self, request: Set | Delete) -> NodeAnswer | Waiting:
        """Admit a set, a put or a delete."""
        if request.conditions:
            return self.decide(request)
        keys = request.keys
        now = self._order.clock.now()
        values: Sequence[Value | None] = request.values if isinstance(request, Set) else [None] * len(keys)
        expires = [now + ttl if ttl else 0 for ttl in request.ttls] if isinstance(request, Set) and request.ttls else ()
        places = None
        once = each_once(keys)
        if once is not None:
            keys, places = once
            values = [values[place] for place in places]
            expires = [expires[place] for place in places] if expires else ()
        try:
            pending = self._order.submit(request.era, keys, values, expires, now=now, counted=request.op is Op.PUT)
        except GkvError as error:
            return refused_for(error)
        if pending.early:
            return _effects([Effect.ACCEPTED] * len(keys), pending.write.version, len(request.keys), places)

        def wait_for_it() -> NodeAnswer:
            return _effects(pending.wait(monotonic() + COMMIT_WITHIN), pending.write.version, len(request.keys), places)

        return or_refused(wait_for_it) if pending.done else lambda: or_refused(wait_for_it)

    def decide(self, request: Set | Delete | Add | Touch) -> NodeAnswer | Waiting:
        """Decide about each item, and admit what is to be written, in one step."""
        try:
            judge = judge_of(request)
        except ValueError:
            return Refused(NodeRefusal.BAD_FRAME, detail="a condition cannot be read")
        try:
            decided = self._admit(request, judge)
        except GkvError as error:
            return refused_for(error)
        if decided.own is None and not decided.seen:
            return decided.answer(())
        return partial(or_refused, partial(self._finish, request, judge, decided))

    def _admit(self, request: WriteRequest, judge: Judge) -> "_Decided":
        if request.era != self._view.admits:  # what fails by its condition is answered under this document too
            raise not_admitted(self._view, request.era)
        order, now = self._order, self._order.clock.now()
        places = dict(zip(request.keys, range(len(request.keys)), strict=True))  # the last item of a key is the one that counts
        found = order.newest(list(places))
        decided = _Decided(len(request.keys), seen=waited_for(found))
        keys: list[str] = []
        values: list[Value | None] = []
        expires: list[int] = []
        for (key, place), newest in zip(places.items(), found, strict=True):
            verdict = judge(place, newest[0], now)
            decided.verdicts[place] = verdict
            if verdict.effect is None or verdict.expired:
                keys.append(key)
                values.append(verdict.value)
                expires.append(verdict.expires)
                decided.written.append(place)
        if keys:
            decided.own = order.submit(
                request.era, keys, values, expires if any(expires) else (), now=now, counted=True, after=list(decided.seen)
            )
        return decided

    def _finish(self, request: WriteRequest, judge: Judge, decided: "_Decided") -> NodeAnswer:
        """Answer when what was written is settled, and what was decided on. Switches greenlets."""
        deadline = monotonic() + COMMIT_WITHIN
        left = ATTEMPTS
        while decided.own is None:
            if settled(decided.seen, deadline):
                return decided.answer(())
            # The write that was seen there has come to nothing, so the decision is made anew.
            left -= 1
            if not left:
                raise Unavailable("what was decided on has come to nothing again and again", retry_after=1)
            decided = self._admit(request, judge)
        return decided.answer(decided.own.wait(deadline))


@dataclass(slots=True)
class _Decided:
    """The decisions about the items of a request: by place in it, and the write of those that are written."""

    count: int
    seen: set[Pending]
    """Writes that something was decided on."""
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    written: list[int] = field(default_factory=list)
    """Places of the items of `own`, in its order."""
    own: Pending | None = None

    def answer(self, effects: Sequence[Effect]) -> Effects:
        """Say what became of the items; `effects` are those of `own`."""
        told = [Effect.SUPERSEDED] * self.count
        for place, verdict in self.verdicts.items():
            if verdict.effect is not None:
                told[place] = verdict.effect
        for place, effect in zip(self.written, effects, strict=True):
            if self.verdicts[place].effect is None:
                told[place] = effect
        verdicts = [self.verdicts[place] for place in sorted(self.verdicts)]
        present = [verdict.present for verdict in verdicts if verdict.effect is Effect.CONDITION]
        totals = [verdict.total for verdict in verdicts if verdict.total is not None]
        return Effects.of(told, self._version, present, totals)

    @property
    def _version(self) -> Version | None:
        """The version of the client's write; tombstones of what is due are none."""
        is_written = any(verdict.effect is None for verdict in self.verdicts.values())
        return self.own.write.version if self.own is not None and is_written else None


def _effects(known: Sequence[Effect], version: Version, count: int, places: Sequence[int] | None) -> Effects:
    """Say for each of `count` items what it did; `places` are those that were written, None for all."""
    if places is None:
        return Effects.of(known, version)
    effects = [Effect.SUPERSEDED] * count
    for place, effect in zip(places, known, strict=True):
        effects[place] = effect
    return Effects.of(effects, version)
