"""Nodes as child processes of a proxy: a whole system with one command."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import monotonic

import gevent
from gevent.event import Event

from gkv.addresses import Address, address_of
from gkv.cluster.authority import Authority
from gkv.config import KNOBS, Settings
from gkv.errors import ConfigError, Unavailable
from gkv.log import as_error, as_warning, say
from gkv.process import notify
from gkv.sources import Reading

_CALL_WITHIN = 3.0
"""Seconds within which members that run call in, before others are started beside them."""
_EXPECTED_WITHIN = 5.0
"""Seconds for which the first ring waits until all children have called in."""
_JOIN_WITHIN = 30.0
_END_WITHIN = 2.0
"""Seconds that a child has beyond its time for running requests."""
_LOOK_EVERY = 0.2
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds between the end of a child and its next start; twice as long each time, until it has run
for a while.
"""
_RUNS_WELL_AFTER = 60.0
_WRONG_SETTINGS = (2, 78)
"""Exit codes after which another start would end the same way."""


@dataclass(slots=True)
class _Child:
    """A node, and the process that it is just now, if it is one."""

    node: str
    port: int
    directory: Path
    process: "subprocess.Popen[bytes] | None" = None
    started: float = -inf
    starts_at: float = inf
    """When it is to be started again; never while it runs."""
    pause: float = _FIRST_PAUSE

    @property
    def exit_code(self) -> int | None:
        return None if self.process is None else self.process.poll()


class Children:
    """Node processes that end with this one.

    Each child has a pipe from this process as its standard input and ends when that closes; the
    system closes it however this process ends, SIGKILL included.
    """

    def __init__(self, proxy: str, reading: Reading, authority: Authority) -> None:
        """Be ready to start `--spawn` nodes that join at the URL `proxy`, with the settings as they
        were written.
        """
        self._settings = settings = reading.settings
        self._proxy = proxy
        self._authority = authority
        self._environment = _environment(reading, os.environ)
        self.ports = range(settings.spawn_port, settings.spawn_port + settings.spawn)
        base = Path(settings.data or "gkv-data")
        self._children = [_Child(self._id_at(port, base / str(port)), port, base / str(port)) for port in self.ports]
        self._ended = Event()
        """Set when a child has ended."""

    def _id_at(self, port: int, directory: Path) -> str:
        """Return the id of the node with a port: one that has a directory keeps its id, whatever its host is now."""
        made = _address(self._settings, port).id
        members = self._authority.document.members
        there = [one.id for one in members if address_of(one.url).port == port]
        is_kept = (directory / "data.mdb").exists() and self._authority.document.member(made) is None
        return there[0] if is_kept and len(there) == 1 else made

    @property
    def are_members(self) -> bool:
        """Whether the document has them all already, or there are none."""
        nodes = {node.id for node in self._authority.document.nodes}
        return all(child.node in nodes for child in self._children)

    def start(self, ending: Event) -> bool:
        """Start all, and wait until each is a member that has called in; return False if `ending`
        is set before.

        Raise ConfigError when they do not fit the members there are, Unavailable when one ends
        before it has joined. Switches greenlets.
        """
        before = {node.id for node in self._authority.document.nodes}
        self._refuse_strangers(before, ending)
        self._refuse_data_elsewhere(before)
        self._authority.attendance.expect([child.node for child in self._children], _EXPECTED_WITHIN)
        for child in self._children:
            if ending.is_set():
                return False
            self._start(child)
        until = monotonic() + _JOIN_WITHIN
        has_joined = self._authority.attendance.has_joined
        while waiting := [child.node for child in self._children if not has_joined(child.node)]:
            for child in self._children:
                if child.exit_code is not None:
                    self._raise_early_end(child, before)
            # An operator's word may be needed, or nodes that join are filled, which takes its time.
            if self._authority.waits_for or self._authority.document.next is not None:
                until = monotonic() + _JOIN_WITHIN
            if monotonic() > until:
                raise Unavailable(f"{', '.join(waiting)} did not join within {_JOIN_WITHIN:.0f} s")
            if ending.wait(0.02):
                return False
        return True

    def _refuse_strangers(self, before: set[str], ending: Event) -> None:
        """Raise ConfigError for nodes that are no members yet while members are missing: their keys
        would be nowhere.
        """
        mine = {child.node for child in self._children}
        missing = before - mine
        if not missing or mine <= before:
            return
        until = monotonic() + _CALL_WITHIN
        while missing := {node for node in missing if not self._authority.attendance.answers(node)}:
            if monotonic() > until:
                raise ConfigError(
                    f"the members are {_listed(before)}, of which {_listed(missing)} does not run; "
                    f"{_listed(mine - before)} would be new beside them, with none of their data. "
                    f"{_advice(before, self._settings)}, or begin a new system with another --data"
                )
            if ending.wait(0.05):
                return

    def _refuse_data_elsewhere(self, before: set[str]) -> None:
        """Raise ConfigError when a member's data lies where nodes kept it before they followed
        --data.
        """
        for child in self._children:
            older = Path("gkv-data") / str(child.port)
            kept = self._settings.engine != "memory" and child.node in before
            if kept and not (child.directory / "data.mdb").exists() and (older / "data.mdb").exists():
                raise ConfigError(
                    f"the data of member {child.node} belongs into {child.directory}, where there is none; an "
                    f"older version has kept it in {older}. Move it: mv {older} {child.directory}"
                )

    def _raise_early_end(self, child: _Child, before: set[str]) -> None:
        said = f"node {child.node} ended with code {child.exit_code} before it had joined"
        stranger = bool(before) and child.node not in before
        if stranger:
            said += f". The members are {_listed(before)}. {_advice(before, self._settings)}"
        raise (ConfigError if stranger or child.exit_code in _WRONG_SETTINGS else Unavailable)(said)

    def say_who_is_missing(self) -> None:
        """Say which members do not run, and how they do; and whether there are fewer than copies of each key."""
        document = self._authority.document
        members = {node.id for node in document.nodes}
        if document.replicas > len(members):
            say(
                as_warning(
                    f"each key is to have {document.replicas} copies, and there are {len(members)} nodes: copies are missing "
                    f"until further nodes join"
                )
            )
        for node in sorted(members):
            if not self._authority.attendance.answers(node):
                say(
                    as_warning(
                        f"member {node} is not running; {self._fate[0].lower() + self._fate[1:]} until it is started again. "
                        f"{_advice(members, self._settings)}"
                    )
                )

    def supervise(self) -> None:
        """Start a child again when it has ended, after a pause, and say so. Switches greenlets, for
        ever.
        """
        while True:
            self._ended.clear()
            for child in self._children:
                self._look(child, monotonic())
            self._ended.wait(_LOOK_EVERY)

    def _look(self, child: _Child, now: float) -> None:
        code = child.exit_code
        if child.process is not None and code is not None:
            self._authority.ended(child.node, child.process.pid)  # which nothing else could say for certain
            _close_input(child.process)
            child.process = None
            if code in _WRONG_SETTINGS:
                say(
                    as_error(
                        f"node {child.node} ended with code {code}, and would end so again: it is not started again. "
                        f"{self._fate} until its reason is mended and this proxy has been started anew"
                    )
                )
                return
            if now - child.started >= _RUNS_WELL_AFTER:
                child.pause = _FIRST_PAUSE
            self._start_later(child, now, f"ended with code {code}")
        if now >= child.starts_at:
            try:
                self._start(child)
            except OSError as error:
                self._start_later(child, now, f"cannot be started: {error.strerror}")

    def _start_later(self, child: _Child, now: float, why: str) -> None:
        fate = self._fate[0].lower() + self._fate[1:]
        say(as_warning(f"node {child.node} {why}; {fate} until it runs again. It is started in {child.pause:g} s"))
        child.starts_at = now + child.pause
        child.pause = min(_LONGEST_PAUSE, 2 * child.pause)

    @property
    def _fate(self) -> str:
        """What becomes of the keys of a child that does not run."""
        alone = self._authority.document.replicas == 1
        return "Its keys cannot be answered" if alone else "Its keys have a copy less"

    def _start(self, child: _Child) -> None:
        command = [sys.executable, "-P", "-m", "gkv.cli", "node", str(child.port), "--until-stdin-closes"]
        command += ["--name", child.node, "--proxy", self._proxy, "--data", str(child.directory)]
        if self._settings.advertise is not None:
            command += ["--advertise", str(_address(self._settings, child.port))]
        # The first line is for a terminal, and has no place where every line has to be JSON.
        output = subprocess.DEVNULL if self._settings.log_format == "json" else 2
        child.starts_at = inf
        child.started = monotonic()
        child.process = subprocess.Popen(  # noqa: S603  # our own program
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for the proxy, which ends them last
        )
        gevent.spawn(self._await, child.process)

    def _await(self, process: "subprocess.Popen[bytes]") -> None:
        """Have it known at once that a child has ended: until then others wait for it."""
        process.wait()
        self._ended.set()

    def close(self) -> None:
        """Ask all children to end and wait for it; kill what does not. Switches greenlets."""
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            _close_input(process)
        until = monotonic() + self._settings.drain + _END_WITHIN
        for process in running:
            try:
                process.wait(max(0.1, until - monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _close_input(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _address(settings: Settings, port: int) -> Address:
    """Return the address that others are told of a node that listens on a port."""
    return Address(settings.advertised(port).host, port)


def _listed(nodes: set[str]) -> str:
    return ", ".join(sorted(nodes))


def _advice(members: set[str], settings: Settings) -> str:
    """Return how all these members are started: by this proxy, if their names are its address and
    ports in a row.
    """
    beginning = _address(settings, 1).id.removesuffix("1")
    ports = sorted(int(node.removeprefix(beginning)) for node in members if node.removeprefix(beginning).isdecimal())
    if len(ports) == len(members) and ports == list(range(ports[0], ports[0] + len(ports))):
        return f"Start them with --spawn {len(ports)} --spawn-port {ports[0]}"
    return "Start them with gkv-node, each with its name and its data"


def _environment(reading: Reading, mine: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a child: the settings that this process was given, as they were
    written, by whatever way.

    Here, since everybody on the machine can see a command line. Settings that only nodes have stay
    what they are in `mine`; a file of settings is not read once more, and readiness is the proxy's
    to tell.
    """
    shared = [knob for knob in KNOBS if knob.commands == "proxy node"]
    left_out = {"GKV_CONFIG", notify.VARIABLE} | {f"GKV_{spelling.upper()}" for knob in shared for spelling in knob.spellings}
    handed = {knob.variable: reading.found[knob.name] for knob in shared if knob.name != "data"}
    return {name: text for name, text in mine.items() if name not in left_out} | {
        name: found.text for name, found in handed.items() if found.origin != "default"
    }
