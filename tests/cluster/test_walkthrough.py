"""The operator's walkthrough, run as it stands on the page: from nothing to a proxy and three nodes with TLS and tokens."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import INHERITED, free_ports
from tests.cluster.terminal import UNDER, Terminal

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
MISSING = [program for program in ("bash", "curl", "openssl") if shutil.which(program) is None]
COMMANDS = Path(sys.executable).parent


def blocks() -> list[tuple[str, str]]:
    """Return the fenced blocks of the walkthrough: what each is, and its text."""
    section = PAGE.read_text(encoding="utf-8").partition("## From nothing")[2].partition("\n## ")[0]
    return re.findall(r"^```(sh|text)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


needs_programs = pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}")
needs_commands = pytest.mark.skipif(not (COMMANDS / "gkv-proxy").exists(), reason="gkv-proxy is not installed beside Python")


def moved(text: str, port: int) -> str:
    """Return a text of the page with the proxy on another port, which ends in 0, and the nodes on those after it."""
    return text.replace("900$i", f"{port // 10}$i").replace("8080", str(port))


@needs_programs
@needs_commands
def test_walkthrough_does_what_it_says(tmp_path: Path) -> None:
    port = free_ports(20) // 10 * 10 + 10  # so that 900$i becomes NNNN$i
    script = ["set -eu", "trap 'kill $(jobs -p) 2> ended.log || true' EXIT"]
    shown: list[tuple[int, str]] = []
    for number, (kind, written) in enumerate(blocks()):
        text = moved(written, port)
        if kind == "sh":
            assert "/tmp" not in text
            last = number
            script.append(f"{{\n{text}}} > out.{number}")
        else:
            shown.append((last, text))
    assert len(shown) >= 3
    # Where the page relies on the default port, the environment says the other one.
    (tmp_path / "run.sh").write_text("\n".join(script))
    environment = INHERITED | {"PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}", "GKV_PORT": str(port)}
    ran = subprocess.run(
        ["bash", "run.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL
    )
    logs = {path.name: path.read_text() for path in tmp_path.glob("*.log")}
    assert ran.returncode == 0, (ran.stderr, logs)
    for number, text in shown:
        printed = (tmp_path / f"out.{number}").read_text()
        assert re.sub(r"key(?=\{)", "key\n", printed).split() == text.split(), number
    for name, log in logs.items():
        assert "Traceback" not in log, name
        assert "stay in force" not in log, name
    for path in tmp_path.iterdir():
        if path.suffix in (".key", ".token"):
            assert path.stat().st_mode & 0o077 == 0
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing (Debian package prometheus): the scrape was not checked")
    with (tmp_path / "metrics.txt").open("rb") as scrape:
        checked = subprocess.run([promtool, "check", "metrics"], stdin=scrape, capture_output=True, text=True, timeout=20)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@needs_programs
@needs_commands
def test_walkthrough_can_be_pasted_into_a_shell_at_a_terminal(tmp_path: Path) -> None:
    port = free_ports(20) // 10 * 10 + 10
    environment = INHERITED | {
        "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
        "GKV_PORT": str(port),
        "PS1": "next> ",
        "PS2": "more> ",
        "HISTFILE": "",
        "TERM": "dumb",
    }
    terminal = Terminal()
    everything = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.descriptor)
    command = [*UNDER, "bash", "--norc", "--noediting", "-i"]
    shell = subprocess.Popen(command, cwd=tmp_path, env=environment, **everything)
    try:
        terminal.wait_for(["next> "])
        for kind, written in blocks():
            text = moved(written, port)
            if kind == "sh":
                printed = ""
                for line in text.splitlines():
                    terminal.type(f"{line}\n")
                    printed += terminal.wait_for(["next> ", "more> "], within=60)
            else:
                for line in text.splitlines():
                    assert line in printed, printed
        assert shell.poll() is None
    finally:
        terminal.hang_up()
        shell.wait(20)
    for log in tmp_path.glob("*.log"):
        said = log.read_text()
        assert "Traceback" not in said, log
        assert "the terminal is gone" not in said, log
        assert "stay in force" not in said, log
    assert (tmp_path / "proxy.log").read_text().count("the settings were read again") == 3
