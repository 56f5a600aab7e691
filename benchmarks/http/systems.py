"""The systems that are compared: how each is started, filled with the same keys, checked, and ended.

All servers listen on loopback, keep nothing on disk but what lies in a directory that is deleted afterwards, and end with
the program. `redis-server` and `webdis` are looked for; a system whose parts are not installed is left out with a hint.
"""

import http.client
import importlib.metadata
import importlib.util
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

HOST = "127.0.0.1"
KEYS = 10_000
VALUE_BYTES = 100
NODES = 2
WEBDIS_THREADS = 2
"""The default of Debian's package. On 2 cores it beats 1 in requests a second, p50 and p99, and in CPU at 100 keys (280 against
310 us a get); with fewer keys 1 is cheaper (28 against 30 us for one).
"""

_LOAD_BATCH = 500
_SAMPLE = range(0, KEYS, KEYS // 100)
_START_WITHIN = 20.0
_END_WITHIN = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


class StartError(Exception):
    """A system does not start, or does not answer as it should."""


def key(i: int) -> str:
    """Return the i-th key, of one of 16 lengths, as keys differ in practice; `load.lua` has the same."""
    return f"key:{i:08d}{'-' * (i % 16)}"


def value(i: int) -> str:
    """Return the value of the i-th key: text that may stand in a URL. `load.lua` has the same."""
    return (f"value-{i:08d}-" * 7)[:VALUE_BYTES]


@dataclass(frozen=True, slots=True)
class System:
    """One running system, ready for requests."""

    name: str
    dialect: str
    """How `load.lua` asks it: `json` or `webdis`."""
    port: int
    processes: dict[str, int]
    """All its server processes: role and process id."""
    check: Callable[[], None]
    """Read keys from all over the range back; raise StartError unless each has its value."""

    scheme: str = "http"
    token: str = ""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}"

    def cpu(self) -> dict[str, float]:
        """Return the seconds of CPU, user and system, that each process has used so far; the clock ticks in 10 ms."""
        used = {}
        for role, pid in self.processes.items():
            fields = _stat(pid)
            used[role] = (int(fields[11]) + int(fields[12])) / _TICKS
        return used


# --- what there is to start ------------------------------------------------------------------------------------------


@contextmanager
def gkv(
    port: int,
    directory: Path,
    engine: str = "memory",
    variant: str = "",
    python: str = sys.executable,
    nodes: int = NODES,
    copies: int = 1,
) -> Iterator[System]:
    """Run a gkv proxy on `port` and its nodes on the ports after it, as `python` has gkv installed."""
    name = variant or _gkv_name(engine)
    directory = directory / name
    directory.mkdir()
    token, context = "", None
    command = [python, "-P", "-m", "gkv.cli", "proxy", "--port", str(port), "--engine", engine]
    command += ["--spawn", str(nodes), "--spawn-port", str(port + 1)]
    command += ["--replicas", str(copies)] if copies > 1 else []
    if variant == "gkv-bare":
        command += ["--metrics", "0"]
    elif variant == "gkv-tls":
        token = secrets.token_hex(32)
        context = _make_certificate(directory)
        command += ["--tls-cert", "cert.pem", "--tls-key", "cert.key", "--tls-ca", "ca.pem", "--client-tokens", token]
        command += ["--peer-tokens", secrets.token_hex(32)]
    with _server(name, command, directory, range(port, port + 1 + nodes)) as proxy:
        proxy.wait_until(lambda: b"\nReady:" in proxy.output())
        processes = {"proxy": proxy.pid}
        for i, pid in enumerate(_children(proxy.pid), 1):
            processes[f"node{i}"] = pid
        if len(processes) != 1 + nodes:
            raise StartError(f"{name} has the processes {processes}, not one proxy and {nodes} nodes")
        _load_json(port, token, context)
        scheme = "http" if context is None else "https"
        yield System(name, "json", port, processes, lambda: _check_json(port, token, context), scheme, token)


def _make_certificate(directory: Path) -> ssl.SSLContext:
    """Write an authority and a certificate of it; return what trusts them."""
    import trustme  # of the extra "bench"; nothing else here needs it

    kind = trustme.KeyType.ECDSA
    authority = trustme.CA(key_type=kind)
    made = authority.issue_cert(HOST, key_type=kind)
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    made.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    (directory / "cert.key").touch(0o600)
    made.private_key_pem.write_to_path(str(directory / "cert.key"))
    return ssl.create_default_context(cafile=str(directory / "ca.pem"))


def _gkv_name(engine: str) -> str:
    return "gkv" if engine == "memory" else f"gkv-{engine}"


@contextmanager
def webdis(port: int, directory: Path, durable: bool = False) -> Iterator[System]:
    """Run webdis on `port`, before a Redis on the port after it; a durable one syncs its log before it acknowledges."""
    name = "webdis-sync" if durable else "webdis"
    directory = directory / name
    directory.mkdir()
    command = [_which("redis-server") or "", "--bind", HOST, "--port", str(port + 1), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
    settings = {
        "redis_host": HOST,
        "redis_port": port + 1,
        "http_host": HOST,
        "http_port": port,
        "threads": WEBDIS_THREADS,
        "daemonize": False,
        "verbosity": 0,
        "logfile": "/dev/null",
        "acl": [],
    }
    config = directory / "webdis.json"
    config.write_text(json.dumps(settings))
    with ExitStack() as stack:
        redis_process = stack.enter_context(_server("redis", command, directory, [port + 1]))
        redis_process.wait_until(lambda: _accepts(port + 1))
        webdis_command = [_which("webdis") or "", str(config)]
        webdis_process = stack.enter_context(_server("webdis", webdis_command, directory, [port]))
        webdis_process.wait_until(lambda: _accepts(port))
        _load_redis(port + 1)
        _check_webdis(port)
        processes = {"webdis": webdis_process.pid, "redis": redis_process.pid}
        yield System(name, "webdis", port, processes, lambda: _check_redis(port + 1))


@contextmanager
def plain(port: int, directory: Path) -> Iterator[System]:
    """Run the baseline's proxy on `port` and its nodes on the ports after it."""
    program = [sys.executable, "-P", str(Path(__file__).with_name("plain.py"))]
    node_ports = [port + i for i in range(1, NODES + 1)]
    commands = {"proxy": [*program, "proxy", str(port), *map(str, node_ports)]}
    commands |= {f"node{i}": [*program, "node", str(node_port)] for i, node_port in enumerate(node_ports, 1)}
    with ExitStack() as stack:
        processes = {}
        for (role, command), own in zip(commands.items(), [port, *node_ports], strict=True):
            process = stack.enter_context(_server(f"plain-{role}", command, directory, [own]))
            process.wait_until(lambda own=own: _accepts(own))
            processes[role] = process.pid
        _load_json(port)
        yield System("plain", "json", port, processes, lambda: _check_json(port))


SYSTEMS: dict[str, Callable[[int, Path], AbstractContextManager[System]]] = {
    "gkv": gkv,
    "gkv-lmdb": partial(gkv, engine="lmdb"),
    "gkv-bare": partial(gkv, variant="gkv-bare"),
    "gkv-tls": partial(gkv, variant="gkv-tls"),
    "webdis": webdis,
    "webdis-sync": partial(webdis, durable=True),
    "plain": plain,
}
"""Each needs `PORTS` ports in a row. `gkv` and `webdis` keep records in memory; `gkv-lmdb` and `webdis-sync` have each write on
disk before they acknowledge it."""

VARIANTS = ("gkv-bare", "gkv-tls")
"""gkv without metrics, and with tokens and TLS: to be compared with `gkv` alone."""

PORTS = 1 + NODES


def missing(name: str) -> str:
    """Return what to install before a system can be measured, or "" when all is there."""
    if name.startswith("webdis"):
        packages = [package for package in ("redis-server", "webdis") if _which(package) is None]
        return f"apt-get install {' '.join(packages)}" if packages else ""
    if name == "plain" and importlib.util.find_spec("geventhttpclient") is None:
        return "pip install geventhttpclient mmh3"
    if name == "gkv-tls" and importlib.util.find_spec("trustme") is None:
        return "pip install trustme"
    return ""


def version(name: str) -> str:
    """Return the versions of what a system is made of.

    webdis cannot be asked: it takes any argument for a configuration, and starts.
    """
    if name.startswith("webdis"):
        return f"webdis {_debian_version('webdis')}, redis {_debian_version('redis-server')}, {WEBDIS_THREADS} webdis threads"
    used = {
        "gkv": ("gkv", "gevent", "bottle"),
        "gkv-lmdb": ("gkv", "lmdb", "gevent", "bottle"),
        "plain": ("gevent", "bottle", "geventhttpclient", "ujson", "mmh3"),
    }
    return ", ".join(f"{package} {_python_version(package)}" for package in used["gkv" if name in VARIANTS else name])


def _which(program: str) -> str | None:
    # Debian keeps servers in /usr/sbin, which is not on everybody's path.
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]))


def _debian_version(package: str) -> str:
    try:
        asked = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "(version unknown)"
    return asked.stdout


def _python_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


# --- processes -------------------------------------------------------------------------------------------------------


class _Server:
    """A server process and the file that it writes to."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.pid = process.pid
        self._name = name
        self._process = process
        self._log = log

    def output(self) -> bytes:
        return self._log.read_bytes()

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until the server is ready. Raise StartError, with what it wrote, when it ends or takes too long."""
        until = time.monotonic() + _START_WITHIN
        while not ready():
            code = self._process.poll()
            if code is not None or time.monotonic() > until:
                what = f"did not start within {_START_WITHIN:.0f} s" if code is None else f"ended with code {code}"
                raise StartError(f"{self._name} {what}:\n{self.output().decode(errors='replace')[-2000:]}")
            time.sleep(0.02)


@contextmanager
def _server(name: str, command: Sequence[str], directory: Path, ports: Sequence[int]) -> Iterator[_Server]:
    """Run a program that serves on `ports`, and end it."""
    for port in ports:
        if _accepts(port):  # or a stranger would be measured
            raise StartError(f"port {port} is in use; choose others with --port")
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield _Server(name, process, log)
    finally:
        process.terminate()
        try:
            process.wait(_END_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the third on: before them is the name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise StartError(f"process {pid} has ended") from None


def _children(parent: int) -> list[int]:
    """Return the child processes of a process, in the order of their ids."""
    children = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = _stat(int(entry.name))
            except StartError:
                continue
            if int(fields[1]) == parent:
                children.append(int(entry.name))
    return sorted(children)


# --- requests --------------------------------------------------------------------------------------------------------


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


def _call(
    port: int, method: str, path: str, body: str | None = None, token: str = "", context: ssl.SSLContext | None = None
) -> bytes:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    if context is not None:
        connection = http.client.HTTPSConnection(HOST, port, timeout=30, context=context)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise StartError(f"{method} {path[:60]} on port {port}: {response.status} {answer[:500].decode(errors='replace')}")
    return answer


def _load_json(port: int, token: str = "", context: ssl.SSLContext | None = None) -> None:
    for start in range(0, KEYS, _LOAD_BATCH):
        items = [{"key": key(i), "value": value(i)} for i in range(start, min(start + _LOAD_BATCH, KEYS))]
        _call(port, "POST", "/set", json.dumps(items), token, context)


def _check_json(port: int, token: str = "", context: ssl.SSLContext | None = None) -> None:
    answer = json.loads(_call(port, "POST", "/get", json.dumps([{"key": key(i)} for i in _SAMPLE]), token, context))
    if answer != {"existedKey": [{"key": key(i), "value": value(i)} for i in _SAMPLE]}:
        raise StartError(f"what the server on port {port} answers is not what was set")


def _check_webdis(port: int) -> None:
    if json.loads(_call(port, "GET", "/MGET/" + "/".join(map(key, _SAMPLE)))) != {"MGET": [value(i) for i in _SAMPLE]}:
        raise StartError("what webdis answers is not what was set")


def _load_redis(port: int) -> None:
    """Set all keys in one pipeline."""
    commands = b"".join(_resp(b"SET", key(i).encode(), value(i).encode()) for i in range(KEYS))
    if not _redis_answers(port, commands, b"+OK\r\n" * KEYS):
        raise StartError("redis does not take the keys")


def _check_redis(port: int) -> None:
    """Ask Redis itself: once clients have left webdis 0.1.9 with requests under way, it may hand their answers to others."""
    command = _resp(b"MGET", *(key(i).encode() for i in _SAMPLE))
    if not _redis_answers(port, command, _resp(*(value(i).encode() for i in _SAMPLE))):
        raise StartError("what redis answers is not what was set")


def _resp(*words: bytes) -> bytes:
    """Return an array in Redis' own protocol: commands are written so, and answers of several values."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _redis_answers(port: int, commands: bytes, expected: bytes) -> bool:
    answer = b""
    with socket.create_connection((HOST, port), 30) as connection:
        connection.sendall(commands)
        while len(answer) < len(expected) and (chunk := connection.recv(65_536)):
            answer += chunk
    return answer == expected
