"""A head that is known: recognised when only the digits of Content-Length differ, and read anew in
every other case.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkv.errors import GkvError
from gkv.net.admission import LARGE
from gkv.net.http1 import Head, parse_head
from gkv.net.known_head import KnownHead

MAX_BODY = 1 << 20


def parse(data: bytes, max_body: int = MAX_BODY) -> Head:
    return parse_head(data.removesuffix(b"\r\n\r\n"), {}, max_body, lambda _host: True)


def head(length: bytes = b"5", *, before: bytes = b"", after: bytes = b"Accept: */*\r\n") -> bytes:
    return b"POST /get HTTP/1.1\r\nHost: a\r\n%bContent-Length: %b\r\n%b\r\n" % (before, length, after)


def knowing(data: bytes, max_body: int = MAX_BODY) -> KnownHead:
    known = KnownHead(max_body)
    known.learn(parse(data, max_body), data)
    return known


def test_the_same_head_is_recognised_with_whatever_follows_it() -> None:
    known = knowing(head())
    assert known.recognise(head() + b"hello") == len(head())
    assert known.head == parse(head())


@pytest.mark.parametrize("length", [b"0", b"1", b"9", b"10", b"99", b"100", b"12345", b"65536"])
@pytest.mark.parametrize("first", [b"0", b"5", b"77", b"65536", b"1000000"])
def test_head_with_another_length_is_recognised_and_is_what_the_parser_makes_of_it(first: bytes, length: bytes) -> None:
    known = knowing(head(first))
    data = head(length)
    assert known.recognise(data + b"x") == len(data)
    assert known.head == parse(data)
    assert known.recognise(head(b"7")) == len(head(b"7"))
    assert known.head == parse(head(b"7"))


ODD = {
    "leading zero": b"05",
    "zeros": b"00",
    "none": b"",
    "blank in front": b" 5",
    "blank behind": b"5 ",
    "tab": b"5\t",
    "blank within": b"1 5",
    "sign": b"+5",
    "minus": b"-5",
    "underscore": b"1_0",
    "hexadecimal": b"0x5",
    "two": b"5, 5",
    "comma": b"5,",
    "fraction": b"5.0",
    "superscript": b"\xb2",
    "full width": "\uff15".encode(),
    "letter": b"5a",
    "line end": b"5\r\nContent-Length: 6",
    "bare line feed": b"5\n",
    "bare carriage return": b"5\r",
    "null": b"5\x00",
    "over large": b"65537",
    "over the largest body": b"1048577",
    "nineteen digits": b"9" * 19,
    "twenty digits": b"9" * 20,
    "another header's end": b"5\r\nAccept: */*\r\nX: 6",
}


@pytest.mark.parametrize("digits", ODD.values(), ids=ODD.keys())
def test_anything_else_in_place_of_the_digits_is_left_to_the_parser(digits: bytes) -> None:
    known = knowing(head())
    before = parse(head())
    assert known.recognise(head(digits) + bytes(10)) == 0
    assert known.head == before


@pytest.mark.parametrize(
    "data",
    [
        head(after=b""),
        head(after=b"Accept: */*;q=1\r\n"),
        head(after=b"accept: */*\r\n"),
        head(after=b"Accept: */*\r\nAccept: */*\r\n"),
        head(after=b"Accept: */*\r\nContent-Length: 5\r\n"),
        head(after=b"Accept: */*\r\nTransfer-Encoding: chunked\r\n"),
        head(before=b"X: 1\r\n"),
        head().replace(b"POST", b"PUT"),
        head().replace(b"/get", b"/set"),
        head().replace(b"1.1", b"1.0"),
        head().replace(b"Content-L", b"content-l"),
        head().replace(b"Host: a", b"Host: b"),
        head()[:-1],
        head()[:-3],
        head()[:40],
        b"",
    ],
)
def test_a_head_that_differs_elsewhere_is_left_to_the_parser(data: bytes) -> None:
    assert knowing(head()).recognise(data) == 0


def test_a_length_in_another_place_is_no_content_length() -> None:
    hidden = b"X: \tContent-Length: 5\r\n"
    data = b"GET /?Content-Length:5 HTTP/1.1\r\nHost: a\r\n" + hidden + b"\r\n"
    known = knowing(data)
    assert known.recognise(data) == len(data)
    assert known.recognise(data.replace(b"5", b"6")) == 0


@pytest.mark.parametrize("extra", [b"Expect: 100-continue\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_head_whose_meaning_hangs_on_more_than_the_digits_is_only_itself(extra: bytes) -> None:
    data = head(after=extra) if b"Expect" in extra else b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n" % extra
    known = knowing(data)
    assert known.recognise(data) == len(data)
    assert known.recognise(data.replace(b"5", b"6").replace(b"Host: a", b"Host: b")) == 0


def test_head_near_a_limit_is_only_itself() -> None:
    """With a few digits more it might be over."""
    data = head(after=b"X: " + b"x" * 8_000 + b"\r\n")
    known = knowing(data)
    assert known.recognise(data) == len(data)
    assert known.recognise(data.replace(b"Length: 5", b"Length: 6")) == 0


def test_length_over_the_largest_body_is_left_to_the_parser_which_refuses_it() -> None:
    known = knowing(head(b"5"), max_body=100)
    assert known.recognise(head(b"100")) == len(head(b"100"))
    assert known.recognise(head(b"101")) == 0


def test_forgotten_head_is_read_anew() -> None:
    known = knowing(head())
    known.forget()
    assert not known.known
    assert known.recognise(head()) == 0


HEADERS = st.sampled_from([b"Accept: */*", b"X: 1", b"x:", b"Content-Type:application/json", b"Expect: 100-continue"])
LENGTHS = st.one_of(
    st.integers(0, 70_000).map(b"%d".__mod__),
    st.text("0123456789 \t+,xX\r\n\x00", max_size=8).map(str.encode),
)
LINES = st.tuples(st.sampled_from([b"Content-Length:", b"content-length: ", b"CONTENT-LENGTH:\t"]), LENGTHS)


@given(st.lists(HEADERS, max_size=3), st.lists(HEADERS, max_size=3), LINES, LINES, st.binary(max_size=20))
def test_whatever_is_recognised_means_what_the_parser_says(
    first: list[bytes], last: list[bytes], known_line: tuple[bytes, bytes], line: tuple[bytes, bytes], rest: bytes
) -> None:
    def make(length: tuple[bytes, bytes]) -> bytes:
        return b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", *first, b"".join(length), *last, b"", b""])

    try:
        known = knowing(make(known_line))
    except GkvError:
        return
    data = make(line) + rest
    start = known.recognise(data)
    if start:
        assert data[:start].endswith(b"\r\n\r\n")
        assert data.index(b"\r\n\r\n") + 4 == start
        assert known.head == parse(data[:start])


def test_environment_is_the_one_of_the_head_that_came() -> None:
    known: Any = knowing(head())
    assert known.recognise(head(b"123"))
    assert known.head.environ["CONTENT_LENGTH"] == "123"
    assert known.head.length == 123
    assert LARGE == 65_536
