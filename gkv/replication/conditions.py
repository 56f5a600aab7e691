"""Conditions of a write: on which versions of a key it may be applied.

A `Condition` is decided by the key's primary, against the newest record that it has admitted. As text it travels in a write's
frame; that form is the contract between members. Nothing here switches greenlets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from gkv.model import Version


class Relation(StrEnum):
    """What a clause asks of the versions that it names. The value stands before them in a text."""

    IS = "="
    """One of them is there."""
    IS_NOT = "!"
    """None of them is there."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One demand on the version that is there. Without `versions` it is about any value.

    >>> Clause(Relation.IS).holds(None), Clause(Relation.IS_NOT).holds(None)
    (False, True)
    """

    relation: Relation
    versions: tuple[Version, ...] = ()

    def __str__(self) -> str:
        return self.relation.value + (",".join(map(str, self.versions)) or "*")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote; raise ValueError for anything else."""
        relation, named = Relation(text[:1]), text[1:]
        return cls(relation, () if named == "*" else tuple(map(Version.parse, named.split(","))))

    def holds(self, present: Version | None) -> bool:
        """Tell whether it is met by the version of the value that is there, None for no value."""
        found = present in self.versions if self.versions else present is not None
        return found is (self.relation is Relation.IS)


@dataclass(frozen=True, slots=True)
class Condition:
    """Clauses that must all hold for a write to be applied.

    As text: clauses joined by one space, each `=` or `!` and then `*` or versions joined by commas.

    >>> v = Version.parse("0191f3c2a5b7000300000000000000a1")
    >>> condition = Condition.parse(f"=* !{v}")
    >>> condition.holds(None), condition.holds(v), condition.holds(Version.parse("00" * 16))
    (False, False, True)
    """

    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.clauses))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote; raise ValueError for anything else."""
        return cls(tuple(map(Clause.parse, text.split(" "))))

    def holds(self, present: Version | None) -> bool:
        """Tell whether the write may be applied to the version of the value that is there, None for no value."""
        return all(clause.holds(present) for clause in self.clauses)

    @classmethod
    def one_of(cls, versions: Sequence[Version]) -> Self:
        """Return the condition that one of these versions is there; of no versions it never holds.

        >>> str(Condition.one_of([]))
        '=* !*'
        """
        if not versions:
            return cls((*ANY_VALUE.clauses, *NO_VALUE.clauses))
        return cls((Clause(Relation.IS, tuple(versions)),))

    @classmethod
    def none_of(cls, versions: Sequence[Version]) -> Self | None:
        """Return the condition that none of these versions is there; of no versions it always holds, so there is none."""
        return cls((Clause(Relation.IS_NOT, tuple(versions)),)) if versions else None

    def and_also(self, other: "Condition | None") -> "Condition":
        """Return the condition that both hold."""
        return self if other is None else Condition(self.clauses + other.clauses)


ANY_VALUE = Condition((Clause(Relation.IS),))
"""Something is there, whatever it is."""
NO_VALUE = Condition((Clause(Relation.IS_NOT),))
"""Nothing is there."""
