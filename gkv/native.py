"""The C extension, or the reason why it is not used.

`GKV_NATIVE` decides: `auto` (default) uses the extension where it was built, `require` refuses to run without it, `off` runs
on the pure-Python twins. Both give the same answers; only the speed differs.
"""

import os
from types import ModuleType

from gkv.errors import ConfigError

ABI = 1
"""The number in `csrc/gkv.h` that this Python code was written against."""

MODES = ("auto", "require", "off")


def _load(mode: str) -> tuple[ModuleType | None, str]:
    if mode not in MODES:
        raise ConfigError(f"GKV_NATIVE is {mode!r}; it may be one of {', '.join(MODES)}")
    if mode == "off":
        return None, "turned off by GKV_NATIVE=off"
    try:
        from gkv import _native  # type: ignore[attr-defined,unused-ignore]  # a compiled module, if it was built
    except ImportError as error:
        reason = f"it was not built ({error})"
    else:
        if _native.lib.GKV_ABI == ABI:
            return _native, ""
        reason = f"it was built from other sources (interface {_native.lib.GKV_ABI}, expected {ABI})"
    if mode == "require":
        raise ConfigError(f"GKV_NATIVE=require, but the C extension cannot be used: {reason}")
    return None, reason


mode = os.environ.get("GKV_NATIVE", "auto")
extension, why_not = _load(mode)
"""The extension module with its `ffi` and `lib`, or None and why."""

warning = f"running without the C extension: {why_not}. It is slower, and otherwise the same" * bool(
    extension is None and mode == "auto"
)
"""What to tell the operator once at the start, or "" when all is as it was asked for."""
