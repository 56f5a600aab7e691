"""What a transaction does to the pages of a store."""

from pathlib import Path

from gkv.engine import LmdbEngine
from gkv.model import Version, Write
from gkv.ring import tokens

NOW = 1_700_000_000_000


def test_tombstones_give_back_the_pages_of_the_values_that_they_replace(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path / "store", "n1", tokens)
    batches = [[f"{batch}.{i}" for i in range(100)] for batch in range(50)]
    for stamp, keys in enumerate(batches, NOW << 16):
        engine.write([Write(Version(stamp, 1), keys, [b"x" * 500] * len(keys))], NOW)
    full = engine._environment.held()
    for stamp, keys in enumerate(batches, NOW + 1 << 16):
        engine.write([Write(Version(stamp, 1), keys, [None] * len(keys))], NOW)
    assert engine.tombstones == 5_000
    assert engine._environment.held() < full * 0.6
    assert engine.check() == []
    engine.close()
