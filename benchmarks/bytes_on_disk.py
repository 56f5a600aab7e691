"""Bytes on disk: what a record takes in a node's data file besides its key and its value, and what more overwriting needs.

    python benchmarks/bytes_on_disk.py [--bytes 16MiB] [--json bench-disk.json]

Fills one LMDB engine for each size of values with as much as `--bytes`, in batches of 500 records with keys of 24 bytes in an
order of no use to it, as tokens are. Then half of the records are written again in the same way. Printed for each size are
the records, the bytes of the data file a record before and after that, and the factor over keys and values. The engine runs
without its proxy and its copies: a node with N copies of everything has the sum of what it keeps.
"""

import argparse
import json
import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from gkv.config import size as bytes_of
from gkv.engine.lmdb import LmdbEngine
from gkv.errors import OutOfRoom
from gkv.model import Version, Write
from gkv.ring import tokens

SIZES = (10, 100, 1_000, 2_000, 10_000, 100_000, 1_000_000)
BATCH = 500
KEY_BYTES = 24
NOW = 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """The findings with values of one size; bytes of the file are for each record."""

    value_bytes: int
    records: int
    loaded: float
    rewritten: float

    @property
    def factor(self) -> float:
        """The bytes of the file, after all, against those of keys and values."""
        return self.rewritten / (KEY_BYTES + self.value_bytes)


def put(engine: LmdbEngine, keys: list[str], value: bytes, number: int) -> None:
    """Write a batch as a node does: the map grows when it is too small."""
    write = Write(Version(number << 16, 1), keys, [value] * len(keys))
    while True:
        try:
            engine.write([write], NOW)
        except OutOfRoom:
            engine.grow()
        else:
            return


def measured(directory: Path, size: int, total: int) -> Row:
    """Fill an engine with values of a size, and write half of them again."""
    records = max(total // (size + KEY_BYTES), 40)
    keys = [f"user/{i:019d}" for i in range(records)]
    random.Random(1).shuffle(keys)
    engine = LmdbEngine(directory, "n1", tokens)
    try:
        engine.join("0" * 32)
        value = b'"' + b"v" * (size - 2) + b'"'
        seen = []
        for written in (keys, keys[: records // 2]):
            for at in range(0, len(written), BATCH):
                put(engine, written[at : at + BATCH], value, NOW + len(seen) * records + at)
            seen.append(engine.store_figures.file_bytes / records)
    finally:
        engine.close()
    return Row(size, records, *seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", default="16MiB", help="keys and values of one size (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    rows = []
    print(f"{'value':>9} {'records':>9} {'file/record':>12} {'rewritten':>10} {'factor':>7}")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as directory:
            row = measured(Path(directory) / "node", size, bytes_of(arguments.bytes))
        rows.append(row)
        print(f"{row.value_bytes:9,} {row.records:9,} {row.loaded:12,.0f} {row.rewritten:10,.0f} {row.factor:7.2f}", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
