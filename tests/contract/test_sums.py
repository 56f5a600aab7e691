"""Sums of records by cell, over all engines, held against those worked out from all records."""

import random
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.engine import CELL_SHIFT, CELLS, ENGINES, Engine, Sums, open_engine
from gkv.model import Blob, Record, Replacement, Value, Version, Write
from gkv.ring import tokens
from gkv.ring.murmur3 import murmur3_x64_128

NOW = 1_000_000
WHERE = (0, 1, 2, CELLS // 2, CELLS - 1)
"""Cells of all keys below, so that most have many records."""


def crowded(keys: Sequence[str] | Sequence[bytes]) -> bytes:
    """Return tokens of few cells for keys, and of bytes those that they have."""
    found = tokens(keys)
    if keys and isinstance(keys[0], bytes):
        return found
    shift = CELL_SHIFT
    numbers = struct.unpack(f">{len(keys)}Q", found)
    return b"".join(
        (WHERE[(number >> shift) % len(WHERE)] << shift | number % (1 << shift)).to_bytes(8, "big") for number in numbers
    )


@contextmanager
def opened(name: str) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as directory:
        engine = open_engine(name, Path(directory) / "data", "n1", crowded)
        try:
            yield engine
            assert engine.check() == []
        finally:
            engine.close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with opened(request.param) as engine:
        yield engine


def fingerprint(key: str, record: Record) -> int:
    """Return the fingerprint of a record by its definition."""
    if record.value is None:
        return 0
    tag = b"" if record.client_version is None else record.client_version.to_bytes()
    return murmur3_x64_128(record.version.to_bytes() + record.expires.to_bytes(8, "big") + tag + key.encode())[0]


def reference(engine: Engine) -> dict[int, int]:
    """Return the sums of all cells that are not zero, by the records."""
    sums: dict[int, int] = {}
    for key, record in engine.arc(0, (1 << 64) - 1, None, 1 << 30):
        if isinstance(record, Record):
            cell = int.from_bytes(crowded([key]), "big") >> CELL_SHIFT
            sums[cell] = sums.get(cell, 0) ^ fingerprint(key, record)
    return {cell: found for cell, found in sums.items() if found}


def sums_of(engine: Engine) -> dict[int, int]:
    """Return the sums that the engine keeps, which must all be sure. Takes some 50 ms."""
    assert engine.sums is not None
    assert engine.sums.complete
    return {cell: found for cell, found in enumerate(engine.sums.known(0, CELLS - 1)) if found}


def crowded_sums(engine: Engine) -> list[int | None]:
    """Return the sums of the cells that keys have, None for one that is not sure."""
    assert engine.sums is not None
    return [engine.sums.known(cell, cell)[0] for cell in WHERE]


def crowded_reference(engine: Engine) -> list[int]:
    """Return what these should be, by the records; no others have any."""
    wanted = reference(engine)
    assert wanted.keys() <= {*WHERE}
    return [wanted.get(cell, 0) for cell in WHERE]


def build(engine: Engine, limit: int = 1_000) -> int:
    """Build all sums; return the count of steps."""
    steps = 1
    while engine.make_sums(limit):
        steps += 1
    return steps


class Writer:
    """Writes at random, as a primary and as a learner would."""

    def __init__(self, engine: Engine, chance: random.Random, keys: int = 60) -> None:
        self.engine = engine
        self.chance = chance
        self.keys = [f"key-{i}" for i in range(keys)] + ["", "ключ", "😀"][1:]
        self.counter = 0

    def version(self) -> Version:
        self.counter += 1
        return Version(7, self.counter)

    def value(self) -> Value | None:
        kind = self.chance.randrange(5)
        return None if kind < 2 else Blob(b"\0" * self.chance.randrange(4), "image/png") if kind == 2 else b"v"

    def expiry(self, value: Value | None) -> int:
        return self.chance.choice([0, 0, NOW - 5, NOW + 5]) if value is not None else 0

    def write(self) -> Write:
        keys = self.chance.sample(self.keys, self.chance.randrange(1, 12))
        values = [self.value() for _ in keys]
        expires = [self.expiry(value) for value in values]
        tags = [Version(3, self.chance.randrange(9)) if self.chance.random() < 0.3 else None for _ in keys]
        if self.chance.random() < 0.2:
            drops = [key for key in self.keys if key not in keys and self.chance.random() < 0.1]
            rows = [
                (key, Record(self.version(), value, expiry, tag))
                for key, value, expiry, tag in zip(keys, values, expires, tags, strict=True)
            ]
            return Replacement.of(rows, drops)
        late = self.chance.random() < 0.2 and self.counter
        version = Version(7, self.chance.randrange(1, self.counter + 1)) if late else self.version()
        return Write(version, keys, values, expires, tags if self.chance.random() < 0.3 else (), at=NOW)

    def step(self) -> None:
        """Make one commit of some writes, or drop tombstones."""
        if self.chance.random() < 0.15:
            self.engine.forget(NOW, self.chance.randrange(1, 20))
        else:
            self.engine.write([self.write() for _ in range(self.chance.randrange(1, 5))], NOW)


def test_sums_are_off_at_first_and_when_turned_off_again(engine: Engine) -> None:
    assert engine.sums is None
    assert not engine.make_sums()
    engine.keep_sums(True)
    assert isinstance(engine.sums, Sums)
    assert (engine.sums.built, engine.sums.known(0, 0)) == (0, [None])
    first = engine.sums
    engine.keep_sums(True)
    assert engine.sums is first
    engine.keep_sums(False)
    assert engine.sums is None
    assert not engine.make_sums()


def test_sums_of_an_empty_engine_are_built_in_one_step(engine: Engine) -> None:
    engine.keep_sums(True)
    assert not engine.make_sums()
    assert engine.sums is not None
    assert engine.sums.built == CELLS
    assert sums_of(engine) == {}
    engine.write([Write(Version(1, 1), ["a"], [b"1"])], NOW)
    assert sums_of(engine) == reference(engine) != {}


def test_sums_are_a_slice_with_its_last_cell(engine: Engine) -> None:
    engine.keep_sums(True)
    build(engine)
    engine.write([Write(Version(1, i), [f"k{i}"], [b"1"]) for i in range(1, 30)], NOW)
    assert engine.sums is not None
    wanted = reference(engine)
    assert engine.sums.known(CELLS - 2, CELLS - 1) == [0, wanted[CELLS - 1]]
    assert engine.sums.known(1, 1) == [wanted[1]]


def test_fingerprints_are_those_of_the_definition_whether_the_records_are_here_or_not(engine: Engine) -> None:
    rows = [
        ("a", Record(Version(1, 2), b"1")),
        ("ключ", Record(Version((1 << 64) - 1, (1 << 64) - 1), Blob(b"", "a/b"), (1 << 63) - 1)),
        ("c", Record(Version(0, 0), None, 0, Version(1, 1))),
        ("d", Record(Version(5, 6), b"", 7, Version(8, 9))),
    ]
    assert engine.fingerprints([]) == []
    found = engine.fingerprints(rows)
    assert found == [fingerprint(key, record) for key, record in rows]
    assert found[2] == 0
    assert len(set(found)) == 4
    engine.keep_sums(True)
    build(engine)
    engine.write([Replacement.of(rows)], NOW)
    total = 0
    for cell_sum in sums_of(engine).values():
        total ^= cell_sum
    assert total == found[0] ^ found[1] ^ found[3]


@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 32))
def test_sums_stay_those_of_the_records_whatever_is_written(name: str, seed: int) -> None:
    with opened(name) as engine:
        engine.keep_sums(True)
        build(engine)
        writer = Writer(engine, random.Random(seed))
        for _ in range(12):
            writer.step()
            assert crowded_sums(engine) == crowded_reference(engine)
        assert sums_of(engine) == reference(engine)


@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 32))
def test_sums_are_built_while_writes_go_on(name: str, seed: int) -> None:
    chance = random.Random(seed)
    with opened(name) as engine:
        writer = Writer(engine, chance)
        for _ in range(chance.randrange(15)):
            writer.step()
        engine.keep_sums(True)
        assert engine.sums is not None
        more, built = True, 0
        while more:
            if chance.random() < 0.6:
                writer.step()
            else:
                more = engine.make_sums(chance.randrange(1, 9))
            assert engine.sums.built >= built
            built = engine.sums.built
            known = zip(crowded_sums(engine), crowded_reference(engine), strict=True)
            assert all(found in (None, wanted) for found, wanted in known)
        assert sums_of(engine) == reference(engine)


def test_cell_with_a_mark_is_known_to_nobody_until_that_is_mended(engine: Engine) -> None:
    keys = [f"k{i}" for i in range(40)]
    engine.write([Write(Version(1, 1), keys, [b"1"] * 40)], NOW)
    engine.keep_sums(True)
    build(engine)
    assert engine.sums is not None
    before = crowded_sums(engine)
    marked = [key for key in [*keys, "new"] if int.from_bytes(crowded([key]), "big") >> CELL_SHIFT == WHERE[1]][:3]
    engine.write([Replacement.of([], [], marked)], NOW)
    unknown = [before[0], None, *before[2:]]
    assert crowded_sums(engine) == unknown
    build(engine)
    assert crowded_sums(engine) == unknown
    assert not engine.sums.complete
    ends = [(cell << CELL_SHIFT, ((cell + 1) << CELL_SHIFT) - 1) for cell in WHERE]
    assert engine.sums_between(ends) == unknown
    engine.write([Replacement.of([("k1", Record(Version(1, 9), b"2"))], ["k2"])], NOW)
    assert crowded_sums(engine)[1] is None
    engine.write([Write(Version(2, 1), marked, [b"2", None, b"2"])], NOW)
    build(engine)
    assert sums_of(engine) == reference(engine)


def test_sums_are_built_over_a_mark_that_was_there_before(engine: Engine) -> None:
    engine.write([Write(Version(1, 1), ["a", "b"], [b"1", b"1"]), Replacement.of([], [], ["c"])], NOW)
    engine.keep_sums(True)
    build(engine, 1)
    cell = int.from_bytes(crowded(["c"]), "big") >> CELL_SHIFT
    assert engine.sums is not None
    assert engine.sums.known(cell, cell) == [None]
    engine.write([Replacement.of([], ["c"])], NOW)
    build(engine, 1)
    assert sums_of(engine) == reference(engine)


def test_building_reads_so_many_records_in_a_step_and_one_cell_in_several(engine: Engine) -> None:
    keys = [f"k{i}" for i in range(100)]
    engine.write([Write(Version(1, 1), keys, [b"1"] * 100)], NOW)
    engine.keep_sums(True)
    assert engine.make_sums(3)
    assert engine.sums is not None
    assert (engine.sums.built, engine.sums.known(0, 0)) == (0, [None])
    assert build(engine, 3) == 33
    assert sums_of(engine) == reference(engine)


def test_change_that_an_engine_refuses_changes_no_sum(engine: Engine) -> None:
    engine.keep_sums(True)
    build(engine)
    engine.write([Write(Version(1, 1), ["a"], [b"1"])], NOW)
    before = sums_of(engine)
    with pytest.raises(ValueError, match="bytes"):
        engine.write([Write(Version(1, 2), ["a", "x" * 481], [b"2", b"2"])], NOW)
    assert sums_of(engine) == before == reference(engine)
