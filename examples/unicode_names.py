#!/usr/bin/env python3
"""Store something about every assigned character of Unicode, read all of it back, and show where it lies.

    python examples/unicode_names.py [--url http://127.0.0.1:8080] [--batch 1000] [--seed 1]

Each key is a code point such as `U+1F600`; its value is the character's name, and for every other character a JSON value of
another kind: numbers such as `1.0`, `1e2` or one of 30 digits, escapes, arrays, objects with white space in them. The program
sets them in batches, gets them in another order, compares every answer byte for byte, asks for 1,000 code points that are not
assigned, and counts the keys that each node holds. It needs a running, empty system (`gkv-proxy --spawn 2`) and nothing but the
standard library. Exit code 0 if all was as it should be.
"""

import argparse
import http.client
import json
import random
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

UNASSIGNED = 1_000
BAR = 40


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
    """Yield the items in batches, with a progress bar on standard error and the rate at the end."""
    start = time.perf_counter()
    for at in range(0, len(items), size):
        yield items[at : at + size]
        done = min(at + size, len(items))
        filled = BAR * done // len(items)
        bar = "#" * filled + "." * (BAR - filled)
        print(f"\r{label:5} [{bar}] {done:>7,}/{len(items):,}", end="", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - start
    print(file=sys.stderr)
    print(f"{label:5} {len(items):>7,} keys in {seconds:.2f} s, {len(items) / seconds:,.0f} keys a second")


def main() -> int:
    """Run the example; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the proxy (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1_000, help="keys in a request (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the order in which keys are read (default: %(default)s)")
    arguments = parser.parse_args()
    proxy = Client(arguments.url)
    chance = random.Random(arguments.seed)

    texts, unassigned = characters()
    print(f"Unicode {unicodedata.unidata_version}: {len(texts):,} assigned code points")
    for batch in batches("set", list(texts), arguments.batch):
        proxy.call("POST", "/set", items(texts, batch))

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
