"""A listening socket that the supervisor holds, as sd_listen_fds(3) has it: systemd's `.socket`
units, or what does as much.

It stays open while the process is started anew. Who connects meanwhile waits in the kernel's queue,
and is not refused.
"""

import os
from contextlib import suppress
from time import monotonic
from typing import Any

from gevent import socket  # by name, so that it needs no patched process

from gkv.addresses import Address
from gkv.errors import ConfigError
from gkv.net.dialing import hosts_of

_FIRST = 3
_LOOKUP = 10.0
"""Seconds."""
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def inherited(host: str, port: int) -> Any | None:
    """Return the socket that this process was given, or None if it was given none; to be asked
    once.

    Raise ConfigError unless it is one that listens on this address; for port 0, on any port of it.
    The variables that told of it are gone afterwards, and children do not get the socket.
    """
    pid, fds, _ = (os.environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()) or fds in ("", "0"):
        return None  # what is said is meant for another process
    if fds != "1":
        raise ConfigError(f"{fds} sockets were handed over (LISTEN_FDS), and gkv listens on one")
    listener = None
    with suppress(OSError):  # nothing is there, or no socket
        os.set_inheritable(_FIRST, False)
        listener = socket.socket(fileno=_FIRST)
    if (
        listener is None
        or listener.family not in (socket.AF_INET, socket.AF_INET6)
        or listener.type != socket.SOCK_STREAM
        or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        raise ConfigError("what was handed over (LISTEN_FDS) is not a socket that listens on an IPv4 or IPv6 address")
    there = Address(*listener.getsockname()[:2])
    if there.host not in _hosts_of(host) or port not in (0, there.port):
        listener.close()
        raise ConfigError(
            f"the socket that was handed over (LISTEN_FDS) listens on {there}, the settings say {Address(host, port)}"
        )
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as `gkv.net.server.listen` has it
    return listener


def _hosts_of(host: str) -> list[str]:
    try:
        return hosts_of(host, monotonic() + _LOOKUP)
    except OSError as error:
        raise ConfigError(f"--host {host}: {error.strerror or error}") from None
