"""The search for an order of the operations on one key that explains every answer.

It is that of Wing and Gong (Testing and verifying concurrent objects, 1993) as Lowe made it fast
(Testing for linearizability, 2017): calls and returns are gone through in time; a *configuration*
says which of the operations under way have taken effect, and what is there then. An operation takes
effect as late as can be, just before the return of one that needs it.

Writes of unknown outcome stay under way for ever, so much is done not to try them in vain:

- A configuration that differs from another one only in having used up more of them is not followed.
- Only those are tried that an operation under way may need.
- Writes of which nobody can tell one from the other from now on are alike: the oldest goes first.
- A write that makes what was there before disappear does not come right after another one of them.
- A write on condition of a version that cannot come back is forgotten, as is one that has certainly
  taken effect.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from tests.linearizability.history import NEVER, Ending, Expiry, Kind, Operation, integer
from tests.linearizability.needs import UNSEEN, UNSEEN_INTEGER, Needs, Wanted
from tests.linearizability.register import MISSING, State, after

MAX_STEPS = 3_000_000
"""Operations that are tried in one search; a good history takes some ten for each that it has."""
DUE = Expiry()
"""An expiry that may come at any moment."""


class GaveUp(Exception):
    """The search for an order takes too long, so nothing is known."""


class Loose:
    """A write of unknown outcome, from its call on."""

    def __init__(self, bit: int, operation: Operation, seen_until: float) -> None:
        self.bit = bit
        self.operation = operation
        self._seen_until = seen_until
        self._due_from = NEVER if operation.expiry is None else operation.expiry.earliest
        self.effect = operation

    def look(self, now: float) -> None:
        """Let `effect` be what it does from now on: a value that nobody is going to see is any such
        value.
        """
        one = self.effect
        if self._seen_until < now and one.kind is Kind.PUT:
            self._seen_until = NEVER
            one = replace(one, value=UNSEEN if integer(one.value) is None else UNSEEN_INTEGER)
        if self._due_from <= now:
            self._due_from = NEVER
            one = replace(one, expiry=DUE)
        self.effect = one


def overwrites(one: Operation) -> bool:
    """Return whether what was there before makes no difference to an operation."""
    return (
        one.kind in (Kind.PUT, Kind.DELETE)
        and one.ending in (Ending.DONE, Ending.UNKNOWN)
        and not (one.condition or one.existed is not None)
    )


@dataclass(slots=True)
class Alike:
    """Writes of unknown outcome that do the same from now on, the oldest first."""

    effect: Operation
    bits: list[int]
    mask: int

    def canonical(self, used: int) -> int:
        """Return a set of used ones with the oldest of these in place of those that are in it."""
        count = (used & self.mask).bit_count()
        return used & ~self.mask | sum(self.bits[:count])


Configuration = tuple[int, State]
"""The operations under way that have taken effect, as bits, without those of unknown outcome; and
what is there then.
"""


class Antichains:
    """For each configuration the least sets of unknown outcomes that were used up to come there."""

    def __init__(self) -> None:
        self.sets: dict[Configuration, list[int]] = {}

    def add(self, configuration: Configuration, used: int) -> bool:
        """Note a set; return False if it was there, or a part of it."""
        known = self.sets.setdefault(configuration, [])
        for other in known:
            if other & ~used == 0:
                return False
        known[:] = [other for other in known if used & ~other]
        known.append(used)
        return True


class Search:
    """One search for an order of the operations on one key."""

    def __init__(self, operations: Sequence[Operation], max_steps: int = MAX_STEPS) -> None:
        self._operations = [one for one in operations if one.ending is not Ending.REFUSED]
        self._needs = Needs(self._operations)
        self._told: Mapping[str, Operation] = {
            one.version: one
            for one in self._operations
            if one.kind is not Kind.READ and one.ending is Ending.DONE and one.version is not None
        }
        self._max_steps = max_steps
        self.steps = 0
        """Operations that were tried."""
        self._past: set[str] = set()
        """Versions of writes that have returned: each is there now, or never again."""
        self._under_way: dict[int, Operation] = {}
        self._unknown: dict[int, Loose] = {}
        self._configurations = Antichains()
        self._configurations.add((0, MISSING), 0)

    def run(self) -> Operation | None:
        """Return the operation whose answer nothing explains any more, None if there is an order."""
        # At the same time calls come first: whatever may be concurrent is.
        calls = [(one.call, 0, place) for place, one in enumerate(self._operations)]
        returns = [(one.back, 1, place) for place, one in enumerate(self._operations) if one.ending is not Ending.UNKNOWN]
        for _, is_return, place in sorted(calls + returns):
            one, bit = self._operations[place], 1 << place
            if is_return:
                self._return(bit, one.back)
                del self._under_way[bit]
                if self._told.get(one.version or "") is one:
                    self._past.add(one.version or "")
                if not self._configurations.sets:
                    return one
                self._forget()
            elif one.ending is Ending.UNKNOWN:
                self._unknown[bit] = Loose(bit, one, self._needs.seen_until(one) if one.kind is Kind.PUT else NEVER)
            else:
                self._under_way[bit] = one
        return None

    def _return(self, bit: int, now: float) -> None:
        """Keep the configurations in which the operation with this bit has taken effect, before the
        time of its answer.
        """
        classes = self._classes(now)
        wanted = self._needs.wanted(self._under_way.values(), (loose.effect for loose in self._unknown.values()))
        met, kept = Antichains(), Antichains()
        waiting = deque(self._start(classes, met))
        while waiting:
            done, state, used, after_unknown = waiting.popleft()
            if done & bit:
                kept.add((done & ~bit, state), used)
                continue
            open_ones = [(0, other, one) for other, one in self._under_way.items() if not done & other]
            for before in _with_expiry(state, now):
                for loose, taken, one in chain(self._candidates(classes, used, before, wanted), open_ones):
                    if after_unknown and overwrites(one):
                        continue  # the one before it would have had no effect
                    then = self._after(before, one)
                    if then is None or (loose and then == before):
                        continue
                    if met.add((done | taken, then), used | loose):
                        waiting.append((done | taken, then, used | loose, loose != 0))
        self._configurations = kept

    def _start(self, classes: Sequence[Alike], met: "Antichains") -> Iterator[tuple[int, State, int, bool]]:
        """Yield the configurations, after those that are alike have been made equal."""
        several = [alike for alike in classes if len(alike.bits) > 1]
        for (done, state), sets in self._configurations.sets.items():
            for used in sets:
                for alike in several:
                    used = alike.canonical(used)  # noqa: PLW2901
                if met.add((done, state), used):
                    yield done, state, used, False

    def _after(self, state: State, one: Operation) -> State | None:
        self.steps += 1
        if self.steps > self._max_steps:
            raise GaveUp(f"the search for an order of {len(self._operations)} operations on {one.key} takes too long")
        then = after(state, one, self._told)
        if then is not None and state.value == UNSEEN_INTEGER and one.kind is Kind.ADD:
            return then._replace(value=UNSEEN_INTEGER)
        return then

    def _classes(self, now: float) -> list[Alike]:
        """Return the writes of unknown outcome, those that are alike from now on together."""
        classes: dict[object, Alike] = {}
        for bit, loose in self._unknown.items():
            loose.look(now)
            one = loose.effect
            key = (one.kind, one.value, one.delta, one.condition, one.expiry)
            if (alike := classes.get(key)) is None:
                classes[key] = Alike(one, [bit], bit)
            else:
                alike.bits.append(bit)
                alike.mask |= bit
        return list(classes.values())

    @staticmethod
    def _candidates(classes: Sequence[Alike], used: int, state: State, wanted: Wanted) -> Iterator[tuple[int, int, Operation]]:
        """Yield the writes of unknown outcome that may take effect next: bit, 0, operation."""
        for alike in classes:
            if used & alike.mask != alike.mask and wanted.allows(alike.effect, state):
                yield next(bit for bit in alike.bits if not used & bit), 0, alike.effect

    def _forget(self) -> None:
        """Forget writes of unknown outcome that have taken effect, or cannot any more."""
        if not self._unknown:
            return
        always = -1
        here: set[str | None] = set()
        for (_, state), sets in self._configurations.sets.items():
            here.add(state.version)
            for used in sets:
                always &= used
        gone = always
        for bit, loose in self._unknown.items():
            condition = loose.operation.condition
            versions = condition.versions if condition is not None and not condition.negated else ()
            if versions and all(version in self._past and version not in here for version in versions):
                gone |= bit
        for bit in [bit for bit in self._unknown if bit & gone]:
            del self._unknown[bit]
        for sets in self._configurations.sets.values():
            sets[:] = {used & ~gone for used in sets}


def _with_expiry(state: State, now: float) -> tuple[State, ...]:
    """Return what may be there until now, if nobody writes."""
    if state.expiry is not None and state.expiry.earliest <= now:
        return (state, MISSING)
    return (state,)
