"""Servers that are none, hang or break off, and outputs that do not take what is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gkv.command.codes import Code
from gkv.command.main import run
from tests.unit.client.scripted import Act, Scripted, answer, break_off, drip, drop, hang

LINES = ["status", "members", "ring", "leave a -n", "join 1 -n", "replace a b -n", "snapshot /nowhere/at/all"]
RUBBISH: dict[str, Act] = {
    "a page": answer(200, b"<html>", Content_Type="text/html"),
    "a list": answer(200, []),
    "nothing in it": answer(200, {}),
    "members that are none": answer(200, {"members": [1]}),
    "not UTF-8": answer(200, b"\xff"),
    "nested": answer(200, b"[" * 100_000),
}


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("line", [*LINES, "export -", "import -"])
def test_answer_of_something_else_is_one_line(line: str, rubbish: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Scripted(*[RUBBISH[rubbish]] * 9) as server:
        assert run([*line.split(), "--url", server.url]) == Code.REFUSED
    out, err = capsys.readouterr()
    assert out == ""
    assert "gkv" in err.replace("gkv: ", "", 1)
    assert "(bad-answer)" in err
    assert len(err.splitlines()) <= (2 if line == "export -" else 1)


@pytest.mark.parametrize("act", [hang, drip, drop, break_off])
@pytest.mark.parametrize("line", LINES)
def test_server_that_hangs_or_breaks_off_is_one_line(line: str, act: Act, capsys: pytest.CaptureFixture[str]) -> None:
    with Scripted(*[act] * 9) as server:
        assert run([*line.split(), "--url", server.url, "--timeout", "300ms"]) == Code.LATER
    err = capsys.readouterr().err
    assert "no whole answer: " in err
    assert err.count("\n") == 1


CLUSTER = answer(200, {"cluster": "c", "members": []})
PLAN = answer(200, {"change": {"what": "a leaves"}, "moves": [], "moved": 0.5, "keys": 1, "bytes": 1})


@pytest.mark.parametrize("act", [drop, break_off, hang])
@pytest.mark.parametrize("line", ["leave a --yes", "replace a b --yes"])
def test_change_without_an_answer_may_have_begun(line: str, act: Act, capsys: pytest.CaptureFixture[str]) -> None:
    with Scripted(CLUSTER, PLAN, act) as server:
        assert run([*line.split(), "--url", server.url, "--timeout", "300ms"]) == Code.UNKNOWN
        assert len(server.requests) == 3
    assert "(indeterminate)" in capsys.readouterr().err


def test_next_endpoint_is_asked_for_the_members() -> None:
    with Scripted(hang) as first, Scripted(CLUSTER) as second:
        assert run(["members", "--url", f"{first.url},{second.url}", "--timeout", "300ms"]) == Code.NOT_SO


def command(line: list[str], url: str, out: object, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    program = [sys.executable, "-P", "-m", "gkv.command.main", *line]
    return subprocess.run(
        program, env={**os.environ, "GKV_URL": url, **environment}, stdout=out, stderr=subprocess.PIPE, timeout=60
    )  # type: ignore[call-overload,no-any-return]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_is_full_is_one_line() -> None:
    for size in (1, 100_000):
        value = answer(200, b'"' + b"x" * size + b'"', ETag='"1"')
        with Scripted(value) as server, Path("/dev/full").open("wb") as full:
            done = command(["get", "k"], server.url, full)
        assert done.stderr.startswith(b"gkv: ")
        assert done.stderr.endswith(b"No space left on device\n")
        assert done.stderr.count(b"\n") == 1
        assert done.returncode == Code.REFUSED


def test_value_is_written_as_it_is_stored_whatever_the_locale_says() -> None:
    text = '"\u2028\u65e5"'.encode()
    with Scripted(answer(200, text, ETag='"1"')) as server:
        done = command(["get", "k"], server.url, subprocess.PIPE, PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert (done.stdout, done.stderr, done.returncode) == (text + b"\n", b"", 0)
