"""The part of all keys that has its copies, and who answers for how much. Pure; shares are of the ring, from 0 to 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gkv.cluster.lists import Lists
from gkv.cluster.placement import Placement, acting, last_ones

_RING = 1 << 64
_NAMED = 3
"""Members that are named in a line."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The copies and primaries that keys have by a placement, those of members that do not answer left out."""

    wanted: int
    """Copies that each key is to have."""
    least: int
    """Copies that count of the keys that have fewest."""
    short: float
    """The share of keys that have fewer copies than they are to have."""
    unanswered: float
    """The share of keys for which nobody answers."""
    primaries: Mapping[str, float]
    """By id, the share of keys for which a member of the ring answers."""
    awaited: tuple[str, ...]
    """Ids of the members for one of which such keys wait that nobody answers for, ascending."""
    zones: int = 0
    """Zones that there are, 0 where no node has one; a node without is one of its own."""
    zoned_together: float = 0.0
    """The share of keys of which two copies are in one zone."""

    @property
    def waiting(self) -> str:
        """A few words about the keys for which nobody answers, "" when there are none."""
        if not self.unanswered:
            return ""
        return f"{_percent(self.unanswered)} of the keys wait for {named(self.awaited)}"

    @property
    def troubles(self) -> str:
        """A few words about what is missing, "" when nothing is."""
        if self.unanswered:
            return self.waiting
        if self.least >= self.wanted:
            return ""
        return f"{self.least}/{self.wanted} for {_percent(self.short)} of the keys"

    @property
    def zone_troubles(self) -> str:
        """A few words about copies that share a zone, "" when none do."""
        if not self.zoned_together:
            return ""
        return f"{self.zones} for {self.wanted} copies: two are in one zone for {_percent(self.zoned_together)} of the keys"


def named(ids: Sequence[str]) -> str:
    """Return ids as they stand in a line.

    >>> named(["a"]), named(["a", "b"]), named("abcde")
    ('a', 'a or b', 'a, b, c or 2 more')
    """
    shown = [*ids[:_NAMED], *([f"{len(ids) - _NAMED} more"] if len(ids) > _NAMED else [])]
    return " or ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


class Coverages:
    """The coverage of the newest placement, made once for each, and for each set of members that do not answer."""

    def __init__(self) -> None:
        self._lists: Lists | None = None
        self._arcs: list[int] = []
        self._placement: Placement | None = None
        self._absent: frozenset[str] = frozenset()
        self._found: Coverage

    def of(self, placement: Placement, absent: frozenset[str] = frozenset()) -> Coverage:
        """Return the coverage of a placement where the members `absent` do not answer, whatever their lines say.

        O(lists) for another one than just before; for another ring, O(tokens).
        """
        if placement is not self._placement or absent != self._absent:
            if placement.lists is not self._lists:
                self._arcs = arcs_of(placement.lists)
                self._lists = placement.lists
            self._found = _coverage(placement, self._arcs, absent)
            self._placement, self._absent = placement, absent
        return self._found


def arcs_of(lists: Lists) -> list[int]:
    """Return of each list how many tokens a key of its may have."""
    arcs = [0] * len(lists.lists)
    tokens = list(lists.ring.tokens)
    before = tokens[-1] - _RING
    for token, place in zip(tokens, lists.by_token, strict=True):
        arcs[place] += token - before
        before = token
    return arcs


def _coverage(placement: Placement, arcs: list[int], absent: frozenset[str]) -> Coverage:
    wanted = placement.copies
    counts = []
    awaited: set[str] = set()
    primaries = dict.fromkeys([node.id for node in placement.ring.nodes], 0)
    short = unanswered = 0
    for preference, arc in zip(placement.lists.lists, arcs, strict=True):
        act = acting(preference, placement.standings)
        there = [one for one in act if one not in absent]
        counts.append(len(there))
        if len(there) < wanted:
            short += arc
        if act and act[0] not in absent:
            primaries[act[0]] += arc
        else:
            unanswered += arc
            awaited.update(absent.intersection(act) or last_ones(preference, placement.standings))
    answers = {node_id: arc / _RING for node_id, arc in primaries.items()}
    zones, together = _zones(placement.lists, arcs)
    return Coverage(wanted, min(counts), short / _RING, unanswered / _RING, answers, tuple(sorted(awaited)), zones, together)


def _zones(lists: Lists, arcs: Sequence[int]) -> tuple[int, float]:
    """Return how many zones there are, and the share of keys of which two copies are in one."""
    zones = {node.id: zone for node, zone in zip(lists.ring.nodes, lists.zones, strict=True) if zone}
    if not zones:
        return 0, 0.0
    together = 0
    for preference, arc in zip(lists.lists, arcs, strict=True):
        zoned = [zones[node_id] for node_id in preference if node_id in zones]
        together += arc * (len(set(zoned)) < len(zoned))
    return len(set(zones.values())) + len(lists.ring.nodes) - len(zones), together / _RING


def _percent(share: float) -> str:
    """Return a share as people read it: what is there is never 0 %, nor what is missing 100 %.

    >>> _percent(0.25), _percent(0.0001), _percent(0.9999), _percent(1.0)
    ('25 %', '1 %', '99 %', '100 %')
    """
    return f"{100 if share == 1 else min(99, max(1, round(100 * share)))} %"
