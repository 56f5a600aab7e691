"""What a process asks of the system for itself."""

import platform
import subprocess
import sys

import pytest

WHERE_A_BLOCK_LIES = """
import ctypes
from gkv.process.limits import let_large_blocks_move

let_large_blocks_move()
for _ in range(3):
    bytearray(31 << 20)  # glibc takes note of a large block when it is freed
block = bytearray(8 << 20)
address = ctypes.addressof(ctypes.c_char.from_buffer(block))
for line in open("/proc/self/maps"):
    start, end = [int(bound, 16) for bound in line.split()[0].split("-")]
    if start <= address < end:
        print(line.split()[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, and has no such setting")
def test_large_blocks_are_mapped_by_themselves_also_after_some_were_freed() -> None:
    found = subprocess.run([sys.executable, "-c", WHERE_A_BLOCK_LIES], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() not in ("", "[heap]")
