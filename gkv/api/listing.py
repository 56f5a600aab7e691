"""`GET /v1/kv`: keys by prefix, page by page, in code point order over all nodes.

A page ends with a cursor, which says after which key the next one begins. The client keeps it, so it is good for ever and after
any restart; a checksum tells a cursor of this listing from everything else.

With `values=1` there is a value for each key, and if one of them is no JSON `encodings` has null or "base64" for each. With
`meta=1` there is a version for each key, and `types` and `ttls` where one of them has any.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from json.encoder import encode_basestring as quote
from typing import TypeVar

from gkv.api.http import Request, Response
from gkv.api.operations import listing
from gkv.coordinator import Coordinator
from gkv.errors import Unavailable, WrongParameter
from gkv.model import Blob, KeyFailure, Op
from gkv.net.turn import Turn
from gkv.wire.meta import Found
from gkv.wire.shown import join, show, shown

MAX_KEYS = 10_000
MAX_VALUES = 100
"""Keys in one page, without and with their values: a page lies in memory whole, and a value may have a mebibyte."""
_DEFAULT = 100
_CHECK = 6
_QUOTED_AT_ONCE = 1000
"""Keys that are written in one step, of 1 ms or less."""
LISTING = listing(_DEFAULT, MAX_KEYS, MAX_VALUES)

Answer = TypeVar("Answer")


def write_cursor(prefix: str, after: str) -> str:
    """Return the cursor of a listing by prefix that goes on after a key.

    >>> read_cursor("a/", write_cursor("a/", "a/b"))
    'a/b'
    """
    key = after.encode()
    return urlsafe_b64encode(_check(prefix, key) + key).decode().rstrip("=")


def read_cursor(prefix: str, cursor: str) -> str:
    """Return the key after which a listing by prefix goes on; raise WrongParameter for what is no cursor of it."""
    try:
        data = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        after = data[_CHECK:].decode()
        if data[:_CHECK] == _check(prefix, data[_CHECK:]) and write_cursor(prefix, after) == cursor:
            return after
    except ValueError:
        pass
    raise WrongParameter("cursor is none that was given for this prefix; start again without it")


def _check(prefix: str, key: bytes) -> bytes:
    return blake2b(b"%b\0%b" % (prefix.encode(), key), digest_size=_CHECK).digest()


def list_keys(request: Request, coordinator: Coordinator) -> Response:
    """Answer a request for a page. Switches greenlets."""
    given = {name: found[0] for name, found in request.query().items()}
    prefix = given.get("prefix", "")
    if len(prefix.encode()) > coordinator.limits.max_key or "\0" in prefix:
        raise WrongParameter(f"prefix has at most {coordinator.limits.max_key} bytes as UTF-8, and no U+0000")
    with_values = is_wanted("values", given.get("values", "0"))
    with_meta = is_wanted("meta", given.get("meta", "0"))
    limit = _limit(given.get("limit"), MAX_VALUES if with_values or with_meta else MAX_KEYS)
    after = read_cursor(prefix, given["cursor"]) if "cursor" in given else ""

    keys = coordinator.keys(prefix, after, limit, request.trace)
    cursor = write_cursor(prefix, keys[-1]) if len(keys) == limit else ""
    pause = Turn()
    pieces: list[bytes] = []
    values: list[bytes] = []
    if with_meta:
        batch = coordinator.router().of_keys(Op.FETCH, keys)
        keys, found = _found(keys, batch.records(coordinator.read(batch, request.trace), pause), Found)
        pieces += _columns_of(found)
        values = [_text_of(one) for one in found] if with_values else []
    elif with_values:
        batch = coordinator.router().of_keys(Op.GET, keys)
        keys, values = _found(keys, batch.answers(coordinator.read(batch, request.trace), pause), bytes)
    if with_values:
        texts = [shown(value) for value in values]
        pieces.append(b'],"values":[')
        pieces += _separated([text for text, _ in texts])
        pieces += _column("encodings", [f'"{encoding}"' if encoding else "" for _, encoding in texts])
    quoted = []
    for start in range(0, len(keys), _QUOTED_AT_ONCE):
        quoted.append(",".join(map(quote, keys[start : start + _QUOTED_AT_ONCE])).encode())
        pause()
    end = f'],"cursor":"{cursor}","complete":false}}' if cursor else '],"complete":true}'
    return Response(join([b'{"keys":[', *_separated(quoted), *pieces, end.encode()], pause))


def is_wanted(name: str, text: str) -> bool:
    """Read a parameter that is 0 or 1; raise WrongParameter."""
    if text not in ("0", "1"):
        raise WrongParameter(f"{name} is 0 or 1")
    return text == "1"


def age_bound(age: int | None) -> dict[str, str]:
    """Return the header about an answer of any copies, none if their age is not known."""
    return {} if age is None else {"Age-Bound": f"{age / 1000:g}"}


def _columns_of(found: Sequence[Found]) -> list[bytes]:
    """Return what stands beside the keys of these records."""
    types = [quote(value.content_type) if isinstance(value := one.record.value, Blob) else "" for one in found]
    versions = ",".join([f'"{one.record.tag}"' for one in found])
    return [
        f'],"versions":[{versions}'.encode(),
        *_column("types", types),
        *_column("ttls", [one.seconds_left for one in found]),
    ]


def _column(name: str, texts: Sequence[str]) -> list[bytes]:
    """Return one more array, with null for what is ""; nothing when all are."""
    return [f'],"{name}":[{",".join([text or "null" for text in texts])}'.encode()] if any(texts) else []


def _text_of(found: Found) -> bytes:
    value = found.record.value
    return show(value) if isinstance(value, Blob) else value or b""


def _separated(texts: list[bytes]) -> list[bytes]:
    """Return texts with a comma between neighbours."""
    return [piece for text in texts for piece in (b",", text)][1:]


def _limit(text: str | None, most: int) -> int:
    if text is None:
        return _DEFAULT
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text) or int(text) > most:
        raise WrongParameter(f"limit is a whole number from 1 to {most}")
    return int(text)


def _found(keys: Sequence[str], answers: Sequence[object], kind: type[Answer]) -> tuple[list[str], list[Answer]]:
    """Return the keys whose answer is of this kind, those that still have a value, and their answers.

    Raise Unavailable when one of the keys has no definite answer.
    """
    for key, answer in zip(keys, answers, strict=True):
        if isinstance(answer, KeyFailure):
            raise Unavailable(f"the value of {quote(key)} cannot be read now ({answer.code})", retry_after=1)
    found = [(key, answer) for key, answer in zip(keys, answers, strict=True) if isinstance(answer, kind)]
    return [key for key, _ in found], [answer for _, answer in found]
