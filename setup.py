"""Metadata and settings are in pyproject.toml; this file hands the cffi builder over, and names the wheel."""

import sysconfig

from setuptools import setup

# cffi uses the stable interface of CPython alone, so one wheel serves 3.11 and all that follow. A build of CPython without
# its global lock has no such interface before 3.15, and setuptools refuses the name there.
without_lock = sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["csrc/build_native.py:ffibuilder"],
    options={} if without_lock else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
