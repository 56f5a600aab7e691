"""The batches of the original interface: `[{"key": ..., "value": ...}]` in, `existedKey` and `notExistedKey` out.

Reading is all or nothing: one invalid item refuses the batch, and the error names it by JSON pointer (RFC 6901). Cost: about
2 us for a key, 3 us for an item with a value.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring as quote
from typing import Any, NamedTuple

from gkv.errors import InvalidItem, TooLarge
from gkv.model import Blob, KeyFailure
from gkv.wire.strict import Reader, check_text

__all__ = ["Answer", "Item", "Limits", "check_key", "quote", "read_items", "read_keys", "render_get", "show"]

MAX_TTL = 100 * 366 * 86_400
"""Seconds in a hundred years. What is to live longer has no ttl."""

_short_name = re.compile(r"[^\x00-\x1f]{0,64}").match


@dataclass(frozen=True, slots=True)
class Limits:
    """What one batch may ask for; sizes in bytes of UTF-8."""

    max_items: int = 10_000
    max_key: int = 480
    max_value: int = 1 << 20


Answer = bytes | KeyFailure | None
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


def _read_objects(
    body: bytes, limits: Limits, members: dict[str, Callable[[Any, str, str], object]], required: Sequence[str]
) -> Iterable[dict[str, Any]]:
    """Yield the objects of the array in `body`. `members` maps a member's name to what makes of its value, its text and
    its pointer what is wanted.
    """
    reader = Reader(body)
    if reader.peek() != "[":
        value, _ = reader.value()
        reader.end()
        raise _invalid("", f"the body is an array of objects, not {_kind(value)}")
    reader.take("[")
    count = 0
    more = reader.peek() != "]"
    while more:
        if count == limits.max_items:
            raise TooLarge(f"a batch has at most {limits.max_items} items")
        pointer = f"/{count}"
        if reader.peek() != "{":
            value, _ = reader.value(pointer)
            raise _invalid(pointer, f"an item is an object, not {_kind(value)}")
        yield _read_object(reader, pointer, members, required)
        count += 1
        more = reader.take(",]") == ","
    if count == 0:
        reader.take("]")
    reader.end()


def _read_object(
    reader: Reader, pointer: str, members: dict[str, Callable[[Any, str, str], object]], required: Sequence[str]
) -> dict[str, Any]:
    item: dict[str, Any] = {}
    reader.take("{")
    more = reader.peek() != "}"
    while more:
        if reader.peek() != '"':
            raise reader.syntax("expected a member's name in double quotes")
        name, _ = reader.value(pointer)
        reader.take(":")
        if name not in members:
            raise _invalid(pointer, f"unknown member {quote(_short_name(name).group())}")  # type: ignore[union-attr]
        if name in item:
            raise _invalid(pointer, f"the member {quote(name)} stands twice in one object")
        below = f"{pointer}/{name}"
        value, text = reader.value(below)
        item[name] = members[name](value, text, below)
        more = reader.take(",}") == ","
    if not item:
        reader.take("}")
    for name in required:
        if name not in item:
            raise _invalid(pointer, f"the member {quote(name)} is missing")
    return item


def read_keys(body: bytes, limits: Limits) -> list[str]:
    """Read `[{"key": ...}, ...]`; return the keys in request order.

    Raises SyntaxProblem, InvalidItem or TooLarge.

    >>> read_keys(b'[{"key":"hi"},{"key":"hi1"}]', Limits())
    ['hi', 'hi1']
    """

    def key(value: object, _text: str, pointer: str) -> str:
        return check_key(value, pointer, limits)

    return [item["key"] for item in _read_objects(body, limits, {"key": key}, ["key"])]


class Item(NamedTuple):
    """One item of a set: its key, the text of its value, and after how many seconds it expires, None for never."""

    key: str
    value: bytes
    ttl: float | None = None


def read_items(body: bytes, limits: Limits) -> list[Item]:
    """Read `[{"key": ..., "value": ..., "ttl": ...}, ...]`, `ttl` being optional, in request order.

    Raises SyntaxProblem, InvalidItem or TooLarge.

    >>> read_items(b'[{"key": "pi", "value": 3.1400}]', Limits())
    [Item(key='pi', value=b'3.1400', ttl=None)]
    """

    def key(value: object, _text: str, pointer: str) -> str:
        return check_key(value, pointer, limits)

    def value(_value: object, text: str, pointer: str) -> bytes:
        data = text.encode()
        if len(data) > limits.max_value:
            what = f"a value has at most {limits.max_value} bytes as JSON text, this one has {len(data)}"
            raise TooLarge(f"{pointer}: {what}", pointers=[(pointer, what)])
        return data

    def ttl(value: object, _text: str, pointer: str) -> float:
        if not isinstance(value, float) or value <= 0:
            raise _invalid(pointer, "a ttl is a number of seconds above 0")
        if value > MAX_TTL:
            raise _invalid(pointer, f"a ttl has at most {MAX_TTL} seconds")
        return value

    objects = _read_objects(body, limits, {"key": key, "value": value, "ttl": ttl}, ["key", "value"])
    return [Item(item["key"], item["value"], item.get("ttl")) for item in objects]


def render_get(keys: Sequence[str], answers: Sequence[Answer]) -> bytes:
    """Write the answer to a get, in request order.

    >>> render_get(["hi", "hi6"], [b'"hello"', None])
    b'{"existedKey":[{"key":"hi","value":"hello"}],"notExistedKey":[{"key":"hi6","value":""}]}'
    """
    existed = []
    missing = []
    failed = []
    for key, answer in zip(keys, answers, strict=True):
        if answer is None:
            missing.append(f'{{"key":{quote(key)},"value":""}}'.encode())
        elif isinstance(answer, bytes):
            existed.append(b'{"key":%b,"value":%b}' % (quote(key).encode(), answer))
        else:
            failed.append((key, answer))
    parts = [b'{"existedKey":[', b",".join(existed), b"]"]
    if missing:
        parts += [b',"notExistedKey":[', b",".join(missing), b"]"]
    if failed:
        parts += [b",", render_failed(failed)]
    parts.append(b"}")
    return b"".join(parts)


def render_failed(failed: Iterable[tuple[str, KeyFailure]]) -> bytes:
    """Write the members of an answer that is not complete, without the braces around them."""
    rows = [
        f'{{"key":{quote(key)},"code":"{failure.code}","retryable":{"true" if failure.retryable else "false"}}}'
        for key, failure in failed
    ]
    return f'"failedKey":[{",".join(rows)}],"complete":false'.encode()
