"""Servers that are none, hang or break off, and outputs that do not take what is written."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic, sleep

import pytest

from gkv.client import calls
from gkv.command.codes import Code
from gkv.command.main import run
from tests.cluster.conftest import wait_for
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
def test_server_that_hangs_or_breaks_off_is_one_line(
    line: str, act: Act, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calls, "FIRST_PAUSE", 60.0)  # there is no second attempt, which may be late in another way
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
        assert run([*line.split(), "--url", server.url, "--timeout", "2s"]) == Code.UNKNOWN
        assert len(server.requests) == 3
    assert "(no-answer)" in capsys.readouterr().err


def test_next_endpoint_is_asked_for_the_members() -> None:
    with Scripted(hang) as first, Scripted(CLUSTER) as second:
        assert run(["members", "--url", f"{first.url},{second.url}", "--timeout", "2s"]) == Code.NOT_SO


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


@pytest.mark.parametrize(("closed", "code"), [("<&-", Code.USAGE), (">&-", Code.DONE), ("2>&-", Code.USAGE)])
def test_standard_streams_may_be_closed(closed: str, code: Code) -> None:
    line = "del --prefix p" if code == Code.USAGE else "get k"
    pages = answer(200, {"keys": ["p"], "complete": True}) if code == Code.USAGE else answer(200, b"1", ETag='"1"')
    with Scripted(pages) as server:
        shell = f"exec {sys.executable} -P -m gkv.command.main {line} {closed}"
        done = subprocess.run(
            ["sh", "-c", shell], env={**os.environ, "GKV_URL": server.url}, capture_output=True, check=False, timeout=60
        )
    assert b"Traceback" not in done.stderr
    assert done.returncode == code


def test_export_to_a_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Scripted() as server:
        for name in (".", "..", str(tmp_path)):
            assert run(["export", name, "--url", server.url]) == Code.USAGE
            assert capsys.readouterr().err == f"gkv: {name} is a directory; an export takes a file\n"


def test_import_of_a_pipe_is_one_that_cannot_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    info, done = answer(200, {"cluster": "c"}), answer(200, {"set": 1, "nodes": 1, "version": "v"})
    os.mkfifo(pipe)
    with Scripted(info, *[done] * 9) as server:
        writer = threading.Thread(target=lambda: pipe.write_bytes(b'{"key":"k","value":1}\n' * 10_001))
        writer.start()
        assert run(["import", str(pipe), "--url", server.url, "-j", "1"]) == Code.DONE
        writer.join()
    assert "10,001 keys" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [pipe]
    with Scripted(info) as server:
        writer = threading.Thread(target=lambda: pipe.write_bytes(b""))
        writer.start()
        assert run(["import", str(pipe), "--resume", "--url", server.url]) == Code.USAGE
        writer.join()
    assert "is a pipe; --resume" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["get k", "export -", "export f", "import in"])
def test_interruption_ends_a_command_whose_server_hangs(line: str, tmp_path: Path) -> None:
    """The second one at once, whatever is on its way; an import waits for that after the first."""
    (tmp_path / "in").write_text('{"key":"k","value":1}\n', encoding="utf-8")
    acts = [] if line in ("get k", "export -") else [answer(200, {"cluster": "c"})]
    with Scripted(*acts, hang, hang) as server:
        program = [sys.executable, "-P", "-m", "gkv.command.main", *line.split(), "--url", server.url]
        path = {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(program, cwd=tmp_path, env=os.environ | path, stderr=subprocess.PIPE)
        wait_for("a call that hangs", lambda: len(server.requests) == len(acts) + 1)
        begun = monotonic()
        while process.poll() is None and monotonic() < begun + 15:
            process.send_signal(signal.SIGINT)
            sleep(0.3)
        process.kill()
        _, err = process.communicate(timeout=60)
    assert process.returncode == Code.INTERRUPTED, err
    assert err.endswith(b"gkv: interrupted\n")
    assert b"Traceback" not in err


@pytest.mark.parametrize("code", ["forbidden", "unauthorized", "of-tomorrow"])
def test_import_stops_at_a_refusal_that_is_of_no_line_and_can_go_on(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "in"
    file.write_text("".join(f'{{"key":"{number}","value":1}}\n' for number in range(20_001)), encoding="utf-8")
    info, done = answer(200, {"cluster": "c"}), answer(200, {"set": 1, "nodes": 1, "version": "v"})
    line = ["import", str(file), "-j", "1"]
    with Scripted(info, done, answer(403, problem=code), *[done] * 9) as server:
        assert run([*line, "--url", server.url]) == Code.REFUSED
    err = capsys.readouterr().err
    assert f"({code})" in err
    assert "10,000 keys" in err
    with Scripted(info, *[done] * 9) as server:
        assert run([*line, "--resume", "--url", server.url]) == Code.DONE
        assert len(server.requests) == 3
