"""A delete that finds the disk full. What a disk really does then, `tests/faults` tries."""

from pathlib import Path

import pytest

from gkv.engine import LmdbEngine
from gkv.engine import store as module
from gkv.model import Version, Write
from gkv.ring import tokens

NOW = 1_700_000_000_000


@pytest.mark.parametrize("synced", [True, False])
def test_delete_on_a_full_disk_takes_the_reserve_and_gives_way_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: bool
) -> None:
    engine = LmdbEngine(tmp_path / "store", "n1", tokens)
    engine.write([Write(Version(NOW << 16, 1), ["a"], [b"1"])], NOW)
    assert engine._store.directory.reserve.exists
    refused: list[bool] = []
    really = engine._store._try

    def full_at_first(change, now, sets, syncing):
        if refused:
            return really(change, now, sets, syncing)
        refused.append(True)
        if synced:
            syncing()
        raise module._NoSpaceError

    monkeypatch.setattr(engine._store, "_try", full_at_first)
    given_way: list[bool] = []
    engine.write([Write(Version(NOW + 1 << 16, 1), ["a"], [None])], NOW, lambda: given_way.append(True))
    assert (engine.read(["a"], NOW), engine.tombstones, engine._store.directory.reserve.exists) == ([None], 1, False)
    assert given_way == [True]  # a second time would release a lock that the event loop holds
    engine.close()
