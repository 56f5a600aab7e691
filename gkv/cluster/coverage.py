"""The part of all keys that has its copies, and who answers for how much. Pure; shares are of the ring, from 0 to 1."""

from collections.abc import Mapping
from dataclasses import dataclass

from gkv.cluster.lists import Lists
from gkv.cluster.placement import Placement, acting

_RING = 1 << 64


@dataclass(frozen=True, slots=True)
class Coverage:
    """The copies and primaries that keys have by a placement."""

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

    @property
    def troubles(self) -> str:
        """A few words about what is missing, "" when nothing is."""
        if self.least >= self.wanted:
            return ""
        return f"{self.least}/{self.wanted} for {_percent(self.short)} of the keys"


class Coverages:
    """The coverage of the newest placement, made once for each."""

    def __init__(self) -> None:
        self._lists: Lists | None = None
        self._arcs: list[int] = []
        self._placement: Placement | None = None
        self._found: Coverage

    def of(self, placement: Placement) -> Coverage:
        """Return the coverage of a placement. O(lists); for a ring that was not asked for just before, O(tokens)."""
        if placement is not self._placement:
            if placement.lists is not self._lists:
                self._arcs = arcs_of(placement.lists)
                self._lists = placement.lists
            self._found = _coverage(placement, self._arcs)
            self._placement = placement
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


def _coverage(placement: Placement, arcs: list[int]) -> Coverage:
    wanted = placement.copies
    counts = []
    primaries = dict.fromkeys([node.id for node in placement.ring.nodes], 0)
    short = unanswered = 0
    for preference, arc in zip(placement.lists.lists, arcs, strict=True):
        act = acting(preference, placement.standings)
        counts.append(len(act))
        if len(act) < wanted:
            short += arc
        if act:
            primaries[act[0]] += arc
        else:
            unanswered += arc
    answers = {node_id: arc / _RING for node_id, arc in primaries.items()}
    return Coverage(wanted, min(counts), short / _RING, unanswered / _RING, answers)


def _percent(share: float) -> str:
    """Return a share as people read it: what is there is never 0 %, nor what is missing 100 %.

    >>> _percent(0.25), _percent(0.0001), _percent(0.9999), _percent(1.0)
    ('25 %', '1 %', '99 %', '100 %')
    """
    return f"{100 if share == 1 else min(99, max(1, round(100 * share)))} %"
