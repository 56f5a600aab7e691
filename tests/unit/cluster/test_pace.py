"""The pace of a change of the ring: an operator's word, the document, and what is said of it."""

from dataclasses import replace

import pytest

from gkv.cluster import news
from gkv.cluster.document import Document, State
from gkv.cluster.duties import duties
from gkv.cluster.judge import Judge
from gkv.cluster.placement import Placement
from gkv.errors import MemberConflict
from gkv.pace import USUAL_PACE, Pace
from tests.documents import with_copies
from tests.unit.cluster.test_operator import Town


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> Town:
    """Return an authority that has just been told that b leaves."""
    town = Town(with_copies(ids="abcd"), monkeypatch)
    town.operator.remove("b", force=False, dry_run=False)
    return town


def paced(town: Town, **wanted: int | bool | None) -> Pace:
    """Give the change a pace, after asking what that would be."""
    _, dry = town.operator.change_pace(wanted, dry_run=True)
    granted, pace = town.operator.change_pace(wanted, dry_run=False)
    assert pace == dry
    assert granted.change.what == "b leaves"
    return pace


def test_paused_change_does_not_end_until_it_goes_on(leaving: Town) -> None:
    leaving.run(0.15)
    assert leaving.document.next is not None
    assert paced(leaving, paused=True) == Pace(None, True)
    leaving.run(5.0)
    assert leaving.document.next is not None
    assert leaving.document.pace == Pace(paused=True)
    assert paced(leaving, paused=False) == USUAL_PACE
    leaving.run(3.0)
    assert leaving.document.next is None


def test_change_begins_at_the_pace_that_was_asked_for_before(leaving: Town) -> None:
    paced(leaving, rate=5)
    paced(leaving, paused=True)
    leaving.run(1.0)
    assert [document.pace for _, document in leaving.epochs] == [Pace(5, True)]


def test_pace_is_in_the_document_and_ends_with_the_change(leaving: Town) -> None:
    paced(leaving, rate=5, paused=True)
    leaving.run(1.0)
    written = Document.from_json(leaving.document.to_json())
    assert written == leaving.document
    assert written.to_json()["pace"] == {"rate": 5, "paused": True}
    assert duties(written, Placement.of(written), "a").pace == Pace(5, True)
    leaving.judge = leaving.operator._judge = Judge(written, 6, leaving.now, deadline=2.0)  # another authority
    leaving.run(5.0)
    assert leaving.document == written
    paced(leaving, paused=False)
    leaving.run(0.2)
    assert leaving.document.pace == Pace(5, False)
    leaving.run(3.0)
    assert leaving.document.next is None
    assert leaving.document.pace == USUAL_PACE
    assert "pace" not in leaving.document.to_json()


def test_pace_ends_with_a_change_that_is_taken_back(leaving: Town) -> None:
    paced(leaving, paused=True)
    leaving.run(0.5)
    leaving.operator.take_back(dry_run=False)
    leaving.run(0.5)
    assert (leaving.document.next, leaving.document.pace) == (None, USUAL_PACE)
    leaving.operator.remove("b", force=False, dry_run=False)
    leaving.run(0.2)
    assert leaving.document.next is not None
    assert leaving.document.pace == USUAL_PACE


def test_same_pace_once_more_makes_no_epoch_and_is_not_kept_for_the_next_change(leaving: Town) -> None:
    leaving.equal = set()
    leaving.run(0.5)
    epochs = len(leaving.epochs)
    paced(leaving, rate=7)
    paced(leaving, rate=None)  # as it was, before anybody has looked
    leaving.run(0.5)
    paced(leaving, rate=None)
    leaving.run(0.5)
    assert len(leaving.epochs) == epochs
    leaving.equal = set("abcd")
    leaving.run(3.0)
    assert leaving.document.next is None
    leaving.operator.change_member("a", weight=2.0, zone=None, dry_run=False)
    leaving.run(3.0)
    assert {document.pace for _, document in leaving.epochs} == {USUAL_PACE}


def test_pace_of_a_removal_that_does_not_come_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town(with_copies({"d": {"state": State.DOWN, "left": 3}}, "abcd"), monkeypatch)
    with pytest.raises(MemberConflict, match="no change of the ring is under way by which keys move"):
        town.operator.change_pace({"paused": True}, dry_run=True)
    town.operator.remove("d", force=False, dry_run=False)
    granted, _ = town.operator.change_pace({"paused": True}, dry_run=False)
    assert granted.change.what == "d is removed"
    town.alive["d"] = ord("d")  # it is back
    town.run(5.0)
    town.operator.change_member("a", weight=2.0, zone=None, dry_run=False)
    town.run(3.0)
    assert {document.pace for _, document in town.epochs} == {USUAL_PACE}


def test_one_copy_has_no_change_whose_pace_could_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town(with_copies(replicas=1, min_in_sync=1), monkeypatch)
    with pytest.raises(MemberConflict, match="by which keys move"):
        town.operator.change_pace({"rate": 1}, dry_run=False)


WRONG = [
    {"rate": -1, "paused": False},
    {"rate": "5", "paused": False},
    {"rate": 5},
    {"paused": True},
    {"rate": 5, "paused": 1},
    5,
]


@pytest.mark.parametrize("pace", WRONG)
def test_document_with_a_wrong_pace_cannot_be(pace: object) -> None:
    document = with_copies(ids="abcd")
    coming = replace(document, next=replace(document.layout, replicas=2), next_since=7)
    with pytest.raises(ValueError, match="no cluster document"):
        Document.from_json(coming.to_json() | {"pace": pace})


def test_lines_say_that_the_pace_is_another() -> None:
    document = with_copies(ids="abcd")
    coming = replace(document, next=replace(document.layout, replicas=2), next_since=7)

    def said(pace: Pace) -> list[str]:
        return list(news.of_ring(replace(coming, pace=Pace(1)), replace(coming, pace=pace)))

    assert said(Pace(1)) == []
    assert said(Pace(5, True)) == [
        'the change of the ring is paused; PATCH /v1/cluster/change with {"paused": false} has it go on'
    ]
    assert said(Pace(5)) == ["the change of the ring goes on at 5 records a second and source"]
    assert said(Pace(0)) == ["the change of the ring goes on as fast as it can"]
    assert said(Pace()) == ["the change of the ring goes on at the nodes' --fill-rate"]
