"""The steps of a primary that takes over: it asks, waits, opens its lists and writes anew (T1, T2, T3);
and those towards a record that is damaged here.
"""

from collections.abc import Callable

from gkv.model import Damage, Record
from gkv.replication.desk import Desk
from gkv.replication.events import pair_of
from gkv.replication.granter import Granter
from gkv.replication.grants import Grants
from gkv.replication.messages import AskRecord, AskUnsettled, Hello
from gkv.replication.questions import RESEND
from gkv.replication.recovery import Recovered, Recoveries
from gkv.replication.takeover import Takeovers
from gkv.replication.writing import Writing


class Succession:
    """What one process does before it serves as a primary."""

    def __init__(self, desk: Desk, takeovers: Takeovers, grants: Grants, granter: Granter, writing: Writing) -> None:
        self._desk = desk
        self._takeovers = takeovers
        self._grants = grants
        self._granter = granter
        self._writing = writing
        self._asked_at: dict[str, float] = {}
        """By member, when it was asked for what keeps a takeover waiting."""
        self._recoveries = Recoveries(writing.lost, writing.recovering)
        self.on_recovered: Callable[[str, bool], None] = lambda _key, _given_up: None
        """Told of the end of each recovery: whether it was given up."""

    def adopt(self) -> None:
        """Go on under another document."""
        self._asked_at = {}
        self._recoveries.begin_anew()

    # -- taking over

    def go_on(self) -> bool:
        """Ask for what keeps lists closed (T1, T2), and open those that nothing keeps (T3); return whether any was opened."""
        desk, takeovers, grants = self._desk, self._takeovers, self._grants
        if not takeovers.busy:
            return False
        for granter in sorted(takeovers.unheard()):
            if self._may_ask(granter):
                desk.send(granter, AskUnsettled(desk.ask(granter)))
        for holder in sorted(set(grants.holders(desk.duties, desk.now))):
            if self._may_ask(holder):
                desk.send(holder, Hello(desk.ask(holder, owed=False)))
        if not takeovers.ready or not grants.clear(desk.duties, desk.now):
            return False
        duties = desk.duties
        opened = takeovers.open_ready()
        own: dict[object, set[str]] = {pair: set(named) for pair, named in opened.items()}
        for key in self._granter.unsettled(lambda key: pair_of(duties.roles_of(key)) in opened):
            own[pair_of(duties.roles_of(key))].add(key)
        for keys in own.values():
            self._write_anew(sorted(keys))
        return True

    def _may_ask(self, member: str) -> bool:
        if self._desk.now - self._asked_at.get(member, -RESEND) < RESEND:
            return False
        self._asked_at[member] = self._desk.now
        return True

    def _write_anew(self, keys: list[str]) -> None:
        """Write the own newest record of each key, or its absence, anew (T3)."""
        self._granter.forget(keys)
        found = [(key, record) for key, (record, _) in zip(keys, self._writing.newest(keys), strict=True)]
        self._writing.write_anew([(key, record) for key, record in found if not isinstance(record, Damage)])
        for key, record in found:
            if isinstance(record, Damage):
                self.recover(key)

    @property
    def wakes_at(self) -> float:
        """The time at which something may be due, if nothing else happens."""
        at = self._recoveries.wakes_at
        if self._takeovers.ready:
            at = min(at, self._grants.clear_at(self._desk.duties, self._desk.now))
        return at

    # -- damaged records

    def recover(self, key: str, but: str = "") -> None:
        """Ask all other acting members for a record that is damaged here, or lost, `but` for one of whom it is known that its
        own is damaged.
        """
        desk = self._desk
        others = tuple([one for one in desk.duties.roles_of(key).acting if one not in (desk.me, but)])
        if not others:
            self._recovered(self._recoveries.alone(key))
        elif self._recoveries.begin(key, others, desk.now):
            for other in others:
                number = desk.ask(other)
                self._recoveries.asked(key, other, number)
                desk.send(other, AskRecord(number, key))

    def found(self, member: str, number: int, record: Record | Damage | None) -> None:
        """Take in another member's record."""
        end = self._recoveries.found(member, number, record)
        if end is not None:
            self._recovered(end)

    def tick(self) -> None:
        """Give up what is not answered."""
        for end in self._recoveries.tick(self._desk.now):
            self._recovered(end)

    def _recovered(self, end: Recovered) -> None:
        pair = pair_of(self._desk.duties.roles_of(end.key))
        if not (end.given_up or end.void) and self._takeovers.reign(pair) is not None:
            record, _ = self._writing.newest([end.key])[0]
            if record is None or isinstance(record, Damage):  # a lost one was looked for as well
                self._writing.write_anew([(end.key, end.record)])
        self.on_recovered(end.key, end.given_up)
