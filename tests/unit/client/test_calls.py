"""What is asked again, whom, and for how long; against a server that misbehaves."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest

from gkv.client import (
    Client,
    ClientError,
    ConditionFailed,
    CursorRefused,
    Damaged,
    Indeterminate,
    InvalidRequest,
    Overloaded,
    Refused,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unreachable,
    Untrusted,
    WrongType,
    calls,
    transport,
)
from gkv.client.errors import NOTHING_BEGUN, class_of
from gkv.coordinator.failures import READ_FAILURES, UNANSWERED, WRITE_FAILURES
from tests.certificates import Authority
from tests.cluster.conftest import wait_for
from tests.unit.client.scripted import Act, Scripted, answer, break_off, drip, drop, hang

TAG = '"00000000000000010000000000000002"'
FOUND = answer(200, b"1", ETag=TAG)
WRITTEN = answer(204, ETag=TAG)
WRITES: dict[str, Callable[[Client], Any]] = {
    "set": lambda client: client.set("k", 1),
    "delete": lambda client: client.delete("k"),
    "add": lambda client: client.add("k"),
    "touch": lambda client: client.touch("k", 60),
}


def nobody() -> str:
    """Return the URL of a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_table_says_of_every_failure_of_a_write_whether_it_may_be_repeated() -> None:
    """Held against the server's own tables: no code that may mean that a write was begun is repeated, and all others are."""
    begun = {row.write.code for row in UNANSWERED.values() if row.begun}
    for failure in WRITE_FAILURES:
        kind = class_of(failure.code, 0, retryable=failure.retryable, writes=True)
        assert issubclass(kind, Indeterminate) is (failure.code in begun), failure
        assert issubclass(kind, Unavailable) is (failure.retryable and failure.code not in begun), failure


def test_table_repeats_every_read_that_the_server_calls_retryable() -> None:
    for failure in READ_FAILURES:
        for status in (0, failure.status):
            kind = class_of(failure.code, status, retryable=failure.retryable, writes=False)
            assert issubclass(kind, Unavailable if failure.retryable else Refused), failure


@pytest.mark.parametrize("code", sorted(NOTHING_BEGUN))
@pytest.mark.parametrize("name", WRITES)
def test_write_of_which_nothing_was_begun_is_repeated(name: str, code: str) -> None:
    done = answer(204) if name == "delete" else answer(200, b"7", ETag=TAG)
    with (
        Scripted(answer(503, problem=code, retryable=True), done) as server,
        Client(server.url) as client,
    ):
        WRITES[name](client)
        assert len(server.requests) == 2
        assert server.requests[0] == server.requests[1]


@pytest.mark.parametrize(
    "act",
    [
        answer(503, problem="indeterminate", retryable=True),
        answer(504, problem="indeterminate", retryable=True),
        answer(503, problem="of-tomorrow", retryable=True),
        answer(500, problem="internal"),
        answer(502, b"<html>a proxy's</html>"),
        drop,
        break_off,
    ],
)
@pytest.mark.parametrize("name", WRITES)
def test_write_that_may_have_been_begun_is_never_repeated(name: str, act: Act) -> None:
    with Scripted(act, WRITTEN) as server, Scripted(WRITTEN) as other, Client(server.url, other.url) as client:
        with pytest.raises(Indeterminate):
            WRITES[name](client)
        assert (len(server.requests), len(other.requests)) == (1, 0)
        if act in (drop, break_off):  # but the next call goes elsewhere
            client.set("k", 2)
            assert (len(server.requests), len(other.requests)) == (1, 1)


@pytest.mark.parametrize(
    "act",
    [
        answer(503, problem="unreachable", retryable=True),
        answer(504, problem="timeout", retryable=True),
        answer(503, problem="of-tomorrow", retryable=True),
        answer(502, b"<html>a proxy's</html>"),
        answer(429),
        drop,
        break_off,
    ],
)
def test_read_is_repeated_whatever_became_of_it(act: Act) -> None:
    with Scripted(act, FOUND) as server, Client(server.url) as client:
        assert client.get("k") == 1


@pytest.mark.parametrize("act", [answer(503, problem="unreachable", retryable=True), drop, break_off])
def test_read_is_repeated_at_the_next_endpoint_which_is_asked_from_then_on(act: Act) -> None:
    with Scripted(act) as first, Scripted(FOUND, FOUND) as second, Client(first.url, second.url) as client:
        assert (client.get("k"), client.get("k")) == (1, 1)
        assert (len(first.requests), len(second.requests)) == (1, 2)


def test_endpoint_that_hangs_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkv.client.calls.FIRST_WAIT", 0.1)
    with Scripted(hang) as first, Scripted(FOUND) as second, Client(first.url, second.url) as client:
        assert client.get("k") == 1


def test_write_goes_to_the_next_endpoint_when_nobody_listens() -> None:
    with Scripted(WRITTEN) as server, Client(nobody(), server.url) as client:
        assert client.set("k", 1) == TAG.strip('"')


def test_nobody_listens_until_the_deadline() -> None:
    with Client(nobody(), nobody(), timeout=0.3) as client, pytest.raises(Unreachable):
        client.set("k", 1)


def test_retry_after_is_waited_for() -> None:
    with Scripted(answer(503, problem="overloaded", retryable=True, Retry_After="1"), FOUND) as server:
        begun = monotonic()
        assert Client(server.url).get("k") == 1
        assert monotonic() - begun >= 1


def test_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    with Scripted(answer(503, problem="overloaded", retryable=True, Retry_After="60")) as server:
        begun = monotonic()
        with pytest.raises(Overloaded):
            Client(server.url, timeout=30).get("k")
        assert monotonic() - begun < 20


@pytest.mark.parametrize("act", [hang, drip])
@pytest.mark.parametrize(("name", "error"), [("get", Unavailable), ("set", Indeterminate)])
def test_call_ends_at_its_deadline_however_slowly_bytes_come(act: Act, name: str, error: type[ClientError]) -> None:
    with Scripted(act, act, act) as server:
        client = Client(server.url).within(0.3)
        begun = monotonic()
        with pytest.raises(error):
            client.get("k") if name == "get" else client.set("k", 1)
        assert monotonic() - begun < 5


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_call_ends_at_its_deadline_when_nobody_takes_what_is_sent(scheme: str) -> None:
    """Nor a handshake: then nothing was sent, as nothing was when no connection was free."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"{scheme}://127.0.0.1:{deaf.getsockname()[1]}"
        with Client(url, timeout=0.3) as client:
            begun = monotonic()
            with pytest.raises(Indeterminate if scheme == "http" else Unreachable):
                client.put_bytes("k", bytes(32 << 20))
            assert monotonic() - begun < 5


def test_call_ends_at_its_deadline_when_no_connection_is_free() -> None:
    with Scripted(hang) as server, Client(server.url, connections=1) as client:

        def hold() -> None:
            with suppress(Indeterminate):
                client.within(60).set("k", 1)

        holder = threading.Thread(target=hold)
        holder.start()
        wait_for("the first request", lambda: server.requests)
        with pytest.raises(Unreachable, match="in use"):
            client.within(0.3).set("k", 2)
        assert len(server.requests) == 1
    holder.join(20)
    assert not holder.is_alive()


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (answer(400, problem="invalid-item"), InvalidRequest),
        (answer(401, problem="unauthorized"), Unauthorized),
        (answer(403, problem="forbidden"), Unauthorized),
        (answer(409, problem="wrong-type"), WrongType),
        (answer(412, problem="condition"), ConditionFailed),
        (answer(413, b"<html>a proxy's</html>"), TooLarge),
        (answer(413, problem="too-large"), TooLarge),
        (answer(409, problem="of-tomorrow"), Refused),
        (answer(500, problem="damaged"), Damaged),
        (answer(501, problem="not-supported"), Refused),
    ],
)
@pytest.mark.parametrize("name", WRITES)
def test_refusal_is_an_error_of_its_own_and_not_repeated(name: str, act: Act, error: type[ClientError]) -> None:
    with Scripted(act) as server, Client(server.url) as client:
        with pytest.raises(error) as raised:
            WRITES[name](client)
        assert type(raised.value) is error
        assert len(server.requests) == 1


@pytest.mark.promise("I2")
@pytest.mark.parametrize("act", [answer(404), answer(404, problem="not-found"), answer(404, b"{}")])
def test_key_is_missing_by_the_word_of_gkv_alone(act: Act) -> None:
    with Scripted(act, answer(404, problem="no-such-key")) as server, Client(server.url) as client:
        with pytest.raises(Refused):
            client.get("k")
        assert client.get("k") is None


def test_success_that_is_none_of_gkvs_is_an_error() -> None:
    with Scripted(answer(200, b"<html>"), answer(200, b"<html>"), answer(200, b"[]")) as server, Client(server.url) as client:
        with pytest.raises(Refused):
            client.get("k")
        with pytest.raises(Indeterminate):
            client.add("k")
        with pytest.raises(Refused):
            next(client.items())


@pytest.mark.parametrize(
    "other",
    [{"values": []}, {"versions": []}, {"complete": False}, {"values": ["?"], "encodings": ["base64"]}, {"keys": None}],
)
def test_page_that_is_not_whole_is_an_error(other: dict[str, Any]) -> None:
    page = {"keys": ["a"], "values": [1], "versions": ["v"], "complete": True}
    with Scripted(answer(200, page), answer(200, page | other)) as server, Client(server.url) as client:
        assert len(list(client.items())) == 1
        with pytest.raises(Refused) as raised:
            list(client.items())
        assert raised.value.code == "bad-answer"


def test_value_is_not_touched_for_no_time_at_all() -> None:
    with Client(nobody()) as client, pytest.raises(ValueError, match="ttl is None"):
        client.touch("k", 0)


def test_condition_that_fails_says_what_is_there() -> None:
    there, nothing = answer(412, problem="condition", ETag=TAG), answer(412, problem="condition")
    with Scripted(there, nothing) as server, Client(server.url) as client:
        with pytest.raises(ConditionFailed) as raised:
            client.set("k", 1, if_version="00000000000000000000000000000001")
        assert raised.value.version == TAG.strip('"')
        with pytest.raises(ConditionFailed) as raised:
            client.delete("k", if_version="*")
        assert raised.value.version is None
        assert [request.headers["if-match"] for request in server.requests] == ['"00000000000000000000000000000001"', "*"]


def test_page_that_cannot_be_had_is_asked_for_again() -> None:
    page = {"keys": ["a"], "values": [1], "versions": ["v"], "cursor": "c", "complete": False}
    last = {"keys": [], "values": [], "versions": [], "complete": True}
    again = answer(504, problem="timeout", retryable=True), answer(503, problem="unreachable", retryable=True)
    with Scripted(answer(200, page), *again, answer(200, last)) as server, Client(server.url) as client:
        assert [item.key for item in client.items("a")] == ["a"]
        assert [request.target.count("cursor=c") for request in server.requests] == [0, 1, 1, 1]


def test_cursor_that_is_refused_is_told_from_a_wrong_prefix() -> None:
    refused = answer(422, problem="parameter-value")
    with Scripted(refused, refused) as server, Client(server.url) as client:
        with pytest.raises(CursorRefused):
            next(client.pages("a", cursor="of another one"))
        with pytest.raises(InvalidRequest) as raised:
            next(client.pages("a\0"))
        assert type(raised.value) is InvalidRequest


def test_token_is_sent() -> None:
    with Scripted(FOUND) as server, Client(server.url, token="secret") as client:
        client.get("k")
        assert server.requests[0].headers["authorization"] == "Bearer secret"


def test_endpoint_may_be_below_a_path_and_keys_have_any_characters() -> None:
    with Scripted(FOUND) as server, Client(server.url + "/store/") as client:
        client.get("a b/../é%?#")
        assert server.requests[0].target == "/store/v1/kv/a%20b/%2E%2E/%C3%A9%25%3F%23"


def test_connections_are_kept_bounded_and_shared_by_threads() -> None:
    with Scripted(*[FOUND] * 20) as server, Client(server.url, connections=1) as client:
        threads = [threading.Thread(target=lambda: [client.get("k") for _ in range(5)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert (server.connections, len(server.requests)) == (1, 20)


def test_connection_that_has_been_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_IDLE", 0.0)
    with Scripted(FOUND, WRITTEN) as server, Client(server.url) as client:
        client.get("k")
        client.set("k", 1)
        assert server.connections == 2


@pytest.mark.parametrize("url", ["localhost:80", "ftp://localhost", "http://", "http://u:p@localhost", "http://localhost?a=1"])
def test_endpoint_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="an endpoint is"):
        Client(url)


def test_tls_shows_and_asks_for_certificates(tmp_path: Any) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    member = authority.member
    context = transport.ssl.create_default_context(transport.ssl.Purpose.CLIENT_AUTH, cafile=str(member.ca))
    context.verify_mode = transport.ssl.CERT_REQUIRED
    context.load_cert_chain(member.cert, member.key)
    own = {"cert": str(member.cert), "key": str(member.key)}
    with Scripted(FOUND, context=context) as server:
        with Client(server.url, ca=str(member.ca), **own) as client:
            assert client.get("k") == 1
        with Client(server.url, ca=str(stranger.path), **own) as client, pytest.raises(Untrusted):
            client.get("k")
        with Scripted(FOUND) as other, Client(server.url, other.url, ca=str(stranger.path), **own) as client:
            assert client.get("k") == 1


@pytest.mark.parametrize("patched", [False, True])
def test_client_needs_no_gevent_and_lets_greenlets_switch(patched: bool) -> None:
    """Four calls at a server that answers none of them before the fourth has come."""
    program = """
import sys
if sys.argv[2] == "True":
    from gevent import monkey; monkey.patch_all()
import threading
from gkv.client import Client
assert ("gevent" in sys.modules) == (sys.argv[2] == "True")
client = Client(sys.argv[1])
threads = [threading.Thread(target=client.get, args=("k",)) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join(15)
assert not any(thread.is_alive() for thread in threads)
"""
    come = threading.Barrier(4)

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.recv(65536)
            come.wait(15)
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n"ok"')

    with socket.create_server(("127.0.0.1", 0)) as listener:
        servers = [threading.Thread(target=serve, args=(listener,), daemon=True) for _ in range(4)]
        for server in servers:
            server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        run = subprocess.run([sys.executable, "-c", program, url, str(patched)], capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr


OTHERS = {
    "a page": answer(200, b"<html>hello</html>", Content_Type="text/html"),
    "a number": answer(200, b"1"),
    "coded": answer(200, b"1", ETag=TAG, Content_Encoding="gzip"),
    "nested": answer(200, b"[" * 100_000, ETag=TAG),
}


@pytest.mark.parametrize("other", OTHERS)
def test_success_of_somebody_else_is_no_value_and_no_write(other: str) -> None:
    act = OTHERS[other]
    with Scripted(*[act] * 9) as server, Client(server.url) as client:
        for read in (client.get, client.get_item, client.get_bytes):
            if not (other == "nested" and read == client.get_bytes):  # which looks at nothing
                with pytest.raises(Refused, match="none of gkv's"):
                    read("k")
        with pytest.raises(Indeterminate, match="none of gkv's"):
            client.delete("k")
        if other != "nested":
            with pytest.raises(Indeterminate, match="none of gkv's"):
                client.add("k")


def test_batch_is_written_by_the_word_of_gkv_alone() -> None:
    with Scripted(answer(200, {}), answer(200, b"[" * 100_000)) as server, Client(server.url) as client:
        for _ in range(2):
            with pytest.raises(Indeterminate, match="none of gkv's"):
                client.set_many({"k": 1})


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (drop, "no whole answer: the connection was closed without an answer"),
        (break_off, "no whole answer: the answer broke off"),
        (hang, "no whole answer: no answer in time"),
        (lambda connection, _: connection.sendall(b"SSH-2.0-Other\r\n"), "no whole answer: the answer is not HTTP"),
    ],
)
def test_answer_that_is_not_whole_is_told_in_plain_words(act: Act, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FIRST_PAUSE", 60.0)  # there is no second attempt, whose answer may be late
    with Scripted(*[act] * 9) as server, Client(server.url, timeout=0.3 if act is hang else 20.0) as client:
        with pytest.raises(Unavailable) as raised:
            client.get("k")
        assert str(raised.value) == f"{server.url}: {words} (broken)"


def test_server_that_is_not_there_is_told_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FIRST_PAUSE", 60.0)
    url = nobody()
    with Client(url, timeout=20.0) as client, pytest.raises(Unreachable) as raised:
        client.get("k")
    assert str(raised.value) == f"{url}: connection refused (unreachable)"
    with Client("http://nobody.invalid:1", timeout=20.0) as client, pytest.raises(Unreachable) as raised:
        client.get("k")
    assert str(raised.value).startswith("http://nobody.invalid:1: the name cannot be resolved: ")
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer_plainly() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = plain.accept()
                    with connection:
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                        connection.recv(1 << 16)

        threading.Thread(target=answer_plainly, daemon=True).start()
        url = f"https://127.0.0.1:{plain.getsockname()[1]}"
        with Client(url, timeout=20.0) as client, pytest.raises(Unreachable, match=f"^{url}: TLS fails: wrong version number"):
            client.get("k")


def test_text_that_no_header_takes_is_refused_before_anything_is_sent() -> None:
    with Scripted() as server, Client(server.url) as client:
        for wrong in ("text/plain\nX: y", "text/\u65e5", "text/pl\xe4in"):
            with pytest.raises(ValueError, match="media type has printable characters"):
                client.put_bytes("k", b"", wrong)
            with pytest.raises(ValueError, match="version has printable characters"):
                client.set("k", 1, if_version=wrong)
            with pytest.raises(ValueError, match=r"token has printable characters of ASCII alone$"):
                Client(server.url, token=wrong)
        assert not server.requests
