"""The batches of the original interface: `[{"key": ..., "value": ...}]` in, `existedKey` and `notExistedKey` out.

Reading is all or nothing: one invalid item refuses the batch, and the error names it by JSON pointer (RFC 6901). Cost: about
2 us for a key, 3 us for an item with a value.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from json.encoder import encode_basestring as quote
from typing import NamedTuple

from gkv.errors import InvalidItem, TooLarge
from gkv.model import Blob, KeyFailure
from gkv.wire.strict import Bound, Pause, Reader, check_text, no_pause

__all__ = ["Item", "KeyAnswer", "Limits", "check_key", "quote", "read_items", "read_keys", "render_get", "show"]

MAX_TTL = 100 * 366 * 86_400
"""Seconds in a hundred years. What is to live longer has no ttl."""

_short_name = re.compile(r"[^\x00-\x1f]{0,64}").match


@dataclass(frozen=True, slots=True)
class Limits:
    """What one batch may ask for; sizes in bytes of UTF-8."""

    max_items: int = 10_000
    max_key: int = 480
    max_value: int = 1 << 20


KeyAnswer = bytes | KeyFailure | None
"""What is known about one key: its value as it is shown, why there is no answer, or None when it is certainly missing."""

_ENCODED = b'","encoding":"base64"'


def show(value: Blob) -> bytes:
    """Return what stands behind `"value":` for a value that is no JSON.

    It is put where the text of a JSON value would be, so whoever joins answers need not know of it.

    >>> show(Blob(b"hi", "text/plain"))
    b'"aGk=","encoding":"base64"'
    """
    return b'"%b%b' % (b64encode(value.data), _ENCODED)


def shown(text: bytes) -> tuple[bytes, str | None]:
    """Return a shown value as one JSON value, and how that is encoded: "base64", or None for what was JSON all along.

    No JSON text ends as a shown blob does: a string has no bare quote inside, objects and arrays have a bracket behind them.

    >>> shown(b'"aGk=","encoding":"base64"')
    (b'"aGk="', 'base64')
    >>> shown(b'{"x":"","encoding":"base64"}')[1] is None
    True
    """
    if text.endswith(_ENCODED):
        return text[: 1 - len(_ENCODED)], "base64"
    return text, None


def _invalid(pointer: str, what: str) -> InvalidItem:
    return InvalidItem(f"{pointer or 'the body'}: {what}", pointers=[(pointer, what)])


def _invalid_key(pointer: str, what: str) -> InvalidItem:
    return _invalid(pointer, what) if pointer else InvalidItem(what)


def check_key(key: object, pointer: str, limits: Limits) -> str:
    """Return the key if it can be one: 1 to `max_key` bytes, no U+0000, no lone surrogate.

    `pointer` names it in errors, "" when it does not stand in a body.
    """
    if not isinstance(key, str):
        raise _invalid_key(pointer, f"a key is a string, not {_kind(key)}")
    if not key:
        raise _invalid_key(pointer, "a key has at least one character")
    if "\0" in key:
        raise _invalid_key(pointer, "a key has no U+0000")
    check_text(key, pointer)
    size = len(key) if key.isascii() else len(key.encode())
    if size > limits.max_key:
        what = f"a key has at most {limits.max_key} bytes as UTF-8, this one has {size}"
        raise TooLarge(f"{pointer}: {what}", pointers=[(pointer, what)]) if pointer else TooLarge(what)
    return key


def _kind(value: object) -> str:
    names = {
        bool: "a boolean",
        type(None): "null",
        float: "a number",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    return names[type(value)]


class ItemSpans(NamedTuple):
    """One item of a batch: its key, and where the texts of its value and its ttl start and end in the body.

    A span of (0, 0) stands for what is not there.
    """

    key: str
    value: tuple[int, int] = (0, 0)
    ttl: tuple[int, int] = (0, 0)


_LONGEST_NAME = 1024
"""Bytes of the text of a member's name in an item. Those that an item can have are short, also when they are escaped."""
_LONGEST_TTL = 1024
"""Bytes of the text of a ttl."""
_NO_TTL = "a ttl is a number of seconds above 0"


class ItemReader:
    """A cursor over a batch, `[{"key": ...}, ...]` or, `with_values`, `[{"key": ..., "value": ..., "ttl": ...}, ...]`.

    `at` is 0 before the opening bracket, then the place behind it or behind the item that was read last; `count` is how many
    items were read. Both may be set, so that somebody else reads some of the items. Nothing is kept of an item. Calls `pause`
    for each item, and within long ones.
    """

    def __init__(self, body: bytes, limits: Limits, *, with_values: bool, pause: Pause = no_pause) -> None:
        self.at = 0
        self.count = 0
        self._body = body
        self._limits = limits
        self._with_values = with_values
        self._pause = pause
        self._key_bound = Bound(6 * limits.max_key + 2, f"a key has at most {limits.max_key} bytes as UTF-8, this one has more")
        value_words = f"a value has at most {limits.max_value} bytes as JSON text, this one has more"
        self._value_bound = Bound(limits.max_value, value_words)
        self._names = _set_names if with_values else _key_names

    def __iter__(self) -> Iterator[ItemSpans]:
        """Yield the items that are left."""
        while (found := self.next()) is not None:
            yield found

    def next(self) -> ItemSpans | None:
        """Read an item, or the end of the body: then None. Raise SyntaxProblem, InvalidItem or TooLarge."""
        self._pause()
        reader = Reader(self._body, self._pause, self.at)
        if self.at == 0:
            if (first := reader.peek()) != b"[":
                raise _invalid("", f"the body is an array of objects, not {_kind_at(reader, first, '', self._value_bound)}")
            reader.expect(b"[")
        if self.count == 0:
            more = reader.peek() != b"]"
            if not more:
                reader.expect(b"]")
        else:
            more = reader.expect(b",]") == b","
        if not more:
            reader.end()
            return None
        if self.count == self._limits.max_items:
            raise TooLarge(f"a batch has at most {self._limits.max_items} items")
        found = self._read_item(reader, f"/{self.count}")
        self.at = reader.at
        self.count += 1
        return found

    def _read_item(self, reader: Reader, pointer: str) -> ItemSpans:
        if (first := reader.peek()) != b"{":
            raise _invalid(pointer, f"an item is an object, not {_kind_at(reader, first, pointer, self._value_bound)}")
        reader.expect(b"{")
        key: str | None = None
        value = ttl = (0, 0)
        more = reader.peek() != b"}"
        if not more:
            reader.expect(b"}")
        while more:
            name = self._read_name(reader, pointer)
            if name == "key" and key is None:
                key = self._read_key(reader, f"{pointer}/key")
            elif name == "value" and value == (0, 0):
                value = reader.span(f"{pointer}/value", self._value_bound)
            elif name == "ttl" and ttl == (0, 0):
                ttl = self._read_ttl(reader, f"{pointer}/ttl")
            else:
                raise _invalid(pointer, f"the member {quote(name)} stands twice in one object")
            more = reader.expect(b",}") == b","
        if key is None:
            raise _invalid(pointer, 'the member "key" is missing')
        if self._with_values and value == (0, 0):
            raise _invalid(pointer, 'the member "value" is missing')
        return ItemSpans(key, value, ttl)

    def _read_name(self, reader: Reader, pointer: str) -> str:
        """Read a member's name and the colon behind it; raise InvalidItem for one that no item has."""
        if (plain := self._names(self._body, reader.at)) is not None:
            reader.at = plain.end()
            return plain[1].decode()
        if reader.peek() != b'"':
            raise reader.syntax("expected a member's name in double quotes")
        try:
            name = reader.string(pointer, Bound(_LONGEST_NAME, ""))
        except TooLarge:
            raise _invalid(pointer, f"unknown member, with a name of more than {_LONGEST_NAME} bytes") from None
        reader.expect(b":")
        if name != "key" and not (self._with_values and name in ("value", "ttl")):
            raise _invalid(pointer, f"unknown member {quote(_short_name(name).group())}")  # type: ignore[union-attr]
        return name

    def _read_key(self, reader: Reader, pointer: str) -> str:
        if (first := reader.peek()) != b'"':
            raise _invalid(pointer, f"a key is a string, not {_kind_at(reader, first, pointer, self._key_bound)}")
        return check_key(reader.string(pointer, self._key_bound), pointer, self._limits)

    def _read_ttl(self, reader: Reader, pointer: str) -> tuple[int, int]:
        first = reader.peek()
        if first in (b'"', b"[", b"{"):
            raise _invalid(pointer, _NO_TTL)
        start, end = reader.span(pointer, Bound(_LONGEST_TTL, f"a ttl has at most {_LONGEST_TTL} bytes"))
        if first in (b"t", b"f", b"n") or float(self._body[start:end]) <= 0:
            raise _invalid(pointer, _NO_TTL)
        if float(self._body[start:end]) > MAX_TTL:
            raise _invalid(pointer, f"a ttl has at most {MAX_TTL} seconds")
        return start, end


_key_names, _set_names = (
    re.compile(rb'[ \t\n\r]{0,64}+"(%b)"[ \t\n\r]{0,64}+:' % names).match for names in (b"key", b"key|value|ttl")
)
"""A name without an escape that an item may have, and the colon behind it."""


def _kind_at(reader: Reader, first: bytes, pointer: str, bound: Bound) -> str:
    """Return of which kind the value is that starts here and should be of another; raise SyntaxProblem when it is none."""
    if first in (b"[", b"{"):
        return "an array" if first == b"[" else "an object"  # not read, however long it is
    text = reader.text(pointer, bound)
    return {b'"': "a string", b"t": "a boolean", b"f": "a boolean", b"n": "null"}.get(text[:1], "a number")


def read_keys(body: bytes, limits: Limits, pause: Pause = no_pause) -> list[str]:
    """Read `[{"key": ...}, ...]`; return the keys in request order.

    Raises SyntaxProblem, InvalidItem or TooLarge. Calls `pause` at least every few ms.

    >>> read_keys(b'[{"key":"hi"},{"key":"hi1"}]', Limits())
    ['hi', 'hi1']
    """
    return [found.key for found in ItemReader(body, limits, with_values=False, pause=pause)]


class Item(NamedTuple):
    """One item of a set: its key, the text of its value, and after how many seconds it expires, None for never."""

    key: str
    value: bytes
    ttl: float | None = None


def read_items(body: bytes, limits: Limits, pause: Pause = no_pause) -> list[Item]:
    """Read `[{"key": ..., "value": ..., "ttl": ...}, ...]`, `ttl` being optional, in request order.

    Raises SyntaxProblem, InvalidItem or TooLarge. Calls `pause` at least every few ms.

    >>> read_items(b'[{"key": "pi", "value": 3.1400}]', Limits())
    [Item(key='pi', value=b'3.1400', ttl=None)]
    """
    return [
        Item(key, body[start:end], float(body[slice(*ttl)]) if ttl != (0, 0) else None)
        for key, (start, end), ttl in ItemReader(body, limits, with_values=True, pause=pause)
    ]


def render_get(keys: Sequence[str], answers: Sequence[KeyAnswer], pause: Pause = no_pause) -> bytes:
    """Write the answer to a get, in request order. Calls `pause` between pieces.

    >>> render_get(["hi", "hi6"], [b'"hello"', None])
    b'{"existedKey":[{"key":"hi","value":"hello"}],"notExistedKey":[{"key":"hi6","value":""}]}'
    """
    rows: list[bytes] = []
    missing: list[bytes] = []
    failed = []
    for key, answer in zip(keys, answers, strict=True):
        if answer is None:
            missing.append(f'{{"key":{quote(key)},"value":""}}'.encode())
        elif isinstance(answer, bytes):
            rows += (b',{"key":%b,"value":' % quote(key).encode(), answer, b"}")
        else:
            failed.append((key, answer))
        if len(rows) % 384 == 0:
            pause()
    if rows:
        rows[0] = rows[0][1:]
    parts = [b'{"existedKey":[', *rows, b"]"]
    if missing:
        parts += [b',"notExistedKey":[', b",".join(missing), b"]"]
    if failed:
        parts += [b",", render_failed(failed, pause)]
    parts.append(b"}")
    return join(parts, pause)


LARGE = 1 << 20
"""Bytes from which on pieces are joined step by step: to join a mebibyte takes 0.1 to 0.5 ms."""


def join(parts: Sequence[bytes | memoryview], pause: Pause) -> bytes:
    """Join pieces as `b"".join` does. Calls `pause` between pieces that together are large.

    A BytesIO grows without copying what is in it, as far as the system can move pages, and gives it away without a copy.
    """
    if pause is no_pause or sum(map(len, parts)) < LARGE:
        return b"".join(parts)
    out = BytesIO()
    size = 0
    for part in parts:
        size += out.write(part)
        if size >= LARGE // 4:
            pause()
            size = 0
    return out.getvalue()


def render_failed(failed: Iterable[tuple[str, KeyFailure]], pause: Pause = no_pause) -> bytes:
    """Write the members of an answer that is not complete, without the braces around them. Calls `pause` between rows."""
    rows = []
    for key, failure in failed:
        retryable = "true" if failure.retryable else "false"
        rows.append(f'{{"key":{quote(key)},"code":"{failure.code}","retryable":{retryable}}}'.encode())
        if len(rows) % 128 == 0:
            pause()
    return b'"failedKey":[%b],"complete":false' % b",".join(rows)
