"""A cluster whose processes are started, ended and filled one by one: what `filling.py` and `growing.py` share."""

import http.client
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from systems import HOST, StartError, System, value

BATCH = 1_000
"""Keys of one call."""
_WITHIN = 1_200.0
_LOOK_EVERY = 0.02


class Cluster:
    """A proxy and its nodes, each a process of its own; the nodes are numbered from 1 on."""

    def __init__(self, directory: Path, port: int, nodes: int, copies: int) -> None:
        self.port = port
        self._directory = directory
        self._nodes = nodes
        self._copies = copies
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self) -> None:
        """Start all, and wait until they are up. Nodes give without a bound of the rate."""
        self.start_proxy()
        for number in range(1, self._nodes + 1):
            self.start(number, 0)
        self.wait("all nodes", self._are_all_there)

    def _are_all_there(self) -> bool:
        document = self.document() or {"members": [], "next": None}
        there = [one for one in document["members"] if one["state"] == "up" and one["weight"]]
        return len(there) == self._nodes and document["next"] is None

    def _start(self, name: str, *arguments: str) -> None:
        command = [sys.executable, "-P", "-m", "gkv.cli", *arguments]
        with self._log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def start_proxy(self) -> None:
        self._start("proxy", "proxy", "--port", str(self.port), "--replicas", str(self._copies))

    def start(self, number: int, rate: int | None) -> None:
        """Start a node; None for the usual rate."""
        proxy, name = f"http://{HOST}:{self.port}", f"n{number}"
        self._set_rate(name, rate)
        arguments = ["--name", name, "--proxy", proxy, "--data", name, "--config", f"{name}.toml"]
        self._start(name, "node", str(self.port + number), *arguments)

    def _set_rate(self, name: str, rate: int | None) -> None:
        text = "" if rate is None else f"fill_rate = {rate}\n"
        (self._directory / f"{name}.toml").write_text(text, encoding="utf-8")

    def give(self, rate: int | None) -> None:
        """Have all nodes give at another rate to those that are filled."""
        said = "the settings were read again"
        for name, process in self._processes.items():
            if name != "proxy":
                before = len(self.times(said, name))
                self._set_rate(name, rate)
                process.send_signal(signal.SIGHUP)
                self.wait("the new rate", lambda name=name, before=before: len(self.times(said, name)) > before)

    def kill_proxy(self) -> None:
        self._processes["proxy"].kill()
        self._processes["proxy"].wait()

    def end(self, number: int, by: signal.Signals) -> None:
        """End a node, and wait until it is down."""
        self.stop(number, by)
        self.wait("the eviction", lambda: self.states().get(f"n{number}") == "down")

    def stop(self, number: int, by: signal.Signals = signal.SIGTERM) -> None:
        """End the process of a node."""
        process = self._processes.pop(f"n{number}")
        process.send_signal(by)
        process.wait()

    def lose(self, number: int) -> None:
        """Take a node's directory away."""
        shutil.rmtree(self._directory / f"n{number}")

    def call(self, method: str, path: str, body: Any = None, port: int = 0) -> Any:
        """Return the JSON, or the text, of an answer that is 200 or 202."""
        connection = http.client.HTTPConnection(HOST, port or self.port, timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body), {"Accept": "application/json"})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if response.status not in (200, 202):
            raise StartError(f"{method} {path} is answered {response.status}: {text[:200]!r}")
        return json.loads(text) if text.startswith((b"{", b"[")) else text.decode()

    def document(self) -> Any:
        """Return what the proxy shows of the cluster, None while it does not answer."""
        try:
            return self.call("GET", "/v1/cluster")
        except OSError:
            return None

    def states(self) -> dict[str, str]:
        """Return the state of each node, nothing while the proxy does not answer."""
        document = self.document()
        return {} if document is None else {member["id"]: member["state"] for member in document["members"]}

    def figure(self, number: int, name: str) -> float:
        """Return a figure of a node's, 0 if it is not there."""
        lines = self.call("GET", "/metrics", port=self.port + number).splitlines()
        return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def times(self, said: str, name: str = "proxy") -> list[float]:
        """Return when a process has said something in its log."""
        lines = self._log(name).read_text(encoding="utf-8").splitlines()
        return [datetime.fromisoformat(line.split()[0]).timestamp() for line in lines if said in line]

    def wait(self, what: str, holds: Callable[[], bool]) -> float:
        """Wait until something holds; return for how long."""
        since = time.monotonic()
        while not holds():
            if time.monotonic() - since > _WITHIN:
                raise StartError(f"{what} does not come: {self.states()}")
            time.sleep(_LOOK_EVERY)
        return time.monotonic() - since

    def set(self, keys: Sequence[str], version: str) -> None:
        for at in range(0, len(keys), BATCH):
            self.call("POST", "/set", [{"key": one, "value": value(at) + version} for one in keys[at : at + BATCH]])

    def system(self) -> System:
        """Return it as one that requests are sent to."""
        processes = {name: process.pid for name, process in self._processes.items()}
        return System("gkv", "json", self.port, processes, lambda: None)

    def close(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait()
