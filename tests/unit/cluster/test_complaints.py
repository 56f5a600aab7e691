"""Complaints of members about each other, and who goes by them."""

from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster.complaints import Complaint, Complaints
from gkv.cluster.document import State
from gkv.cluster.placement import Placement
from gkv.duties import Fault
from tests.documents import with_copies as document

UP, FILLING, DOWN = State.UP, State.FILLING, State.DOWN
ALL = document()
PLACED = Placement.of(ALL)


def word(by: str, about: str) -> Complaint:
    return Complaint(by, ord(by), about, ord(about), ALL.order)


def verdicts(*words: str, ids: str = "abc", **changes: dict[str, Any]) -> set[str]:
    """Return who is to go when `ab` stands for a's complaint of b."""
    known = document(changes, ids)
    placement = Placement.of(known)
    complaints = Complaints()
    for each in words:
        assert complaints.complain(word(each[0], each[1]), known, placement, 1.0)
    assert complaints.verdicts(known, placement, 1.09) == set()
    return set(complaints.verdicts(known, placement, 1.11))


VERDICTS = {
    "F14: of two it is the one that does not answer": (("ab",), "b"),
    "one that nobody hears": (("ac", "bc"), "c"),
    "one that hears nobody": (("ca", "cb"), "c"),
    "one that is cut off from all": (("ac", "ca", "bc", "cb"), "c"),
    "two that are cut off from three": (("ac", "ad", "ae", "bc", "bd", "be"), "ab"),
    "nobody": ((), ""),
}


@pytest.mark.parametrize(("words", "expected"), VERDICTS.values(), ids=VERDICTS.keys())
def test_member_that_is_part_of_most_complaints_goes(words: tuple[str, ...], expected: str) -> None:
    assert verdicts(*words, ids="abcde") == set(expected)


def test_reasons_name_who_has_said_what() -> None:
    complaints = Complaints()
    for by, about, fault in (("a", "c", Fault.SILENT), ("b", "c", Fault.SLOW_DISK), ("c", "a", Fault.SILENT)):
        assert complaints.complain(Complaint(by, ord(by), about, ord(about), ALL.order, fault), ALL, PLACED, 1.0)
    assert complaints.verdicts(ALL, PLACED, 1.11) == {"c"}
    assert complaints.reasons == {
        "c": "a says that it does not answer, b says that its disk is too slow, it says of a that it does not answer"
    }
    complaints.verdicts(document(ids="ab"), PLACED, 2.0)
    assert complaints.reasons == {}, "of one that is no member any more"


def test_of_two_that_complain_of_each_other_the_one_goes_that_is_primary_of_less() -> None:
    assert verdicts("ab", "ba", a={"state": FILLING, "left": 3}) == {"a"}
    assert verdicts("ab", "ba", b={"state": FILLING, "left": 3}) == {"b"}


NO_COMPLAINTS = {
    "of another epoch": {"order": (1, 6)},
    "by another process": {"by_incarnation": 1},
    "about another process": {"about_incarnation": 1},
    "by nobody": {"by": "x"},
    "about itself": {"by": "b", "by_incarnation": ord("b")},
    "about one that acts and is full": {"fault": Fault.FULL},
}


@pytest.mark.parametrize("changes", NO_COMPLAINTS.values(), ids=NO_COMPLAINTS.keys())
def test_what_is_no_complaint(changes: dict[str, Any]) -> None:
    complaints = Complaints()
    assert not complaints.complain(replace(word("a", "b"), **changes), ALL, PLACED, 1.0)
    assert complaints.verdicts(ALL, PLACED, 1.2) == set()


def of_itself(name: str) -> Complaint:
    return replace(word(name, name), fault=Fault.SLOW_DISK)


@pytest.mark.parametrize(
    ("names", "lines", "gone", "expected"),
    [
        pytest.param("a", {}, "", "a", id="others take over"),
        pytest.param("abc", {}, "", "ab", id="all disks hang: somebody stays"),
        pytest.param("a", {"b": {"state": DOWN}, "c": {"state": DOWN}}, "", "", id="nobody else acts"),
        pytest.param("a", {}, "bc", "", id="the others go already"),
        pytest.param("a", {"b": {"state": FILLING}, "c": {"state": DOWN}}, "", "", id="a learner does not act"),
    ],
)
def test_member_that_complains_of_its_own_disk_goes_if_others_act_for_its_lists(
    names: str, lines: dict[str, Any], gone: str, expected: str
) -> None:
    known = document(lines)
    placement, complaints = Placement.of(known), Complaints()
    for name in names:
        assert complaints.complain(of_itself(name), known, placement, 1.0)
    assert complaints.verdicts(known, placement, 1.09, frozenset(gone)) == set()
    assert complaints.verdicts(known, placement, 1.11, frozenset(gone)) == set(expected)
    assert complaints.verdicts(known, placement, 1.12) == set()


def test_complaint_of_the_own_disk_is_no_vote_about_others() -> None:
    complaints = Complaints()
    complaints.complain(word("b", "c"), ALL, PLACED, 1.0)
    complaints.complain(of_itself("a"), ALL, PLACED, 1.0)
    assert complaints.verdicts(ALL, PLACED, 1.1) == {"a", "c"}


def test_learner_that_is_full_is_complained_of() -> None:
    filling = document({"b": {"state": FILLING, "left": 3}})
    assert Complaints().complain(replace(word("a", "b"), fault=Fault.FULL), filling, Placement.of(filling), 1.0)


def test_complaint_by_or_about_who_is_down_counts_for_nothing_any_more() -> None:
    for gone in "ab":
        complaints = Complaints()
        complaints.complain(word("a", "b"), ALL, PLACED, 1.0)
        after = document({gone: {"state": DOWN}})
        assert complaints.verdicts(after, Placement.of(after), 1.2) == set()
        assert complaints.verdicts(ALL, PLACED, 1.3) == set()


def test_complaint_is_forgotten_and_judged_once() -> None:
    complaints = Complaints()
    complaints.complain(word("a", "b"), ALL, PLACED, 1.0)
    assert complaints.verdicts(ALL, PLACED, 1.81) == set()
    complaints.complain(word("a", "b"), ALL, PLACED, 2.0)
    assert complaints.verdicts(ALL, PLACED, 2.1) == {"b"}
    assert complaints.verdicts(ALL, PLACED, 2.2) == set()
