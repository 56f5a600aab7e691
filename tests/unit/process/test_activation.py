"""Listening sockets that are handed over: descriptor 3 is this process's own business, so each case is a process."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

TAKE = """
import os, sys
os.dup2(int(sys.argv[4]), 3)
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[3]))
from gkv.errors import ConfigError
from gkv.process.activation import inherited
try:
    listener = inherited(sys.argv[1], int(sys.argv[2]))
except ConfigError as error:
    print("refused:", error)
else:
    print(listener and (listener.getsockname(), os.get_inheritable(3)))
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Give a socket that listens on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def take(handed: socket.socket | None, host: str, port: int, *, fds: str = "1", pid_off: int = 0) -> str:
    """Return what a process says that was given a socket as descriptor 3."""
    environment = os.environ | {"LISTEN_FDS": fds, "LISTEN_FDNAMES": "gkv"}
    source = os.open("/dev/null", os.O_RDONLY) if handed is None else os.dup(handed.fileno())
    high = os.dup(source)
    try:
        done = subprocess.run(
            [sys.executable, "-c", TAKE, host, str(port), str(pid_off), str(high)],
            env=environment,
            pass_fds=[high],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    finally:
        os.close(source)
        os.close(high)
    assert done.returncode == 0, done.stderr
    said, left = done.stdout.splitlines()
    assert left == "[]"  # whoever is started from here shall not take it for its own
    return said


def test_socket_that_was_handed_over_is_taken_and_not_passed_on(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    assert take(listener, host, port) == f"{((host, port), False)}"
    assert take(listener, host, 0) == f"{((host, port), False)}"


def test_socket_that_is_meant_for_another_process_is_left_alone(listener: socket.socket) -> None:
    assert take(listener, *listener.getsockname(), pid_off=1) == "None"
    assert take(listener, *listener.getsockname(), fds="0") == "None"


def test_socket_with_another_address_is_refused_naming_both(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    assert take(listener, host, port - 1).endswith(f"listens on {host}:{port}, the settings say {host}:{port - 1}")
    assert take(listener, "127.0.0.2", port).endswith(f"listens on {host}:{port}, the settings say 127.0.0.2:{port}")


def test_what_is_no_listening_socket_is_refused(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    with socket.create_connection((host, port)) as connection, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for handed in (None, connection, datagrams):
            assert take(handed, host, port).startswith("refused: what was handed over (LISTEN_FDS) is not a socket")


@pytest.mark.parametrize("fds", ["2", "many"])
def test_other_than_one_socket_is_refused(listener: socket.socket, fds: str) -> None:
    assert take(listener, *listener.getsockname(), fds=fds).startswith(f"refused: {fds} sockets were handed over")
