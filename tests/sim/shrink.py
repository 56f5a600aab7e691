"""A smaller scenario that still fails in the same way: parts are left out as long as it does (delta debugging, Zeller 1999)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.sim.scenario import Scenario

_PARTS = ("faults", "calls", "quirks", "rules", "commits")


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], most: int = 2_000) -> Scenario:
    """Return a part of a scenario that fails as well, after at most so many runs."""
    left = [most]

    def tried(candidate: Scenario) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        return fails(candidate)

    before = None
    while before != scenario and left[0] > 0:
        before = scenario
        for part in _PARTS:
            scenario = _fewer(scenario, part, tried)
        scenario = _simpler(scenario, tried)
    return scenario


def _fewer(scenario: Scenario, part: str, fails: Callable[[Scenario], bool]) -> Scenario:
    """Leave out as many entries of a part as can be."""

    def with_entries(entries: Sequence[Any]) -> Scenario:
        return replace(scenario, **{part: tuple(entries)})

    kept: list[Any] = list(getattr(scenario, part))
    if kept and fails(with_entries([])):
        return with_entries([])
    size = max(1, len(kept) // 2)
    while kept:
        at = 0
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            if fails(with_entries(fewer)):
                kept = fewer
            else:
                at += size
        if size == 1:
            break
        size = max(1, size // 2)
    return with_entries(kept)


def _simpler(scenario: Scenario, fails: Callable[[Scenario], bool]) -> Scenario:
    """Make the cluster's clocks good and its members few, where that changes nothing."""
    setup = scenario.setup
    for change in ({"rates": ()}, {"walls": ()}, {"proxies": 1}, {"nodes": setup.nodes - 1}, {"outside": 0}):
        if all(getattr(setup, name) == value for name, value in change.items()) or change.get("nodes", 9) < setup.copies:
            continue
        candidate = replace(scenario, setup=replace(setup, **change))
        if fails(candidate):
            scenario, setup = candidate, candidate.setup
    return scenario
