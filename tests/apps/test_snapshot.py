"""`GET /v1/snapshot`: a copy of a node's records that starts as it is, one at a time, and never a part of one for the whole."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from gkv.api.http import render_unread
from gkv.engine import LmdbEngine, MemoryEngine
from gkv.errors import EngineError, Unavailable
from gkv.model import Version, Write
from gkv.net.server import Server, ServerLimits, listen
from gkv.node import backup as backup_module
from gkv.node.backup import Backup
from gkv.ring import tokens
from tests.apps.connection import Client, GoneError

GET = b"GET /v1/snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n"
CANARY = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
RECORDS = {f"key{i}": b'"%b"' % (b"%d" % i * 600) for i in range(3_000)}
"""More than the sockets and the pipe on the way hold, so that a copy waits for who reads it."""


def wait_until(condition: Callable[[], object]) -> None:
    until = monotonic() + 10
    while not condition():
        assert monotonic() < until
        gevent.sleep(0.005)


@pytest.fixture
def house(build_node, document, tmp_path):
    """Return a node with records on disk that is the only member of its cluster."""
    house = build_node(engine=LmdbEngine(tmp_path / "n1", "n1", tokens))
    assert house.service.adopt(document)
    house.put(RECORDS)
    house.put({"key7": None, "key8": b"8"})
    return house


@pytest.fixture
def connect(house) -> Iterator[Callable[[], Client]]:
    """Return what opens connections to the node's server."""
    listener = listen("127.0.0.1", 0)
    server = Server(house.app, listener, render_unread, limits=ServerLimits(tick=0.02, linger=0.1))
    server.start()
    clients: list[Client] = []

    def client() -> Client:
        clients.append(Client(listener.getsockname()[1]))
        return clients[-1]

    yield client
    for one in clients:
        one.socket.close()
    assert server.drain(10)


def opened(data: bytes, directory: Any, house: Any) -> dict[str, bytes]:
    """Open a copy as a node would, in a new directory; return its records."""
    directory.mkdir()
    (directory / "data.mdb").write_bytes(data)
    engine = LmdbEngine(directory, "n1", tokens)
    try:
        assert engine.check() == []
        assert engine.cluster == house.engine.cluster
        assert (engine.live, engine.tombstones) == (house.engine.live, house.engine.tombstones)
        keys = [key for key, _ in engine.keys("", "", 10_000)]
        found = engine.read(keys, house.wall())
        assert engine.records_of(["key7"])[0] == house.engine.records_of(["key7"])[0]
        return dict(zip(keys, found, strict=True))
    finally:
        engine.close()


EXPECTED = {key: value for key, value in RECORDS.items() if key != "key7"} | {"key8": b"8"}


def test_copy_over_a_socket_comes_in_chunks_and_starts_with_every_record(house, connect, tmp_path):
    client = connect()
    client.send(GET + CANARY)
    answer, chunks = client.read_chunks()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
    assert answer.headers["content-disposition"] == 'attachment; filename="data.mdb"'
    assert answer.headers["x-request-id"]
    assert len(chunks) > 1
    assert client.good().body == b"ok\n"
    assert opened(b"".join(chunks), tmp_path / "copy", house) == EXPECTED


def test_copy_to_http_1_0_ends_with_the_connection(house, connect, tmp_path):
    client = connect()
    client.send(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    data = b"".join(iter(lambda: client.socket.recv(1 << 20), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    assert b"chunked" not in head
    assert opened(body, tmp_path / "copy", house) == EXPECTED


def test_copy_in_process_is_the_same(house, tmp_path):
    answer = house.client("GET", "/v1/snapshot")
    assert answer.status == 200
    assert opened(answer.body, tmp_path / "copy", house) == EXPECTED


def test_copy_has_each_write_whole_or_not_at_all_while_writing_goes_on(house, connect, tmp_path):
    ended = False

    def write() -> int:
        turn = 0
        while not ended:
            turn += 1
            house.put({f"pair{turn}-{side}": b"%d" % turn for side in "ab"})
        return turn

    writer = gevent.spawn(write)
    client = connect()
    client.send(GET)
    client.read()
    gevent.sleep(0.05)  # the writer goes on while the copy waits for its reader
    before = house.engine.live
    assert before > len(EXPECTED)
    client2 = connect()
    client2.send(CANARY)
    assert client2.good().body == b"ok\n"
    chunks = rest_of(client)
    ended = True
    turns = writer.get(timeout=10)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "data.mdb").write_bytes(b"".join(chunks))
    engine = LmdbEngine(tmp_path / "copy", "n1", tokens)
    try:
        assert engine.check() == []
        pairs = [key for key, _ in engine.keys("pair", "", 10_000)]
        assert len(pairs) % 2 == 0
        assert len(pairs) <= 2 * turns
        assert {key[:-1] + "b" for key in pairs} == {key for key in pairs if key.endswith("b")}
    finally:
        engine.close()


def rest_of(client: Client) -> list[bytes]:
    """Return the chunks that are still to come."""
    chunks = []
    while size := int(client._until(b"\r\n"), 16):
        chunks.append(client._until(b"", size + 2)[:-2])
    return chunks


# -- one at a time


def test_second_copy_while_one_is_on_its_way_is_503_and_the_first_is_whole(house, connect, tmp_path):
    first, second = connect(), connect()
    first.send(GET)
    assert first.read().status == 200
    second.send(GET)
    answer = second.read()
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    assert b"another snapshot of this node is on its way" in answer.body
    assert house.client("GET", "/v1/snapshot").status == 503
    assert opened(b"".join(rest_of(first)), tmp_path / "copy", house) == EXPECTED
    second.send(GET)
    _, chunks = second.read_chunks()
    assert opened(b"".join(chunks), tmp_path / "another", house) == EXPECTED


@pytest.mark.parametrize("how", ["reset", "close"])
def test_client_that_leaves_ends_its_copy_and_the_next_one_works(how, house, connect, tmp_path):
    for _ in range(3):
        client = connect()
        client.send(GET)
        assert client.read().status == 200
        client.reset() if how == "reset" else client.socket.close()
        wait_until(lambda: house.client("HEAD", "/v1/snapshot").status == 200)
    answer = house.client("GET", "/v1/snapshot")
    assert opened(answer.body, tmp_path / "copy", house) == EXPECTED


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_copies_that_end_early_leave_no_file_descriptors(house, connect):
    house.client("HEAD", "/v1/snapshot")
    before = open_files()
    for _ in range(5):
        assert house.client("HEAD", "/v1/snapshot").status == 200
    assert open_files() == before


def test_writes_are_acknowledged_while_a_copy_waits_for_its_reader(house, connect):
    client = connect()
    client.send(GET)
    assert client.read().status == 200
    for i in range(20):
        answer = house.client("POST", "/set", b'[{"key":"new%d","value":%d}]' % (i, i))
        assert answer.status == 200
    rest_of(client)
    assert house.read(["new19"]) == [b"19"]


# -- a slow reader


def test_writes_of_many_times_the_store_go_on_while_a_copy_waits_for_its_reader(house, connect):
    before = house.engine.store_figures.map_bytes
    client = connect()
    client.send(GET)
    assert client.read().status == 200
    written = 0
    while written < 2 * before:  # none of it can use a page that the copy may still read
        written += 40 * 100_000
        house.put({f"key{i}": b"%d" % written + bytes(100_000) for i in range(40)})
    assert house.engine.store_figures.snapshot_seconds > 0
    assert house.engine.store_figures.refused_by_snapshot == 0
    rest_of(client)
    wait_until(lambda: house.engine.store_figures.snapshot_seconds is None)


def figures(backup: Backup) -> dict[str, float]:
    return {one.name: next(iter(one.samples))[1] for one in backup.figures()}


@pytest.mark.parametrize("takes", [0, 3])
def test_reader_that_takes_next_to_nothing_is_cut_off_with_a_line_and_the_next_one_works(house, takes, capfd):
    backup = Backup(house.commits.snapshot, grace=0.2)
    with closing(backup.begin()) as stream:
        for _ in range(takes):
            next(stream)
        wait_until(lambda: figures(backup) == {"gkv_snapshots_cut_total": 1})
        assert house.engine.store_figures.snapshot_seconds is None
        assert capfd.readouterr().err.count("a snapshot is cut off: its reader took") == 1
        with pytest.raises(Unavailable):
            list(stream)
    again = backup.begin()
    assert sum(map(len, again)) > 1_000_000
    again.close()
    assert figures(backup) == {"gkv_snapshots_cut_total": 1}


def test_reader_that_takes_enough_is_not_cut_off_however_long_it_takes(house):
    backup = Backup(house.commits.snapshot, grace=0.3)
    stream = backup.begin()
    size = 0
    for piece in stream:
        size += len(piece)
        gevent.sleep(0.03)  # all of it takes longer than the grace, at some megabytes a second
    stream.close()
    assert size > 1_000_000
    assert figures(backup) == {"gkv_snapshots_cut_total": 0}


@pytest.mark.parametrize("taken", [1, 2])
def test_end_of_the_node_ends_the_copy_under_way_first(house, taken):
    backup = Backup(house.commits.snapshot)
    stream = backup.begin()
    for _ in range(taken):
        next(stream)
    backup.close()
    assert house.engine.store_figures.snapshot_seconds is None  # nothing reads the store any more
    with pytest.raises(Unavailable, match="shutting down"):
        list(stream)
    with pytest.raises(Unavailable, match="shutting down"):
        backup.begin()
    backup.close()
    assert figures(backup) == {"gkv_snapshots_cut_total": 0}


def test_end_of_the_node_waits_for_a_copy_whose_reader_waits_for_the_disk(house):
    goes_on, copy = threading.Event(), house.engine.copy_snapshot

    def slow(fd: int) -> None:
        os.write(fd, b"x" * 1_000)
        assert goes_on.wait(10)
        copy(fd)

    house.engine.copy_snapshot = slow
    backup = Backup(house.commits.snapshot)
    stream = backup.begin()
    next(stream)
    reading = gevent.spawn(next, stream)
    gevent.sleep(0)
    closing_it = gevent.spawn(backup.close)
    gevent.sleep(0)
    assert not closing_it.ready()
    goes_on.set()
    closing_it.get(timeout=10)
    assert house.engine.store_figures.snapshot_seconds is None
    with pytest.raises(Unavailable, match="shutting down"):
        reading.get(timeout=10)


def test_reader_that_left_is_not_said_to_be_slow(house, capfd):
    backup = Backup(house.commits.snapshot, grace=0.2)
    stream = backup.begin()
    next(stream)
    gevent.sleep(0)  # so that the watch over it has begun
    stream._waited, stream._taken = 0.2, 0  # it leaves just before it is judged
    stream.close()
    stream._judging.join(10)
    assert stream._judging.dead
    assert "cut off" not in capfd.readouterr().err


# -- when there is none


def test_memory_engine_answers_501_and_says_why(build_node, document):
    house = build_node(engine=MemoryEngine(tokens))
    house.service.adopt(document)
    for _ in range(2):
        answer = house.client("GET", "/v1/snapshot")
        assert (answer.status, answer.json()["type"]) == (501, "urn:gkv:problem:not-supported")
        assert "in memory" in answer.json()["detail"]


def test_snapshot_takes_no_parameters_and_no_other_method(house):
    assert house.client("GET", "/v1/snapshot?x=1").status == 400
    for method in ("POST", "PUT", "DELETE"):
        assert house.client(method, "/v1/snapshot").status == 405
    assert house.client("HEAD", "/v1/snapshot").status == 200


def test_copy_that_fails_before_its_first_byte_is_an_error_and_the_next_one_works(house, tmp_path):
    snapshot = house.engine.copy_snapshot

    def refuse(_fd: int) -> None:
        raise EngineError("the disk cannot be read")

    house.engine.copy_snapshot = refuse
    for _ in range(2):
        answer = house.client("GET", "/v1/snapshot")
        assert (answer.status, answer.json()["type"]) == (503, "urn:gkv:problem:engine")
    house.engine.copy_snapshot = snapshot
    assert opened(house.client("GET", "/v1/snapshot").body, tmp_path / "copy", house) == EXPECTED


def test_copy_that_fails_on_its_way_never_passes_for_whole(house, connect, capfd):
    def break_off(fd: int) -> None:
        os.write(fd, b"x" * 100_000)
        raise EngineError("the disk cannot be read any more")

    house.engine.copy_snapshot = break_off
    client = connect()
    client.send(GET)
    with pytest.raises(GoneError):
        client.read_chunks()
    assert "the answer broke off: the disk cannot be read any more" in capfd.readouterr().err
    assert house.client("HEAD", "/v1/snapshot").status == 200


def test_copy_of_a_node_that_never_joined_starts_as_well(build_node, tmp_path):
    engine = LmdbEngine(tmp_path / "n1", "n1", tokens)
    house = build_node(engine=engine)
    engine.write([Write(Version(random.getrandbits(40), 1), ["a"], [b"1"])], house.wall())
    data = house.client("GET", "/v1/snapshot").body
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "data.mdb").write_bytes(data)
    copy = LmdbEngine(tmp_path / "copy", "n1", tokens)
    assert (copy.read(["a"], house.wall()), copy.cluster) == ([b"1"], None)
    copy.close()


def test_reader_that_the_server_cuts_off_since_it_takes_nothing_is_said_and_counted(house, capfd, monkeypatch):
    backup = Backup(house.commits.snapshot)
    stream = backup.begin()
    next(stream)
    now = backup_module.monotonic()
    monkeypatch.setattr(backup_module, "monotonic", lambda: now + 29.5)
    stream.close()
    assert figures(backup) == {"gkv_snapshots_cut_total": 1}
    assert "a snapshot is cut off: its reader has taken nothing for" in capfd.readouterr().err


def test_reader_that_leaves_is_not_cut_off(house, capfd):
    backup = Backup(house.commits.snapshot)
    stream = backup.begin()
    next(stream)
    stream.close()
    assert figures(backup) == {"gkv_snapshots_cut_total": 0}
    assert "cut off" not in capfd.readouterr().err


def test_copy_that_lacks_what_the_node_is_being_filled_with_is_refused_or_broken_off(house):
    answers = iter([False, True, False])
    backup = Backup(house.commits.snapshot, is_whole=lambda: next(answers))
    with pytest.raises(Unavailable, match="would not be whole"):
        backup.begin()
    pieces = backup.begin()  # the filling begins while the copy does
    with pytest.raises(Unavailable, match="would not be whole"):
        list(pieces)
    backup.close()
