"""A strict reader for JSON from outside, over the bytes as they came.

The text is checked where it stands, token by token, and never decoded as a whole: exactly RFC 8259
in UTF-8, no NaN or Infinity, no number beyond the range of a double, no member twice, no lone
surrogate, at most `MAX_DEPTH` levels. Errors come in the order of the bytes. A text may be bounded;
the reader refuses it as soon as it passes the bound. Memory: the names of one value, nothing else.

Regular expressions do the work, each over a bounded stretch. A `pause` is called between stretches,
so that others can have a turn, and may switch greenlets. Cost: 1 us for a short scalar, 0.2 us for
an element of an array, 2 us for a member. The standard library's scanner is no choice here: nothing
can interrupt it, and it takes 25 bytes of memory for each byte of `[[],[]]`. Neither is ujson, which
takes raw newlines in strings, `01`, NaN and lone surrogates.
"""

import json
import re
from collections.abc import Callable
from math import isinf
from typing import Any, NamedTuple, NoReturn

from gkv.errors import InvalidItem, SyntaxProblem, TooLarge

MAX_DEPTH = 64
"""Of arrays and objects within one value."""

Pause = Callable[[], object]
"""Called between steps of long work, each of which takes a millisecond or so."""


def no_pause() -> None:
    """Go on at once, for work that is short."""


class Bound(NamedTuple):
    """The most bytes that a text may have, and the words that refuse a longer one."""

    most: int
    words: str


_STRETCH = 65_536
"""Bytes that are looked at in one step, where nothing else bounds it."""

_SPACE = rb"[ \t\n\r]*+"
_NUMBER = rb"-?(?:0|[1-9][0-9]{0,99}+)(?:\.[0-9]{1,99}+)?(?:[eE][+-]?[0-9]{1,2}+)?(?=[ \t\n\r,\]}])"
"""A number that is certainly within the range of a double."""
_PLAIN = rb'[^"\\\x00-\x1f]'
_ESCAPE = rb'\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})'
"""An escape that is no half of a surrogate pair."""
_STRING = rb'"' + _PLAIN + rb"{0,1000}+(?:" + _ESCAPE + _PLAIN + rb'{0,1000}+){0,50}+"'
_SCALAR = rb"(?:" + _STRING + rb"|" + _NUMBER + rb"|true|false|null)"
_FLAT = rb"(?:%(scalar)s|\[%(space)s(?:%(scalar)s%(space)s(?:,%(space)s%(scalar)s%(space)s){0,30}+)?\]|\{%(space)s\})" % {
    b"scalar": _SCALAR,
    b"space": _SPACE,
}
"""A scalar, or an array of a few of them."""

_skip = re.compile(rb"[ \t\n\r]{0,%d}" % _STRETCH).match
_short = re.compile(_SCALAR).match
_elements, _scalars = (
    re.compile(rb"(?:%b%b%b,){0,200}+(?:%b(%b)%b(?=\]))?+" % (_SPACE, one, _SPACE, _SPACE, one, _SPACE)).match
    for one in (_FLAT, _SCALAR)
)
_MEMBER = rb"%b(%%b%b)%b:%b%b%b" % (_SPACE, _STRING, _SPACE, _SPACE, _FLAT, _SPACE)
_members = re.compile(rb"(?:%b,){1,100}+" % (_MEMBER % b"?:")).match
_names = re.compile(rb"%b," % (_MEMBER % b"")).findall
_last_member = re.compile(rb"%b(?=\})" % (_MEMBER % b"")).match
_string_piece = re.compile(
    rb"%b{0,%d}+(?:\\(?:[\"\\/bfnrt]|u[0-9a-fA-F]{4})%b{0,100}+){0,1000}+" % (_PLAIN, _STRETCH, _PLAIN)
).match
_number = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?").match
_word = re.compile(rb"(true|false|null)|NaN|-?Infinity").match
_half = re.compile(rb"\\u[dD][89a-fA-F]").search
_escapes = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F])|.)", re.DOTALL
).finditer
_CONTINUATION = bytes(range(0x80, 0xC0))

_SMALL = 2048
"""Bytes of arrays and objects that are looked at together. With more, work that turns out vain grows."""
_SLACK = 8
"""Bytes behind a bound that tell a number that ends there from one that goes on."""


class _PassedError(Exception):
    """A text has passed its bound."""


class Reader:
    """A cursor over one JSON document. More than 250 lines, because one grammar moves one cursor: in
    two classes each would have to hand it to the other.

    >>> reader = Reader(b' [1.0, "x"] ')
    >>> reader.text()
    b'[1.0, "x"]'
    >>> reader.end()
    """

    def __init__(self, body: bytes, pause: Pause = no_pause, at: int = 0) -> None:
        """Start at byte `at`; raise SyntaxProblem for a body that is nothing but white space."""
        self._body = body
        self._pause = pause
        self.at = at
        if not at and not self.peek():
            raise SyntaxProblem("the body is empty; it should be JSON")

    def peek(self) -> bytes:
        """Return the next byte that is not white space, or b"" at the end."""
        body = self._body
        if (found := body[self.at : self.at + 1]) > b" ":  # white space is not
            return found
        while True:
            end = _skip(body, self.at).end()  # type: ignore[union-attr]  # it matches everywhere
            full = end - self.at == _STRETCH
            self.at = end
            if not full:
                return body[end : end + 1]
            self._pause()

    def expect(self, expected: bytes) -> bytes:
        """Read one of the bytes in `expected`."""
        found = self.peek()
        if not found or found not in expected:
            raise self.syntax(f"expected {' or '.join(expected.decode())}")
        self.at += 1
        return found

    def end(self) -> None:
        """Check that only white space follows."""
        if self.peek():
            raise self.syntax("expected the end of the body")

    def value(self, pointer: str = "") -> Any:
        """Read one value and decode it, numbers as floats. `pointer` (RFC 6901) names it in errors."""
        return json.loads(self.text(pointer), parse_int=float)

    def string(self, pointer: str, bound: Bound) -> str:
        """Read one string, which must be due, and decode it; raise TooLarge as `text` does."""
        text = self.text(pointer, bound)
        return text[1:-1].decode() if b"\\" not in text else str(json.loads(text))

    def text(self, pointer: str = "", bound: Bound | None = None) -> bytes:
        """Read one value and return its text; raise TooLarge as soon as that passes its bound."""
        start, end = self.span(pointer, bound)
        return self._body[start:end]

    def span(self, pointer: str = "", bound: Bound | None = None) -> tuple[int, int]:
        """Read one value; return where its text starts and ends. Raise TooLarge as `text` does."""
        self.peek()
        start = self.at
        limit = len(self._body) if bound is None else start + bound.most
        short = _short(self._body, start)
        if short is not None and short.end() <= limit:
            self._check_utf8(start, short.end())
            self.at = short.end()
            return start, self.at
        try:
            self._walk(pointer, limit)
        except _PassedError:
            words = bound.words if bound is not None else "the text is too long"
            raise TooLarge(f"{pointer or 'the body'}: {words}", pointers=[(pointer, words)]) from None
        return start, self.at

    def _walk(self, pointer: str, limit: int) -> None:
        """Read one value of any kind, which ends at `limit` at the latest.

        Iterative: no request chooses how deep we recurse.
        """
        names: list[set[bytes] | None] = []  # of the members of each open object; None for an array
        steps = 0
        while True:
            steps += 1
            if not steps % 64:
                self._pause()
            kind = self.peek()
            opened = False
            if self._small(names, limit):
                pass
            elif kind in (b"[", b"{"):
                opened = True
                if len(names) == MAX_DEPTH:
                    raise too_deep(pointer)
                names.append(None if kind == b"[" else set())
                self.at += 1
            else:
                self._scalar(pointer, limit)
            while names:
                seen = names[-1]
                if self.peek() == (b"]" if seen is None else b"}"):
                    self.at += 1
                    names.pop()
                    opened = False
                    continue
                if not opened:
                    self.expect(b",]" if seen is None else b",}")
                flat = len(names) < MAX_DEPTH
                opened = self._elements(limit, len(names)) if seen is None else self._members(seen, pointer, limit, flat)
                if not opened:
                    break
            if self.at > limit:
                raise _PassedError
            if not names:
                return

    def _elements(self, limit: int, depth: int) -> bool:
        """Read elements of an array as long as they are simple.

        Return whether all are read; if not, another one is due. `depth` levels are open.
        """
        match = _elements if depth < MAX_DEPTH else _scalars
        while True:
            found = match(self._body, self.at, limit)
            end = found.end()  # type: ignore[union-attr]  # it matches everywhere
            if end == self.at:
                return False
            self._check_utf8(self.at, end)
            self.at = end
            if found[1] is not None:  # type: ignore[index]
                return True
            self._pause()

    def _small(self, names: list[set[bytes] | None], limit: int) -> bool:
        """Read the value that is due if it is small and right, and the elements behind it; return whether it did.

        The standard library's scanner does the work, six times as fast as steps of ours. It looks at
        `_SMALL` bytes, whatever is in them.
        """
        window = self._body[self.at : min(limit, self.at + _SMALL)]
        decoded = window.decode("utf-8", "surrogateescape")  # wrong bytes are found below
        if self.at + len(window) == len(self._body):
            decoded += " "  # nothing that could go on
        in_array = bool(names) and names[-1] is None
        end = _scan_values(_scan, decoded, in_array)
        if _extreme(decoded, 0, end) is not None:
            end = _scan_values(_scan_in_range, decoded, in_array)
        if end == 0:
            return False
        try:
            text = decoded[:end].encode()
        except UnicodeEncodeError:
            return False
        room = MAX_DEPTH - len(names)
        if text.count(b"[") + text.count(b"{") > room and _levels(text) > room:
            return False
        if _half(text) is not None and any(escape.lastindex is not None for escape in _escapes(text)):
            return False
        self.at += len(text)
        self._pause()
        return True

    def _members(self, seen: set[bytes], pointer: str, limit: int, flat: bool) -> bool:
        """Read members of an object as long as they are simple.

        Return whether all are read; if not, a value is due. `flat` as in `_elements`.
        """
        body = self._body
        while flat and (run := _members(body, self.at, limit)) is not None:
            self._check_utf8(self.at, run.end())
            names = _names(body, self.at, run.end())
            self.at = run.end()
            if b"\\" in run[0] or len(set(names)) < len(names) or not seen.isdisjoint(names):
                for name in names:
                    self._note(seen, name, pointer)
            else:
                seen.update(names)
            self._pause()
        if flat and (last := _last_member(body, self.at, limit)) is not None:
            self._check_utf8(self.at, last.end())
            self.at = last.end()
            self._note(seen, last[1], pointer)
            return True
        if self.peek() != b'"':
            raise self.syntax("expected a member's name in double quotes")
        start = self.at
        self._string(pointer, limit)
        self._note(seen, self._body[start : self.at], pointer)
        self.expect(b":")
        return False

    def _note(self, seen: set[bytes], name: bytes, pointer: str) -> None:
        """Note a name, which stands in quotes; raise InvalidItem when it stands twice."""
        if b"\\" in name:
            name = b'"%b"' % json.loads(name).encode()
        if name in seen:
            shown = name[1:-1].decode()
            raise _invalid(pointer, f"the member {json.dumps(shown[:64])} stands twice in one object")
        seen.add(name)

    def _scalar(self, pointer: str, limit: int) -> None:
        """Read one string, number or literal."""
        body, start = self._body, self.at
        if body[start : start + 1] == b'"':
            self._string(pointer, limit)
            return
        if (word := _word(body, start)) is not None:
            if word[1] is None:
                raise _invalid(pointer, f"{word[0].decode()} is not JSON")
            self.at = word.end()
            return
        number = _number(body, start, limit + _SLACK)
        if number is None:
            raise self.syntax("expected a JSON value")
        if number.end() > limit:
            raise _PassedError
        text = number[0]
        if isinf(float(text)):
            raise _invalid(
                pointer, f"the number {text[:20].decode()}{'...' * (len(text) > 20)} is beyond the range of a double"
            )
        self.at = number.end()

    def _string(self, pointer: str, limit: int) -> None:
        """Read one string, from its opening quote."""
        body, start = self._body, self.at
        at = start + 1
        while True:
            end = _string_piece(body, at).end()  # type: ignore[union-attr]  # it matches everywhere
            if end >= limit < len(body):
                raise _PassedError
            if body[end : end + 1] == b'"':
                break
            if end == at:
                self._check_utf8(start, end)
                self.at = end
                raise self.syntax(_what_is_wrong(body[end : end + 1]))
            at = end
            self._pause()
        self._check_utf8(start, end)
        self.at = end + 1
        if _half(body, start, end) is not None:
            self._check_surrogates(start, end, pointer)

    def _check_surrogates(self, start: int, end: int, pointer: str) -> None:
        """Raise InvalidItem for a lone surrogate, which has no UTF-8."""
        for number, escape in enumerate(_escapes(self._body, start, end)):
            if escape.lastindex is not None:
                raise _invalid(pointer, "a string has a lone surrogate")
            if not number % 1024:
                self._pause()

    def _check_utf8(self, start: int, end: int) -> None:
        text = self._body[start:end]
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError as error:
                raise _not_utf8(start + error.start) from None

    def syntax(self, what: str) -> SyntaxProblem:
        """Return an error about the place of the cursor, or about the UTF-8 there if that is wrong."""
        try:
            self._body[self.at : self.at + 4].decode()
        except UnicodeDecodeError as error:
            if error.start == 0:
                return _not_utf8(self.at)
        line, column = 1, 1
        for start in range(0, self.at, _STRETCH):
            stretch = self._body[start : min(self.at, start + _STRETCH)]
            lines = stretch.count(b"\n")
            if lines:
                line += lines
                column = 1
                stretch = stretch[stretch.rindex(b"\n") + 1 :]
            column += len(stretch.translate(None, _CONTINUATION))
            self._pause()
        return SyntaxProblem(f"the body is not JSON: {what} at line {line}, column {column}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _once(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a member stands twice")


def _in_range(number: str) -> None:
    if isinf(float(number)):
        raise ValueError("beyond the range of a double")


_scan = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_once).scan_once  # type: ignore[attr-defined]
_scan_in_range = json.JSONDecoder(  # type: ignore[attr-defined]
    parse_constant=_no_constant, object_pairs_hook=_once, parse_float=_in_range, parse_int=_in_range
).scan_once
_extreme = re.compile(r"[0-9]{100}|[0-9][eE][+-]?[0-9]{3}").search
_ENDS = frozenset(" \t\n\r,]}")
_next_value = re.compile(r"[ \t\n\r]*+,[ \t\n\r]*+").match


def _scan_values(scan: Callable[[str, int], tuple[object, int]], text: str, several: bool) -> int:
    """Return where the first value in a text ends, or the last of several with commas between; 0 when there is none.

    A delimiter must follow, since a number or a word that ends with the text may go on.
    """
    at = end = 0
    try:
        while True:
            stop = scan(text, at)[1]
            if text[stop : stop + 1] not in _ENDS:
                return end
            end = stop
            if not several or (comma := _next_value(text, stop)) is None:
                return end
            at = comma.end()
    except (StopIteration, ValueError, RecursionError):
        return end


_quoted = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(x for x in range(256) if x not in b"[]{}")


def _levels(text: bytes) -> int:
    """Return how many levels of arrays and objects there are in a JSON text."""
    brackets = _quoted.sub(b"", text).translate(_AS_ARRAYS, _NO_BRACKETS)
    levels = 0
    while brackets:
        brackets = brackets.replace(b"[]", b"")
        levels += 1
    return levels


def _what_is_wrong(found: bytes) -> str:
    if not found:
        return "a string has no end"
    return "a wrong escape stands in a string" if found == b"\\" else "a control character stands in a string"


def _not_utf8(at: int) -> SyntaxProblem:
    return SyntaxProblem(f"the body is not UTF-8: byte {at} is wrong")


def _invalid(pointer: str, what: str) -> InvalidItem:
    return InvalidItem(f"{pointer or 'the body'}: {what}", pointers=[(pointer, what)])


def too_deep(pointer: str) -> InvalidItem:
    """Return the error for a value with too many levels."""
    return _invalid(pointer, f"a value may be {MAX_DEPTH} levels deep")


def check_text(text: str, pointer: str) -> None:
    """Raise InvalidItem for a string with a lone surrogate, which has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _invalid(pointer, "a string has a lone surrogate") from None
