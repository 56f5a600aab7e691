"""Lines on standard error: their two forms, what is escaped, and a reader that does not read."""

import json
import os
import re
import threading
import time
from contextlib import suppress

import pytest

from gkv import log

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
ACCESS = {"method": "GET", "route": "/v1/kv/<key>", "status": 200, "size": 12, "seconds": 0.0012345, "peer": "127.0.0.1:5"}


@pytest.fixture(autouse=True)
def text_afterwards():
    yield
    log.configure("text")


@pytest.fixture
def pipe(monkeypatch):
    """Make standard error a pipe; return its reading end."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    monkeypatch.setattr(log, "_output", log.Output(writing))
    yield reading
    os.close(reading)
    os.close(writing)


def drain(reading: int) -> bytes:
    read = b""
    while True:
        try:
            read += os.read(reading, 1 << 20)
        except BlockingIOError:
            return read


def test_say_text_is_a_line_with_the_time(pipe):
    log.say("hello \u00e9")
    assert re.fullmatch(f"{TIME} info hello \u00e9\n", drain(pipe).decode())


def test_say_json_is_an_object_a_line(pipe):
    log.configure("json")
    log.say('say "hi"\n')
    line = drain(pipe)
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert re.fullmatch(TIME, found.pop("time"))
    assert found == {"level": "info", "log": "gkv", "message": 'say "hi"\n'}


@pytest.mark.parametrize(
    ("least", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_lines_below_the_least_level_are_not_written_and_the_others_say_theirs(pipe, log_format, least, written):
    log.configure(log_format, level=least)
    for line in (log.as_debug("one"), "two", log.as_warning("three"), log.as_error("four")):
        log.say(line)
    lines = drain(pipe).decode().splitlines()
    levels = [json.loads(line)["level"] if log_format == "json" else line.split()[1] for line in lines]
    assert levels == written


def test_exception_is_an_error_and_a_line_keeps_its_level_behind_a_name_and_when_it_is_long(pipe):
    log.configure("json")
    log.say_exception("it failed")
    log.say(log.named("n1", log.as_warning("down")))
    log.say(log.as_warning("x" * 100_000))
    found = [json.loads(line) for line in drain(pipe).splitlines()]
    assert [one["level"] for one in found] == ["error", "warning", "warning"]
    assert found[1]["message"] == "n1: down"


def test_access_lines_have_a_switch_of_their_own_and_tell_a_trace(pipe):
    log.configure("json", access=True, level="error")
    log.say_access(**ACCESS, request_id="abc-1", traceparent="00-trace")
    assert json.loads(drain(pipe))["traceparent"] == "00-trace"
    log.configure("text", access=True, level="error")
    log.say_access(**ACCESS, request_id="abc-1", traceparent="00-trace")
    assert drain(pipe).decode().endswith(" 1.234ms abc-1 00-trace\n")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_say_leaves_no_control_character_that_a_terminal_or_a_reader_of_lines_would_obey(pipe, log_format):
    log.configure(log_format)
    log.say("a\nb\r\x00\x1b[31m\x7f\x9b\u2028\ud800")
    line = drain(pipe).decode()
    assert line.endswith("\n")
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028]", line[:-1])


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_say_exception_keeps_the_trace_with_its_line(pipe, log_format):
    log.configure(log_format)
    try:
        int("first\n2026-01-01T00:00:00.000Z a line of its own", 99)
    except ValueError:
        log.say_exception("it failed")
    shown = drain(pipe).decode()
    if log_format == "json":
        assert "ValueError: int() base" in json.loads(shown)["trace"]
        return
    first, *rest = shown.splitlines()
    assert re.fullmatch(f"{TIME} error it failed", first)
    assert all(line.startswith("  | ") for line in rest)
    assert any("ValueError: int() base" in line for line in rest)


def test_say_access_has_the_same_in_both_forms(pipe):
    log.say_access(**ACCESS, request_id="abc-1")
    assert re.fullmatch(f"{TIME} access 127.0.0.1:5 GET /v1/kv/<key> 200 12B 1.234ms abc-1\n", drain(pipe).decode())
    log.configure("json")
    log.say_access(**ACCESS, request_id='"x')
    found = json.loads(drain(pipe))
    assert re.fullmatch(TIME, found.pop("time"))
    assert found == {
        "level": "info", "log": "access", "method": "GET", "route": "/v1/kv/<key>", "status": 200, "bytes": 12, "ms": 1.234,
        "id": '"x', "peer": "127.0.0.1:5",
    }  # fmt: skip


def test_say_bounds_a_line_and_a_trace(pipe):
    log.say("x" * 100_000, "y" * 1_000_000)
    assert len(drain(pipe)) < 100_000


def test_lines_that_nobody_reads_are_dropped_without_holding_the_process_up_and_counted(pipe):
    before = log.dropped()
    began = time.monotonic()
    for _ in range(2_000):
        log.say("x" * 1_000)
    assert time.monotonic() - began < 5 * log.PATIENCE
    dropped = log.dropped() - before
    assert 1_800 < dropped < 2_000
    taken = drain(pipe)
    assert taken.count(b"\n") + dropped == 2_000
    log.say("there is room")
    lost, line = drain(pipe).decode().splitlines()[-2:]
    assert lost.endswith(f"Z warning {dropped} lines were dropped: nobody read standard error")
    assert line.endswith("Z info there is room")
    log.say("all is well")
    assert drain(pipe).count(b"\n") == 1


def test_line_that_was_torn_does_not_swallow_the_next(pipe):
    os.write(log._output._fd, b"x" * (65_536 - 3 * 4_096))
    log.say("y" * 16_000)  # four pieces, and room for three
    assert drain(pipe).count(b"y") == 3 * 4_096 - 30
    log.say("next")
    shown = drain(pipe).decode().splitlines()
    assert shown[0] == ""
    assert shown[-1].endswith("Z info next")


def test_closed_standard_error_is_survived(monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setattr(log, "_output", log.Output(writing))
    os.close(reading)
    log.say("nobody is there")
    os.close(writing)
    log.say("and nothing is")


def test_lines_of_two_threads_beside_a_reader_that_does_not_read_raise_nothing_and_hold_nobody_up(pipe):
    os.set_blocking(log._output._fd, False)
    with suppress(BlockingIOError):
        while True:
            os.write(log._output._fd, b"x" * 4_096)
    failed = []

    def say():
        try:
            log.say("from a thread")
        except RuntimeError as error:
            failed.append(error)

    for _ in range(5):
        log._output.dropped = 0  # or nothing waits
        threads = [threading.Thread(target=say) for _ in range(3)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        say()
        assert time.monotonic() - began < 5 * log.PATIENCE
        for thread in threads:
            thread.join(10)
    assert failed == []
