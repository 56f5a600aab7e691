"""Keys as they stand in the path of a URL: percent-encoded (RFC 3986, 2.1) and read so that no two keys become one."""

import re
from urllib.parse import unquote_to_bytes

from gkv.errors import SyntaxProblem
from gkv.wire.client import Limits, check_key

_bad_escape = re.compile(r"%(?![0-9A-Fa-f]{2})").search


def decode_key(path: str, limits: Limits) -> str:
    """Return the key that stands in a URL as `path`. Nothing is normalised; `/`, `..` and `+` are themselves.

    Raise SyntaxProblem for what is no percent-encoded UTF-8, InvalidItem or TooLarge for what no key can be.

    >>> decode_key("a/../caf%C3%A9+%252F", Limits())
    'a/../café+%2F'
    """
    if not path.isascii():
        raise SyntaxProblem("a byte from 0x80 up stands in a path as % and two hexadecimal digits")
    if _bad_escape(path):
        raise SyntaxProblem("a % in the path is not followed by two hexadecimal digits")
    try:
        key = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise SyntaxProblem("the path is not UTF-8") from None
    return check_key(key, "", limits)
