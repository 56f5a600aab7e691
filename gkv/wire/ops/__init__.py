"""What a coordinator and a node say to each other: a class for each request and for each kind of answer.

A frame is one line of JSON, ended by a newline, and behind it the texts of values without anything between them; the line
says how long each is. So a value goes from a client's request to the engine and back without being decoded or encoded.

    {"op":"set","cluster":"5f1c...","epoch":7,"version":"0191...","keys":["hi","hi1"],"sizes":[7,8]}
    "hello""hello1"

`expires` may follow the keys of a set: when each of them expires, in milliseconds since the Unix epoch, 0 for never. So may
`types`: the media type of each value, null for a JSON text. To a `get` values of other types are shown as base64
(`gkv.wire.client.show`); a `fetch` brings whole records.

Each request but `status` and `adopt` carries the cluster and the epoch that its sender believes in; a node that believes
otherwise answers `stale` with its own document instead of doing anything. What a node refuses it says by a `NodeRefusal`; a
write is answered with a letter for each key, the value of its `Effect`:

    {"effects":"crru"}

A new op is a member of `gkv.model.Op`, a class in one of these files, an entry in `_REQUESTS`, and a handler of the node's.
"""

from collections.abc import Mapping

from gkv.model import Op
from gkv.wire.ops.frame import BadFrame, Large, NodeAnswer, NodeRequest, NoRoom, Refused, read_answer, split
from gkv.wire.ops.keyed import EpochRequest, KeyRequest
from gkv.wire.ops.membership import Adopt, Here, Status
from gkv.wire.ops.reads import Fetch, Get, ListKeys, Page, Records, Values
from gkv.wire.ops.writes import Delete, Effects, Put, Set, WriteRequest
from gkv.wire.strict import Pause, no_pause

__all__ = [
    "Adopt",
    "BadFrame",
    "Delete",
    "Effects",
    "EpochRequest",
    "Fetch",
    "Get",
    "Here",
    "KeyRequest",
    "Large",
    "ListKeys",
    "NoRoom",
    "NodeAnswer",
    "NodeRequest",
    "Page",
    "Put",
    "Records",
    "Refused",
    "Set",
    "Status",
    "Values",
    "WriteRequest",
    "key_request",
    "read_answer",
    "read_request",
]

_REQUESTS: Mapping[str, type[NodeRequest]] = {
    request.op: request for request in (Get, Fetch, Set, Put, Delete, ListKeys, Status, Adopt)
}


def read_request(frame: bytes, pause: Pause = no_pause) -> NodeRequest:
    """Read a request; raise BadFrame when it is none. Calls `pause` between large values, and many keys."""
    header, start = split(frame, pause)
    op = header.get("op")
    request = _REQUESTS.get(op) if isinstance(op, str) else None
    if request is None:
        raise BadFrame(f"unknown op {str(op)[:32]!r}")
    return request.read(header, frame, start, pause)


def key_request(op: Op) -> type[KeyRequest]:
    """Return the class of the requests with this op, which must be about keys."""
    request = _REQUESTS[op]
    if not issubclass(request, KeyRequest):
        raise TypeError(f"{op} is not about keys")
    return request
