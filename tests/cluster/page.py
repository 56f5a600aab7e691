"""A page of docs/ as a script: its `sh` blocks are run in order by one shell, and `text` below one is what it prints."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import INHERITED, free_ports

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = Path(sys.executable).parent
_MISSING = [program for program in ("bash", "curl") if shutil.which(program) is None]

needs_programs = pytest.mark.skipif(bool(_MISSING), reason=f"missing: {', '.join(_MISSING)}")
needs_commands = pytest.mark.skipif(not (COMMANDS / "gkv-proxy").exists(), reason="gkv-proxy is not installed beside Python")


def _moved(text: str, port: int) -> str:
    """Return a text with ports 8080 to 8099 and 9000 to 9019 as the twenty from `port` on: a proxy on the first of ten."""
    text = re.sub(r"\b80([89])0\b", lambda found: str(port + 10 * (found[1] == "9")), text)
    return re.sub(r"\b90([01])(?=[0-9$])", lambda found: str(port // 10 + int(found[1])), text)


def _matches(written: str, printed: str) -> bool:
    """Return whether a page's text, in which `...` stands for anything within a line, is what was printed."""
    lines = [".*".join(map(re.escape, line.split("..."))) for line in written.splitlines()]
    return re.fullmatch("\n".join(lines), printed.strip()) is not None


def run(name: str, directory: Path) -> None:
    """Run a page in an empty directory; fail when a line ends in an error or prints something else, or a log has a trace."""
    port = free_ports(30) // 10 * 10 + 10
    script = ["set -eu", "trap 'kill $(jobs -p) 2> ended.log || true' EXIT"]
    shown: dict[int, str] = {}
    blocks = re.findall(r"^```(sh|text)\n(.*?)^```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for number, (kind, written) in enumerate(blocks):
        if kind == "text":
            shown[number - 1] = written.strip()
        else:
            script.append(f"{{\n{_moved(written, port)}}} > out.{number}")
    assert shown
    (directory / "run.sh").write_text("\n".join(script))
    environment = INHERITED | {
        "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
        "GKV_PORT": str(port),  # where the page relies on the defaults
        "GKV_PROXY": f"http://127.0.0.1:{port}",
    }
    command = ["timeout", "100", "bash", "run.sh"]  # which ends all that the page has started
    ran = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    logs = {path.name: path.read_text() for path in directory.glob("*.log")}
    assert ran.returncode == 0, (ran.stderr, logs)
    for number, text in shown.items():
        printed = (directory / f"out.{number}").read_text()
        assert _matches(text, printed), (text, printed)
    for log, said in logs.items():
        assert "Traceback" not in said, log
