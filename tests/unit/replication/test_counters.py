"""Counters: what can be added to what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkv.model import Blob
from gkv.replication.counters import MAX_DELTA, NoSum, add, read_delta

WRONG, LONG = NoSum.WRONG_TYPE, NoSum.TOO_MANY_DIGITS


@pytest.mark.parametrize(
    ("value", "delta", "total"),
    [
        (None, 5, 5),
        (None, -MAX_DELTA, -MAX_DELTA),
        (b"0", 0, 0),
        (b"41", 1, 42),
        (b"-1", 1, 0),
        (b"-0", 1, 1),
        (b" \t\r\n7\n", -8, -1),
        (b"7\n", 1, 8),
        (str(MAX_DELTA).encode(), 0, MAX_DELTA),
        (str(MAX_DELTA).encode(), 1, LONG),
        (str(-MAX_DELTA).encode(), -1, LONG),
        (str(10**18).encode(), -1, MAX_DELTA),
        (str(10**18).encode(), 0, LONG),
        (str(-(10**18)).encode(), 1, -MAX_DELTA),
        (str(10**19 - 1).encode(), -MAX_DELTA, LONG),
        (b"9" * 1_000_000, -1, LONG),
        (b"1.5", 1, WRONG),
        (b"1.0", 1, WRONG),
        (b"1e2", 1, WRONG),
        (b'"7"', 1, WRONG),
        (b"null", 1, WRONG),
        (b"true", 1, WRONG),
        (b"[1]", 1, WRONG),
        (b'{"n":1}', 1, WRONG),
        (Blob(b"7", "text/plain"), 1, WRONG),
        (Blob(b"", "application/octet-stream"), 1, WRONG),
    ],
)
def test_add_gives_the_sum_or_says_why_there_is_none(value, delta, total):
    assert add(value, delta) == total


@given(st.integers(-MAX_DELTA, MAX_DELTA), st.integers(-MAX_DELTA, MAX_DELTA))
def test_add_is_addition_as_far_as_eighteen_digits_go(value, delta):
    total = value + delta
    assert add(str(value).encode(), delta) == (total if len(str(abs(total))) <= 18 else LONG)


@given(st.integers(-MAX_DELTA, MAX_DELTA))
def test_delta_is_read_as_it_is_written(delta):
    assert read_delta(str(delta)) == delta


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1\n",
        "+1",
        "1.5",
        "1.0",
        "1e2",
        '"7"',
        "null",
        "0x1",
        "01",
        "-",
        "--1",
        "1_0",
        "١",
        str(10**18),
        str(-(10**18)),
    ],
)
def test_delta_of_another_form_is_none(text):
    assert read_delta(text) is None
