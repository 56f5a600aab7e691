"""The document of a restored cluster: who acts with what, and who is refused."""

from dataclasses import replace

import pytest

from gkv.cluster.callin import CallIn
from gkv.cluster.changes import Look, change
from gkv.cluster.document import Document, Layout, Member, State
from gkv.cluster.placement import Placement
from gkv.cluster.refusals import refused
from gkv.cluster.restored import Restored, awaits_its_first_process, restored
from gkv.errors import ConfigError
from gkv.model import Node, era_of
from gkv.pace import Pace

OLD, NEW = "a" * 32, "b" * 32
NAMES = ("n1", "n2", "n3")
INCARNATIONS = {"n1": 11, "n2": 12, "n3": 13}


def url(name: str) -> str:
    return f"http://127.0.0.1:900{name[-1]}"


BEFORE = Document(
    OLD,
    40,
    tuple(Member(name, url(name), incarnation=number, directory=number) for number, name in enumerate(NAMES, 1)),
    generation=2,
    replicas=3,
    rebuilt_from=((1, 30),),
    removed=(5,),
    ended=(6,),
)


def snapshot(node: str, era: int = 0, dated: int = 0, cluster: str = OLD, directory: str = "") -> Restored:
    return Restored(node, cluster, era, dated, directory or f"in-{node}")


def test_restored_document_is_of_a_new_cluster_and_later_than_all_records() -> None:
    found = [snapshot("n1", era_of(4, 7)), snapshot("n2", era_of(2, 39)), snapshot("n3", era_of(3, 1))]
    changing = replace(BEFORE, next=Layout((("n1", 1.0),), 160), next_since=39, pace=Pace(7, paused=True))
    made = restored(changing, found, NEW, INCARNATIONS)
    assert Document.from_json(made.to_json()) == made
    assert (made.cluster, made.order, made.era > era_of(4, 7)) == (NEW, (5, 1), True)
    assert (made.next, made.next_since, made.rebuilt_from, made.removed, made.ended) == (None, 0, (), (), ())
    assert (made.replicas, made.layout) == (3, BEFORE.layout)
    assert Document.from_json(made.to_json()) == made
    for line in made.members:
        assert (line.state, line.left, line.empty, line.since) == (State.DOWN, 1, False, 1)
        assert line.incarnation == line.directory == INCARNATIONS[line.id]
        assert awaits_its_first_process(line)
    assert not any(map(awaits_its_first_process, BEFORE.members))


@pytest.mark.parametrize(
    ("eras", "dates", "oldest_first"),
    [
        ((era_of(1, 9), era_of(1, 3), era_of(1, 5)), (1, 2, 3), ["n2", "n3", "n1"]),
        ((era_of(1, 3),) * 3, (30, 10, 20), ["n2", "n3", "n1"]),
        ((era_of(1, 3), era_of(1, 3), era_of(2, 1)), (30, 20, 10), ["n2", "n1", "n3"]),
        ((0, 0, 0), (0, 0, 0), ["n1", "n2", "n3"]),
    ],
    ids=["by era", "by date", "era before date", "any order"],
)
def test_ranks_are_distinct_and_the_newest_snapshot_has_the_greatest(eras, dates, oldest_first) -> None:
    found = [snapshot(name, era, dated) for name, era, dated in zip(NAMES, eras, dates, strict=True)]
    made = restored(BEFORE, found, NEW, INCARNATIONS)
    assert [member.id for member in sorted(made.members, key=lambda one: one.rank)] == oldest_first
    assert sorted(member.rank for member in made.members) == [1, 2, 3]
    made = restored(BEFORE, found[::-1], NEW, INCARNATIONS)
    assert [member.id for member in sorted(made.members, key=lambda one: one.rank)] == oldest_first


def call(name: str, ran: tuple[int, ...] = (), incarnation: int = 99, at: str = "", **more) -> CallIn:
    bare = more.pop("bare", False)
    return CallIn(Node(name, at or url(name)), incarnation, cluster=NEW, ran=ran, bare=bare, records=3 - 3 * bare, **more)


def admitted(document: Document, *calls: CallIn) -> Document:
    changed = change(document, Look({one.id: one for one in calls}))
    assert changed is not None
    return changed


def actors(document: Document) -> set[tuple[str, ...]]:
    return {one.acting for one in Placement.of(document).roles}


def test_only_the_newest_acts_and_a_directory_counts_once() -> None:
    made = restored(BEFORE, [snapshot("n1", dated=3), snapshot("n2", dated=2), snapshot("n3", dated=1)], NEW, INCARNATIONS)
    assert actors(made) == {()}
    first = admitted(made, call("n2", ran=(12, 99), incarnation=99))
    assert actors(first) == {()}  # the newest may come yet
    both = admitted(first, call("n1", ran=(11, 98), incarnation=98, reached=(99,)), call("n2", ran=(12, 99), incarnation=99))
    assert actors(both) == {("n1",)}
    assert not any(awaits_its_first_process(both.member(name)) for name in ("n1", "n2"))
    # Another process on another copy of the directory that was restored.
    copied = call("n1", ran=(11, 97), incarnation=97, reached=(99,))
    line = admitted(both, copied, call("n2", ran=(12, 99), incarnation=99)).member("n1")
    assert (line.state, line.empty, line.directory) == (State.FILLING, True, 98)


def test_member_without_a_snapshot_waits_to_be_filled_and_never_acts_by_itself() -> None:
    made = restored(BEFORE, [snapshot("n2")], NEW, INCARNATIONS)
    for name in ("n1", "n3"):
        line = made.member(name)
        assert (line.state, line.left, line.rank, line.empty) == (State.DOWN, 0, 0, True)
    alone = admitted(made, call("n1", ran=(99,), bare=True))
    assert alone.member("n1").empty
    assert actors(alone) == {()}
    assert {Placement.of(alone).awaited("n1")} == {("n2",)}


def test_member_may_be_at_another_address_until_a_process_has_acted_under_its_line() -> None:
    elsewhere = "http://127.0.0.1:9999"
    made = restored(BEFORE, [snapshot("n1", dated=1), snapshot("n2", dated=2)], NEW, INCARNATIONS)
    right, empty = call("n1", ran=(11, 99), at=elsewhere), call("n3", ran=(99,), at=elsewhere, bare=True)
    assert refused(made, right, {}) is None
    assert refused(made, empty, {}) is None
    for wrong in (call("n1", ran=(99,), at=elsewhere), call("n1", ran=(12, 99), at=elsewhere)):
        assert "there is a member n1 already" in str(refused(made, wrong, {}))
    there = admitted(made, right)
    assert there.member("n1").url == elsewhere
    assert "there is a member n1 already" in str(refused(there, call("n1", ran=(11, 99)), {}))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([snapshot("n1", cluster="c" * 32)], f"in-n1 is of cluster {'c' * 32}"),
        ([snapshot("n4")], "in-n4 is of node n4, which the member list does not name"),
        ([snapshot("n1"), snapshot("n1", directory="other")], "in-n1 and other are both of node n1"),
        ([snapshot("n1", era_of(65_534, 1))], "no room"),
    ],
)
def test_snapshots_that_do_not_go_with_the_member_list_are_refused(found, message) -> None:
    with pytest.raises(ConfigError, match=message):
        restored(BEFORE, found, NEW, INCARNATIONS)
