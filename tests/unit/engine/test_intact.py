"""A data file that is not whole is refused before LMDB maps it; one that LMDB itself left short is not."""

import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from gkv.engine import intact
from gkv.engine.lmdb import LmdbEngine
from gkv.errors import EngineError
from gkv.model import Version, Write
from gkv.ring import tokens

NOW = 1_000_000
PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with small records, large ones, tombstones, values that expire, and free pages."""
    path = tmp_path_factory.mktemp("whole") / "data"
    engine = LmdbEngine(path, "n1", tokens)
    for turn in range(30):
        keys = [f"{turn}-{i}" for i in range(60)]
        values = [bytes([turn]) * (20_000 if i % 20 == 0 else 300) for i in range(60)]
        engine.write([Write(Version(turn + 1 << 16, 1), keys, values, [NOW + 10 if i % 7 == 0 else 0 for i in range(60)])], NOW)
    for turn in range(0, 30, 3):
        keys = [f"{turn}-{i}" for i in range(60)]
        engine.write([Write(Version(turn + 100 << 16, 1), keys, [None] * 60)], NOW)
    engine.write([Write(Version(200 << 16, 1), ["last"], [bytes(1 << 20)])], NOW)  # longer than any run of free pages
    assert engine.check() == []
    engine.close()
    return path


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of it that may be harmed."""
    return Path(shutil.copytree(whole, tmp_path / "store"))


def cut(store: Path, length: int) -> bytes:
    data = (store / "data.mdb").read_bytes()[:length]
    (store / "data.mdb").write_bytes(data)
    return data


@pytest.mark.promise("I14")
@pytest.mark.parametrize(
    "length", [1, 100, PAGE - 1, PAGE, PAGE + 160, 2 * PAGE - 1, 2 * PAGE, 2 * PAGE + 1, 1 / 4, 1 / 2, -PAGE, -1]
)
def test_file_that_is_cut_off_is_refused_with_its_size_and_left_alone(store: Path, length: float) -> None:
    size = (store / "data.mdb").stat().st_size
    left = cut(store, int(size * length) if isinstance(length, float) else length if length > 0 else size + length)
    with pytest.raises(EngineError, match=r"data\.mdb (is cut off: it has \d+ bytes|cannot be opened)") as caught:
        LmdbEngine(store, "n1", tokens)
    assert str(store) in str(caught.value)
    if len(left) > 2 * PAGE:
        assert f"it has {len(left)} bytes, {size} belong to it" in str(caught.value)
        assert "snapshot" in str(caught.value)
    assert (store / "data.mdb").read_bytes() == left


def test_empty_file_is_refused_in_a_directory_that_was_in_use_and_begun_in_a_new_one(store: Path, tmp_path: Path) -> None:
    cut(store, 0)
    with pytest.raises(EngineError, match=r"data\.mdb is empty, though"):
        LmdbEngine(store, "n1", tokens)
    assert (store / "data.mdb").stat().st_size == 0
    (store / "reserve").unlink()
    (store / "made").touch()  # what a node has left that had to give its reserve up
    with pytest.raises(EngineError, match=r"data\.mdb is empty, though"):
        LmdbEngine(store, "n1", tokens)
    new = tmp_path / "new"
    new.mkdir()
    for name in ("data.mdb", "lock.mdb", "owner.lock"):  # what a process has left that was killed in its first moments
        (new / name).touch()
    LmdbEngine(new, "n1", tokens).close()


def test_what_is_no_file_is_refused_by_name(store: Path, tmp_path: Path) -> None:
    data = store / "data.mdb"
    data.unlink()
    data.mkdir()
    with pytest.raises(EngineError, match=r"data\.mdb is no regular file"):
        LmdbEngine(store, "n1", tokens)
    data.rmdir()
    data.symlink_to(tmp_path / "gone")
    with pytest.raises(EngineError, match=r"data\.mdb is a link to .*gone, where there is no file"):
        LmdbEngine(store, "n1", tokens)
    assert not (tmp_path / "gone").exists()
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(EngineError, match=r"data\.mdb is no regular file"):
        LmdbEngine(store, "n1", tokens)


def test_file_behind_a_link_is_opened(store: Path, tmp_path: Path) -> None:
    (store / "data.mdb").rename(tmp_path / "elsewhere")
    (store / "data.mdb").symlink_to(tmp_path / "elsewhere")
    LmdbEngine(store, "n1", tokens).close()


def test_file_that_may_not_be_read_is_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=r"data\.mdb"):
        intact.check(store / "data.mdb", used=True)


def test_file_whose_last_pages_lmdb_never_wrote_is_whole(tmp_path: Path) -> None:
    """Pages that one transaction takes and gives back are not written: such a file is shorter than it says."""
    path = tmp_path / "short"
    path.mkdir()
    with lmdb.open(str(path), map_size=1 << 26, max_dbs=4) as env:
        records = env.open_db(b"records")
        for turn in range(40):
            with env.begin(write=True, db=records) as txn:
                for i in range(30):
                    txn.put(b"%d-%d" % (turn, i), bytes(300))
                for i in range(25):
                    txn.put(b"big%d" % i, bytes(100_000))
                for i in range(25):
                    txn.delete(b"big%d" % i)
        end = (env.info()["last_pgno"] + 1) * PAGE
    file = path / "data.mdb"
    size = file.stat().st_size
    if size >= end:
        pytest.skip(f"this LMDB has written all of its {end} bytes")
    intact.check(file, used=True)
    with file.open("r+b") as opened:
        opened.truncate(PAGE * 10)
    with pytest.raises(EngineError, match=f"it has {PAGE * 10} bytes, {end} belong to it"):
        intact.check(file, used=True)


def test_short_file_with_pages_in_a_circle_or_that_make_no_sense_is_refused(store: Path) -> None:
    data = bytearray((store / "data.mdb").read_bytes())
    del data[-PAGE:]
    for number in range(2, len(data) // PAGE):
        at = number * PAGE
        data[at + 10 : at + 12] = b"\0\0"  # the flags: it is no page of a tree any more
    (store / "data.mdb").write_bytes(data)
    with pytest.raises(EngineError, match=r"is damaged: it has .* and page \d+ is none of a tree's"):
        LmdbEngine(store, "n1", tokens)


OPEN = """
import sys
from pathlib import Path
from gkv.engine.lmdb import LmdbEngine
from gkv.errors import EngineError
from gkv.ring import tokens
whole, store = Path(sys.argv[1]), Path(sys.argv[2])
data = whole.read_bytes()
opened = refused = 0
for length in map(int, sys.argv[3:]):
    print(length, flush=True)
    (store / "data.mdb").write_bytes(data[:length])
    try:
        engine = LmdbEngine(store, "n1", tokens)
    except EngineError:
        refused += 1
    else:
        assert engine.check() == []
        engine.close()
        opened += 1
print(opened, refused)
"""


@pytest.mark.promise("I14")
def test_no_length_of_a_cut_file_ends_the_process(whole: Path, store: Path) -> None:
    size = (whole / "data.mdb").stat().st_size
    seed = random.randrange(1 << 32)
    print("seed", seed)
    pick = random.Random(seed)
    lengths = [pick.randrange(1, size) for _ in range(150)] + [size - PAGE * i for i in range(60)]
    run = [sys.executable, "-c", OPEN, str(whole / "data.mdb"), str(store), *map(str, lengths)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-100:], done.stderr)
    opened, refused = map(int, done.stdout.splitlines()[-1].split())
    assert opened >= 1  # the whole one
    assert opened + refused == len(lengths)
    assert refused > 150


def test_file_that_an_orderly_stop_has_left_is_refused_when_its_last_page_is_gone(tmp_path: Path) -> None:
    """Also where no tree refers to that page: the commits after a large value was deleted lie where it was."""
    engine = LmdbEngine(tmp_path / "store", "n1", tokens)
    for stamp, value in enumerate((b"1" * 1_000_000, None, *[b"1"] * 9)):
        engine.write([Write(Version(NOW + stamp << 16, 1), ["large"], [value])], NOW)
    engine.close()
    file = tmp_path / "store" / "data.mdb"
    os.truncate(file, file.stat().st_size - 4096)
    before = file.read_bytes()
    with pytest.raises(EngineError, match="is cut off"):
        LmdbEngine(tmp_path / "store", "n1", tokens)
    assert file.read_bytes() == before


def short(store: Path) -> LmdbEngine:
    """Return an engine whose file is shorter than its last page says: what one transaction gives back is not written."""
    engine = LmdbEngine(store, "n1", tokens)
    large = [f"large{i}" for i in range(25)]
    for turn in range(40):
        small = [f"{turn}-{i}" for i in range(30)]
        engine.write(
            [
                Write(Version(NOW << 16, 1), small, [bytes(300)] * len(small)),
                Write(Version(NOW + 2 * turn << 16, 1), large, [bytes(100_000)] * len(large)),
                Write(Version(NOW + 2 * turn + 1 << 16, 1), large, [None] * len(large)),
            ],
            NOW,
        )
    assert (store / "data.mdb").stat().st_size < engine._environment.end
    return engine


def test_orderly_stop_can_be_cut_short_anywhere_and_the_store_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each copy is what an end of the process, or of the power, leaves at that moment."""
    store = tmp_path / "store"
    engine = short(store)
    copies: list[Path] = []

    def copied(call: Callable[..., None]) -> Callable[..., None]:
        def calling(*args: object) -> None:
            for do in (lambda: None, lambda: call(*args)):
                do()
                copies.append(Path(shutil.copytree(store, tmp_path / f"copy{len(copies)}")))

        return calling

    for name in ("truncate", "ftruncate", "fsync"):
        monkeypatch.setattr(os, name, copied(getattr(os, name)))
    engine.close()
    monkeypatch.undo()
    assert (store / "data.mdb").stat().st_size == PAGE * (last_page(store) + 1)
    opened = [LmdbEngine(path, "n1", tokens) for path in [*copies, store]]
    assert {engine.was_clean for engine in opened} == {True, False}
    assert opened[-1].was_clean
    for engine in opened:
        assert engine.check() == []
        assert engine.read(["39-1", "large1"], NOW) == [bytes(300), None]
        engine.close()


def last_page(store: Path) -> int:
    with lmdb.open(str(store), readonly=True, max_dbs=8) as env:
        return int(env.info()["last_pgno"])


def test_stop_without_room_for_the_length_is_no_orderly_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    engine = LmdbEngine(store, "n1", tokens)
    engine.write([Write(Version(NOW << 16, 1), ["a"], [b"1"])], NOW)

    def refuse(*_args: object) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    for name in ("truncate", "ftruncate"):
        monkeypatch.setattr(os, name, refuse)
    engine.close()
    monkeypatch.undo()
    again = LmdbEngine(store, "n1", tokens)
    assert (again.was_clean, again.read(["a"], NOW)) == (False, [b"1"])
    again.close()


def test_walk_through_a_large_file_that_is_short_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    engine = short(store)
    size, wanted = (store / "data.mdb").stat().st_size, engine._environment.end
    killed = Path(shutil.copytree(store, tmp_path / "killed"))
    engine.close()
    intact.check(killed / "data.mdb", used=True)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(intact, "LONG", size)
    intact.check(killed / "data.mdb", used=True)
    assert f"{killed / 'data.mdb'} has {size} of {wanted} bytes" in capfd.readouterr().err
