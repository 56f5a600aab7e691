"""The README's example, as it stands there: each curl call gives exactly the answer that is printed
below it.

Only the ports are others. A node's name has its port, and names decide owners; so the ports are
such that the same node has each key that the README shows a node for, and each set goes to two
nodes.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gkv import ring
from gkv.model import Node
from tests.cluster.conftest import INHERITED, System, Worker, free_ports, wait_for

README = Path(__file__).parents[2] / "README.md"


def blocks(kind: str) -> Iterator[list[tuple[str, str]]]:
    """Yield each console block of a kind, named by the comment before it, as commands with the answers below them."""
    for named, block in re.findall(r"(?:<!-- (\w+) -->\n)?```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        if named == kind:
            parts = [part.partition("\n") for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
            yield [(command, answer.strip()) for command, _, answer in parts]


def calls() -> Iterator[tuple[str, str]]:
    """Yield each command of the usual console blocks with the answer below it."""
    for block in blocks(""):
        yield from block


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
    printed = [(json.loads(command.split("'")[1]), answer) for command, answer in shown if command.endswith("/set")]
    for items, answer in printed:  # before other ports hide what is wrong on these
        nodes = set(owners([item["key"] for item in items], 9000))
        assert answer == "Success to set key" * len(nodes), items
    sets = [items for items, _ in printed]
    first = 0
    for _ in range(100):
        first = free_ports(3, first and first + 3)
        if owners(located, first) == owners(located, 9000):
            spread = [set(owners([item["key"] for item in items], first)) for items in sets]
            if all(len(nodes) == 2 for nodes in spread):
                return first
    pytest.fail("no ports on which the nodes have the keys as the README shows")


def backup() -> str:
    """Return the commands that make a backup."""
    [block] = [
        block
        for block in re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
        if "/v1/snapshot" in block
    ]
    return block


class Snapshots(Worker):
    """A server whose snapshots are whole, or break off after their first bytes, on one connection each."""

    def __init__(self, content: bytes, *, whole: bool) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(0.05)
        self.port = self.socket.getsockname()[1]
        chunk = b"%x\r\n%b\r\n" % (len(content), content)
        self.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (
            chunk + b"0\r\n\r\n" if whole else chunk[: len(content) // 2]
        )
        super().__init__()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self.socket.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(10)
                while not connection.recv(65536).endswith(b"\r\n\r\n"):
                    pass
                connection.sendall(self.answer)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)

    def stop(self) -> None:
        super().stop()
        self.socket.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_readme_backup_that_breaks_off_leaves_the_one_before_under_its_name(tmp_path: Path) -> None:
    new = bytes(range(256)) * 4_000
    servers = [Snapshots(new, whole=False), Snapshots(new, whole=True)]
    (tmp_path / "gkv-data/proxy").mkdir(parents=True)
    (tmp_path / "gkv-data/proxy/cluster.json").write_text("{}")
    for name in ("node-9000.mdb", "node-9001.mdb"):
        (tmp_path / name).write_bytes(b"before")
    try:
        commands = backup()
        for port, server in zip((9000, 9001), servers, strict=True):
            assert f"localhost:{port}/" in commands
            commands = commands.replace(f"localhost:{port}/", f"127.0.0.1:{server.port}/")
        subprocess.run(["sh", "-c", commands], cwd=tmp_path, capture_output=True, timeout=30, check=False)
    finally:
        for server in servers:
            server.stop()
    assert (tmp_path / "node-9000.mdb").read_bytes() == b"before"
    assert (tmp_path / "node-9001.mdb").read_bytes() == new
    assert (tmp_path / "cluster.json").read_text() == "{}"


def restore() -> str:
    """Return the commands that have a backup back."""
    text = README.read_text(encoding="utf-8").partition("To restore,")[2]
    commands: str = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0]
    assert "--restore" in commands
    return commands


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_readme_backup_is_restored_by_the_lines_printed_there(system: System) -> None:
    first = free_ports(3)
    moved = {"8080": str(first + 2), "9000": str(first), "9001": str(first + 1)}

    def run(commands: str) -> None:
        here = re.sub(r"(?<![0-9])(8080|9000|9001)\b", lambda found: moved[found[1]], commands)
        path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = ["sh", "-e", "-c", here]
        subprocess.run(command, cwd=system.directory, env=os.environ | path, capture_output=True, timeout=30, check=True)

    arguments = ["--port", moved["8080"], "--spawn", "2", "--spawn-port", moved["9000"]]
    proxy = system.start("proxy", *arguments)
    proxy.port = first + 2
    proxy.wait_line("Ready: ")
    items = [{"key": f"k{i}", "value": i} for i in range(50)]
    asked = [{"key": item["key"]} for item in items]
    assert proxy.call("POST", "/set", items).status == 200
    run(backup())
    assert proxy.call("POST", "/delete", asked).json == {"deleted": 50}
    proxy.signal(signal.SIGTERM)
    assert proxy.ended() == 0
    shutil.rmtree(system.directory / "gkv-data")
    run(restore())
    again = system.start("proxy", *arguments)
    again.port = first + 2
    again.wait_line("Ready: ")
    assert again.call("POST", "/get", asked).json == {"existedKey": items}
    assert again.call("POST", "/set", [{"key": "k1", "value": "later"}]).status == 200
    assert again.call("GET", "/get?key=k1").json["existedKey"] == [{"key": "k1", "value": "later"}]


def _but_epoch(answer: str) -> str:
    """Return an answer without its epoch, which depends on who was the first to join."""
    return re.sub(r'"epoch":\d+', '"epoch":0', answer)


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
        assert _but_epoch(run.stdout.strip()) == _but_epoch(here(answer)), command


def _but_figures(answer: str) -> str:
    """Return an answer without the figures that depend on the time, or on the nodes' ports."""
    return re.sub(r'(?<=":)\d+(\.\d+)?', "0", answer)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_readme_system_grows_by_a_node_with_the_lines_printed_there(system: System) -> None:
    [block] = blocks("grow")
    assert sum("curl " in command for command, _ in block) == 4
    first = free_ports(4)
    moved = {"8080": str(first + 3), "9000": str(first), "9001": str(first + 1), "9002": str(first + 2)}
    url = f"http://127.0.0.1:{moved['8080']}"

    def here(text: str) -> str:
        there = re.sub(r"(?<![0-9.])(8080|9000|9001|9002)\b", lambda found: moved[found[1]], text)
        return there.replace(".venv/bin/", f"{Path(sys.executable).parent}/")

    def run(command: str) -> str:
        arguments = ["sh", "-c", here(command)]
        environment = INHERITED | {"GKV_PROXY": url}
        ran = subprocess.run(
            arguments, cwd=system.directory, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=True
        )
        return ran.stdout.strip()

    proxy = system.start("proxy", "--port", moved["8080"], "--spawn", "2", "--spawn-port", moved["9000"])
    proxy.port = first + 3
    proxy.wait_line("Ready: ")
    run("curl -s localhost:8080/v1/ring > before.json")
    node = 0
    try:
        for command, answer in block[:-1]:
            if "gkv-node" in command:
                node = int(run(f"{command} echo $!"))
            else:
                assert _but_figures(run(command)) == _but_figures(here(answer)), command
        command, answer = block[-1]

        def settled() -> str:
            found = run(command)
            return found if sum(int(keys) for keys in re.findall(r'"keys":(\d+)', found)) == 50_000 else ""

        found = wait_for("each key at one node", settled)
        assert _but_figures(found) == _but_figures(here(answer))
        assert all(14_500 < int(keys) < 19_000 for keys in re.findall(r'"keys":(\d+)', found))
        run(f".venv/bin/python {README.parent}/examples/ring_picture.py before.json http://localhost:8080 > ring.svg")
        assert " of the ring has another owner now" in (system.directory / "ring.svg").read_text()
    finally:
        if node:
            os.kill(node, signal.SIGTERM)
