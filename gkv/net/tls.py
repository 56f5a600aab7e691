"""TLS: the certificate of this process, what it demands of others, and connections that speak it.

`Tls` holds what is in force; a server and a channel that are given one speak TLS only, those that are given None none at all.
Promises: TLS 1.2 or later, no CBC, no compression, no renegotiation; nothing is sent to a member, or read from it, that does
not prove the name that it is called by; a key that others may read is not used. A client need not show a certificate, but one
that it shows has to be signed by `tls_ca`; `CERTIFICATE` in the environment tells whether it has. Leaves to others: which calls
want one, and how long a server waits for a handshake.

A connection is OpenSSL between two buffers in memory and a plain socket, not gevent's SSLSocket: that one lets OpenSSL read the
socket, which takes two calls of the kernel for each record, where here one brings all that has come. A round trip costs both
ends 29 us of CPU instead of 32 with small messages, 42 instead of 48 with an answer of 14 kB, and 24 or 27 without TLS.
"""

import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time

from gevent import socket  # by name, so that it needs no patched process

from gkv.config import Settings, others_may_read
from gkv.errors import ConfigError
from gkv.log import as_error, say

CERTIFICATE = "gkv.certificate"
"""Of the WSGI environment, with TLS only: whether the client has shown a certificate, which is one that `tls_ca` signed."""

_RECEIVE = 65_536
_RECORD = 16_384
"""The most that a record holds (RFC 8446, 5.1)."""
_PIECE = 65_536
"""Bytes that are encrypted ahead of what the kernel takes: a connection whose client does not read holds no more than this."""
_FAREWELL = 1.0
"""Seconds that the last record has to get into the kernel's buffer."""
_MAX_PEM = 1 << 20
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy, and no CBC, whose padding was attacked again and again (RFC 7457); 1.3 has none of it."""


class HandshakeFailed(OSError):
    """The other side cannot be talked to, or is not who it should be. `http` when it speaks HTTP without TLS."""

    def __init__(self, why: str, *, http: bool = False) -> None:
        super().__init__(why)
        self.http = http


class Tls:
    """The certificate in force, for both directions; replaced as a whole when the settings are read again."""

    def __init__(self, settings: Settings) -> None:
        """Load what `tls_cert`, `tls_key` and `tls_ca` name. Raise ConfigError when they cannot be used."""
        self._server, self.client, self.expires = _load(settings)

    @classmethod
    def of(cls, settings: Settings) -> "Tls | None":
        """Return what these settings ask for, None for no TLS. Raise ConfigError as above."""
        return cls(settings) if settings.tls_cert else None

    def prepare(self, settings: Settings) -> Callable[[], None]:
        """Load the certificate anew; return what has new connections use it. Raise ConfigError when it cannot be used."""
        if not settings.tls_cert:
            raise ConfigError("TLS ends with a restart only: tls_cert is no longer set")
        loaded = _load(settings)

        def take() -> None:
            self._server, self.client, self.expires = loaded

        return take

    def accept(self, sock: socket.socket) -> "TlsSocket":
        """Return a client's connection, before its handshake."""
        return TlsSocket(sock, self._server)

    def connect(self, sock: socket.socket, host: str, until: float) -> "TlsSocket":
        """Return a connection to a member that has proved to be `host`, an IP address or a name.

        `until` is on the clock of `time.monotonic`. Closes the socket and raises HandshakeFailed or another OSError when that
        cannot be. Switches greenlets.
        """
        connection = TlsSocket(sock, self.client, host)
        try:
            connection.handshake(until)
        except BaseException:
            sock.close()
            raise
        return connection


def is_over(sock: "socket.socket | TlsSocket") -> bool:
    """Return whether the other side has ended a connection in which nothing is under way. Does not switch greenlets."""
    if isinstance(sock, TlsSocket):
        return sock.is_over()
    sock.settimeout(0.0)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        sock.settimeout(None)
        return False
    except OSError:
        pass
    return True


def following(tls: Tls | None) -> Callable[[Settings], Callable[[], None]]:
    """Return what takes new settings over, in two steps; without TLS, what raises ConfigError when they want it."""
    if tls is not None:
        return tls.prepare

    def refuse_to_begin(settings: Settings) -> Callable[[], None]:
        if settings.tls_cert:
            raise ConfigError("TLS begins with a restart only: tls_cert was not set at the start")
        return lambda: None

    return refuse_to_begin


def _load(settings: Settings) -> tuple[ssl.SSLContext, ssl.SSLContext, float]:
    """Return the contexts for serving and for calling, and until when the certificate is valid."""
    _refuse_exposed(Path(settings.tls_key), os.environ)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_OPTIONAL
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which demands a certificate, and checks the name in it
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(settings.tls_cert, settings.tls_key, _refuse_password)
        except OSError as error:  # which ssl.SSLError is
            which = f"tls_cert {settings.tls_cert} and tls_key {settings.tls_key}"
            raise ConfigError(f"{which} cannot be used: {explain(error)}") from None
        try:
            context.load_verify_locations(settings.tls_ca)
        except OSError as error:
            raise ConfigError(f"tls_ca {settings.tls_ca} cannot be used: {explain(error)}") from None
    expires = _expires(Path(settings.tls_cert))
    if expires < time():
        say(as_error(f"the certificate in {settings.tls_cert} has expired on {datetime.fromtimestamp(expires, UTC):%Y-%m-%d}"))
    return server, client, expires


def _refuse_exposed(path: Path, environment: Mapping[str, str]) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"tls_key {path} cannot be read: {error.strerror}") from None
    if others_may_read(path, mode, environment):
        raise ConfigError(
            f"tls_key {path} has mode {mode & 0o7777:04o}, so others than its owner may read or write it; chmod 600"
        )


def _refuse_password() -> str:
    """Stand in for OpenSSL's question at the terminal, for which a daemon would wait for ever."""
    raise PermissionError(0, "the key is encrypted, and there is nobody to ask for the password")


def explain(error: OSError) -> str:
    """Return why a connection or OpenSSL failed, in words without its numbers and sources."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "nothing in it is PEM").lower().replace("_", " ")
    return error.strerror or str(error)


def _expires(path: Path) -> float:
    """Return until when the first certificate of a PEM file is valid, as a Unix time.

    The standard library shows that of a peer's certificate only.
    """
    with path.open("rb") as file:
        text = file.read(_MAX_PEM).decode("ascii", "replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = text.index(begin)
    der = ssl.PEM_cert_to_DER_cert(text[start : text.index(end, start) + len(end)])
    # Certificate and TBSCertificate are sequences (RFC 5280, 4.1); in the latter come version, serial number, signature,
    # issuer, and validity with notBefore and notAfter.
    at = _enter(der, _enter(der, 0))
    if der[at] == 0xA0:
        at = _skip(der, at)
    for _ in ("serial number", "signature", "issuer"):
        at = _skip(der, at)
    at = _skip(der, _enter(der, at))
    kind, digits = der[at], der[_enter(der, at) : _skip(der, at)].decode("ascii")
    if kind == 0x17:  # a UTCTime has two digits for the year, of 1950 to 2049
        digits = ("20" if digits < "5" else "19") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _enter(der: bytes, at: int) -> int:
    """Return where the content of an element begins (X.690, 8.1.3)."""
    return at + 2 + (der[at + 1] & 0x7F if der[at + 1] & 0x80 else 0)


def _skip(der: bytes, at: int) -> int:
    """Return where an element ends."""
    content, size = _enter(der, at), der[at + 1]
    return content + (int.from_bytes(der[at + 2 : content]) if size & 0x80 else size)


class TlsSocket:
    """What server and channel use of a socket, over TLS."""

    __slots__ = ("_ahead", "_incoming", "_open", "_outgoing", "_read", "_socket", "_taken", "_tls", "_unsent", "_write",
                 "fileno", "setsockopt", "settimeout")  # fmt: skip

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str | None = None) -> None:
        """Begin on a connected socket; as a client if `host` says whom to expect."""
        self._socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, host is None, host)
        self._read = self._tls.read
        self._write = self._tls.write
        self._unsent: memoryview | None = None
        """Encrypted, and not yet in the kernel."""
        self._taken = 0
        """What it was before it was encrypted, in bytes."""
        self._open = False
        """After the handshake, and before we have said that nothing more will come from here."""
        self._ahead: bytes | None = None
        """What was decrypted before anybody asked for it; b"" when nothing more will come."""
        self.fileno = sock.fileno
        self.setsockopt = sock.setsockopt
        self.settimeout = sock.settimeout

    @property
    def certified(self) -> bool:
        """Whether the other side has shown a certificate; one that is not accepted fails the handshake."""
        return bool(self._tls.getpeercert())

    @property
    def is_ahead(self) -> bool:
        """Whether `recv` returns at once, whatever the socket says."""
        return self._ahead is not None

    def handshake(self, until: float | None = None) -> None:
        """Agree on keys and on who the other side is; raise HandshakeFailed or OSError. Switches greenlets.

        `until` is on the clock of `time.monotonic`; None to wait until somebody shuts the socket down.
        """
        first = b""
        while True:
            failed: ssl.SSLError | None = None
            wanting = False
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                wanting = True
            except ssl.SSLError as error:
                failed = error
            if until is not None:
                self._socket.settimeout(max(0.001, until - monotonic()))
            if failed is not None and first[:1].isupper():
                raise HandshakeFailed("it speaks HTTP without TLS", http=True)
            data = self._outgoing.read()
            if data:  # after a failure it is an alert, which says why
                self._socket.sendall(data)
            if failed is not None:
                raise HandshakeFailed(explain(failed)) from None
            if not wanting:
                self._open = True
                self._ahead = self._rest(b"") or None  # of one packet with the end of the handshake
                return
            chunk = self._socket.recv(_RECEIVE)
            if not chunk:
                raise HandshakeFailed("the connection was closed in the handshake")
            first = first or chunk
            self._incoming.write(chunk)

    def recv(self, _size: int) -> bytes:
        """Return what comes next, b"" at the end. Switches greenlets.

        It may be more than was asked for: no whole record stays behind, so whoever waits for the socket waits for news.
        """
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None if self._ahead else b""
            return ahead
        incoming = self._incoming
        fruitless = 0
        while True:
            chunk: bytes = self._socket.recv(_RECEIVE)
            if not chunk:
                self._ahead = b""
                return b""
            if not self._open:
                return chunk  # still encrypted: whoever has said the last word reads on only to drop what comes
            incoming.write(chunk)
            try:
                data = self._read(_RECORD)
            except ssl.SSLWantReadError:  # half a record, or one that is not for us but for OpenSSL
                fruitless += len(chunk)
                if fruitless >= _RECEIVE:  # somebody who sends nothing else should not keep the others waiting
                    fruitless = 0
                    socket.wait_read(self._socket.fileno())
                continue
            if not data:
                self._ahead = b""
            elif incoming.pending:
                return self._rest(data)
            return data

    def take(self, count: int) -> bytes:
        """Return what the whole records hold among `count` bytes that have come. Does not switch greenlets."""
        if self._ahead is not None:
            return b""
        self._incoming.write(self._socket.recv(count))
        return self._rest(b"")

    def _rest(self, first: bytes) -> bytes:
        """Return what a record held and what the whole ones hold that have come with it."""
        pieces = [first]
        with suppress(ssl.SSLWantReadError):
            while self._incoming.pending:
                piece = self._read(_RECORD)
                if not piece:
                    self._ahead = b""
                    break
                pieces.append(piece)
        return b"".join(pieces)

    def is_over(self) -> bool:
        """As the function of this name. What OpenSSL receives for itself, such as tickets for a next session, is no end."""
        if self.is_ahead:
            return True
        self._socket.settimeout(0.0)
        try:
            while chunk := self._socket.recv(_RECEIVE):
                self._incoming.write(chunk)
                with suppress(ssl.SSLWantReadError):
                    self._read(_RECORD)
                    break  # a close_notify, or what nobody has asked for
        except BlockingIOError:
            self._socket.settimeout(None)
            return False
        except OSError:
            pass
        return True

    def send(self, data: bytes | memoryview) -> int:
        """Send some of it, and return how many bytes need not be given again. Switches greenlets.

        That may be 0 even when the other side has taken some: records count when all of them are on their way.
        """
        if self._unsent is None:
            self._taken = self._write(data if len(data) <= _PIECE else memoryview(data)[:_PIECE])
            encrypted = self._outgoing.read()
            sent = self._socket.send(encrypted)
            if sent == len(encrypted):
                return self._taken
            self._unsent = memoryview(encrypted)[sent:]
            return 0
        sent = self._socket.send(self._unsent)
        if sent < len(self._unsent):
            self._unsent = self._unsent[sent:]
            return 0
        self._unsent = None
        return self._taken

    def shutdown(self, how: int) -> None:
        """As of a plain socket. Ends with a close_notify where that is possible; after it nothing is decrypted any more.

        With SHUT_RDWR it does not switch greenlets: it wakes whoever reads, or writes, and the last word is left to them.
        """
        if how == socket.SHUT_RDWR and self._open and self._unsent is None:
            how = socket.SHUT_RD
        elif how == socket.SHUT_WR:
            self._say_goodbye(_FAREWELL)
        self._socket.shutdown(how)

    def break_off(self) -> None:
        """Wake whoever writes, to a kernel that takes no more. Nothing is said; does not switch greenlets."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """Close, with a close_notify if the kernel takes it at once. Does not switch greenlets.

        `close` says nothing, since what was broken off must not look as if it were whole.
        """
        self._say_goodbye(0.0)
        self._socket.close()

    def _say_goodbye(self, wait: float) -> None:
        if not self._open or self._unsent is not None:
            return
        self._open = False
        with suppress(ssl.SSLError):  # it would rather wait for the other side's
            self._tls.unwrap()
        with suppress(OSError):
            self._socket.settimeout(wait)
            self._socket.sendall(self._outgoing.read())
        self._socket.settimeout(None)

    def close(self) -> None:
        self._socket.close()
