"""Every knob once: its flag, environment name, default, unit and reason. Where they are read from: `gkv.sources`."""

import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gkv.errors import ConfigError


def duration(text: str) -> float:
    """Read a time such as `400ms`, `2s` or `1m`; return seconds.

    >>> duration("400ms")
    0.4
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)", text)
    if not match or float(match[1]) == 0:
        raise ValueError("a time above 0 such as 400ms, 2s, 1m, 12h or 1d")
    return float(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}[match[2]]


def size(text: str) -> int:
    """Read a size such as `480B`, `64KiB` or `32MiB`; return bytes.

    >>> size("64KiB")
    65536
    """
    match = re.fullmatch(r"(\d{1,12})(B|KiB|MiB|GiB)", text)
    if not match or int(match[1]) == 0:
        raise ValueError("a size above 0 such as 480B, 64KiB or 32MiB")
    return int(match[1]) << {"B": 0, "KiB": 10, "MiB": 20, "GiB": 30}[match[2]]


def disk(text: str) -> int:
    """Read how much of the disk a data file may take, or 0 for no bound."""
    if text == "0":
        return 0
    found = size(text)
    if found < 8 << 20:
        raise ValueError("0, or a size from 8MiB on")
    return found


def tombstone_ttl(text: str) -> float:
    """Read how long tombstones are kept; return seconds.

    Half of it is what a write may take from its coordinator to the disk, so it cannot be short.
    """
    seconds = duration(text)
    if not 10 <= seconds <= 366 * 86_400:
        raise ValueError("a time from 10s to 366d")
    return seconds


def one_of(*choices: str) -> Callable[[str], str]:
    """Return what reads one of these words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of: {', '.join(choices)}")
        return text

    return read


def port(text: str) -> int:
    """Read a port; 0 lets the system choose one."""
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65_535:
        raise ValueError("a port from 0 to 65535")
    return int(text)


def count(text: str) -> int:
    """Read a small whole number."""
    if not re.fullmatch(r"\d{1,2}", text):
        raise ValueError("a number from 0 to 99")
    return int(text)


def many(text: str) -> int:
    """Read how many there may be of something."""
    if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) <= 65_536:
        raise ValueError("a number from 1 to 65536")
    return int(text)


def weight(text: str) -> float:
    """Read a node's weight."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1_000:
        raise ValueError("a number above 0, at most 1000")
    return number


def name(text: str) -> str:
    """Read a node's name, or "" for none."""
    if not re.fullmatch(r"|[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", text):
        raise ValueError("1 to 64 letters, digits, '.', '_', ':' or '-', starting with a letter or a digit")
    return text


def url(text: str) -> str:
    """Read the URL of a proxy."""
    try:
        parts = urlsplit(text)
        good = parts.scheme == "http" and parts.hostname and parts.port and parts.path in ("", "/")
        good = good and parts.netloc == text.removeprefix("http://").removesuffix("/") and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good:
        raise ValueError("a URL such as http://127.0.0.1:8080")
    return f"http://{parts.netloc}"


def host(text: str) -> str:
    """Read an IPv4 address to listen on."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError("an IPv4 address such as 127.0.0.1") from None


def names(text: str) -> list[str]:
    """Read host names, separated by commas; none for ""."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(r"[A-Za-z0-9._~-]{1,253}", part) for part in found):
        raise ValueError("host names, separated by commas")
    return found


def switch(text: str) -> bool:
    """Read a yes or no from the environment; as a flag it stands alone."""
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


def toggle(text: str) -> bool:
    """Read a yes or no that is said with 0 or 1 as a flag too: one that may be on by default."""
    return switch(text)


LEAST_ANSWER = 2 << 20
"""Bytes. A value has one mebibyte at most, and a third more where it is shown as base64."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting. `why` says what it is for, with its unit; `parse` raises ValueError with what it takes.

    A `secret` is never shown, neither by --print-config nor in an error, and may also be the content of a file: as
    `--NAME-file`, `GKV_NAME_FILE` or `NAME_file`. One with `reload` is read again on SIGHUP, by whoever uses it.
    """

    name: str
    parse: Callable[[str], Any]
    default: str
    why: str
    commands: str = "proxy node"
    reload: bool = False
    secret: bool = False

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        return f"GKV_{self.name.upper()}"

    @property
    def spellings(self) -> list[str]:
        """Its names in a file."""
        return [self.name, f"{self.name}_file"] if self.secret else [self.name]


KNOBS = (
    Knob("host", host, "127.0.0.1", "address to listen on; anything but loopback needs --insecure"),
    Knob("port", port, "8080", "port to listen on; 0 lets the system choose", "proxy"),
    Knob("proxy", url, "http://127.0.0.1:8080", "where to join", "node"),
    Knob("name", name, "", "the node's id; it decides which keys the node owns (default: its HOST:PORT)", "node"),
    Knob("weight", weight, "1", "share of the keys, against 1 for an ordinary node", "node"),
    Knob("engine", one_of("lmdb", "memory"), "lmdb", "where records lie: lmdb, on disk, or memory"),
    Knob("data", str, "", "directory of what is kept (default: gkv-data/proxy, or gkv-data/PORT for a node)"),
    Knob(
        "durability", one_of("sync", "async"), "sync", "sync: a write is on disk before it is acknowledged; async: soon after"
    ),
    Knob("max_disk", disk, "0", "most bytes of a node's data file; beyond it values are refused (507); 0 for no bound"),
    Knob("tombstone_ttl", tombstone_ttl, "1d", "how long a node remembers what was deleted or has expired"),
    Knob("accept_loss", switch, "0", "join again although what this node held is lost", "node"),
    Knob("spawn", count, "0", "start this many nodes as child processes, which end with the proxy", "proxy"),
    Knob("spawn_port", port, "9000", "port of the first of them; the others follow", "proxy"),
    Knob("deadline", duration, "2s", "time for all node calls of one request; what is late is a failedKey"),
    Knob("drain", duration, "10s", "time that running requests have after SIGTERM"),
    Knob("max_body", size, "32MiB", "largest request body"),
    Knob("max_answer", size, "64MiB", "most bytes of values that one request may bring; beyond it, 413"),
    Knob("max_inflight", many, "256", "most requests in work at once, those of members apart; beyond it, 503"),
    Knob("max_buffered", size, "256MiB", "most bytes that bodies and answers may hold in memory; beyond it, 503"),
    Knob(
        "names",
        names,
        "",
        "further names that clients may call this server by; a Host of another name is answered 421",
        reload=True,
    ),
    Knob("metrics", toggle, "1", "1: count what happens, and answer /metrics; 0: neither"),
    Knob("log_format", one_of("text", "json"), "text", "lines on standard error as text or as JSON", reload=True),
    Knob("access_log", toggle, "0", "1: a line on standard error for each request, without its keys", reload=True),
    Knob("insecure", switch, "0", "listen beyond loopback although anyone who gets there can read and write"),
    Knob("until_stdin_closes", switch, "0", "end when standard input does: a supervisor's death ends its nodes", "node"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command runs with; fields that are not of that command keep their defaults. Times in seconds, sizes in bytes."""

    host: str
    port: int
    proxy: str
    name: str
    weight: float
    engine: str
    data: str
    durability: str
    max_disk: int
    tombstone_ttl: float
    accept_loss: bool
    spawn: int
    spawn_port: int
    deadline: float
    drain: float
    max_body: int
    max_answer: int
    max_inflight: int
    max_buffered: int
    names: list[str]
    metrics: bool
    log_format: str
    access_log: bool
    insecure: bool
    until_stdin_closes: bool

    def check(self) -> None:
        """Raise ConfigError for settings that cannot go together."""
        if not ipaddress.IPv4Address(self.host).is_loopback and not self.insecure:
            raise ConfigError(
                f"--host {self.host} is not loopback, and this version has no access control: whoever reaches the port "
                "can read and write everything. Say --insecure if that is what you want"
            )
        if ipaddress.IPv4Address(self.host).is_unspecified:
            raise ConfigError(f"--host {self.host} is no address that others could be sent to; name the one to listen on")
        if self.max_buffered < max(self.max_body, self.max_answer):
            raise ConfigError("--max-buffered has to be at least as large as --max-body and --max-answer, for one to fit in")
        if self.max_answer < LEAST_ANSWER:
            raise ConfigError(f"--max-answer has to be at least {LEAST_ANSWER >> 20}MiB, for any single value to fit in")
        if self.spawn and not 0 < self.spawn_port <= 65_536 - self.spawn:
            raise ConfigError(f"--spawn-port {self.spawn_port} leaves no room for {self.spawn} ports")
