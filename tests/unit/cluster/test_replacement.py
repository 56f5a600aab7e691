"""One node in the place of another: what moves, and what becomes of an operator's word."""

from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster.callin import CallIn
from gkv.cluster.coverage import arcs_of
from gkv.cluster.document import Document, Layout, Member, State
from gkv.cluster.forecast import forecast
from gkv.cluster.judge import Judge
from gkv.cluster.placement import Placement
from gkv.cluster.refusals import refused
from gkv.cluster.replacement import replaced
from gkv.cluster.ring_change import Kind, ring_change
from gkv.errors import ChangeUnderWay, MemberConflict, Unavailable
from gkv.model import Node
from tests.documents import CLUSTER, with_copies
from tests.unit.cluster.test_operator import Town

DOWN = State.DOWN


def cluster(count: int, **of_second: Any) -> Document:
    lines = [Member(f"n{place:02}", f"http://h:{place + 1}", zone="xyz"[place % 3]) for place in range(count)]
    lines[1] = replace(lines[1], **of_second)
    return Document(CLUSTER, 7, tuple(lines), 512, replicas=3)


@pytest.mark.parametrize("document", [cluster(3), cluster(5, weight=2.5), cluster(16)], ids=["3", "5", "16"])
def test_newcomer_gets_what_the_replaced_one_has_and_nothing_else_moves(document: Document) -> None:
    layout = replaced(document, document.members[1], "x", "")
    placement = Placement.of(document)
    found = forecast(document, layout, placement, {})
    arcs = zip(placement.lists.lists, arcs_of(placement.lists), strict=True)
    held = sum(arc for preference, arc in arcs if "n01" in preference) / (1 << 64)
    assert found.gains == {"x": pytest.approx(held)}
    assert found.moved == pytest.approx(found.ideal)
    change = ring_change(document, layout)
    assert (change.kind, change.nodes, change.what) == (Kind.REPLACEMENT, ("n01", "x"), "x replaces n01")
    after = _switched(document, layout)
    assert after.member("x") == replace(document.members[1], id="x", url="http://x:1", tokens_of="n01")
    assert not Placement.of(after).ring.check()
    assert Document.from_json(after.to_json()) == after
    coming = replace(after, next=after.layout, next_since=7)
    assert Document.from_json(coming.to_json()) == coming


def _switched(document: Document, layout: Layout) -> Document:
    """Return a document by which another ring is in force."""
    gone = {one.id: one for one in document.members}
    old = next(one for one in document.members if one.id not in dict(layout.weights))
    lines = [gone.get(one) or replace(old, id=one, url=f"http://{one}:1") for one, _ in layout.weights]
    names = dict(layout.tokens_of)
    return replace(document, members=tuple(replace(line, tokens_of=names.get(line.id, "")) for line in lines))


def test_place_is_handed_on_and_its_first_name_is_nobody_elses_meanwhile() -> None:
    once = _switched(cluster(4), replaced(cluster(4), cluster(4).members[1], "x", "y"))
    member = once.member("x")
    assert member is not None
    twice = replaced(once, member, "y", "")
    assert twice.tokens_of == (("y", "n01"),)
    assert dict(twice.zones)["y"] == "y"
    error = refused(once, CallIn(Node("n01", "http://h:9"), 9), {})
    assert isinstance(error, MemberConflict)
    assert "x has the place of n01" in error.detail
    with pytest.raises(ValueError, match="two nodes have the same tokens"):
        once.with_member(Member("n01", "http://h:9"))


class Standing(Town):
    """An authority, and a newcomer e that stands by."""

    def __init__(self, document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(document, monkeypatch)
        self.alive["e"], self.ran["e"] = 1_001, [1_001]
        self.run(0.5)

    def call(self, name: str, **more: Any) -> bool:
        known = self.document.member(name) is not None
        if name == "e" and not known:
            more |= {"standby": True, "order": (0, 0)}
        holds, self.holds = self.holds, 0 if name == "e" else self.holds
        said = super().call(name, **more)
        self.holds = holds
        return said


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> Standing:
    return Standing(with_copies({"b": {"weight": 2.0, "zone": "x"}}, "abcd"), monkeypatch)


def test_process_that_stands_by_does_not_join_and_is_told_how_it_would(four: Standing) -> None:
    four.run(2.0)
    assert four.epochs == []
    call = four.judge.liveness.recent(four.now)["e"]
    error = refused(four.document, call, {})
    assert isinstance(error, Unavailable)
    assert 'POST /v1/cluster/replace with {"node": ID, "with": "e"}' in error.detail


def test_member_is_replaced_in_one_change(four: Standing) -> None:
    granted = four.say("replace_member", "b", "e")
    assert (granted.change.what, granted.begins_in) == ("e replaces b", 0.0)
    assert granted.expected is not None
    assert granted.expected.moved == pytest.approx(granted.expected.ideal)
    four.run(0.3)
    assert four.document.next is not None
    four.equal.add("e")
    four.run(3.0)
    line = four.document.member("e")
    assert line is not None
    assert (line.weight, line.zone, line.tokens_of, line.state) == (2.0, "x", "b", State.UP)
    assert [node.id for node in four.document.nodes] == ["a", "c", "d", "e"]
    changes = {document.next for _, document in four.epochs} - {None}
    assert len(changes) == 1
    four.holds = 0
    four.call("b", spare=True)
    four.look()
    assert four.document.member("b") is None


def test_member_that_is_down_is_replaced_when_what_it_promised_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Standing(with_copies({"d": {"state": DOWN, "left": 3}}, "abcd"), monkeypatch)
    granted = town.say("replace_member", "d", "e")
    assert (granted.change.kind, granted.change.what) == (Kind.REPLACEMENT, "e replaces d")
    assert 0 < granted.begins_in < 3.1
    with pytest.raises(ChangeUnderWay, match="about to change: e replaces d"):
        town.operator.remove("d", force=False, dry_run=False)
    town.run(granted.begins_in - 0.2)
    assert town.document.next is None
    town.equal.add("e")
    town.run(5.0)
    assert [one.id for one in town.document.members] == ["a", "b", "c", "e"]
    assert town.document.removed == (ord("d"),)


def test_removal_that_waits_goes_with_the_newcomer_that_was_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Standing(with_copies({"d": {"state": DOWN, "left": 3}}, "abcd"), monkeypatch)
    town.say("replace_member", "d", "e")
    del town.alive["e"]
    town.run(6.0)
    assert town.epochs == []
    assert town.judge.removals(town.now) == {}
    town.say("change_member", "a", weight=2.0, zone=None)


def test_nobody_takes_the_place_of_a_member_that_is_back_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Standing(with_copies({"d": {"state": DOWN, "left": 3}}, "abcd"), monkeypatch)
    town.say("replace_member", "d", "e")
    town.alive["d"] = ord("d")
    town.run(5.0)
    assert town.document.next is None
    assert [node.id for node in town.document.nodes] == ["a", "b", "c", "d"]
    assert town.judge.wish.layout is None


def test_replacement_goes_on_under_another_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Standing(with_copies({"d": {"state": DOWN, "left": 3}}, "abcd"), monkeypatch)
    town.say("replace_member", "d", "e")
    town.run(3.2)
    assert town.document.next is not None
    town.judge = Judge(Document.from_json(town.document.to_json()), 6, town.now, deadline=2.0)
    town.equal.add("e")
    town.run(5.0)
    assert [one.id for one in town.document.members] == ["a", "b", "c", "e"]


def test_replacement_can_be_taken_back(four: Standing) -> None:
    four.say("replace_member", "b", "e")
    four.run(1.0)
    assert four.say("take_back").change.what == "e replaces b"
    four.run(1.0)
    assert four.document.next is None
    assert [one.id for one in four.document.members] == ["a", "b", "c", "d"]


def test_replacement_that_cannot_be_is_refused(four: Standing) -> None:
    for node_id, newcomer, why in (
        ("b", "c", "c is a member already; DELETE /v1/cluster/nodes/b has b leave"),
        ("b", "f", "no process calls in as f: start one with --standby --name f"),
    ):
        with pytest.raises(MemberConflict, match=why):
            four.operator.replace_member(node_id, newcomer, dry_run=False)
    dry = four.operator.replace_member("b", "f", dry_run=True)
    assert dry.change.what == "f replaces b"
    super(Standing, four).call("e", standby=True)  # it holds a key
    with pytest.raises(MemberConflict, match="it can join with nothing in it"):
        four.operator.replace_member("b", "e", dry_run=False)
    four.run(0.5)
    assert four.epochs == []
