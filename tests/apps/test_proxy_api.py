"""The proxy's application in process: members that call in at a real authority, with real nodes behind it and no socket."""

import errno
import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import gevent
import pytest
import ujson

from gkv.api.data import Check, DataApi
from gkv.cluster.attendance import boot_time
from gkv.cluster.authority import Authority
from gkv.cluster.callin import CallIn
from gkv.cluster.document import MAX_EPOCH, MAX_GENERATION, MAX_LEAP, Document, Durability, Member, State
from gkv.cluster.store import FileStore
from gkv.cluster.terms import Terms
from gkv.cluster.view import View
from gkv.coordinator import Coordinator
from gkv.engine import Commits, MemoryEngine
from gkv.errors import ConfigError, GkvError, Unavailable
from gkv.model import Node, Outcome, Version, Write, era_of
from gkv.node.copies import Copies
from gkv.node.due_clock import DueClock, wall_ms
from gkv.node.membership import Membership
from gkv.node.notes import Notes
from gkv.node.order import Order
from gkv.node.service import Service
from gkv.node.stored import Stored
from gkv.node.tidings import Tidings
from gkv.node.transport import Transport
from gkv.proxy import checks
from gkv.proxy.app import build_app
from gkv.proxy.changes import Changes
from gkv.proxy.words import MAX_BODY as MAX_JOIN
from gkv.ring import tokens
from gkv.ring.ring import MAX_VNODES
from gkv.wire.ops import Here
from tests.apps.conftest import TTL, InProcess, Nobody
from tests.documents import CLUSTER, document
from tests.eventually import soon

VNODES = 64
DEADLINE = 2.0
LEASE_MS = 200
JOIN = "/v1/cluster/nodes"
LOSS = "/v1/cluster/accept-loss"
JSON = {"Content-Type": "application/json"}
HELLO = b'[{"key":"hi","value":"hello"},{"key":"hi1","value":"hello1"}]'


def url(port):
    return f"http://127.0.0.1:{port}"


A, B, C = (Node(f"n{i}", url(9000 + i)) for i in range(3))
MINIMAL = json.dumps({"id": A.id, "url": A.url, "incarnation": "00000000000000aa"}).encode()


class Peers(InProcess):
    """The peers of an authority and the channels of a coordinator: frames, handed to services of this process."""

    def __init__(self, directory):
        super().__init__(DEADLINE)
        self._directory = directory

    def push(self, document, nodes):
        on_disk = json.loads((self._directory / "cluster.json").read_bytes())
        assert on_disk["epoch"] >= document.epoch, "somebody hears of a document that a crash would forget"
        super().push(document, nodes)


class Ways:
    """The ways from a member to the others: each word is its own greenlet, as members that speak to each other take turns."""

    def __init__(self, peers):
        self._peers = peers
        self.cut = False

    def to(self, node):
        way = Nobody() if self.cut else self._peers.to(node)

        class Way:
            def submit(self, call):
                gevent.spawn(way.submit, call)

        return Way()


class Cluster:
    """A proxy and its nodes."""

    def __init__(self, directory, wsgi, document=None):
        self.directory = directory
        self.peers = Peers(directory)
        self.engines = {}
        self.members = {}
        self.ways = {}
        self._all = []
        self._run = []
        self.faults = []
        """The reasons for which machines of copies would have their process end."""
        self._shows = {}
        self._started = 0
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
        self.authority = Authority(FileStore(self.directory), view, self.peers)
        self.coordinator = Coordinator(view, self.peers, DEADLINE)
        data = DataApi(
            view,
            self.coordinator,
            max_body=1 << 20,
            info=lambda: {"role": "proxy"},
            checks=lambda: [Check("serving", True), checks.members(self.authority, view)],
        )
        self.app = build_app(data, self.authority, Changes(self.authority))
        self.client = self._wsgi(self.app)

    def start(self, node, keep=False):
        """Start a node that has not called in yet, as a new process; `keep` its records."""
        self._started += 1
        engine = self.engines[node.id] = self.engines[node.id] if keep else MemoryEngine(tokens)
        commits = Commits(engine, tombstone_ttl=TTL)
        view, clock, tidings, faults = View(), DueClock(), Tidings(), self.faults
        order = Order(view, engine, commits, clock)
        transport = Transport(node.id, self._started, view)
        notes = Notes(node.id, None, engine.last_run, faults.append)
        stored = Stored(engine, commits)
        machines = (stored, clock.time, transport, notes, tidings)
        copies = Copies(node.id, self._started, view, *machines, faults.append, versions=order.versions)
        member = Membership(node, view, engine, commits, incarnation=self._started, copies=copies, tidings=tidings)
        self.ways[node.id] = Ways(self.peers)
        transport.connect(self.ways[node.id])
        self._all += [member, notes, commits]
        self._run.append(gevent.spawn(copies.run))
        self.members[node.id] = member
        self.peers.services[node.url] = Service(node.id, view, engine, commits, order, membership=member, copies=copies)

    def put(self, node, **values):
        """Write to a node's engine, past everything else."""
        write = Write(Version(1, 1), list(values), list(values.values()))
        self.engines[node.id].write([write], wall_ms())

    def end(self):
        """End all, and look at what the engines hold."""
        self.authority.close()
        gevent.killall(self._run)
        for part in self._all:
            part.close()
        assert self.faults == []
        for engine in self.engines.values():
            assert engine.check() == []

    def stop(self, node):
        """Let a node be gone."""
        del self.peers.services[node.url]

    def call(self, node, **changes):
        """Let a node call in once, as `Caller` does."""
        call = self.members[node.id].call_in(show=self._shows.get(node.id, False))
        answer = self.client("POST", JOIN, json.dumps(call.to_json() | changes).encode(), JSON)
        if answer.status == 200:
            document = Document.from_json(answer.json())
            lost = call.order >= document.order and not call.has(document)
            self._shows[node.id] = lost or call.cluster not in (None, document.cluster)
            if not self._shows[node.id]:
                self.members[node.id].adopt(document)
        return answer

    def look(self, now=None):
        """Let the authority look once, and what it sends arrive."""
        self.authority.look(boot_time() if now is None else now)
        for _ in range(5):
            gevent.sleep(0)

    def settle(self, *nodes, count=8):
        """Let nodes call in, by default all that run, and the authority look, until nothing changes."""
        for done in range(count):
            before = self.authority.document
            answer = self._round(nodes)
            if done > 2 and self.authority.document == before:
                break
        return answer

    def _round(self, nodes):
        for node in nodes or (A, B, C):
            if node.url in self.peers.services and node.id in self.members:
                answer = self.call(node)
        self.look()
        self.look()
        return answer

    def grow_to(self, *members):
        """Let these call in until they are the members of the ring, and no change is under way."""
        deadline = soon()
        while self.authority.document.nodes != members or self.authority.document.next is not None:
            assert time.monotonic() < deadline, "the ring does not come to that"
            self._round(members)
            gevent.sleep(0.001)
        self.settle(*members)

    def join(self, node):
        """Let a node join."""
        self.grow_to(*(one for one in (A, B, C) if one.id in self.joined | {node.id}))

    @property
    def joined(self):
        return {node.id for node in self.authority.document.nodes}

    def state(self, node):
        """Return what a member's line says."""
        line = self.authority.document.member(node.id)
        return line.state, line.empty

    def settled_at(self, epoch, *members):
        """Check that everybody alive believes in the same members and that no change is under way."""
        document = self.authority.document
        assert (document.epoch, document.nodes, document.next) == (epoch, members, None)
        assert self.on_disk() == document
        for node in members:
            if node.url in self.peers.services:
                assert self.members[node.id]._view.document == document

    def writes_work(self):
        """Check that a write is accepted, found again, and leaves nothing behind."""
        assert self.client("POST", "/set", HELLO).status == 200
        found = self.client("GET", "/get?key=hi&key=hi1")
        assert found.body == b'{"existedKey":[{"key":"hi","value":"hello"},{"key":"hi1","value":"hello1"}]}'
        assert self.client("POST", "/delete", b'[{"key":"hi"},{"key":"hi1"}]').json() == {"deleted": 2}


@pytest.fixture
def cluster(tmp_path, wsgi):
    """Return a cluster without a member, whose rings have few vnodes."""
    yield from started(tmp_path, wsgi, 1)


@pytest.fixture
def pair(tmp_path, wsgi):
    """Return a cluster with the members n0 and n1, which have made the first ring together, at epoch 5; n2 is to join."""
    for pair in started(tmp_path, wsgi, 3):
        pair.settle(A, B)
        pair.settled_at(5, A, B)
        yield pair


def started(tmp_path, wsgi, epoch):
    cluster = Cluster(tmp_path / "proxy", wsgi, document([], epoch, VNODES, lease_ms=LEASE_MS))
    for node in (A, B, C):
        cluster.start(node)
    yield cluster
    cluster.end()


def problem(answer, status, code):
    """Check that an answer is problem+json with this status and code, and return it."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer
    found = answer.json()
    assert (found["type"], found["status"]) == (f"urn:gkv:problem:{code}", status)
    assert found["instance"] == answer.headers["x-request-id"]
    return found


# -- joins that are granted


def test_join_takes_two_epochs_and_the_call_only_tells(cluster):
    assert cluster.call(A).json() == cluster.authority.document.to_json()
    cluster.settled_at(1)
    cluster.look()  # asks whether anybody answers there
    cluster.call(A)
    cluster.look()
    during = cluster.authority.document
    assert (during.epoch, during.nodes, during.next.weights) == (2, (), (("n0", 1.0),))
    cluster.call(A)
    cluster.look()
    cluster.settled_at(3, A)
    cluster.writes_work()


def test_nodes_that_join_at_the_same_time_do_so_in_two_epochs_together(cluster):
    cluster.settle()
    cluster.settled_at(3, A, B, C)
    owned = {cluster.coordinator._view.placement.primary(f"k{i}").id for i in range(99)}
    assert owned == {"n0", "n1", "n2"}
    cluster.writes_work()


def test_call_of_a_member_changes_nothing_whatever_others_hold(pair):
    pair.put(A, a=b"1")
    pair.stop(A)
    for _ in range(3):
        assert pair.settle(B).status == 200
    pair.settled_at(5, A, B)


def test_call_of_a_member_with_another_weight_or_zone_changes_nothing(pair):
    pair.members["n1"]._node = Node(B.id, B.url, 2.0)
    assert pair.call(B, zone="x").status == 200
    pair.settle(A, B)
    pair.settled_at(5, A, B)


def test_member_that_begins_to_speak_tls_keeps_its_place_and_does_not_go_back(pair):
    pair.put(B, a=b"1")
    with_tls = Node(B.id, "https://127.0.0.1:9001")
    pair.settle(A, B)
    assert pair.call(B, url=with_tls.url).status == 200
    pair.look()
    assert pair.authority.document.nodes == (A, with_tls)
    problem(pair.call(B), 409, "member-conflict")
    problem(pair.call(B, url="https://127.0.0.1:9999"), 409, "member-conflict")


def test_cluster_shows_lines_and_who_was_heard(pair):
    rows = pair.client("GET", "/v1/cluster").json()["members"]
    assert [(row["id"], row["state"], row["answers"]) for row in rows] == [("n0", "up", True), ("n1", "up", True)]
    pair.open()
    assert [row["answers"] for row in pair.client("GET", "/v1/cluster").json()["members"]] == [False, False]


def test_proxy_without_a_member_is_not_ready_and_with_one_it_is(cluster):
    answer = cluster.client("GET", "/readyz")
    assert (answer.status, answer.body) == (503, b"[-]members failed: no node has joined yet\nnot ready\n")
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
    body = MINIMAL
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
            for wrong in ("http://u@127.0.0.1:9000", "http://127.0.0.1", "http://[::g]:9000", "http://:9000")
        ),
        *(({"weight": wrong}, "/weight") for wrong in (0, -1, 1_001, "1", True, False, None, [1], "NaN")),
        *(({"cluster": wrong}, "/cluster") for wrong in (1, True, [CLUSTER], {})),
        *(({"volatile": wrong}, "/volatile") for wrong in (0, 1, None, "true", [True], {})),
        *(({"bare": wrong}, "/bare") for wrong in (0, None, "true")),
        *(({"incarnation": wrong}, "/incarnation") for wrong in ("", "0" * 15, "A" * 16, 1, None)),
        *(({"ran": wrong}, "/ran") for wrong in (None, "0" * 16, ["x"], ["0" * 16] * 1_025)),
        *(({"epoch": wrong}, "/epoch") for wrong in (-1, 1.5, "1", True, 1 << 48)),
        *(({"digest": wrong}, "/digest") for wrong in (None, 1, "0" * 15, "A" * 16)),
        *(({"records": wrong}, "/records") for wrong in (-1, None)),
        *(({"document": wrong}, "/document") for wrong in (1, "x", {}, [])),
    ],
    ids=repr,
)
def test_join_with_a_wrong_member_is_answered_422_with_its_pointer(cluster, changes, pointer):
    found = problem(cluster.call(A, **changes), 422, "invalid-member")
    assert found["retryable"] is False
    assert [error["pointer"] for error in found["errors"]] == [pointer]
    cluster.settled_at(1)


@pytest.mark.parametrize("weight", [1e-9, 0.03, 656, 1_000])
def test_join_with_a_weight_of_too_few_or_too_many_tokens_is_refused_with_advice(pair, weight):
    pair.write(replace(pair.authority.document, vnodes=400, epoch=6))
    pair.open()
    pair.settle(A, B)
    before = pair.authority.document
    found = problem(pair.call(C, weight=weight), 422, "invalid-member")
    assert found["retryable"] is False
    assert [error["pointer"] for error in found["errors"]] == ["/weight"]
    assert "take a weight of 0.04 to 655.36" in found["detail"]
    assert pair.call(B, weight=weight).status == 200  # a member's is the document's
    pair.settle(A, B)
    assert pair.authority.document == before


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'"n0"',
        b"1",
        b"{}",
        b'{"id":"n0"}',
        b'{"id":"n0","url":"http://127.0.0.1:9000"}',
        MINIMAL.replace(b"}", b',"x":1}'),
    ],
)
def test_join_with_another_shape_is_answered_422(cluster, body):
    problem(cluster.client("POST", JOIN, body, JSON), 422, "invalid-member")
    cluster.settled_at(1)


def test_join_with_an_unknown_member_is_refused_naming_it(cluster):
    assert '"replicas"' in problem(cluster.call(A, replicas=2), 422, "invalid-member")["detail"]


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
    body = MINIMAL[:-1] + f',"weight":{weight}}}'.encode()
    assert cluster.client("POST", JOIN, body, JSON).status in (400, 422)
    cluster.settled_at(1)


def test_join_over_its_bound_is_answered_413(cluster):
    assert cluster.client("POST", JOIN, MINIMAL.ljust(MAX_JOIN), JSON).status == 200
    problem(cluster.client("POST", JOIN, MINIMAL.ljust(MAX_JOIN + 1), JSON), 413, "too-large")


@pytest.mark.parametrize(("method", "target", "status"), [("POST", JOIN + "?dryRun=1", 400), ("GET", "/v1/cluster?x=1", 400)])
def test_unknown_parameter_is_answered_400(cluster, method, target, status):
    body = MINIMAL if method == "POST" else b""
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


@pytest.mark.parametrize("address", ["127.0.0.2", "10.0.0.5", "", "fd00::5"])
def test_join_for_another_address_than_the_callers_is_answered_422(cluster, wsgi, address):
    stranger = wsgi(cluster.app, address)
    found = problem(stranger("POST", JOIN, MINIMAL, JSON), 422, "invalid-member")
    assert found["errors"] == [{"pointer": "/url", "detail": "not the caller's address"}]
    cluster.settled_at(1)


# -- joins that the cluster cannot grant


def test_join_same_id_with_another_url_is_answered_409(pair):
    found = problem(pair.call(C, id="n0"), 409, "member-conflict")
    assert A.url in found["detail"]
    pair.settled_at(5, A, B)


@pytest.mark.parametrize("rival", [Node("n9", A.url), Node("n9", C.url)], ids=["of a member", "of a newcomer"])
def test_join_same_url_with_another_id_is_answered_409(pair, rival):
    pair.call(C)
    pair.look()
    problem(pair.call(A, id=rival.id, url=rival.url), 409, "member-conflict")
    pair.grow_to(A, B, C)
    pair.settled_at(7, A, B, C)


def test_words_alone_take_nobodys_place_and_make_nobody_a_member(pair):
    for incarnation in range(1_000, 1_003):
        pair.call(B, incarnation=f"{incarnation:016x}")
        pair.call(C, id="n9", url=url(9009))
        pair.look()
    found = problem(pair.call(B, incarnation=f"{1_000:016x}"), 503, "unavailable")
    assert f"nobody answers at {B.url}" in found["detail"]
    pair.settle(A, B)
    pair.settled_at(5, A, B)
    pair.writes_work()


def test_join_with_records_of_a_foreign_cluster_is_answered_409(pair):
    pair.put(C, a=b"1")
    found = problem(pair.call(C, cluster="f" * 32, bare=False), 409, "member-conflict")
    assert "f" * 32 in found["detail"]
    pair.settle(A, B)
    pair.settled_at(5, A, B)


def test_join_while_members_hold_keys_moves_those_that_are_to_be_its_own(pair):
    keys = [f"k{i}" for i in range(99)]
    by_owner = {node.id: [key for key in keys if pair.coordinator._view.placement.primary(key) == node] for node in (A, B)}
    for node in (A, B):
        pair.put(node, **dict.fromkeys(by_owner[node.id], b"1"))
    pair.ways["n2"].cut = True
    pair.settle()
    assert (pair.authority.document.nodes, pair.members["n2"].line.state) == ((A, B), State.UP)  # it has taken nothing yet
    pair.ways["n2"].cut = False
    pair.grow_to(A, B, C)
    pair.settled_at(7, A, B, C)
    own = [key for key in keys if pair.coordinator._view.placement.primary(key) == C]
    assert own
    assert pair.engines["n2"].read(own, wall_ms()) == [b"1"] * len(own)
    found = pair.client("POST", "/get", json.dumps([{"key": key} for key in keys]).encode())
    assert [row["key"] for row in found.json()["existedKey"]] == keys
    pair.writes_work()


def test_join_that_an_operator_takes_back_leaves_the_members_of_before_and_is_not_begun_again(pair):
    pair.call(C)
    pair.look()
    pair.call(C)
    pair.look()
    assert pair.authority.document.next is not None
    assert pair.client("DELETE", "/v1/cluster/change").status == 202
    pair.look()
    pair.settled_at(7, A, B)
    assert pair.authority.document.member("n2") is None
    found = problem(pair.call(C), 409, "member-conflict")
    assert "was taken back by an operator" in found["detail"]
    pair.settle()
    pair.settled_at(7, A, B)
    pair.writes_work()
    pair.start(C)
    pair.grow_to(A, B, C)


def test_join_after_a_start_waits_until_the_members_have_answered(pair):
    service = pair.peers.services.pop(A.url)
    pair.open()
    pair.settle(B, C)
    pair.settled_at(5, A, B)
    assert pair.authority.waits_for == ["n0"]
    pair.peers.services[A.url] = service
    pair.grow_to(A, B, C)
    pair.settled_at(7, A, B, C)


def test_newcomer_with_keys_of_the_cluster_is_refused_with_the_reason_and_no_ring_is_to_come(pair):
    pair.put(C, a=b"1")
    pair.settle(A, B)
    for _ in range(3):
        found = problem(pair.call(C, cluster=CLUSTER), 409, "member-conflict")
        assert "n2 holds 1 keys of this cluster" in found["detail"]
        pair.look()
    pair.settled_at(5, A, B)


def test_newcomer_that_cannot_keep_the_document_goes_down_and_its_join_is_given_up(pair, monkeypatch):
    ahead = 0.0
    monkeypatch.setattr("gkv.cluster.authority.boot_time", lambda: boot_time() + ahead)
    with monkeypatch.context() as patch:
        patch.setattr(pair.members["n2"], "adopt", lambda _document: False)
        pair.call(C)
        pair.look()
        deadline = soon()
        pair.settle()
        while pair.authority.document.member("n2").state is not State.DOWN:  # the others complain of it
            assert time.monotonic() < deadline
            pair.settle(count=1)
            gevent.sleep(0.01)
        pair.writes_work()
        deadline = soon()
        while pair.authority.document.next is not None:
            assert time.monotonic() < deadline
            ahead += 0.5
            for node in (A, B, C):
                pair.call(node)
            pair.look(boot_time() + ahead)
        assert 55 < ahead < 65
        assert pair.authority.document.nodes == (A, B)
        assert "was taken back" in problem(pair.call(C), 503, "unavailable")["detail"]
    pair.start(C)  # another process has no pause
    pair.grow_to(A, B, C)


def test_join_of_a_node_that_nobody_reaches_is_answered_503(pair):
    service = pair.peers.services.pop(C.url)
    pair.call(C)
    pair.look()
    found = problem(pair.call(C), 503, "unavailable")
    assert C.url in found["detail"]
    pair.settled_at(5, A, B)
    pair.peers.services[C.url] = service
    pair.grow_to(A, B, C)
    pair.settled_at(7, A, B, C)


def test_join_of_a_newcomer_that_goes_away_is_given_up_after_a_minute(pair, monkeypatch):
    now = boot_time()
    monkeypatch.setattr("gkv.cluster.authority.boot_time", lambda: now)
    for _ in range(2):
        pair.call(C)
        pair.look(now)
    pair.stop(C)
    held_up = 0
    for _ in range(140):
        now += 0.5
        for node in (A, B):
            pair.call(node)
        pair.look(now)
        held_up += pair.authority.document.next is not None
    assert 60 < 0.5 * held_up < 63
    assert (pair.authority.document.next, pair.authority.document.nodes) == (None, (A, B))
    pair.writes_work()


def test_join_that_makes_the_ring_too_large_is_refused(tmp_path, wsgi):
    cluster = Cluster(tmp_path / "proxy", wsgi, document([], 1, MAX_VNODES))
    cluster.start(A)
    found = problem(cluster.call(A), 422, "invalid-member")
    assert "tokens" in found["detail"]
    cluster.settled_at(1)
    cluster.end()


def test_write_that_meets_a_join_lands_at_the_new_owner(pair):
    after = View()
    after.adopt(document([A, B, C], 1, VNODES))
    moving = next(key for key in (f"k{i}" for i in range(999)) if after.placement.primary(key) == C)
    pair.call(C)
    pair.look()
    pair.call(C)
    pair.look()
    assert pair.authority.document.next is not None
    write = gevent.spawn(pair.client, "POST", "/set", json.dumps([{"key": moving, "value": 1}]).encode())
    pair.grow_to(A, B, C)
    assert write.get(timeout=5).body == b"Success to set key"
    assert pair.engines["n2"].read([moving], wall_ms()) == [b"1"]
    assert pair.client("GET", f"/get?key={moving}").json() == {"existedKey": [{"key": moving, "value": 1}]}


# -- members that go and come back


def test_silent_member_is_evicted_and_its_keys_have_no_primary_until_it_is_back(pair, monkeypatch):
    now = boot_time()
    monkeypatch.setattr("gkv.cluster.authority.boot_time", lambda: now)
    pair.settle()
    service = pair.peers.services.pop(B.url)
    for _ in range(4):  # it looks all the time
        now += 0.3
        pair.call(A)
        pair.look(now)
    assert pair.state(B) == (State.DOWN, False)
    ready = pair.client("GET", "/readyz?verbose")
    assert (ready.status, ready.body) == (200, b"[+]serving ok\n[!]members 2/3 up: n1 is down\nok\n")
    assert pair.client("GET", "/readyz").body == b"ok\n"
    failed = pair.client("POST", "/get", b'[{"key":"hi"},{"key":"hi1"}]').json()["failedKey"]
    assert {row["code"] for row in failed} == {"no-primary"}
    pair.peers.services[B.url] = service
    pair.settle()
    assert pair.client("GET", "/readyz?verbose").body == b"[+]serving ok\n[+]members ok\nok\n"
    assert pair.state(B) == (State.UP, False)
    pair.writes_work()


def test_proxy_that_no_member_answers_is_not_ready_and_says_so_once(pair, monkeypatch, capfd):
    now = boot_time()
    for room in ("authority", "attendance"):
        monkeypatch.setattr(f"gkv.cluster.{room}.boot_time", lambda: now)
    pair.settle(A, B)
    services = {node: pair.peers.services.pop(node.url) for node in (A, B)}
    for passed in range(20):  # it looks all the time
        lines = pair.client("GET", "/readyz?verbose").body
        assert (b"[-]members failed: no member answers\n" in lines) == (passed > 3), passed
        now += 0.3
        pair.look(now)
    assert pair.client("GET", "/readyz").status == 503
    assert (pair.state(A), pair.state(B)) == ((State.UP, False), (State.UP, False))
    assert capfd.readouterr().err.count("no member answers") == 1
    pair.peers.services |= {node.url: service for node, service in services.items()}
    pair.settle(A, B)
    assert pair.client("GET", "/readyz?verbose").body == b"[+]serving ok\n[+]members ok\nok\n"
    pair.look(now)
    pair.look(now)
    assert capfd.readouterr().err.count("members answer again") == 1


@pytest.mark.promise("I6")
def test_process_that_takes_the_place_of_another_serves_and_the_other_one_ends(pair):
    ends = []
    old = pair.members["n1"]
    old._on_end = ends.append
    pair.start(B, keep=True)
    pair.settle(A, B)
    assert pair.state(B) == (State.UP, False)  # its records were in memory, so it acts with what it has
    pair.writes_work()
    old.adopt(pair.authority.document)
    [why] = ends
    assert "another process acts as n1" in why.detail
    assert old.line is None
    epoch = pair.authority.document.epoch
    pair.authority.call_in(old.call_in(show=False))  # one that was late on its way
    pair.look()
    assert pair.authority.document.epoch == epoch


def durable(member):
    """Have a member say that its records are on a disk."""
    say = member.call_in

    def call_in(*, show):
        return replace(say(show=show), volatile=False, ran=tuple(member.ran))

    member.call_in = call_in


def with_directory(cluster, node, *ran):
    """Start a node whose directory lists these processes."""
    cluster.start(node)
    member = cluster.members[node.id]
    member.ran = [*ran, member.incarnation]
    durable(member)


def test_member_that_comes_back_without_its_directory_acts_only_once_its_loss_is_accepted(cluster):
    with_directory(cluster, A)
    cluster.join(A)
    cluster.writes_work()
    with_directory(cluster, A)
    cluster.settle(A)
    assert cluster.state(A) == (State.FILLING, True)
    ready = cluster.client("GET", "/readyz?verbose")
    # Nobody answers for any key.
    line = b"[-]members failed: 0/1 up: n0 waits for accept-loss\n"
    assert (ready.status, ready.body) == (503, b"[+]serving ok\n" + line + b"not ready\n")
    for path in ("/get?key=hi", "/v1/kv/hi"):
        assert b"no-primary" in cluster.client("GET", path).body
    with_directory(cluster, A, cluster.authority.document.member("n0").incarnation)  # a restart cures nothing
    cluster.settle(A)
    assert cluster.state(A) == (State.FILLING, True)
    dry = cluster.client("POST", LOSS + "?dryRun=1", b'{"node":"n0"}', JSON)
    assert (dry.status, dry.json()["dryRun"]) == (200, True)
    cluster.settle(A)
    assert cluster.state(A) == (State.FILLING, True)
    assert cluster.client("POST", LOSS, b'{"node":"n0"}', JSON).status == 202
    cluster.settle(A)
    assert cluster.state(A) == (State.UP, False)
    cluster.writes_work()


def test_member_that_comes_back_with_its_directory_is_up_after_two_epochs(cluster):
    with_directory(cluster, A)
    cluster.join(A)
    before = cluster.authority.document
    with_directory(cluster, A, before.member("n0").incarnation)
    cluster.settle(A)
    assert cluster.state(A) == (State.UP, False)
    assert cluster.authority.document.epoch == before.epoch + 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"node":"n0"}', 409, "member-conflict"),
        (b'{"node":"n9"}', 409, "member-conflict"),
        (b'{"node":""}', 422, "invalid-member"),
        (b'{"node":1}', 422, "invalid-member"),
        (b'{"node":"n0","x":1}', 422, "invalid-member"),
        (b"[]", 422, "invalid-member"),
    ],
)
def test_loss_that_cannot_be_accepted_is_refused(pair, body, status, code):
    problem(pair.client("POST", LOSS, body, JSON), status, code)
    pair.settle(A, B)
    pair.settled_at(5, A, B)


def test_loss_with_an_unknown_member_is_refused_naming_it(pair):
    assert '"nodes"' in problem(pair.client("POST", LOSS, b'{"nodes":"n0"}', JSON), 422, "invalid-member")["detail"]


def test_loss_of_a_member_that_is_up_is_refused_without_advice_to_start_it(pair):
    detail = problem(pair.client("POST", LOSS, b'{"node":"n0"}', JSON), 409, "member-conflict")["detail"]
    assert detail == "nothing of n0 is known to be lost: it is up"


def test_loss_with_another_parameter_is_refused(pair):
    problem(pair.client("POST", LOSS + "?dryRun=2", b'{"node":"n0"}', JSON), 422, "parameter-value")


# -- over restarts


def test_new_directory_gets_a_cluster_of_its_own(tmp_path):
    ids = set()
    for name in ("one", "two"):
        authority = Authority(FileStore(tmp_path / "deep" / name), View(), Peers(tmp_path), Terms(Durability.ASYNC))
        found = authority.document
        authority.close()
        assert Document(found.cluster, 1, durability="async") == found
        assert json.loads((tmp_path / "deep" / name / "cluster.json").read_bytes()) == found.to_json()
        ids.add(found.cluster)
    assert len(ids) == 2


def test_durability_of_the_document_counts_and_not_that_of_a_later_start(tmp_path, capfd):
    for durability in Durability.ASYNC, Durability.SYNC:
        authority = Authority(FileStore(tmp_path / "proxy"), View(), Peers(tmp_path), Terms(durability))
        assert authority.document.durability == "async"
        authority.close()
    said = capfd.readouterr().err
    assert said.count("durability is async, as the cluster was made; --durability counts for a new one only") == 1


def test_membership_survives_reopening(pair):
    before = pair.authority.document
    pair.open()
    assert pair.authority.document == before
    pair.grow_to(A, B, C)
    pair.settled_at(7, A, B, C)


def test_join_that_was_broken_off_by_the_end_of_the_authority_goes_on_at_its_next_start(pair):
    for _ in range(2):
        pair.call(C)
        pair.look()
    assert pair.authority.document.next is not None
    pair.open()
    assert pair.authority.document.next is not None
    pair.grow_to(A, B, C)
    pair.settled_at(7, A, B, C)
    pair.writes_work()


def test_crash_while_the_document_was_written_leaves_the_old_one(pair):
    (pair.directory / "cluster.new").write_text('{"cluster": "' + "f" * 20)
    pair.open()
    assert (pair.authority.document.epoch, pair.authority.document.nodes) == (5, (A, B))


def test_change_that_cannot_be_written_changes_nothing_and_is_made_later(pair, monkeypatch, capfd):
    def full(_fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr("gkv.files.Reserve.give_up", lambda _self: False)
        pair.settle()
        pair.settled_at(5, A, B)
    assert capfd.readouterr().err.count("no member changes its state, as ") == 1
    pair.grow_to(A, B, C)
    pair.settled_at(7, A, B, C)


# -- a document that is lost, or older


def test_lost_document_is_rebuilt_from_those_of_all_members(pair):
    before = pair.authority.document
    pair.put(A, a=b"1")
    pair.put(B, b=b"1")
    (pair.directory / "cluster.json").unlink()
    pair.open()
    for _ in range(3):
        pair.call(A)
        pair.look()
    assert pair.authority.waits_for == ["n1"]
    problem(pair.call(C), 503, "unavailable")
    pair.settle(A, B)
    found = pair.authority.document
    assert (found.cluster, found.generation, found.nodes) == (CLUSTER, 2, (A, B))
    assert found.rebuilt_from == ((1, before.epoch),)
    assert pair.on_disk() == found
    assert {pair.members[node.id]._view.document for node in (A, B)} == {found}


def test_older_document_is_rebuilt_and_a_member_that_is_as_old_counts_as_shown(pair):
    old = pair.authority.document
    newer = replace(old, epoch=9)
    pair.members["n1"].adopt(newer)
    pair.open()
    pair.settle(A, B)
    found = pair.authority.document
    assert (found.order, found.rebuilt_from) == ((2, 10), ((1, 9),))
    pair.settle()
    pair.writes_work()


# -- words of documents


def word(node, incarnation, shown, order=None, **more):
    """Return a call that shows a document."""
    about = CallIn(node, incarnation, cluster=shown.cluster, order=order or shown.order, digest=shown.digest, document=shown)
    return replace(about, **more)


def shows(cluster, call):
    """Let a process call in and be asked, as often as it takes; return the authority's document."""
    for _ in range(3):
        with suppress(GkvError):
            cluster.authority.call_in(call)
        cluster.look()
    return cluster.authority.document


def process(cluster, node, incarnation, shown):
    """Have a process answer at an address, with a document in force."""
    here = Here(incarnation, shown.cluster, shown.order, shown.digest)

    class Answers:
        def submit(self, call):
            call.finish(Outcome.ANSWERED, here.write())

    cluster.peers.services[node.url] = Answers()


STRANGER = Node("x", url(9009))


def later(document, *members, **changes):
    return replace(document, members=members or document.members, **{"epoch": 9, **changes})


FORGED = {
    "it has no members": lambda mine: replace(later(mine), members=()),
    "it has the stranger alone": lambda mine: later(mine, Member("x", STRANGER.url, incarnation=99)),
    "the stranger is added": lambda mine: later(mine, *mine.members, Member("x", STRANGER.url, incarnation=99)),
    "it is far ahead": lambda mine: later(mine, epoch=mine.epoch + MAX_LEAP + 1),
    "it is the last": lambda mine: later(mine, epoch=MAX_EPOCH),
    "it is of the last generation": lambda mine: later(mine, generation=MAX_GENERATION, rebuilt_from=((1, 5),)),
    "it has been rebuilt from others": lambda mine: later(mine, generation=3, rebuilt_from=((2, 5),)),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_document_that_a_stranger_shows_is_not_believed(pair, forged):
    before = pair.authority.document
    shown = forged(before)
    process(pair, STRANGER, 99, shown)
    assert shows(pair, word(STRANGER, 99, shown)) == before
    assert pair.authority.waits_for == []
    pair.settle(A, B)
    pair.settled_at(5, A, B)


@pytest.mark.parametrize(
    "forged", ["it has no members", "it is far ahead", "it is the last", "it has been rebuilt from others"]
)
def test_document_of_a_member_that_cannot_follow_is_not_believed(pair, forged):
    before = pair.authority.document
    shown = FORGED[forged](before)
    incarnation = before.member("n0").incarnation
    process(pair, A, incarnation, shown)
    assert shows(pair, word(A, incarnation, shown)) == before
    assert pair.authority._told.rebuilding is None


def test_document_that_is_shown_in_a_members_name_is_not_believed(pair):
    before = pair.authority.document
    shown = later(before, before.members[0])
    assert shows(pair, word(A, before.member("n0").incarnation, shown)) == before  # n0 itself has another one
    assert shows(pair, word(Node("n0", STRANGER.url), before.member("n0").incarnation, shown)) == before
    assert pair.authority.waits_for == []
    pair.settle(A, B)
    pair.settled_at(5, A, B)


def test_word_in_a_members_name_does_not_count_as_its_document(pair):
    before = pair.authority.document
    pair.members["n0"].adopt(later(before))
    pair.settle(A)
    assert pair.authority.waits_for == ["n1"]
    older = replace(before, epoch=4)
    forged = CallIn(Node("n1", STRANGER.url), 99, cluster=CLUSTER, order=older.order, digest=older.digest, ran=(2,))
    process(pair, STRANGER, 99, older)
    shows(pair, forged)
    assert pair.authority.waits_for == ["n1"]
    shows(pair, replace(forged, node=B, incarnation=2))  # which has another one
    assert pair.authority.waits_for == ["n1"]


def test_members_that_the_newest_document_has_forgotten_are_kept(pair):
    before = pair.authority.document
    pair.put(A, a=b"1")  # so nobody can join
    pair.put(B, b=b"1")
    pair.members["n0"].adopt(later(before, before.members[0]))
    pair.settle(A)
    assert pair.authority.waits_for == ["n1"]
    pair.settle(A, B)
    found = pair.authority.document
    assert (found.generation, found.rebuilt_from, found.nodes) == (2, ((1, 9),), (A, B))
    pair.settle(A, B)
    assert pair.state(B) == (State.UP, False)


def test_lost_document_far_on_leaves_room_for_later_ones(pair):
    before = pair.authority.document
    shown = later(before, epoch=MAX_EPOCH)
    (pair.directory / "cluster.json").unlink()
    pair.open()
    incarnation = before.member("n0").incarnation
    process(pair, A, incarnation, shown)
    assert shows(pair, word(A, incarnation, shown)).members == ()
    pair.open()  # what is on the disk can be read


def test_another_document_of_the_same_order_is_rebuilt_over_and_nobody_is_lost(pair):
    old = pair.authority.document
    joined = replace(old, epoch=6, members=(*old.members, Member(C.id, C.url, incarnation=3, directory=3)))
    pair.members["n0"].adopt(joined)
    pair.members["n2"].adopt(joined)
    pair.write(replace(old, epoch=6))  # which the authority has made from an older cluster.json
    pair.open()
    pair.settle()
    found = pair.authority.document
    assert (found.generation, found.nodes) == (2, (A, B, C))
    assert found.rebuilt_from == ((1, 6),)
    pair.settle()
    assert {pair.members[node.id]._view.document for node in (A, B, C)} == {pair.authority.document}
    pair.writes_work()


def test_nothing_is_decided_after_a_start_before_each_member_was_heard(pair, monkeypatch):
    now = boot_time()
    monkeypatch.setattr("gkv.cluster.authority.boot_time", lambda: now)
    pair.join(C)
    before = pair.authority.document
    pair.members["n0"].adopt(replace(before, epoch=9))
    pair.stop(C)
    pair.open()
    for _ in range(12):  # n0 answers, and does not call in; n2 is away
        now += 0.2
        pair.call(B)
        pair.look(now)
    assert pair.authority.document == before
    assert pair.client("GET", "/v1/cluster").json()["waits_for"] == ["n0"]
    pair.call(A)
    pair.call(A)
    pair.look(now)
    assert pair.authority.waits_for == ["n1", "n2"]


def test_member_that_stays_silent_after_a_start_does_not_hold_the_others_up(pair, monkeypatch):
    now = boot_time()
    monkeypatch.setattr("gkv.cluster.authority.boot_time", lambda: now)
    pair.start(B, keep=True)
    pair.stop(A)
    pair.open()
    epochs = []
    for _ in range(12):
        now += 0.2
        pair.call(B)
        pair.look(now)
        epochs.append(pair.authority.document.epoch)
    assert epochs[3] == 5
    assert pair.state(A) == (State.DOWN, False)
    assert pair.state(B) == (State.UP, False)


@pytest.mark.parametrize(("era", "serves"), [(era_of(1, 6), True), (era_of(1, 7), False), (era_of(2, 1), False)])
@pytest.mark.promise("I16")
def test_member_serves_under_no_document_that_is_not_later_than_its_records(pair, era, serves):
    pair.engines["n0"].era = era
    pair.start(A, keep=True)
    member = pair.members["n0"]
    line = replace(pair.authority.document.member("n0"), incarnation=member.incarnation)
    assert member.adopt(replace(pair.authority.document.with_member(line), epoch=7))
    assert member._view.acts is serves


def test_document_older_than_the_records_of_a_member_is_rebuilt_before_anything_is_written(pair):
    before = pair.authority.document
    ran = [f"{before.member('n1').incarnation:016x}"]
    pair.engines["n1"].era = era_of(1, 9)
    pair.start(B, keep=True)
    pair.call(B, ran=ran)
    pair.look()
    assert pair.authority.document == before
    assert pair.authority.waits_for == ["n0", "n1"]
    pair.call(A)
    pair.look()
    pair.call(B, ran=ran)
    pair.look()
    pair.look()
    assert pair.authority.document.order == (2, 6)
    assert pair.authority.document.rebuilt_from == ((1, 5),)


def test_rebuilding_that_began_while_a_document_was_being_written_goes_on_with_that_one(pair):
    ran = [f"{pair.authority.document.member('n1').incarnation:016x}"]
    pair.engines["n1"].era = era_of(1, 9)
    pair.start(B, keep=True)
    pair.call(B, ran=ran)
    written = replace(pair.authority.document, epoch=6)
    assert pair.authority._commit(written)
    for node in (A, B, A, B):
        pair.call(node, ran=ran)
        pair.look()
    assert pair.authority.document.order == (2, 7)
    assert pair.authority.document.rebuilt_from == ((1, 6),)


@pytest.mark.parametrize(
    "era", [era_of((1 << 16) - 1, 1), era_of(1_000, 1), era_of(1, 1 << 40), (1 << 64) - 1, era_of(1, 5), 0]
)
def test_era_that_cannot_be_or_is_not_later_has_nothing_rebuilt(pair, era):
    before = pair.authority.document
    pair.engines["n0"].era = era
    pair.start(A, keep=True)
    pair.call(A, ran=[f"{before.member('n0').incarnation:016x}"])
    pair.look()
    assert (pair.authority.document, pair.authority.waits_for) == (before, [])


def test_member_whose_document_is_lost_with_its_directory_is_excused_by_an_operator(pair):
    (pair.directory / "cluster.json").unlink()
    pair.open()
    pair.stop(B)
    for _ in range(3):
        pair.call(A)
        pair.look()
    assert pair.client("GET", "/v1/cluster").json()["waits_for"] == ["n1"]
    assert pair.client("POST", LOSS, b'{"node":"n1"}', JSON).status == 202
    pair.look()
    assert pair.authority.document.order == (2, 6)


GOOD = document([A, B], 5, VNODES).to_json()
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
    "replicas 6": json.dumps(GOOD | {"replicas": 6}).encode(),
    "a weight beyond a double": json.dumps(GOOD).replace("1.0", "1" + "0" * 400).encode(),
    "a ring too large to build": json.dumps(GOOD | {"vnodes": 1 << 40}).encode(),
}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT.keys())
def test_corrupt_document_is_refused_naming_the_file_and_left_untouched(tmp_path, content):
    path = tmp_path / "cluster.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cluster\.json cannot be read"):
        Authority(FileStore(tmp_path), View(), Peers(tmp_path))
    assert path.read_bytes() == content
    assert {entry.name for entry in tmp_path.iterdir()} == {"cluster.json", "lock"}


def test_document_that_is_a_directory_is_refused(tmp_path):
    (tmp_path / "cluster.json").mkdir()
    with pytest.raises(Unavailable, match=r"cluster\.json"):
        Authority(FileStore(tmp_path), View(), Peers(tmp_path))


def test_corrupt_document_once_repaired_can_be_opened_by_the_same_process(tmp_path):
    path = tmp_path / "cluster.json"
    path.write_bytes(b"")
    with pytest.raises(ConfigError):
        Authority(FileStore(tmp_path), View(), Peers(tmp_path))
    path.write_text(json.dumps(GOOD))
    authority = Authority(FileStore(tmp_path), View(), Peers(tmp_path))
    assert authority.document.epoch == 5
    authority.close()


def test_second_authority_on_the_same_directory_is_refused_until_the_first_closes(pair):
    before = (pair.directory / "cluster.json").read_bytes()
    for directory in (pair.directory, pair.directory / ".." / "proxy"):
        with pytest.raises(Unavailable, match="another gkv-proxy uses the data directory"):
            FileStore(directory)
    assert (pair.directory / "cluster.json").read_bytes() == before
    pair.writes_work()


def test_directory_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        FileStore(tmp_path / "file" / "proxy")
    with pytest.raises(Unavailable, match="cannot be used"):
        FileStore(Path("/proc/nowhere"))
