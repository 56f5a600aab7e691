"""The head that came last on a connection, so that the next one need not be parsed when it is the
same.

A client mostly sends the same head again, but for the length of the body; reading one takes 5 us,
knowing it again a tenth.
"""

import re

from gkv.net.admission import LARGE
from gkv.net.http1 import Head

_LONGEST = 8_000
"""Bytes. A longer head may be over a limit with a few digits more."""
_DIGITS = 5
"""Of a length up to `LARGE`."""

_length = re.compile(rb"\r\n[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-[Ll][Ee][Nn][Gg][Tt][Hh]:[ \t]*([0-9]+)[ \t]*\r\n").search


class KnownHead:
    """One head, and which others are the same but for their Content-Length.

    Such another one has the same bytes up to the digits and behind them, and between them nothing
    but a number up to `LARGE` without a zero in front. Everything else has to be parsed, and
    refused or not, as if no head were known: so there is one reading of every head.
    `Application.find` need not be asked again for a body that is not large.
    """

    __slots__ = ("_after", "_before", "_data", "_limit", "head")

    def __init__(self, max_body: int) -> None:
        self.head: Head | None = None
        self._data = b""
        """The head that came last, whole; empty when none is known."""
        self._before = self._after = b""
        """Of the head that is known, up to the digits and from behind them; empty when nothing about
        it may change."""
        self._limit = min(max_body, LARGE)

    @property
    def known(self) -> bool:
        return bool(self._data)

    def forget(self) -> None:
        """Know no head, so that the next one is parsed."""
        self._data = self._before = self._after = b""

    def learn(self, head: Head, data: bytes) -> None:
        """Know a head from now on; `data` is as it came, with the empty line at its end."""
        self.head = head
        self._data = data
        self._before = self._after = b""
        if head.length >= 0 and len(data) <= _LONGEST and "HTTP_EXPECT" not in head.environ:
            match = _length(data)
            if match is not None:
                self._before, self._after = data[: match.start(1)], data[match.end(1) :]

    def recognise(self, data: bytes) -> int:
        """Return where the body begins if `data` begins with the head that is known, or 0.

        `head` is then the one that has come, with its own length.
        """
        same = self._data
        if same and data.startswith(same):
            return len(same)
        before, after = self._before, self._after
        if not before or not data.startswith(before):
            return 0
        start = len(before)
        end = data.find(after, start, start + _DIGITS + len(after))
        if end < 0:
            return 0
        digits = data[start:end]
        if not digits.isdigit() or (digits[0] == 48 and len(digits) > 1):
            return 0
        length = int(digits)
        if length > self._limit:
            return 0
        assert self.head is not None  # noqa: S101  # for the type checker: `before` is of it
        self.head.length = length
        self.head.environ["CONTENT_LENGTH"] = digits.decode()
        end += len(after)
        self._data = data[:end]
        return end
