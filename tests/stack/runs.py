"""Runs of many seeds, each in a process forked for it, and what becomes of one that fails.

python -m tests.stack.runs --seeds 1-200 [--cores 2] [--control NAME]
python -m tests.stack.runs --story 17 [--control NAME]
python -m tests.stack.runs --controls
"""

import argparse
import contextlib
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence

monotonic = time.monotonic  # the real one

if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set of texts is part of a run
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})

from tests.stack import install  # isort: skip  # before gkv
from tests.stack.controls import CONTROLS
from tests.stack.scenario import Scenario
from tests.stack.world import Outcome, run

assert install.loop
_HANGS = 120.0
"""Seconds after which a run is given up."""


def _forked(seed: int, control: str | None) -> tuple[int, int]:
    """Begin a run, without a guard if one is named; return its process and where its outcome is to be read."""
    read, write = os.pipe()
    process = os.fork()
    if process:
        os.close(write)
        return process, read
    try:
        os.close(read)
        try:
            if control is not None:
                CONTROLS[control].take_out()
            outcome = run(Scenario.of(seed))
            outcome.control = control
        except BaseException:  # noqa: BLE001  # whatever it is, the run has failed by it
            outcome = Outcome(seed, control, f"error: {traceback.format_exc()}", story=install.lines)
        with os.fdopen(write, "wb") as file:
            pickle.dump(outcome, file)
    finally:
        os._exit(0)


def many(asked: Sequence[tuple[int, str | None]], cores: int) -> Iterator[Outcome]:
    """Run seeds, each with a guard's name or None, so many at a time; yield their outcomes as they come."""
    left = list(reversed(asked))
    running: dict[int, tuple[int, int, str | None, float, bytearray]] = {}
    while left or running:
        while left and len(running) < cores:
            seed, control = left.pop()
            process, read = _forked(seed, control)
            running[read] = process, seed, control, monotonic(), bytearray()
        ready, _, _ = select.select(list(running), [], [], 1.0)
        for read in ready:
            process, seed, control, _, data = running[read]
            chunk = os.read(read, 1 << 20)
            if chunk:
                data += chunk
                continue
            os.close(read)
            os.waitpid(process, 0)
            del running[read]
            yield pickle.loads(bytes(data)) if data else Outcome(seed, control, "the process of the run is gone")
        for read, (process, seed, control, since, _) in [*running.items()]:
            if monotonic() - since > _HANGS:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                os.close(read)
                os.waitpid(process, 0)
                del running[read]
                yield Outcome(seed, control, wrong=f"the run does not end within {_HANGS:.0f} s")


def report(seeds: Sequence[int], cores: int, control: str | None = None) -> list[Outcome]:
    """Run seeds, with a line of progress now and then; print what they have come to, and return those that failed."""
    failed: list[Outcome] = []
    total: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    begun = said = monotonic()
    for outcome in many([(seed, control) for seed in seeds], cores):
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
    """Run the seed of each guard without it; print what is wrong then, and return whether that is so of all as is said."""
    asked = {(control.seed, name): control for name, control in CONTROLS.items()}
    caught = dict.fromkeys(asked, "")
    for outcome in many(list(asked), cores):
        caught[outcome.seed, outcome.control or ""] = outcome.wrong
    for (seed, name), control in asked.items():
        wrong = caught[seed, name]
        is_caught = wrong.startswith(f"{control.rule}:")
        what = (wrong or "nothing is wrong").splitlines()[0]
        print(f"{'caught' if is_caught else 'MISSED'}: {control.guard} (seed {seed}): {what}")
    return all(caught[one].startswith(f"{control.rule}:") for one, control in asked.items())


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1-100", help="A-B")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--story", type=int, help="a seed whose run is told")
    parser.add_argument("--control", choices=sorted(CONTROLS), help="a guard that is taken out")
    parser.add_argument("--controls", action="store_true", help="run the seed of each guard without it")
    options = parser.parse_args()
    if options.controls:
        return 0 if judge_controls(options.cores) else 1
    if options.story is not None:
        [outcome] = many([(options.story, options.control)], 1)
        print("\n".join(outcome.story))
        wrong = outcome.wrong or "nothing is wrong"
        print(f"{outcome.operations} operations, {outcome.steps} steps, trace {outcome.trace}: {wrong}")
        return 0
    first, _, last = options.seeds.partition("-")
    return 1 if report(range(int(first), int(last or first) + 1), options.cores, options.control) else 0


if __name__ == "__main__":
    sys.exit(main())
