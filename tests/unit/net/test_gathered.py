"""The format of gathered frames: what is written can be read, and nothing else can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkv.net.gathered import (
    MAX_FRAMES,
    MAX_PREFACE,
    MAX_REQUEST_IDS,
    BadGathering,
    OtherFormat,
    _list_ids,
    cut,
    read_preface,
    write_preface,
)

FRAMES = st.lists(st.binary(max_size=50), min_size=1, max_size=MAX_FRAMES)
IDS = st.lists(st.text("abc019-", min_size=1, max_size=40), max_size=60)


@given(FRAMES, IDS)
def test_frames_that_are_gathered_come_out_as_they_went_in(frames: list[bytes], ids: list[str]) -> None:
    body = write_preface(2**64 - 1, 12, [len(frame) for frame in frames], ids) + b"".join(frames)
    preface = read_preface(body, len(body))
    assert cut(body, preface) == frames
    assert [view.obj for view in cut(memoryview(body), preface)] == [body] * len(frames)  # no copies
    assert cut(memoryview(body), preface) == frames
    assert (preface.incarnation, preface.epoch) == (2**64 - 1, 12)
    assert preface.request_ids == (_list_ids(ids) if ids else "")
    assert read_preface(body, len(body), len(frames)) == preface


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for body in (data, b"gkv/2 0000000000000000 7 " + data):
        try:
            preface = read_preface(body, len(body))
        except BadGathering:
            continue
        assert b"".join(cut(body, preface)) == body[preface.size :]


BAD = {
    "nothing": b"",
    "no preface": b"hello",
    "no number": b"gkv/ 0000000000000000 7 5\nhello",
    "no incarnation": b"gkv/2 7 5\nhello",
    "a short incarnation": b"gkv/2 000000000000000 7 5\nhello",
    "an incarnation in capitals": b"gkv/2 000000000000000A 7 5\nhello",
    "no epoch": b"gkv/2 0000000000000000 5\nhello",
    "an epoch with a sign": b"gkv/2 0000000000000000 +7 5\nhello",
    "no lengths": b"gkv/2 0000000000000000 7 \nhello",
    "no line end": b"gkv/2 0000000000000000 7 5hello",
    "carriage return": b"gkv/2 0000000000000000 7 5\r\nhello",
    "leading zero": b"gkv/2 0000000000000000 7 05\nhello",
    "sign": b"gkv/2 0000000000000000 7 +5\nhello",
    "comma at the end": b"gkv/2 0000000000000000 7 5,\nhello",
    "comma at the start": b"gkv/2 0000000000000000 7 ,5\nhello",
    "blank": b"gkv/2 0000000000000000 7  5\nhello",
    "blank at the end": b"gkv/2 0000000000000000 7 5 \nhello",
    "blank within": b"gkv/2 0000000000000000 7 2, 3\nhello",
    "another blank": b"gkv/2 0000000000000000 7\t5\nhello",
    "too short": b"gkv/2 0000000000000000 7 6\nhello",
    "too long": b"gkv/2 0000000000000000 7 4\nhello",
    "nothing but the preface": b"gkv/2 0000000000000000 7 5\n",
    "a huge length": b"gkv/2 0000000000000000 7 %b\nhello" % (b"9" * 13),
    "capitals": b"GKV/2 0000000000000000 7 5\nhello",
    "too many frames": b"gkv/2 0000000000000000 7 5%b\nhello" % (b",0" * MAX_FRAMES),
    "ids that are too long": b"gkv/2 0000000000000000 7 5 %b\nhello" % (b"x" * (MAX_REQUEST_IDS + 1)),
    "ids with a blank": b"gkv/2 0000000000000000 7 5 a b\nhello",
    "ids with a control character": b"gkv/2 0000000000000000 7 5 a\x07\nhello",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_bad_preface_is_refused(body: bytes) -> None:
    with pytest.raises(BadGathering):
        read_preface(body, len(body))


def test_another_number_of_frames_than_were_sent_is_refused() -> None:
    body = b"gkv/2 0000000000000000 7 2,3\nhello"
    assert cut(body, read_preface(body, len(body), 2)) == [b"he", b"llo"]
    with pytest.raises(BadGathering, match="1 frames were sent, 2 came back"):
        read_preface(body, len(body), 1)


@pytest.mark.parametrize("number", [0, 1, 11, 999_999_999])
def test_another_format_is_refused_by_a_line_that_names_both(number: int) -> None:
    body = b"gkv/%d whatever it is that comes\n" % number
    with pytest.raises(OtherFormat, match=f"format {number}, this process reads format 2$"):
        read_preface(body, len(body))


def test_the_longest_preface_fits_where_a_reader_looks() -> None:
    longest = write_preface(2**64 - 1, 10**15 - 1, [10**12 - 1] * MAX_FRAMES, ["x" * 40] * 100)
    assert len(longest) < MAX_PREFACE
    assert len(read_preface(longest, len(longest) + MAX_FRAMES * (10**12 - 1)).lengths) == MAX_FRAMES
