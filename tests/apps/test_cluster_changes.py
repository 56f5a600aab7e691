"""The calls by which an operator changes the cluster, at a proxy in process: how they are read, and how they are answered."""

import json
import threading
from dataclasses import replace

import gevent
import pytest

from gkv.api.data import DataApi
from gkv.clock import boot_time
from gkv.cluster import change_watch, operator
from gkv.cluster.authority import Authority
from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document
from gkv.cluster.forecast import Forecast
from gkv.cluster.rebuilding import Unheard
from gkv.cluster.store import FileStore
from gkv.cluster.view import View
from gkv.coordinator import Coordinator
from gkv.pace import Pace
from gkv.proxy import checks
from gkv.proxy.app import build_app
from gkv.proxy.changes import Changes
from gkv.sources import parse
from tests.apps.conftest import InProcess
from tests.documents import with_copies

NODE = "/v1/cluster/nodes/"
JSON = {"Content-Type": "application/json"}


class Proxy:
    """A proxy whose document is there, and whose members are not."""

    def __init__(self, directory, wsgi, document):
        directory.mkdir()
        (directory / "cluster.json").write_text(json.dumps(document.to_json()))
        view = View()
        self.peers = InProcess(1.0)
        self.authority = Authority(FileStore(directory), view, self.peers)
        data = DataApi(view, Coordinator(view, self.peers, 1.0), max_body=1 << 20, info=dict, checks=self.checks)
        self.changes = Changes(self.authority)
        self.app = build_app(data, self.authority, self.changes)
        self.client = wsgi(self.app)

    def checks(self):
        return [*checks.copies(self.authority)]

    def call(self, method, path, body=None, **headers):
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client(method, path, raw, (JSON if raw else {}) | headers)

    def enact(self):
        """Bring into force what a judge decides about members that all call in."""
        judge, now = self.authority._judge, 1e6
        for line in judge.document.members:
            judge.liveness.heard(CallIn(line.node, line.incarnation, records=300, size=3_000), now)
        for action in judge.look(now):
            judge.enacted(action.document, now)


def url_of(line):
    return f"http://127.0.0.1:{9000 + ord(line.id)}"


@pytest.fixture
def proxy(tmp_path, wsgi):
    document = with_copies(ids="abcd")
    lines = tuple(replace(line, url=url_of(line)) for line in document.members)
    proxy = Proxy(tmp_path / "proxy", wsgi, replace(document, members=lines, vnodes=64))
    yield proxy
    proxy.authority.close()
    proxy.peers.close()


def problem(answer, status, code):
    assert (answer.status, answer.json()["type"]) == (status, f"urn:gkv:problem:{code}"), answer
    return answer.json()["detail"]


def test_answer_says_who_gets_what_from_whom(proxy):
    dry = proxy.call("DELETE", f"{NODE}b?dryRun=1")
    assert dry.status == 200
    found = dry.json()
    assert (found["dryRun"], found["epoch"], found["begins_in"], found["progress"]) == (True, 7, 0.0, "/v1/cluster")
    assert found["change"] == {"kind": "leave", "nodes": ["b"], "what": "b leaves"}
    assert {move["to"] for move in found["moves"]} == {"a", "c", "d"}
    assert sum(move["share"] for move in found["moves"]) / 3 == pytest.approx(found["moved"], abs=1e-5)
    assert found["moved"] == found["ideal"]
    assert (found["keys"], found["bytes"], found["seconds"]) == (None, None, None)  # nobody has called in
    assert proxy.authority._judge.wish.layout is None
    begun = proxy.call("DELETE", f"{NODE}b")
    assert begun.status == 202
    assert begun.json() == found | {"dryRun": False}
    assert proxy.authority._judge.wish.layout is not None


WORDS = [
    ("PATCH", f"{NODE}a", {"weight": 2}, "the weight of a becomes 2 (now 1)"),
    ("PATCH", f"{NODE}a", {"zone": "x"}, "a comes to the zone x"),
    ("PATCH", f"{NODE}%61", {"weight": 0.5, "zone": "x"}, "the weight of a becomes 0.5 (now 1), a comes to the zone x"),
    ("PATCH", "/v1/cluster", {"replicas": 2}, "each key has 2 copies (now 3)"),
    ("PATCH", "/v1/cluster", {"min_in_sync": 1}, "nothing changes"),
    ("PATCH", "/v1/cluster", {"vnodes": 32}, "an ordinary node has 32 vnodes (now 64)"),
    ("DELETE", f"{NODE}d?force=1", None, "d leaves"),
    ("POST", "/v1/cluster/replace?dryRun=1", {"node": "b", "with": "e"}, "e replaces b"),
]


@pytest.mark.parametrize(("method", "path", "body", "what"), WORDS)
def test_word_is_taken(proxy, method, path, body, what):
    answer = proxy.call(method, path, body)
    assert (answer.status, answer.json()["change"]["what"]) == (200 if "dryRun" in path else 202, what)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 415, "content-type"),
        (b"[]", 422, "invalid-member"),
        (b"{}", 422, "invalid-member"),
        (b"{", 400, "syntax"),
        (b'{"weight":1,"weight":2}', 400, "invalid-item"),
        ({"color": 1}, 422, "invalid-member"),
        *(({"weight": wrong}, 422, "invalid-member") for wrong in (0, -1, "1", True, None, [], 1_001)),
        (b'{"weight":NaN}', 400, "invalid-item"),
        *(({"zone": wrong}, 422, "invalid-member") for wrong in (None, 1, "a b", "/")),
    ],
)
def test_body_that_is_wrong_is_refused(proxy, body, status, code):
    problem(proxy.call("PATCH", f"{NODE}a", body), status, code)
    problem(proxy.call("PATCH", f"{NODE}a?dryRun=1", body), status, code)
    assert proxy.authority._judge.wish.layout is None


@pytest.mark.parametrize(
    "body",
    [{"replicas": wrong} for wrong in (0, 6, 2.0, "2", True, None)]
    + [{"vnodes": wrong} for wrong in (15, 262_145, 64.0, "64", True, None)]
    + [{"min_in_sync": 0}, {"x": 1}],
)
def test_numbers_of_copies_that_are_none_are_refused(proxy, body):
    problem(proxy.call("PATCH", "/v1/cluster", body), 422, "invalid-member")


@pytest.mark.parametrize(
    "body",
    [{"node": "b"}, {"with": "e"}, {"node": "b", "with": 1}, {"node": "b", "with": "/"}, {"node": "b", "with": "e", "x": 1}],
)
def test_replacement_of_or_by_nobody_is_refused(proxy, body):
    problem(proxy.call("POST", "/v1/cluster/replace?dryRun=1", body), 422, "invalid-member")


@pytest.mark.parametrize(
    "body", [{"rate": wrong} for wrong in (-1, 10_000_000, 2.0, "2", True)] + [{"paused": wrong} for wrong in (0, None)] + [{}]
)
def test_pace_that_is_none_is_refused(proxy, body):
    proxy.call("PATCH", f"{NODE}a", {"weight": 2})
    problem(proxy.call("PATCH", "/v1/cluster/change", body), 422, "invalid-member")


def test_what_cannot_be_is_refused_with_the_reason(proxy):
    assert "no member x" in problem(proxy.call("DELETE", f"{NODE}x"), 404, "no-such-member")
    problem(proxy.call("DELETE", NODE), 404, "no-such-member")
    problem(proxy.call("PATCH", f"{NODE}%ff", {"weight": 2}), 400, "syntax")
    problem(proxy.call("PATCH", f"{NODE}a/b", {"weight": 2}), 404, "no-such-member")
    problem(proxy.call("DELETE", f"{NODE}a?force=2"), 422, "parameter-value")
    problem(proxy.call("DELETE", f"{NODE}a?x=1"), 400, "parameter")
    problem(proxy.call("DELETE", f"{NODE}a?dryRun=0&dryRun=1"), 400, "parameter")
    problem(proxy.call("DELETE", "/v1/cluster/change"), 409, "member-conflict")
    problem(proxy.call("PATCH", "/v1/cluster/change", {"paused": True}), 409, "member-conflict")
    assert "--standby" in problem(proxy.call("POST", "/v1/cluster/replace", {"node": "b", "with": "e"}), 409, "member-conflict")
    problem(proxy.call("POST", "/v1/cluster/replace", {"node": "x", "with": "e"}), 404, "no-such-member")
    assert "has b leave" in problem(
        proxy.call("POST", "/v1/cluster/replace", {"node": "b", "with": "c"}), 409, "member-conflict"
    )
    leave = "a member that is to hold nothing leaves: DELETE /v1/cluster/nodes/ID"
    assert leave in problem(proxy.call("PATCH", f"{NODE}a", {"weight": 0}), 422, "invalid-member")
    assert "force=1" in problem(proxy.call("PATCH", "/v1/cluster", {"replicas": 5}), 409, "member-conflict")
    assert proxy.call("GET", f"{NODE}a").headers["allow"] == "DELETE,PATCH"


def test_change_that_is_under_way_is_shown_and_taken_back(proxy):
    assert proxy.client("GET", "/v1/cluster").json()["change"] is None
    proxy.call("PATCH", f"{NODE}a", {"weight": 2})
    proxy.enact()
    judge = proxy.authority._judge
    assert judge.document.next is not None
    proxy.authority.ring_change.look(judge.document, judge.placement, judge.liveness.recent(1e6), 1e6)
    change = proxy.client("GET", "/v1/cluster").json()["change"]
    assert (change["kind"], change["nodes"], change["since"], change["done"]) == ("weight", ["a"], 8, {"a": 0.0})
    assert change["keys"] > 0
    assert change["bytes"] == pytest.approx(10 * change["keys"], rel=0.1)
    assert (change["limit"], change["paused"]) == (None, False)
    detail = problem(proxy.call("DELETE", f"{NODE}b"), 409, "change-under-way")
    assert "the weight of a becomes 2" in detail
    assert proxy.call("DELETE", "/v1/cluster/change?dryRun=1").status == 200
    assert proxy.call("DELETE", "/v1/cluster/change").status == 202
    proxy.enact()
    assert judge.document.next is None


def test_pace_of_a_change_is_told_and_shown(proxy):
    begun = proxy.call("PATCH", f"{NODE}a", {"weight": 2}).json()
    answer = proxy.call("PATCH", "/v1/cluster/change", {"rate": 5_000, "paused": True})
    assert answer.status == 202
    assert answer.json() == {
        "epoch": 7,
        "change": begun["change"],
        "dryRun": False,
        "rate": 5_000,
        "paused": True,
        "progress": "/v1/cluster",
    }
    assert "pace" not in proxy.client("GET", "/v1/cluster").json()
    proxy.enact()
    judge = proxy.authority._judge
    proxy.authority.ring_change.look(judge.document, judge.placement, judge.liveness.recent(1e6), 1e6)
    found = proxy.client("GET", "/v1/cluster").json()
    assert found["pace"] == {"rate": 5_000, "paused": True}
    assert (found["change"]["limit"], found["change"]["paused"], found["change"]["left"]) == (5_000, True, None)
    dry = proxy.call("PATCH", "/v1/cluster/change?dryRun=1", {"rate": None})
    assert (dry.status, dry.json()["rate"], dry.json()["paused"], dry.json()["dryRun"]) == (200, None, True, True)
    assert (judge.wish.pace, judge.document.pace) == (None, Pace(5_000, True))
    figures = {one.name: one.samples for one in proxy.changes.figures()}
    assert figures["gkv_change_paused"] == figures["gkv_change_running"]
    assert figures["gkv_change_paused"] != figures["gkv_change_ratio"]


def test_forecast_that_takes_long_holds_up_no_document(proxy, monkeypatch):
    """In a ring of 30 nodes it takes seconds: nobody would be taken out meanwhile, nor anybody let in."""
    goes_on, begun = threading.Event(), []

    def slowly(*_):
        begun.append(1)
        assert goes_on.wait(20)
        return Forecast((), 0.0, 0.0, 0, 0, 0.0)

    monkeypatch.setattr(operator, "forecast", slowly)
    monkeypatch.setattr(change_watch, "forecast", slowly)
    dry = [gevent.spawn(proxy.call, "DELETE", f"{NODE}{one}?dryRun=1") for one in "abcdabcd"]
    try:
        with gevent.Timeout(10):
            while not begun:
                gevent.sleep(0.001)
            problem(proxy.call("DELETE", f"{NODE}b?dryRun=1"), 503, "overloaded")
            epoch = proxy.authority.document.epoch
            layout = replace(proxy.authority.document.layout, vnodes=32)
            assert proxy.authority._commit(
                replace(proxy.authority.document, epoch=epoch + 1, next=layout, next_since=epoch + 1)
            )
            proxy.authority._told.unheard = Unheard((), 0.0)
            proxy.authority.look(boot_time())
            assert proxy.authority._commit(replace(proxy.authority.document, epoch=epoch + 2))
            proxy.authority.look(boot_time())
    finally:
        goes_on.set()
    assert {one.get(timeout=10).status for one in dry} == {200}


def test_cluster_without_members_has_no_ring_to_be_changed(tmp_path, wsgi):
    empty = Proxy(tmp_path / "empty", wsgi, Document("a" * 32, 1))
    assert problem(empty.call("PATCH", "/v1/cluster", {"replicas": 2}), 409, "member-conflict").startswith("no node has joined")
    empty.authority.close()
    empty.peers.close()


TOKENS = {role: f"{role}-token-0123456789" for role in ("reader", "client", "admin", "peer")}


def test_change_is_for_admins_and_what_would_follow_for_readers(proxy):
    arguments = [word for role, token in TOKENS.items() for word in (f"--{role}-tokens", token)]
    proxy.app.access.take(parse("proxy", arguments, {}))
    for role, token in TOKENS.items():
        for query, status in (("?dryRun=1", 200), ("?dryRun=0", 202), ("", 202)):
            allowed = role == "admin" or (query == "?dryRun=1" and role != "peer")
            answer = proxy.call("PATCH", f"{NODE}a{query}", {"weight": 1}, Authorization=f"Bearer {token}")
            assert answer.status == (status if allowed else 403), (role, query, answer)
    for path, body in (("/v1/cluster/accept-loss", {"node": "a"}), ("/v1/cluster/replace", {"node": "x", "with": "y"})):
        for role, token in TOKENS.items():
            for query in ("", "?dryRun=1"):
                answer = proxy.call("POST", f"{path}{query}", body, Authorization=f"Bearer {token}")
                allowed = role == "admin" or (query == "?dryRun=1" and role != "peer")
                assert (answer.status != 403) == allowed, (role, path, query, answer)
    twice = proxy.call("DELETE", f"{NODE}a?dryRun=1&dry%52un=0", Authorization=f"Bearer {TOKENS['reader']}")
    problem(twice, 400, "parameter")


def test_copies_that_share_a_zone_are_shown(tmp_path, wsgi):
    document = with_copies({"a": {"zone": "x"}, "b": {"zone": "x"}, "c": {"zone": "y"}})
    lines = tuple(replace(line, url=url_of(line)) for line in document.members)
    two = Proxy(tmp_path / "two", wsgi, replace(document, members=lines))
    assert b"[!]zones 2 for 3 copies: two are in one zone for 100 % of the keys" in two.client("GET", "/readyz?verbose").body
    two.authority.close()
    two.peers.close()
    lines = tuple(replace(line, zone=line.id) for line in lines)
    three = Proxy(tmp_path / "three", wsgi, replace(document, members=lines))
    assert b"[+]zones ok" in three.client("GET", "/readyz?verbose").body
    three.authority.close()
    three.peers.close()
