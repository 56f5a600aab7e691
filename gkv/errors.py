"""One tree of errors, a class for each decision that a caller makes.

Every error that can reach a client carries what `application/problem+json` (RFC 9457) needs; `gkv.api` renders it, nobody
else. Codes are part of the interface and never change.
"""

from collections.abc import Mapping, Sequence


class GkvError(Exception):
    """The root. What is raised is always one of the subclasses."""

    status: int = 500
    code: str = "internal"
    title: str = "Internal error"
    retryable: bool = False
    headers: Mapping[str, str] = {}
    """Headers of the answer besides the usual ones, by name."""

    def __init__(
        self,
        detail: str,
        *,
        pointers: Sequence[tuple[str, str]] = (),
        retry_after: int | None = None,
        allow: str | None = None,
        challenge: str | None = None,
    ) -> None:
        """`pointers` are pairs of JSON pointer (RFC 6901) and what is wrong there; `retry_after` is in seconds.

        `allow` and `challenge` are what the headers Allow and WWW-Authenticate say.
        """
        super().__init__(detail)
        self.detail = detail
        self.pointers = tuple(pointers)
        self.retry_after = retry_after
        self.allow = allow
        self.challenge = challenge


class InternalError(GkvError):
    """A bug of gkv's. The detail is for the log, never for a client."""


class SyntaxProblem(GkvError):
    """The request cannot be read at all: not JSON, not UTF-8, a broken percent escape."""

    status = 400
    code = "syntax"
    title = "The request cannot be read"


class InvalidItem(GkvError):
    """The request can be read, but something in it is not allowed. Nothing of it was applied."""

    status = 400
    code = "invalid-item"
    title = "An item of the request is not valid"


class TooLarge(GkvError):
    """A body, a batch, a key or a value over its limit. Nothing was applied."""

    status = 413
    code = "too-large"
    title = "The request is over a limit"


class Unauthorized(GkvError):
    """The request shows no token, or none that is valid here."""

    status = 401
    code = "unauthorized"
    title = "The request needs a valid token"


class Forbidden(GkvError):
    """The token is valid, but for other calls."""

    status = 403
    code = "forbidden"
    title = "The token is not for this call"


class ForbiddenAddress(GkvError):
    """A member's call from where members must not be."""

    status = 403
    code = "forbidden-address"
    title = "Members may not call from this address"


class NoCertificate(GkvError):
    """A member's call over TLS without a certificate of the cluster's."""

    status = 403
    code = "no-certificate"
    title = "Members show a certificate"


class CrossSite(GkvError):
    """A web page of another site makes somebody's browser change something here."""

    status = 403
    code = "cross-site"
    title = "The call comes from another site's page"


class UnknownPath(GkvError):
    """There is nothing at this path."""

    status = 404
    code = "not-found"
    title = "There is nothing at this path"


class NoSuchKey(GkvError):
    """The key has no value."""

    status = 404
    code = "no-such-key"
    title = "The key has no value"

    def __init__(self, detail: str, about: Mapping[str, str] | None = None) -> None:
        """`about` are headers that say more of the answer."""
        super().__init__(detail)
        self.headers = about or {}


class ConditionFailed(GkvError):
    """The version that is there is not the one that the request depends on. Nothing has changed."""

    status = 412
    code = "condition"
    title = "What is there is another version"

    def __init__(self, title: str, detail: str, etag: str | None) -> None:
        """`etag` is the entity tag of what is there, None for nothing."""
        super().__init__(detail)
        self.title = title
        self.headers = {} if etag is None else {"ETag": etag}


class WrongType(GkvError):
    """The value to be added to is no integer, or the sum would have too many digits. Nothing has changed."""

    status = 409
    code = "wrong-type"
    title = "The value is no integer that can be added to"


class NoDefiniteAnswer(GkvError):
    """What a call about one key asked for is not known; `code` is the one that the key would have in a batch's failedKey."""

    status = 503
    title = "The key has no definite answer"

    def __init__(self, detail: str, code: str, *, status: int, retryable: bool) -> None:
        super().__init__(detail, retry_after=1 if retryable else None)
        self.code = code
        self.retryable = retryable
        self.status = status


class NoCompletePage(NoDefiniteAnswer):
    """A page of a listing cannot be had now; `code` is the one that some of its keys have."""

    title = "The page cannot be completed"


class WrongMethod(GkvError):
    """The path exists, but not for this method."""

    status = 405
    code = "method-not-allowed"
    title = "The path does not take this method"


class InvalidParameter(GkvError):
    """A query parameter that is unknown, repeated or missing."""

    status = 400
    code = "parameter"
    title = "A query parameter is not valid"


class WrongParameter(GkvError):
    """A query parameter with a value that it does not take."""

    status = 422
    code = "parameter-value"
    title = "A query parameter has a value that it does not take"


class InvalidMember(GkvError):
    """A node asks to join with a value that cannot be."""

    status = 422
    code = "invalid-member"
    title = "The node cannot be described like this"


class MemberConflict(GkvError):
    """A node asks to join in a way that the cluster cannot grant; asking again does not help."""

    status = 409
    code = "member-conflict"
    title = "The members do not allow this"


class NoSuchMember(GkvError):
    """An operator names a node that is no member."""

    status = 404
    code = "no-such-member"
    title = "There is no such member"


class ChangeUnderWay(GkvError):
    """The ring changes already, which has to end or be taken back first. Nothing has been begun."""

    status = 409
    code = "change-under-way"
    title = "Another change of the ring is under way"
    retryable = True


class NotSupported(GkvError):
    """Part of the interface, but not of this version. Refused, never ignored."""

    status = 501
    code = "not-supported"
    title = "Not available in this version"


class Unavailable(GkvError):
    """It cannot be done now; later it can."""

    status = 503
    code = "unavailable"
    title = "Not available now"
    retryable = True


class Overloaded(Unavailable):
    """There is too much to do just now. Nothing has changed."""

    code = "overloaded"
    title = "Too busy"


class ConfigError(GkvError):
    """The settings or the environment cannot work. Commands end with exit code 78."""

    code = "configuration"
    title = "The configuration cannot work"


class WrongContentType(GkvError):
    """A call that changes the cluster must say that it sends JSON; a form on a foreign web page cannot."""

    status = 415
    code = "content-type"
    title = "The body has the wrong content type"


class CodedBody(WrongContentType):
    """A body with a Content-Encoding. Nothing of it was applied."""

    title = "The body is coded"
    headers: Mapping[str, str] = {"Accept-Encoding": "identity"}  # RFC 9110, 15.5.16


class BadFraming(GkvError):
    """Where this request ends cannot be known for certain. The connection is closed."""

    status = 400
    code = "framing"
    title = "The request is not well-formed HTTP"


class UriTooLong(GkvError):
    """A request target over its limit. The connection is closed."""

    status = 414
    code = "uri-too-long"
    title = "The request target is too long"


class HeadTooLarge(GkvError):
    """Headers over one of their limits. The connection is closed."""

    status = 431
    code = "head-too-large"
    title = "The headers are too large"


class WrongVersion(GkvError):
    """HTTP, but neither 1.0 nor 1.1. The connection is closed."""

    status = 505
    code = "http-version"
    title = "The HTTP version is not spoken here"


class Misdirected(GkvError):
    """Host names another server. The connection is closed."""

    status = 421
    code = "misdirected"
    title = "The request is for another server"


class ExpectationFailed(GkvError):
    """An Expect other than 100-continue. The connection is closed."""

    status = 417
    code = "expectation"
    title = "The expectation cannot be met"


class TooSlow(GkvError):
    """The rest of a request did not come in time. The connection is closed."""

    status = 408
    code = "request-timeout"
    title = "The request did not come in time"
    retryable = True


class EngineError(GkvError):
    """An engine refuses to start, or to do what it was asked; the detail says what it found and what to do."""

    status = 503
    code = "engine"
    title = "The node's storage cannot do it"


class OtherNodesRecords(EngineError, ConfigError):
    """The data directory is that of another node: the settings name the wrong one of both."""


class OutOfRoom(EngineError):
    """The engine's map is too small for a write. Nothing has changed; `grow`, and the same write goes."""

    code = "unavailable"
    retryable = True


class SnapshotRunning(EngineError):
    """What is asked for must wait until the snapshot under way is done. Nothing has changed."""

    code = "snapshot-running"
    title = "A snapshot of the node is running"
    retryable = True


class EngineFull(EngineError):
    """The disk, or the part of it that the engine may use, is full. Nothing has changed; deletes still go."""

    status = 507
    code = "disk-full"
    title = "The node's disk is full"
    retryable = True


class EngineFailed(EngineError):
    """It is unknown what is on the disk, so nothing is acknowledged any more. The process ends."""

    code = "engine-failed"
    title = "The node's storage has failed"


class NotOnDisk(EngineError):
    """A write was not on disk by its deadline. It may still be applied."""

    code = "indeterminate"
    title = "It is not known whether the write was applied"
    retryable = True
