"""The words of an operator's call: its body and its query, read strictly."""

import json
from typing import Any
from urllib.parse import unquote_to_bytes

from gkv.api.http import Request
from gkv.cluster.node import id_is_good
from gkv.errors import InvalidMember, NoSuchMember, WrongParameter
from gkv.wire.strict import Reader

MAX_BODY = 1 << 20
"""Bytes of a body, which may have a whole document."""


def body_of(request: Request) -> Any:
    """Return the JSON value in the body of a call that changes the cluster."""
    request.require_json()
    reader = Reader(request.body(MAX_BODY))
    value = json.loads(reader.text())
    reader.end()
    return value


def members_of(request: Request, known: str) -> dict[str, Any]:
    """Return the members of the object in a body: one at least, and only those that are `known`, separated by spaces.

    Raise InvalidMember.
    """
    value = body_of(request)
    names = known.split()
    if not isinstance(value, dict) or not value:
        raise InvalidMember(f"the body is an object with {' or '.join(names)}, or more of them")
    unknown = sorted(value.keys() - set(names))
    if unknown:
        raise InvalidMember(
            f"unknown member {json.dumps(unknown[0][:64])}; there are {' and '.join(names)}",
            pointers=[(f"/{unknown[0][:64].replace('~', '~0').replace('/', '~1')}", "not known")],
        )
    return value


def flags_of(request: Request, *names: str) -> list[bool]:
    """Return which of these parameters of the query are 1. Raise WrongParameter."""
    query = request.query()
    given = [query.get(name, ["0"])[0] for name in names]
    for name, text in zip(names, given, strict=True):
        if text not in ("0", "1"):
            raise WrongParameter(f"{name} is 0 or 1")
    return [text == "1" for text in given]


def id_in(path: str) -> str:
    """Return the id of a member at the end of a path, as that was sent. Raise NoSuchMember for what is no id."""
    node_id = unquote_to_bytes(path).decode("utf-8", "replace")
    if not id_is_good(node_id):
        raise NoSuchMember("there is no such member: that is no id of a node")
    return node_id
