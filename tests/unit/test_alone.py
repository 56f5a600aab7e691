"""The guard that keeps the tests away from other systems on this machine: each way around it is
refused.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

GKV = [sys.executable, "-P", "-m", "gkv.cli"]
SCRIPTS = Path(sys.executable).parent
ELSEWHERE = ["--proxy", "http://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        ([*GKV, "proxy"], {}),
        ([*GKV, "proxy", "--port=8080"], {}),
        ([*GKV, "proxy", "--config", "gkv.toml"], {}),
        ([*GKV, "proxy", "--port", "0"], {"GKV_SPAWN": "1"}),
        ([*GKV, "proxy", "--port", "0", "--spawn", "2", "--spawn-port", "8079"], {}),
        ([*GKV, "node", "0"], {}),
        ([*GKV, "node", "9000", *ELSEWHERE], {}),
        (["strace", "-f", *GKV, "node", "0"], {}),
        ([str(SCRIPTS / "gkv-node"), "0"], {}),
        ([str(SCRIPTS / "gkv-proxy"), "--port", "0"], {"GKV_CONFIG": "gkv.toml", "GKV_SPAWN": "1"}),
    ],
)
def test_process_that_would_use_a_default_is_not_started(tmp_path: Path, words: list[str], environment: dict[str, str]) -> None:
    (tmp_path / "gkv.toml").write_text("metrics = true\n")
    with pytest.raises(AssertionError, match="a test starts"):
        subprocess.Popen(words, cwd=tmp_path, env=os.environ | environment).kill()


def test_settings_of_a_file_and_of_the_environment_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "gkv.toml").write_text("port = 0\n[node]\nproxy = 'http://127.0.0.1:1'\n")
    for words in (["proxy", "--port", "0", "--nonsense"], ["node", "0", "--config", "gkv.toml", "--nonsense"]):
        done = subprocess.run([*GKV, *words], cwd=tmp_path, capture_output=True, timeout=20)
        assert done.returncode == 2  # so it was started


@pytest.mark.parametrize("port", [8080, 9000, 9001])
def test_connection_to_a_default_port_is_not_made(port: int) -> None:
    with socket.socket() as sock, pytest.raises(AssertionError, match=f"port {port}"):
        sock.connect(("127.0.0.1", port))
    with socket.socket() as sock, pytest.raises(AssertionError, match=f"port {port}"):
        sock.bind(("127.0.0.1", port))
