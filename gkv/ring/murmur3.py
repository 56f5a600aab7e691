"""MurmurHash3 in pure Python: the definition that csrc/murmur3.c must agree with."""

from collections.abc import Sequence

_MASK = (1 << 64) - 1
_C1 = 0x87C37B91114253D5
_C2 = 0x4CF5AD432745937F


def _mix1(k: int) -> int:
    k = k * _C1 & _MASK
    return (k << 31 | k >> 33) * _C2 & _MASK


def _mix2(k: int) -> int:
    k = k * _C2 & _MASK
    return (k << 33 | k >> 31) * _C1 & _MASK


def _avalanche(h: int) -> int:
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & _MASK
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return h ^ h >> 33


def murmur3_x64_128(data: bytes, seed: int = 0) -> tuple[int, int]:
    """Return the two unsigned 64-bit halves of MurmurHash3_x64_128 (Austin Appleby, public domain).

    >>> [f"{half:016x}" for half in murmur3_x64_128(b"hello")]
    ['cbd8a7b341bd9b02', '5b1e906a48ae1d19']
    """
    h1 = h2 = seed
    size = len(data)
    blocks = size & ~15
    for at in range(0, blocks, 16):
        h1 ^= _mix1(int.from_bytes(data[at : at + 8], "little"))
        h1 = ((h1 << 27 | h1 >> 37) + h2) * 5 + 0x52DCE729 & _MASK
        h2 ^= _mix2(int.from_bytes(data[at + 8 : at + 16], "little"))
        h2 = ((h2 << 31 | h2 >> 33) + h1) * 5 + 0x38495AB5 & _MASK
    h2 ^= _mix2(int.from_bytes(data[blocks + 8 :], "little"))
    h1 ^= _mix1(int.from_bytes(data[blocks : blocks + 8], "little"))

    h1 ^= size
    h2 ^= size
    h1 = h1 + h2 & _MASK
    h2 = h2 + h1 & _MASK
    h1 = _avalanche(h1)
    h2 = _avalanche(h2)
    h1 = h1 + h2 & _MASK
    return h1, h2 + h1 & _MASK


def token(key: str) -> int:
    """Return a key's place on the ring: the first 64 bits of the hash of its UTF-8 bytes, seed 0.

    >>> f"{token('hello'):016x}"
    'cbd8a7b341bd9b02'
    """
    return murmur3_x64_128(key.encode())[0]


def tokens(keys: Sequence[str] | Sequence[bytes]) -> bytes:
    """Return the token of each key in this order, 8 bytes each, the most significant first. All are texts, or all any bytes.

    >>> tokens(["hello", ""]).hex()
    'cbd8a7b341bd9b020000000000000000'
    >>> tokens([b"hello", b""]) == tokens(["hello", ""])
    True
    """
    pieces = [key.encode() if isinstance(key, str) else key for key in keys]
    return b"".join([murmur3_x64_128(piece)[0].to_bytes(8, "big") for piece in pieces])
