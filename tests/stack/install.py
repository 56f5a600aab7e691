"""The virtual machine put into the places of the real one. To be imported before anything of gkv; one process, one loop."""

import sys

assert "gkv" not in sys.modules, "gkv has the real clock already"

import http.client
import math
import os
import random
import secrets
import socket
import time
import uuid
from types import SimpleNamespace
from typing import Any, cast

import gevent

from tests.stack.loop import Loop

gevent.config.loop = Loop
real_monotonic = time.monotonic


def loop() -> Loop:
    """Return the loop of this process."""
    return cast("Loop", gevent.get_hub().loop)


def _wall_ns() -> int:
    return int(loop().wall() * 1e9)


def _clock_gettime(clock: int) -> float:
    return loop().wall() if clock == time.CLOCK_REALTIME else loop().boot()


time.monotonic = lambda: loop().boot()
time.time = lambda: loop().wall()
time.time_ns = _wall_ns
time.clock_gettime = _clock_gettime
time.clock_gettime_ns = lambda clock: int(_clock_gettime(clock) * 1e9)
secrets.randbits = random.getrandbits
uuid.uuid4 = lambda: uuid.UUID(int=random.getrandbits(128), version=4)


class InOrder(dict[Any, None]):
    """A set whose members come in the order in which they were added: that of a set of objects is by their addresses."""

    def add(self, one: object) -> None:
        self[one] = None

    def discard(self, one: object) -> None:
        self.pop(one, None)


import gkv.log

lines: list[str] = []
"""The story: what processes say, and what happens to them."""


def tell(line: str, trace: str = "") -> None:
    """Note a line of the host that runs."""
    now = loop()
    lines.append(f"{now.now_true:9.4f} {now.host.name:>9}  {line}{trace and chr(10) + trace}")


gkv.log.say = tell

import gkv.threads
from tests.stack.thread import OpenLock, Thread

gkv.threads.NativeThread = Thread  # type: ignore[misc, assignment]

import gkv.net.deadlines


class Watches:
    """The watch over deadlines of each host."""

    def _of(self) -> gkv.net.deadlines.Deadlines:
        host = loop().host
        if host.watch is None:
            host.watch = gkv.net.deadlines.Deadlines()
            host.watch._waits = InOrder()
        return cast("gkv.net.deadlines.Deadlines", host.watch)

    def add(self, wait: gkv.net.deadlines.Timed) -> None:
        self._of().add(wait)

    def remove(self, wait: gkv.net.deadlines.Timed) -> None:
        self._of().remove(wait)


gkv.net.deadlines.deadlines = Watches()  # type: ignore[assignment]

import gkv.cluster.caller
import gkv.cluster.view
import gkv.engine.writer
import gkv.net.sender
import gkv.node.membership

gkv.engine.writer._allocate_lock = OpenLock

from tests.stack.sockets import Network

network: Network | None = None
"""The one of the run."""


def _connect(*args: Any, **names: Any) -> Any:
    assert network is not None
    return network.connect(*args, **names)


def _dial(address: tuple[str, int], until: float, each: float = math.inf, **_: object) -> Any:
    return _connect(address, max(0.001, min(each, until - time.monotonic())))


class Connection(http.client.HTTPConnection):
    """A connection over the virtual network."""

    def __init__(self, *args: Any, **names: Any) -> None:
        super().__init__(*args, **names)
        self._create_connection = _connect


CLIENT = SimpleNamespace(client=SimpleNamespace(HTTPConnection=Connection, HTTPException=http.client.HTTPException))
"""In the place of the module `http`, for those who call."""
gkv.cluster.caller.dial = gkv.net.sender.dial = _dial
gkv.net.sender.socket = SimpleNamespace(  # type: ignore[assignment]
    **{name: getattr(socket, name) for name in ("IPPROTO_TCP", "TCP_NODELAY", "SHUT_RDWR", "SHUT_WR")},
)


def pid_of(host: str) -> int:
    """Return the number of a process."""
    machine, _, number = host.partition("#")
    return 1 + sum(machine.encode()) * 10_000 + int(number or 0)


gkv.node.membership.os = SimpleNamespace(getpid=lambda: pid_of(loop().host.name))  # type: ignore[assignment]
os.fsync = os.fdatasync = lambda _file: None  # the machine goes on when a host ends
