"""How a node calls in, with a proxy of the test's own in place of the call itself."""

import gevent
import pytest

from gkv.cluster import caller
from gkv.cluster.caller import Caller
from gkv.cluster.document import Document
from gkv.errors import EngineError
from gkv.model import Node

NODE = Node("n1", "http://127.0.0.1:9000")
DOCUMENT = Document("c1", 1, (NODE,), 8)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(caller, "INTERVAL", 0.001)


def test_call_whose_document_cannot_be_adopted_is_told_once_and_made_again(monkeypatch):
    said = []
    adopted = []

    def adopt(document):
        adopted.append(document)
        if len(adopted) < 4:
            raise EngineError("there are records of cluster c0")

    calling = Caller("http://127.0.0.1:1", NODE, adopt, lambda: None, say=said.append)
    monkeypatch.setattr(calling, "_call", lambda: DOCUMENT)
    greenlet = gevent.spawn(calling.run)
    with gevent.Timeout(10):
        while len(adopted) < 6:
            gevent.sleep(0.001)
    assert not greenlet.dead
    greenlet.kill()
    assert said == [
        "n1: cannot take over what the proxy says: there are records of cluster c0",
        "n1: member of cluster c1 at http://127.0.0.1:1",
    ]
