"""What a member keeps beside its records: real files, with what a crash can leave of them."""

from pathlib import Path

import pytest

from gkv.cluster.kept import LISTED, Kept
from gkv.errors import ConfigError
from gkv.model import Node
from tests.documents import changed, document

DOCUMENT = document([Node("a", "http://127.0.0.1:9000")])


def test_document_and_incarnations_are_there_at_the_next_start(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert (kept.document, kept.ran) == (None, ())
    kept.begin(7, None)
    for epoch in range(5):
        kept.keep(document(DOCUMENT.nodes, 7 + epoch))
    again = Kept(tmp_path)
    assert (again.document, again.ran) == (document(DOCUMENT.nodes, 11), (7,))
    again.begin(8, 7)
    again.keep(changed(again.document or DOCUMENT))
    last = Kept(tmp_path)
    assert (last.document, last.ran) == (document(DOCUMENT.nodes, 12), (7, 8))


@pytest.mark.promise("I14")
def test_slot_that_a_crash_has_damaged_leaves_the_other(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keep(DOCUMENT)
    kept.keep(changed(DOCUMENT))
    path = tmp_path / "document"
    whole = path.read_bytes()
    half = len(whole) // 2
    for slot, left in ((0, (7, 8)), (1, (7, 8))):
        data = bytearray(whole)
        data[slot * half + 60] ^= 1
        path.write_bytes(data)
        found = Kept(tmp_path).document
        assert found is not None
        assert found.epoch in left
    assert {Kept(tmp_path).document.epoch for path in [path] if path.write_bytes(whole)} == {8}  # type: ignore[union-attr]


def test_note_of_grants_is_there_at_the_next_start_until_it_is_taken_away(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.begin(7, None)
    plain = (tmp_path / "incarnations").stat().st_size
    assert not kept.granted
    kept.note_granted(there=True)
    assert kept.granted
    again = Kept(tmp_path)
    assert (again.granted, again.ran) == (True, (7,))
    again.begin(8, 7)
    last = Kept(tmp_path)
    assert (last.granted, last.ran) == (True, (7, 8))
    last.note_granted(there=False)
    assert (Kept(tmp_path).granted, Kept(tmp_path).ran) == (False, (7, 8))
    assert (tmp_path / "incarnations").stat().st_size == plain  # so a full disk takes it too


def test_note_of_grants_has_room_beside_as_many_incarnations_as_are_listed(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.ran = tuple(range(1, 1_099))
    kept.begin(1_099, 1)
    size = (tmp_path / "incarnations").stat().st_size
    kept.note_granted(there=True)
    kept.note_orderly()
    again = Kept(tmp_path)
    assert (again.granted, again.ran[0], again.ran[-1]) == (True, 1, 1_099)
    assert (tmp_path / "incarnations").stat().st_size == size


def test_files_of_which_no_slot_is_whole_are_refused_by_name(tmp_path: Path) -> None:
    Kept(tmp_path).keep(DOCUMENT)
    path = tmp_path / "document"
    path.write_bytes(b"nonsense".ljust(path.stat().st_size, b"x"))
    with pytest.raises(ConfigError, match="document is damaged"):
        Kept(tmp_path)


def test_document_that_is_kept_takes_no_more_room_on_the_disk(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keep(DOCUMENT)
    before = (tmp_path / "document").stat()
    kept.keep(changed(DOCUMENT))
    after = (tmp_path / "document").stat()
    assert (before.st_ino, before.st_size, before.st_blocks) == (after.st_ino, after.st_size, after.st_blocks)


def test_document_that_outgrows_its_slot_is_kept_whole(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    many = document([Node(f"n{i:03}", f"http://127.0.0.1:{9000 + i}") for i in range(600)])
    for one in (DOCUMENT, many, changed(many), changed(changed(many))):
        kept.keep(one)
        assert Kept(tmp_path).document == one


def test_incarnations_since_the_one_of_the_document_stay_listed_however_many(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    for incarnation in range(1, 2_000):
        kept.begin(incarnation, 5)
        kept = Kept(tmp_path)
        assert incarnation < 5 or 5 in kept.ran
        assert kept.ran[-1] == incarnation
    for incarnation in range(2_000, 2_100):
        Kept(tmp_path).begin(incarnation, 1_999)
    assert len(Kept(tmp_path).ran) >= LISTED
