"""How a node calls in, with a proxy of the test's own in place of the call itself."""

import gevent
import pytest
from gevent.event import Event

from gkv.cluster import caller
from gkv.cluster.caller import Caller
from gkv.cluster.callin import CallIn
from gkv.errors import EngineError
from gkv.model import Node
from tests.documents import document

NODE = Node("n1", "http://127.0.0.1:9000")
DOCUMENT = document([NODE])


class Member:
    """A member that cannot take over a document at first."""

    def __init__(self):
        self.news = Event()
        self.line = None
        self.adopted = []

    def call_in(self, *, show):
        assert show is False
        return CallIn(NODE, 0)

    def adopt(self, found):
        self.adopted.append(found)
        if len(self.adopted) < 4:
            raise EngineError("there are records of cluster c0")
        self.line = found.member("n1")
        return True


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(caller, "INTERVAL", 0.001)


def test_node_whose_cluster_the_proxy_does_not_know_says_nothing_of_being_its_member(monkeypatch):
    said = []
    mine = document([NODE], cluster="d" * 32)

    class Elsewhere(Member):
        def call_in(self, *, show):
            self.adopted.append(show)
            return CallIn(NODE, 0, cluster=mine.cluster, order=mine.order, bare=False)

        def adopt(self, _found):
            return False

    member = Elsewhere()
    member.line = mine.member("n1")
    calling = Caller("http://127.0.0.1:1", NODE.url, member, say=said.append)
    monkeypatch.setattr(calling, "_call", lambda _call: DOCUMENT)
    greenlet = gevent.spawn(calling.run)
    with gevent.Timeout(10):
        while len(member.adopted) < 4:
            gevent.sleep(0.001)
    assert not greenlet.dead
    greenlet.kill()
    assert member.adopted[1:4] == [True] * 3
    assert said == []


def test_call_whose_document_cannot_be_adopted_is_told_once_and_made_again(monkeypatch):
    said = []
    member = Member()
    calling = Caller("http://127.0.0.1:1", NODE.url, member, say=said.append)
    monkeypatch.setattr(calling, "_call", lambda _call: DOCUMENT)
    greenlet = gevent.spawn(calling.run)
    with gevent.Timeout(10):
        while len(member.adopted) < 6:
            gevent.sleep(0.001)
    assert not greenlet.dead
    greenlet.kill()
    assert said == [
        "cannot take over what the proxy says: there are records of cluster c0",
        f"member of cluster {DOCUMENT.cluster} at http://127.0.0.1:1",
    ]
