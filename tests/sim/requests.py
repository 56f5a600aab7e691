"""The calls of clients at one process of a member: given to its machine, and answered as that says."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gkv.model import Damage, Effect, Record, Version
from gkv.replication import actions, events
from gkv.replication.admission import Verdict, judge_add, judge_touch, judge_write
from gkv.replication.expiry import is_due
from tests.linearizability.history import Kind
from tests.sim import rules
from tests.sim.clients import NOT_SENT, Proxy, Replies, Reply, Request, Said

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.world import World


class Requests:
    """Those that have no answer yet."""

    def __init__(self, world: "World", member: "Member") -> None:
        self._world = world
        self._member = member
        self._asked: dict[object, tuple[Request, Callable[[Replies], None], list[Version | None]]] = {}
        self._numbers = 0

    def close(self) -> None:
        """Break the connections of clients."""
        for _, answer, _ in self._asked.values():
            answer(())
        self._asked.clear()

    def take(self, proxy: Proxy, request: Request, answer: Callable[[Replies], None]) -> None:
        """Take in a client's call, if it was routed by the document that is in force here."""
        member = self._member
        mine = member.document
        if mine is None or request.document.order != mine.order:
            if mine is not None and request.document.order < mine.order:
                proxy.adopt(mine)
            elif mine is not None:
                member.show(request.document)
            answer((NOT_SENT,) * len(request.keys))
            return
        self._numbers += 1
        number = self._numbers
        self._asked[number] = (request, answer, [self._world.facts.read.get(key) for key in request.keys])
        deadline = member.clock.boot() + request.within
        if request.kind is Kind.READ:
            at_once = self._at_once(number, request)
            if at_once is not None:
                self.answer(at_once)
                return
            member.handle(events.ReadAsked(number, request.keys, deadline))
        else:
            member.handle(events.WriteAsked(number, request.keys, self._what(request), deadline))

    def _at_once(self, number: int, request: Request) -> actions.Answer | None:
        """Return the answer to a read that may be told at once, as processes do: by what is on the disk alone."""
        member = self._member
        replica = member.replica
        records = member.engine.committed(request.keys)
        now, until = member.clock.boot(), replica.reads_until
        time_of_day = member.due.at(int(now * 1000))
        intact = [record for record in records if not isinstance(record, Damage)]
        if len(intact) < len(records) or any(record is not None and is_due(record, time_of_day) for record in intact):
            return None
        if not replica.is_settled(request.keys) or now >= until:
            return None
        assert member.duties is not None
        if until - now < member.duties.lease / 2:
            member.handle(events.LeasesWanted())
        return actions.Answer(number, tuple([actions.KeyAnswer(actions.Fate.READ, record) for record in intact]))

    def _what(self, request: Request) -> events.Plain | events.Judge:
        if request.kind is Kind.PUT and request.demand is None:
            return events.Plain([request.value] * len(request.keys), [request.ttl] * len(request.keys))
        expires = self._member.clock.wall() + request.ttl if request.ttl else 0

        def judge(place: int, found: object, now: int) -> Verdict:
            record = found
            assert record is None or isinstance(record, Record)
            if request.kind is Kind.ADD:
                return judge_add(record, now, 1, None)
            if request.kind is Kind.TOUCH:
                return judge_touch(record, now, expires)
            return judge_write(record, now, request.demand, request.value, expires)

        return judge

    def answer(self, action: actions.Answer) -> None:
        """Answer a client as the machine says."""
        request, answer, since = self._asked.pop(action.client)
        told = [
            self._told(request, key, one, action, since[place])
            for place, (key, one) in enumerate(zip(request.keys, action.each, strict=True))
        ]
        answer(tuple(told))

    def _told(self, request: Request, key: str, one: actions.KeyAnswer, action: actions.Answer, since: Version | None) -> Reply:
        world = self._world
        fate, record = one.fate, one.record
        if fate in (actions.Fate.READ, actions.Fate.NOTHING) and len(request.keys) == 1:
            rules.alone(world, self._member, key)  # of a batch, what was read early may be told late
        if fate is actions.Fate.READ:
            rules.read(world, key, record, since)
            if record is None or record.value is None:
                return Reply(Said.MISSING)
            return Reply(Said.DONE, record.value, record.tag)
        if fate is actions.Fate.NOTHING:
            verdict = one.verdict
            assert verdict is not None
            if verdict.effect is Effect.CONDITION:
                return Reply(Said.CONDITION, version=verdict.present)
            return Reply(Said.MISSING if verdict.effect is Effect.MISSING else Said.WRONG_TYPE)
        if fate is actions.Fate.WRITTEN:
            assert action.version is not None
            rules.acknowledged(world, self._member, key, action.version)
            return Reply(Said.DONE, None, action.version)
        return Reply(_FATES[fate])


_FATES = {
    actions.Fate.INDETERMINATE: Said.INDETERMINATE,
    actions.Fate.NOT_BEGUN: Said.NOTHING_BEGUN,
    actions.Fate.LATE: Said.NOTHING_BEGUN,
    actions.Fate.TOO_FEW_COPIES: Said.NOTHING_BEGUN,
    actions.Fate.BUSY: Said.NOTHING_BEGUN,
    actions.Fate.DAMAGED: Said.NOTHING_BEGUN,
    actions.Fate.FULL: Said.NOTHING_BEGUN,
}
