"""Small files: whole after a crash, written on a full disk, named in every error."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gkv import files
from gkv.files import SLOT, Lock, Reserve, make_directory, make_slots, naming, read_slots, replace, replace_by_spare, write_slot


def test_file_is_on_disk_before_it_is_renamed_and_its_directory_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def traced_fsync(fd: int) -> None:
        steps.append(f"fsync {Path(f'/proc/self/fd/{fd}').readlink().name}")
        fsync(fd)

    def traced_rename(self: Path, target: Path) -> Path:
        assert self.read_bytes() == b"new"
        steps.append(f"rename {self.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(Path, "replace", traced_rename)
    replace(tmp_path / "file", b"new")
    assert steps == ["fsync file.new", "rename file.new", f"fsync {tmp_path.name}"]
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EIO])
def test_file_that_cannot_be_replaced_is_named_and_stays_and_no_part_of_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    replace(tmp_path / "file", b"old")

    def refuse(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=str(tmp_path / "file")) as caught:
        replace(tmp_path / "file", b"new")
    assert caught.value.errno == number
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_slot_is_written_where_it_lies_and_the_other_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "slots"
    make_slots(path, b"one")
    before = path.stat()
    write_slot(path, 1, b"other")
    assert read_slots(path) == [b"one", b"other"]
    write_slot(path, 0, b"new")
    assert read_slots(path) == [b"new", b"other"]
    after = path.stat()
    assert (before.st_ino, before.st_size, before.st_blocks) == (after.st_ino, after.st_size, after.st_blocks)
    path.write_bytes(b"x" * (2 * SLOT - 1))
    assert len(read_slots(path)) == 1
    with pytest.raises(FileNotFoundError, match="gone"):
        write_slot(tmp_path / "gone", 0, b"")


TAKE = "import sys; from pathlib import Path; from gkv.files import Lock; Lock(Path(sys.argv[1])); print('taken')"


def test_lock_is_held_by_one_process_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = Lock(path)

    def other() -> str:
        return subprocess.run([sys.executable, "-c", TAKE, str(path)], capture_output=True, text=True, check=False).stdout

    assert other() == ""
    with pytest.raises(BlockingIOError, match="lock"):
        Lock(path)
    lock.release()
    lock.release()
    assert other() == "taken\n"


def test_reserve_is_kept_while_there_is_twice_the_room_and_given_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reserve(tmp_path / "reserve", 1 << 20)
    monkeypatch.setattr(files, "free_bytes", lambda _path: (2 << 20) - 1)
    reserve.keep()
    assert not reserve.exists
    assert not reserve.give_up()
    monkeypatch.undo()
    reserve.keep()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 1 << 20
    assert reserve.give_up()
    assert not reserve.exists


def test_directories_that_are_made_have_their_names_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_directory", synced.append)
    make_directory(tmp_path / "a" / "b")
    assert set(synced) == {tmp_path, tmp_path / "a"}
    synced.clear()
    make_directory(tmp_path / "a" / "b")
    assert synced == []


def test_error_that_names_a_file_keeps_its_name() -> None:
    with pytest.raises(OSError, match="'inner'"), naming(Path("outer")):
        raise OSError(errno.EIO, "bad", "inner")
    with pytest.raises(OSError, match="'outer'"), naming(Path("outer")):
        raise OSError(errno.EIO, "bad")


def test_replace_by_spare_needs_no_room_for_what_is_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cluster.json"
    for number in range(3):
        replace_by_spare(path, b"%d" % number * 5_000)
        assert path.read_bytes().rstrip() == b"%d" % number * 5_000
    blocks = {one.name: one.stat().st_ino for one in tmp_path.iterdir()}
    assert set(blocks) == {"cluster.json", "cluster.spare"}
    replace_by_spare(path, b"short")
    assert path.read_bytes().split() == [b"short"]
    assert {one.name: one.stat().st_ino for one in tmp_path.iterdir()} == {
        "cluster.json": blocks["cluster.spare"],
        "cluster.spare": blocks["cluster.json"],
    }


@pytest.mark.parametrize("step", ["link", "replace"])
def test_replace_by_spare_that_was_killed_leaves_the_old_content_or_the_new(tmp_path: Path, step: str) -> None:
    path, old, spare = (tmp_path / f"c.{name}" for name in ("json", "old", "spare"))
    for content in (b"1", b"2"):
        replace_by_spare(path, content)
    os.link(path, old)
    if step == "replace":
        spare.replace(path)
    before = path.read_bytes().split()
    replace_by_spare(path, b"3")
    assert (before, path.read_bytes().split()) == ([b"2" if step == "link" else b"1"], [b"3"])
    assert not old.exists()
    assert not spare.samefile(path)


@pytest.mark.parametrize("system", ["with posix_fallocate", "without, as macOS"])
def test_allocated_file_has_its_room_and_keeps_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    if system.startswith("without"):
        monkeypatch.delattr(os, "posix_fallocate")
    path = tmp_path / "file"
    path.write_bytes(b"begun")
    for size in (3 << 20, 5):
        with path.open("r+b") as file:
            files.allocate(file.fileno(), size)
    assert path.read_bytes() == b"begun".ljust(3 << 20, b"\0")
    assert path.stat().st_blocks * 512 >= 3 << 20


def test_open_file_is_at_its_path_until_another_one_or_none_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"mine")
    with path.open("rb") as file:
        assert files.is_at(path, file.fileno())
        path.rename(tmp_path / "moved")
        assert not files.is_at(path, file.fileno())
        path.write_bytes(b"mine")
        assert not files.is_at(path, file.fileno())
