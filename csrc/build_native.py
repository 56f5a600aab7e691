"""Hands csrc/ to cffi; setuptools calls it through setup.py.

The extension is optional: where no C compiler works, setuptools warns and installs gkv without it, and gkv runs on its
pure-Python twins.
"""

from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).parent

ffibuilder = FFI()
ffibuilder.cdef((ROOT / "gkv.h").read_text(encoding="ascii"))
ffibuilder.set_source(
    "gkv._native",
    '#include <stddef.h>\n#include <stdint.h>\n#include "gkv.h"\n',
    sources=["csrc/murmur3.c", "csrc/ring.c", "csrc/json.c", "csrc/scan.c", "csrc/route.c"],
    depends=["csrc/gkv.h", "csrc/json.h", "csrc/keys.h"],
    include_dirs=["csrc"],
    extra_compile_args=["-std=c11", "-O3", "-Wall", "-Wextra"],
    optional=True,
)
