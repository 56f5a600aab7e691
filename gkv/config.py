"""Every knob once: its flag, environment name, default, unit and reason. Where they are read from: `gkv.sources`."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gkv import addresses
from gkv.addresses import Address, Network, is_loopback, is_unspecified, shown
from gkv.errors import ConfigError
from gkv.origins import origins


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

    A write that is late may take a while to come to the disk, so it cannot be short.
    """
    seconds = duration(text)
    if not 60 <= seconds <= 366 * 86_400:
        raise ValueError("a time from 60s to 366d")
    return seconds


def time_of(least: str, most: str) -> Callable[[str], float]:
    """Return what reads a time within bounds, in seconds."""

    def read(text: str) -> float:
        seconds = duration(text)
        if not duration(least) <= seconds <= duration(most):
            raise ValueError(f"a time from {least} to {most}")
        return seconds

    return read


def number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or len(text) > len(str(most)) or not least <= int(text) <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(text)

    return read


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


def tokens(text: str) -> tuple[str, ...]:
    """Read one or two bearer tokens, separated by commas; none for ""."""
    found = tuple(part.strip() for part in text.split(",")) if text else ()
    if len(found) > 2 or len(set(found)) < len(found) or not all(re.fullmatch(r"[!-+\--~]{16,256}", part) for part in found):
        raise ValueError("one token, or two different ones with a comma between; each of 16 to 256 visible ASCII characters")
    return found


def switch(text: str) -> bool:
    """Read a yes or no from the environment; as a flag it stands alone."""
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


def toggle(text: str) -> bool:
    """Read a yes or no that is said with 0 or 1 as a flag too: one that may be on by default."""
    return switch(text)


_MOST_COPIES = 5
LEAST_ANSWER = 2 << 20
"""Bytes. A value has one mebibyte at most, and a third more where it is shown as base64."""


def others_may_read(path: Path, mode: int, environment: Mapping[str, str]) -> bool:
    """Return whether a file of a secret may be read or written by others than its owner.

    A group may read what systemd hands over (LoadCredential): it lets the service's user in by an ACL, which shows as one.
    """
    handed = environment.get("CREDENTIALS_DIRECTORY")
    return bool(mode & (0o026 if handed and path.parent == Path(handed) else 0o066))


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


DEFAULT_PROXY = "http://127.0.0.1:8080"

KNOBS = (
    Knob("host", addresses.host, "127.0.0.1", "address or name to listen on; anything but loopback needs tokens and TLS"),
    Knob(
        "advertise",
        addresses.advertised,
        "",
        "HOST:PORT that others are told, where it is not the one that is listened on; 0.0.0.0 and :: need it",
    ),
    Knob("port", port, "8080", "port to listen on; 0 lets the system choose", "proxy"),
    Knob(
        "proxy",
        addresses.urls,
        DEFAULT_PROXY,
        "where to join; with several URLs (URL,URL) the next one is tried when one fails",
        "node",
    ),
    Knob(
        "name",
        name,
        "",
        "the node's id, which decides which keys it owns; it stays in the directory (default: the first HOST:PORT)",
        "node",
    ),
    Knob("weight", weight, "1", "of a new member: share of the keys, against 1 for an ordinary node", "node"),
    Knob("zone", name, "", "of a new member: copies of a key lie in different zones, while there are enough", "node"),
    Knob("standby", switch, "0", "not to join, but to wait until an operator has it replace a member", "node"),
    Knob("engine", one_of("lmdb", "memory"), "lmdb", "where records lie: lmdb, on disk, or memory"),
    Knob(
        "data",
        str,
        "",
        "directory of what is kept, spawned nodes' in PORT below it (default: gkv-data/proxy, or gkv-data/PORT for a node)",
    ),
    Knob(
        "durability",
        one_of("sync", "async"),
        "sync",
        "of a new cluster; sync: a write is on disk before it is acknowledged; async: soon after",
    ),
    Knob("replicas", number(1, _MOST_COPIES), "1", "of a new cluster: how many nodes keep each record", "proxy"),
    Knob(
        "min_in_sync",
        number(0, _MOST_COPIES),
        "0",
        "of a new cluster: nodes of a key's that must be up for it to be written; 0: all but one, and at least one",
        "proxy",
    ),
    Knob("lease", time_of("100ms", "60s"), "1s", "of a new cluster: how long a node answers reads without the others", "proxy"),
    Knob("vnodes", number(16, 262_144), "4096", "of a new cluster: tokens of an ordinary node in the ring", "proxy"),
    Knob("replica_timeout", time_of("300ms", "60s"), "1s", "how long a node may not answer another, until it is out", "node"),
    Knob("disk_timeout", time_of("1s", "10m"), "10s", "how long a node's disk may take for one commit, likewise", "node"),
    Knob(
        "fill_rate",
        number(0, 9_999_999),
        "2000",
        "records a second that a node gives to others that are made equal to it, beside its clients; 0 for no bound",
        "node",
        reload=True,
    ),
    Knob("max_disk", disk, "0", "most bytes of a node's data file; beyond it values are refused (507); 0 for no bound"),
    Knob("tombstone_ttl", tombstone_ttl, "10m", "how long a node remembers what was deleted or has expired"),
    Knob(
        "scrub_rate",
        number(0, 999_999),
        "1000",
        "records and entries of their indices that a node looks at in a second, to find damage before it is asked for; "
        "0: none but after a stop that was no orderly one",
        "node",
        reload=True,
    ),
    Knob("accept_loss", switch, "0", "does nothing any more: POST /v1/cluster/accept-loss", "node"),
    Knob(
        "spawn",
        number(0, 99),
        "0",
        "start this many nodes as child processes, which are started again when they end, and end with the proxy",
        "proxy",
    ),
    Knob("spawn_port", port, "9000", "port of the first of them; the others follow", "proxy"),
    Knob("restore", str, "", "make a new cluster of the snapshots in these directories (DIR,DIR), and end", "proxy"),
    Knob("deadline", duration, "2s", "time for all node calls of one request; what is late is a failedKey"),
    Knob("drain", duration, "10s", "time that running requests have after SIGTERM"),
    Knob("max_body", size, "32MiB", "largest request body"),
    Knob("max_answer", size, "64MiB", "most bytes of values that one request may bring; beyond it, 413"),
    Knob("max_inflight", number(1, 65_536), "256", "most requests in work at once, those of members apart; beyond it, 503"),
    Knob("max_buffered", size, "256MiB", "most bytes that bodies and answers may hold in memory; beyond it, 503"),
    Knob(
        "names",
        addresses.names,
        "",
        "further names that clients may call this server by; a Host of another name is answered 421",
        reload=True,
    ),
    Knob("cors_origins", origins, "", "origins of web pages that may call, https://app.example, or * for all", reload=True),
    Knob("reader_tokens", tokens, "", "bearer tokens of who may read data and metrics, at most two", reload=True, secret=True),
    Knob("client_tokens", tokens, "", "bearer tokens of who may read and write data, at most two", reload=True, secret=True),
    Knob("admin_tokens", tokens, "", "bearer tokens of who may do that, and copy nodes, at most two", reload=True, secret=True),
    Knob(
        "peer_tokens",
        tokens,
        "",
        "bearer tokens of the members among themselves, at most two: the first is sent, both are taken",
        reload=True,
        secret=True,
    ),
    Knob("allow", addresses.networks, "", "networks from which members may call; none: from everywhere", reload=True),
    Knob("tls_cert", str, "", "PEM file with this process's certificate, for clients and members", reload=True),
    Knob("tls_key", str, "", "PEM file with its key, for its owner's eyes alone", reload=True),
    Knob("tls_ca", str, "", "PEM file with who signs members' certificates", reload=True),
    Knob("metrics", toggle, "1", "1: count what happens, and answer /metrics; 0: neither"),
    Knob("log_format", one_of("text", "json"), "text", "lines on standard error as text or as JSON", reload=True),
    Knob("log_level", one_of("debug", "info", "warning", "error"), "info", "least level of such a line", reload=True),
    Knob("access_log", toggle, "0", "1: a line on standard error for each request, without its keys", reload=True),
    Knob("insecure", switch, "0", "listen beyond loopback without tokens or TLS, although all who get there can read or write"),
    Knob("until_stdin_closes", switch, "0", "end when standard input does: a supervisor's death ends its nodes", "node"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command runs with; fields that are not of that command keep their defaults. Times in seconds, sizes in bytes."""

    host: str
    advertise: Address | None
    port: int
    proxy: tuple[str, ...]
    name: str
    weight: float
    zone: str
    standby: bool
    engine: str
    data: str
    durability: str
    replicas: int
    min_in_sync: int
    lease: float
    vnodes: int
    replica_timeout: float
    disk_timeout: float
    fill_rate: int
    max_disk: int
    tombstone_ttl: float
    scrub_rate: int
    accept_loss: bool
    spawn: int
    spawn_port: int
    restore: str
    deadline: float
    drain: float
    max_body: int
    max_answer: int
    max_inflight: int
    max_buffered: int
    names: list[str]
    cors_origins: tuple[str, ...]
    reader_tokens: tuple[str, ...]
    client_tokens: tuple[str, ...]
    admin_tokens: tuple[str, ...]
    peer_tokens: tuple[str, ...]
    allow: tuple[Network, ...]
    tls_cert: str
    tls_key: str
    tls_ca: str
    metrics: bool
    log_format: str
    log_level: str
    access_log: bool
    insecure: bool
    until_stdin_closes: bool

    def check(self) -> None:
        """Raise ConfigError for settings that cannot go together."""
        if is_unspecified(self.host) and self.advertise is None:
            raise ConfigError(
                f"--host {self.host} is no address that others could be sent to: say with --advertise HOST:PORT which one is"
            )
        guarded = any(self.tokens.values()) and self.tls_cert
        if not is_loopback(self.host) and not guarded and not self.insecure:
            raise ConfigError(
                f"--host {self.host} is not loopback: without tokens whoever reaches the port can read and write everything, "
                "and without TLS (--tls-cert) whoever is on the way can. Set both, or say --insecure if that is what you want"
            )
        if self.max_buffered < max(self.max_body, self.max_answer):
            raise ConfigError("--max-buffered has to be at least as large as --max-body and --max-answer, for one to fit in")
        if self.max_answer < LEAST_ANSWER:
            raise ConfigError(f"--max-answer has to be at least {LEAST_ANSWER >> 20}MiB, for any single value to fit in")
        if self.spawn and not 0 < self.spawn_port <= 65_536 - self.spawn:
            raise ConfigError(f"--spawn-port {self.spawn_port} leaves no room for {self.spawn} ports")
        if self.port in range(self.spawn_port, self.spawn_port + self.spawn):
            raise ConfigError(f"--port {self.port} is one of the {self.spawn} ports from --spawn-port {self.spawn_port} on")
        if self.min_in_sync > self.replicas:
            raise ConfigError(
                f"--min-in-sync {self.min_in_sync} asks for more nodes than the {self.replicas} of --replicas: nothing could "
                "ever be written"
            )
        if self.disk_timeout < self.replica_timeout:
            raise ConfigError("--disk-timeout has to be at least as long as --replica-timeout: a slow disk is not silence")
        self._check_tokens()
        self._check_tls()

    def _check_tls(self) -> None:
        named = [self.tls_cert, self.tls_key, self.tls_ca]
        if any(named) and not all(named):
            raise ConfigError("--tls-cert, --tls-key and --tls-ca go together: members prove to each other who they are")
        for proxy in self.proxy:
            if proxy != DEFAULT_PROXY and proxy.startswith("https:") != bool(self.tls_cert):
                raise ConfigError(
                    f"--proxy {proxy} is not https, but there is a --tls-cert, and members then speak TLS to each other"
                    if self.tls_cert
                    else f"--proxy {proxy} is https, and a node needs --tls-cert, --tls-key and --tls-ca to speak TLS with it"
                )

    @property
    def scheme(self) -> str:
        """How the URLs of members begin."""
        return "https" if self.tls_cert else "http"

    @property
    def proxy_urls(self) -> tuple[str, ...]:
        """Where a node joins: by default on this machine, with TLS or without."""
        return tuple(f"{self.scheme}:{proxy.partition(':')[2]}" for proxy in self.proxy)

    def advertised(self, port: int) -> Address:
        """Return the address that others are told by a process that listens on a port."""
        return self.advertise or Address(self.host, port)

    @property
    def called(self) -> list[str]:
        """The names by which clients may call this server, as they stand in Host, besides those that any server has."""
        hosts = [self.host] if self.advertise is None else [self.host, self.advertise.host]
        return [*self.names, *map(shown, hosts)]

    @property
    def tokens(self) -> dict[str, tuple[str, ...]]:
        """The bearer tokens by role."""
        return {
            "reader": self.reader_tokens,
            "client": self.client_tokens,
            "admin": self.admin_tokens,
            "peer": self.peer_tokens,
        }

    def _check_tokens(self) -> None:
        of_peers = bool(self.peer_tokens)
        if of_peers != bool(self.reader_tokens or self.client_tokens or self.admin_tokens):
            raise ConfigError(
                "--peer-tokens are set and no others: nobody could read or write"
                if of_peers
                else "there are tokens but no --peer-tokens: the members could not talk to each other"
            )
        owners: dict[str, str] = {}
        for role, found in self.tokens.items():
            for token in found:
                if owners.setdefault(token, role) != role:
                    raise ConfigError(f"--{owners[token]}-tokens and --{role}-tokens have a token in common")
