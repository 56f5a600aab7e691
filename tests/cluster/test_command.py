"""The command `gkv` against real systems: what it prints and ends with, exports and imports that are killed, and members that
come and go.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import INHERITED, Program, System, free_ports, spawned_in, wait_for

README = Path(__file__).parents[2] / "README.md"
WITHIN = 60.0


@pytest.fixture(scope="module")
def spawned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Give a system with small pages, so that an export has many."""
    yield from spawned_in(tmp_path_factory.mktemp("spawned"), "--max-answer", "4MiB")


class Gkv:
    """The command, in a directory and for one proxy."""

    def __init__(self, port: int, directory: Path) -> None:
        self.directory = directory
        self.environment = INHERITED | {"GKV_URL": f"http://127.0.0.1:{port}"}

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "gkv.command.main", *words],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __call__(self, *words: str, code: int = 0, given: bytes = b"") -> str:
        """Run it; return what it printed, of which nothing is a stack trace."""
        process = self.begin(*words)
        out, err = process.communicate(given, WITHIN)
        assert process.returncode == code, (words, out, err)
        assert b"Traceback" not in err
        self.err = err.decode()
        self.raw = out
        return out.decode(errors="replace")

    def succeeds(self, *words: str) -> bool:
        process = self.begin(*words)
        process.communicate(timeout=WITHIN)
        return process.returncode == 0

    def kill_when_some_is_done(self, state: str, *words: str) -> int:
        """Kill it as soon as its state says that something is done; return how many keys that were."""

        def keys() -> int:
            try:
                assert process.poll() is None, process.communicate()
                return int(json.loads((self.directory / state).read_bytes())["keys"])
            except (FileNotFoundError, ValueError):
                return 0

        process = self.begin(*words)
        done = wait_for("something that is done", keys)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=WITHIN)
        assert process.returncode == -signal.SIGKILL
        return done


@pytest.fixture
def gkv(spawned: Program, tmp_path: Path) -> Gkv:
    return Gkv(spawned.port, tmp_path)


def test_keys_are_set_shown_listed_and_deleted(gkv: Gkv) -> None:
    gkv("set", "c/text", "hello")
    gkv("set", "c/price", "1.10", "--ttl", "1h")
    gkv("set", "c/number", "42", "--string")
    (gkv.directory / "photo").write_bytes(bytes(range(256)))
    gkv("set", "c/photo", "--file", "photo", "--type", "image/png")
    gkv("set", "c/stdin", "--file", "-", "--type", "application/json", given=b'{"a": 1}')
    assert gkv("get", "c/text") == '"hello"\n'
    assert gkv("get", "-t", "c/text") == "hello\n"
    assert gkv("get", "c/price") == "1.10\n"
    assert gkv("get", "c/number") == '"42"\n'
    assert gkv("get", "c/stdin") == '{"a": 1}\n'
    gkv("get", "c/photo")
    assert gkv.raw == bytes(range(256))
    assert gkv("get", "c/text", "c/none", code=1) == '{"key":"c/text","value":"hello"}\n'
    assert gkv.err == "gkv: c/none: no such key\n"
    item = json.loads(gkv("get", "--json", "c/price"))
    assert 3500 < item["ttl"] <= 3600
    gkv("set", "c/text", "other", "--if-version", item["version"][::-1], code=3)
    assert "(condition); gkv get --json shows the version that is there" in gkv.err
    gkv("set", "c/text", "other", "--if-absent", code=3)
    assert gkv("ls", "c/") == "c/number\nc/photo\nc/price\nc/stdin\nc/text\n"
    assert gkv("ls", "-d", "/", "c") == "c/\n"
    assert "image/png         c/photo" in gkv("ls", "--long", "c/")
    assert gkv("ls", "nothing", code=1) == ""
    assert "127.0.0.1:" in gkv("locate", "c/text")
    gkv("del", "c/text")
    gkv("del", "c/text", code=1)
    assert gkv("del", "-n", "--prefix", "c/") == "4 keys would be deleted\n"
    gkv("del", "--prefix", "c/", code=2)
    assert gkv.err == "gkv: nothing was done: there is no terminal to ask at, and no --yes\n"
    assert gkv("del", "--prefix", "c/", "--yes") == "4 keys deleted\n"
    gkv("get", "c/price", code=1)


ROWS = [
    *({"key": f"e/{i:05d}", "value": {"row": i, "text": "x" * 4_000}} for i in range(6_000)),
    {"key": "e/bytes", "value": "iVBORw==", "encoding": "base64", "type": "image/png"},
    {"key": "e/line\n\x1b", "value": "\u2028"},
    {"key": "e/z", "value": 1, "ttl": 100_000},
]


def rows_of_debian() -> list[dict[str, object]]:
    """Return 200,000 rows: the packages that apt knows, again and again under other keys; made up where there is none."""
    try:
        text = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, timeout=60, check=True).stdout.decode()
    except (OSError, subprocess.SubprocessError):
        text = ""
    found = [block for block in text.split("\n\n") if block.strip()] or [f"Package: p{i}\nSize: {i}" for i in range(50_000)]
    return [{"key": f"e/{i:06d}", "value": found[i % len(found)]} for i in range(200_000)]


def test_export_and_import_that_are_killed_go_on_and_lose_nothing(gkv: Gkv, everything: bool) -> None:
    rows = rows_of_debian() if everything else ROWS
    lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows]
    rows_there = {str(row["key"]): row for row in rows}
    (gkv.directory / "in").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    done = gkv.kill_when_some_is_done("in.state", "import", "in", "--jobs", "2")
    assert 0 < done < len(rows)
    gkv("import", "in", code=2)
    assert "--resume goes on, --restart begins anew" in gkv.err
    assert json.loads(gkv("import", "in", "--resume", "--json"))["keys"] == len(rows)
    assert not (gkv.directory / "in.state").exists()

    def exported(name: str) -> dict[str, dict[str, object]]:
        text = (gkv.directory / name).read_text(encoding="utf-8")
        found = [json.loads(line) for line in text.split("\n")[:-1]]
        keys = [row["key"] for row in found]
        assert keys == sorted(set(keys))
        for row in found:
            if "ttl" in row:
                assert 99_000 < row["ttl"] <= 100_000
                row["ttl"] = 100_000
        return {row["key"]: row for row in found}

    for jobs in ("1", "3"):
        name = f"out-{jobs}"
        words = ("export", name, "--prefix", "e/", "--jobs", jobs)
        done = gkv.kill_when_some_is_done(f"{name}.part.state", *words)
        assert 0 < done < len(rows)
        assert not (gkv.directory / name).exists()
        with (gkv.directory / f"{name}.part").open("ab") as torn:
            torn.write(b'{"key":"e/torn')  # as a kill may leave it
        gkv(*words, code=2)
        gkv(*words, "--resume")
        assert exported(name) == rows_there
        gkv(*words, code=2)
        assert "is there already" in gkv.err
    gkv("del", "--prefix", "e/", "--yes")
    gkv("ls", "e/", code=1)
    gkv("import", "out-3")
    gkv("export", "again", "--prefix", "e/")
    assert exported("again") == rows_there
    (gkv.directory / "twice").write_text('{"key":"e/d","value":1}\n' * 20_000 + '{"key":"e/d","value":2}\n')
    gkv("import", "twice", "-j", "8")
    assert gkv("get", "e/d") == "2\n"
    gkv("del", "--prefix", "e/", "--yes")


def test_line_that_the_servers_refuse_is_named_by_its_number(gkv: Gkv) -> None:
    gkv("import", "-", code=3, given=b'{"key":"f/1","value":1}\n\n{"key":"f/2","value":2,"ttl":-1}\n')
    assert "gkv: line 3: " in gkv.err
    gkv("import", "-", code=3, given=b'{"key":"f/3","value":1,"ifVersion":"*"}\n{"key":"f/4","value":4}\n')
    assert "gkv: f/3: refused (condition)" in gkv.err
    assert gkv("get", "f/4") == "4\n"
    gkv("del", "--prefix", "f/", "--yes")


def test_reader_that_goes_away_ends_the_command_quietly(gkv: Gkv) -> None:
    gkv("import", "-", given=b"".join(b'{"key":"g/%05d","value":1}\n' % i for i in range(20_000)))
    process = gkv.begin("ls", "g/")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdin is not None
    process.stdin.close()
    assert process.stdout.readline() == b"g/00000\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(WITHIN) == 0
    process.stderr.close()
    gkv("del", "--prefix", "g/", "--yes")


def test_help_goes_to_a_reader_that_has_gone_away_quietly() -> None:
    into, out = os.pipe()
    os.close(into)
    try:
        command = [sys.executable, "-m", "gkv.command.main", "--help"]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, timeout=WITHIN, check=False)
    finally:
        os.close(out)
    assert (done.returncode, done.stderr) == (0, b"")


def test_state_of_members_is_shown_and_a_change_only_begins_with_a_yes(system: System) -> None:
    proxy, nodes = system.cluster(3, "--replicas", "2")
    gkv = Gkv(proxy.port, system.directory)
    gkv("import", "-", given=b"".join(b'{"key":"h/%05d","value":"precious"}\n' % i for i in range(500)))
    first, last = (f"127.0.0.1:{node.port}" for node in (nodes[0], nodes[2]))
    wait_for("a cluster with nothing wrong", lambda: gkv.succeeds("status"))
    shown = gkv("status")
    assert "ready    yes" in shown
    assert len(re.findall(r"^127\.0\.0\.1:\d+ +up ", shown, re.MULTILINE)) == 3
    assert len(json.loads(gkv("status", "--json"))["nodes"]) == 3
    assert first in gkv("members")
    assert gkv("ring").count("33.") >= 3

    gkv("snapshot", "backup")
    assert gkv("verify", "backup").count(": ok: ") == 3
    gkv("snapshot", "backup", code=2)
    command = ["-P", "-m", "gkv.cli", "proxy", "--data", "backup/proxy", "--restore"]
    names = sorted(path.name for path in (system.directory / "backup").iterdir() if path.name != "proxy")
    directories = ",".join(f"backup/{name}" for name in names)
    done = subprocess.run(
        [sys.executable, *command, directories], cwd=system.directory, env=INHERITED, capture_output=True, timeout=WITHIN
    )
    assert done.returncode == 0, done.stderr
    assert b"Restored: cluster" in done.stdout + done.stderr
    file = next((system.directory / "backup").glob("127*/data.mdb"))
    file.write_bytes(file.read_bytes().replace(b"precious", b"previous", 1))
    assert "1 problems: " in gkv("verify", str(file), code=1)

    before = proxy.call("GET", "/v1/cluster").json["epoch"]
    assert f"{last} leaves" in gkv("leave", "--dry-run", last)
    assert "% of all copies move" in gkv("leave", last, code=2)
    gkv("leave", "127.0.0.1:1", "--yes", code=3)
    stand_by = system.start("node", str(free_ports(1)), "--standby", "--proxy", f"http://127.0.0.1:{proxy.port}")
    new = "127.0.0.1:" + stand_by.wait_line(r"Listening on port \.\.\.(\d+)")[1]
    wait_for("the newcomer's call", lambda: gkv.succeeds("replace", "-n", last, new))
    assert f"{new} replaces {last}" in gkv("replace", "-n", last, new)
    assert proxy.call("GET", "/v1/cluster").json["epoch"] == before
    gkv("replace", last, new, "--yes", "--wait")
    shown = gkv("members")
    assert new in shown
    assert last not in shown
    gkv("change", code=1)
    assert "each key has 3 copies" in gkv("copies", "3", "-n")
    gkv("copies", "3", "--yes", "--wait")
    gkv("weigh", new, "--zone", "elsewhere", "--yes", "--wait")
    assert "elsewhere" in gkv("members")
    gkv("accept-loss", new, "-n", code=3)
    nodes[0].signal(signal.SIGKILL)
    wait_for("a node that is down", lambda: "down since" in gkv("status", code=1))


def commands() -> list[str]:
    """Return the lines of the README's section about the command."""
    [block] = re.findall(r"<!-- command -->\n```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return [line for line in block.splitlines() if line]


def test_lines_of_the_readme_work_as_they_are_printed(tmp_path: Path) -> None:
    """Only the ports are others."""
    first = free_ports(4)
    moved = {"8080": str(first), "9000": str(first + 1), "9002": str(first + 3)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = INHERITED | {"PATH": path, "GKV_URL": f"http://127.0.0.1:{first}"}
    lines = commands()
    assert "--spawn 2" in lines[0]
    lines[0] = lines[0].replace("--spawn 2", f"--port {first} --spawn 2 --spawn-port {first + 1}")
    lines = [re.sub(r"\b(8080|9000|9002)\b", lambda found: moved[found[1]], line) for line in lines]
    script = "\n".join(["set -e", "trap 'kill $(jobs -p); wait' EXIT", *lines])
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, timeout=WITHIN)
    logs = [file.read_text() for file in tmp_path.glob("*.log")]
    assert done.returncode == 0, (done.stdout, done.stderr, logs)
    assert (tmp_path / "all.ndjson").read_bytes().count(b"\n") == 3
