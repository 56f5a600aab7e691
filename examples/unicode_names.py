#!/usr/bin/env python3
"""Store something about every assigned character of Unicode, read all of it back, and show where it lies.

    python examples/unicode_names.py [--url http://127.0.0.1:8080] [--batch 1000] [--seed 1]
    python examples/unicode_names.py --kill [--port 18080]

Each key is a code point such as `U+1F600`; its value is the character's name, and for every other character a JSON value of
another kind: numbers such as `1.0`, `1e2` or one of 30 digits, escapes, arrays, objects with white space in them. The program
sets them in batches, gets them in another order, compares every answer byte for byte, asks for 1,000 code points that are not
assigned, and counts the keys that each node holds. It needs a running, empty system (`gkv-proxy --spawn 2`) and nothing but the
standard library. Exit code 0 if all was as it should be.

With --kill it starts a proxy and two nodes of its own in a temporary directory, and once all is set kills the three with
SIGKILL in the same moment, starts them again, says how long they took to be ready, and only then reads all back.
"""

import argparse
import http.client
import json
import random
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

UNASSIGNED = 1_000
BAR = 40


START_WITHIN = 20.0


class LocalSystem:
    """A proxy on `port` and two nodes on the ports after it, with their data in a directory."""

    def __init__(self, directory: Path, port: int) -> None:
        proxy = f"http://127.0.0.1:{port}"
        self._commands = [["proxy", "--port", str(port)]]
        self._commands += [["node", str(port + i), "--proxy", proxy] for i in (1, 2)]
        self._directory = directory
        self._port = port
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> float:
        """Start all three; return the seconds until the proxy can answer for every key."""
        begun = time.perf_counter()
        with (self._directory / "log").open("ab") as log:
            for command in self._commands:
                program = [sys.executable, "-P", "-m", "gkv.cli", *command]
                self._processes.append(subprocess.Popen(program, cwd=self._directory, stdout=log, stderr=log))
        while not self._ready():
            if time.perf_counter() - begun > START_WITHIN or any(process.poll() is not None for process in self._processes):
                sys.exit(f"the system does not start:\n{(self._directory / 'log').read_text()}")
            time.sleep(0.005)
        return time.perf_counter() - begun

    def _ready(self) -> bool:
        try:
            members = json.loads(Client(f"http://127.0.0.1:{self._port}").call("GET", "/v1/cluster"))["members"]
        except OSError:
            return False
        # After a start the states are those of the last time, so it counts who has called in since, too.
        return len(members) == 2 and all(member["state"] == "up" and member["answers"] for member in members)

    def kill(self) -> None:
        """Kill all three: they have no chance to write anything more."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes = []


class Client:
    """One kept-alive connection to a proxy or a node."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def call(self, method: str, path: str, body: str | None = None) -> bytes:
        """Return the body of the answer; end the program on any other status than 200."""
        self._connection.request(method, path, body and body.encode(), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            sys.exit(f"{method} {path}: {response.status} {answer.decode(errors='replace')[:500]}")
        return answer


def characters() -> tuple[dict[str, str], list[str]]:
    """Return a value's JSON text for each assigned code point by key, and the keys of all others.

    Surrogates and the private-use areas count as neither. Control characters have no name: they are called by their place.
    """
    texts, unassigned = {}, []
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category == "Cn":
            unassigned.append(f"U+{code:04X}")
        elif category not in ("Cs", "Co"):
            texts[f"U+{code:04X}"] = json_text(code, unicodedata.name(chr(code), f"<control-{code:04X}>"))
    return texts, unassigned


def json_text(code: int, name: str) -> str:
    """Return the JSON text to store: for every other code point the name, else something that is easily spoilt on the way."""
    kinds = [
        f"{code}.0",
        f"{code}e2",
        f"-1{code:029d}.50",
        f'["{name}", {code}, null, true, []]',
        f'{{ "name" : "{name}",\n  "code": {{"decimal":{code}}} }}',
        f'"\\u00e9 \\ud83d\\ude00 \\/ {name}"',
        json.dumps(chr(code) + name, ensure_ascii=False),
        ("true", "false", "null", "0", "-0", '""', "{}", "[]")[code // 16 % 8],
    ]
    return kinds[code // 2 % 8] if code % 2 else f'"{name}"'


def items(texts: dict[str, str], keys: Sequence[str]) -> str:
    """Return an array of keys with values, as it is sent to /set and comes back from /get."""
    return "[" + ",".join([f'{{"key":"{key}","value":{texts[key]}}}' for key in keys]) + "]"


def only_keys(keys: Sequence[str]) -> str:
    """Return an array of keys, as /get takes it."""
    return "[" + ",".join([f'{{"key":"{key}"}}' for key in keys]) + "]"


def batches(label: str, items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield the items in batches, and say the rate at the end; where standard error is a terminal, with a progress bar."""
    start = time.perf_counter()
    for at in range(0, len(items), size):
        yield items[at : at + size]
        if not sys.stderr.isatty():
            continue
        done = min(at + size, len(items))
        filled = BAR * done // len(items)
        bar = "#" * filled + "." * (BAR - filled)
        print(f"\r{label:5} [{bar}] {done:>7,}/{len(items):,}", end="", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - start
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(f"{label:5} {len(items):>7,} keys in {seconds:.2f} s, {len(items) / seconds:,.0f} keys a second")


def main() -> int:
    """Run the example; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the proxy (default: %(default)s)")
    parser.add_argument("--kill", action="store_true", help="start a system, and kill and restart it before reading")
    parser.add_argument("--port", type=int, default=18_080, help="first of three ports, with --kill (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1_000, help="keys in a request (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the order in which keys are read (default: %(default)s)")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        system = None
        if arguments.kill:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="gkv-example-"))
            system = LocalSystem(Path(directory), arguments.port)
            stack.callback(system.kill)
            print(f"ready after {system.start():.2f} s")
            arguments.url = f"http://127.0.0.1:{arguments.port}"
        return run(arguments, system)


def run(arguments: argparse.Namespace, system: LocalSystem | None) -> int:
    """Set, perhaps kill and restart, get, compare; return the exit code."""
    proxy = Client(arguments.url)
    chance = random.Random(arguments.seed)

    texts, unassigned = characters()
    print(f"Unicode {unicodedata.unidata_version}: {len(texts):,} assigned code points")
    for batch in batches("set", list(texts), arguments.batch):
        proxy.call("POST", "/set", items(texts, batch))

    if system is not None:
        system.kill()
        print(f"killed proxy and nodes; ready again after {system.start():.2f} s")
        proxy = Client(arguments.url)

    wrong = 0
    for batch in batches("get", chance.sample(list(texts), len(texts)), arguments.batch):
        answer = proxy.call("POST", "/get", only_keys(batch))
        wrong += answer != f'{{"existedKey":{items(texts, batch)}}}'.encode()
    print(f"compared byte for byte: {'all equal' if not wrong else f'{wrong} batches differ'}")

    absent = chance.sample(unassigned, UNASSIGNED)
    answer = proxy.call("POST", "/get", only_keys(absent))
    empty = items(dict.fromkeys(absent, '""'), absent)
    missing = answer == f'{{"existedKey":[],"notExistedKey":{empty}}}'.encode()
    print(f"unassigned: {'all' if missing else 'NOT all'} {UNASSIGNED:,} in notExistedKey")

    nodes = json.loads(proxy.call("GET", "/v1/ring"))["nodes"]
    held = {node["id"]: json.loads(Client(node["url"]).call("GET", "/v1/info"))["engine"]["keys"] for node in nodes}
    mean = sum(held.values()) / len(held)
    print(f"\nkeys by node, mean {mean:,.0f}:")
    for node, keys in held.items():
        print(f"  {node:24} {keys:>8,}  {keys / mean:6.1%} of the mean  {'#' * round(BAR * keys / max(held.values()))}")
    return 0 if missing and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
