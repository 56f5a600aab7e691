"""Bytes and their media types, as clients write them. Nothing here switches greenlets."""

import json
import re
from base64 import b64decode, b64encode

ANY_BYTES = "application/octet-stream"
"""The type of bytes of which nothing else is said."""
JSON = "application/json"
MAX_TYPE = 255
"""Bytes of a media type; RFC 6838 bounds the names in one at 127 each."""

# Blanks stand only where one part of the pattern takes them: with two that could, 255 bytes would take it for ever.
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_media_type = re.compile(rf"{_WORD}/{_WORD} *(?:; *(?:{_WORD}=(?:{_WORD}|{_QUOTED}) *)?)*").fullmatch


def is_media_type(text: str) -> bool:
    """Return whether a text of at most `MAX_TYPE` characters is a media type, perhaps with parameters (RFC 9110, 8.3.1).

    >>> is_media_type("text/plain; charset=utf-8"), is_media_type("text")
    (True, False)
    """
    return _media_type(text) is not None


def essence(media_type: str) -> str:
    """Return a media type without its parameters, in lower case.

    >>> essence("Text/HTML; charset=utf-8")
    'text/html'
    """
    return media_type.partition(";")[0].strip().lower()


def base64_size(size: int) -> int:
    """Return the most bytes of a JSON string that has so many bytes as base64.

    There are writers of JSON that put a backslash before each slash.
    """
    return 8 * -(-size // 3) + 2


def read_base64(text: bytes) -> bytes | None:
    """Return the bytes that a JSON value has as base64 (RFC 4648, 4), None for a value that is none.

    There is one text for them: with the alphabet and the padding of the standard, and no bits that stand for nothing.

    >>> read_base64(b'"aGk="'), read_base64(b'"aGk"'), read_base64(b'"aGl="'), read_base64(b"1")
    (b'hi', None, None, None)
    """
    if not text.startswith(b'"'):
        return None
    plain = text[1:-1] if b"\\" not in text else json.loads(text).encode()
    try:
        data = b64decode(plain, validate=True)
    except ValueError:
        return None
    return data if b64encode(data) == plain else None
