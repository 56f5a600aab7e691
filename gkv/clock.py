"""The clock of leases, silences and all else that several processes count in common."""

import time


def boot_time() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
