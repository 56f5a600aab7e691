"""Heads and chunked bodies as pure functions: every rule, any cut of the bytes, random damage, and h11 as the other reader."""

import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import unquote_to_bytes

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.errors import GkvError
from gkv.net.http1 import (
    _CHUNKS_AT_ONCE,
    MAX_CHUNK_EXTRA,
    MAX_CHUNK_LINE,
    MAX_HEAD,
    MAX_HEADERS,
    MAX_LINE,
    MAX_METHOD,
    MAX_TARGET,
    ChunkedBody,
    Head,
    HostNames,
    diagnose,
    parse_head,
)

SEED = int(os.environ.get("GKV_SEED", "9112"))
MAX_BODY = 1_000
STATUSES = {400, 413, 414, 417, 421, 431, 501, 505}
is_ours = HostNames(["localhost", "127.0.0.1", "[::1]"], 8080)


def parse(head: bytes) -> Head:
    return parse_head(head, {}, MAX_BODY, is_ours)


def read_head(pieces: Iterable[bytes]) -> tuple[Head, bytes] | int | None:
    """Read a head as the server does, asking for a verdict after each piece.

    Return the head and what came after it, or the status of the refusal, or None when more must come.
    """
    buffer = b""
    try:
        for piece in pieces:
            buffer += piece
            end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD + 4)
            if end >= 0:
                return parse(buffer[:end]), buffer[end + 4 :]
            error = diagnose(buffer[: MAX_HEAD + 4])
            if error is not None:
                return error.status
    except GkvError as error:
        return error.status
    return None


def read_chunked(pieces: Iterable[bytes]) -> tuple[bytes, bytes] | int | None:
    """Read a chunked body as the server does; return it and what came after it, or a status, or None."""
    decoder, buffer = ChunkedBody(MAX_BODY), bytearray()
    try:
        for piece in pieces:
            buffer += piece
            while (body := decoder.feed(buffer)) is None and decoder.has_more:
                pass
            if body is not None:
                return body, bytes(buffer)
    except GkvError as error:
        return error.status
    return None


def single_bytes(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def lines(*headers: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes | None = b"Host: localhost:8080") -> bytes:
    """Return a head with its empty line."""
    return b"\r\n".join([first, *([host] if host else []), *headers, b"", b""])


def of_size(size: int) -> bytes:
    """Return a head of so many bytes, its empty line not counted."""
    left = size - len(lines()) + 4
    head = lines(*[b"X: " + b"a" * 1_000] * ((left - 1_200) // 1_005), b"Y: ")
    return head[:-4] + b"b" * (size - len(head) + 4) + b"\r\n\r\n"


def with_target(size: int) -> bytes:
    return lines(first=b"GET /%b HTTP/1.1" % (b"a" * (size - 1)))


# Heads: the whole bytes, and the verdict on them.

GOOD_HEADS = {
    "plain": lines(),
    "with every token character in a name": lines(b"!#$%&'*+-.^_`|~09azAZ: x"),
    "empty value": lines(b"X:"),
    "value with tab and blanks": lines(b"X: \t a\tb  c \t"),
    "value with bytes from 0x80 on": lines(b"X: \x80\xff\xc3\xa4"),
    "two of another header": lines(b"X: 1", b"X: 2"),
    "HTTP/1.0 without Host": lines(first=b"GET / HTTP/1.0", host=None),
    "HTTP/1.0 with Host": lines(first=b"GET / HTTP/1.0"),
    "absolute form": lines(first=b"GET http://localhost:8080/x?y HTTP/1.1"),
    "absolute form, other case": lines(first=b"GET HTTP://LocalHost:8080/x?y HTTP/1.1"),
    "absolute form with another port": lines(first=b"GET http://localhost:9/ HTTP/1.1"),
    "absolute form with another name of ours": lines(first=b"GET http://127.0.0.1:8080/ HTTP/1.1"),
    "absolute form with the default port": lines(first=b"GET http://localhost:80/ HTTP/1.1", host=b"Host: localhost"),
    "absolute form with a name of ours and no Host": lines(first=b"GET http://localhost/ HTTP/1.0", host=None),
    "absolute form without a path": lines(first=b"GET http://localhost:8080 HTTP/1.1"),
    "absolute form with only a query": lines(first=b"GET http://localhost:8080?a=/b HTTP/1.1"),
    "asterisk": lines(first=b"OPTIONS * HTTP/1.1"),
    "bytes from 0x80 on in the target": lines(first=b"GET /\xc3\xa4?\xff HTTP/1.1"),
    "method with a dash": lines(first=b"M-SEARCH / HTTP/1.1"),
    "longest method": lines(first=b"%b / HTTP/1.1" % (b"M" * MAX_METHOD)),
    "longest target": with_target(MAX_TARGET),
    "longest header": lines(b"X:" + b"a" * (MAX_LINE - 2)),
    "most headers": lines(*[b"X: y"] * (MAX_HEADERS - 1)),
    "largest head": of_size(MAX_HEAD),
    "one byte less": of_size(MAX_HEAD - 1),
    "two bytes less": of_size(MAX_HEAD - 2),
    "Host in another case": lines(host=b"hOsT:LOCALHOST:8080"),
    "Host with another port": lines(host=b"Host: localhost:9"),
    "Host without a port": lines(host=b"Host: localhost"),
    "Host is an IPv6 address": lines(host=b"Host: [::1]:8080"),
    "length": lines(b"Content-Length: 5"),
    "length with zeros in front": lines(b"Content-Length: 0005"),
    "longest body": lines(b"Content-Length: %d" % MAX_BODY),
    "chunked": lines(b"Transfer-Encoding: chunked"),
    "chunked in another case": lines(b"TRANSFER-encoding:\tChunKed "),
    "continue": lines(b"Expect: 100-Continue", b"Content-Length: 5"),
    "any Expect in HTTP/1.0": lines(b"Expect: the-unexpected", first=b"GET / HTTP/1.0"),
    "upgrade": lines(b"Upgrade: websocket", b"Connection: upgrade"),
    "names with underscores, which are dropped": lines(b"Content_Length: 5", b"Transfer_Encoding: x", b"Content_Length: 6"),
}

BAD_HEADS = {
    "nothing but an empty line": (b"\r\n\r\n", 400),
    "empty line first": (b"\r\n" + lines(), 400),
    "lower case": (lines(first=b"get / HTTP/1.1"), 400),
    "mixed case": (lines(first=b"GeT / HTTP/1.1"), 400),
    "token that is no word": (lines(first=b"G<T / HTTP/1.1"), 400),
    "blank first": (b" " + lines(), 400),
    "method too long": (lines(first=b"%b / HTTP/1.1" % (b"M" * (MAX_METHOD + 1))), 400),
    "method far too long": (b"M" * 100_000, 400),
    "two blanks": (lines(first=b"GET  / HTTP/1.1"), 400),
    "blank in the target": (lines(first=b"GET /a b HTTP/1.1"), 400),
    "blank at the end": (lines(first=b"GET / HTTP/1.1 "), 400),
    "tab for a blank": (lines(first=b"GET\t/ HTTP/1.1"), 400),
    "no target": (lines(first=b"GET HTTP/1.1"), 400),
    "fragment": (lines(first=b"GET /#x HTTP/1.1"), 400),
    "target without a slash": (lines(first=b"GET x HTTP/1.1"), 400),
    "asterisk with another method": (lines(first=b"GET * HTTP/1.1"), 400),
    "absolute form of another scheme": (lines(first=b"GET https://localhost:8080/ HTTP/1.1"), 400),
    "absolute form with another authority": (lines(first=b"GET http://elsewhere/ HTTP/1.1"), 400),
    "absolute form with a user": (lines(first=b"GET http://x@localhost:8080/ HTTP/1.1"), 400),
    "absolute form with our authority and another Host": (
        lines(first=b"GET http://localhost/ HTTP/1.1", host=b"Host: elsewhere"),
        421,
    ),
    "absolute form without authority": (lines(first=b"GET http:///x HTTP/1.0", host=None), 400),
    "tunnel": (lines(first=b"CONNECT localhost:8080 HTTP/1.1"), 501),
    "NUL in the target": (lines(first=b"GET /\0 HTTP/1.1"), 400),
    "DEL in the target": (lines(first=b"GET /\x7f HTTP/1.1"), 400),
    "HTTP/0.9": (b"GET /\r\n", 400),
    "HTTP/0.9 with a version": (b"GET / HTTP/0.9\r\n", 505),
    "HTTP/1.2": (lines(first=b"GET / HTTP/1.2"), 505),
    "HTTP/2.0": (lines(first=b"GET / HTTP/2.0"), 505),
    "HTTP/1.10": (lines(first=b"GET / HTTP/1.10"), 400),
    "HTTP/1": (lines(first=b"GET / HTTP/1"), 400),
    "http/1.1": (lines(first=b"GET / http/1.1"), 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "target one too long": (with_target(MAX_TARGET + 1), 414),
    "target far too long": (with_target(100_000), 414),
    "target without an end": (b"GET /" + b"a" * 100_000, 414),
    "header line one too long": (lines(b"X:" + b"a" * (MAX_LINE - 1)), 431),
    "header line without an end": (lines()[:-2] + b"X:" + b"a" * 100_000, 431),
    "name without an end": (lines()[:-2] + b"a" * 100_000, 431),
    "one header too many": (lines(*[b"X: y"] * MAX_HEADERS), 431),
    "one header too many, Host twice": (lines(*[b"X: y"] * (MAX_HEADERS - 1), b"Host: localhost"), 431),
    "headers without end": (lines()[:-2] + b"X: y\r\n" * 10_000, 431),
    "head one too large": (of_size(MAX_HEAD + 1), 431),
    "head two too large": (of_size(MAX_HEAD + 2), 431),
    "head far too large": (lines(*[b"X: " + b"a" * 4_000] * 5), 431),
    "bare LF": (b"GET / HTTP/1.1\nHost: localhost\n\n", 400),
    "bare LF after a header": (lines(b"X: y\nY: z"), 400),
    "bare CR in a value": (lines(b"X: y\rz"), 400),
    "CR twice": (lines(b"X: y\r"), 400),
    "bare CR at the end of all": (b"GET / HTTP/1.1\r\nHost: localhost\r\r\n\r\n", 400),
    "NUL in a value": (lines(b"X: y\0z"), 400),
    "escape in a value": (lines(b"X: \x1b[31m"), 400),
    "DEL in a value": (lines(b"X: \x7f"), 400),
    "folded": (lines(b"X: y", b" z"), 400),
    "folded with a tab": (lines(b"X: y", b"\tz"), 400),
    "first header folded": (lines(b"X: y", host=b" Host: localhost"), 400),
    "no colon": (lines(b"Xy"), 400),
    "no name": (lines(b": y"), 400),
    "blank before the colon": (lines(b"Content-Length : 5"), 400),
    "blank in a name": (lines(b"X Y: z"), 400),
    "name not ASCII": (lines(b"\xc3\xa4: z"), 400),
    "parentheses in a name": (lines(b"X(y): z"), 400),
    "no Host": (lines(host=None), 400),
    "Host twice": (lines(b"Host: localhost:8080"), 400),
    "empty Host": (lines(host=b"Host:"), 400),
    "Host is a list": (lines(host=b"Host: localhost, localhost"), 400),
    "Host with a path": (lines(host=b"Host: localhost/x"), 400),
    "Host with a user": (lines(host=b"Host: x@localhost"), 400),
    "Host is not ours": (lines(host=b"Host: evil.example"), 421),
    "Host begins as ours": (lines(host=b"Host: localhost.evil.example"), 421),
    "Host with an impossible port": (lines(host=b"Host: localhost:65536"), 421),
    "chunked twice": (lines(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "chunked, chunked": (lines(b"Transfer-Encoding: chunked, chunked"), 400),
    "chunked and identity": (lines(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), 400),
    "identity": (lines(b"Transfer-Encoding: identity"), 400),
    "gzip, chunked": (lines(b"Transfer-Encoding: gzip, chunked"), 400),
    "chunked, gzip": (lines(b"Transfer-Encoding: chunked, gzip"), 400),
    "xchunked": (lines(b"Transfer-Encoding: xchunked"), 400),
    "chunked with a parameter": (lines(b"Transfer-Encoding: chunked;x=y"), 400),
    "quoted chunked": (lines(b'Transfer-Encoding: "chunked"'), 400),
    "chunked after a vertical tab": (lines(b"Transfer-Encoding: \x0bchunked"), 400),
    "chunked after a no-break space": (lines(b"Transfer-Encoding: \xa0chunked"), 400),
    "coding that lower() makes chunked": (lines(b"Transfer-Encoding: chun\xe2\x84\xaaed"), 400),  # the Kelvin sign
    "empty coding": (lines(b"Transfer-Encoding:"), 400),
    "chunked with a length": (lines(b"Transfer-Encoding: chunked", b"Content-Length: 5"), 400),
    "length with chunked": (lines(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    "chunked in HTTP/1.0": (lines(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"), 400),
    "two lengths": (lines(b"Content-Length: 5", b"Content-Length: 6"), 400),
    "a length twice": (lines(b"Content-Length: 5", b"content-length: 5"), 400),
    "list of lengths": (lines(b"Content-Length: 5, 5"), 400),
    "length -1": (lines(b"Content-Length: -1"), 400),
    "length +1": (lines(b"Content-Length: +1"), 400),
    "length 0x3": (lines(b"Content-Length: 0x3"), 400),
    "length 1_0": (lines(b"Content-Length: 1_0"), 400),
    "length 5.0": (lines(b"Content-Length: 5.0"), 400),
    "length 1 0": (lines(b"Content-Length: 1 0"), 400),
    "length in other digits": (lines(b"Content-Length: \xb2"), 400),
    "empty length": (lines(b"Content-Length:"), 400),
    "length of 5,000 digits": (lines(b"Content-Length: " + b"9" * 5_000), 400),
    "length of 20 digits": (lines(b"Content-Length: " + b"9" * 20), 400),
    "body one too large": (lines(b"Content-Length: %d" % (MAX_BODY + 1)), 413),
    "body of 10^18": (lines(b"Content-Length: 1%b" % (b"0" * 18)), 413),
    "other Expect": (lines(b"Expect: the-unexpected"), 417),
    "Expect twice, once another": (lines(b"Expect: 100-continue", b"Expect: x"), 417),
    "Expect with a parameter": (lines(b"Expect: 100-continue;q=1"), 417),
    "Expect with an oversized body": (lines(b"Expect: 100-continue", b"Content-Length: 5000"), 413),
    "Content-Type twice": (lines(b"Content-Type: a/b", b"Content-Type: a/b"), 400),
}


def cuts(data: bytes, rng: random.Random, most: int = 700) -> list[int]:
    """Return where to cut some bytes: everywhere if they are few, else at random and around all limits and line ends."""
    if len(data) <= most:
        return list(range(1, len(data)))
    places = {rng.randrange(1, len(data)) for _ in range(40)} | {len(data) - i for i in range(1, 8)}
    found = data.find(b"\r\n")
    while found >= 0 and len(places) < 200:
        places |= {found, found + 1, found + 2}
        found = data.find(b"\r\n", found + 1)
    for limit in (MAX_TARGET, MAX_HEAD, MAX_LINE):
        places |= set(range(limit - 3, limit + 8))
    return sorted(place for place in places if 0 < place < len(data))


@pytest.mark.parametrize("data", GOOD_HEADS.values(), ids=GOOD_HEADS.keys())
def test_good_head_is_read_however_it_is_cut(data: bytes) -> None:
    whole = read_head([data + b"next"])
    assert isinstance(whole, tuple), whole
    assert whole[1] == b"next"
    for cut in cuts(data, random.Random(SEED)):
        assert diagnose(data[:cut]) is None or b"\r\n\r\n" in data[:cut], cut
        assert read_head([data[:cut], data[cut:] + b"next"]) == whole, cut
    if len(data) <= 700:
        assert read_head(single_bytes(data)) == (whole[0], b"")


@pytest.mark.parametrize(("data", "status"), BAD_HEADS.values(), ids=BAD_HEADS.keys())
def test_bad_head_is_refused_alike_however_it_is_cut(data: bytes, status: int) -> None:
    assert read_head([data]) == status
    for cut in cuts(data, random.Random(SEED)):
        assert read_head([data[:cut], data[cut:]]) == status, cut
    if len(data) <= 700:
        assert read_head(single_bytes(data)) == status


def test_head_becomes_a_wsgi_environment() -> None:
    head = parse(
        b"POST /a%2Fb%zz?q=%41&r HTTP/1.1\r\nHost: localhost:8080\r\nX-Two: 1\r\nx-two: 2\r\nX_Two: 3\r\nContent-Type: a/b\r\n"
        b"Content-Length: 7"
    )
    assert head.environ == {
        "REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/1.1", "PATH_INFO": "/a/b%zz", "gkv.path": "/a%2Fb%zz",
        "QUERY_STRING": "q=%41&r",
        "HTTP_HOST": "localhost:8080", "HTTP_X_TWO": "1, 2", "CONTENT_TYPE": "a/b", "CONTENT_LENGTH": "7",
    }  # fmt: skip
    assert (head.length, head.minor, head.keep_alive, head.expects_continue) == (7, 1, True, False)


def test_base_environment_is_copied_and_never_changed() -> None:
    base: dict[str, Any] = {"REMOTE_ADDR": "::1"}
    head = parse_head(lines(b"X: y")[:-4], base, MAX_BODY, is_ours)
    assert (head.environ["REMOTE_ADDR"], base) == ("::1", {"REMOTE_ADDR": "::1"})


@pytest.mark.parametrize(
    ("first", "path", "query"),
    [
        (b"GET http://localhost:8080/x?y HTTP/1.1", "/x", "y"),
        (b"GET http://localhost:8080 HTTP/1.1", "/", ""),
        (b"GET http://localhost:8080?a=/b HTTP/1.1", "/", "a=/b"),
        (b"GET //x/../y HTTP/1.1", "//x/../y", ""),
        (b"GET /?a?b HTTP/1.1", "/", "a?b"),
        (b"GET /%00%0d%0a HTTP/1.1", "/\0\r\n", ""),
        (b"GET /\xc3\xa4?\xff HTTP/1.1", "/\xc3\xa4", "\xff"),
        (b"OPTIONS * HTTP/1.1", "", ""),
    ],
)
def test_target_becomes_path_and_query(first: bytes, path: str, query: str) -> None:
    environ = parse(lines(first=first)[:-4]).environ
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", None, True),
        (b"1.1", b"close", False),
        (b"1.1", b"Close", False),
        (b"1.1", b"x, close ,y", False),
        (b"1.1", b"closed", True),
        (b"1.1", b"keep-alive", True),
        (b"1.0", None, False),
        (b"1.0", b"keep-alive", True),
        (b"1.0", b"Keep-Alive, x", True),
        (b"1.0", b"keep-alive, close", False),
        (b"1.0", b"upgrade", False),
    ],
)
def test_connection_header_decides_what_follows(version: bytes, connection: bytes | None, keep_alive: bool) -> None:
    headers = [b"Connection: " + connection] if connection else []
    assert parse(lines(*headers, first=b"GET / HTTP/" + version)[:-4]).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("first", "headers", "length", "expects"),
    [
        (b"GET / HTTP/1.1", [], 0, False),
        (b"GET / HTTP/1.1", [b"Content-Length: 0", b"Expect: 100-continue"], 0, False),
        (b"GET / HTTP/1.1", [b"Content-Length: 1", b"Expect: 100-continue"], 1, True),
        (b"GET / HTTP/1.1", [b"Transfer-Encoding: chunked", b"Expect: 100-continue"], -1, True),
        (b"GET / HTTP/1.0", [b"Content-Length: 1", b"Expect: 100-continue"], 1, False),
        (b"GET / HTTP/1.0", [b"Content-Length: 1", b"Expect: x"], 1, False),
        (b"GET / HTTP/1.1", [b"Content-Length: 1", b"Expect:"], 1, False),
        (b"GET / HTTP/1.1", [b"Content-Length: 1", b"Expect: , "], 1, False),
        (b"GET / HTTP/1.1", [b"Content-Length: 1", b"Expect: ,100-Continue,,"], 1, True),
        (b"GET / HTTP/1.1", [b"Content-Length: 1", b"Expect: 100-continue", b"Expect: 100-continue"], 1, True),
        (b"GET / HTTP/1.1", [b"Content-Length: 1", b"Expect: 100-continue", b"Expect:"], 1, True),
    ],
)
def test_continue_is_expected_only_with_a_body_in_http_1_1(
    first: bytes, headers: list[bytes], length: int, expects: bool
) -> None:
    head = parse(lines(*headers, first=first)[:-4])
    assert (head.length, head.expects_continue) == (length, expects)


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("localhost:8080", True),
        ("127.0.0.1:65535", True),
        ("127.0.0.1:65536", False),
        ("localhost:", False),
        ("localhost:x", False),
        ("localhost:+1", False),
        ("localhost:000080", False),
        ("localhost.", False),
        ("evil.example", False),
        ("xlocalhost", False),
        ("localhost@evil.example", False),
        ("evil.example#localhost", False),
        (" localhost", False),
        ("localhost\n", False),
        ("", False),
        ("127.1", False),
        ("127.0.0.1.nip.io", False),
    ],
)
def test_host_names_know_their_own(host: str, ours: bool) -> None:
    assert HostNames(["LocalHost", "127.0.0.1"], 8080)(host) is ours


# Chunked bodies.

GOOD_CHUNKED = {
    "empty": (b"0\r\n\r\n", b""),
    "one": (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "two": (b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", b"hello!"),
    "line ends as data": (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    "either case": (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    "zeros in front": (b"0000000000000005\r\nhello\r\n0000\r\n\r\n", b"hello"),
    "extensions": (b'5;a\r\nhello\r\n0;b=c;d="e f"\r\n\r\n', b"hello"),
    "longest extension": (b"5;" + b"a" * (MAX_CHUNK_LINE - 2) + b"\r\nhello\r\n0\r\n\r\n", b"hello"),
    "trailers": (b"0\r\nX: y\r\nX: z\r\n\r\n", b""),
    "longest trailer": (b"0\r\nX:" + b"a" * (MAX_LINE - 2) + b"\r\n\r\n", b""),
    "most trailers": (b"0\r\n" + b"X: y\r\n" * MAX_HEADERS + b"\r\n", b""),
    "largest": (b"3e8\r\n" + b"x" * MAX_BODY + b"\r\n0\r\n\r\n", b"x" * MAX_BODY),
    "as many chunks as bytes": (b"1\r\nx\r\n" * MAX_BODY + b"0\r\n\r\n", b"x" * MAX_BODY),
}

BAD_CHUNKED = {
    "no size": (b"\r\nhello", 400),
    "extension without a size": (b";a\r\nhello", 400),
    "no hexadecimal": (b"g\r\n", 400),
    "0x5": (b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    "-5": (b"-5\r\nhello\r\n0\r\n\r\n", 400),
    "+5": (b"+5\r\nhello\r\n0\r\n\r\n", 400),
    "1_0": (b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n", 400),
    "blank before": (b" 5\r\nhello\r\n0\r\n\r\n", 400),
    "blank after": (b"5 \r\nhello\r\n0\r\n\r\n", 400),
    "blank before an extension": (b"5 ;a\r\nhello\r\n0\r\n\r\n", 400),
    "17 digits": (b"0" * 16 + b"5\r\nhello\r\n0\r\n\r\n", 400),
    "bare LF after the size": (b"5\nhello\r\n0\r\n\r\n", 400),
    "bare CR after the size": (b"5\rhello\r\n0\r\n\r\n", 400),
    "CR twice": (b"5\r\r\nhello\r\n0\r\n\r\n", 400),
    "bare LF after the data": (b"5\r\nhello\n0\r\n\r\n", 400),
    "bare CR after the data": (b"5\r\nhello\r0\r\n\r\n", 400),
    "LF in an extension": (b"5;a\nb\r\nhello\r\n0\r\n\r\n", 400),
    "NUL in an extension": (b"5;\0\r\nhello\r\n0\r\n\r\n", 400),
    "longer than its size": (b"4\r\nhello\r\n0\r\n\r\n", 400),
    "shorter than its size": (b"6\r\nhello\r\n0\r\n\r\n", 400),
    "size too large": (b"3e9\r\n", 413),
    "size of 16 digits": (b"f" * 16 + b"\r\n", 413),
    "sum too large": (b"3e8\r\n" + b"x" * MAX_BODY + b"\r\n1\r\n", 413),
    "extension one too long": (b"5;" + b"a" * (MAX_CHUNK_LINE - 1) + b"\r\nhello\r\n0\r\n\r\n", 400),
    "extension of 8 KiB": (b"5;" + b"a" * 8_192 + b"\r\nhello\r\n0\r\n\r\n", 400),
    "extension without an end": (b"5;" + b"a" * 100_000, 400),
    "full line, then a CR that ends nothing": (b"5;" + b"a" * (MAX_CHUNK_LINE - 2) + b"\r" + b"x" * 100_000, 400),
    "many extensions": ((b"1;" + b"a" * 1_000 + b"\r\nx\r\n") * (MAX_CHUNK_EXTRA // 1_000 + 1), 400),
    "endless trailers": (b"0\r\n" + b"X: y\r\n" * 10_000, 431),
    "one trailer too many": (b"0\r\n" + b"X: y\r\n" * (MAX_HEADERS + 1) + b"\r\n", 431),
    "trailer one too long": (b"0\r\nX:" + b"a" * (MAX_LINE - 1) + b"\r\n\r\n", 431),
    "trailer without an end": (b"0\r\nX:" + b"a" * 100_000, 431),
    "full trailer, then a CR that ends nothing": (b"0\r\nX:" + b"a" * (MAX_LINE - 2) + b"\r" + b"x" * 100_000, 400),
    "trailer, a CR beyond the limit": (b"0\r\nX:" + b"a" * (MAX_LINE - 1) + b"\r" + b"x" * 100_000, 431),
    "trailers too large": (b"0\r\n" + (b"X:" + b"a" * 8_000 + b"\r\n") * 3 + b"\r\n", 431),
    "trailer without a colon": (b"0\r\nX\r\n\r\n", 400),
    "trailer folded": (b"0\r\nX: y\r\n z\r\n\r\n", 400),
    "trailer with a bare CR": (b"0\r\nX: y\rz\r\n\r\n", 400),
    "trailer with a NUL": (b"0\r\nX: \0\r\n\r\n", 400),
    "trailer with a blank before the colon": (b"0\r\nX : y\r\n\r\n", 400),
    "Content-Length as a trailer": (b"0\r\nContent-Length: 5\r\n\r\n", 400),
    "Transfer-Encoding as a trailer": (b"0\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    "Host as a trailer": (b"0\r\nHost: localhost\r\n\r\n", 400),
}


@pytest.mark.parametrize(("data", "body"), GOOD_CHUNKED.values(), ids=GOOD_CHUNKED.keys())
def test_good_chunked_body_is_read_however_it_is_cut(data: bytes, body: bytes) -> None:
    assert read_chunked([data + b"GET /"]) == (body, b"GET /")
    for cut in cuts(data, random.Random(SEED)):
        assert read_chunked([data[:cut], data[cut:] + b"GET /"]) == (body, b"GET /"), cut
    assert read_chunked(single_bytes(data)) == (body, b"")


@pytest.mark.parametrize(("data", "status"), BAD_CHUNKED.values(), ids=BAD_CHUNKED.keys())
def test_bad_chunked_body_is_refused_alike_however_it_is_cut(data: bytes, status: int) -> None:
    assert read_chunked([data]) == status
    for cut in cuts(data, random.Random(SEED)):
        assert read_chunked([data[:cut], data[cut:]]) == status, cut
    assert read_chunked(single_bytes(data)) == status


def test_zeros_in_front_of_sizes_are_counted_as_extensions_are() -> None:
    decoder = ChunkedBody(1 << 20)
    for _ in range(1_000):
        assert decoder.feed(bytearray(b"0000000000000001\r\nx\r\n")) is None
    with pytest.raises(GkvError, match="all of them few"):
        decoder.feed(bytearray(b"0000000000000001\r\nx\r\n" * 1_000))


def test_decoder_keeps_no_more_than_a_line_in_the_buffer() -> None:
    decoder, buffer = ChunkedBody(MAX_BODY), bytearray()
    data = b"5;" + b"e" * 1_000 + b"\r\nhello\r\n" + b"64\r\n" + b"x" * 100 + b"\r\n0\r\nX: " + b"y" * 5_000
    for piece in single_bytes(data):
        buffer += piece
        assert decoder.feed(buffer) is None
        assert len(buffer) <= MAX_LINE + 1


def test_tiny_chunks_are_read_some_at_a_time() -> None:
    count = 3 * _CHUNKS_AT_ONCE + 1
    decoder, buffer = ChunkedBody(1 << 20), bytearray(b"1\r\nx\r\n" * count + b"0\r\n\r\nNEXT")
    steps = 0
    while (body := decoder.feed(buffer)) is None:
        assert decoder.has_more
        steps += 1
    assert (body, bytes(buffer), steps) == (b"x" * count, b"NEXT", 3)


def test_chunks_that_end_with_a_step_are_waited_for_like_others() -> None:
    decoder, buffer = ChunkedBody(1 << 20), bytearray(b"1\r\nx\r\n" * _CHUNKS_AT_ONCE)
    assert decoder.feed(buffer) is None
    assert decoder.has_more
    assert decoder.feed(buffer) is None
    assert not decoder.has_more
    buffer += b"0\r\n\r\n"
    assert decoder.feed(buffer) == b"x" * _CHUNKS_AT_ONCE


# Random cuts and random damage.

_pieces_of_requests = st.lists(
    st.sampled_from(
        [
            b"GET",
            b"POST",
            b"OPTIONS",
            b" ",
            b"/",
            b"*",
            b"HTTP/1.1",
            b"HTTP/1.0",
            b"HTTP/1.2",
            b"\r\n",
            b"\r",
            b"\n",
            b":",
            b",",
            b";",
            b"Host: localhost",
            b"Host",
            b"localhost",
            b"Content-Length: 3",
            b"Transfer-Encoding: chunked",
            b"Expect: 100-continue",
            b"X: y",
            b"\0",
            b"\x7f",
            b"\xff",
            b"\t",
            b"5",
            b"0",
            b"a" * 4_000,
            b"X: y\r\n" * 60,
            b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        ]
    ),
    max_size=20,
).map(b"".join)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(_pieces_of_requests, st.lists(st.integers(0, 20_000), max_size=6))
def test_verdict_on_a_head_is_that_of_its_whole(data: bytes, places: list[int]) -> None:
    whole = read_head([data])
    bounds = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    pieces = [data[start:end] for start, end in pairwise(bounds)]
    in_pieces = read_head(pieces)
    if isinstance(whole, tuple):
        # The head may be complete before the last piece has come.
        assert isinstance(in_pieces, tuple)
        assert in_pieces[0] == whole[0]
    else:
        assert in_pieces == whole
    if len(data) < 400:
        one_by_one = read_head(single_bytes(data))
        assert one_by_one == (whole if not isinstance(whole, tuple) else (whole[0], b""))


_pieces_of_chunks = st.lists(
    st.sampled_from(
        [
            b"5\r\nhello\r\n",
            b"1\r\nx\r\n",
            b"0\r\n",
            b"0\r\n\r\n",
            b"\r\n",
            b"\r",
            b"\n",
            b"5",
            b"f",
            b";",
            b";a=b",
            b" ",
            b"X: y\r\n",
            b"Content-Length: 1\r\n",
            b"\0",
            b"\xff",
            b"z",
            b"a" * 1_020,
            b"a" * 8_190,
            b"1;" + b"a" * 1_000 + b"\r\nx\r\n",
            b"3e7\r\n",
        ]
    ),
    max_size=20,
).map(b"".join)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(_pieces_of_chunks, st.lists(st.integers(0, 10_000), max_size=6))
def test_verdict_on_a_chunked_body_is_that_of_its_whole(data: bytes, places: list[int]) -> None:
    whole = read_chunked([data])
    bounds = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    in_pieces = read_chunked(data[start:end] for start, end in pairwise(bounds))
    one_by_one = read_chunked(single_bytes(data))
    if isinstance(whole, tuple):
        assert isinstance(in_pieces, tuple)
        assert in_pieces[0] == whole[0]
        assert one_by_one == (whole[0], b"")
    else:
        assert (in_pieces, one_by_one) == (whole, whole)


SEEDS = [
    lines(b"Accept: */*", b"User-Agent: curl/8.5.0"),
    lines(b"Content-Length: 5", first=b"POST /set HTTP/1.1") + b"hello",
    lines(b"Content-Type: application/json", b"Transfer-Encoding: chunked", first=b"POST /v1/get?a=%41&b=c HTTP/1.1")
    + b"5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n",
    lines(b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    lines(b"Transfer-Encoding: chunked") + b"0\r\nX: y\r\nY: z\r\n\r\n",
    lines(b"Connection: keep-alive", b"Content-Length: 3", first=b"PUT /x HTTP/1.0") + b"abc",
    lines(b"Expect: 100-continue", b"Content-Length: 2", first=b"PUT http://localhost:8080/x%20y?z HTTP/1.1") + b"{}",
    lines(b"Upgrade: websocket", b"Connection: Upgrade", b"Content-Length: 4", first=b"OPTIONS * HTTP/1.1") + b"\r\n\r\n",
    lines(b"X-Request-Id: a", b"X-Request-Id: b", b"Cookie: a=b; c=d", first=b"DELETE /%C3%A4 HTTP/1.1"),
]
SPLICES = [
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\0",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b"\xa0",
    b"\xff",
    b"0",
    b"9",
    b"f",
    b"-",
    b"+",
    b"_",
    b"#",
    b"?",
    b"%",
    b"*",
    b"/",
    b'"',
    b"chunked",
    b"identity",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 05\r\n",
    b"Content-Length:5,5\r\n",
    b"Host: localhost\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b" folded\r\n",
    b"X: y\r\n",
    b"X: y \r\n",
]


def damage(data: bytes, rng: random.Random) -> bytes:
    """Return a request with one to three things wrong, or merely different."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            data = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
        elif kind == 1:
            data = data[:place] + data[place + rng.randrange(1, 4) :]
        elif kind in (2, 3):
            data = data[:place] + rng.choice(SPLICES) + data[place:]
        elif kind == 4:
            data = data[:place] + rng.choice(SPLICES) + data[place + rng.randrange(1, 6) :]
        elif kind == 5:
            end = data.find(b"\r\n", place) + 2
            start = data.rfind(b"\r\n", 0, max(0, end - 2)) + 2
            data = data[:end] + data[start:end] * rng.choice([1, 1, 1, 70]) + data[end:]
        else:
            place = data.find(b"\r\n", place) + 2
            data = data[:place] + rng.choice(SPLICES) + data[place:]
    return data


@dataclass
class Message:
    """A request as one of two readers sees it."""

    method: bytes
    target: bytes
    headers: dict[str, str]
    body: bytes
    rest: bytes


def environ_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as WSGI variables: lists joined, names with underscores dropped."""
    variables: dict[str, str] = {}
    for raw, value in headers:
        name = raw.decode().upper()
        if "_" not in name:
            key = name.replace("-", "_") if name in ("CONTENT-TYPE", "CONTENT-LENGTH") else f"HTTP_{name.replace('-', '_')}"
            text = value.decode("latin-1")
            variables[key] = f"{variables[key]}, {text}" if key in variables else text
    return variables


def as_gkv(data: bytes) -> Message | int | None:
    """Read a request with its body; return it, or a status, or None when more must come."""
    found = read_head([data])
    if not isinstance(found, tuple):
        return found
    head, rest = found
    body = rest[: head.length]
    if head.length < 0:
        chunked = read_chunked([rest])
        if not isinstance(chunked, tuple):
            return chunked
        body, rest = chunked
    elif len(rest) < head.length:
        return None
    else:
        rest = rest[head.length :]
    headers = {key: value for key, value in head.environ.items() if key.startswith(("HTTP_", "CONTENT_"))}
    method, target = data.split(b" ", 2)[:2]
    assert head.environ["REQUEST_METHOD"] == method.decode()
    return Message(method, target, headers, body, rest)


def as_h11(data: bytes) -> Message | str | None:
    """Read the same with h11."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    request, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                headers = environ_of(request.headers)
                return Message(request.method, request.target, headers, body, connection.trailing_data[0])
            else:
                return None
    except h11.RemoteProtocolError as error:
        return str(error)


def laxer_on_purpose(data: bytes) -> bytes:
    """Return a request as h11 would take it. The one thing that gkv takes and h11 does not: raw bytes from 0x80 in a target."""
    end = data.find(b"\r\n")
    return bytes(byte if byte < 0x80 else ord("~") for byte in data[:end]) + data[end:]


def check_against_h11(data: bytes) -> bool:
    """Assert that h11 reads what gkv reads, and in the same way; return whether gkv took it."""
    ours = as_gkv(data)
    assert not isinstance(ours, int) or ours in STATUSES, (SEED, data)
    if not isinstance(ours, Message):
        return False
    other = as_h11(laxer_on_purpose(data))
    assert isinstance(other, Message), (SEED, data, other)
    coding = ours.headers.get("HTTP_TRANSFER_ENCODING")
    if coding is not None:
        ours.headers["HTTP_TRANSFER_ENCODING"] = coding.lower()  # as h11 has it
    ours.target = laxer_on_purpose(ours.target + b"\r\n")[:-2]
    assert ours == other, (SEED, data)
    return True


def test_whatever_gkv_takes_h11_takes_and_reads_alike() -> None:
    rng = random.Random(SEED)
    taken = 0
    for _ in range(20_000):
        taken += check_against_h11(damage(rng.choice(SEEDS), rng))
    for _ in range(10_000):  # and some of which only the chunks are damaged
        head, end, body = rng.choice(SEEDS[2:5]).partition(b"\r\n\r\n")
        taken += check_against_h11(head + end + damage(body, rng))
    assert taken > 5_000


@pytest.mark.parametrize("data", [*GOOD_HEADS.values(), *SEEDS], ids=[*GOOD_HEADS.keys(), *map(str, range(len(SEEDS)))])
def test_good_requests_are_read_as_h11_reads_them(data: bytes) -> None:
    if b"Transfer-Encoding: " in data or b"Content-Length" in data or len(data) > 8_000 or b"encoding" in data:
        data += b"0\r\n\r\n" + b"x" * MAX_BODY
    assert check_against_h11(data)


@pytest.mark.parametrize("data", [data for data, _ in GOOD_CHUNKED.values()], ids=GOOD_CHUNKED.keys())
def test_good_chunked_bodies_are_read_as_h11_reads_them(data: bytes) -> None:
    assert check_against_h11(lines(b"Transfer-Encoding: chunked") + data + b"the rest")


def test_path_of_what_is_taken_is_the_target_decoded_once() -> None:
    rng = random.Random(SEED + 1)
    for _ in range(5_000):
        data = damage(rng.choice(SEEDS), rng)
        found = read_head([data])
        target = data.split(b" ", 2)[1] if data.count(b" ") > 1 else b""
        if isinstance(found, tuple) and target.startswith(b"/"):
            path, _, query = target.partition(b"?")
            assert found[0].environ["PATH_INFO"].encode("latin-1") == unquote_to_bytes(path)
            assert found[0].environ["QUERY_STRING"].encode("latin-1") == query


def test_damaged_requests_get_one_verdict_however_they_are_cut() -> None:
    rng = random.Random(SEED + 2)
    for _ in range(20_000):
        data = damage(rng.choice(SEEDS), rng)
        whole = read_head([data])
        assert not isinstance(whole, int) or whole in STATUSES, (SEED, data)
        cut = rng.randrange(len(data) + 1)
        in_two = read_head([data[:cut], data[cut:]])
        if isinstance(whole, tuple) and isinstance(in_two, tuple):
            assert in_two[0] == whole[0], (SEED, data, cut)
            if whole[0].length < 0:
                rest = whole[1]
                cut = rng.randrange(len(rest) + 1)
                assert_same_body(read_chunked([rest]), read_chunked([rest[:cut], rest[cut:]]), (SEED, data, cut))
        else:
            assert in_two == whole, (SEED, data, cut)


def assert_same_body(whole: Any, in_two: Any, hint: object) -> None:
    if isinstance(whole, tuple) and isinstance(in_two, tuple):
        assert whole[0] == in_two[0], hint
    else:
        assert whole == in_two, hint
