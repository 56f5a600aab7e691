"""Runs of many seeds, on all cores, and what becomes of one that fails."""

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.sim.rules import Wrong
from tests.sim.scenario import Scenario, written
from tests.sim.seeds import scenario_of
from tests.sim.shrink import shrink
from tests.sim.world import NoSuchList, World

_AT_ONCE = 50
"""Seeds that a process runs before it reports."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that has shown something wrong."""

    seed: int
    rule: str
    what: str


@dataclass(slots=True)
class Count:
    """What runs have done together."""

    runs: int = 0
    steps: int = 0
    answers: int = 0
    acknowledged: int = 0
    epochs: int = 0
    unknown: int = 0
    given_up: int = 0

    def add(self, other: "Count") -> None:
        """Add those of others."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def run(scenario: Scenario, seed: int | None = None, *, told: bool = False) -> tuple[World, Failure | None]:
    """Run a scenario; return its world, and what was wrong."""
    world = World(scenario, seed, told=told)
    try:
        world.run()
    except Wrong as wrong:
        world.story.tell("", f"WRONG: {wrong}")
        return world, Failure(seed or 0, wrong.rule, str(wrong))
    except Exception as error:
        if told:
            print("\n".join(world.story.lines))
            raise
        return world, Failure(seed or 0, type(error).__name__, repr(error))
    return world, None


def run_seed(seed: int) -> tuple[World, Failure | None]:
    """Run the scenario of a seed."""
    return run(scenario_of(seed), seed)


def some(seeds: Iterable[int]) -> tuple[Count, list[Failure]]:
    """Run seeds one after another."""
    count, failures = Count(), []
    gc.disable()
    for seed in seeds:
        world, failure = run_seed(seed)
        facts = world.facts
        unknown = sum(one.ending.value == "unknown" for one in world.history)
        count.add(Count(1, world.scheduler.done, len(world.history), facts.acknowledged, facts.epochs, unknown, world.given_up))
        if failure:
            failures.append(failure)
    gc.enable()
    gc.collect()
    return count, failures


def many(first: int, number: int, cores: int) -> Iterator[tuple[Count, list[Failure]]]:
    """Run seeds on several cores, and yield what came of some of them at a time."""
    parts = [range(at, min(at + _AT_ONCE, first + number)) for at in range(first, first + number, _AT_ONCE)]
    if cores == 1 or len(parts) == 1:
        yield from map(some, parts)
        return
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        yield from pool.imap_unordered(some, parts)


def smallest(seed: int, most: int = 2_000) -> Scenario:
    """Return the smallest scenario like that of a seed that fails by the same rule."""
    world, failure = run_seed(seed)
    assert failure is not None, f"seed {seed} does not fail"

    def fails(candidate: Scenario) -> bool:
        try:
            found = run(candidate)[1]
        except NoSuchList:
            return False
        return found is not None and found.rule == failure.rule

    replay = world.replay()
    assert fails(replay), f"seed {seed} is not repeated exactly"
    return shrink(replay, fails, most)


def report(first: int, number: int, cores: int) -> list[Failure]:
    """Run seeds, with a line of progress, and print what came of them."""
    total, failures = Count(), []
    begun = time.monotonic()
    said = begun
    for count, found in many(first, number, cores):
        total.add(count)
        failures += found
        for failure in found:
            print(f"seed {failure.seed}: {failure.what.splitlines()[0]}", flush=True)
        if time.monotonic() - said > 10:
            said = time.monotonic()
            print(
                f"{total.runs} of {number} runs, {len(failures)} failures, {total.runs / (said - begun):.0f} a second",
                flush=True,
            )
    seconds = time.monotonic() - begun
    print(
        f"{total.runs} runs with the seeds {first} to {first + number - 1} in {seconds:.0f} s, "
        f"{total.runs / seconds:.0f} a second, "
        f"{len(failures)} failures; {total.steps / total.runs:.0f} steps, {total.answers / total.runs:.1f} operations "
        f"({total.unknown / total.runs:.1f} of unknown outcome), {total.acknowledged / total.runs:.1f} acknowledged writes and "
        f"{total.epochs / total.runs:.1f} epochs a run; {total.given_up} histories of a key were too hard to judge",
        flush=True,
    )
    return failures


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int, nargs="?", default=1)
    parser.add_argument("number", type=int, nargs="?", default=200)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--story", type=int, help="a seed whose run is told")
    parser.add_argument("--shrink", type=int, help="a seed whose run is made smaller, and told")
    options = parser.parse_args()
    if options.story is not None or options.shrink is not None:
        if options.shrink is not None:
            scenario = smallest(options.shrink)
            world, _ = run(scenario, told=True)
            print(f"{written(scenario)}\n")
        else:
            world, _ = run(scenario_of(options.story), options.story, told=True)
        print("\n".join(world.story.lines))
        return 0
    return 1 if report(options.first, options.number, options.cores) else 0


if __name__ == "__main__":
    sys.exit(main())
