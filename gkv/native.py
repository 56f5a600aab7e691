"""The C extension, or the reason why it is not used.

`GKV_NATIVE` decides: `auto` (default) uses the extension where it was built, `require` refuses to run without it, `off` runs
on the pure-Python twins. Both give the same answers; only the speed differs.
"""

import os
from importlib import import_module
from types import ModuleType

from gkv.errors import ConfigError

ABI = 10
"""The number in `csrc/gkv.h` that this Python code was written against."""

MODES = ("auto", "require", "off")


def _load(mode: str) -> tuple[ModuleType | None, str]:
    if mode not in MODES:
        raise ConfigError(f"GKV_NATIVE is {mode!r}; it may be one of {', '.join(MODES)}")
    if mode == "off":
        return None, "turned off by GKV_NATIVE=off"
    try:
        module = import_module("gkv._native")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "gkv._native"
        again = "it was not built; with a C compiler at hand, install gkv again"
        reason = again if missing else f"it cannot be loaded: {error}"
    else:
        if module.lib.GKV_ABI == ABI:
            return module, ""
        reason = f"it was built from other sources (interface {module.lib.GKV_ABI}, expected {ABI}); install gkv again"
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
