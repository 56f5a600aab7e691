"""The batches of the original interface, as clients send them: `[{"key": ..., "value": ...}]`.

Reading is all or nothing: one invalid item refuses the batch, and the error names it by JSON pointer (RFC 6901). Cost: about
2 us for a key, 3 us for an item with a value.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring as quote
from typing import NamedTuple

from gkv.errors import InvalidItem, TooLarge
from gkv.model import Blob, Op, Value, Version
from gkv.wire.blob import ANY_BYTES, JSON, MAX_TYPE, base64_size, essence, is_media_type, read_base64
from gkv.wire.strict import Bound, Pause, Reader, check_text, no_pause

__all__ = ["Item", "Limits", "check_key", "quote", "read_deletes", "read_items", "read_keys"]

MAX_TTL = 100 * 366 * 86_400
"""Seconds in a hundred years. What is to live longer has no ttl."""

_short_name = re.compile(r"[^\x00-\x1f]{0,64}").match


@dataclass(frozen=True, slots=True)
class Limits:
    """What one batch may ask for; sizes in bytes of UTF-8."""

    max_items: int = 10_000
    max_key: int = 480
    max_value: int = 1 << 20


def _invalid(pointer: str, what: str) -> InvalidItem:
    return InvalidItem(f"{pointer or 'the body'}: {what}", pointers=[(pointer, what)])


def _too_large(pointer: str, what: str) -> TooLarge:
    return TooLarge(f"{pointer}: {what}", pointers=[(pointer, what)])


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
        raise _too_large(pointer, what) if pointer else TooLarge(what)
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

    A span of (0, 0) stands for what is not there. `condition` is the text of one, as a frame has it
    (`gkv.replication.conditions`), "" for none. `blob` has what the value stands for when that is no JSON.
    """

    key: str
    value: tuple[int, int] = (0, 0)
    ttl: tuple[int, int] = (0, 0)
    condition: str = ""
    blob: Blob | None = None


_LONGEST_NAME = 1024
"""Bytes of the text of a member's name in an item. Those that an item can have are short, also when they are escaped."""
_LONGEST_TTL = 1024
"""Bytes of the text of a ttl."""
_LONGEST_WORD = 2 * MAX_TYPE
"""Bytes of the text of an encoding, a type or a condition."""
_NO_TTL = "a ttl is a number of seconds above 0"
_NO_CONDITION = 'a condition is a version of 32 lower-case hexadecimal digits, "*" for any value, or null for no value'
_NO_ENCODING = 'an encoding is "base64"'
_NO_BASE64 = "the value is no base64 (RFC 4648, section 4) in a string"
_NO_TYPE = f"a type is TYPE/SUBTYPE in a string of at most {MAX_TYPE} bytes, perhaps with parameters"


class ItemReader:
    """A cursor over a batch: `[{"key": ...}, ...]`, of a delete perhaps with "ifVersion"; of a set with
    "value" too, and perhaps with "ttl", "ifVersion", "encoding" and "type".

    `at` is 0 before the opening bracket, then the place behind it or behind the item that was read last; `count` is how many
    items were read. Both may be set, so that somebody else reads some of the items. Nothing is kept of an item. Calls `pause`
    for each item, and within long ones.
    """

    def __init__(self, body: bytes, limits: Limits, op: Op, pause: Pause = no_pause) -> None:
        self.at = 0
        self.count = 0
        self._body = body
        self._limits = limits
        self._with_values = op == Op.SET
        self._pause = pause
        self._key_bound = Bound(6 * limits.max_key + 2, f"a key has at most {limits.max_key} bytes as UTF-8, this one has more")
        value_words = f"a value has at most {limits.max_value} bytes as JSON text, this one has more"
        self._value_bound = Bound(limits.max_value, value_words)
        self._string_bound = Bound(max(limits.max_value, base64_size(limits.max_value)), value_words)
        self._names = _NAMES.get(op, _KEYS_ALONE)
        self._plain_name = _plain_names[self._names]

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
        others: dict[str, str] = {}
        more = reader.peek() != b"}"
        if not more:
            reader.expect(b"}")
        while more:
            name = self._read_name(reader, pointer)
            if name == "key" and key is None:
                key = self._read_key(reader, f"{pointer}/key")
            elif name == "value" and value == (0, 0):
                value = self._read_value(reader, f"{pointer}/value")
            elif name == "ttl" and ttl == (0, 0):
                ttl = self._read_ttl(reader, f"{pointer}/ttl")
            elif name in _WORDS and name not in others:
                others[name] = _WORDS[name](reader, f"{pointer}/{name}")
            else:
                raise _invalid(pointer, f"the member {quote(name)} stands twice in one object")
            more = reader.expect(b",}") == b","
        if key is None:
            raise _invalid(pointer, 'the member "key" is missing')
        if self._with_values and value == (0, 0):
            raise _invalid(pointer, 'the member "value" is missing')
        if others:
            return self._with_words(ItemSpans(key, value, ttl), others, pointer)
        if value[1] - value[0] > self._limits.max_value:
            raise _too_large(f"{pointer}/value", self._value_bound.words)
        return ItemSpans(key, value, ttl)

    def _with_words(self, item: ItemSpans, words: Mapping[str, str], pointer: str) -> ItemSpans:
        """Return an item with what its members of `_WORDS` say."""
        blob = None
        if "encoding" in words:
            blob = self._decode(item.value, words.get("type", ANY_BYTES), f"{pointer}/value")
        elif "type" in words:
            raise _invalid(f"{pointer}/type", 'a type is one of bytes: it stands beside "encoding":"base64"')
        elif item.value[1] - item.value[0] > self._limits.max_value:
            raise _too_large(f"{pointer}/value", self._value_bound.words)
        return item._replace(condition=words.get("ifVersion", ""), blob=blob)

    def _read_value(self, reader: Reader, pointer: str) -> tuple[int, int]:
        """Read a value. A string may be longer than others, as it may turn out to stand for bytes."""
        return reader.span(pointer, self._string_bound if reader.peek() == b'"' else self._value_bound)

    def _decode(self, value: tuple[int, int], content_type: str, pointer: str) -> Blob:
        data = read_base64(self._body[slice(*value)])
        if data is None:
            raise _invalid(pointer, _NO_BASE64)
        if len(data) > self._limits.max_value:
            raise _too_large(pointer, f"a value has at most {self._limits.max_value} bytes, this one has {len(data)}")
        return Blob(data, content_type)

    def _read_name(self, reader: Reader, pointer: str) -> str:
        """Read a member's name and the colon behind it; raise InvalidItem for one that no item has."""
        if (plain := self._plain_name(self._body, reader.at)) is not None:
            reader.at = plain.end()
            return plain[1].decode()
        if reader.peek() != b'"':
            raise reader.syntax("expected a member's name in double quotes")
        try:
            name = reader.string(pointer, Bound(_LONGEST_NAME, ""))
        except TooLarge:
            raise _invalid(pointer, f"unknown member, with a name of more than {_LONGEST_NAME} bytes") from None
        reader.expect(b":")
        if name not in self._names:
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


_KEYS_ALONE = ("key",)
_NAMES = {Op.SET: ("key", "value", "ttl", "ifVersion", "encoding", "type"), Op.DELETE: ("key", "ifVersion")}
"""Names of the members that an item may have, where it may have more than its key."""
_plain_names = {
    names: re.compile(rb'[ \t\n\r]{0,64}+"(%b)"[ \t\n\r]{0,64}+:' % "|".join(names).encode()).match
    for names in (_KEYS_ALONE, *_NAMES.values())
}
"""A name without an escape that an item may have, and the colon behind it."""


def _read_word(reader: Reader, pointer: str, wrong: str) -> str:
    """Read a short string; raise InvalidItem for anything else."""
    if reader.peek() != b'"':
        raise _invalid(pointer, wrong)
    try:
        return reader.string(pointer, Bound(_LONGEST_WORD, ""))
    except TooLarge:
        raise _invalid(pointer, wrong) from None


def _read_condition(reader: Reader, pointer: str) -> str:
    """Read an "ifVersion"; return the condition as a frame has it."""
    if reader.peek() == b"n":
        reader.text(pointer)
        return "!*"
    word = _read_word(reader, pointer, _NO_CONDITION)
    if word != "*":
        try:
            Version.parse(word)
        except ValueError:
            raise _invalid(pointer, _NO_CONDITION) from None
    return f"={word}"


def _read_encoding(reader: Reader, pointer: str) -> str:
    word = _read_word(reader, pointer, _NO_ENCODING)
    if word != "base64":
        raise _invalid(pointer, _NO_ENCODING)
    return word


def _read_type(reader: Reader, pointer: str) -> str:
    word = _read_word(reader, pointer, _NO_TYPE)
    if len(word) > MAX_TYPE or not is_media_type(word):
        raise _invalid(pointer, _NO_TYPE)
    if essence(word) == JSON:
        raise _invalid(pointer, f"a value of the type {JSON} is given as JSON, without an encoding")
    return word


_WORDS: Mapping[str, Callable[[Reader, str], str]] = {
    "ifVersion": _read_condition,
    "encoding": _read_encoding,
    "type": _read_type,
}
"""By name, the reading of each member that is a short word; it is given where that stands as a JSON pointer."""


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
    return [found.key for found in ItemReader(body, limits, Op.GET, pause)]


class Item(NamedTuple):
    """One item of a set or delete: its key, its value, and after how many seconds it expires, None for never.

    `value` is the text of a JSON value, or a blob; a delete has none. `condition` is as in `ItemSpans`.
    """

    key: str
    value: Value = b""
    ttl: float | None = None
    condition: str = ""


def read_items(body: bytes, limits: Limits, pause: Pause = no_pause) -> list[Item]:
    """Read a set, `[{"key": ..., "value": ...}, ...]`, in request order.

    "ttl", "ifVersion", "encoding" and "type" are optional.

    Raises SyntaxProblem, InvalidItem or TooLarge. Calls `pause` at least every few ms.

    >>> read_items(b'[{"key": "pi", "value": 3.1400}]', Limits())
    [Item(key='pi', value=b'3.1400', ttl=None, condition='')]
    """
    return [
        Item(
            found.key,
            found.blob or body[slice(*found.value)],
            float(body[slice(*found.ttl)]) if found.ttl != (0, 0) else None,
            found.condition,
        )
        for found in ItemReader(body, limits, Op.SET, pause)
    ]


def read_deletes(body: bytes, limits: Limits, pause: Pause = no_pause) -> list[Item]:
    """Read `[{"key": ..., "ifVersion": ...}, ...]`, of which the condition is optional. As `read_items`.

    >>> read_deletes(b'[{"key": "hi", "ifVersion": "*"}]', Limits())
    [Item(key='hi', value=b'', ttl=None, condition='=*')]
    """
    return [Item(found.key, condition=found.condition) for found in ItemReader(body, limits, Op.DELETE, pause)]
