"""The rebuilding of a document, from what members tell: `tests/apps/test_proxy_api.py` has the authority around it."""

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document
from gkv.cluster.rebuilding import Told
from gkv.model import Node, Presence, era_of
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
