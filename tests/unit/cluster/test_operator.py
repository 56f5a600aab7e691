"""The words of an operator: what is refused, what would follow, and what becomes of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster import operator
from gkv.cluster.document import Document, State
from gkv.cluster.operator import Granted, Operator
from gkv.cluster.ring_change import Kind
from gkv.errors import ChangeUnderWay, GkvError, InvalidMember, MemberConflict, NoSuchMember
from tests.documents import with_copies
from tests.unit.cluster.test_judge import World

DOWN = State.DOWN


class Town(World):
    """An authority with an operator."""

    def __init__(self, document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(replace(document, vnodes=64))
        monkeypatch.setattr(operator, "boot_time", lambda: self.now)
        self.equal = {one.id for one in document.members}
        self.news = 0
        self.operator = Operator(self.judge, lambda call: call(), self._note)
        self.run(0.5)

    def _note(self) -> None:
        self.news += 1

    def say(self, word: str, *about: str, **more: Any) -> Granted:
        """Say a word twice: first only to hear what would follow, which is the same."""
        call: Callable[..., Granted] = getattr(self.operator, word)
        before, news = self.document, self.news
        dry = call(*about, **more, dry_run=True)
        self.run(0.3)
        assert (self.document, self.news) == (before, news)
        granted = call(*about, **more, dry_run=False)
        assert (granted.change, granted.expected) == (dry.change, dry.expected)
        return granted


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> Town:
    return Town(with_copies(ids="abcd"), monkeypatch)


def ids(document: Document) -> str:
    return "".join(one.id for one in document.members)


def test_member_leaves_and_its_line_goes_when_it_holds_nothing(four: Town) -> None:
    granted = four.say("remove", "b", force=False)
    assert (granted.change.kind, granted.change.nodes, granted.begins_in) == (Kind.LEAVE, ("b",), 0.0)
    assert granted.expected is not None
    assert granted.expected.moved == pytest.approx(granted.expected.ideal)
    four.run(0.2)
    assert four.document.next is not None
    four.run(3.0)
    assert four.document.next is None
    assert ids(four.document) == "abcd"
    assert [node.id for node in four.document.nodes] == ["a", "c", "d"]
    with pytest.raises(MemberConflict, match="has left the ring already"):
        four.operator.remove("b", force=False, dry_run=False)
    four.holds = 0
    four.call("b", spare=True)
    four.look()
    assert ids(four.document) == "acd"
    assert four.document.removed == (ord("b"),)


def test_line_of_a_member_that_has_left_and_died_goes_too(four: Town) -> None:
    four.say("remove", "b", force=False)
    four.run(3.0)
    del four.alive["b"]
    four.run(5.0)
    assert ids(four.document) == "acd"


def test_member_that_is_down_is_removed_when_what_it_promised_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town(with_copies({"d": {"state": DOWN, "left": 3}}, "abcd"), monkeypatch)
    granted = town.say("remove", "d", force=False)
    assert granted.change.kind is Kind.REMOVAL
    assert 0 < granted.begins_in < 3.1
    again = town.operator.remove("d", force=False, dry_run=False)
    assert again.change == granted.change
    with pytest.raises(ChangeUnderWay, match="d is about to be removed, in 2 s"):
        town.operator.remove("a", force=False, dry_run=False)
    town.run(6.0)
    assert ids(town.document) == "abc"


def test_weight_zone_and_copies_change(four: Town) -> None:
    assert four.say("change_member", "b", weight=2.0, zone="x").change.what == (
        "the weight of b becomes 2 (now 1), b comes to the zone x"
    )
    four.run(3.0)
    assert [(one.id, one.weight, one.zone) for one in four.document.members][1] == ("b", 2.0, "x")
    granted = four.say("change_cluster", replicas=2, min_in_sync=None, force=False)
    assert granted.expected is not None
    assert granted.expected.flows == ()
    four.run(3.0)
    assert (four.document.replicas, four.document.min_in_sync, four.document.zones) == (2, 1, {"b": "x"})
    four.say("change_cluster", replicas=3, min_in_sync=2, force=False)
    four.run(3.0)
    assert (four.document.replicas, four.document.min_in_sync) == (3, 2)
    four.say("change_cluster", replicas=None, min_in_sync=3, force=False)
    four.run(0.5)
    assert four.document.min_in_sync == 3
    granted = four.say("change_cluster", replicas=None, min_in_sync=None, vnodes=32, force=False)
    assert granted.change.what == "an ordinary node has 32 vnodes (now 64)"
    assert granted.expected is not None
    assert granted.expected.moved > 0.05
    four.run(3.0)
    assert (four.document.vnodes, four.document.zones, len(four.document.nodes)) == (32, {"b": "x"}, 4)


def test_word_that_changes_nothing_begins_nothing(four: Town) -> None:
    granted = four.say("change_member", "b", weight=1.0, zone=None)
    assert (granted.change.kind, granted.expected) == (Kind.NONE, None)
    four.run(1.0)
    assert four.document.next is None
    four.say("change_member", "b", weight=2.0, zone=None)


def test_second_change_is_told_which_one_is_under_way_and_that_can_be_taken_back(four: Town) -> None:
    four.equal = set()
    four.say("remove", "b", force=False)
    with pytest.raises(ChangeUnderWay, match="is about to change: b leaves"):
        four.operator.change_member("a", weight=2.0, zone=None, dry_run=True)
    four.run(1.0)
    with pytest.raises(ChangeUnderWay, match=r"since epoch 8: b leaves\. DELETE /v1/cluster/change"):
        four.operator.change_member("a", weight=2.0, zone=None, dry_run=False)
    assert four.say("take_back").change.what == "b leaves"
    four.run(1.0)
    assert (four.document.next, len(four.document.nodes)) == (None, 4)
    with pytest.raises(MemberConflict, match="no change"):
        four.operator.take_back(dry_run=False)


def test_change_that_is_about_to_begin_is_taken_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town(with_copies({"d": {"state": DOWN, "left": 3}}, "abcd"), monkeypatch)
    town.say("remove", "d", force=False)
    assert town.say("take_back").change.what == "d is removed"
    town.run(6.0)
    assert (town.document.next, town.document.removed, ids(town.document)) == (None, (), "abcd")
    town.operator.change_member("b", weight=2.0, zone=None, dry_run=False)
    assert town.operator.take_back(dry_run=False).change.what == "the weight of b becomes 2 (now 1)"
    town.run(3.0)
    assert (town.document.next, town.document.layout.weights[1]) == (None, ("b", 1.0))
    town.say("change_member", "b", weight=2.0, zone=None)
    town.run(3.0)
    assert town.document.layout.weights[1] == ("b", 2.0)


REFUSED: dict[str, tuple[Callable[[Operator], object], type[GkvError], str]] = {
    "an unknown member leaves": (lambda one: one.remove("x", force=False, dry_run=True), NoSuchMember, "no member x"),
    "an unknown member has a weight": (
        lambda one: one.change_member("x", weight=1.0, zone=None, dry_run=True),
        NoSuchMember,
        "no member x",
    ),
    "a weight of too few tokens": (
        lambda one: one.change_member("a", weight=0.001, zone=None, dry_run=False),
        InvalidMember,
        "take a weight of",
    ),
    "vnodes by which a weight is of too few tokens": (
        lambda one: one.change_cluster(replicas=None, min_in_sync=None, vnodes=8, force=False, dry_run=False),
        InvalidMember,
        "take a weight of 2 to",
    ),
    "more copies than nodes": (
        lambda one: one.change_cluster(replicas=5, min_in_sync=None, force=False, dry_run=False),
        MemberConflict,
        "there would be 4 copies of each key .now 3. instead of 5; force=1",
    ),
    "min_in_sync of too many": (
        lambda one: one.change_cluster(replicas=None, min_in_sync=4, force=False, dry_run=False),
        MemberConflict,
        "1 to 3",
    ),
    "min_in_sync that would not stay": (
        lambda one: one.change_cluster(replicas=2, min_in_sync=2, force=False, dry_run=False),
        MemberConflict,
        "would become 1; set it when there are 2",
    ),
}


@pytest.mark.parametrize(("word", "error", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_word_is_refused(four: Town, word: Callable[[Operator], object], error: type[GkvError], why: str) -> None:
    with pytest.raises(error, match=why):
        word(four.operator)
    four.run(0.5)
    assert four.epochs == []


def test_fewer_nodes_than_copies_are_granted_by_force_and_the_last_node_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town(with_copies(), monkeypatch)
    for name in "ab":
        with pytest.raises(MemberConflict, match="force=1"):
            town.operator.remove(name, force=False, dry_run=False)
        town.say("remove", name, force=True)
        town.run(3.0)
    with pytest.raises(MemberConflict, match="last node"):
        town.operator.remove("c", force=True, dry_run=False)


def test_all_changes_are_granted_with_one_copy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town(with_copies(replicas=1, min_in_sync=1), monkeypatch)
    assert town.say("change_member", "b", weight=2.0, zone=None).change.kind is Kind.WEIGHT
    town.run(3.0)
    assert [one.weight for one in town.document.members] == [1.0, 2.0, 1.0]
    granted = town.say("remove", "a", force=False)
    assert granted.change.kind is Kind.LEAVE
    assert granted.expected is not None
    assert granted.expected.moved == pytest.approx(granted.expected.ideal)
    town.run(3.0)
    assert [node.id for node in town.document.nodes] == ["b", "c"]
    for copies in (2, 1):
        town.say("change_cluster", replicas=copies, min_in_sync=None, force=False)
        town.run(3.0)
        assert (town.document.next, town.document.replicas) == (None, copies)


def test_member_that_has_the_only_copy_of_its_keys_is_not_removed_but_told_how_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town(with_copies({"b": {"state": DOWN, "left": 3}}, replicas=1, min_in_sync=1), monkeypatch)
    with pytest.raises(MemberConflict, match="the only copy of its keys: start it; with an empty directory if that is lost"):
        town.operator.remove("b", force=True, dry_run=False)
    town.run(0.5)
    assert town.epochs == []
