#!/usr/bin/env python3
"""Load lines of JSON, in batches and in parallel, and keep exactly those that could not be loaded.

`python examples/bulk_load.py FILE [URL...]`: each line is an item such as {"key":"hi","value":1,"ttl":60}; no key is in two.
What a node that fails leaves unwritten or unknown is written again: no harm while nobody else writes these keys. Lines that
failed all the same are put into FILE.failed, to be loaded next, and the exit code is 1. Needs `gkv[client]`.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from gkv.client import BatchFailed, Client, InvalidRequest, TooLarge, key_in

BATCH, THREADS, ATTEMPTS = 2_000, 4, 8


def load(client: Client, lines: list[bytes]) -> list[tuple[bytes, str]]:
    """Set what is in some lines; return those that failed, with the reasons."""
    for attempt in range(ATTEMPTS):
        time.sleep(attempt)
        try:
            client.set_lines(lines)
        except BatchFailed as error:
            failed = error.failed
            lines = [line for line in lines if key_in(line) in failed]
            reasons = [str(failed[key_in(line)]) for line in lines]
            wrong = isinstance(next(iter(failed.values())), InvalidRequest | TooLarge)
        except ValueError as error:
            reasons, wrong = [str(error)], True
        else:
            return []
        if wrong and len(lines) > 1:  # one wrong line has its whole batch refused
            return load(client, lines[::2]) + load(client, lines[1::2])
        if wrong:
            break
    return list(zip(lines, reasons, strict=True))


def main(path: Path, *urls: str) -> int:
    loaded = failed = 0
    left = path.with_name(path.name + ".failed")
    with path.open("rb") as file, left.open("wb") as kept, Client(*urls) as client, ThreadPoolExecutor(THREADS) as threads:
        while lines := [line.rstrip(b"\n") for line in islice(file, BATCH * THREADS)]:
            for result in threads.map(partial(load, client), [lines[i::THREADS] for i in range(THREADS)]):
                failed += len(result)
                for line, reason in result:
                    kept.write(line + b"\n")
                    print(reason, file=sys.stderr)
            loaded += len(lines)
    print(f"{loaded - failed} of {loaded} lines loaded" + (f"; the others are in {left}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
