"""A restore that does not come to its end leaves the old member list, whose cluster has no place for the directories."""

import errno
import os
from pathlib import Path

import pytest
import ujson

from gkv import restoring
from gkv.cluster.document import Document, Member
from gkv.cluster.kept import Kept
from gkv.engine import LmdbEngine
from gkv.errors import ConfigError, EngineError
from gkv.ring import tokens
from gkv.sources import parse

CLUSTER = "a" * 32


def test_restore_that_cannot_write_the_member_list_leaves_the_old_one_and_is_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = Member("n1", "http://127.0.0.1:9000", incarnation=1, directory=1)
    listed = ujson.dumps(Document(CLUSTER, 5, (member,)).to_json())
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy" / "cluster.json").write_text(listed)
    engine = LmdbEngine(tmp_path / "store", "n1", tokens)
    engine.join(CLUSTER)
    (tmp_path / "n1").mkdir()
    with (tmp_path / "n1" / "data.mdb").open("wb") as file:
        engine.copy_snapshot(file.fileno())
    engine.close()
    settings = parse("proxy", ["--data", str(tmp_path / "proxy"), "--restore", str(tmp_path / "n1")], {})

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("gkv.cluster.store.replace_by_spare", full)
        with pytest.raises(OSError, match="No space"):
            restoring.restore(settings)
    assert (tmp_path / "proxy" / "cluster.json").read_text() == listed
    store = LmdbEngine(tmp_path / "n1", "n1", tokens)
    assert store.cluster not in (None, CLUSTER)
    assert store.last_run in Kept(tmp_path / "n1").ran
    store.close()
    with pytest.raises(EngineError, match="it was restored before"):
        restoring.restore(settings)
    assert (tmp_path / "proxy" / "cluster.json").read_text() == listed


@pytest.mark.parametrize(
    ("text", "error"),
    [("", "names no directory"), ("a,", "names no directory"), ("a,,b", "names no directory"), ("a,b,./a", "names a twice")],
)
def test_directories_that_are_not_named_or_named_twice_are_refused(text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        restoring.restore(parse("proxy", ["--restore", text], {}))
