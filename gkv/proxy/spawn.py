"""Nodes as child processes of a proxy: a whole system with one command."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from time import monotonic

from gevent.event import Event

from gkv.config import KNOBS, Settings
from gkv.errors import Unavailable
from gkv.net import notify

_JOIN_WITHIN = 30.0
_END_WITHIN = 2.0
"""Seconds that a child has beyond its time for running requests."""


class Children:
    """Node processes that end with this one.

    Each child has a pipe from this process as its standard input and ends when that closes; the system closes it however
    this process ends, SIGKILL included.
    """

    def __init__(self, proxy: str, settings: Settings, say: Callable[[str], None]) -> None:
        """Start `settings.spawn` nodes that join at the URL `proxy`."""
        self._say = say
        self._end_within = settings.drain + _END_WITHIN
        self.ports = range(settings.spawn_port, settings.spawn_port + settings.spawn)
        self._processes = {f"{settings.host}:{port}": _start(port, proxy, settings) for port in self.ports}

    def wait_joined(self, joined: Callable[[str], bool], ending: Event) -> None:
        """Wait until every child is a member that has called in, or `ending` is set. Switches greenlets.

        Raise Unavailable when one ends before that.
        """
        until = monotonic() + _JOIN_WITHIN
        while not all(joined(node_id) for node_id in self._processes):
            for node_id, process in self._processes.items():
                if process.poll() is not None:
                    raise Unavailable(f"node {node_id} ended with code {process.returncode} before it had joined")
            if monotonic() > until:
                waiting = ", ".join(node_id for node_id in self._processes if not joined(node_id))
                raise Unavailable(f"{waiting} did not join within {_JOIN_WITHIN:.0f} s")
            if ending.wait(0.02):
                return

    def watch(self, ending: Event) -> None:
        """Say when a child ends, until `ending` is set. It is not started again: why it ended is for a person to see first.

        Switches greenlets.
        """
        running = dict(self._processes)
        while running:
            for node_id, process in list(running.items()):
                if process.poll() is not None:
                    del running[node_id]
                    self._say(
                        f"node {node_id} ended with code {process.returncode}; its keys cannot be answered until it is started "
                        f"again: gkv-node {node_id.rpartition(':')[2]}"
                    )
            if ending.wait(0.5):
                return

    def end(self) -> None:
        """Ask all children to end and wait for it; kill what does not. Switches greenlets."""
        for process in self._processes.values():
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        until = monotonic() + self._end_within
        for process in self._processes.values():
            try:
                process.wait(max(0.1, until - monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(port: int, proxy: str, settings: Settings) -> subprocess.Popen[bytes]:
    node_id = f"{settings.host}:{port}"
    command = [sys.executable, "-P", "-m", "gkv.cli", "node", str(port), "--until-stdin-closes"]
    command += ["--host", settings.host, "--name", node_id, "--proxy", proxy]
    command += ["--deadline", f"{settings.deadline * 1000:.0f}ms", "--max-body", f"{settings.max_body}B"]
    command += ["--drain", f"{settings.drain * 1000:.0f}ms"]
    command += ["--max-answer", f"{settings.max_answer}B", "--max-inflight", str(settings.max_inflight)]
    command += ["--max-buffered", f"{settings.max_buffered}B"]
    command += ["--engine", settings.engine, "--durability", settings.durability]
    command += ["--max-disk", f"{settings.max_disk}B" if settings.max_disk else "0"]
    command += ["--tombstone-ttl", f"{settings.tombstone_ttl:.0f}s"]
    command += ["--metrics", str(int(settings.metrics)), "--log-format", settings.log_format]
    command += ["--access-log", str(int(settings.access_log))]
    if settings.tls_cert:
        command += ["--tls-cert", settings.tls_cert, "--tls-key", settings.tls_key, "--tls-ca", settings.tls_ca]
    if settings.insecure:
        command.append("--insecure")
    if settings.names:
        command += ["--names", ",".join(settings.names)]
    if settings.allow:
        command += ["--allow", ",".join(map(str, settings.allow))]
    # What the children need of a file of settings they have been given above, their directories are their own, and readiness is
    # the proxy's to tell.
    left_out = {"GKV_CONFIG", "GKV_DATA", notify.VARIABLE}
    left_out |= {f"GKV_{spelling.upper()}" for knob in KNOBS if knob.secret for spelling in knob.spellings}
    environment = {name: text for name, text in os.environ.items() if name not in left_out}
    for role, tokens in settings.tokens.items():  # here, since everybody on the machine can see a command line
        environment[f"GKV_{role.upper()}_TOKENS"] = ",".join(tokens)
    # Their first line is for a terminal; where every line has to be JSON there is no place for it.
    output = subprocess.DEVNULL if settings.log_format == "json" else sys.stderr
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, env=environment)  # noqa: S603  # our own program
