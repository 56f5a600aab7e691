"""A request until it has an answer that means something: what is asked again, whom, and for how long.

A read is repeated at the next endpoint whatever became of it. A write is repeated if certainly nothing of it was begun: no
connection was had, or the servers say so (`errors.NOTHING_BEGUN`). All within one deadline, with pauses of their own that
grow, or those that `Retry-After` asks for.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from gkv.client.errors import (
    ClientError,
    ConditionFailed,
    Indeterminate,
    Refused,
    Unavailable,
    Unreachable,
    Untrusted,
    class_of,
)
from gkv.client.transport import Answer, Broken, NoConnection, NotTrusted, Transport
from gkv.client.values import value_of

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two attempts; each is half as long again to twice as long as the one before."""
FIRST_WAIT = 5.0
"""Seconds that one endpoint has for the answer to a read before the next is asked; twice as many the next time. gkv itself
answers after two (`--deadline`), be it that it has none.
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `about` is the key that it is about, if it is about one."""

    method: str
    target: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    writes: bool = False
    partial: bool = False
    """Whether an answer with `failedKey` is one."""


class Patience:
    """The deadline of a call, and its pauses."""

    def __init__(self, seconds: float) -> None:
        self._until = monotonic() + seconds
        self._pause = FIRST_PAUSE
        self._wait = FIRST_WAIT

    def left(self) -> float:
        return self._until - monotonic()

    def wait_for(self, *, writes: bool) -> float:
        """Return for how long an endpoint is waited for. Nobody else can be asked about a write that may have been begun."""
        if writes:
            return self.left()
        wait, self._wait = self._wait, self._wait * 2
        return min(wait, self.left())

    def pause(self, error: ClientError, at_least: float = 0.0) -> None:
        """Wait before the next attempt; raise `error` when there would be no time left for one."""
        pause = max(at_least, self._pause * random.uniform(0.75, 1.0))  # noqa: S311 - it hides nothing
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if pause >= self.left():
            raise error
        time.sleep(pause)


def perform(transport: Transport, call: Call, patience: Patience) -> Answer:
    """Return an answer that is a success, or 404 for a key that has no value, or one with `failedKey` where that is one.

    Raises ClientError.
    """
    unconnected = 0
    failure: ClientError = Unavailable("the deadline has passed before the request was sent", "deadline")
    while True:
        if patience.left() <= 0:
            raise failure
        endpoint = transport.current
        pause: float | None = 0.0
        try:
            answer = transport.exchange(
                endpoint, call.method, call.target, call.body, call.headers, patience.wait_for(writes=call.writes)
            )
        except NoConnection as error:
            failure = Unreachable(f"{transport.urls[endpoint]}: {error}", "unreachable")
            unconnected += 1
            if unconnected % len(transport):
                pause = None  # there are others, who may be asked at once
            elif isinstance(error, NotTrusted):
                raise Untrusted(f"{transport.urls[endpoint]}: {error}", "certificate") from error
        except Broken as error:
            if call.writes:
                transport.move_on(endpoint)  # for the next call
                raise Indeterminate(f"{transport.urls[endpoint]}: no answer to a write: {error}", "indeterminate") from error
            failure = Unavailable(f"{transport.urls[endpoint]}: no whole answer: {error}", "broken")
        else:
            found = problem_in(answer, call)
            if found is None:
                return answer
            if not isinstance(found, Unavailable):
                raise found
            failure = found
            pause = retry_after(answer)
        transport.move_on(endpoint)
        if pause is not None:
            patience.pause(failure, pause)


def problem_in(answer: Answer, call: Call) -> ClientError | None:
    """Return the error that an answer is, None for one to be read."""
    if 200 <= answer.status < 300:
        plain = answer.headers.get("content-encoding", "identity").lower() == "identity"
        return None if plain else not_understood(answer, call)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    said: Any = {}
    if kind.endswith("json"):
        try:
            said = value_of(answer.body)
        except ValueError:
            said = {}
    if not isinstance(said, dict):
        said = {}
    if call.partial and isinstance(said.get("failedKey"), list):
        return None
    problem_type = said.get("type")
    code = problem_type.removeprefix("urn:gkv:problem:") if isinstance(problem_type, str) else ""
    if answer.status == 404 and code == "no-such-key":
        return None
    error = class_of(code, answer.status, retryable=said.get("retryable") is True, writes=call.writes)(
        str(said.get("detail") or said.get("title") or f"the answer has the status {answer.status}"),
        code or f"status-{answer.status}",
        status=answer.status,
        request_id=answer.headers.get("x-request-id", ""),
        pointers=_pointers(said.get("errors")),
    )
    if isinstance(error, ConditionFailed):
        error.version = version_in(answer)
    return error


def failure_of(row: Mapping[str, Any], *, writes: bool) -> ClientError:
    """Return the error of a key that stands in `failedKey`."""
    code = str(row.get("code", ""))
    where = f" (node {row['node']})" if "node" in row else ""
    retryable = row.get("retryable") is not False
    error = class_of(code, 0, retryable=retryable, writes=writes)(f"the key {row.get('key')!r} has failed{where}", code)
    if isinstance(error, ConditionFailed):
        error.version = row.get("version")
    return error


def retry_after(answer: Answer) -> float:
    """Return the seconds that an answer asks its client to wait; a date, which gkv never sends, counts as none."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def version_in(answer: Answer) -> str | None:
    """Return the version that stands in ETag, however a cache between has weakened it."""
    tag = answer.headers.get("etag")
    return None if tag is None else tag.removeprefix("W/").strip('"')


def not_understood(answer: Answer, call: Call) -> ClientError:
    """Return the error of a success whose body is not what it should be."""
    detail = f"the answer with the status {answer.status} is none of gkv's"
    request_id = answer.headers.get("x-request-id", "")
    return (Indeterminate if call.writes else Refused)(detail, "bad-answer", status=answer.status, request_id=request_id)


def _pointers(errors: Any) -> list[tuple[str, str]]:
    if not isinstance(errors, list):
        return []
    rows = [row for row in errors if isinstance(row, dict)]
    return [(str(row.get("pointer", "")), str(row.get("detail", ""))) for row in rows]
