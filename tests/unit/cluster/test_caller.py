"""How a node calls in, with a proxy of the test's own in place of the call itself."""

import gevent
import pytest
import ujson
from gevent.event import Event

from gkv.cluster import caller
from gkv.cluster.caller import Caller
from gkv.cluster.callin import CallIn
from gkv.cluster.proxies import Proxies
from gkv.errors import EngineError
from gkv.log import level_of
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
    calling = Caller(Proxies(["http://127.0.0.1:1"]), "127.0.0.1", member, say=said.append)
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
    calling = Caller(Proxies(["http://127.0.0.1:1"]), "127.0.0.1", member, say=said.append)
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


def test_member_names_no_cluster_whose_document_is_not_in_force_there(monkeypatch):
    said = []
    asked = []

    class Elsewhere:
        """A member of `DOCUMENT`'s cluster, whose proxy has lost that document."""

        news = Event()
        line = DOCUMENT.member("n1")

        def call_in(self, *, show):
            asked.append(show)
            return CallIn(NODE, 0, cluster=DOCUMENT.cluster, order=DOCUMENT.order, digest=DOCUMENT.digest, bare=False)

        def adopt(self, found):
            return found == DOCUMENT

    answers = iter([document(epoch=1, cluster="f" * 32)] * 3)
    calling = Caller(Proxies(["http://127.0.0.1:1"]), "127.0.0.1", Elsewhere(), say=said.append)
    monkeypatch.setattr(calling, "_call", lambda _call: next(answers, DOCUMENT))
    greenlet = gevent.spawn(calling.run)
    with gevent.Timeout(10):
        while len(asked) < 6:
            gevent.sleep(0.001)
    greenlet.kill()
    assert asked[:5] == [False, True, True, True, False]
    assert said == [f"member of cluster {DOCUMENT.cluster} at http://127.0.0.1:1"]


def test_member_shows_another_document_of_the_proxys_order(monkeypatch):
    other = document([NODE], vnodes=8)
    asked = []

    class Member:
        news = Event()
        line = other.member("n1")

        def call_in(self, *, show):
            asked.append(show)
            return CallIn(NODE, 0, cluster=other.cluster, order=other.order, digest=other.digest)

        def adopt(self, _found):
            return False

    calling = Caller(Proxies(["http://127.0.0.1:1"]), "127.0.0.1", Member(), say=lambda _line: None)
    monkeypatch.setattr(calling, "_call", lambda _call: DOCUMENT)
    greenlet = gevent.spawn(calling.run)
    with gevent.Timeout(10):
        while len(asked) < 2:
            gevent.sleep(0.001)
    greenlet.kill()
    assert asked[:2] == [False, True]


def test_proxy_that_has_not_answered_for_a_while_is_shown_and_one_that_refuses_has_answered(monkeypatch):
    now = caller.boot_time()
    monkeypatch.setattr(caller, "boot_time", lambda: now)
    calling = Caller(Proxies(["http://127.0.0.1:1"]), "127.0.0.1", Member(), say=lambda _line: None)
    now += 2.9
    assert calling.silence == ""
    now += 5.1
    assert calling.silence == "silent for 8 s"
    answers = [OSError("nobody is there"), (503, b'{"detail":"later"}')]

    def exchange(_body, _headers):
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(calling, "_exchange", exchange)
    for shown in ("silent for 8 s", ""):
        with pytest.raises(caller._NotYetError):
            calling._call(CallIn(NODE, 0))
        assert calling.silence == shown


def test_proxy_that_is_away_is_said_once_whatever_the_reasons_and_that_it_is_back(monkeypatch):
    now = caller.boot_time()
    monkeypatch.setattr(caller, "boot_time", lambda: now)
    said = []
    member = Member()
    member.adopted = [None] * 4
    calling = Caller(Proxies(["http://127.0.0.1:1"]), "127.0.0.1", member, say=said.append)
    good = (200, ujson.dumps(DOCUMENT.to_json()).encode())
    answers = [good, OSError("reset"), OSError("refused"), OSError("reset"), OSError("refused"), good, good]

    def exchange(_body, _headers):
        nonlocal now
        now += 1
        if not answers:
            raise gevent.GreenletExit
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(calling, "_exchange", exchange)
    monkeypatch.setattr(caller, "_FIRST_BACKOFF", 0.001)
    monkeypatch.setattr(caller, "_LONGEST_BACKOFF", 0.001)
    greenlet = gevent.spawn(calling.run)
    greenlet.join(10)
    assert greenlet.dead
    joined, there = f"member of cluster {DOCUMENT.cluster} at http://127.0.0.1:1", "the proxy at http://127.0.0.1:1"
    away = "waiting for the proxy at http://127.0.0.1:1"
    assert said == [joined, f"{away}: reset", f"{away}: refused", f"{there} answers again, after 4.0 s", joined]
    assert [level_of(line).word for line in said] == ["info", "warning", "warning", "info", "info"]
