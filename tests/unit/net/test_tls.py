"""TLS: what can be loaded, what is demanded of the other side, and how bytes get through."""

import ssl
import time
import warnings
from contextlib import contextmanager

import gevent
import pytest
from cryptography.hazmat.primitives import serialization as to
from gevent import socket
from gevent import ssl as ssl_of_gevent

from gkv.errors import ConfigError
from gkv.net import tls
from gkv.net.server import listen
from gkv.net.tls import HandshakeFailed, Tls, following
from gkv.sources import parse
from tests.certificates import Authority

DEADLINE = 5


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(tls, "say", lines.append)
    return lines


OPENED = []
"""Sockets that the test has opened."""


@pytest.fixture(autouse=True)
def in_time_and_closed():
    with gevent.Timeout(60):
        yield
    while OPENED:
        OPENED.pop().close()


def settings(files):
    return parse("proxy", files.flags, {})


def both(accepting, calling, host="127.0.0.1"):
    """Return the two ends of a connection, or what each handshake ended with."""
    with listen("127.0.0.1", 0) as listener:
        near = socket.create_connection(listener.getsockname(), DEADLINE)
        far, _ = listener.accept()
    OPENED.extend([near, far])

    def accept():
        end = accepting.accept(far)
        try:
            end.handshake()
        except OSError as error:
            far.close()
            return error
        return end

    def connect():
        try:
            return calling.connect(near, host, time.monotonic() + DEADLINE)
        except OSError as error:
            return error

    return [greenlet.get() for greenlet in (gevent.spawn(accept), gevent.spawn(connect))]


@contextmanager
def connected(authority):
    ends = both(*[Tls(settings(authority.member))] * 2)
    try:
        yield ends
    finally:
        for end in ends:
            end.close()


def read(end, size):
    data = b""
    while len(data) < size:
        chunk = end.recv(65_536)
        assert chunk
        data += chunk
    return data


def send(end, data):
    sent = 0
    while sent < len(data):
        sent += end.send(data[sent:])


# -- loading


def test_load_tells_until_when_the_certificate_is_valid(authority, said):
    loaded = Tls(settings(authority.issue("one", days=10)))
    assert loaded.expires == pytest.approx(time.time() + 10 * 86_400, abs=60)
    assert said == []


@pytest.mark.parametrize("days", [100 * 365])
def test_load_understands_years_beyond_2049(authority, said, days):
    loaded = Tls(settings(authority.issue("one", days=days)))
    assert loaded.expires == pytest.approx(time.time() + days * 86_400, abs=60)


def test_load_of_an_expired_certificate_only_warns(authority, said):
    Tls(settings(authority.issue("one", days=-1)))
    assert len(said) == 1
    assert "has expired on 20" in said[0]


def test_load_of_what_cannot_be_used_raises_and_names_it(authority, tmp_path):
    one, two = authority.issue("one"), authority.issue("two")
    empty = tmp_path / "empty"
    empty.touch(0o600)
    missing = tmp_path / "missing"
    key = one.key.read_text()
    locked = tmp_path / "locked"
    locked.touch(0o600)
    loaded = to.load_pem_private_key(key.encode(), None)
    locked.write_bytes(
        loaded.private_bytes(to.Encoding.PEM, to.PrivateFormat.TraditionalOpenSSL, to.BestAvailableEncryption(b"secret"))
    )
    wrong = [
        ((one.cert, two.key, one.ca), "tls_key .*two.key cannot be used: key values mismatch"),
        ((missing, one.key, one.ca), "tls_cert .*missing .*cannot be used: No such file"),
        ((one.cert, missing, one.ca), "tls_key .*missing cannot be read: No such file"),
        ((one.cert, one.key, missing), "tls_ca .*missing cannot be used: No such file"),
        ((empty, one.key, one.ca), "tls_cert .*empty .*cannot be used"),
        ((one.cert, empty, one.ca), "tls_key .*empty cannot be used"),
        ((one.cert, one.key, empty), "tls_ca .*empty cannot be used"),
        ((one.cert, locked, one.ca), "tls_key .*locked cannot be used: the key is encrypted"),
        ((one.cert, tmp_path, one.ca), "tls_key .* (cannot be used|has mode)"),
    ]
    for (cert, its_key, ca), says in wrong:
        with pytest.raises(ConfigError, match=says):
            Tls(parse("proxy", ["--tls-cert", str(cert), "--tls-key", str(its_key), "--tls-ca", str(ca)], {}))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_load_of_a_key_that_others_may_read_or_write_raises(authority, mode, monkeypatch):
    files = authority.issue("one")
    files.key.chmod(mode)
    with pytest.raises(ConfigError, match=f"tls_key .*has mode {mode:04o}.*chmod 600"):
        Tls(settings(files))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(files.key.parent))  # what systemd hands over, a group may read
    if mode == 0o640:
        Tls(settings(files))
    else:
        with pytest.raises(ConfigError):
            Tls(settings(files))


def test_prepare_changes_nothing_before_it_is_taken_over(authority, said):
    one = authority.issue("one", days=10)
    loaded = Tls(settings(one))
    take = loaded.prepare(settings(authority.issue("two", days=20)))
    assert loaded.expires == pytest.approx(time.time() + 10 * 86_400, abs=60)
    take()
    assert loaded.expires == pytest.approx(time.time() + 20 * 86_400, abs=60)
    one.key.write_text("nonsense")
    with pytest.raises(ConfigError):
        loaded.prepare(settings(one))


def test_tls_neither_begins_nor_ends_without_a_restart(authority):
    with pytest.raises(ConfigError, match="restart"):
        following(None)(settings(authority.member))
    with pytest.raises(ConfigError, match="restart"):
        Tls(settings(authority.member)).prepare(parse("proxy", [], {}))
    following(None)(parse("proxy", [], {}))()
    assert Tls.of(parse("proxy", [], {})) is None


# -- who the other side is


def test_handshake_of_two_members_succeeds_in_both_directions(authority):
    with connected(authority) as (accepted, called):
        assert accepted.certified
        assert called.certified


@pytest.mark.parametrize(("names", "says"), [(["127.0.0.2"], "IP address mismatch"), (["n1.example"], "IP address mismatch")])
def test_call_of_a_member_that_has_another_name_fails(authority, names, says):
    accepted, called = both(Tls(settings(authority.issue("other", *names))), Tls(settings(authority.member)))
    assert isinstance(called, HandshakeFailed)
    assert says in str(called)
    assert isinstance(accepted, OSError)


def test_call_by_name_is_answered_by_who_has_that_name(authority):
    ends = both(Tls(settings(authority.issue("other", "n1.example"))), Tls(settings(authority.member)), "n1.example")
    assert [type(end) for end in ends] == [tls.TlsSocket] * 2


def test_call_of_a_member_of_another_authority_fails(authority, tmp_path):
    stranger = Authority(tmp_path, "stranger")
    accepted, called = both(Tls(settings(stranger.issue("s"))), Tls(settings(authority.member)))
    assert "not accepted" in str(called)
    assert isinstance(accepted, HandshakeFailed)


def test_call_of_an_expired_member_fails(authority, said):
    _, called = both(Tls(settings(authority.issue("old", days=-1))), Tls(settings(authority.member)))
    assert "expired" in str(called)


@pytest.mark.parametrize("days", [30, -1])
def test_caller_with_a_certificate_that_is_not_accepted_fails(authority, tmp_path, said, days):
    signer = authority if days < 0 else Authority(tmp_path, "stranger")
    calling = Tls(settings(signer.issue("caller", days=days)))
    calling.client.load_verify_locations(authority.path)
    accepted, called = both(Tls(settings(authority.member)), calling)
    assert isinstance(accepted, HandshakeFailed)
    if not isinstance(called, OSError):  # with TLS 1.3 it learns of that with the first answer
        with pytest.raises(OSError, match=r"(?i)alert"):
            called.recv(1)


def test_handshake_below_tls_1_2_fails(authority):
    old = Tls(settings(authority.member))
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        old.client.minimum_version = ssl.TLSVersion.TLSv1
        old.client.maximum_version = ssl.TLSVersion.TLSv1_1
    old.client.set_ciphers("ALL:@SECLEVEL=0")
    accepted, called = both(Tls(settings(authority.member)), old)
    assert isinstance(accepted, HandshakeFailed)
    assert isinstance(called, OSError)


def test_caller_without_a_certificate_is_let_in_and_not_certified(authority):
    calling = Tls(settings(authority.member))
    calling.client = ssl.create_default_context(cafile=str(authority.path))
    accepted, called = both(Tls(settings(authority.member)), calling)
    assert not accepted.certified
    assert called.certified


@pytest.mark.parametrize("far", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 100])
def test_connect_to_who_does_not_speak_tls_fails_in_time(authority, far):
    with listen("127.0.0.1", 0) as listener:
        near = socket.create_connection(listener.getsockname(), DEADLINE)
        other, _ = listener.accept()
        other.sendall(far)
        started = time.monotonic()
        with pytest.raises(OSError, match=r".") as caught:
            Tls(settings(authority.member)).connect(near, "127.0.0.1", started + 0.2)
        assert time.monotonic() - started < 2
        assert getattr(caught.value, "http", False) == far.startswith(b"HTTP")
        assert near.fileno() == -1
        other.close()


# -- bytes


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 65_536, 65_537, 3_000_000])
def test_bytes_get_through_in_both_directions(authority, size):
    data = bytes(i * 7 % 251 for i in range(1_000)) * (size // 1_000 + 1)
    data = data[:size]
    with connected(authority) as ends:
        for sender, receiver in (ends, ends[::-1]):
            sending = gevent.spawn(send, sender, data)
            assert read(receiver, size) == data
            sending.get()


def test_recv_leaves_no_whole_record_behind(authority):
    """Whoever then waits for the socket would wait for what is there already."""
    with connected(authority) as (accepted, called):
        for number in range(20):
            send(called, b"%02d" % number)
        gevent.socket.wait_read(accepted.fileno(), DEADLINE)
        found = b""
        while len(found) < 40:
            found += accepted.recv(65_536)
            if len(found) < 40:
                gevent.socket.wait_read(accepted.fileno(), DEADLINE)
        assert found == b"".join(b"%02d" % number for number in range(20))


def test_what_came_with_the_end_of_the_handshake_is_read(authority):
    with listen("127.0.0.1", 0) as listener:
        near = socket.create_connection(listener.getsockname(), DEADLINE)
        far, _ = listener.accept()
    serving, calling = Tls(settings(authority.member)), Tls(settings(authority.member))
    accepted, called = serving.accept(far), calling.accept(near)
    called = tls.TlsSocket(near, calling.client, "127.0.0.1")
    sendall = near.sendall
    kept = []
    called._socket = Kept(near, kept)
    ending = gevent.spawn(called.handshake)
    serving_end = gevent.spawn(accepted.handshake)
    ending.get(timeout=DEADLINE)
    called._write(b"early")
    sendall(b"".join(kept) + called._outgoing.read())
    serving_end.get(timeout=DEADLINE)
    with gevent.Timeout(DEADLINE):
        assert accepted.recv(100) == b"early"
    accepted.close()
    near.close()


class Kept:
    """A socket that keeps all but the first packet."""

    def __init__(self, sock, kept):
        self.recv = sock.recv
        self.fileno = sock.fileno
        self._sock = sock
        self._kept = kept
        self._first = True

    def sendall(self, data):
        if self._first:
            self._first = False
            self._sock.sendall(data)
        else:
            self._kept.append(data)


def test_shutdown_for_writing_is_told_and_what_comes_is_dropped(authority):
    with connected(authority) as (accepted, called):
        accepted.shutdown(socket.SHUT_WR)
        assert called.recv(1) == b""
        assert called.recv(1) == b""
        send(called, b"more")
        assert accepted.recv(1) != b"more"
        called._tls.unwrap()  # which would want to read if there had been no close_notify


def test_end_without_a_word_is_an_end(authority):
    with connected(authority) as (accepted, called):
        called._socket.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""
        assert accepted.recv(1) == b""


def test_bytes_that_are_no_records_break_the_connection(authority):
    with connected(authority) as (accepted, called):
        called._socket.sendall(b"nonsense" * 10)
        with pytest.raises(ssl.SSLError):
            accepted.recv(1)


def test_send_to_who_does_not_read_holds_little_and_goes_on_later(authority):
    data = b"x" * 20_000_000
    with connected(authority) as (accepted, called):
        held = []

        def sending():
            sent = 0
            while sent < len(data):
                sent += accepted.send(memoryview(data)[sent:])
                held.append(len(accepted._unsent or b""))

        greenlet = gevent.spawn(sending)
        gevent.sleep(0)
        assert read(called, len(data)) == data
        greenlet.get()
        assert 0 < max(held) < 70_000


def test_leave_says_that_nothing_more_will_come_and_close_does_not(authority):
    for end, whole in (("leave", True), ("close", False)):
        serving = ssl_of_gevent.SSLContext(ssl_of_gevent.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(authority.member.cert, authority.member.key)
        with listen("127.0.0.1", 0) as listener:
            near = socket.create_connection(listener.getsockname(), DEADLINE)
            far, _ = listener.accept()
        OPENED.extend([near, far])
        accepted = gevent.spawn(serving.wrap_socket, far, server_side=True, suppress_ragged_eofs=False)
        connection = Tls(settings(authority.member)).connect(near, "127.0.0.1", time.monotonic() + DEADLINE)
        far = accepted.get()
        OPENED.append(far)
        connection.send(b"x")
        assert far.recv(10) == b"x"
        far.send(b"y")
        assert connection.recv(10) == b"y"  # and its tickets: to close with something unread is a reset
        getattr(connection, end)()
        if whole:
            assert far.recv(10) == b""
        else:
            with pytest.raises(ssl.SSLEOFError):
                far.recv(10)
