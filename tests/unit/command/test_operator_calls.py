"""Calls of an operator at a server that the test plays: changes that are watched, snapshots, and calls without an answer."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gkv.command import operator, servers
from gkv.command.codes import Code
from gkv.command.main import run

CHANGE = {"what": "a leaves", "share": 0.5, "rate": 10.0}
Answers = Callable[[str, str], Any]
"""By method and path: a JSON document, bytes, or None for no answer."""


class Played:
    """The server."""

    def __init__(self) -> None:
        self.answers: Answers = lambda _method, _path: {}
        self.bodies: list[Any] = []
        """Of the calls with one."""
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = played.answers(self.command, self.path)
                if found is None:
                    self.connection.close()
                    return
                body = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_DELETE(self) -> None:
                self.do_GET()

            def do_PATCH(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                played.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def run(self, line: str) -> int:
        return run([*line.split(), "--url", self.url])

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def played() -> Iterator[Played]:
    found = Played()
    yield found
    found.close()


def cluster(*members: dict[str, Any], **more: Any) -> dict[str, Any]:
    usual = {"url": "", "weight": 1.0, "zone": "", "state": "up", "keys": 7}
    document = {"cluster": "c", "members": [usual | one for one in members], "change": None, "next": None, "next_since": 0}
    return document | {"replicas": 1, "vnodes": 16} | more


PLAN = {"change": {"what": "a leaves"}, "moves": [], "moved": 0.0, "keys": 0, "bytes": 0, "seconds": None}


def test_member_that_drops_its_keys_for_long_is_waited_for(
    played: Played, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operator, "_IDLE", 0.15)
    monkeypatch.setattr(operator, "_EVERY", 0.05)
    left = [*range(8, -1, -1)]

    def answers(method: str, path: str) -> Any:
        if path != "/v1/cluster":
            return PLAN
        if not left:
            return cluster({"id": "b"})
        return cluster({"id": "b"}, {"id": "a", "weight": 0.0, "keys": left.pop(0)})

    played.answers = answers
    assert played.run("leave a --yes --wait") == Code.DONE
    played.answers = lambda _, path: cluster({"id": "a", "weight": 0.0}) if path == "/v1/cluster" else PLAN
    assert played.run("leave a --yes --wait") == Code.NOT_SO
    assert "nothing changes" in capsys.readouterr().err


def test_member_is_weighed_and_copies_are_counted_until_it_is_so(
    played: Played, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operator, "_EVERY", 0.01)
    seen = [cluster({"id": "a"}, change=CHANGE)] * 2 + [cluster({"id": "a", "weight": 2.0, "zone": "z"}, replicas=3)]
    looks = iter([seen[0], *seen, seen[0], *seen])
    played.answers = lambda _, path: next(looks) if path == "/v1/cluster" else PLAN | {"begins_in": 0.0}
    assert played.run("weigh a --weight 2 --zone z --yes --wait") == Code.DONE
    assert played.bodies == [{"weight": 2.0, "zone": "z"}] * 2
    assert "a has weight 2.0, zone z" in capsys.readouterr().err
    played.answers = lambda method, path: next(looks) if (method, path) == ("GET", "/v1/cluster") else PLAN | {"begins_in": 0.0}
    assert played.run("copies 3 --force --yes --wait") == Code.DONE
    assert played.bodies[2:] == [{"replicas": 3}] * 2
    assert "there are 3 copies" in capsys.readouterr().err
    assert played.run("weigh a --yes") == Code.USAGE
    assert played.run("copies 0 --yes") == Code.USAGE


@pytest.mark.parametrize(
    ("line", "body", "words"),
    [
        ("change --pause", {"paused": True}, "a leaves: paused, at the nodes' --fill-rate"),
        ("change --resume --rate 500", {"paused": False, "rate": 500}, "a leaves: goes on, with 500 records/s of a node"),
        ("change --rate 0", {"rate": 0}, "a leaves: goes on, with no bound"),
        ("change --rate usual", {"rate": None}, "a leaves: goes on, at the nodes' --fill-rate"),
    ],
)
def test_pace_of_a_change(
    played: Played, line: str, body: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    granted = {"change": CHANGE, "paused": body.get("paused", False), "rate": body.get("rate")}
    played.answers = lambda method, _: granted if method == "PATCH" else cluster({"id": "a"}, change=CHANGE)
    assert played.run(line) == Code.DONE
    assert played.bodies == [body]
    assert capsys.readouterr().out.strip() == words


def test_change_is_shown_and_taken_back(
    played: Played, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operator, "_EVERY", 0.01)
    running: list[Any] = [CHANGE]
    calls: list[str] = []

    def answers(method: str, path: str) -> Any:
        calls.append(f"{method} {path}")
        if method == "DELETE" and "dryRun" not in path:
            running[0] = None
        return cluster({"id": "a"}, change=running[0]) if method == "GET" else PLAN | {"begins_in": 0.0}

    played.answers = answers
    assert played.run("change") == Code.DONE
    assert "a leaves: 50% done" in capsys.readouterr().out
    assert played.run("change --undo -n") == Code.DONE
    assert running == [CHANGE]
    assert played.run("change --undo --yes --wait") == Code.DONE
    assert calls[-2] == "DELETE /v1/cluster/change"
    assert "it is taken back" in capsys.readouterr().err
    assert played.run("change") == Code.NOT_SO
    for odd in ("--pause --resume", "--undo --rate 5", "--rate -5", "--rate much"):
        assert played.run(f"change {odd}") == Code.USAGE


def test_loss_is_accepted_after_what_follows_was_shown(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    follows = {"node": "a", "acts": ["b"], "keys": 1200, "fills": ["a"], "waits_for": ["c"]}
    paths: list[str] = []

    def answers(method: str, path: str) -> Any:
        paths.append(path)
        return cluster({"id": "a"}) if method == "GET" else follows

    played.answers = answers
    assert played.run("accept-loss a -n") == Code.DONE
    assert played.run("accept-loss a") == Code.USAGE  # there is nobody to be asked
    assert all(path.endswith(("/v1/cluster", "?dryRun=1")) for path in paths)
    assert played.run("accept-loss a --yes") == Code.DONE
    assert (paths[-1], played.bodies[-1]) == ("/v1/cluster/accept-loss", {"node": "a"})
    out = capsys.readouterr().out
    assert "its keys are answered by b, which holds 1,200 keys" in out
    assert "some keys wait still, for c" in out


def test_change_without_an_answer_may_have_begun(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    played.answers = lambda _, path: cluster({"id": "a"}) if path == "/v1/cluster" else PLAN if "dryRun" in path else None
    assert played.run("leave a --yes") == Code.UNKNOWN
    assert "gkv status shows whether it has begun" in capsys.readouterr().err
    played.answers = lambda _, path: cluster({"id": "a"}) if path == "/v1/cluster" else None
    assert played.run("leave a --yes") == Code.LATER


def test_snapshots_are_of_one_ring(played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents: list[dict[str, Any]] = []

    def answers(_: str, path: str) -> Any:
        return documents.pop(0) if path == "/v1/cluster" else b"records"

    played.answers = answers
    here = {"id": "a", "url": played.url}
    gone = {"id": "b", "url": "http://127.0.0.1:1", "weight": 0.0}
    documents += [cluster(here, next={}, next_since=3)]
    assert played.run(f"snapshot {tmp_path}/one") == Code.LATER
    assert "the ring is changing" in capsys.readouterr().err
    documents += [cluster(here), cluster(here, {"id": "c"})]
    assert played.run(f"snapshot {tmp_path}/two") == Code.LATER
    assert "the ring has changed" in capsys.readouterr().err
    assert not (tmp_path / "two" / "proxy").exists()
    documents += [cluster(here, gone), cluster(here, gone)]
    assert played.run(f"snapshot {tmp_path}/three") == Code.DONE
    assert (tmp_path / "three" / "a" / "data.mdb").read_bytes() == b"records"
    assert not (tmp_path / "three" / "b").exists()


def test_disk_that_does_not_take_a_snapshot_is_named(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(servers, "write_all", full)
    played.answers = lambda _, path: cluster({"id": "a", "url": played.url}) if path == "/v1/cluster" else b"records"
    assert played.run(f"snapshot {tmp_path}/one") == Code.REFUSED
    assert f"{tmp_path}/one/a/data.mdb.part: No space left on device" in capsys.readouterr().err
