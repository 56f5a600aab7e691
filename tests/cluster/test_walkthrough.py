"""The operator's walkthrough, run as it stands on the page: from nothing to a proxy and three nodes with TLS and tokens."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import INHERITED, free_ports

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
MISSING = [program for program in ("bash", "curl", "openssl") if shutil.which(program) is None]
COMMANDS = Path(sys.executable).parent


def blocks() -> list[tuple[str, str]]:
    """Return the fenced blocks of the walkthrough: what each is, and its text."""
    section = PAGE.read_text(encoding="utf-8").partition("## From nothing")[2].partition("\n## ")[0]
    return re.findall(r"^```(sh|text)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}")
@pytest.mark.skipif(not (COMMANDS / "gkv-proxy").exists(), reason="gkv-proxy is not installed beside Python")
def test_walkthrough_does_what_it_says(tmp_path: Path) -> None:
    port = free_ports(10) // 10 * 10 + 10  # so that 900$i becomes NNNN$i
    script = ["set -eu", "trap 'kill $(jobs -p) 2> ended.log || true' EXIT"]
    shown: list[tuple[int, str]] = []
    for number, (kind, written) in enumerate(blocks()):
        text = written.replace("900$i", f"{port // 10}$i").replace("8080", str(port))
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
