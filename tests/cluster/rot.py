"""Bytes of a data file that are not what was written."""

import os
from pathlib import Path


def rot(file: Path, *texts: bytes) -> None:
    """Flip a bit wherever one of these texts stands in a file: LMDB may have older pages with it.

    The file may be in use: one byte is written, as a disk would change it.
    """
    data = file.read_bytes()
    descriptor = os.open(file, os.O_WRONLY)
    try:
        for text in texts:
            at = data.find(text)
            assert at >= 0, f"{text!r} is not in {file}"
            while at >= 0:
                last = at + len(text) - 1
                os.pwrite(descriptor, bytes([data[last] ^ 0x01]), last)
                at = data.find(text, at + 1)
    finally:
        os.close(descriptor)
