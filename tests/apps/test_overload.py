"""The server with more to do than it may: what is refused, how, and who is not.

Server and clients are greenlets of this process.
"""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gkv.api.access import Role
from gkv.api.http import Request, Response, Routes, render_unread
from gkv.api.operation import Unlisted
from gkv.net.admission import BACKGROUND, MEMBERS, OPERATORS, REPLICA, Admission
from gkv.net.server import Server, ServerLimits, listen
from tests.apps.connection import Answer, Client

MAX_BODY = 1 << 20
BUFFERED = 2 << 20
WAIT = b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
FRAMES = b"GET /frames HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(size: int, *headers: bytes) -> bytes:
    """Return the head of a request with a body."""
    return b"\r\n".join([b"POST /size HTTP/1.1", b"Host: localhost", b"Content-Length: %d" % size, *headers, b"", b""])


class Busy:
    """A server whose requests to /wait, and to /frames, which members send, wait until they are let go."""

    def __init__(self, max_inflight: int = 2, **limits: Any) -> None:
        self.go_on = Event()
        self.sized = 0
        self.takes = 0.0
        """Seconds for each request to /size."""
        routes = Routes()
        routes.add("GET", "/wait", self._wait, doc=Unlisted("a test's"), role=Role.OPEN)
        routes.add("GET", "/frames", self._wait, doc=Unlisted("a test's"), role=Role.OPEN, lane=MEMBERS)
        routes.add(
            "GET",
            "/refused",
            lambda _: Response(b"%d" % self.admission.clients.refused),
            doc=Unlisted("a test's"),
            role=Role.OPEN,
        )
        for lane in (REPLICA, BACKGROUND):
            routes.add("GET", f"/{lane}", self._wait, doc=Unlisted("a test's"), role=Role.OPEN, lane=lane)
        routes.add("GET", "/livez", lambda _: Response(b"ok"), doc=Unlisted("a test's"), role=Role.OPEN, lane=OPERATORS)
        routes.add("GET", "/large", lambda _: Response(bytes(MAX_BODY)), doc=Unlisted("a test's"), role=Role.OPEN)
        routes.add(
            "POST",
            "/size",
            self._size,
            doc=Unlisted("a test's"),
            role=Role.OPEN,
        )
        listener = listen("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.admission = Admission(max_inflight, max_buffered=BUFFERED)
        usual = {"max_body": MAX_BODY, "tick": 0.02, "linger": 0.2, "recent": 0.1}
        self.server = Server(routes, listener, render_unread, (), ServerLimits(**(usual | limits)), self.admission)
        self.server.start()
        self.clients: list[Client] = []

    def _size(self, request: Request) -> Response:
        until = monotonic() + self.takes
        while monotonic() < until:
            pass  # work that does not wait
        self.sized += 1
        return Response(b"%d" % len(request.body(MAX_BODY)))

    def _wait(self, _request: Request) -> Response:
        assert self.go_on.wait(10)
        return Response(b"done")

    def client(self, *pieces: bytes) -> Client:
        self.clients.append(Client(self.port))
        self.clients[-1].send(*pieces)
        return self.clients[-1]

    def in_work(self, count: int, lane: str = "clients") -> None:
        until(lambda: self.admission.gates[lane].inflight == count)

    def buffered(self, size: int) -> None:
        until(lambda: self.admission.clients.budget.used == size)


def until(condition: Any) -> None:
    end = monotonic() + 5
    while not condition():
        assert monotonic() < end
        gevent.sleep(0.002)


@pytest.fixture
def start() -> Iterator[Any]:
    started: list[Busy] = []

    def begin(*arguments: int, **limits: Any) -> Busy:
        started.append(Busy(*arguments, **limits))
        return started[-1]

    yield begin
    for busy in started:
        busy.go_on.set()
        for client in busy.clients:
            client.socket.close()
        assert busy.server.drain(5)
        assert busy.admission.clients.budget.used == busy.admission.members.budget.used == 0
        assert busy.admission.clients.inflight == busy.admission.members.inflight == 0


def overloaded(answer: Answer | None) -> Answer:
    """Check a refusal, and return it."""
    assert answer is not None
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/problem+json"
    assert b'"type":"urn:gkv:problem:overloaded"' in answer.body
    assert b'"retryable":true' in answer.body
    assert b'"instance":"%b"' % answer.headers["x-request-id"].encode() in answer.body
    return answer


# -- requests in work


def test_who_is_refused_goes_before_the_work_of_who_is_not(start: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("gkv.net.connection.CROWD", 0)
    busy = start(1)
    clients = [busy.client() for _ in range(3)]
    until(lambda: len(busy.server.connections) == 3)
    for client in clients:
        client.send(b"GET /refused HTTP/1.1\r\nHost: localhost\r\n\r\n")
    served, *refused = sorted((client.read() for client in clients), key=lambda answer: answer.status)
    assert (served.status, served.body) == (200, b"2")
    for answer in refused:
        overloaded(answer)


@pytest.mark.promise("I7")
def test_more_requests_than_may_be_in_work_are_refused_and_the_others_are_served(start: Any) -> None:
    busy = start()
    waiting = [busy.client(WAIT), busy.client(WAIT)]
    busy.in_work(2)
    client = busy.client()
    ids = set()
    for _ in range(20):
        client.send(WAIT)
        answer = overloaded(client.read())
        assert answer.headers["connection"] == "keep-alive"
        ids.add(answer.headers["x-request-id"])
    assert len(ids) == 20
    assert busy.admission.refused() == {"inflight": 20, "memory": 0, "connections": 0}
    busy.go_on.set()
    assert [one.good().body for one in waiting] == [b"done", b"done"]
    until(lambda: busy.admission.clients.inflight == 0)
    client.send(WAIT)
    assert client.good().body == b"done"


def test_refused_body_is_consumed_so_the_connection_goes_on(start: Any) -> None:
    busy = start()
    _waiting = [busy.client(WAIT), busy.client(WAIT)]
    busy.in_work(2)
    client = busy.client(post(300_000), bytes(100_000), bytes(200_000), LIVE)
    overloaded(client.read())
    assert client.good().body == b"ok"
    busy.go_on.set()


@pytest.mark.parametrize(
    ("first", "header", "keeps"),
    [
        (b"GET /wait HTTP/1.1", b"X-Request-Id: mine-1", True),
        (b"HEAD /wait HTTP/1.1", b"X: y", True),
        (b"DELETE /nowhere HTTP/1.1", b"X: y", True),
        (b"GET /wait HTTP/1.1", b"Connection: close", False),
        (b"GET /wait HTTP/1.0", b"X: y", False),
        (b"GET /wait HTTP/1.0", b"Connection: keep-alive", True),
    ],
)
def test_refusal_keeps_to_what_the_request_says(start: Any, first: bytes, header: bytes, keeps: bool) -> None:
    busy = start()
    _waiting = [busy.client(WAIT), busy.client(WAIT)]
    busy.in_work(2)
    client = busy.client(b"\r\n".join([first, b"Host: localhost", header, b"", b""]))
    answer = client.read(head_only=first.startswith(b"HEAD"))
    if first.startswith(b"HEAD"):
        assert (answer.status, answer.body) == (503, b"")
    else:
        overloaded(answer)
    if b"mine" in header:
        assert answer.headers["x-request-id"] == "mine-1"
    if keeps:
        client.send(LIVE)
        assert client.good().body == b"ok"
    else:
        assert answer.headers["connection"] == "close"
        assert client.read() is None
    busy.go_on.set()


def test_operators_are_never_refused_and_members_not_because_of_clients(start: Any) -> None:
    busy = start()
    _waiting = [busy.client(WAIT), busy.client(WAIT)]
    busy.in_work(2)
    for _ in range(5):
        assert busy.client(LIVE).good().body == b"ok"
    members = [busy.client(FRAMES), busy.client(FRAMES)]
    busy.in_work(2, "members")
    overloaded(busy.client(FRAMES).read())
    busy.go_on.set()
    assert all(member.good().body == b"done" for member in members)


def test_requests_that_are_answered_without_waiting_are_never_in_work_together(start: Any) -> None:
    """However many of them lie ready at once: to refuse some would cost nearly as much as to answer them."""
    busy = start()
    clients = [busy.client(LIVE) for _ in range(10)]
    assert all(client.good() for client in clients)
    for client in clients:
        client.send(post(1) + b"x")  # the server does not run in between
    assert all(client.good().body == b"1" for client in clients)
    assert busy.admission.refused()["inflight"] == 0


def test_client_whose_requests_lie_ready_gives_way_after_a_few_of_them_and_is_refused_none(start: Any) -> None:
    busy = start()
    eager, other = busy.client(LIVE), busy.client(LIVE)
    assert eager.good()
    assert other.good()
    eager.send((post(1) + b"x") * 1_000)
    other.send(LIVE)  # the server does not run in between
    assert other.good().body == b"ok"
    assert 0 < busy.sized < 50
    assert all(eager.good().body == b"1" for _ in range(1_000))
    assert busy.admission.refused()["inflight"] == 0


def test_turn_that_has_lasted_long_ends_with_the_request_that_is_in_work(start: Any) -> None:
    busy = start()
    eager, other = busy.client(LIVE), busy.client(LIVE)
    assert eager.good()
    assert other.good()
    busy.takes = 0.01
    eager.send((post(1) + b"x") * 8)
    other.send(LIVE)  # the server does not run in between
    assert other.good().body == b"ok"
    assert busy.sized == 1
    assert all(eager.good().body == b"1" for _ in range(8))


@pytest.mark.parametrize("lane", [REPLICA, BACKGROUND])
def test_lanes_of_members_are_full_each_for_itself(start: Any, lane: str) -> None:
    busy = start(4)
    copy = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % lane.encode()
    limit = int(busy.admission.gates[lane].limit)
    held = [busy.client(copy) for _ in range(limit)]
    busy.in_work(limit, lane)
    overloaded(busy.client(copy).read())
    others = [busy.client(FRAMES), busy.client(WAIT)]
    busy.in_work(1, "members")
    busy.in_work(1, "clients")
    assert busy.client(LIVE).good().body == b"ok"
    busy.go_on.set()
    assert all(client.good().body == b"done" for client in held + others)


# -- memory


def test_bodies_that_are_being_read_have_room_or_are_refused_unread(start: Any) -> None:
    busy = start()
    halves = [busy.client(post(MAX_BODY), bytes(500_000)) for _ in range(2)]
    busy.buffered(2 * MAX_BODY)
    refused = busy.client(post(100_000, b"Expect: 100-continue"))
    assert overloaded(refused.read()).headers["connection"] == "close"  # and no 100 before it
    assert refused.read() is None
    small = busy.client(post(1_000), bytes(10))
    overloaded(small.read())
    whole = busy.client(post(10) + bytes(10))  # what comes in one piece needs no room kept
    assert whole.good().body == b"10"
    for half in halves:
        half.send(bytes(MAX_BODY - 500_000))
        assert half.good().body == b"%d" % MAX_BODY
    busy.buffered(0)
    assert busy.client(post(100_000), bytes(100_000)).good().body == b"100000"
    assert busy.admission.refused()["memory"] == 2


def test_chunked_body_takes_room_as_it_grows(start: Any) -> None:
    busy = start()
    head = b"POST /size HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = busy.client(head, b"5\r\nhello\r\n")
    half = busy.client(post(MAX_BODY), bytes(10))
    until(lambda: busy.admission.clients.budget.used >= MAX_BODY)
    other = busy.client(post(MAX_BODY - 1_000), bytes(10))
    until(lambda: busy.admission.clients.budget.used > 2 * MAX_BODY - 1_010)
    chunked.send(b"800\r\n" + bytes(2_048) + b"\r\n")
    assert overloaded(chunked.read()).headers["connection"] == "close"
    half.socket.close()
    other.socket.close()
    busy.buffered(0)


def test_broken_off_body_gives_its_room_back(start: Any) -> None:
    busy = start()
    for _ in range(5):
        half = busy.client(post(MAX_BODY), bytes(10))
        busy.buffered(MAX_BODY)
        half.reset()
        busy.buffered(0)


def test_answers_that_nobody_takes_have_room_or_are_refused(start: Any) -> None:
    busy = start(100, write=10)
    slow = [busy.client(LARGE * 20) for _ in range(2)]  # beyond what the sockets hold
    busy.buffered(2 * MAX_BODY)
    refused = busy.client(LARGE)
    overloaded(refused.read())
    refused.send(LIVE)
    assert refused.good().body == b"ok"
    for client in slow:
        assert [len(client.good().body) for _ in range(3)] == [MAX_BODY] * 3
        client.reset()
    busy.buffered(0)
    refused.send(LARGE)
    assert len(refused.good().body) == MAX_BODY


# -- connections


def test_beyond_the_connections_operators_and_members_are_still_served(start: Any) -> None:
    busy = start(connections=3, spare=2)
    held = [busy.client(LIVE) for _ in range(3)]
    assert all(client.good() for client in held)
    assert busy.client(LIVE).good().body == b"ok"
    busy.go_on.set()
    member = busy.client(FRAMES)
    assert member.good().body == b"done"
    refused = busy.client(WAIT)
    answer = refused.read()
    assert answer is not None
    assert (answer.status, answer.headers["connection"], answer.headers["retry-after"]) == (503, "close", "1")
    # The operator's connection is in nobody's way for long, the member's stays.
    until(lambda: len(busy.server.connections) == 4)
    member.send(FRAMES)
    assert member.good().body == b"done"
    assert busy.admission.refused()["connections"] == 1


def test_connections_for_which_there_is_no_room_at_all_are_refused_and_few_of_them_linger(start: Any) -> None:
    busy = start(connections=1, spare=1, linger=1.0)
    assert busy.client(LIVE).good()
    assert busy.client(LIVE).good()
    refused = [busy.client(LIVE) for _ in range(4)]
    answers = [client.rest() for client in refused]
    assert sum(len(answer) for answer in answers) == 1
    assert busy.admission.refused()["connections"] == 4


def test_refusal_that_fails_leaves_its_place_to_the_next_one(start: Any, capfd: Any) -> None:
    class Failing:
        def refused(self, *_told: object) -> None:
            raise RuntimeError("the log is full")

    busy = start(connections=1, spare=1)
    assert busy.client(LIVE).good()
    assert busy.client(LIVE).good()
    busy.server.observer = Failing()
    assert busy.client(LIVE).rest() == []
    assert "the log is full" in capfd.readouterr().err
    busy.server.observer = None
    [answer] = busy.client(LIVE).rest()
    assert answer.status == 503
