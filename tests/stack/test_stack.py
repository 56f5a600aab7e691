"""Seeds of the whole stack under the deterministic loop, and the guards that they need. Each test is an interpreter of its own:
the loop, the clock and the sockets of a run take the places of the real ones before gkv is imported.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_WITHIN = 240
SEEDS = 4
"""Of the everyday run; each takes about a second."""
_A_STORY = 5


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.stack.runs", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_WITHIN, check=False)


def test_histories_under_faults_of_some_seeds_are_linearizable_and_all_serves_in_the_end() -> None:
    first = int(os.environ.get("GKV_SEED") or random.SystemRandom().randrange(100_000, 10_000_000))
    for seeds in (f"1-{SEEDS // 2}", f"{first}-{first + SEEDS // 2 - 1}"):
        found = _run("--seeds", seeds)
        print(found.stdout)
        assert found.returncode == 0, f"GKV_SEED={first}: {found.stdout}{found.stderr}"


def test_one_seed_gives_one_trace_and_one_story() -> None:
    once, again = _run("--story", str(_A_STORY)), _run("--story", str(_A_STORY))
    assert "all serve again" in once.stdout
    assert " trace " in once.stdout
    assert once.stdout == again.stdout


def test_each_guard_of_the_process_is_needed() -> None:
    found = _run("--controls")
    print(found.stdout)
    assert found.returncode == 0, found.stdout + found.stderr
