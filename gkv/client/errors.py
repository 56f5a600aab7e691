"""What a call of the client can end with: a class for each decision that a caller makes.

    ClientError
        Refused                 it will not do as it was asked; nothing has changed
            InvalidRequest      the request is wrong
                CursorRefused   a listing cannot go on from there; begin again without the cursor
            TooLarge            a value, a key or an answer is over a limit of the server's
            Unauthorized        the token is none that the server knows, or stands for other calls
            Untrusted           the server's certificate is none that this client trusts
            ConditionFailed     what is there is another version
            WrongType           no integer can be added to this value
            Damaged             the record is not what was written: set it again, or delete it
        Unavailable             not before the deadline; nothing has changed, and later it may go
            Unreachable         no endpoint could be connected to, or the key's node could not be asked
            Overloaded          the servers have too much to do
            DiskFull            a node has no room; deletes go, and make some
        Indeterminate           a write that may take effect now, later or never
        BatchFailed             some keys of a batch were not written, or could not be read
            BatchIndeterminate  and for some of them it is not known; an Indeterminate too

The codes are the server's, and those of a later server keep working: their status says which class it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """The root. `code` is the server's word, or the client's own; `status` 0 where no server has answered."""

    def __init__(
        self,
        detail: str,
        code: str = "",
        *,
        status: int = 0,
        request_id: str = "",
        pointers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """`request_id` stands in the log lines of the servers; `pointers` say where in the request something is wrong."""
        super().__init__(f"{detail} ({code})" if code else detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.request_id = request_id
        self.pointers = tuple(pointers)


class Refused(ClientError):
    """It will not be done as it was asked, however often. Nothing has changed."""


class InvalidRequest(Refused):
    """The request is wrong: a key that cannot be one, a parameter that is none."""


class CursorRefused(InvalidRequest):
    """A listing cannot go on from this cursor: it is of another prefix or delimiter, or of none."""


class TooLarge(Refused):
    """A body, a value, a key or an answer is over a limit of the server's."""


class Unauthorized(Refused):
    """The server asks for a token, or for another one."""


class Untrusted(Refused):
    """The certificate of a server is not signed by an authority that this client trusts, or is another host's."""


class ConditionFailed(Refused):
    """What is there is another version: `version`, None where there is no value."""

    version: str | None = None


class WrongType(Refused):
    """The value is no integer, or the sum would have more than 18 digits."""


class Damaged(Refused):
    """No intact copy of the record is left. Set the key again, or delete it."""


class Unavailable(ClientError):
    """It could not be done before the deadline. Nothing has changed; later it may go."""


class Unreachable(Unavailable):
    """No endpoint could be connected to, or the node of the key could not be asked."""


class Overloaded(Unavailable):
    """There is too much to do just now."""


class DiskFull(Unavailable):
    """A node that must hold the key has no room."""


class Indeterminate(ClientError):
    """The write may take effect now, later or never, so the client does not repeat it: a repetition is another write.

    Read the key before you repeat a write with a condition; an `add` that is repeated may count twice.
    """


class BatchFailed(ClientError):
    """Some keys of a batch were not written, or could not be read."""

    def __init__(self, failed: Mapping[str, ClientError], taken: int, done: int, found: Mapping[str, Any]) -> None:
        codes = sorted({error.code for error in failed.values()})
        super().__init__(f"{len(failed)} of {taken} keys failed: {next(iter(failed.values())).detail}", ", ".join(codes))
        self.failed = failed
        """The error of each key that failed."""
        self.taken = taken
        """Items that were asked for in all: the first ones of what was given. Later ones were not begun."""
        self.done = done
        """What the call would have returned, had it returned a number."""
        self.found = found
        """What was read."""


class BatchIndeterminate(BatchFailed, Indeterminate):
    """Of some keys of a batch it is not known whether they were or will be written."""


NOTHING_BEGUN = frozenset(
    {
        *("epoch", "no-primary", "not-applied", "overloaded", "request-timeout", "snapshot-running", "too-few-copies"),
        *("disk-full", "unavailable"),
    }
)
"""The codes of writes that certainly were not begun, and may be tried again."""

_CLASSES: Mapping[str, type[ClientError]] = {
    "condition": ConditionFailed,
    "damaged": Damaged,
    "disk-full": DiskFull,
    "forbidden": Unauthorized,
    "indeterminate": Indeterminate,
    "invalid-item": InvalidRequest,
    "overloaded": Overloaded,
    "parameter": InvalidRequest,
    "parameter-value": InvalidRequest,
    "syntax": InvalidRequest,
    "too-large": TooLarge,
    "unauthorized": Unauthorized,
    "unreachable": Unreachable,
    "wrong-type": WrongType,
}
_STATUSES: Mapping[int, type[ClientError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Unauthorized,
    408: Unavailable,
    412: ConditionFailed,
    413: TooLarge,
    429: Overloaded,
    507: DiskFull,
}
_NEVER_BEGUN = (501, 505)
"""Statuses that say that a request was not understood."""
_DECIDED = ("damaged", "refused")
"""Codes that have the status 500, and say that nothing has changed."""


def class_of(code: str, status: int, *, retryable: bool, writes: bool) -> type[ClientError]:
    """Return what an answer that is no success stands for. `status` is 0 for one key of a batch.

    Of a write that somebody failed at, in words that say nothing about it, nobody knows what has become.

    >>> class_of("no-primary", 503, retryable=True, writes=True).__name__
    'Unavailable'
    >>> class_of("", 502, retryable=False, writes=False).__name__, class_of("", 502, retryable=False, writes=True).__name__
    ('Unavailable', 'Indeterminate')
    >>> class_of("of-tomorrow", 409, retryable=False, writes=True).__name__
    'Refused'
    """
    if code in NOTHING_BEGUN:
        return _CLASSES.get(code, Unavailable)
    definite = 400 <= status < 500 or status in _NEVER_BEGUN or code in _DECIDED or (not status and not retryable)
    if writes and not definite:
        return Indeterminate
    if code in _CLASSES:
        return _CLASSES[code]
    return _STATUSES.get(status, Unavailable if retryable or status in (502, 503, 504) else Refused)
