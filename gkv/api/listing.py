"""`GET /v1/kv`: keys by prefix, page by page, in code point order over all nodes.

A page ends with a cursor, which says after which name the next one begins. The client keeps it, so it is good for ever and
after any restart; a checksum tells a cursor of this listing from everything else. With a `delimiter`, keys that have it behind
the prefix are listed by `prefixes`, each up to the end of the first one, as directories are.

With `values=1` there is a value for each key, and if one of them is no JSON `encodings` has null or "base64" for each. With
`meta=1` there is a version for each key, unless there is `versions=0`, and `types` and `ttls` where one of them has any. Such a
page ends when it has a fourth of the bytes that an answer may have: they are read in pieces, so no more is in memory than that
and one piece.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from json.encoder import encode_basestring as quote
from time import monotonic

from gkv.api.http import Request, Response
from gkv.api.operations import listing
from gkv.coordinator import Coordinator
from gkv.errors import NoCompletePage, TooLarge, WrongParameter
from gkv.model import Blob, KeyFailure, Op
from gkv.net.turn import Turn
from gkv.replication.names import Scope
from gkv.wire import Batch, PartResult
from gkv.wire.batch import DAMAGED_KEY
from gkv.wire.meta import Entry, Found
from gkv.wire.shown import KeyAnswer, join, show, shown

MAX_KEYS = 10_000
"""Names in one page."""
MAX_DELIMITER = 16
"""Bytes."""
_PARTS = 4
"""Pages with values that may have as many bytes together as one answer."""
_FIRST_PIECE, _MORE, _LARGEST_PIECE = 16, 4, 1_000
"""Keys whose values are read together: at first, times that of the piece before, and at most."""
_DEFAULT = 100
_CHECK = 6
_QUOTED_AT_ONCE = 1000
"""Keys that are written in one step, of 1 ms or less."""
LISTING = listing(_DEFAULT, MAX_KEYS, MAX_DELIMITER)


def write_cursor(scope: Scope, after: str) -> str:
    """Return the cursor of a listing that goes on after a name.

    >>> read_cursor(Scope("a/"), write_cursor(Scope("a/"), "a/b"))
    'a/b'
    """
    name = after.encode()
    return urlsafe_b64encode(_check(scope, name) + name).decode().rstrip("=")


def read_cursor(scope: Scope, cursor: str) -> str:
    """Return the name after which a listing goes on; raise WrongParameter for what is no cursor of it."""
    try:
        data = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        after = data[_CHECK:].decode()
        if data[:_CHECK] == _check(scope, data[_CHECK:]) and write_cursor(scope, after) == cursor:
            return after
    except ValueError:
        pass
    raise WrongParameter("cursor is none that was given for this prefix and delimiter; start again without it")


def _check(scope: Scope, name: bytes) -> bytes:
    about = [scope.prefix.encode(), name, *([scope.delimiter.encode()] if scope.delimiter else [])]
    return blake2b(b"\0".join(about), digest_size=_CHECK).digest()


def list_keys(request: Request, coordinator: Coordinator) -> Response:
    """Answer a request for a page. Switches greenlets."""
    given = {name: found[0] for name, found in request.query().items()}
    scope = _scope(given, coordinator.limits.max_key)
    with_values = is_wanted("values", given.get("values", "0"))
    with_meta = is_wanted("meta", given.get("meta", "0"))
    with_versions = is_wanted("versions", given.get("versions", "1")) and with_meta
    limit = _limit(given.get("limit"))
    begin = scope.behind(read_cursor(scope, given["cursor"])) if "cursor" in given else ""

    expires = coordinator.expires()
    page = coordinator.names(scope, begin, limit, request.trace, expires)
    names, complete = page.names, page.complete
    pause = Turn()
    keys = [name for name in names if not scope.is_prefix(name)]
    columns = _Columns(with_values=with_values, with_meta=with_meta, with_versions=with_versions)
    if with_values or with_meta:
        read = columns.fill(keys, coordinator, request.trace, expires, pause)
        if read < len(keys):
            names, complete = [name for name in names if name <= keys[read - 1]], False
        keys = columns.keys
    prefixes = [b'],"prefixes":[', *_quoted([name for name in names if scope.is_prefix(name)], pause)]
    end = '],"complete":true}' if complete else f'],"cursor":"{write_cursor(scope, names[-1])}","complete":false}}'
    found = [*_quoted(keys, pause), *(prefixes if scope.delimiter else []), *columns.pieces()]
    return Response(join([b'{"keys":[', *found, end.encode()], pause))


class _Columns:
    """The columns that stand beside the keys of a page."""

    def __init__(self, *, with_values: bool, with_meta: bool, with_versions: bool) -> None:
        self._with_values = with_values
        self._with_meta = with_meta
        self._with_versions = with_versions
        self._op = Op.FETCH if with_versions else Op.ITEMS if with_meta else Op.GET
        self.keys: list[str] = []
        """Those that have a value still."""
        self._values: list[bytes] = []
        self._encodings: list[str] = []
        self._versions: list[str] = []
        self._types: list[str] = []
        self._ttls: list[str] = []

    def fill(self, keys: Sequence[str], coordinator: Coordinator, trace: str, expires: float, pause: Callable[[], None]) -> int:
        """Read keys piece by piece until they have enough bytes, or half of the time is over; return how many were read, one at
        least. Raise NoCompletePage when one of them has no definite answer. Switches greenlets.
        """
        enough = coordinator.max_answer // _PARTS
        until = (monotonic() + expires) / 2
        read = total = 0
        piece = _FIRST_PIECE
        while read < len(keys) and (not read or monotonic() < until):
            some = keys[read : read + piece]
            batch = coordinator.router().of_keys(self._op, some)
            try:
                parts = coordinator.read(batch, trace, expires)
            except TooLarge:
                if len(some) == 1:
                    raise
                piece = len(some) // 2
                continue
            answers = self._answers(batch, parts, pause)
            texts = _texts_alone(answers) if self._op is Op.ITEMS else None
            if texts is not None and (size := sum(map(len, texts))) < enough - total:
                self._take_texts(some, texts)
                total += size
                read += len(some)
                pause()
            else:
                for key, answer in zip(some, answers, strict=True):
                    total += self._take(key, answer)
                    read += 1
                    if total >= enough:
                        return read
                    pause()
            piece = max(1, min((enough - total) * read // max(total, 1), _MORE * piece, _LARGEST_PIECE))
        return read

    def _answers(
        self, batch: Batch, parts: Sequence[PartResult], pause: Callable[[], None]
    ) -> Sequence[Found | Entry | KeyAnswer]:
        if self._op is Op.ITEMS:
            return batch.entries(parts, pause)
        return batch.records(parts, pause) if self._with_meta else batch.answers(parts, pause)

    def _take_texts(self, keys: Sequence[str], texts: Sequence[bytes]) -> None:
        """Take in JSON values that never expire, as most are: a tenth of the cost."""
        self.keys += keys
        if self._with_values:
            self._values += texts
            self._encodings += [""] * len(keys)
        self._types += [""] * len(keys)
        self._ttls += [""] * len(keys)

    def _take(self, key: str, answer: Found | Entry | KeyAnswer) -> int:
        """Take in what was read of a key; return its bytes."""
        if isinstance(answer, KeyFailure):
            raise _no_page(key, answer)
        if answer is None:
            return 0
        self.keys.append(key)
        kind = left = ""
        if isinstance(answer, Found):
            self._versions.append(f'"{answer.record.tag}"')
            answer = answer.entry
        if isinstance(answer, Entry):
            value, left = answer.value, answer.seconds_left
            kind = quote(value.content_type) if isinstance(value, Blob) else ""
        else:
            value = answer
        if self._with_meta:
            self._types.append(kind)
            self._ttls.append(left)
        if not self._with_values:
            return len(value)
        text, encoding = shown(show(value) if isinstance(value, Blob) else value)
        self._values.append(text)
        self._encodings.append(f'"{encoding}"' if encoding else "")
        return len(text)

    def pieces(self) -> list[bytes]:
        """Return the columns as JSON has them, each behind the end of the one before."""
        pieces = []
        if self._with_versions:
            pieces.append(f'],"versions":[{",".join(self._versions)}'.encode())
        if self._with_meta:
            pieces += [*_column("types", self._types), *_column("ttls", self._ttls)]
        if self._with_values:
            pieces += [b'],"values":[', *_separated(self._values), *_column("encodings", self._encodings)]
        return pieces


def _texts_alone(answers: Sequence[object]) -> Sequence[bytes] | None:
    """Return what was read if each key has a JSON value that never expires, as most have."""
    return answers if set(map(type, answers)) == {bytes} else None  # type: ignore[return-value]


def _no_page(key: str, failure: KeyFailure) -> NoCompletePage:
    """Return why a page with a key cannot be had: with the code and status that a read of that key alone would have."""
    if failure.code == DAMAGED_KEY.code:
        detail = (
            f"the record of {quote(key)} is not what was written; set it again or delete it, or list without values and meta"
        )
    else:
        detail = f"the value of {quote(key)} cannot be read now ({failure.code})"
    return NoCompletePage(detail, failure.code, status=failure.status, retryable=failure.retryable)


def _scope(given: Mapping[str, str], max_key: int) -> Scope:
    prefix, delimiter = given.get("prefix", ""), given.get("delimiter", "")
    if len(prefix.encode()) > max_key or "\0" in prefix:
        raise WrongParameter(f"prefix has at most {max_key} bytes as UTF-8, and no U+0000")
    if "delimiter" in given and (not 1 <= len(delimiter.encode()) <= MAX_DELIMITER or "\0" in delimiter):
        raise WrongParameter(f"delimiter has 1 to {MAX_DELIMITER} bytes as UTF-8, and no U+0000")
    return Scope(prefix, delimiter)


def is_wanted(name: str, text: str) -> bool:
    """Read a parameter that is 0 or 1; raise WrongParameter."""
    if text not in ("0", "1"):
        raise WrongParameter(f"{name} is 0 or 1")
    return text == "1"


def age_bound(age: int | None) -> dict[str, str]:
    """Return the header about an answer of any copies, none if their age is not known."""
    return {} if age is None else {"Age-Bound": f"{age / 1000:g}"}


def _column(name: str, texts: Sequence[str]) -> list[bytes]:
    """Return one more array, with null for what is ""; nothing when all are."""
    return [f'],"{name}":[{",".join([text or "null" for text in texts])}'.encode()] if any(texts) else []


def _separated(texts: list[bytes]) -> list[bytes]:
    """Return texts with a comma between neighbours."""
    return [piece for text in texts for piece in (b",", text)][1:]


def _quoted(texts: Sequence[str], pause: Callable[[], None]) -> list[bytes]:
    """Return texts as JSON, with commas between them."""
    quoted = []
    for start in range(0, len(texts), _QUOTED_AT_ONCE):
        quoted.append(",".join(map(quote, texts[start : start + _QUOTED_AT_ONCE])).encode())
        pause()
    return _separated(quoted)


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text) or int(text) > MAX_KEYS:
        raise WrongParameter(f"limit is a whole number from 1 to {MAX_KEYS}")
    return int(text)
