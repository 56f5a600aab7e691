"""What the two programs share as processes: lines for whoever watches, and the end."""

import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace

import gevent
from gevent.event import Event
from gevent.os import make_nonblocking, nb_read

from gkv.net.server import ServerLimits

_MAX_FILES = 65_536
_LEAST_KEPT, _MOST_KEPT = 32, 256
"""Files that are kept for channels, the engine, the clock and what the interpreter opens: a quarter of all, within these."""


def raise_file_limit() -> int:
    """Let this process have as many open files, connections above all, as it may ask for, up to 65,536; return how many.

    The usual soft limit, 1,024, is there for programs that use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _MAX_FILES if soft == resource.RLIM_INFINITY else soft


def server_limits(max_body: int, files: int) -> ServerLimits:
    """Return the bounds of a server in a process that may have so many open files.

    >>> server_limits(1 << 20, 1_024).connections
    768
    """
    kept = max(_LEAST_KEPT, min(_MOST_KEPT, files // 4))
    usual = ServerLimits(max_body=max_body)
    return replace(usual, connections=min(usual.connections, max(1, files - kept)), spare=kept // 16)


def settle() -> None:
    """Leave what was made up to now out of garbage collection, and collect less often.

    Modules, routes and rings live as long as the process. Requests make few cycles, and reference counting frees the rest; with
    Python's usual thresholds the collector took a tenth of the time of a small request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def announce(line: str) -> None:
    """Write a line that scripts wait for, to standard output, at once."""
    sys.stdout.write(f"{line}\n")  # one piece: print() would let lines of several processes run into each other
    sys.stdout.flush()


def end_on_signals(on_hangup: Callable[[], object]) -> Event:
    """Return an event that SIGTERM or SIGINT sets; a second signal ends the process at once.

    SIGHUP calls `on_hangup`, in a greenlet of its own, unless the end has begun. In a process that was started at a terminal it
    ends the process too: the terminal is gone, and whoever sat there expects nothing to go on behind their back.
    """
    ending = Event()

    def on_signal(number: int) -> None:
        if ending.is_set():
            os._exit(128 + number)
        ending.set()

    def on_sighup() -> None:
        if not ending.is_set():
            on_hangup()

    ends = [signal.SIGTERM, signal.SIGINT]
    if _at_terminal():
        ends.append(signal.SIGHUP)
    else:
        gevent.signal_handler(signal.SIGHUP, on_sighup)
    for number in ends:
        gevent.signal_handler(number, on_signal, number)
    return ending


def _at_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False


def end_with_stdin(ending: Event) -> None:
    """Set `ending` when standard input closes. Switches greenlets until then."""
    make_nonblocking(0)
    while nb_read(0, 4096):
        pass
    ending.set()
