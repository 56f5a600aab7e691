"""Metadata and settings are in pyproject.toml; this file only hands the cffi builder over."""

from setuptools import setup

setup(cffi_modules=["csrc/build_native.py:ffibuilder"])
