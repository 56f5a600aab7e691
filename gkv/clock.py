"""The clock of leases, silences and all else that several processes count in common."""

import time

BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC_RAW)
"""The system's number of a clock that nobody sets, and that goes on while the machine sleeps. On macOS, which has no
CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW does; on Linux that one stands still meanwhile."""


def boot_time() -> float:
    """Return seconds of that clock."""
    return time.clock_gettime(BOOT_CLOCK)
