"""The trace that a client's request belongs to: W3C Trace Context, level 1.

gkv records no spans, so it forwards: the `traceparent` of a request goes to the nodes that are asked for it, as it came, with
its `tracestate`, and none is made for a request without one. One HTTP request to a node is for many clients', so its
`traceparent` may have several values, one for each trace, which only nodes read; `tracestate` goes with a single one.

Promises: what is not well-formed is left out, and refuses nothing. Pure; a request without a trace costs a look for the header.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

MAX_STATE = 512
"""Characters of a tracestate that are passed on; the least that section 3.3.1.5 asks for."""
_MOST_MEMBERS = 32
_LONG_MEMBER = 128
"""Characters of a member of tracestate beyond which it goes first where there is no room."""

_parent = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})").match
_LENGTH = 55
_SAMPLED = 1
_member = re.compile(
    r"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
).fullmatch


class TracedId(str):
    """The id of a client's request, with the trace that the request belongs to. It goes wherever the id goes."""

    __slots__ = ("parent", "state")
    parent: str
    state: str

    def __new__(cls, request_id: str, parent: str, state: str) -> Self:
        one = super().__new__(cls, request_id)
        one.parent, one.state = parent, state
        return one


def read_parent(text: str) -> str:
    """Return a traceparent (3.2) as it is to be passed on, "" for what is none. Of a later version, the part that this one has.

    >>> read_parent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    >>> read_parent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-later")
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    """
    match = _parent(text)
    if match is None:
        return ""
    if match[1] == "00":
        return text if len(text) == _LENGTH else ""
    if len(text) > _LENGTH and text[_LENGTH] != "-":
        return ""
    return f"00{text[2 : _LENGTH - 2]}{int(match[2], 16) & _SAMPLED:02x}"


def read_state(text: str) -> str:
    """Return a tracestate (3.3) as it is to be passed on, "" for what is none.

    One that is too long loses whole members: long ones first, then the last ones.

    >>> read_state("congo=t61rcWkgMzE , rojo=00f067aa0ba902b7"), read_state("Congo=1")
    ('congo=t61rcWkgMzE,rojo=00f067aa0ba902b7', '')
    """
    members = [member for member in (part.strip(" \t") for part in text.split(",")) if member]
    found = [_member(member) for member in members]
    keys = {one[1] for one in found if one is not None}
    if len(members) > _MOST_MEMBERS or len(keys) < len(members):  # one is none, or a key stands twice
        return ""
    size = len(",".join(members))
    for member in [one for one in reversed(members) if len(one) > _LONG_MEMBER]:
        if size > MAX_STATE:
            members.remove(member)
            size -= len(member) + 1
    while size > MAX_STATE:
        size -= len(members.pop()) + 1
    return ",".join(members)


def traced(request_id: str, environ: Mapping[str, Any]) -> TracedId | None:
    """Return the id of a request with its trace, None for a request that belongs to none."""
    parent = read_parent(environ.get("HTTP_TRACEPARENT", ""))
    return TracedId(request_id, parent, read_state(environ.get("HTTP_TRACESTATE", ""))) if parent else None


def header_lines(request_ids: Sequence[str]) -> bytes:
    """Return the header lines about the traces of these requests, each with its line end; none of them for none.

    >>> one = TracedId("a-1", "00-" + 32 * "1" + "-" + 16 * "2" + "-01", "rojo=1")
    >>> header_lines(["b-2", one, one]).decode().splitlines()
    ['traceparent: 00-11111111111111111111111111111111-2222222222222222-01', 'tracestate: rojo=1']
    """
    traces = {one.parent: one.state for one in request_ids if isinstance(one, TracedId)}
    if not traces:
        return b""
    line = f"traceparent: {','.join(traces)}\r\n"
    if len(traces) == 1 and (state := next(iter(traces.values()))):
        line += f"tracestate: {state}\r\n"
    return line.encode()


def shown(environ: Mapping[str, Any], *, gathered: bool) -> str:
    """Return the traceparent of a request for a line in the log, "" for none; of gathered calls, those of all, with commas
    between them.
    """
    text = environ.get("HTTP_TRACEPARENT", "")
    if not text:
        return ""
    return ",".join(filter(None, map(read_parent, text.split(",")))) if gathered else read_parent(text)
