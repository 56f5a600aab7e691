"""The README's example, as it stands there: each curl call gives exactly the answer that is printed below it."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import System, Worker

README = Path(__file__).parents[2] / "README.md"


def calls() -> Iterator[tuple[str, str]]:
    """Yield each command of the console blocks with the answer below it."""
    for block in re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            yield command, answer.strip()


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
