"""Plain words about failures on the way to a server, for whoever has to mend them: not those of the libraries below. Pure."""

import http.client
import socket
import ssl

import urllib3
from urllib3.exceptions import HTTPError, IncompleteRead, NewConnectionError

_MOST = 8
"""Causes that are followed, as one might be its own."""


def words_of(error: BaseException, late: str = "no answer in time") -> str:
    """Return what an exception of urllib3 or of the standard library comes down to; `late` says what took too long.

    >>> words_of(ConnectionRefusedError(111, "Connection refused"))
    'connection refused'
    >>> words_of(TimeoutError("timed out"))
    'no answer in time'
    >>> words_of(http.client.BadStatusLine("SSH-2.0"))
    'the answer is not HTTP'
    """
    cause = _cause(error)
    if isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError) and not isinstance(cause, NewConnectionError):
        return late
    if isinstance(cause, socket.gaierror):
        return f"the name cannot be resolved: {cause.strerror}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate does not hold: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS fails: {(cause.reason or cause.strerror or 'no reason is told').lower().replace('_', ' ')}"
    if isinstance(cause, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(cause, http.client.IncompleteRead | IncompleteRead):
        return "the answer broke off"
    if isinstance(cause, http.client.HTTPException):
        return "the answer is not HTTP"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror[:1].lower() + cause.strerror[1:]
    return "no answer that can be read" if isinstance(cause, HTTPError) else str(cause) or type(cause).__name__


def _cause(error: BaseException) -> BaseException:
    """Return what an exception was made of; urllib3 has it as the cause, or among the arguments."""
    for _ in range(_MOST):
        arguments = [one for one in error.args if isinstance(one, BaseException)]
        below = error.__cause__ or (arguments[-1] if arguments else None) or error.__context__
        if below is None or not isinstance(error, HTTPError):
            return error
        error = below
    return error
