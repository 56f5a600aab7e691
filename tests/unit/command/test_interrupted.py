"""The files that an export leaves when it is interrupted or its disk is full, at any point."""

import errno
import json
from argparse import Namespace
from collections.abc import Generator, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from gkv.command import export
from gkv.command.export import Chunk
from gkv.command.parsing import read
from gkv.command.progress import Progress
from gkv.command.state import State, StateFile

CHUNKS = [Chunk(b'{"key":"%d","value":1}\n' % number, 1, f"after {number}") for number in range(4)]


class Writing:
    """An export of the chunks into a file, in which something is raised at one of the writes."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states = StateFile(directory / "f.state", "export")
        self.path = directory / "f"
        self.said: Namespace = read(["export", "f", "--resume"])[1]
        monkeypatch.setattr(export, "chunks", self._chunks)

    def _chunks(self, _: object, __: str, cursor: str | None) -> Generator[Chunk, None, None]:
        names = [None, *(one.cursor for one in CHUNKS)]
        yield from CHUNKS[names.index(cursor) :]

    def run(self, at: int = -1, raised: BaseException | None = None) -> None:
        """Write from where the state says; raise at one write, before or after it is done."""
        state = self.states.find(self.said, "c") or State("c")
        with export._opened(self.path, state.bytes) as file:
            export._write(Raising(file, at, raised), [], state, self.states, Progress(quiet=True))  # type: ignore[arg-type]


class Raising:
    """A file that raises at one write, with none of it or all of it written."""

    def __init__(self, file: Any, at: int, raised: BaseException | None) -> None:
        self._file = file
        self._left = at
        self._raised = raised

    def write(self, data: bytes) -> None:
        self._left -= 1
        if self._raised is not None and self._left == -1:
            raise self._raised
        self._file.write(data)
        if self._raised is not None and self._left == 0:
            self._left -= 9
            raise self._raised

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("at", range(5))
def test_export_that_is_interrupted_at_a_write_has_each_line_once_after_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, raised: BaseException
) -> None:
    writing = Writing(tmp_path, monkeypatch)
    try:
        writing.run(at, raised)
    except (KeyboardInterrupt, OSError) as error:
        assert error is raised  # noqa: PT017 - which may not come at all
    writing.run()
    assert writing.path.read_bytes() == b"".join(one.lines for one in CHUNKS)


def test_state_without_its_part_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(export.Ended, match="is gone; --restart begins anew"):
        export._opened(tmp_path / "f.part", 7)


def test_ranges_of_pages_without_keys_leave_none_out() -> None:
    pages: Iterable[dict[str, object]] = iter([{"keys": ["a", "b"], "cursor": "x"}, {"keys": [], "cursor": "y"}])
    found = list(export.ranges_of(lambda _: next(pages), "", None))  # type: ignore[call-overload]
    assert [(one.cursor, one.last) for one in found] == [(None, "b"), ("x", None)]


def test_lines_of_items_are_json() -> None:
    assert json.loads(BytesIO(CHUNKS[0].lines).readline())["key"] == "0"
