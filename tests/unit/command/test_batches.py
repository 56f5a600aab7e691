"""What an import sends together, and what it takes for the place from which it can go on."""

import io
from pathlib import Path

import pytest

from gkv.command import load
from gkv.command.codes import Ended
from gkv.command.parsing import read
from gkv.command.state import State, StateFile


def test_batches_have_all_lines_once_and_end_where_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_LINES", 2)
    text = b'{"key":"a","value":1}\n\n {"key":"b","value":2}\n{"key":"c","value":3}\n{"key":"d","value":4}'
    whole = list(load.batches(io.BytesIO(text), 0, 1))
    assert [(one.keys, one.numbers, one.end) for one in whole] == [(["a", "b"], [1, 3], 46), (["c", "d"], [4, 5], len(text))]
    rest = io.BytesIO(text)
    rest.seek(whole[0].end)
    assert [one.keys for one in load.batches(rest, whole[0].end, 4)] == [["c", "d"]]


def test_line_without_a_key_is_named() -> None:
    with pytest.raises(Ended, match=r"^line 2: no item with a key"):
        list(load.batches(io.BytesIO(b'{"key":"a","value":1}\n{"value":1}\n'), 0, 1))


def test_state_is_used_only_for_its_own_cluster_and_when_asked_for(tmp_path: Path) -> None:
    states = StateFile(tmp_path / "f.state", "import")
    plain, resume, restart, both = (
        read(["import", "f", *flags])[1] for flags in ([], ["--resume"], ["--restart"], ["--resume", "--restart"])
    )
    assert states.find(resume, "c") is None
    states.keep(State("c", keys=7, bytes=70))
    assert states.find(resume, "c") == State("c", keys=7, bytes=70)
    assert states.find(restart, "c") is None
    with pytest.raises(Ended, match="ended after 7 keys"):
        states.find(plain, "c")
    with pytest.raises(Ended, match="another cluster"):
        states.find(resume, "other")
    with pytest.raises(Ended, match="different things"):
        states.find(both, "c")
    states.path.write_text("{")
    with pytest.raises(Ended, match="cannot be read"):
        states.find(resume, "c")
