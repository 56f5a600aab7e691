"""The README's example, as it stands there: each curl call gives exactly the answer that is printed
below it.

Only the ports are others. A node's name has its port, and names decide owners; so the ports are
such that the same node has each key that the README shows a node for, and each set goes to two
nodes.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gkv import ring
from gkv.model import Node
from tests.cluster.conftest import System, free_ports

README = Path(__file__).parents[2] / "README.md"


def calls() -> Iterator[tuple[str, str]]:
    """Yield each command of the console blocks with the answer below it."""
    for block in re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            yield command, answer.strip()


def owners(keys: list[str], first: int) -> list[int]:
    """Return which of the two nodes, on `first` and the next port, has each key: 0 or 1."""
    names = [f"127.0.0.1:{first + i}" for i in (0, 1)]
    placed = ring.build([Node(name) for name in names])
    return [names.index(placed.owner(key).id) for key in keys]


def ports_like(shown: list[tuple[str, str]]) -> int:
    """Return the first of three free ports, for two nodes and a proxy, on which the nodes have keys
    as on 9000 and 9001.
    """
    located = re.findall(r"locate\?key=(\w+)", " ".join(command for command, _ in shown))
    assert located
    sets = [json.loads(command.split("'")[1]) for command, _ in shown if command.endswith("/set")]
    first = 0
    for _ in range(100):
        first = free_ports(3, first and first + 3)
        if owners(located, first) == owners(located, 9000):
            spread = [set(owners([item["key"] for item in items], first)) for items in sets]
            if all(len(nodes) == 2 for nodes in spread):
                return first
    pytest.fail("no ports on which the nodes have the keys as the README shows")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_readme_calls_give_the_answers_printed_there(system: System) -> None:
    shown = list(calls())
    assert len(shown) >= 10
    first = ports_like(shown)
    moved = {"8080": str(first + 2), "9000": str(first), "9001": str(first + 1)}

    def here(text: str) -> str:
        return re.sub(r"(?<=:)(8080|9000|9001)\b", lambda found: moved[found[1]], text)

    proxy = system.start("proxy", "--port", moved["8080"], "--spawn", "2", "--spawn-port", moved["9000"])
    proxy.wait_line(f"Ready: 2 nodes have joined, on ports {first}, {first + 1}")
    for command, answer in shown:
        assert command.startswith("curl ")
        assert here(command) != command
        run = subprocess.run(
            here(command).replace("curl ", "curl -s ", 1), shell=True, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == here(answer), command
