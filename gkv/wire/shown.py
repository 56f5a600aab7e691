"""What clients are shown: values, and the answers to their batches, `existedKey` and `notExistedKey`."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from io import BytesIO
from json.encoder import encode_basestring as quote

from gkv.model import Blob, KeyFailure, OtherVersion
from gkv.wire.strict import Pause, no_pause

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
        more = _version_of(failure) if isinstance(failure, OtherVersion) else ""
        if failure.node:
            more += f',"node":{quote(failure.node)}'
        rows.append(f'{{"key":{quote(key)},"code":"{failure.code}","retryable":{retryable}{more}}}'.encode())
        if len(rows) % 128 == 0:
            pause()
    return b'"failedKey":[%b],"complete":false' % b",".join(rows)


def _version_of(failure: OtherVersion) -> str:
    return ',"version":null' if failure.present is None else f',"version":"{failure.present}"'
