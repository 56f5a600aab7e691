"""A strict reader for JSON from outside.

The standard library's scanner does the work; this module closes what it leaves open: NaN and Infinity, numbers beyond the
range of a double, members that stand twice, lone surrogates, and depth. ujson is not used here: it takes raw newlines in
strings, `01`, NaN and lone surrogates.
"""

import json
import math
import re
from typing import Any, NoReturn

from gkv.errors import InvalidItem, SyntaxProblem

MAX_DEPTH = 64
"""Of arrays and objects within one value."""

_skip = re.compile(r"[ \t\n\r]*").match
_surrogate_escape = re.compile(r"\\u[dD][89a-fA-F]").search


class Refused(ValueError):
    """A value that RFC 8259 would let pass and gkv does not."""


def _no_constant(name: str) -> NoReturn:
    raise Refused(f"{name} is not JSON")


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Refused(f"the number {text[:20]}{'...' * (len(text) > 20)} is beyond the range of a double")
    return number


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Refused(f"the member {json.dumps(name)} stands twice in one object")
            seen.add(name)
    return members


_decoder = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_no_constant, object_pairs_hook=_members)
_scan = _decoder.scan_once  # type: ignore[attr-defined]  # missing in the stubs


class Reader:
    """A cursor over one JSON document.

    `value` returns the decoded value and leaves the cursor behind it; numbers come back as floats, because the text is what
    is kept and the decoded value only serves to check it.

    >>> Reader(b' [1.0, "x"] ').value()
    ([1.0, 'x'], '[1.0, "x"]')
    """

    def __init__(self, body: bytes) -> None:
        """Raise SyntaxProblem when the body is empty or not UTF-8."""
        try:
            self._text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SyntaxProblem(f"the body is not UTF-8: byte {error.start} is wrong") from None
        self._escaped_surrogates = _surrogate_escape(self._text) is not None
        self._at = 0
        if not self.peek():
            raise SyntaxProblem("the body is empty; it should be JSON")

    def peek(self) -> str:
        """Return the next character that is not white space, or "" at the end."""
        self._at = _skip(self._text, self._at).end()  # type: ignore[union-attr]  # it matches everywhere
        return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """Read one of the characters in `expected`."""
        found = self.peek()
        if not found or found not in expected:
            raise self.syntax(f"expected {' or '.join(expected)}")
        self._at += 1
        return found

    def end(self) -> None:
        """Check that only white space follows."""
        if self.peek():
            raise self.syntax("expected the end of the body")

    def value(self, pointer: str = "") -> tuple[Any, str]:
        """Read one value; return it decoded and as its text. `pointer` (RFC 6901) names it in errors."""
        self.peek()
        start = self._at
        try:
            value, self._at = _scan(self._text, start)
        except StopIteration as stop:
            self._at = stop.value
            raise self.syntax("expected a JSON value") from None
        except RecursionError:
            raise too_deep(pointer) from None
        except json.JSONDecodeError as error:
            self._at = error.pos
            raise self.syntax(error.msg) from None
        except Refused as error:
            raise InvalidItem(f"{pointer or 'the body'}: {error}", pointers=[(pointer, str(error))]) from None
        if isinstance(value, (dict, list)) or self._escaped_surrogates:
            _inspect(value, pointer)
        return value, self._text[start : self._at]

    def syntax(self, what: str) -> SyntaxProblem:
        """Return an error about the place of the cursor."""
        line = self._text.count("\n", 0, self._at) + 1
        column = self._at - self._text.rfind("\n", 0, self._at)
        return SyntaxProblem(f"the body is not JSON: {what} at line {line}, column {column}")


def too_deep(pointer: str) -> InvalidItem:
    """Return the error for a value with too many levels."""
    what = f"a value may be {MAX_DEPTH} levels deep"
    return InvalidItem(f"{pointer or 'the body'}: {what}", pointers=[(pointer, what)])


def _inspect(value: Any, pointer: str) -> None:
    """Refuse lone surrogates and too many levels. Iterative: a request must not choose how deep we recurse."""
    level = [value]
    depth = 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                check_text(item, pointer)
            elif isinstance(item, dict):
                for name in item:
                    check_text(name, pointer)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        depth += any(isinstance(item, (dict, list)) for item in level)
        if depth > MAX_DEPTH:
            raise too_deep(pointer)
        level = below


def check_text(text: str, pointer: str) -> None:
    """Raise InvalidItem for a string with a lone surrogate, which has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        what = "a string has a lone surrogate"
        raise InvalidItem(f"{pointer or 'the body'}: {what}", pointers=[(pointer, what)]) from None
