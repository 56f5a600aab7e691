"""Network namespaces, one for each process, joined by a switch that loses, delays and cuts by a seed.

Each namespace has one interface, whose packets a process of its own takes and gives: that one is
the network. A packet is late or lost by lot; between two it is lost one way or both while that is
cut. The kernels on both sides see what they would see of a bad network, and nothing else is on it.

The namespaces have no names and lie in no directory: they are gone with the processes in them.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import selectors
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
MTU = 16_000
PREFIX = "10.77.0."
_libc = ctypes.CDLL(None, use_errno=True)


def _enter(descriptor: int) -> None:
    """Move this thread to a network namespace."""
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Wires:
    """The network, as a test sees it."""

    def __init__(self, names: Sequence[str], seed: int = 0) -> None:
        """Make a namespace for each name; skip the test where that is not allowed."""
        if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
            pytest.skip("only root makes network namespaces, and it takes /dev/net/tun")
        self._switch = subprocess.Popen(
            [sys.executable, "-P", __file__, str(seed), *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._switch.stdout is not None
        self._paths: dict[str, str] = json.loads(self._switch.stdout.readline() or "{}")
        if not self._paths:
            self._switch.wait()
            pytest.skip("no network namespaces can be made here")
        self.addresses = dict(zip(names, map(_address, range(len(names))), strict=True))
        self.addresses6 = dict(zip(names, map(_address6, range(len(names))), strict=True))
        self._lock = threading.Lock()

    def under(self, name: str) -> list[str]:
        """Return the beginning of a command that runs in a namespace."""
        return ["nsenter", f"--net={self._paths[name]}"]

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Have this thread, and those that it starts, speak from a namespace."""
        here, there = (os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", self._paths[name]))
        try:
            _enter(there)
            yield
        finally:
            _enter(here)
            os.close(here)
            os.close(there)

    def cut(self, src: str, dst: str, *, both: bool = False) -> None:
        """Lose all that goes one way, or both."""
        self._ask({"cut": [[src, dst], *[[dst, src]] * both]})

    def mend(self, src: str, dst: str, *, both: bool = False) -> None:
        """Lose it no more."""
        self._ask({"mend": [[src, dst], *[[dst, src]] * both]})

    def trouble(self, loss: float, delays: tuple[float, float], among: Sequence[str]) -> None:
        """Lose this share of the packets between any two of these, and delay the others by so many seconds."""
        self._ask({"loss": loss, "delays": delays, "among": list(among)})

    def heal(self) -> None:
        """End all of that."""
        self._ask({"heal": True})

    def _ask(self, what: Mapping[str, object]) -> None:
        assert self._switch.stdin is not None
        assert self._switch.stdout is not None
        with self._lock:
            self._switch.stdin.write(json.dumps(what) + "\n")
            self._switch.stdin.flush()
            assert self._switch.stdout.readline() == "done\n", "the switch has ended"

    def close(self) -> str:
        """End it; return what has passed."""
        return self._switch.communicate()[0].strip()


def _address(place: int) -> str:
    return f"{PREFIX}{place + 1}"


def _address6(place: int) -> str:
    return f"fd77::{place + 1:x}"


class _Switch:
    """The process between the namespaces."""

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        self._lot = random.Random(seed)
        self._ends = [_end(place) for place in range(len(names))]
        self._spaces = [space for space, _ in self._ends]
        self._taps = [tap for _, tap in self._ends]
        self._cuts: set[tuple[int, int]] = set()
        self._loss, self._delays, self._among = 0.0, (0.0, 0.0), set[int]()
        self._late: list[tuple[float, int, int, bytes]] = []
        self._counts = {"passed": 0, "lost": 0, "cut": 0, "late": 0}
        self._number = 0
        self._selector = selectors.DefaultSelector()
        for place, tap in enumerate(self._taps):
            self._selector.register(tap, selectors.EVENT_READ, place)
        self._selector.register(0, selectors.EVENT_READ)

    def run(self) -> None:
        """Pass packets on until standard input ends."""
        pid = os.getpid()
        _say(json.dumps({name: f"/proc/{pid}/fd/{self._spaces[place]}" for name, place in self._places.items()}))
        while True:
            wait = max(0.0, self._late[0][0] - time.monotonic()) if self._late else None
            for key, _ in self._selector.select(wait):
                if key.fd != 0:
                    self._take(key.fd, key.data)
                elif not self._command():
                    _say(json.dumps(self._counts))
                    return
            now = time.monotonic()
            while self._late and self._late[0][0] <= now:
                _, _, dst, packet = heapq.heappop(self._late)
                self._give(dst, packet)

    def _take(self, tap: int, src: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(tap, 65_536)
            except BlockingIOError:
                return
            dst = packet[19 if packet[0] >> 4 == 4 else 39] - 1
            if 0 <= dst < len(self._taps) and dst != src:
                self._pass(src, dst, packet)

    def _pass(self, src: int, dst: int, packet: bytes) -> None:
        if (src, dst) in self._cuts:
            self._counts["cut"] += 1
        elif src not in self._among or dst not in self._among:
            self._give(dst, packet)
        elif self._lot.random() < self._loss:
            self._counts["lost"] += 1
        elif (delay := self._lot.uniform(*self._delays)) > 0:
            self._number += 1
            self._counts["late"] += 1
            heapq.heappush(self._late, (time.monotonic() + delay, self._number, dst, packet))
        else:
            self._give(dst, packet)

    def _give(self, dst: int, packet: bytes) -> None:
        self._counts["passed"] += 1
        try:
            os.write(self._taps[dst], packet)
        except OSError:
            self._counts["lost"] += 1  # nobody takes it

    def _command(self) -> bool:
        line = sys.stdin.readline()
        if not line:
            return False
        asked = json.loads(line)
        for src, dst in asked.get("cut", ()):
            self._cuts.add((self._places[src], self._places[dst]))
        for src, dst in asked.get("mend", ()):
            self._cuts.discard((self._places[src], self._places[dst]))
        if "loss" in asked:
            self._loss, self._delays = asked["loss"], tuple(asked["delays"])
            self._among = {self._places[name] for name in asked["among"]}
        if "heal" in asked:
            self._cuts.clear()
            self._among = set()
        _say("done")
        return True


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _end(place: int) -> tuple[int, int]:
    """Make a namespace with one interface; return the descriptors of both."""
    if _libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH14x", b"wire", IFF_TUN | IFF_NO_PI))
    for words in (
        f"addr add {_address(place)}/24 dev wire",
        f"-6 addr add {_address6(place)}/64 dev wire nodad",
        f"link set wire mtu {MTU} up",
        "link set lo up",
    ):
        subprocess.run(["ip", *words.split()], check=True, stdin=subprocess.DEVNULL)
    return os.open("/proc/self/ns/net", os.O_RDONLY), tap


if __name__ == "__main__":
    _Switch(sys.argv[2:], int(sys.argv[1])).run()
