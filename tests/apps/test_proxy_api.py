"""The proxy's application in process: joins through a real authority, with real nodes behind it and no socket."""

import errno
import json
import os
from pathlib import Path

import gevent
import pytest
import ujson

from gkv.api.data import DataApi
from gkv.cluster.authority import Authority
from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator import Coordinator
from gkv.engine import Commits, MemoryEngine
from gkv.errors import ConfigError, Unavailable
from gkv.model import Node, Version, Write
from gkv.node.due_clock import DueClock, wall_ms
from gkv.node.order import Order
from gkv.node.service import Service
from gkv.proxy.app import build_app
from gkv.ring import tokens
from gkv.ring.ring import MAX_VNODES
from gkv.wire.ops import read_request
from tests.apps.conftest import TTL, InProcess

CLUSTER = "0123456789abcdef" * 2
VNODES = 64
DEADLINE = 2.0
JOIN = "/v1/cluster/nodes"
JSON = {"Content-Type": "application/json"}
HELLO = b'[{"key":"hi","value":"hello"},{"key":"hi1","value":"hello1"}]'


def url(port):
    return f"http://127.0.0.1:{port}"


A, B, C = (Node(f"n{i}", url(9000 + i)) for i in range(3))


class Peers(InProcess):
    """The peers of an authority and the channels of a coordinator: frames, handed to services of this process."""

    def __init__(self, directory):
        super().__init__(DEADLINE)
        self.before_adopt = []
        """Called with the document, one for each adopt; what is left over stays."""
        self._directory = directory

    def adopt(self, document, nodes):
        on_disk = json.loads((self._directory / "cluster.json").read_bytes())
        assert on_disk["epoch"] >= document.epoch, "somebody hears of a document that a crash would forget"
        if self.before_adopt:
            self.before_adopt.pop(0)(document)
        return super().adopt(document, nodes)


class Cluster:
    """A proxy and its nodes."""

    def __init__(self, directory, wsgi, document=None):
        self.directory = directory
        self.peers = Peers(directory)
        self.engines = {}
        self.commits = []
        self._wsgi = wsgi
        self.authority = None
        directory.mkdir()
        if document is not None:
            self.write(document)
        self.open()

    def write(self, document):
        """Put a document on the disk."""
        (self.directory / "cluster.json").write_text(json.dumps(document.to_json()))

    def on_disk(self):
        """Return the document that the next start would find."""
        return Document.from_json(ujson.loads((self.directory / "cluster.json").read_bytes()))

    def open(self):
        """Start the proxy again; nodes stay."""
        if self.authority is not None:
            self.authority.close()
        view = View()
        self.authority = Authority(self.directory, view, self.peers)
        data = DataApi(
            view,
            Coordinator(view, self.peers, DEADLINE),
            max_body=1 << 20,
            info=lambda: {"role": "proxy"},
            checks=lambda: [("serving", True), ("members", view.placement is not None)],
        )
        self.app = build_app(data, self.authority)
        self.client = self._wsgi(self.app)

    def start(self, node, document=None):
        """Start a node without letting it join; `document` is what it has heard already."""
        self.engines[node.id] = MemoryEngine(tokens)
        self.commits.append(Commits(self.engines[node.id], tombstone_ttl=TTL))
        view = View()
        if document is not None:
            view.adopt(document)
        engine, commits = self.engines[node.id], self.commits[-1]
        self.peers.services[node.url] = Service(node.id, view, engine, commits, Order(view, engine, commits, DueClock()))

    def put(self, node, **values):
        """Write to a node's engine, past everything else."""
        write = Write(Version(1, 1), list(values), list(values.values()))
        self.engines[node.id].write([write], wall_ms())

    def end(self):
        """End all, and look at what the engines hold."""
        self.authority.close()
        for commits in self.commits:
            commits.close()
        for engine in self.engines.values():
            assert engine.check() == []

    def stop(self, node):
        """Let a node be gone."""
        del self.peers.services[node.url]

    def join(self, node, cluster=None, **changes):
        """Let a node call in, as `Caller` does."""
        body = {"id": node.id, "url": node.url, "weight": node.weight, "cluster": cluster} | changes
        return self.client("POST", JOIN, json.dumps(body).encode(), JSON)

    def settled_at(self, epoch, *members):
        """Check that everybody alive believes in the same members and that no change is under way."""
        document = self.authority.document
        assert (document.epoch, document.members, document.joining) == (epoch, members, None)
        assert self.on_disk() == document

    def writes_work(self):
        """Check that a write is accepted, found again, and leaves nothing behind."""
        assert self.client("POST", "/set", HELLO).status == 200
        found = self.client("GET", "/get?key=hi&key=hi1")
        assert found.body == b'{"existedKey":[{"key":"hi","value":"hello"},{"key":"hi1","value":"hello1"}]}'
        assert self.client("POST", "/delete", b'[{"key":"hi"},{"key":"hi1"}]').json() == {"deleted": 2}


@pytest.fixture
def cluster(tmp_path, wsgi):
    """Return a cluster without a member, whose rings have few vnodes."""
    cluster = Cluster(tmp_path / "proxy", wsgi, Document(CLUSTER, 1, vnodes=VNODES))
    for node in (A, B, C):
        cluster.start(node)
    yield cluster
    cluster.end()


@pytest.fixture
def pair(cluster):
    """Return a cluster with the members n0 and n1, at epoch 5."""
    assert [cluster.join(A).status, cluster.join(B).status] == [200, 200]
    cluster.settled_at(5, A, B)
    return cluster


def problem(answer, status, code):
    """Check that an answer is problem+json with this status and code, and return it."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer
    found = answer.json()
    assert (found["type"], found["status"]) == (f"urn:gkv:problem:{code}", status)
    assert found["instance"] == answer.headers["x-request-id"]
    return found


# -- joins that are granted


def test_join_first_node_is_answered_with_a_document_that_has_it(cluster):
    answer = cluster.join(A)
    assert answer.status == 200
    assert answer.json() == Document(CLUSTER, 3, (A,), VNODES).to_json()
    cluster.settled_at(3, A)
    cluster.writes_work()


def test_join_second_node_makes_it_an_owner_and_everybody_knows(pair):
    assert pair.client("POST", "/set", HELLO, {"Accept": "application/json"}).status == 200
    located = pair.client("GET", "/locate?" + "&".join(f"key=k{i}" for i in range(50))).json()
    assert {row["nodes"][0]["id"] for row in located["keys"]} == {"n0", "n1"}
    for node in (A, B):
        assert pair.peers.services[node.url]._view.document == pair.authority.document


def test_set_over_two_owners_says_success_for_each(pair):
    keys = [f"k{i}" for i in range(50)]
    body = json.dumps([{"key": key, "value": key} for key in keys]).encode()
    assert pair.client("POST", "/set", body).body == b"Success to set key" * 2
    assert 0 < pair.engines["n0"].live < 50
    assert pair.engines["n0"].live + pair.engines["n1"].live == 50
    found = pair.client("POST", "/get", json.dumps([{"key": key} for key in keys]).encode()).json()
    assert found == {"existedKey": [{"key": key, "value": key} for key in keys]}


def test_join_tells_the_newcomer_first_that_it_is_joining_and_then_that_it_is_a_member(pair):
    heard = []
    service = pair.peers.services[C.url]
    pair.peers.services[C.url] = Listening(service, heard)
    assert pair.join(C).status == 200
    assert [(document.joining, document.member(C.id)) for document in heard] == [(C, None), (None, C)]


class Listening:
    """Notes the documents that a service is given."""

    def __init__(self, service, heard):
        self._service = service
        self._heard = heard

    def submit(self, call):
        request = read_request(call.frame)
        if request.op == "adopt":
            self._heard.append(Document.from_json(request.document))
        self._service.submit(call)


def test_join_again_changes_nothing_and_answers_the_document_in_force(pair):
    for cluster in (None, CLUSTER):
        answer = pair.join(A, cluster)
        assert (answer.status, answer.json()) == (200, pair.authority.document.to_json())
    pair.settled_at(5, A, B)


def test_join_again_is_granted_while_other_members_hold_keys_or_are_gone(pair):
    pair.put(A, a=b"1")
    pair.stop(B)
    assert pair.join(A, CLUSTER).status == 200
    pair.settled_at(5, A, B)


def test_join_again_with_another_weight_takes_its_place(pair):
    assert pair.join(A, weight=2).status == 200
    pair.settled_at(7, Node(A.id, A.url, 2.0), B)
    pair.writes_work()


def test_join_fresh_is_granted_to_who_is_no_member_yet(cluster):
    assert cluster.join(A, fresh=True).status == 200
    cluster.settled_at(3, A)


def test_join_again_fresh_is_answered_409_with_the_ways_out_and_changes_nothing(pair):
    for cluster in (None, CLUSTER):
        found = problem(pair.join(A, cluster, fresh=True), 409, "member-conflict")
        assert found["retryable"] is False
        assert "n0 is a member already, and comes back with an empty data directory" in found["detail"]
        assert "--data" in found["detail"]
        assert "--accept-loss" in found["detail"]
    pair.settled_at(5, A, B)
    assert pair.join(A, fresh=False).status == 200
    pair.open()
    assert pair.client("GET", "/v1/cluster").json()["members"][0]["state"] == "down"
    problem(pair.join(A, fresh=True), 409, "member-conflict")
    assert pair.client("GET", "/v1/cluster").json()["members"][0]["state"] == "down"


def test_join_without_a_weight_has_weight_1(cluster):
    body = json.dumps({"id": A.id, "url": A.url}).encode()
    assert cluster.client("POST", JOIN, body, JSON).status == 200
    cluster.settled_at(3, A)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_join_content_type_json_in_any_spelling_is_taken(cluster, content_type):
    body = json.dumps({"id": A.id, "url": A.url}).encode()
    assert cluster.client("POST", JOIN, body, {"Content-Type": content_type}).status == 200


def test_cluster_shows_members_with_their_state(pair):
    answer = pair.client("GET", "/v1/cluster")
    up, down = ({"weight": 1.0, "state": state} for state in ("up", "down"))
    rows = [{"id": node.id, "url": node.url} for node in (A, B)]
    assert answer.json() == pair.authority.document.to_json() | {"members": [row | up for row in rows]}
    pair.open()
    assert pair.client("GET", "/v1/cluster").json()["members"] == [row | down for row in rows]
    pair.join(B)
    assert [row["state"] for row in pair.client("GET", "/v1/cluster").json()["members"]] == ["down", "up"]


def test_proxy_without_a_member_is_not_ready_and_with_one_it_is(cluster):
    answer = cluster.client("GET", "/readyz")
    assert (answer.status, answer.body) == (503, b"[-]members failed\nnot ready\n")
    problem(cluster.client("POST", "/set", HELLO), 503, "unavailable")
    cluster.join(A)
    assert cluster.client("GET", "/readyz?verbose").body == b"[+]serving ok\n[+]members ok\nok\n"


# -- joins that are refused for what they say


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonp",
        "text/json",
        "json",
    ],
)
def test_join_other_content_type_is_answered_415(cluster, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = json.dumps({"id": A.id, "url": A.url}).encode()
    problem(cluster.client("POST", JOIN, body, headers), 415, "content-type")
    cluster.settled_at(1)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        *(({"id": wrong}, "/id") for wrong in ("", "-a", "a b", "a/b", "x" * 65, "\u00e9", None, 1, True, ["n0"])),
        *(
            ({"url": wrong}, "/url")
            for wrong in ("", "127.0.0.1:9000", "ftp://127.0.0.1:9000", url(9000) + "/x", url(0), None, 1)
        ),
        *(
            ({"url": wrong}, "/url")
            for wrong in ("http://u@127.0.0.1:9000", "http://127.0.0.1", "http://[::1]:9000", "http://:9000")
        ),
        *(({"weight": wrong}, "/weight") for wrong in (0, -1, 1_001, "1", True, False, None, [1], "NaN")),
        *(({"cluster": wrong}, "/cluster") for wrong in (1, True, [CLUSTER], {})),
        *(({"fresh": wrong}, "/fresh") for wrong in (0, 1, None, "true", [True], {})),
    ],
    ids=repr,
)
def test_join_with_a_wrong_member_is_answered_422_with_its_pointer(cluster, changes, pointer):
    found = problem(cluster.join(A, **changes), 422, "invalid-member")
    assert found["retryable"] is False
    assert [error["pointer"] for error in found["errors"]] == [pointer]
    cluster.settled_at(1)


def heavy(cluster):
    """Have a cluster whose first member is of a weight that none may join with any more."""
    heavy = Node(A.id, A.url, 1_000.0)
    cluster.write(Document(CLUSTER, 5, (heavy, B), 400))
    cluster.open()
    for node in (heavy, B, C):
        cluster.start(node)
    return heavy


@pytest.mark.parametrize("weight", [1e-9, 0.03, 656, 1_000])
def test_join_with_a_weight_of_too_few_or_too_many_tokens_is_refused_with_advice(cluster, weight):
    members = heavy(cluster), B
    for node in (C, B):  # whether it is new or a member that changes
        found = problem(cluster.join(node, weight=weight), 422, "invalid-member")
        assert found["retryable"] is False
        assert [error["pointer"] for error in found["errors"]] == ["/weight"]
        assert "take a weight of 0.04 to 655.36" in found["detail"]
    cluster.settled_at(5, *members)


@pytest.mark.parametrize("weight", [0.04, 655.36])
def test_join_with_the_least_or_the_greatest_weight_is_granted(cluster, weight):
    members = heavy(cluster), B
    assert cluster.join(C, weight=weight).status == 200
    cluster.settled_at(7, *members, Node(C.id, C.url, weight))


def test_member_of_a_weight_that_none_may_join_with_any_more_stays_one(cluster):
    members = heavy(cluster), B
    assert cluster.join(members[0]).status == 200
    cluster.settled_at(5, *members)
    cluster.open()
    cluster.settled_at(5, *members)


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'"n0"', b"1", b"{}", b'{"id":"n0"}', b'{"id":"n0","url":"http://127.0.0.1:9000","x":1}']
)
def test_join_with_another_shape_is_answered_422(cluster, body):
    problem(cluster.client("POST", JOIN, body, JSON), 422, "invalid-member")
    cluster.settled_at(1)


def test_join_with_an_unknown_member_is_refused_naming_it(cluster):
    assert '"replicas"' in problem(cluster.join(A, replicas=2), 422, "invalid-member")["detail"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "syntax"),
        (b"{", "syntax"),
        (b'{"id":"n0",}', "syntax"),
        (b'{"id":"n0"} x', "syntax"),
        (b'{"id":"\xff"}', "syntax"),
        (b'{"id":"n0","id":"n0"}', "invalid-item"),
        (b'{"id":"\\ud800"}', "invalid-item"),
        (b"[" * 4_000, "invalid-item"),
    ],
)
def test_join_with_a_body_that_cannot_be_read_is_answered_400(cluster, body, code):
    problem(cluster.client("POST", JOIN, body, JSON), 400, code)
    cluster.settled_at(1)


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "1e400", "1" * 400])
def test_join_with_a_weight_that_is_no_json_number_is_refused(cluster, weight):
    body = f'{{"id":"n0","url":"{A.url}","weight":{weight}}}'.encode()
    assert cluster.client("POST", JOIN, body, JSON).status in (400, 422)
    cluster.settled_at(1)


def test_join_over_4_kib_is_answered_413(cluster):
    body = json.dumps({"id": A.id, "url": A.url}).encode()
    assert cluster.client("POST", JOIN, body.ljust(4_096), JSON).status == 200
    problem(cluster.client("POST", JOIN, body.ljust(4_097), JSON), 413, "too-large")


@pytest.mark.parametrize(("method", "target", "status"), [("POST", JOIN + "?dryRun=1", 400), ("GET", "/v1/cluster?x=1", 400)])
def test_unknown_parameter_is_answered_400(cluster, method, target, status):
    body = json.dumps({"id": A.id, "url": A.url}).encode() if method == "POST" else b""
    problem(cluster.client(method, target, body, JSON), status, "parameter")
    cluster.settled_at(1)


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", JOIN, "POST"), ("PUT", JOIN, "POST"), ("DELETE", "/v1/cluster", "GET")]
)
def test_wrong_method_is_answered_405_with_allow(cluster, method, path, allowed):
    answer = cluster.client(method, path)
    problem(answer, 405, "method-not-allowed")
    assert allowed in answer.headers["allow"].split(",")


def test_frames_are_not_answered_by_a_proxy(cluster):
    problem(cluster.client("POST", "/internal/frames", b"gkv/1 1\nx"), 404, "not-found")


@pytest.mark.parametrize("address", ["127.0.0.2", "10.0.0.5", "", "::1"])
def test_join_for_another_address_than_the_callers_is_answered_422(cluster, wsgi, address):
    stranger = wsgi(cluster.app, address)
    found = problem(stranger("POST", JOIN, json.dumps({"id": A.id, "url": A.url}).encode(), JSON), 422, "invalid-member")
    assert found["errors"] == [{"pointer": "/url", "detail": "not the caller's address"}]
    cluster.settled_at(1)


# -- joins that the cluster cannot grant


def test_join_same_id_with_another_url_is_answered_409(pair):
    found = problem(pair.join(A, url=url(9999)), 409, "member-conflict")
    assert A.url in found["detail"]
    assert found["retryable"] is False
    pair.settled_at(5, A, B)


def test_join_same_url_with_another_id_is_answered_409(pair):
    found = problem(pair.join(A, id="other"), 409, "member-conflict")
    assert "n0" in found["detail"]
    pair.settled_at(5, A, B)


def test_join_same_url_in_capitals_with_another_id_is_no_second_member(pair):
    pair.peers.services["HTTP://127.0.0.1:9000"] = pair.peers.services[A.url]  # as a channel finds the same node
    assert pair.join(A, id="other", url="HTTP://127.0.0.1:9000").status in (409, 422)
    pair.settled_at(5, A, B)


@pytest.mark.parametrize("foreign", ["f" * 32, "", CLUSTER.upper()])
def test_join_with_records_of_a_foreign_cluster_is_answered_409(cluster, foreign):
    found = problem(cluster.join(A, foreign), 409, "member-conflict")
    assert found["retryable"] is False
    assert CLUSTER in found["detail"]
    cluster.settled_at(1)


def test_join_while_a_member_holds_keys_is_refused_with_the_reason_and_writes_go_on(pair):
    pair.put(B, a=b"1", b=b"2")
    found = problem(pair.join(C), 409, "member-conflict")
    assert found["retryable"] is False
    assert "n1 holds 2 keys" in found["detail"]
    pair.settled_at(5, A, B)
    pair.writes_work()


def test_join_overtaken_by_a_write_is_refused_and_nobody_stays_in_the_change(pair):
    pair.peers.before_adopt = [lambda _: pair.put(A, late=b"1")]  # after the look, before the lock
    found = problem(pair.join(C), 409, "member-conflict")
    assert "n0 holds 1 keys" in found["detail"]
    pair.settled_at(7, A, B)
    for node in (A, B):
        assert pair.peers.services[node.url]._view.document == pair.authority.document
    pair.writes_work()


def test_join_another_weight_while_keys_are_held_is_answered_409(pair):
    pair.put(A, a=b"1")
    problem(pair.join(A, CLUSTER, weight=2), 409, "member-conflict")
    pair.settled_at(5, A, B)


def test_join_while_a_member_does_not_answer_is_answered_503_and_later_granted(pair):
    service = pair.peers.services[B.url]
    pair.stop(B)
    answer = pair.join(C)
    found = problem(answer, 503, "unavailable")
    assert found["retryable"] is True
    assert "n1" in found["detail"]
    assert answer.headers["retry-after"] == "1"
    pair.settled_at(5, A, B)

    pair.peers.services[B.url] = service
    assert pair.join(C).status == 200
    pair.settled_at(7, A, B, C)


def test_join_of_a_node_that_nobody_reaches_is_answered_503(pair):
    pair.stop(C)
    answer = pair.join(C)
    assert problem(answer, 503, "unavailable")["retryable"] is True
    assert answer.headers["retry-after"] == "1"
    pair.settled_at(5, A, B)
    pair.writes_work()


def test_join_during_which_a_member_dies_is_taken_back_and_the_others_serve(pair):
    service = pair.peers.services[B.url]
    pair.peers.before_adopt = [lambda _: pair.stop(B)]
    problem(pair.join(C), 503, "unavailable")
    pair.settled_at(7, A, B)
    pair.peers.services[B.url] = service
    pair.writes_work()


def test_join_whose_newcomer_dies_before_it_hears_of_it_does_not_hang_the_others(pair):
    pair.peers.before_adopt = [lambda _: None, lambda _: pair.stop(C)]
    assert pair.join(C).status == 200
    pair.settled_at(7, A, B, C)
    mine = next(key for key in (f"k{i}" for i in range(99)) if pair.authority._view.placement.primary(key) == A)
    assert pair.client("POST", "/set", json.dumps([{"key": mine, "value": 1}]).encode()).status == 200


class Bug(BaseException):
    """Not an Exception, as gevent's Timeout and GreenletExit are not."""


def test_join_that_is_killed_half_way_is_taken_back(pair):
    def kill(_document):
        raise Bug

    pair.peers.before_adopt = [kill]
    with pytest.raises(Bug):
        pair.authority.join(C, None)
    pair.settled_at(7, A, B)
    pair.writes_work()
    assert pair.join(C).status == 200


def test_join_that_makes_the_ring_too_large_is_refused_and_taken_back(tmp_path, wsgi):
    light = 1e-6
    cluster = Cluster(tmp_path / "proxy", wsgi, Document(CLUSTER, 1, vnodes=MAX_VNODES))
    cluster.start(A)
    cluster.start(B)
    assert cluster.join(A, weight=light).status == 200
    answer = cluster.join(B, weight=1)
    assert 400 <= answer.status < 500, answer
    assert cluster.authority.document.joining is None
    assert cluster.on_disk().members == (Node(A.id, A.url, light),)
    cluster.open()
    cluster.writes_work()
    cluster.end()


# -- several at once


def test_joins_at_the_same_time_are_granted_one_after_the_other(cluster):
    cluster.peers.before_adopt = [lambda _: gevent.sleep(0)] * 12
    joins = [gevent.spawn(cluster.authority.join, node, None) for node in (C, A, B, A)]
    gevent.joinall(joins, timeout=10, raise_error=True)
    assert all(join.successful() for join in joins)
    cluster.settled_at(7, A, B, C)


@pytest.mark.parametrize("rival", [Node(A.id, C.url), Node(C.id, A.url)], ids=["same id", "same url"])
def test_join_that_a_join_it_waited_for_has_ruled_out_is_refused(cluster, rival):
    rivals = []

    def knock(_document):
        rivals.append(gevent.spawn(cluster.join, rival))
        gevent.sleep(0)  # lets it look, find no conflict yet, and wait
        assert not rivals[0].ready()

    cluster.peers.before_adopt = [knock]
    assert cluster.join(A).status == 200
    problem(rivals[0].get(timeout=5), 409, "member-conflict")
    cluster.settled_at(3, A)


def test_join_while_another_takes_too_long_is_answered_409_and_retryable(cluster, monkeypatch):
    monkeypatch.setattr("gkv.cluster.authority._WAIT_FOR_CHANGE", 0.01)
    answers = []
    cluster.peers.before_adopt = [lambda _: answers.append(cluster.join(B))]
    assert cluster.join(A).status == 200
    [answer] = answers
    assert problem(answer, 409, "change-in-progress")["retryable"] is True
    assert answer.headers["retry-after"] == "1"
    assert cluster.join(B).status == 200
    cluster.settled_at(5, A, B)


def test_write_that_meets_a_join_waits_for_it_and_lands_at_the_new_owner(pair):
    after = View()
    after.adopt(Document(CLUSTER, 1, (A, B, C), VNODES))
    moving = next(key for key in (f"k{i}" for i in range(999)) if after.placement.primary(key) == C)
    writes = []

    def write(_document):
        body = json.dumps([{"key": moving, "value": 1}]).encode()
        writes.append(gevent.spawn(pair.client, "POST", "/set", body))
        gevent.sleep(0)  # lets the write run into the change
        assert not writes[0].ready()

    pair.peers.before_adopt = [write]  # when the proxy has the document of the change, and no member has heard of it
    assert pair.join(C).status == 200
    assert writes[0].get(timeout=5).body == b"Success to set key"
    assert pair.engines["n2"].read([moving], wall_ms()) == [b"1"]
    assert sum(engine.live for engine in pair.engines.values()) == 1


# -- over restarts


def test_new_directory_gets_a_cluster_of_its_own(tmp_path):
    ids = set()
    for name in ("one", "two"):
        authority = Authority(tmp_path / "deep" / name, View(), Peers(tmp_path))
        document = authority.document
        authority.close()
        assert Document(document.cluster, 1) == document
        assert json.loads((tmp_path / "deep" / name / "cluster.json").read_bytes()) == document.to_json()
        ids.add(document.cluster)
    assert len(ids) == 2


def test_membership_survives_reopening(pair):
    before = pair.authority.document
    pair.open()
    assert pair.authority.document == before
    pair.settled_at(5, A, B)
    pair.writes_work()
    assert pair.join(C).status == 200
    pair.settled_at(7, A, B, C)


@pytest.mark.parametrize("heard", [(), (A,), (A, B)], ids=["nobody", "one", "all"])
def test_crash_in_mid_join_is_taken_back_at_the_start_whoever_had_heard_of_it(pair, heard):
    half_way = pair.authority.document.begin_join(C)
    pair.authority.close()
    pair.authority = None
    pair.write(half_way)
    for node in heard:
        assert pair.peers.services[node.url].adopt(half_way)
    pair.open()
    pair.settled_at(7, A, B)
    pair.writes_work()
    assert pair.join(C).status == 200
    pair.settled_at(9, A, B, C)


def test_crash_after_a_join_was_decided_keeps_it_though_nobody_had_heard_of_it(pair):
    changing = pair.authority.document.begin_join(C)
    decided = changing.finish_join()
    pair.authority.close()
    pair.authority = None
    pair.write(decided)
    for node in (A, B):
        assert pair.peers.services[node.url].adopt(changing)
    pair.open()
    pair.settled_at(7, A, B, C)
    pair.writes_work()


def test_crash_while_the_document_was_written_leaves_the_old_one(pair):
    (pair.directory / "cluster.new").write_text('{"cluster": "' + "f" * 20)
    pair.open()
    pair.settled_at(5, A, B)


def test_document_that_has_not_changed_is_not_written_at_the_start(pair, monkeypatch):
    before = (pair.directory / "cluster.json").stat()
    pair.authority.close()
    pair.authority = None

    def full(_fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(os, "posix_fallocate", lambda *_: full(0))
        pair.open()
    after = (pair.directory / "cluster.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    pair.settled_at(5, A, B)


def test_join_that_cannot_be_written_is_refused_with_a_line_and_changes_nothing(pair, monkeypatch, capfd):
    def full(_fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        answer = pair.join(C)
    assert (answer.status, answer.json()["type"]) == (503, "urn:gkv:problem:unavailable")
    assert "cluster.json" not in answer.body.decode()
    assert "cluster.json cannot be written: No space left on device" in capfd.readouterr().err
    pair.settled_at(5, A, B)
    assert pair.join(C).status == 200
    pair.settled_at(7, A, B, C)


def test_join_on_a_full_disk_takes_the_room_of_the_reserve(pair, monkeypatch):
    assert (pair.directory / "reserve").stat().st_blocks * 512 >= 1 << 20
    fsync = os.fsync

    def full(fd):
        if (pair.directory / "reserve").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr("gkv.files.free_bytes", lambda _path: 0)
        assert pair.join(C).status == 200
    pair.settled_at(7, A, B, C)


GOOD = Document(CLUSTER, 5, (A, B), VNODES).to_json()
CORRUPT = {
    "empty": b"",
    "cut": json.dumps(GOOD).encode()[:-10],
    "zeros": bytes(300),
    "not UTF-8": json.dumps(GOOD).encode().replace(b"n0", b"\xff"),
    "not JSON": b"<html>",
    "null": b"null",
    "an array": b"[]",
    "a number": b"1",
    "a string": b'"x"',
    "100,000 open brackets": b"[" * 100_000,
    "no members": json.dumps({key: value for key, value in GOOD.items() if key != "members"}).encode(),
    "epoch 0": json.dumps(GOOD | {"epoch": 0}).encode(),
    "cluster id": json.dumps(GOOD | {"cluster": "mine"}).encode(),
    "member twice": json.dumps(GOOD | {"members": GOOD["members"][:1] * 2}).encode(),
    "weight NaN": json.dumps(GOOD).replace("1.0", "NaN").encode(),
    "replicas 3": json.dumps(GOOD | {"replicas": 3}).encode(),
    "a weight beyond a double": json.dumps(GOOD).replace("1.0", "1" + "0" * 400).encode(),
    "a ring too large to build": json.dumps(GOOD | {"vnodes": 1 << 40}).encode(),
}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT.keys())
def test_corrupt_document_is_refused_naming_the_file_and_left_untouched(tmp_path, content):
    path = tmp_path / "cluster.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cluster\.json cannot be read"):
        Authority(tmp_path, View(), Peers(tmp_path))
    assert path.read_bytes() == content
    assert {entry.name for entry in tmp_path.iterdir()} == {"cluster.json", "lock"}


def test_document_that_is_a_directory_is_refused(tmp_path):
    (tmp_path / "cluster.json").mkdir()
    with pytest.raises(Unavailable, match=r"cluster\.json"):
        Authority(tmp_path, View(), Peers(tmp_path))


def test_corrupt_document_once_repaired_can_be_opened_by_the_same_process(tmp_path):
    path = tmp_path / "cluster.json"
    path.write_bytes(b"")
    with pytest.raises(ConfigError):
        Authority(tmp_path, View(), Peers(tmp_path))
    path.write_text(json.dumps(GOOD))
    authority = Authority(tmp_path, View(), Peers(tmp_path))
    assert authority.document.epoch == 5
    authority.close()


def test_second_authority_on_the_same_directory_is_refused_until_the_first_closes(pair):
    before = (pair.directory / "cluster.json").read_bytes()
    for directory in (pair.directory, pair.directory / ".." / "proxy"):
        with pytest.raises(Unavailable, match="another gkv-proxy uses the data directory"):
            Authority(directory, View(), pair.peers)
    assert (pair.directory / "cluster.json").read_bytes() == before
    pair.writes_work()
    pair.open()
    pair.settled_at(5, A, B)


def test_directory_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        Authority(tmp_path / "file" / "proxy", View(), Peers(tmp_path))
    with pytest.raises(Unavailable, match="cannot be used"):
        Authority(Path("/proc/nowhere"), View(), Peers(tmp_path))
