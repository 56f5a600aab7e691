"""How many files a process may have open, and what it lets a server have of them; how often it
looks for garbage; where large blocks of memory lie.
"""

import ctypes
import gc
import resource
from contextlib import suppress
from dataclasses import replace

from gkv.net.server import ServerLimits

_MAX_FILES = 65_536
_MOST_OF_MACOS = 10_240
"""Its OPEN_MAX: it refuses more, although its hard limit is infinite."""
_LEAST_KEPT, _MOST_KEPT = 32, 256
"""Files that are kept for channels, the engine and what the interpreter opens: a quarter
of all, within these.
"""


def raise_file_limit() -> int:
    """Let this process have as many open files, connections above all, as it may ask for, up to
    65,536; return how many.

    The usual soft limit, 1,024, is there for programs that use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        for most in (wanted, max(soft, min(wanted, _MOST_OF_MACOS))):
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
                return most
        return soft
    return _MAX_FILES if soft == resource.RLIM_INFINITY else soft


def server_limits(max_body: int, files: int) -> ServerLimits:
    """Return the bounds of a server in a process that may have so many open files.

    >>> server_limits(1 << 20, 1_024).connections
    768
    """
    kept = max(_LEAST_KEPT, min(_MOST_KEPT, files // 4))
    usual = ServerLimits(max_body=max_body)
    return replace(usual, connections=min(usual.connections, max(1, files - kept)), spare=kept // 16)


def collect_garbage_seldom() -> None:
    """Leave what was made up to now out of garbage collection, and collect less often.

    Modules, routes and rings live as long as the process. Requests make few cycles, and reference
    counting frees the rest; with Python's usual thresholds the collector took a tenth of the time
    of a small request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""As in <malloc.h>."""
_MOVABLE = 2 << 20


def let_large_blocks_move() -> None:
    """Make the C library map each block of 2 MiB or more by itself, so that it grows without a
    copy: the system moves its pages.

    glibc would raise that bound to 32 MiB by itself as soon as a block so large has been freed.
    Then a body or an answer that grows is copied now and then, up to 32 MiB at once, which was seen
    to take 20 to 70 ms. A C library that has no such setting is left as it is.
    """
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _MOVABLE)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _MOVABLE)  # as far as glibc raises it with the other
