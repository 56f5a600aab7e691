"""Guards that are taken out for a while: another function in the place of one of a machine's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Replacement = tuple[object, str, Any]
"""A class or module, the name of what is replaced there, and what takes its place."""


@contextmanager
def without(replacements: Sequence[Replacement]) -> Iterator[None]:
    """Put replacements in place, and take them away again."""
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in replacements]
    try:
        for owner, name, value in replacements:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
