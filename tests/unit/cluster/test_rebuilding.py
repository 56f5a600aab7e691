"""The rebuilding of a document, from what members tell: `tests/apps/test_proxy_api.py` has the authority around it."""

from dataclasses import replace

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document
from gkv.cluster.rebuilding import Rebuilding, Told
from gkv.model import Node, Presence, era_of
from gkv.pace import USUAL_PACE, Pace
from tests.documents import changed, document

A = Node("a", "http://127.0.0.1:9000")
MINE = document([A], 5)


def call_of(has: Document | None, era: int) -> CallIn:
    """Return the words of the member."""
    order, digest = ((0, 0), "") if has is None else (has.order, has.digest)
    line = MINE.member("a")
    assert line is not None
    return CallIn(A, line.incarnation, cluster=MINE.cluster, order=order, digest=digest, era=era, ran=(line.directory,))


def presence_of(call: CallIn) -> Presence:
    """Return what the same process answers at its address."""
    return Presence(call.incarnation, call.cluster, call.order, call.digest, call.era)


def test_document_that_was_being_written_when_the_rebuilding_began_is_one_of_those_that_members_show() -> None:
    told = Told([], 0.0)
    late = call_of(None, era_of(1, 9))
    assert told.note(MINE, late, presence_of(late), 0.0)
    assert told.waits_for(0.0) == ["a"]
    written = changed(MINE)
    told.enacted(written)
    follows = call_of(written, era_of(1, 9))
    assert told.note(written, follows, presence_of(follows), 0.1)
    assert told.waits_for(0.1) == []
    assert told.rebuilding is not None
    rebuilt = told.rebuilding.result()
    assert rebuilt is not None
    assert (rebuilt.order, rebuilt.members) == ((2, written.epoch + 1), written.members)


def test_member_whose_place_another_has_taken_does_not_come_back_into_the_ring() -> None:
    """Both would have the same tokens, and there would be no document at all."""
    mine = document([A, Node("b", "http://127.0.0.1:9001")], 5, replicas=2)
    left = replace(mine.members[1], weight=0.0)
    newer = replace(mine.members[1], id="x", url="http://127.0.0.1:9002", tokens_of="b")
    newest = replace(mine, epoch=9, members=(mine.members[0], left, newer))
    rebuilding = Rebuilding(mine, newest, 0.0)
    for one in "abx":
        rebuilding.excuse(one)
    rebuilt = rebuilding.result()
    assert rebuilt is not None
    assert rebuilt.members == newest.members


def test_pace_of_a_change_does_not_outlive_it_where_it_is_given_up_by_a_rebuilding() -> None:
    mine = document([A, Node("b", "http://127.0.0.1:9001")], 5, replicas=2)
    newest = replace(mine, epoch=9, members=mine.members[:1])
    newest = replace(newest, next=replace(newest.layout, replicas=3), next_since=9, pace=Pace(paused=True))
    rebuilding = Rebuilding(mine, newest, 0.0)
    for one in "ab":
        rebuilding.excuse(one)
    rebuilt = rebuilding.result()
    assert rebuilt is not None
    assert (rebuilt.next, rebuilt.pace) == (None, USUAL_PACE)
