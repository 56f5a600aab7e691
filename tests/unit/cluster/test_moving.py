"""Members at other addresses: who may move, and that no two are ever at one address."""

import random
from dataclasses import replace

import pytest

from gkv.cluster.callin import CallIn
from gkv.cluster.changes import Look, change
from gkv.cluster.document import Document, Member, State
from gkv.cluster.moving import displaced, is_replaced, may_move
from gkv.cluster.refusals import refused
from gkv.model import Node
from tests.documents import CLUSTER

OLD, NEW, OTHER = "http://10.0.0.1:1", "http://10.0.0.2:1", "http://10.0.0.3:1"
LINE = Member("a", OLD, incarnation=5, directory=4)
DOWN = replace(LINE, state=State.DOWN, since=5)


def call(at: str = NEW, incarnation: int = 9, ran: tuple[int, ...] = (), name: str = "a", cluster: str | None = None) -> CallIn:
    return CallIn(Node(name, at), incarnation, ran=ran, cluster=cluster)


def document(*members: Member, **parts: int) -> Document:
    return Document(CLUSTER, 7, members, 16, **parts)


MOVES = {
    "the directory of the process in the line": (LINE, call(ran=(5, 9)), True),
    "the directory that acted last": (LINE, call(ran=(4, 9)), True),
    "another directory": (LINE, call(ran=(3, 9)), False),
    "no directory": (LINE, call(), False),
    "the very process": (LINE, call(incarnation=5, ran=(5,)), False),
    "an older directory of a dead member": (DOWN, call(ran=(3, 9), cluster=CLUSTER), True),
    "another cluster's directory for a dead member": (DOWN, call(ran=(3, 9), cluster="f" * 32), False),
    "an empty directory for a dead member": (DOWN, call(), False),
    "TLS at the same place": (LINE, call("https://10.0.0.1:1", incarnation=5), True),
}


@pytest.mark.parametrize(("line", "one", "moves"), MOVES.values(), ids=MOVES.keys())
def test_member_moves_with_its_directory_and_nobody_else_takes_its_place(line: Member, one: CallIn, moves: bool) -> None:
    there = document(line)
    assert may_move(there, line, one) is moves
    assert (refused(there, one, {}) is None) is moves
    after = change(there, Look({"a": one}))
    if moves:
        assert after is not None
        assert after.members[0].url == one.node.url
    else:
        assert after is None


def test_process_that_another_has_replaced_is_told_and_one_that_was_never_named_is_not() -> None:
    there = document(LINE)
    was_named = replace(call(incarnation=3), cluster=CLUSTER, order=(1, 6))
    assert is_replaced(there, was_named)
    assert not is_replaced(there, replace(was_named, ran=(2, 3)))
    assert not is_replaced(there, replace(was_named, order=(0, 0)))
    assert not is_replaced(there, replace(was_named, cluster="f" * 32))
    assert not is_replaced(there, replace(was_named, incarnation=5))


def test_member_whose_address_another_one_has_now_goes_in_the_same_epoch() -> None:
    there = document(LINE, Member("b", NEW, incarnation=6, directory=6))
    moved, late = call(NEW, 9, (5, 9)), call(NEW, 6, name="b")
    assert displaced(there, {"a": moved, "b": late}) == (frozenset("b"), frozenset("b"))
    after = change(there, Look({"a": moved, "b": late}))
    assert after is not None
    assert [(one.url, one.state) for one in after.members] == [(NEW, State.FILLING), (NEW, State.DOWN)]
    again = change(after, Look({"a": moved, "b": late}))
    assert again is None or again.members[1].state is State.DOWN


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("seed", range(40))
def test_no_two_members_are_at_one_address_unless_one_is_down(seed: int, replicas: int) -> None:
    lot = random.Random(seed)
    urls = [OLD, NEW, OTHER]
    lines = [Member(one, url, incarnation=n, directory=n) for n, (one, url) in enumerate(zip("abc", urls, strict=True))]
    there = document(*lines, replicas=replicas)
    ran = {one: (n,) for n, one in enumerate("abc")}
    calls = {one.id: call(one.url, one.incarnation, (one.incarnation,), one.id, CLUSTER) for one in there.members}
    moves = 0
    for number in range(10, 90):
        one = lot.choice("abc")
        if lot.random() < 0.5:  # a later process, anywhere
            ran[one] = (*ran[one], number)
            calls[one] = call(lot.choice(urls), number, ran[one], one, CLUSTER)
        reached = tuple(each.incarnation for each in there.members)
        seen = {
            each: replace(said, order=there.order, digest=there.digest, equal=True, reached=reached)
            for each, said in calls.items()
            if lot.random() < 0.8
        }
        after = change(there, Look(seen, silent=frozenset(each for each in "abc" if each not in seen)))
        if after is None:
            continue
        moves += [each.url for each in after.members] != [each.url for each in there.members]
        there = after
        held = [each.url for each in there.members if each.state is not State.DOWN]
        assert len(held) == len(set(held)), there
    assert moves > 5
