"""What systemd is told about a service of `Type=notify`: one datagram each (sd_notify(3)), without
a library.

Does nothing where nobody has asked for it, never waits, and never raises: whether somebody listens
is not our concern.
"""

import os
import socket
from contextlib import suppress
from time import CLOCK_MONOTONIC, clock_gettime_ns

VARIABLE = "NOTIFY_SOCKET"


def ready() -> None:
    """Say that the service works, or works again after a reload."""
    _send("READY=1")


def reloading() -> None:
    """Say that settings are being read again; `ready` says that it is done."""
    _send(f"RELOADING=1\nMONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}")


def stopping() -> None:
    """Say that the service is about to end."""
    _send("STOPPING=1")


def _send(state: str) -> None:
    address = os.environ.get(VARIABLE, "")
    if address[:1] not in ("/", "@"):
        return
    if address[0] == "@":  # a name in Linux's abstract namespace
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_manager:
        to_manager.setblocking(False)
        to_manager.sendto(state.encode(), address)
