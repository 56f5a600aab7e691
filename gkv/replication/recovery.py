"""A record that is damaged at its primary: the greatest intact copy that another acting member has is written anew, as a
takeover does. Where none of the others has any record, there is none: an acting member has all that is settled. A key that is
written meanwhile makes the recovery void, as the answers may be older than that write, whose record may be damaged by now as
well. A key whose record nobody could give is lost until it is written, or another document is in force.
"""

from dataclasses import dataclass, field

from gkv.model import Damage, Record

PATIENCE = 1.0
"""Seconds after which a member that does not answer has no copy."""


@dataclass(slots=True)
class _Recovering:
    """One key."""

    began: float
    unheard: set[str]
    best: Record | None = None
    damaged: bool = False
    """Whether some copy is damaged, so that there was a record."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The end of a recovery."""

    key: str
    record: Record | None
    """The greatest intact one."""
    absent: bool = False
    """Whether all others say that there is none."""
    void: bool = False
    """Whether the key was written meanwhile, so that all this says nothing."""

    @property
    def given_up(self) -> bool:
        """Whether it is unknown what was there."""
        return self.record is None and not (self.absent or self.void)


@dataclass(slots=True)
class Recoveries:
    """All keys whose record is being recovered, under the document of now."""

    lost: set[str] = field(default_factory=set)
    """Keys of recoveries that were given up. Whoever admits a write of one takes it out."""
    unwritten: set[str] = field(default_factory=set)
    """Keys of recoveries that go on. Whoever admits a write of one takes it out, which makes its recovery void."""
    _keys: dict[str, _Recovering] = field(default_factory=dict)
    _numbers: dict[int, tuple[str, str]] = field(default_factory=dict)
    """By number of a question, who was asked, and for which key."""

    def begin(self, key: str, others: tuple[str, ...], now: float) -> bool:
        """Begin with a key unless that is so already; return whether it has begun, so that the others are to be asked."""
        if key in self._keys and key in self.unwritten:
            return False
        self._forget(key)
        self.unwritten.add(key)
        self._keys[key] = _Recovering(now, set(others))
        return True

    def asked(self, key: str, member: str, number: int) -> None:
        """Note the number of a question about a key."""
        self._numbers[number] = member, key

    def found(self, member: str, number: int, record: Record | Damage | None) -> Recovered | None:
        """Take in an answer; return the end if it is the last one."""
        asked, key = self._numbers.get(number, ("", ""))
        recovering = self._keys.get(key) if asked == member else None
        if recovering is None:
            return None
        del self._numbers[number]
        recovering.unheard.discard(member)
        if isinstance(record, Record) and (recovering.best is None or recovering.best.version < record.version):
            recovering.best = record
        recovering.damaged = recovering.damaged or isinstance(record, Damage)
        if recovering.unheard:
            return None
        return self._end(key, recovering.best, absent=recovering.best is None and not recovering.damaged)

    def tick(self, now: float) -> list[Recovered]:
        """Return the ends of those for which somebody has not answered."""
        late = [key for key, one in self._keys.items() if now - one.began >= PATIENCE]
        return [self._end(key, None) for key in late]

    def _end(self, key: str, record: Record | None, *, absent: bool = False) -> Recovered:
        void = key not in self.unwritten
        self._forget(key)
        return self._noted(Recovered(key, record, absent, void))

    def _forget(self, key: str) -> None:
        if self._keys.pop(key, None) is not None:
            self._numbers = {number: of for number, of in self._numbers.items() if of[1] != key}
            self.unwritten.discard(key)

    def alone(self, key: str) -> Recovered:
        """Return the end for a key that nobody else could have."""
        return self._noted(Recovered(key, None))

    def _noted(self, end: Recovered) -> Recovered:
        if end.given_up:
            self.lost.add(end.key)
        return end

    def begin_anew(self) -> None:
        """Forget all, as a new document is in force: who needs a record asks again."""
        self._keys, self._numbers = {}, {}
        self.lost.clear()
        self.unwritten.clear()

    @property
    def wakes_at(self) -> float:
        return min((one.began + PATIENCE for one in self._keys.values()), default=float("inf"))
