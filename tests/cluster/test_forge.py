"""A program that was forked is what it would be, had it been started afresh."""

import re
import signal
from pathlib import Path

import pytest

from tests.cluster.conftest import NOWHERE, Program, System, wait_for
from tests.cluster.forge import Forked

AFRESH = ["sh", "-c", 'exec "$@"', "sh"]
"""What starts a program without the forge, in a process that becomes it."""


def both(system: System, *arguments: str, **environment: str) -> list[Program]:
    """Start a program in either way."""
    programs = [system.start(*arguments, under=under, **environment) for under in (AFRESH, [])]
    assert [type(program.process) is Forked for program in programs] == [False, True]
    return programs


def status(program: Program) -> dict[str, str]:
    lines = Path(f"/proc/{program.process.pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def descriptors(program: Program) -> list[str]:
    """Return what a program has open, without the numbers of sockets and the like."""
    directory = Path(f"/proc/{program.process.pid}/fd")
    open_files = sorted((int(path.name), str(path.readlink())) for path in directory.iterdir())
    assert [name for _, name in open_files[:3]] == ["/dev/null", str(program.out), str(program.err)]
    return sorted(Path(name.partition("[")[0]).name for _, name in open_files[3:])


@pytest.mark.parametrize("arguments", [["node", "0", "--proxy", NOWHERE, "--engine", "memory"], ["proxy", "--port", "0"]])
def test_running_program_has_the_same_signals_and_descriptors(system: System, arguments: list[str]) -> None:
    one = system.start(*arguments, "--data", "one", under=AFRESH)
    two = system.start(*arguments, "--data", "two")
    for program in (one, two):
        program.wait_line("Listening on port")
    wait_for("the same descriptors", lambda: descriptors(one) == descriptors(two))
    wait_for("the same threads", lambda: status(one)["Threads"] == status(two)["Threads"])
    for name in ("SigBlk", "SigIgn", "SigCgt", "Umask"):
        assert status(one)[name] == status(two)[name], name
    assert Path(f"/proc/{two.process.pid}/cwd").readlink() == system.directory


def test_settings_are_those_of_its_own_environment_and_command_line(system: System) -> None:
    for program in both(system, "proxy", "--print-config", "--port", "0", GKV_DEADLINE="77ms"):
        assert program.ended() == 0
        assert "77ms" in program.stdout
    first, second = system.programs
    assert first.stdout == second.stdout
    plain = system.start("proxy", "--print-config", "--port", "0")
    assert plain.ended() == 0
    assert "77ms" not in plain.stdout


@pytest.mark.parametrize(("arguments", "code"), [(["--nonsense"], 2), (["--max-answer", "1MiB", "--check-config"], 78)])
def test_end_and_its_reason_are_the_same(system: System, arguments: list[str], code: int) -> None:
    programs = both(system, "proxy", "--port", "0", *arguments)
    assert [program.ended() for program in programs] == [code, code]
    one, two = (re.sub(r"^\S+Z ", "", program.stderr) for program in programs)
    assert one == two != ""


def test_end_by_a_signal_is_told_and_a_second_signal_meets_nobody(system: System) -> None:
    node = system.node(None)
    assert node.process.poll() is None
    node.signal(signal.SIGKILL)
    assert node.ended() == -signal.SIGKILL
    node.signal(signal.SIGTERM)
    assert node.process.poll() == -signal.SIGKILL
    assert not Path(f"/proc/{node.process.pid}").exists()


def test_programs_give_no_request_the_same_id(system: System) -> None:
    """Each has chosen a beginning for its ids when it read its modules."""
    proxy, nodes = system.cluster(2)
    ids = [program.call("GET", "/livez").headers["X-Request-Id"] for program in (proxy, *nodes)]
    assert len({one[:12] for one in ids}) == 3
