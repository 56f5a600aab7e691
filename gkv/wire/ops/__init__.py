"""What a coordinator and a node say to each other: a class for each request and for each kind of answer.

A frame is one line of JSON, ended by a newline, and behind it the texts of values without anything between them; the line
says how long each is. So a value goes from a client's request to the engine and back without being decoded or encoded.

    {"op":"set","cluster":"5f1c...","generation":1,"epoch":7,"keys":["hi","hi1"],"sizes":[7,8]}
    "hello""hello1"

`ttls` may follow the keys of a set: for how long each of them is there, in milliseconds, 0 for good. So may
`types`: the media type of each value, null for a JSON text; and `if`: for each key the condition on which it is
written (`gkv.replication.conditions`), null for none. To a `get` values of other types are shown as base64
(`gkv.wire.shown.show`); a `fetch`, or a `get` with `"meta":true`, brings whole records, `items` their values, types and
ends, a `peek` whole records of the node's own copy.

    {"op":"delete","cluster":"5f1c...","generation":1,"epoch":7,"keys":["hi"],"if":["=*"]}
    {"op":"add","cluster":"5f1c...","generation":1,"epoch":7,"keys":["n"],"deltas":[1]}
    {"op":"touch","cluster":"5f1c...","generation":1,"epoch":7,"keys":["hi"],"ttls":[60000]}

Each request but `status`, `adopt` and `call-at` carries the cluster, generation and epoch that its sender
believes in; a node that believes otherwise answers `stale` with its own document instead of doing
anything. What a node refuses it says by a `NodeRefusal`; a write is answered with the version that
it was given, and a letter for each key, the value of its `Effect`:

    {"version":"000100000000000700000000000000a1","effects":"crru"}

Where a condition did not hold (`x`), `present` has the version that is there, or null; an addition brings `sums`.

With copies an answer may take longer than others are to wait for it. Then its ticket comes in its place, as often as need be,
and what was asked is not asked again:

    {"putOff":"2f1c9a03b7e4d581"}
    {"op":"await","ticket":"2f1c9a03b7e4d581"}

A new op is a member of `gkv.model.Op`, a class in one of these files, an entry in `_REQUESTS`, and a handler of the node's.
"""

from collections.abc import Mapping

from gkv.model import Op
from gkv.wire.ops.frame import BadFrame, Large, NodeAnswer, NodeRequest, NoRoom, Refused, read_answer, split, understand
from gkv.wire.ops.keyed import EpochRequest, Items, KeyRequest
from gkv.wire.ops.later import Await, PutOff
from gkv.wire.ops.membership import Adopt, CallAt, Here, Status
from gkv.wire.ops.moves import GoOnWith, Held, PlanMove
from gkv.wire.ops.reads import Fetch, FetchItems, Get, ItemRow, ItemRows, ListKeys, Page, Peek, Records, Values
from gkv.wire.ops.words import Said, Word
from gkv.wire.ops.writes import Add, Delete, Effects, Put, Set, Touch, WriteRequest
from gkv.wire.strict import Pause, no_pause

__all__ = [
    "Add",
    "Adopt",
    "Await",
    "BadFrame",
    "CallAt",
    "Delete",
    "Effects",
    "EpochRequest",
    "Fetch",
    "FetchItems",
    "Get",
    "GoOnWith",
    "Held",
    "Here",
    "ItemRow",
    "ItemRows",
    "Items",
    "KeyRequest",
    "Large",
    "ListKeys",
    "NoRoom",
    "NodeAnswer",
    "NodeRequest",
    "Page",
    "Peek",
    "PlanMove",
    "Put",
    "PutOff",
    "Records",
    "Refused",
    "Said",
    "Set",
    "Status",
    "Touch",
    "Values",
    "Word",
    "WriteRequest",
    "key_request",
    "read_answer",
    "read_request",
    "understand",
]

_REQUESTS: Mapping[str, type[NodeRequest]] = {
    request.op: request
    for request in (
        *(Get, Fetch, FetchItems, Set, Put, Delete, Add, Touch, ListKeys, Peek),
        *(Status, Adopt, CallAt, Word, PlanMove, GoOnWith, Await),
    )
}


def read_request(frame: bytes, pause: Pause = no_pause) -> NodeRequest:
    """Read a request; raise BadFrame when it is none. Calls `pause` between large values, and many keys."""
    header, start = split(frame, pause)
    op = header.get("op")
    request = _REQUESTS.get(op) if isinstance(op, str) else None
    if request is Get and header.get("meta") is True:
        request = Fetch
    if request is None:
        raise BadFrame(f"unknown op {str(op)[:32]!r}")
    return request.read(header, frame, start, pause)


def key_request(op: Op) -> type[KeyRequest]:
    """Return the class of the requests with this op, which must be about keys."""
    request = _REQUESTS[op]
    if not issubclass(request, KeyRequest):
        raise TypeError(f"{op} is not about keys")
    return request
