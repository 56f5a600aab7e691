"""The shell scripts of `examples/`, as they stand there, against a running system."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.conftest import Program

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

EXAMPLES = Path(__file__).parents[2] / "examples"


def start(program: Program, script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start an example against one program of a system."""
    environment = os.environ | {"GKV_URL": f"http://127.0.0.1:{program.port}"}
    command = ["sh", str(EXAMPLES / script), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(run: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = run.communicate(timeout=60)
    return run.returncode, out, err


def test_lock_lets_one_command_run_at_a_time(programs: list[Program], tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0\n")
    step = f'n=$(cat "{count}"); sleep 0.02; echo $((n + 1)) > "{count}"'
    runs = [start(programs[i % 3], "lock.sh", "one", "60", "sh", "-c", step) for i in range(8)]
    assert [ended(run) for run in runs] == [(0, "", "")] * 8
    assert count.read_text() == "8\n"
    assert programs[0].call("GET", "/v1/kv/lock/one").status == 404


def test_lock_gives_the_status_of_its_command(programs: list[Program]) -> None:
    assert ended(start(programs[0], "lock.sh", "status", "60", "sh", "-c", "echo out; exit 7")) == (7, "out\n", "")


def test_lock_of_a_holder_that_is_gone_is_free_when_it_expires(programs: list[Program]) -> None:
    assert programs[0].call("PUT", "/v1/kv/lock/left?ttl=0.5", "gone", If_None_Match="*").status == 201
    assert ended(start(programs[1], "lock.sh", "left", "60", "echo", "mine")) == (0, "mine\n", "")


def test_lock_that_another_has_by_now_is_left_alone_and_that_is_said(programs: list[Program]) -> None:
    theirs = f"curl -s -X PUT -d '\"theirs\"' http://127.0.0.1:{programs[0].port}/v1/kv/lock/taken"
    status, _, err = ended(start(programs[1], "lock.sh", "taken", "60", "sh", "-c", theirs))
    assert (status, "had expired" in err) == (75, True)
    assert programs[2].call("GET", "/v1/kv/lock/taken").json == "theirs"


def test_counter_counts_every_addition(programs: list[Program]) -> None:
    runs = [start(programs[i % 3], "counter.sh", "visits") for i in range(12)]
    sums = [ended(run) for run in runs]
    assert sorted(int(out) for _, out, _ in sums) == list(range(1, 13))
    assert ended(start(programs[0], "counter.sh", "visits", "-2")) == (0, "10\n", "")


def test_counter_says_why_it_cannot_add(programs: list[Program]) -> None:
    programs[0].call("PUT", "/v1/kv/counter/text", "7", Content_Type="application/json")
    status, out, err = ended(start(programs[0], "counter.sh", "text"))
    assert (status, out) == (1, "")
    assert "wrong-type" in err
