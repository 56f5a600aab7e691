"""The channel, against peers on loopback that answer, answer wrongly, answer late or not at all."""

import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from gkv.model import NodeReply, Outcome
from gkv.net import dialing
from gkv.net.admission import Budget
from gkv.net.call import Lane, ask_all
from gkv.net.channel import Channel, ChannelLimits
from gkv.net.peer import PATHS
from gkv.net.retries import Retries
from gkv.net.trace import TracedId
from gkv.replication.questions import USUAL

Handler = Callable[[Any], None]


def read_request(connection: Any) -> list[bytes] | None:
    """Read one request; return its frames, or None at the end of the connection."""
    request = read_paths(connection)
    return None if request is None else request[1]


def read_paths(connection: Any) -> tuple[bytes, list[bytes]] | None:
    """Read one request; return its path and its frames, or None at the end of the connection."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65_536)
        if not chunk:
            return None
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(headers[b"Content-Length"]):
        body += connection.recv(65_536)
    preface, _, body = body.partition(b"\n")
    assert preface.startswith(b"gkv/2 0000000000000000 0 ")
    frames = []
    for size in map(int, preface.split(b" ")[3].split(b",")):
        frames.append(body[:size])
        body = body[size:]
    assert not body
    return head.split(b" ")[1], frames


def answer(frames: list[bytes]) -> bytes:
    """Return a right answer with these frames."""
    lengths = ",".join(str(len(frame)) for frame in frames)
    return ok(f"gkv/2 0000000000000000 7 {lengths}\n".encode() + b"".join(frames))


def ok(body: bytes) -> bytes:
    """Return an answer with this body."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"


class Peer:
    """A node on loopback whose behaviour is a function of the connection."""

    def __init__(self, handle: Handler, port: int = 0) -> None:
        self.connections = 0

        def run(connection: Any, _address: Any) -> None:
            self.connections += 1
            handle(connection)

        self._server = StreamServer(("127.0.0.1", port), run)
        self._server.start()
        self.port: int = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop(timeout=0)


@pytest.fixture
def peer() -> Iterator[Callable[[Handler], Peer]]:
    """Start peers that end with the test."""
    peers: list[Peer] = []

    def start(handle: Handler, port: int = 0) -> Peer:
        peers.append(Peer(handle, port))
        return peers[-1]

    yield start
    for running in peers:
        running.stop()


@pytest.fixture
def channel() -> Iterator[Callable[..., Channel]]:
    """Open channels that are closed after the test."""
    channels: list[Channel] = []

    def open_channel(url: str, **limits: Any) -> Channel:
        channels.append(Channel(url, ChannelLimits(**limits)))
        return channels[-1]

    yield open_channel
    for opened in channels:
        opened.close()


def echo(connection: Any) -> None:
    while (frames := read_request(connection)) is not None:
        connection.sendall(answer([b"<" + frame + b">" for frame in frames]))


def ask(to: Channel, frame: bytes = b"hello", seconds: float = 5.0, *, lane: Lane = Lane.READ) -> NodeReply:
    [reply] = ask_all([(to, frame)], monotonic() + seconds, lane=lane)
    return reply


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_call_answered_returns_the_frame(peer: Any, channel: Any) -> None:
    assert ask(channel(peer(echo).url)) == NodeReply(Outcome.ANSWERED, b"<hello>", sent=True)


class Named:
    """The names of a member's process, whose document has one acting at every URL."""

    incarnation = 0

    def __init__(self, acting: int | None) -> None:
        self._acting = acting

    def epoch(self) -> int:
        return 0

    def expected(self, _url: str) -> int | None:
        return self._acting


@pytest.mark.parametrize(("acting", "counts"), [(0, True), (None, True), (5, False)], ids=["it", "unknown", "another"])
def test_answer_of_another_process_than_the_documents_counts_only_as_a_refusal(
    peer: Any, acting: int | None, counts: bool
) -> None:
    def refuse_or_answer(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            refused = b'{"refused":"stale","document":null}\n'
            connection.sendall(answer([refused if frame == b"refuse" else b'{"effects":"c"}\n' for frame in frames]))

    to = Channel(peer(refuse_or_answer).url, names=Named(acting))
    try:
        for lane in (Lane.READ, Lane.WRITE):
            reply = ask(to, lane=lane)
            assert (reply.outcome, reply.sent) == (Outcome.ANSWERED if counts else Outcome.LOST, True)
            assert ask(to, b"refuse", lane=lane).outcome is Outcome.ANSWERED
        assert ask(to, lane=Lane.BACKGROUND).outcome is Outcome.ANSWERED  # which asks who is there
    finally:
        to.close()


def test_calls_in_a_row_share_one_connection(peer: Any, channel: Any) -> None:
    node = peer(echo)
    to = channel(node.url)
    assert [ask(to, b"%d" % i).frame for i in range(50)] == [b"<%d>" % i for i in range(50)]
    assert node.connections == 1


def test_calls_that_wait_are_gathered_into_one_request(peer: Any, channel: Any) -> None:
    sizes: list[int] = []
    first_arrived, go_on = Event(), Event()

    def slow_first(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            sizes.append(len(frames))
            if len(sizes) == 1:
                first_arrived.set()
                go_on.wait(5)
            connection.sendall(answer([frame.upper() for frame in frames]))

    to = channel(peer(slow_first).url, readers=1)
    first = gevent.spawn(ask, to, b"first")
    assert first_arrived.wait(5)
    others = [gevent.spawn(ask, to, b"key%d" % i) for i in range(20)]
    gevent.idle()
    go_on.set()
    assert first.get(timeout=5).frame == b"FIRST"
    assert [other.get(timeout=5).frame for other in others] == [b"KEY%d" % i for i in range(20)]
    assert sizes == [1, 20]


def test_reads_do_not_wait_behind_a_commit_and_writes_gather_behind_it(peer: Any, channel: Any) -> None:
    writes: list[list[bytes]] = []
    at_the_disk, go_on = Event(), Event()

    def slow_disk(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            if frames[0].startswith(b"set"):
                writes.append(frames)
                at_the_disk.set()
                go_on.wait(5)
            connection.sendall(answer(frames))

    to = channel(peer(slow_disk).url)
    sets = [gevent.spawn(ask, to, b"set", lane=Lane.WRITE)]
    assert at_the_disk.wait(5)
    sets += [gevent.spawn(ask, to, b"set%d" % i, lane=Lane.WRITE) for i in range(5)]
    gevent.idle()
    assert [ask(to, b"get%d" % i).outcome for i in range(5)] == [Outcome.ANSWERED] * 5
    assert len(writes) == 1
    go_on.set()
    gevent.joinall(sets, timeout=5)
    assert writes == [[b"set"], [b"set%d" % i for i in range(5)]]


@pytest.mark.parametrize("busy", Lane)
def test_lanes_have_connections_and_bounds_of_their_own(peer: Any, channel: Any, busy: Lane) -> None:
    """Whichever of them is full of calls that are not answered, the others' are; and each says in the path what it is."""
    paths: list[bytes] = []
    go_on = Event()

    def hold(connection: Any) -> None:
        while (request := read_paths(connection)) is not None:
            path, frames = request
            paths.append(path)
            if frames[0] == b"held":
                go_on.wait(5)
            connection.sendall(answer(frames))

    node = peer(hold)
    to = channel(node.url, readers=1, awaiting=1, waiting_calls=2)
    held = [gevent.spawn(ask, to, b"held", lane=busy)]
    until = monotonic() + 5
    while not paths:
        assert monotonic() < until
        gevent.sleep(0.001)
    held += [gevent.spawn(ask, to, b"held", lane=busy) for _ in range(2)]
    gevent.idle()
    assert ask(to, b"more", lane=busy).outcome is Outcome.OVERLOADED
    others = [lane for lane in Lane if lane is not busy]
    assert [ask(to, b"other", lane=lane).outcome for lane in others] == [Outcome.ANSWERED] * (len(Lane) - 1)
    assert node.connections == len(Lane)
    assert paths == [PATHS[lane].encode() for lane in (busy, *others)]
    go_on.set()
    assert all(call.get(timeout=5).outcome is Outcome.ANSWERED for call in held)
    assert node.connections == len(Lane)


def test_gathering_is_bounded_in_calls_and_bytes(peer: Any, channel: Any) -> None:
    sizes: list[list[int]] = []
    first_arrived, go_on = Event(), Event()

    def record(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            sizes.append([len(frame) for frame in frames])
            if len(sizes) == 1:
                first_arrived.set()
                go_on.wait(5)
            connection.sendall(answer(frames))

    to = channel(peer(record).url, readers=1, gathered_calls=3, gathered_bytes=100)
    calls = [gevent.spawn(ask, to, b"x")]
    assert first_arrived.wait(5)
    calls += [gevent.spawn(ask, to, b"x" * size) for size in (1, 2, 3, 4, 60, 60, 500, 5)]
    gevent.idle()
    go_on.set()
    assert all(call.get(timeout=5).outcome is Outcome.ANSWERED for call in calls)
    assert sizes == [[1], [1, 2, 3], [4, 60], [60], [500], [5]]


@pytest.mark.parametrize("bound", [{"gathered_calls": 3}, {"gathered_bytes": 15}], ids=["calls", "bytes"])
def test_what_one_request_does_not_hold_goes_over_the_next_connection_at_once(bound: Any, peer: Any, channel: Any) -> None:
    """Both when connections are made and when they lie idle, and without another call that sets them going."""
    sizes: list[int] = []
    go_on = Event()

    def hold(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            sizes.append(len(frames))
            if len(sizes) == 2:
                go_on.set()
            go_on.wait()
            connection.sendall(answer(frames))

    to = channel(peer(hold).url, readers=2, **bound)
    for _ in range(2):
        replies = ask_all([(to, b"hello")] * 6, monotonic() + 2)
        assert [reply.outcome for reply in replies] == [Outcome.ANSWERED] * 6
        assert sizes == [3, 3]
        sizes.clear()
        go_on.clear()


@pytest.mark.promise("I7")
def test_outbox_beyond_its_bound_refuses_at_once(peer: Any, channel: Any) -> None:
    arrived, go_on = Event(), Event()

    def hold(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            arrived.set()
            go_on.wait(5)
            connection.sendall(answer(frames))

    to = channel(peer(hold).url, readers=1, waiting_calls=4)
    held = [gevent.spawn(ask, to)]
    assert arrived.wait(5)
    held += [gevent.spawn(ask, to) for _ in range(4)]
    gevent.idle()
    before = monotonic()
    reply = ask(to)
    assert (reply.outcome, reply.sent) == (Outcome.OVERLOADED, False)
    assert monotonic() - before < 1
    go_on.set()
    assert all(call.get(timeout=5).outcome is Outcome.ANSWERED for call in held)


def test_outbox_is_bounded_in_bytes_but_takes_one_large_call(peer: Any, channel: Any) -> None:
    arrived, go_on = Event(), Event()

    def hold(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            arrived.set()
            go_on.wait(5)
            connection.sendall(answer(frames))

    to = channel(peer(hold).url, readers=1, waiting_bytes=1_000)
    held = [gevent.spawn(ask, to)]
    assert arrived.wait(5)
    held.append(gevent.spawn(ask, to, b"x" * 5_000))
    gevent.idle()
    refused = ask(to, b"y")
    assert (refused.outcome, refused.detail) == (Outcome.OVERLOADED, "calls of 5000 bytes wait for this node")
    go_on.set()
    assert all(call.get(timeout=5).outcome is Outcome.ANSWERED for call in held)


@pytest.mark.promise("I8")
def test_silent_node_times_out_within_the_deadline_and_is_asked_anew(peer: Any, channel: Any) -> None:
    answering = False

    def silent_then_not(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            if answering:
                connection.sendall(answer(frames))

    to = channel(peer(silent_then_not).url)
    before = monotonic()
    reply = ask(to, seconds=0.2)
    assert (reply.outcome, reply.sent) == (Outcome.TIMEOUT, True)
    assert 0.15 < monotonic() - before < 2
    answering = True
    assert ask(to, b"again").frame == b"again"


def test_late_answer_is_never_given_to_another_call(peer: Any, channel: Any) -> None:
    release = Event()

    def late_first(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            if frames == [b"first"]:
                release.wait(5)
            try:
                connection.sendall(answer(frames))
            except OSError:
                return

    to = channel(peer(late_first).url, readers=1)
    assert ask(to, b"first", seconds=0.1).outcome is Outcome.TIMEOUT
    release.set()
    assert [ask(to, b"%d" % i).frame for i in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_call_that_expires_in_the_outbox_is_never_sent(peer: Any, channel: Any) -> None:
    seen: list[bytes] = []
    arrived, go_on = Event(), Event()

    def hold(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            seen.extend(frames)
            arrived.set()
            go_on.wait(5)
            connection.sendall(answer(frames))

    to = channel(peer(hold).url, readers=1)
    held = gevent.spawn(ask, to, b"held")
    assert arrived.wait(5)
    reply = ask(to, b"expired", seconds=0.05)
    assert (reply.outcome, reply.sent) == (Outcome.TIMEOUT, False)
    go_on.set()
    assert held.get(timeout=5).outcome is Outcome.ANSWERED
    assert ask(to, b"last").outcome is Outcome.ANSWERED
    assert seen == [b"held", b"last"]


@pytest.fixture
def may_connect(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Return what every new connection of a channel waits for, as for the lookup of a name."""
    may = Event()
    connect = dialing.dial

    def wait_and_connect(*arguments: Any) -> Any:
        assert may.wait(5)
        return connect(*arguments)

    monkeypatch.setattr("gkv.net.sender.dial", wait_and_connect)
    return may


def recording(seen: list[bytes]) -> Handler:
    """Return a node that answers, and notes the frames that it has received."""

    def record(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            seen.extend(frames)
            connection.sendall(answer(frames))

    return record


def test_call_that_expires_while_the_connection_is_made_is_never_sent(peer: Any, channel: Any, may_connect: Event) -> None:
    seen: list[bytes] = []
    to = channel(peer(recording(seen)).url, readers=1)
    late, other = gevent.spawn(ask, to, b"late", 0.1), gevent.spawn(ask, to, b"other")
    reply = late.get(timeout=5)
    assert (reply.outcome, reply.sent) == (Outcome.TIMEOUT, False)
    may_connect.set()
    assert other.get(timeout=5).frame == b"other"
    assert seen == [b"other"]
    assert to.figures().calls["timeout"] == 1


def test_nothing_is_sent_when_every_call_expires_while_the_connection_is_made(
    peer: Any, channel: Any, may_connect: Event
) -> None:
    """Nobody would end the wait for an answer to it."""
    seen: list[bytes] = []
    node = peer(recording(seen))
    to = channel(node.url, readers=1)
    reply = ask(to, b"late", 0.1)
    assert (reply.outcome, reply.sent) == (Outcome.TIMEOUT, False)
    may_connect.set()
    assert ask(to, b"next").frame == b"next"
    assert seen == [b"next"]
    assert (node.connections, to.figures().requests) == (1, 1)


def test_nobody_listening_is_unreachable_and_not_sent(channel: Any) -> None:
    reply = ask(channel(f"http://127.0.0.1:{unused_port()}"))
    assert (reply.outcome, reply.sent) == (Outcome.UNREACHABLE, False)


def test_unreachable_node_is_left_alone_for_a_while_then_tried_again(peer: Any, channel: Any) -> None:
    port = unused_port()
    to = channel(f"http://127.0.0.1:{port}")
    assert ask(to).outcome is Outcome.UNREACHABLE
    node = peer(echo, port)
    assert ask(to).outcome is Outcome.UNREACHABLE
    assert node.connections == 0
    until = monotonic() + 5
    while ask(to).outcome is not Outcome.ANSWERED:
        assert monotonic() < until
        gevent.sleep(0.01)


def test_node_that_is_there_again_is_tried_at_once(peer: Any, channel: Any) -> None:
    port = unused_port()
    to = channel(f"http://127.0.0.1:{port}")
    assert ask(to).outcome is Outcome.UNREACHABLE
    peer(echo, port)
    assert ask(to).outcome is Outcome.UNREACHABLE
    to.reached()
    assert ask(to).outcome is Outcome.ANSWERED


def test_first_packet_that_is_lost_is_soon_followed_by_another(channel: Any) -> None:
    """Both in less than the second after which a member that is silent is complained of."""
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):  # as many as it keeps; the packets of others are dropped
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        to = channel(f"http://127.0.0.1:{full.getsockname()[1]}")
        began = monotonic()
        reply = ask(to)
        took = monotonic() - began
    assert (reply.outcome, reply.sent) == (Outcome.UNREACHABLE, False)
    assert took < USUAL.silence / 2


def test_closed_channel_stays_closed_whoever_is_there_again(peer: Any, channel: Any) -> None:
    to = channel(peer(echo).url)
    to.close()
    to.reached()
    assert ask(to).outcome is Outcome.UNREACHABLE


def test_last_answer_on_a_connection_is_honoured_and_frees_the_node_of_the_idle_ones(peer: Any, channel: Any) -> None:
    both, ended = Event(), Event()
    gone = []

    def leaving(connection: Any) -> None:
        frames = read_request(connection)
        if frames == [b"first"]:
            both.wait(5)
        connection.sendall(answer(frames or []))
        frames = read_request(connection)
        if frames is not None:
            last = answer(frames).replace(b"Content-Length", b"Connection: close\r\nContent-Length", 1)
            connection.sendall(last)
            frames = read_request(connection)  # a channel that sent a write now could not know what became of it
        gone.append(frames)
        if len(gone) == 2:
            ended.set()

    node = peer(leaving)
    to = channel(node.url, readers=2)
    first = gevent.spawn(ask, to, b"first")
    gevent.idle()
    assert ask(to, b"second").outcome is Outcome.ANSWERED
    both.set()
    assert first.get(timeout=5).outcome is Outcome.ANSWERED
    assert node.connections == 2
    node.stop()
    assert ask(to, b"last").outcome is Outcome.ANSWERED
    assert ended.wait(5)
    assert gone == [None, None]
    reply = ask(to, b"write")
    assert (reply.outcome, reply.sent) == (Outcome.UNREACHABLE, False)


def test_connection_that_a_node_ended_while_it_was_idle_is_not_written_to(peer: Any, channel: Any, monkeypatch: Any) -> None:
    """The node is gone for good: a write that was never sent must not count as one that the node may have seen."""
    monkeypatch.setattr("gkv.net.sender._TRUSTED", 0.0)
    ended = Event()

    def one_answer(connection: Any) -> None:
        connection.sendall(answer(read_request(connection) or []))
        connection.close()
        ended.set()

    node = peer(one_answer)
    to = channel(node.url)
    assert ask(to).outcome is Outcome.ANSWERED
    assert ended.wait(5)
    node.stop()
    reply = ask(to)
    assert (reply.outcome, reply.sent) == (Outcome.UNREACHABLE, False)


def test_connection_closed_while_idle_is_replaced_without_a_failure(peer: Any, channel: Any) -> None:
    closing = Event()

    def one_answer(connection: Any) -> None:
        frames = read_request(connection)
        assert frames is not None
        connection.sendall(answer(frames))
        connection.close()
        closing.set()

    node = peer(one_answer)
    to = channel(node.url)
    for i in range(3):
        closing.clear()
        assert ask(to, b"%d" % i).frame == b"%d" % i
        assert closing.wait(5)
    assert node.connections == 3


def test_call_that_the_node_may_have_done_is_not_taken_for_refused_when_it_is_refused_again(peer: Any, channel: Any) -> None:
    """The first attempt broke before an answer; whoever refuses the second one knows nothing of it."""
    done: list[bytes] = []

    def die_in_the_second(connection: Any) -> None:
        if node.connections == 1:
            connection.sendall(answer(read_request(connection) or []))
            done.extend(read_request(connection) or [])
            connection.close()
        elif read_request(connection) is not None:
            connection.sendall(BUSY)

    node = peer(die_in_the_second)
    to = channel(node.url, readers=1)
    assert ask(to, b"first").outcome is Outcome.ANSWERED
    reply = ask(to, b"second")
    assert done == [b"second"]
    assert (reply.outcome, reply.sent) == (Outcome.OVERLOADED, True)


def reset(connection: Any) -> None:
    """End a connection so that the other side's next call on it fails."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def take_some(connection: Any) -> None:
    connection.recv(1)


def take_the_head(connection: Any) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1)


def take_all(connection: Any) -> None:
    read_request(connection)


def begin_to_answer(connection: Any) -> None:
    connection.sendall(answer(read_request(connection) or [])[:9])


@pytest.mark.promise("I18")
@pytest.mark.parametrize("end", [lambda connection: connection.close(), reset], ids=["closed", "reset"])
@pytest.mark.parametrize("point", [take_some, take_the_head, take_all, begin_to_answer])
def test_write_of_which_a_byte_may_have_been_received_is_never_sent_again(
    point: Handler, end: Handler, peer: Any, channel: Any
) -> None:
    seen: list[bytes] = []

    def break_off_the_second(connection: Any) -> None:
        if node.connections == 1:
            connection.sendall(answer(read_request(connection) or []))
            point(connection)
            end(connection)
        else:
            recording(seen)(connection)

    node = peer(break_off_the_second)
    to = channel(node.url)
    assert ask(to, b"first", lane=Lane.WRITE).outcome is Outcome.ANSWERED
    reply = ask(to, b"second", lane=Lane.WRITE)
    assert (reply.outcome, reply.sent) == (Outcome.LOST, True)
    assert ask(to, b"third", lane=Lane.WRITE).outcome is Outcome.ANSWERED
    assert (seen, node.connections) == ([b"third"], 2)


@pytest.mark.promise("I18")
@pytest.mark.parametrize("end", [lambda connection: connection.close(), reset], ids=["closed", "reset"])
def test_connection_for_writes_is_looked_at_however_lately_it_was_used(end: Handler, peer: Any, channel: Any) -> None:
    seen: list[bytes] = []
    ended = Event()

    def one_answer(connection: Any) -> None:
        frames = read_request(connection) or []
        seen.extend(frames)
        connection.sendall(answer(frames))
        end(connection)
        ended.set()

    node = peer(one_answer)
    to = channel(node.url)
    for i in range(5):
        ended.clear()
        assert ask(to, b"%d" % i, lane=Lane.WRITE).outcome is Outcome.ANSWERED
        assert ended.wait(5)
    assert (seen, node.connections) == ([b"0", b"1", b"2", b"3", b"4"], 5)


def test_write_that_fails_before_its_first_byte_goes_over_a_new_connection(peer: Any, channel: Any, monkeypatch: Any) -> None:
    """The connection breaks between the look at it and the send."""
    monkeypatch.setattr("gkv.net.sender.is_over", lambda _socket: False)
    seen: list[bytes] = []
    ended = Event()

    def one_answer(connection: Any) -> None:
        if node.connections == 1:
            frames = read_request(connection) or []
            connection.sendall(answer(frames))
            reset(connection)
            ended.set()
        else:
            recording(seen)(connection)

    node = peer(one_answer)
    to = channel(node.url)
    assert ask(to, b"first", lane=Lane.WRITE).outcome is Outcome.ANSWERED
    assert ended.wait(5)
    assert ask(to, b"second", lane=Lane.WRITE).outcome is Outcome.ANSWERED
    assert (seen, node.connections) == ([b"second"], 2)


def test_write_that_fails_before_its_first_byte_at_a_node_that_is_gone_was_not_sent(
    peer: Any, channel: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("gkv.net.sender.is_over", lambda _socket: False)
    ended = Event()

    def one_answer(connection: Any) -> None:
        connection.sendall(answer(read_request(connection) or []))
        reset(connection)
        ended.set()

    node = peer(one_answer)
    to = channel(node.url)
    assert ask(to, b"first", lane=Lane.WRITE).outcome is Outcome.ANSWERED
    assert ended.wait(5)
    node.stop()
    reply = ask(to, b"second", lane=Lane.WRITE)
    assert (reply.outcome, reply.sent) == (Outcome.UNREACHABLE, False)


def test_fresh_connection_closed_before_an_answer_is_lost_not_retried(peer: Any, channel: Any) -> None:
    def hang_up(connection: Any) -> None:
        read_request(connection)
        connection.close()

    node = peer(hang_up)
    reply = ask(channel(node.url))
    assert (reply.outcome, reply.sent) == (Outcome.LOST, True)
    assert node.connections == 1


WRONG_ANSWERS = {
    "html": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "error": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\r\n\r\ngkv/2 0000000000000000 7 5\nhello",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\ngkv/2 0000000000000000 7 5\nhello",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\ngkv/2 0000000000000000 7 5\nhello\r\n0\r\n\r\n",
    "no preface": ok(b"hello"),
    "two frames for one": ok(b"gkv/2 0000000000000000 7 2,3\nhello"),
    "fewer bytes than the frames have": ok(b"gkv/2 0000000000000000 7 6\nhello"),
    "more bytes than the frames have": ok(b"gkv/2 0000000000000000 7 4\nhello"),
    "more than announced": ok(b"gkv/2 0000000000000000 7 5\nhello") + b"!",
    "large with a wrong preface": ok(b"gkv/2 0000000000000000 7 99999\n" + bytes(100_000)),
    "another format": ok(b"gkv/2 5\nhello"),
    "over the limit": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000001\r\n\r\n" + b"x" * 10_000,
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X-Filler: 0123456789\r\n" * 5_000,
    "not http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\ngkv/2 0000000000000000 7 490\nhello",
}


@pytest.mark.parametrize("wrong", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS.keys())
def test_wrong_answer_counts_as_lost(wrong: bytes, peer: Any, channel: Any) -> None:
    def answer_wrongly(connection: Any) -> None:
        read_request(connection)
        with suppress(OSError):
            connection.sendall(wrong)
        connection.close()

    reply = ask(channel(peer(answer_wrongly).url))
    assert (reply.outcome, reply.sent, reply.frame) == (Outcome.LOST, True, b"")


def test_endless_answer_ends_with_the_deadline(peer: Any, channel: Any) -> None:
    def trickle(connection: Any) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100032\r\n\r\ngkv/2 0000000000000000 7 100000\n")
        with suppress(OSError):
            while True:
                connection.sendall(b"x")
                gevent.sleep(0.01)

    assert ask(channel(peer(trickle).url), seconds=0.2).outcome is Outcome.TIMEOUT


def test_slow_node_delays_nobody_who_did_not_ask_it(peer: Any, channel: Any) -> None:
    slow = channel(peer(lambda _connection: gevent.sleep(5)).url)
    fast = channel(peer(echo).url)
    waiting = gevent.spawn(ask, slow, b"slow", 3.0)
    before = monotonic()
    for i in range(100):
        assert ask(fast, b"%d" % i).outcome is Outcome.ANSWERED
    assert monotonic() - before < 2
    waiting.kill()


def test_ask_all_gives_one_reply_for_each_in_order(peer: Any, channel: Any) -> None:
    good = channel(peer(echo).url)
    dead = channel(f"http://127.0.0.1:{unused_port()}")
    silent = channel(peer(lambda _connection: gevent.sleep(5)).url)
    replies = ask_all([(good, b"1"), (dead, b"2"), (silent, b"3"), (good, b"4")], monotonic() + 0.3)
    assert [reply.outcome for reply in replies] == [
        Outcome.ANSWERED,
        Outcome.UNREACHABLE,
        Outcome.TIMEOUT,
        Outcome.ANSWERED,
    ]
    assert [replies[0].frame, replies[3].frame] == [b"<1>", b"<4>"]


def test_closed_channel_refuses_and_finishes_what_waits(peer: Any, channel: Any) -> None:
    arrived = Event()

    def hold(connection: Any) -> None:
        read_request(connection)
        arrived.set()
        gevent.sleep(5)

    to = channel(peer(hold).url, readers=1)
    held = [gevent.spawn(ask, to, b"held", 2.0)]
    assert arrived.wait(5)
    held.append(gevent.spawn(ask, to, b"waiting", 2.0))
    gevent.idle()
    to.close()
    assert held[1].get(timeout=1).outcome is Outcome.UNREACHABLE
    assert held[0].get(timeout=1).outcome is Outcome.LOST
    assert ask(to).outcome is Outcome.UNREACHABLE


# -- too much to do, too little memory


def test_node_that_is_too_busy_has_not_seen_the_call(peer: Any, channel: Any) -> None:
    def busy(connection: Any) -> None:
        while read_request(connection) is not None:
            connection.sendall(BUSY)

    reply = ask(channel(peer(busy).url))
    assert (reply.outcome, reply.sent) == (Outcome.OVERLOADED, False)


def test_answers_that_together_are_a_turn_do_not_wait_for_more_than_was_asked_for(peer: Any, channel: Any) -> None:
    """A sender that gives way after the last byte of an answer waits for ever: nothing more comes."""

    def large(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            connection.sendall(answer([frame * 40_000 for frame in frames]))

    to = channel(peer(large).url, readers=1)
    for _ in range(30):
        reply = ask(to)
        assert (reply.outcome, len(reply.frame)) == (Outcome.ANSWERED, 200_000)


def test_large_answer_takes_room_for_as_long_as_it_is_referred_to(peer: Any) -> None:
    def large(connection: Any) -> None:
        while (frames := read_request(connection)) is not None:
            connection.sendall(answer([bytes(100_000) for _ in frames]))

    budget = Budget(150_000)
    to = Channel(peer(large).url, budget=budget)
    reply = ask(to)
    assert (reply.outcome, len(reply.frame)) == (Outcome.ANSWERED, 100_000)
    assert budget.used == 100_000 + len(b"gkv/2 0000000000000000 7 100000\n")
    refused = ask(to)
    assert (refused.outcome, refused.sent) == (Outcome.OVERLOADED, True)  # a write would be indeterminate
    del reply
    assert budget.used == 0
    assert ask(to).outcome is Outcome.ANSWERED
    assert budget.used == 0
    to.close()


def test_request_goes_again_only_while_there_is_a_budget_for_it(peer: Any) -> None:
    connections: list[Any] = []

    def once(connection: Any) -> None:
        connections.append(connection)
        frames = read_request(connection)
        assert frames is not None
        connection.sendall(answer(frames))
        read_request(connection)  # and is gone, without an answer

    retries = Retries(capacity=1)
    to = Channel(peer(once).url, ChannelLimits(readers=1), retries=retries)
    assert ask(to).outcome is Outcome.ANSWERED
    assert ask(to).outcome is Outcome.ANSWERED  # over a second connection
    assert ask(to).outcome is Outcome.LOST
    assert (len(connections), to.figures().reconnects, retries.refused) == (2, 1, 1)
    to.close()


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_socket_that_the_system_cannot_give_is_a_failed_call(peer: Any, channel: Any, monkeypatch: Any, error: int) -> None:
    def refuse(*_arguments: Any) -> None:
        raise OSError(error, os.strerror(error))

    to = channel(peer(echo).url)
    with monkeypatch.context() as patch:
        patch.setattr("gkv.net.sender.dial", refuse)
        reply = ask(to)
        assert (reply.outcome, reply.sent) == (Outcome.UNREACHABLE, False)
        assert os.strerror(error) in reply.detail
    until = monotonic() + 5
    while ask(to).outcome is not Outcome.ANSWERED:
        assert monotonic() < until
        gevent.sleep(0.01)


def test_traces_of_gathered_calls_go_in_the_head_of_their_request_and_cost_the_others_nothing(
    peer: Callable[[Handler], Peer],
) -> None:
    heads = []

    def handle(connection: Any) -> None:
        while request := connection.recv(65_536):
            head, _, body = request.partition(b"\r\n\r\n")
            heads.append(head)
            assert body.endswith(b"\nhello")
            connection.sendall(answer([b"x"]))

    channel = Channel(peer(handle).url)
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for request_id in ("", "a-1", TracedId("a-1", parent, "rojo=1")):
        [reply] = ask_all([(channel, b"hello")], monotonic() + 5, request_id)
        assert (reply.outcome, reply.frame) == (Outcome.ANSWERED, b"x")
    channel.close()
    assert [b"trace" in head for head in heads] == [False, False, True]
    assert heads[2].endswith(f"\r\ntraceparent: {parent}\r\ntracestate: rojo=1".encode())
