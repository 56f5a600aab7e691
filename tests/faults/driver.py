"""A process that uses an engine as a node does and says on standard output what was acknowledged; for the tests beside it.

Every key has one value for ever, which follows from the key alone, so that whoever finds a key knows what must be there. A line
is written, unbuffered, only after the call that it is about has returned. `--unsynced` brings a bug in, for the control: LMDB
then acknowledges what is not yet on the disk.
"""

import argparse
import hashlib
import itertools
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import gevent
import lmdb

from gkv.model import Damage, Effect, Record, Write
from gkv.replication.versions import Versions
from gkv.ring import tokens

DEADLINE = 20.0
LAST = (1 << 64) - 1


def value_of(key: str, size: int = 0) -> bytes:
    """Return the one value of a key, a JSON string of `size` bytes; by default 30 to 1,000 and now and then 20,000."""
    digest = hashlib.blake2b(key.encode(), digest_size=32).hexdigest()
    number = int(digest[:8], 16)
    size = size or (20_000 if number % 50 == 0 else 30 + number % 970)
    return ('"' + (digest * (size // 64 + 1))[: size - 2] + '"').encode()


def keys_of(run: int, greenlet: int, batch: int) -> list[str]:
    """Return the keys of a batch, 1 to 40 of them."""
    return [f"{run}.{greenlet}.{batch}.{i}" for i in range(1 + (batch * 7 + greenlet * 3) % 40)]


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def open_engine(directory: Path):
    """Open the engine as a node would."""
    from gkv.engine.lmdb import LmdbEngine

    return LmdbEngine(directory, "n1", tokens)


class Writer:
    """Writes through a group commit, one version a write."""

    def __init__(self, directory: Path) -> None:
        from gkv.engine.commit import Commits

        self.engine = open_engine(directory)
        self.commits = Commits(self.engine, tombstone_ttl=86_400_000)
        self._versions = Versions()
        self._era = time.time_ns()
        """Stands for the epoch of a document, which no other process has."""

    def set(self, keys: list[str], size: int = 0) -> Sequence[Effect]:
        return self._write(keys, [value_of(key, size) for key in keys])

    def delete(self, keys: list[str]) -> Sequence[Effect]:
        return self._write(keys, [None] * len(keys))

    def replace(self, keys: list[str], drops: list[str]) -> Sequence[Effect]:
        """Do as a learner does that is given a page: put values in the place of what is there, and drop keys."""
        version = self._versions.next(1)
        records = [(key, Record(version, value_of(key))) for key in keys]
        return self.commits.replace(records, drops).wait(time.monotonic() + DEADLINE)

    def _write(self, keys: list[str], values: list[bytes | None]) -> Sequence[Effect]:
        write = Write(self._versions.next(self._era), keys, values)
        return self.commits.submit(write).wait(time.monotonic() + DEADLINE)

    def close(self) -> None:
        self.commits.close()
        self.engine.close()


def write(directory: Path, run: int, greenlets: int, batches: int, deletes: bool) -> int:
    """Write and replace, and now and then delete and drop, batch after batch, until killed; or `batches` by each greenlet."""
    from gkv.errors import EngineFailed, EngineFull

    writer = Writer(directory)
    say("ready")
    refused = []

    def work(greenlet: int) -> None:
        for batch in range(batches):
            name = f"{run} {greenlet} {batch}"
            try:
                if batch % 3:
                    writer.set(keys_of(run, greenlet, batch))
                else:
                    writer.replace(keys_of(run, greenlet, batch), [])
                say(f"acked {name}")
                if deletes and batch % 5 == 4:
                    name = f"{run} {greenlet} {batch - 3}"
                    say(f"deleting {name}")
                    if batch % 2:
                        writer.delete(keys_of(run, greenlet, batch - 3))
                    else:
                        writer.replace([], keys_of(run, greenlet, batch - 3))
                    say(f"deleted {name}")
            except EngineFull:
                say(f"full {name}")
            except EngineFailed as error:
                say(f"failed {name} {type(error).__name__}: {error}")
                refused.append(greenlet)
                if refused.count(greenlet) >= 5:  # keeps asking: a later commit must not be acknowledged either
                    return

    gevent.joinall([gevent.spawn(work, number) for number in range(greenlets)], raise_error=True)
    try:
        writer.close()
    except EngineFailed:
        say("closed failed")
    say("end")
    return 3 if refused else 0


def dump(directory: Path) -> int:
    """Say of every record what it is; then what `check` finds."""
    engine = open_engine(directory)
    after, found = None, [("", None)]
    first = 0
    while found:
        found = engine.arc(first, LAST, after, 500)
        for key, record in found:
            if isinstance(record, Damage):
                mark = "damaged"
            elif record.value is None:
                mark = "tombstone"
            else:
                [served] = engine.read([key], 0)
                mark = "right" if record.value == served == value_of(key) else "wrong"
            say(f"{mark} {key}")
        if found:
            after = found[-1][0]
    for problem in engine.check():
        say(f"problem {problem}")
    engine.close()
    say("end")
    return 0


def known(directory: Path, batches: int) -> int:
    """Read every key of `batches` batches of run 0, greenlet 0; say how many of them are what."""
    engine = open_engine(directory)
    counts = {"right": 0, "missing": 0, "damaged": 0, "wrong": 0}
    for batch in range(batches):
        keys = keys_of(0, 0, batch)
        for key, value, record in zip(keys, engine.read(keys, 0), engine.records_of(keys), strict=True):
            for served in (value, record if record is None or isinstance(record, Damage) else record.value):
                if served is None:
                    counts["missing"] += 1
                elif isinstance(served, Damage):
                    counts["damaged"] += 1
                else:
                    counts["right" if served == value_of(key) else "wrong"] += 1
    say(" ".join(f"{name} {count}" for name, count in counts.items()))
    engine.close()
    return 0


def fill(directory: Path, refusals: int, more: int) -> int:
    """Write until refused that often, read what is there, delete until writes go on, write `more` batches."""
    from gkv.errors import EngineFull

    writer = Writer(directory)
    acked: list[int] = []
    batches = itertools.count()
    while refusals:
        batch = next(batches)
        try:
            writer.set(keys_of(0, 0, batch))
            acked.append(batch)
            say(f"acked 0 0 {batch}")
        except EngineFull:
            refusals -= 1
            say(f"full 0 0 {batch}")
    for batch in acked:
        keys = keys_of(0, 0, batch)
        say(f"{'read' if writer.engine.read(keys, 0) == [value_of(key) for key in keys] else 'misread'} 0 0 {batch}")
    written = deleted = 0
    while written < more:
        if deleted < len(acked):
            say(f"deleting 0 0 {acked[deleted]}")
            writer.delete(keys_of(0, 0, acked[deleted]))
            say(f"deleted 0 0 {acked[deleted]}")
            deleted += 1
        elif written == 0:
            say("nothing left to delete")
            return 4
        batch = next(batches)
        try:
            writer.set(keys_of(0, 0, batch))
            say(f"acked 0 0 {batch}")
            written += 1
        except EngineFull:
            say(f"full 0 0 {batch}")
        gevent.sleep(0)
    writer.close()
    say("end")
    return 0


def large(directory: Path, megabytes: int, seed: int) -> int:
    """Write that much in values of 1 KB by four greenlets, then read 100 random keys at a time; say the greatest memory."""
    writer = Writer(directory)
    batches = megabytes * 1024 // 256
    pick = random.Random(seed)

    def work(greenlet: int) -> None:
        for batch in range(greenlet, batches, 4):
            writer.set([f"{batch}.{i}" for i in range(256)], 1_024)
            if batch % 64 == 0:
                say(f"written {batch}")

    begun = time.monotonic()
    gevent.joinall([gevent.spawn(work, number) for number in range(4)], raise_error=True)
    written = time.monotonic()
    wrong = 0
    reads = 200
    for _ in range(reads):
        keys = [f"{pick.randrange(batches)}.{pick.randrange(256)}" for _ in range(100)]
        wrong += sum(value != value_of(key, 1_024) for key, value in zip(keys, writer.engine.read(keys, 0), strict=True))
        gevent.sleep(0)
    read = time.monotonic()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    writer.close()
    say(
        f"wrong {wrong} records {batches * 256} write_s {written - begun:.1f} read_ms {(read - written) / reads * 1e3:.2f} "
        f"anonymous_kb {status['RssAnon'].split()[0]}"
    )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["write", "dump", "known", "fill", "large"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--run", type=int, default=0)
    parser.add_argument("--greenlets", type=int, default=8)
    parser.add_argument("--batches", type=int, default=1_000_000)
    parser.add_argument("--refusals", type=int, default=20)
    parser.add_argument("--more", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-deletes", action="store_true")
    parser.add_argument("--unsynced", action="store_true")
    given = parser.parse_args()
    if given.unsynced:
        environment = lmdb.Environment

        def unsynced(*arguments, **named):
            return environment(*arguments, **named | {"sync": False, "metasync": False})

        lmdb.open = lmdb.Environment = unsynced
    if given.what == "write":
        return write(given.directory, given.run, given.greenlets, given.batches, not given.no_deletes)
    if given.what == "dump":
        return dump(given.directory)
    if given.what == "known":
        return known(given.directory, given.batches)
    if given.what == "fill":
        return fill(given.directory, given.refusals, given.more)
    return large(given.directory, given.megabytes, given.seed)


if __name__ == "__main__":
    sys.exit(main())
