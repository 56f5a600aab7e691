"""What answers need: which writes of unknown outcome can still explain one, so that no others are
tried.

Pure pruning: to try more of them costs time and changes no verdict. A write of unknown outcome may
take effect at any later time, so it is tried just before an operation that needs it: one that has
seen its value, or that there is a value, or none, or another version than before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.linearizability.history import ABSENT, NEVER, Condition, Ending, Kind, Operation, integer
from tests.linearizability.register import State

UNSEEN = "unseen"
UNSEEN_INTEGER = "-" + "9" * 18
"""Values that stand for all those that nobody is going to see."""


@dataclass(slots=True)
class Wanted:
    """What the operations under way may need to be there."""

    values: set[str] = field(default_factory=set)
    any_value: bool = False
    """Whether one of them has seen something whose value is not known."""
    missing: bool = False
    version: bool = False
    """Whether one of them has seen a version."""
    ceiling: float = -1
    """The greatest integer that one of them may have found."""
    adds: bool = False
    """Whether there are adds of unknown outcome, to go between a put and who has seen the sum."""

    def allows(self, one: Operation, state: State) -> bool:
        """Return whether a write of unknown outcome may be of use now."""
        ends = one.expiry is not None and self.missing
        lasts = state.expiry is not None  # what takes its place may be there for longer
        if one.kind is Kind.DELETE:
            return self.missing
        if one.kind is Kind.TOUCH:
            return self.version or ends or lasts
        if state.value is None:
            return True
        if one.kind is Kind.PUT:
            sums = self.adds and integer(one.value) is not None
            return self.any_value or ends or lasts or one.value in self.values or sums
        number = integer(state.value)
        return (
            ends
            or (lasts and one.expiry is not None)
            or one.condition is not None
            or (number is not None and number + one.delta <= self.ceiling)
        )


class Needs:
    """Knowledge of all answers about a key together: which values are seen, and until when."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._values = {
            one.version: one.value for one in operations if one.ending is Ending.DONE and one.version and one.value is not None
        }
        self._adds_only_grow = all(one.delta >= 0 for one in operations)
        self._added = sum(one.delta for one in operations)
        self._seen_until: dict[str, float] = {}
        self._numbers_until: dict[int, float] = {}
        self._hides_sums = any(one.kind is Kind.ADD and one.ending is Ending.DONE and one.value is None for one in operations)
        for one in operations:
            for value in self._shown(one):
                self._seen_until[value] = max(one.back, self._seen_until.get(value, 0.0))
                if (number := integer(value)) is not None:
                    self._numbers_until[number] = max(one.back, self._numbers_until.get(number, 0.0))

    def _shown(self, one: Operation) -> list[str]:
        """Return the texts of values that an answer shows to have been there."""
        if one.ending is Ending.DONE and one.value is not None:
            if one.kind is Kind.READ:
                return [one.value]
            if one.kind is Kind.ADD and (total := integer(one.value)) is not None:
                return [str(total - one.delta)]
        versions = [one.version] if one.version and (one.kind is not Kind.PUT or one.ending is Ending.CONDITION) else []
        if one.condition is not None:
            versions += one.condition.versions
        return [value for version in versions if (value := self._values.get(version)) is not None]

    def seen_until(self, one: Operation) -> float:
        """Return when the last one returns that may show a put's value, or that value and what was
        added to it.
        """
        value = one.value or ""
        number = integer(value)
        if number is None:
            return self._seen_until.get(value, -1.0)
        if self._hides_sums or not self._adds_only_grow:
            return NEVER
        return max(
            (back for found, back in self._numbers_until.items() if number <= found <= number + self._added), default=-1.0
        )

    def wanted(self, under_way: Iterable[Operation], unknown: Iterable[Operation]) -> Wanted:
        """Return what these operations may need, of which those of unknown outcome need not happen."""
        wanted = Wanted()
        for one in under_way:
            self._add_seen(wanted, one)
            self._add_condition(wanted, one.condition)
        for one in unknown:
            self._add_condition(wanted, one.condition)
            if one.kind is Kind.ADD:
                wanted.adds = wanted.missing = True
            if one.condition not in (None, ABSENT):
                wanted.ceiling = NEVER  # made possible, perhaps, by an add that nobody has seen
        if not self._adds_only_grow:
            wanted.ceiling = NEVER
        return wanted

    def _add_seen(self, wanted: Wanted, one: Operation) -> None:
        if one.ending is Ending.MISSING or one.existed is False:
            wanted.missing = True
        elif one.ending is Ending.WRONG_TYPE:
            wanted.any_value = True
        elif one.ending is Ending.CONDITION:
            if one.version is None:
                wanted.missing = True
            else:
                self._add_value(wanted, None, one.version)
        elif one.kind is Kind.READ and (one.value or one.version):
            self._add_value(wanted, one.value, one.version)
        elif one.kind is Kind.TOUCH:
            self._add_value(wanted, None, one.version)
        elif one.kind is Kind.ADD:
            total = integer(one.value)
            wanted.missing |= total is None or total == one.delta
            self._add_value(wanted, None if total is None else str(total - one.delta), None)

    def _add_value(self, wanted: Wanted, value: str | None, version: str | None) -> None:
        value = value or self._values.get(version or "")
        wanted.version |= version is not None
        if value is None:
            wanted.any_value = True
            wanted.ceiling = NEVER
            return
        wanted.values.add(value)
        wanted.ceiling = max(wanted.ceiling, -1 if (number := integer(value)) is None else number)

    def _add_condition(self, wanted: Wanted, condition: Condition | None) -> None:
        if condition is None:
            return
        wanted.missing |= condition.negated
        if condition.versions:
            wanted.any_value = wanted.version = True
            wanted.ceiling = NEVER
