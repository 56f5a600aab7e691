"""Bytes of a data file that are not what was written."""

from pathlib import Path


def rot(file: Path, text: bytes) -> int:
    """Flip a bit in each place where a text stands in a file; return how many there are. LMDB may have older pages with it."""
    data = bytearray(file.read_bytes())
    at = data.find(text)
    found = 0
    while at >= 0:
        data[at + len(text) - 1] ^= 0x01
        found += 1
        at = data.find(text, at + 1)
    assert found, f"{text!r} is not in {file}"
    file.write_bytes(data)
    return found
