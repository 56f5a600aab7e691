"""The shell scripts of `examples/`, as they stand there, against a running system."""

import json
import os
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.conftest import Program, free_ports

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


EXTEND = (
    'curl -sS -f -i -X PUT -H "If-Match: $LOCK_ETAG" -H \'Content-Type: application/json\' -d "$LOCK_VALUE" "$LOCK_URL?ttl=60"'
)


def test_lock_that_its_command_has_given_more_time_is_given_back(programs: list[Program]) -> None:
    """By the line that stands in the header of the script; twice, with the ETag of the first answer."""
    assert EXTEND in (EXAMPLES / "lock.sh").read_text(encoding="utf-8")
    next_etag = "LOCK_ETAG=$(printf %s \"$answer\" | tr -d '\\r' | sed -n 's/^[Ee][Tt]ag: //p')"
    twice = f"answer=$({EXTEND}) || exit 9; {next_etag}; {EXTEND} >/dev/null || exit 8; sleep 0.6"
    assert ended(start(programs[0], "lock.sh", "longer", "0.5", "sh", "-c", twice)) == (0, "", "")
    assert programs[0].call("GET", "/v1/kv/lock/longer").status == 404


def test_lock_that_is_touched_keeps_being_the_holders(programs: list[Program]) -> None:
    touch = 'curl -sS -f -X POST "$LOCK_URL?touch=60"'
    assert ended(start(programs[0], "lock.sh", "touched", "60", "sh", "-c", touch)) == (0, "", "")
    assert programs[0].call("GET", "/v1/kv/lock/touched").status == 404


def test_names_may_have_any_characters(programs: list[Program]) -> None:
    name = "a b/é?x=1#%"
    assert ended(start(programs[0], "counter.sh", name, "5")) == (0, "5\n", "")
    assert programs[0].call("GET", "/v1/kv/counter/a%20b/%C3%A9%3Fx=1%23%25").json == 5
    look = f"curl -sS 'http://127.0.0.1:{programs[0].port}/v1/kv?prefix=lock/a'"
    status, out, _ = ended(start(programs[0], "lock.sh", name, "60", "sh", "-c", look))
    assert (status, json.loads(out)["keys"]) == (0, [f"lock/{name}"])


@pytest.mark.parametrize(("script", "arguments"), [("lock.sh", ["a", "9"]), ("counter.sh", [])])
def test_too_few_arguments_are_answered_with_the_usage(programs: list[Program], script: str, arguments: list[str]) -> None:
    status, out, err = ended(start(programs[0], script, *arguments))
    assert (status, out) == (2, "")
    assert err.startswith(f"usage: {script} NAME")


@pytest.mark.parametrize(("script", "arguments"), [("lock.sh", ["a", "9", "echo", "ran"]), ("counter.sh", ["a"])])
def test_scripts_say_that_nobody_listens(script: str, arguments: list[str]) -> None:
    environment = os.environ | {"GKV_URL": f"http://127.0.0.1:{free_ports(1)}"}
    run = subprocess.run(
        ["sh", str(EXAMPLES / script), *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("curl: (7)")


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


def test_progress_is_shown_to_a_terminal_alone(capsys: pytest.CaptureFixture[str]) -> None:
    batches = runpy.run_path(str(EXAMPLES / "unicode_names.py"))["batches"]
    assert list(batches("set", [1, 2, 3], 2)) == [[1, 2], [3]]
    out, err = capsys.readouterr()
    assert "3 keys in" in out
    assert err == ""
