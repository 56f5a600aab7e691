"""Counters: what adding to a value makes of it. Nothing here switches greenlets.

A counter is a JSON integer in a form that every client reads without loss: at most 18 digits, which fit into 64 bits with a
sign. `1.0` and `1e2` are numbers, and written by somebody who counts otherwise; they are refused, never rewritten.
"""

import re
from enum import Enum

from gkv.model import Value

MAX_DIGITS = 18
"""Of a counter, and of what is added to it."""
MAX_DELTA = 10**MAX_DIGITS - 1

_integer = re.compile(rb"[ \t\n\r]*(-?(?:0|[1-9][0-9]*))[ \t\n\r]*").fullmatch
_delta = re.compile(rf"-?(?:0|[1-9][0-9]{{0,{MAX_DIGITS - 1}}})").fullmatch


class NoSum(Enum):
    """Why something cannot be added to a value."""

    WRONG_TYPE = "wrong-type"
    """The value is no JSON integer."""
    TOO_MANY_DIGITS = "too-many-digits"
    """The sum would have more than `MAX_DIGITS` digits."""


def read_delta(text: str) -> int | None:
    """Return what is to be added, or None for a text that is no integer of at most `MAX_DIGITS` digits.

    >>> read_delta("-5"), read_delta("1.5"), read_delta("+1")
    (-5, None, None)
    """
    return int(text) if _delta(text) else None


def add(value: Value | None, delta: int) -> int | NoSum:
    """Return the sum of a value and a number of at most `MAX_DIGITS` digits; no value counts as 0.

    >>> add(b" 41 ", 1), add(None, 7), add(b"1.5", 1)
    (42, 7, <NoSum.WRONG_TYPE: 'wrong-type'>)
    """
    if value is None:
        return delta
    found = _integer(value) if isinstance(value, bytes) else None
    if found is None:
        return NoSum.WRONG_TYPE
    text = found[1]
    if len(text) > MAX_DIGITS + 2:  # a sign, and one digit that a sum can lose
        return NoSum.TOO_MANY_DIGITS
    total = int(text) + delta
    return total if abs(total) <= MAX_DELTA else NoSum.TOO_MANY_DIGITS
