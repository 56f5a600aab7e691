"""Systems other than Linux: a macOS that is played, by taking away what only Linux has, and those on which gkv ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import System

AS_ON_MACOS = """
import fcntl, os, resource, select, signal, socket, time

ONLY_LINUX = {
    os: "posix_fallocate posix_fadvise fdatasync pipe2 splice eventfd memfd_create pidfd_open copy_file_range getrandom"
        " sched_getaffinity sched_setaffinity setresuid getresuid prlimit O_DIRECT O_TMPFILE O_PATH O_NOATIME O_LARGEFILE",
    fcntl: "F_SETPIPE_SZ F_GETPIPE_SZ F_NOTIFY F_SETLEASE F_GETLEASE",
    time: "CLOCK_BOOTTIME CLOCK_TAI",
    socket: "SOCK_CLOEXEC SOCK_NONBLOCK SO_PEERCRED SO_BINDTODEVICE SO_DOMAIN SO_PROTOCOL TCP_USER_TIMEOUT TCP_QUICKACK"
        " TCP_CORK TCP_DEFER_ACCEPT",
    select: "epoll",
    signal: "sigtimedwait sigwaitinfo SIGRTMIN SIGRTMAX SIGPOLL SIGPWR SIGSTKFLT pthread_sigqueue",
    resource: "prlimit",
}
for module, names in ONLY_LINUX.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
        if name in getattr(module, "__all__", ()):
            module.__all__.remove(name)

set_limit = resource.setrlimit

def setrlimit(which, limits):
    if which == resource.RLIMIT_NOFILE and limits[0] > 10_240:
        raise ValueError("current limit exceeds maximum limit")
    set_limit(which, limits)

set_limit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
resource.setrlimit = setrlimit
"""


def test_one_copy_works_without_what_only_linux_has(system: System) -> None:
    place = system.directory / "macos"
    place.mkdir()
    (place / "sitecustomize.py").write_text(AS_ON_MACOS)
    macos = {"PYTHONPATH": str(place), "NOTIFY_SOCKET": str(place / "nobody")}
    proxy = system.proxy(**macos)
    node = system.node(proxy, **macos)
    node_files = Path(f"/proc/{node.process.pid}/limits").read_text()
    assert "10240" in next(line for line in node_files.splitlines() if line.startswith("Max open files"))
    assert proxy.call("POST", "/set", [{"key": "hi", "value": "hello"}]).body == b"Success to set key"
    assert len(node.call("GET", "/v1/snapshot").body) > 0
    node.signal(signal.SIGTERM)
    assert node.ended() == 0
    again = system.node(proxy, port=node.port, **macos)
    assert proxy.call("GET", "/get?key=hi").json == {"existedKey": [{"key": "hi", "value": "hello"}]}
    assert proxy.call("GET", "/locate?key=hi").json["keys"][0]["primary"].endswith(f":{again.port}")


@pytest.mark.parametrize("command", ["proxy", "node"])
@pytest.mark.parametrize("name", ["win32", "cygwin", "freebsd14"])
def test_other_systems_end_with_one_line_before_anything_that_they_lack_is_imported(command: str, name: str) -> None:
    script = (
        f"import sys; sys.platform = {name!r}; sys.modules['signal'] = sys.modules['fcntl'] = sys.modules['gevent'] = None; "
        f"import gkv.cli; gkv.cli.{command}()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 78
    assert ended.stdout == ""
    assert ended.stderr == f"gkv runs on Linux, and on macOS for development; this system is {name}\n"
