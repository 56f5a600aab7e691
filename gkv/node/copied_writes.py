"""Writes at a member that keeps copies: the machines decide, hand over and settle; here is what that means in a frame."""

from collections.abc import Callable, Sequence

from gkv.clock import boot_time
from gkv.model import Effect, NodeRefusal
from gkv.node.awaited import Awaited
from gkv.node.copies import Copies
from gkv.node.handler import Waiting, each_once
from gkv.node.judges import Judge, judge_of
from gkv.node.postponed import WRITTEN_WITHIN, Asked
from gkv.replication.actions import Answer, Fate, KeyAnswer
from gkv.replication.events import Plain, WriteAsked
from gkv.wire.ops import Add, Delete, Effects, NodeAnswer, Refused, Set, Touch

GRACE = 5.0
"""Seconds beyond a request's deadline after which its answer is not waited for any more."""

Write = Set | Delete | Add | Touch

_EFFECTS = {
    Fate.INDETERMINATE: Effect.INDETERMINATE,
    Fate.NOT_BEGUN: Effect.NOT_BEGUN,
    Fate.LATE: Effect.NOT_BEGUN,
    Fate.TOO_FEW_COPIES: Effect.TOO_FEW_COPIES,
    Fate.FULL: Effect.FULL_COPY,
    Fate.BUSY: Effect.BUSY,
    Fate.DAMAGED: Effect.UNREADABLE,
}
"""By fate, of keys for which there is nothing else to say."""


class CopiedWrites:
    """The handlers of requests that change keys."""

    def __init__(self, copies: Copies, within: float, begin: Callable[[Write], NodeAnswer | Waiting]) -> None:
        """`within` is for how many seconds a request may wait; `begin` begins one anew, by whatever counts then."""
        self._copies = copies
        self._within = within
        self._begin = begin

    def write(self, request: Set | Delete) -> NodeAnswer | Waiting:
        """Have the machines take in a set, a put or a delete."""
        if request.conditions:
            return self.decide(request)
        values = request.values if isinstance(request, Set) else [None] * len(request.keys)
        return self._ask(request, Plain(values, request.ttls if isinstance(request, Set) else ()))

    def decide(self, request: Write) -> NodeAnswer | Waiting:
        """Have the machines take in what depends on the records that are there."""
        try:
            judge = judge_of(request)
        except ValueError:
            return Refused(NodeRefusal.BAD_FRAME, detail="a condition cannot be read")
        return self._ask(request, judge)

    def _ask(self, request: Write, what: Plain | Judge) -> NodeAnswer | Waiting:
        if self._copies.rest.holds:
            return lambda: self._wait_while_held(request)
        keys: Sequence[str] = request.keys
        places: Sequence[int] | None = None
        once = each_once(keys)
        if once is not None:
            keys, places = once
            what = _at(what, places)
        asked: Awaited[Answer] = Awaited(self._within + GRACE)
        self._copies.handle(WriteAsked(asked, keys, what, boot_time() + self._within))

        def answer(told: Answer | None) -> NodeAnswer:
            return Refused(NodeRefusal.FAILED) if told is None else _answer(request, places, told)

        return Asked(asked, WRITTEN_WITHIN, answer) if asked.value is None else answer(asked.value)

    def _wait_while_held(self, request: Write) -> NodeAnswer | Waiting:
        self._copies.rest.wait()
        return self._begin(request)


def _at(what: Plain | Judge, places: Sequence[int]) -> Plain | Judge:
    """Return the same of some items of a request."""
    if isinstance(what, Plain):
        ttls = [what.ttls[place] for place in places] if what.ttls else ()
        return Plain([what.values[place] for place in places], ttls)
    return lambda place, found, now: what(places[place], found, now)


def _answer(request: Write, places: Sequence[int] | None, answer: Answer) -> NodeAnswer:
    """Say for each item of a request what became of it; `places` are those that were handed over, None for all."""
    effects = answer.effects
    if effects and places is None and Effect.KEPT not in effects:
        return Effects.of(effects, answer.version)
    keys = answer.each
    told = [_effect(one) for one in keys]
    if places is not None:
        by_place = sorted(zip(places, told, keys, strict=True), key=lambda one: one[0])
        told = [Effect.SUPERSEDED] * len(request.keys)
        for place, effect, _ in by_place:
            told[place] = effect
        keys = [one for _, _, one in by_place]
    present, sums, full = [], [], []
    for one in keys:
        if one.fate is Fate.FULL:
            full.append(one.member)
        elif one.fate is Fate.NOTHING and one.verdict is not None and one.verdict.effect is Effect.CONDITION:
            present.append(one.verdict.present)
        elif one.fate is Fate.WRITTEN and one.verdict is not None and one.verdict.total is not None:
            sums.append(one.verdict.total)
    written = any(one.fate is Fate.WRITTEN for one in keys)
    return Effects.of(told, answer.version if written else None, present, sums, full)


def _effect(one: KeyAnswer) -> Effect:
    """Return what became of a key."""
    if one.fate is Fate.WRITTEN:
        # Unknown where the write was settled by a later one before its own disk had it.
        return one.effect if one.effect is not None and one.effect is not Effect.KEPT else Effect.ACCEPTED
    if one.fate is Fate.NOTHING and one.verdict is not None and one.verdict.effect is not None:
        return one.verdict.effect
    return _EFFECTS[one.fate]
