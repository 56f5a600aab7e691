"""Real processes on loopback: started, killed, paused and restarted, each system with ports and a directory of its own."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.cluster import forge

T = TypeVar("T")

DEADLINE = 20.0
"""Seconds within which anything that is waited for must come."""
BUSY = 3
"""Times as long as what has a bound may take while other tests run beside it."""


NOWHERE = "http://127.0.0.1:1"
"""A proxy that is not there."""

INHERITED = {
    name: value
    for name, value in os.environ.items()
    if (not name.startswith("GKV_") or name == "GKV_NATIVE") and name != "PYTHONDONTWRITEBYTECODE"
}
"""The tests' own variables, such as seeds, are no settings; the commands would refuse them. And to
compile all of gkv at each of some hundred starts would double their time.
"""


def wait_for(what: str, condition: Callable[[], T], within: float = DEADLINE) -> T:
    """Return the condition's first true value; fail when it does not come in time."""
    until = time.monotonic() + within
    pause = 0.005
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)  # who waits for long takes no CPU from those who are waited for
    pytest.fail(f"did not come within {within} s: {what}")


_claimed: list[socket.socket] = []
"""A UDP socket for each port that this process has given to its tests, bound as long as the process lives."""


def free_ports(count: int, after: int = 0) -> int:
    """Return the first of `count` neighbouring ports, from `after` on, that nobody listens on.

    No other run of the tests is given them: UDP sockets of the same numbers claim them, before anything listens there.
    """
    for start in range(after or 20_000 + os.getpid() * 37 % 8_000, 32_000, count):
        claims: list[socket.socket] = []
        try:
            for port in range(start, start + count):
                claims.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                claims[-1].bind(("127.0.0.1", port))
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
        except OSError:
            for claim in claims:
                claim.close()
            continue
        _claimed.extend(claims)
        return start
    pytest.fail("no free ports")


@dataclass
class Answer:
    """What a call brought back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    timeout: float = 15,
    context: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    **headers: str,
) -> Answer:
    """Make one HTTP call, over TLS if there is a context; a body that is not bytes is sent as JSON."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    if context is not None:
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    try:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


@dataclass
class Program:
    """One running `gkv-proxy` or `gkv-node`."""

    process: subprocess.Popen[bytes] | forge.Forked
    out: Path
    err: Path
    port: int = 0
    host: str = "127.0.0.1"

    @property
    def stdout(self) -> str:
        return self.out.read_text()

    @property
    def stderr(self) -> str:
        return self.err.read_text()

    def wait_line(self, pattern: str) -> re.Match[str]:
        """Wait until standard output or standard error has a line with this pattern."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.stdout + self.stderr)
            assert match or self.process.poll() is None, f"it ended with {self.process.returncode}: {self.stderr}"
            return match

        return wait_for(f"a line with {pattern!r}", found)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(DEADLINE)

    def call(self, method: str, path: str, body: Any = None, timeout: float = 15, **headers: str) -> Answer:
        return call(self.port, method, path, body, timeout, host=self.host, **headers)


@dataclass
class System:
    """A directory in which programs run."""

    directory: Path
    programs: list[Program] = field(default_factory=list)

    def start(
        self,
        command: str,
        *arguments: str,
        under: Sequence[str] = (),
        popen: Mapping[str, Any] | None = None,
        **environment: str,
    ) -> Program:
        """Start a command of gkv's without waiting for it, `under` another one if that is given.

        `popen` has what is to be different for `subprocess.Popen`. A program is forked from one
        that has imported gkv, but for one that starts others or has something special of these.
        """
        number = len(self.programs)
        out, err = self.directory / f"{number}.out", self.directory / f"{number}.err"
        own = [name for name in environment if name == "GKV_NATIVE" or not name.startswith("GKV_")]
        special = under or popen or own or "--spawn" in arguments
        if not (forge.afresh or special):
            out.touch()
            err.touch()
            forked = forge.start(self.directory, [command, *arguments], INHERITED, environment, out, err)
            return self._add(Program(forked, out, err))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            usual = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr}
            process = subprocess.Popen(
                [*under, sys.executable, "-P", "-m", "gkv.cli", command, *arguments],
                cwd=self.directory,
                env=INHERITED | environment,
                **(usual | dict(popen or {})),
            )
        return self._add(Program(process, out, err))

    def _add(self, program: Program) -> Program:
        self.programs.append(program)
        return program

    def proxy(self, *arguments: str, port: int = 0, **environment: str) -> Program:
        """Start a proxy and wait until it listens."""
        proxy = self.start("proxy", "--port", str(port), *arguments, **environment)
        proxy.port = int(proxy.wait_line(r"Listening on port (\d+)\.\.\.")[1])
        return proxy

    def node(self, proxy: Program | None, *arguments: str, port: int = 0, **environment: str) -> Program:
        """Start a node and wait until it listens and, if a proxy is given, has joined there; else it waits for one."""
        target = ["--proxy", f"http://127.0.0.1:{proxy.port}" if proxy else NOWHERE]
        node = self.start("node", str(port), *target, *arguments, **environment)
        node.port = int(node.wait_line(r"Listening on port \.\.\.(\d+)")[1])
        if proxy:
            node.wait_line(": member of cluster ")
        return node

    def cluster(self, nodes: int, *arguments: str) -> tuple[Program, list[Program]]:
        """Start a proxy and nodes that have joined."""
        proxy = self.proxy(*arguments)
        return proxy, [self.node(proxy) for _ in range(nodes)]

    def end(self, *, all_run: bool = False) -> None:
        """Kill whatever still runs, which has to be everything if `all_run`; no program may have said a stack trace."""
        for program in self.programs:
            assert not all_run or program.process.poll() is None, f"it has ended: {program.stderr}"
            if program.process.poll() is None:
                program.signal(signal.SIGCONT)
                program.process.kill()
            program.process.wait()
        for program in self.programs:
            assert "Traceback" not in program.stderr, program.stderr


def spawned_in(directory: Path, *arguments: str) -> Iterator[Program]:
    """Give a proxy with two nodes that it has started."""
    system = System(directory)
    port = free_ports(3)
    proxy = system.start("proxy", "--port", str(port), "--spawn", "2", "--spawn-port", str(port + 1), *arguments)
    proxy.port = port
    proxy.wait_line("Ready: ")
    yield proxy
    proxy.signal(signal.SIGTERM)
    proxy.ended()
    system.end()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """Give a system in a directory of its own; kill whatever still runs after the test."""
    system = System(tmp_path)
    yield system
    system.end()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Program]]:
    """Give one running system for all tests of a module, a proxy and two nodes; none of them may harm it."""
    system = System(tmp_path_factory.mktemp("system"))
    proxy, nodes = system.cluster(2)
    yield [proxy, *nodes]
    system.end()


@pytest.fixture(scope="module")
def proxy(programs: list[Program]) -> Program:
    """Give that system's proxy."""
    return programs[0]


class Worker:
    """Does its work in a thread, from when it is made until it is told to stop; a subclass makes itself ready first."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait until the thread has ended."""
        self._stop.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        raise NotImplementedError


def keys_by_node(proxy: Program, count: int = 60) -> dict[str, list[str]]:
    """Return some keys for each node, by the node's id."""
    keys = [f"key-{i}" for i in range(count)]
    rows = proxy.call("POST", "/locate", [{"key": key} for key in keys]).json["keys"]
    owned: dict[str, list[str]] = {}
    for row in rows:
        owned.setdefault(row["nodes"][0]["id"], []).append(row["key"])
    return owned


@pytest.fixture
def everything(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--all-faults"))


@pytest.fixture
def busy(everything: bool) -> int:
    """Return by how much times are stretched."""
    return 1 if everything else BUSY
