"""The README's example, as it stands there: each curl call gives exactly the answer that is printed below it."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import System

README = Path(__file__).parents[2] / "README.md"


def calls() -> Iterator[tuple[str, str]]:
    """Yield each command of the console blocks with the answer below it."""
    for block in re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            yield command, answer.strip()


def taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.skipif(any(map(taken, (8080, 9000, 9001))), reason="the README's ports are in use on this machine")
def test_readme_calls_give_the_answers_printed_there(system: System) -> None:
    proxy = system.start("proxy", "--spawn", "2")
    proxy.wait_line("Ready: 2 nodes have joined, on ports 9000, 9001")
    shown = list(calls())
    assert len(shown) >= 10
    for command, answer in shown:
        assert command.startswith("curl ")
        run = subprocess.run(command.replace("curl ", "curl -s ", 1), shell=True, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == answer, command
