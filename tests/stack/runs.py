"""Runs of many seeds, each in a process forked for it, and what becomes of one that fails.

python -m tests.stack.runs --seeds 1-200 [--cores 2] [--control NAME]
python -m tests.stack.runs --story 17 [--control NAME]
python -m tests.stack.runs --controls
"""

import argparse
import os
import pickle
import resource
import select
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

monotonic = time.monotonic  # the real one

if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set of texts is part of a run
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})

from tests.stack import install  # isort: skip  # before gkv
from tests.stack.controls import CONTROLS
from tests.stack.scenario import Scenario
from tests.stack.world import Outcome, run

assert install.loop
_HANGS = 60
"""Seconds of a processor after which a run is given up; one takes a second or two."""

_MOST_OF_A_CONTROL = 20
"""Seeds that are tried without a guard: of any seed, a change elsewhere makes another run."""


class Asked(NamedTuple):
    """A run: that of a seed, as a control wants it if one is named, and without its guard unless that is kept."""

    seed: int
    control: str | None = None
    is_guarded: bool = False


def _forked(asked: Asked) -> tuple[int, int]:
    """Begin a run; return its process and where its outcome is to be read."""
    read, write = os.pipe()
    process = os.fork()
    if process:
        os.close(write)
        return process, read
    try:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (_HANGS, _HANGS))
        try:
            scenario = Scenario.of(asked.seed)
            if asked.control is not None:
                scenario = CONTROLS[asked.control].scenario(asked.seed)
                if not asked.is_guarded:
                    CONTROLS[asked.control].take_out()
            outcome = run(scenario)
        except BaseException:  # noqa: BLE001  # whatever it is, the run has failed by it
            outcome = Outcome(asked.seed, f"error: {traceback.format_exc()}", story=install.lines)
        with os.fdopen(write, "wb") as file:
            pickle.dump(outcome, file)
    finally:
        os._exit(0)


def many(wanted: Sequence[Asked], cores: int) -> Iterator[tuple[Asked, Outcome]]:
    """Make runs, so many at a time; yield their outcomes as they come."""
    left = list(reversed(wanted))
    running: dict[int, tuple[int, Asked, bytearray]] = {}
    while left or running:
        while left and len(running) < cores:
            asked = left.pop()
            process, read = _forked(asked)
            running[read] = process, asked, bytearray()
        ready, _, _ = select.select(list(running), [], [])
        for read in ready:
            process, asked, data = running[read]
            chunk = os.read(read, 1 << 20)
            if chunk:
                data += chunk
                continue
            os.close(read)
            os.waitpid(process, 0)
            del running[read]
            gone = Outcome(asked.seed, "the process of the run is gone, or does not end")
            yield asked, pickle.loads(bytes(data)) if data else gone


def report(seeds: Sequence[int], cores: int, control: str | None = None) -> list[Outcome]:
    """Run seeds, with a line of progress now and then; print what they have come to, and return those that failed."""
    failed: list[Outcome] = []
    total: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    begun = said = monotonic()
    for _, outcome in many([Asked(seed, control) for seed in seeds], cores):
        total["runs"] += 1
        for name in ("operations", "unknown", "refused", "acknowledged", "epochs", "steps", "given_up"):
            total[name] += getattr(outcome, name)
        faults += outcome.faults
        if outcome.wrong:
            failed.append(outcome)
            print(f"seed {outcome.seed}: {outcome.wrong.splitlines()[0][:300]}", flush=True)
        if monotonic() - said > 10:
            said = monotonic()
            rate = total["runs"] / (said - begun)
            print(f"{total['runs']} of {len(seeds)} runs, {len(failed)} failures, {rate:.1f} a second", flush=True)
    seconds = monotonic() - begun
    print(
        f"{total['runs']} runs with the seeds {seeds[0]} to {seeds[-1]} in {seconds:.0f} s, {len(failed)} failures; "
        f"{total['operations']} operations ({total['unknown']} of unknown outcome, {total['refused']} refused), "
        f"{total['acknowledged']} writes acknowledged by machines, {total['epochs']} epochs, {total['steps']} steps; "
        f"{total['given_up']} histories of a key were too hard to judge; faults: "
        + ", ".join(f"{count} {name}" for name, count in faults.most_common()),
        flush=True,
    )
    return failed


def judge_controls(cores: int) -> bool:
    """Run seeds without each guard until one shows that it is gone, and that one with the guard; print what is wrong without.

    Return whether that is so of all guards, and nothing is wrong with them.
    """
    left, shown = dict(CONTROLS), list[Asked]()
    for seed in range(1, _MOST_OF_A_CONTROL + 1):
        for asked, outcome in many([Asked(seed, name) for name in left], cores):
            name = asked.control or ""
            if outcome.wrong.startswith(f"{left[name].rule}:"):
                print(f"without it seed {seed} fails: {left[name].guard}: {outcome.wrong.splitlines()[0]}", flush=True)
                del left[name]
                shown.append(asked._replace(is_guarded=True))
    for control in left.values():
        print(f"no seed fails without it: {control.guard}", flush=True)
    same = {CONTROLS[one.control or ""].scenario(one.seed): one for one in shown}
    wrong = [outcome for _, outcome in many(list(same.values()), cores) if outcome.wrong]
    for outcome in wrong:
        print(f"seed {outcome.seed} fails with all guards: {outcome.wrong}", flush=True)
    return not left and not wrong


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1-100", help="A-B")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--story", type=int, help="a seed whose run is told")
    parser.add_argument("--control", choices=sorted(CONTROLS), help="a guard that is taken out")
    parser.add_argument("--controls", action="store_true", help="run seeds without each guard")
    options = parser.parse_args()
    if options.controls:
        return 0 if judge_controls(options.cores) else 1
    if options.story is not None:
        [(_, outcome)] = many([Asked(options.story, options.control)], 1)
        print("\n".join(outcome.story))
        wrong = outcome.wrong or "nothing is wrong"
        print(f"{outcome.operations} operations, {outcome.steps} steps, trace {outcome.trace}: {wrong}")
        return 0
    first, _, last = options.seeds.partition("-")
    return 1 if report(range(int(first), int(last or first) + 1), options.cores, options.control) else 0


if __name__ == "__main__":
    sys.exit(main())
