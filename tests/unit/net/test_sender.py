"""The heads of a node's answers: the usual one is read at a glance, and means what the parser says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkv.api.http import Response
from gkv.net import answers, sender
from gkv.wire.blob import ANY_BYTES

DATE = b"Date: Thu, 26 Nov 2026 12:00:00 GMT"
GOES_ON = b"Cache-Control: no-store\r\nConnection: keep-alive\r\nKeep-Alive: timeout=74\r\n"


def usual(length: bytes = b"57", request_id: bytes = b"4d0f-17", date: bytes = DATE) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %b\r\nX-Request-Id: %b\r\n%b%b" % (
        length,
        request_id,
        GOES_ON,
        date,
    )


@pytest.mark.parametrize("size", [0, 1, 57, 65_536])
def test_head_that_a_node_writes_is_known(size: int) -> None:
    answer = Response(bytes(size), ANY_BYTES, request_id="4d0f-17,4d0f-18,+3")
    head = answers.write(answer, True, 1, answers.endings(DATE[6:], 74.5)).partition(b"\r\n\r\n")[0]
    assert sender._usual_head(head)
    assert sender._read_head(head) == (size, False)


@pytest.mark.parametrize(
    "head",
    [
        usual() + b"\r\nConnection: close",
        usual().replace(b"\r\nDate", b"\r\nConnection: close\r\nDate"),
        usual().replace(b"keep-alive", b"close"),
        usual().replace(b"74", b""),
        usual(request_id=b"1\r\nConnection: close"),
        usual(request_id=b"1 2"),
        usual(request_id=b""),
        usual(length=b"05"),
        usual(length=b"+5"),
        usual(length=b""),
        usual(length=b"5 "),
        usual(length=b"5\r\nContent-Length: 6"),
        usual(length=b"9" * 10),
        usual(date=DATE[:-1]),
        usual(date=DATE[:-4] + b"\r\n X"),
        usual() + b"\n",
        usual() + b"\r\n",
        usual().replace(b"200 OK", b"206 OK"),
        usual().replace(b"1.1", b"1.0"),
    ],
)
def test_head_that_is_not_quite_the_usual_one_is_left_to_the_parser(head: bytes) -> None:
    assert not sender._usual_head(head)


def read(head: bytes) -> tuple[int, bool] | str:
    try:
        return sender._read_head(head)
    except sender._BrokenError as error:
        return str(error)


@given(
    st.one_of(st.integers(0, 10**10).map(b"%d".__mod__), st.text("0159 +-\r\n,", max_size=6).map(str.encode)),
    st.text("ab0-,+ \r\n:", max_size=12).map(str.encode),
    st.sampled_from([DATE, DATE[:-1], b"Connection: close", DATE + b"\r\nConnection: close", b"Content-Length: 7"]),
)
def test_usual_head_means_what_the_parser_says(length: bytes, request_id: bytes, last: bytes) -> None:
    head = usual(length, request_id, last)
    assert read(head) == read(head + b"\r\nX: 1")  # which is never the usual one
