"""Values as Python has them and as gkv keeps them. Pure.

    JSON                                Python
    null, true, false                   None, True, False
    a number without . and e            int, whatever its size
    any other number                    float, the nearest one
    a string, an array, an object       str, list (or tuple), dict
    bytes with a media type             Blob

What is read again is equal to what was set, for gkv keeps the text. That of a number such as `1.10` or one of 30 decimals is
not what Python would write: whoever copies values asks for `raw=True`, and gets each text as it is, as a `JsonText`, which
can be set again.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from json.encoder import encode_basestring as quote
from json.scanner import make_scanner
from math import isfinite
from typing import Any, NamedTuple, NoReturn, Self

from gkv.model import Blob

ANY_BYTES = "application/octet-stream"
ANY = "*"
"""As `if_version`: there is a value, of whatever version."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_scan = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # typeshed takes a decoder for a scanner
_decode = json.JSONDecoder().decode


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


_check = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_json).decode
"""Knows no bound for the digits of a number, which is the servers' to have."""
_plain_key = re.compile(rb'\s*\{"key": ?"([^"\\\x00-\x1f]+)",').match
_SPACE = " \t\n\r"


class JsonText(str):
    """The text of one JSON value, which is stored as it stands, and so read again.

    >>> JsonText("1.10")
    JsonText('1.10')
    >>> JsonText("1, 2")
    Traceback (most recent call last):
    ValueError: not the text of one JSON value
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        try:
            _check(text)
        except RecursionError as error:
            raise ValueError("a JSON value that is nested too deeply") from error
        except ValueError:
            raise ValueError("not the text of one JSON value") from None
        return str.__new__(cls, text)

    def __repr__(self) -> str:
        return f"JsonText({str(self)!r})"

    def value(self) -> Any:
        """Return what it stands for."""
        return value_of(self)


def value_of(text: str | bytes) -> Any:
    """Return what a JSON text stands for; raise ValueError for what is none, or nested too deeply for Python."""
    try:
        return _decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


class Item(NamedTuple):
    """A key with what is there: its value, its version, and the seconds until it expires, None for never."""

    key: str
    value: Any
    version: str = ""
    ttl: float | None = None


class Put(NamedTuple):
    """An item that is to be set, perhaps on a condition: `if_version`, or that there is none (`if_absent`)."""

    key: str
    value: Any
    ttl: float | None = None
    if_version: str | None = None
    if_absent: bool = False


def text_of(value: Any) -> str:
    """Return the JSON text of a value; raise ValueError or TypeError for what has none.

    >>> text_of({"pi": 3.25, "list": [1, None]}), text_of(JsonText("1.10"))
    ('{"pi":3.25,"list":[1,null]}', '1.10')
    >>> text_of(float("nan"))
    Traceback (most recent call last):
    ValueError: JSON has no nan
    """
    kind = type(value)
    if kind is JsonText:
        return str(value)
    if kind is str:
        return quote(value)
    if kind is int:
        return repr(value)
    if kind is float:
        return number(value)
    return _encode(value)


def number(value: float) -> str:
    """Return a number as JSON has it."""
    if not isfinite(value):
        raise ValueError(f"JSON has no {value!r}")
    return repr(value) if type(value) in (int, float) else repr(float(value))


def item_text(item: Put) -> bytes:
    """Return an item of a batch that is set.

    >>> item_text(Put("hi", 1, ttl=60, if_absent=True))
    b'{"key":"hi","value":1,"ttl":60,"ifVersion":null}'
    >>> item_text(Put("raw", Blob(b"hi", "text/plain"), if_version="*"))
    b'{"key":"raw","value":"aGk=","encoding":"base64","type":"text/plain","ifVersion":"*"}'
    """
    key, value, ttl, if_version, if_absent = item
    if type(value) is Blob:
        text = f'"{b64encode(value.data).decode()}","encoding":"base64","type":{quote(value.content_type)}'
    else:
        text = text_of(value)
    if ttl is None and if_version is None and not if_absent:
        return f'{{"key":{quote(key)},"value":{text}}}'.encode()
    if ttl is not None:
        text += f',"ttl":{number(ttl)}'
    if if_absent or if_version is not None:
        if if_absent and if_version is not None:
            raise ValueError("a write depends on if_version or on if_absent, not on both")
        text += f',"ifVersion":{"null" if if_version is None else quote(if_version)}'
    return f'{{"key":{quote(key)},"value":{text}}}'.encode()


def line_of(item: Item) -> str:
    """Return an item as a line, which `Client.set_lines` takes. Only one that was read with `raw=True` is sure to be the same.

    >>> line_of(Item("hi", JsonText("1.10"), ttl=60))
    '{"key":"hi","value":1.10,"ttl":60}'
    """
    return item_text(Put(item.key, item.value, item.ttl)).decode()


def key_in(line: bytes) -> str:
    """Return the key of an item that is given as it is sent; raise ValueError for what is none.

    >>> key_in(b'{"key":"hi","value":1}'), key_in(b'{"value":{"key":2},"key":"ho"}')
    ('hi', 'ho')
    """
    if plain := _plain_key(line):
        return plain[1].decode()
    try:
        key = value_of(line)["key"]
    except (ValueError, KeyError, TypeError):
        key = None
    if isinstance(key, str):
        return key
    raise ValueError(f"no item with a key: {line[:100]!r}")


def key_text(key: str) -> bytes:
    """Return an item of a batch that has keys alone.

    >>> key_text("hi")
    b'{"key":"hi"}'
    """
    return f'{{"key":{quote(key)}}}'.encode()


def blob_of(text: str, content_type: str | None) -> Blob:
    """Return the bytes that stand in an answer as base64."""
    data = b64decode(text.value() if type(text) is JsonText else text, validate=True)
    return Blob(data, content_type or ANY_BYTES)


def read(text: str, *, raw: bool) -> Any:
    """Return an answer, with each value in it as a JsonText if `raw`: those behind `"value":` in rows, and all in `"values"`.

    Costs about 1 us more for a value in a column, 5 us for one in a row. Raises ValueError for what is no JSON.

    >>> read('{"values": [1.10, "x"], "keys":["a","b"]}', raw=True)
    {'values': [JsonText('1.10'), JsonText('"x"')], 'keys': ['a', 'b']}
    >>> read('{"existedKey":[{"key":"a","value":1.10}]}', raw=True)
    {'existedKey': [{'key': 'a', 'value': JsonText('1.10')}]}
    """
    if not raw:
        return value_of(text)
    try:
        answer, end = _members(text, _after(text, 0, "{"), _ANSWER)
    except (StopIteration, IndexError, RecursionError):
        raise ValueError("not the answer that was expected") from None
    if text[end:].strip(_SPACE):
        raise ValueError("more than one answer")
    return answer


_ANSWER: Mapping[str, str] = {"existedKey": "rows", "values": "texts"}
_ROW: Mapping[str, str] = {"value": "text"}


def _blank(text: str, at: int) -> int:
    """Return where the next character is that is not white space."""
    while text[at] in _SPACE:
        at += 1
    return at


def _after(text: str, at: int, expected: str) -> int:
    at = _blank(text, at)
    if text[at] != expected:
        raise ValueError(f"no {expected} where one is due")
    return _blank(text, at + 1)


def _members(text: str, at: int, kinds: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    """Read what is behind the brace of an object; return it, and where it ends."""
    found: dict[str, Any] = {}
    if text[at] == "}":
        return found, at + 1
    while True:
        if text[at] != '"':
            raise ValueError("no member where one is due")
        name, at = _scan(text, at)
        at = at + 1 if text[at] == ":" else _after(text, at, ":")
        if text[at] in _SPACE:
            at = _blank(text, at)
        kind = kinds.get(name)
        if kind is None:
            found[name], at = _scan(text, at)
        elif kind == "text":
            found[name], at = _text(text, at)
        else:
            found[name], at = _elements(text, at, kind)
        if text[at] in _SPACE:
            at = _blank(text, at)
        if text[at] == "}":
            return found, at + 1
        at = at + 1 if text[at : at + 2] == ',"' else _after(text, at, ",")


def _text(text: str, at: int) -> tuple[JsonText, int]:
    """Read a value for the sake of its end."""
    end = _scan(text, at)[1]
    return str.__new__(JsonText, text[at:end]), end


def _elements(text: str, at: int, kind: str) -> tuple[list[Any], int]:
    """Read an array of rows or of texts."""
    found: list[Any] = []
    at = _after(text, at, "[")
    if text[at] == "]":
        return found, at + 1
    while True:
        element, at = _text(text, at) if kind == "texts" else _members(text, _after(text, at, "{"), _ROW)
        found.append(element)
        if text[at] in _SPACE:
            at = _blank(text, at)
        if text[at] == "]":
            return found, at + 1
        at = _after(text, at, ",")
