"""Traces of clients: what is one, and in which form they go to a node."""

import pytest

from gkv.net.gathered import MAX_FRAMES
from gkv.net.http1 import MAX_LINE
from gkv.net.trace import MAX_STATE, TracedId, header_lines, read_parent, read_state, shown, traced

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_traceparent_goes_on_as_it_came(flags: str) -> None:
    assert read_parent(f"00-{TRACE}-{SPAN}-{flags}") == f"00-{TRACE}-{SPAN}-{flags}"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (f"01-{TRACE}-{SPAN}-01", PARENT),
        (f"fe-{TRACE}-{SPAN}-03-what-the-future-will-be-like", PARENT),
        (f"01-{TRACE}-{SPAN}-06", f"00-{TRACE}-{SPAN}-00"),
        (f"01-{TRACE}-{SPAN}-01x", ""),
    ],
)
def test_traceparent_of_a_later_version_is_read_as_far_as_this_one_goes(text: str, read: str) -> None:
    assert read_parent(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"00-{32 * '0'}-{SPAN}-01",
        f"00-{TRACE}-{16 * '0'}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00_{TRACE}-{SPAN}-01",
        f"{PARENT}-more",
        f"{PARENT}\n",
        f" {PARENT}",
        f"{PARENT}, {PARENT}",  # as two headers of that name are read
        f"00-{TRACE[:-1]}\u0664-{SPAN}-01",
    ],
)
def test_what_is_no_traceparent_is_none(text: str) -> None:
    assert read_parent(text) == ""
    assert traced("a-1", {"HTTP_TRACEPARENT": text, "HTTP_TRACESTATE": "rojo=1"}) is None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ("a=1,\t,b=2 , ", "a=1,b=2"),
        ("tenant@system=in side", "tenant@system=in side"),
        ("1tenant@system=1", "1tenant@system=1"),
        ("", ""),
        ("a", ""),
        ("a=", ""),
        ("A=1", ""),
        ("1a=1", ""),
        ("a=1,a=2", ""),
        ("a=1=2", ""),
        ("a=\u00e9", ""),
        (f"a={257 * 'x'}", ""),
        (",".join(f"a{i}=1" for i in range(32)), ",".join(f"a{i}=1" for i in range(32))),
        (",".join(f"a{i}=1" for i in range(33)), ""),
    ],
)
def test_tracestate_is_read_strictly_and_goes_on_in_its_order(text: str, read: str) -> None:
    assert read_state(text) == read
    found = traced("a-1", {"HTTP_TRACEPARENT": PARENT, "HTTP_TRACESTATE": text})
    assert found is not None  # whatever the state is
    assert (found, found.parent, found.state) == ("a-1", PARENT, read)


def test_tracestate_that_is_too_long_loses_long_members_first_and_then_the_last_ones() -> None:
    long, short = f"a={200 * 'x'}", [f"b{i}={90 * 'y'}" for i in range(5)]
    assert read_state(",".join([short[0], long, *short[1:]])) == ",".join(short)
    short = [f"b{i}={100 * 'y'}" for i in range(6)]
    assert read_state(",".join(short)) == ",".join(short[:4])
    assert len(read_state(",".join(short))) <= MAX_STATE


def test_gathered_requests_name_each_trace_once_and_the_state_of_a_single_one() -> None:
    other = f"00-{TRACE}-{16 * '1'}-00"
    one, two = TracedId("a-1", PARENT, "rojo=1"), TracedId("b-2", other, "rojo=2")
    assert header_lines(["plain", "c-3"]) == b""
    assert header_lines(["plain", one]).decode() == f"traceparent: {PARENT}\r\ntracestate: rojo=1\r\n"
    assert header_lines([TracedId("a-1", PARENT, "")]).decode() == f"traceparent: {PARENT}\r\n"
    assert header_lines([one, two, one]).decode() == f"traceparent: {PARENT},{other}\r\n"
    assert shown({"HTTP_TRACEPARENT": f"{PARENT},{other}"}, gathered=True) == f"{PARENT},{other}"
    assert shown({"HTTP_TRACEPARENT": f"{PARENT},{other}"}, gathered=False) == ""
    assert shown({}, gathered=True) == ""


def test_traces_of_as_many_calls_as_are_gathered_fit_into_a_header_line() -> None:
    all_of_them = [TracedId(str(i), f"00-{TRACE}-{i + 1:016x}-01", "") for i in range(MAX_FRAMES)]
    assert len(header_lines(all_of_them)) < MAX_LINE
