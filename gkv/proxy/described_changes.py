"""The descriptions of the calls by which an operator changes the cluster."""

from typing import Any

from gkv.api.operation import Content, Operation, Parameter, ResponseDoc, Schema, array, shape
from gkv.cluster.document import MAX_COPIES, MAX_RATE
from gkv.cluster.node import MAX_TOKENS, MAX_WEIGHT, MIN_TOKENS
from gkv.cluster.ring_change import Kind
from gkv.errors import (
    ChangeUnderWay,
    InvalidItem,
    InvalidMember,
    MemberConflict,
    NoSuchMember,
    WrongContentType,
    WrongParameter,
)
from gkv.proxy.words import MAX_BODY
from gkv.wire.blob import JSON

_COUNT: Schema = {"type": "integer", "minimum": 0}
_COUNT_IF_KNOWN: Schema = {"type": ["integer", "null"], "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_SECONDS: Schema = {"type": ["number", "null"], "minimum": 0}
_ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"}
_FLAG: Schema = {"type": "integer", "enum": [0, 1], "default": 0}

_CHANGE: dict[str, Any] = {
    "kind": {"enum": [kind.value for kind in Kind], "description": "the first of its kinds, where it has several"},
    "nodes": array(_ID, description="members whose place in the ring changes"),
    "what": {"type": "string", "description": "the same for people"},
}
_FROM: dict[str, Any] = {"from": {**_ID, "description": "who gives"}}
_MOVES: dict[str, Any] = {
    "moved": {**_SHARE, "description": "the share of all copies that moves"},
    "ideal": {**_SHARE, "description": "the share that has to move for each member to have as much as it will"},
    "keys": {**_COUNT_IF_KNOWN, "description": "copies of keys that move, about; null while no member says how many it has"},
    "bytes": {**_COUNT_IF_KNOWN, "description": "of these keys and their values, about"},
}
_RATE: Schema = {
    "type": ["integer", "null"],
    "minimum": 0,
    "maximum": MAX_RATE,
    "description": "records a second that each source gives for it, 0 for no bound; null: at the nodes' --fill-rate",
}
RUNNING = shape(
    "kind nodes what since done share taken rate left limit paused moved ideal keys bytes",
    since={**_COUNT, "description": "the epoch at which it began"},
    done={
        "type": "object",
        "additionalProperties": _SHARE,
        "description": "of each member that is filled by it, the share that has come",
    },
    share={**_SHARE, "description": "that has come in all"},
    taken={**_COUNT, "description": "records that were taken since the proxy began to watch it"},
    rate={"type": "number", "minimum": 0, "description": "of them in a second, at the pace of now"},
    left={**_SECONDS, "description": "seconds until its end, about; null if that is not known, or it is paused"},
    limit=_RATE,
    paused={"type": "boolean"},
    **_CHANGE,
    **_MOVES,
)
_GRANTED = shape(
    "epoch change dryRun begins_in moves moved ideal keys bytes seconds progress",
    epoch={**_COUNT, "description": "of the document to which that was said"},
    change=shape("kind nodes what", **_CHANGE),
    dryRun={"type": "boolean"},
    begins_in={
        "type": "number",
        "minimum": 0,
        "description": "seconds: a member that is down is removed when all that it may have promised has run out",
    },
    moves=array(
        shape(
            "from to share keys bytes",
            **_FROM,
            to={**_ID, "description": "who gets"},
            share={**_SHARE, "description": "the share of all keys"},
            keys=_COUNT_IF_KNOWN,
            bytes=_COUNT_IF_KNOWN,
        )
    ),
    seconds={
        **_SECONDS,
        "description": "about how long it takes at the nodes' --fill-rate; null if unknown or without a bound",
    },
    progress={"type": "string"},
    **_MOVES,
)
_ANSWERS = {
    202: ResponseDoc("It will, by one of the next documents", {JSON: Content(_GRANTED)}),
    200: ResponseDoc("It would; dryRun=1", {JSON: Content(_GRANTED)}),
}
_DRY_RUN = Parameter("dryRun", "1: only say what would move between whom; for readers", _FLAG)
_FORCE = Parameter("force", "1: also where there will be fewer nodes than copies of each key", _FLAG)
_NODE = Parameter("id", "of a member", _ID, "path", required=True)
_ONE_AT_A_TIME = (
    "One change of the ring at a time: another one is refused (409 `change-under-way`) until it has ended, or is taken back by "
    "DELETE /v1/cluster/change. No request fails for it: the ring in force goes on until whoever gets keys has them."
)
_PROBLEMS = (MemberConflict, ChangeUnderWay, WrongParameter)

REMOVE = Operation(
    "Have a member leave: it gives its keys away, and is no member at the end; or remove one that is down",
    _ANSWERS,
    "A member that is down is removed once all that it may have promised has run out; its machine must be off. One with the "
    "only copy of its keys is not (409): start it first; if its data is lost, accept the loss, and have it leave. "
    + _ONE_AT_A_TIME,
    (_DRY_RUN, _FORCE),
    problems=(*_PROBLEMS, NoSuchMember),
    below=_NODE,
)
REPLACE = Operation(
    "Have a newcomer take the place of a member, which leaves, or is removed if it is down",
    _ANSWERS,
    "The newcomer is a process that was started with `--standby`; for a dry run it need not be there. It takes the tokens "
    "and the weight of the member, and its zone unless it was started with one: so it gets what the member has, and nothing "
    f"else moves. A member that is down is removed as by DELETE. {_ONE_AT_A_TIME}",
    (_DRY_RUN,),
    {
        JSON: Content(
            {
                "type": "object",
                "required": ["node", "with"],
                "additionalProperties": False,
                "properties": {"node": _ID, "with": _ID},
            },
            {"node": "127.0.0.1:9000", "with": "127.0.0.1:9003"},
        )
    },
    body_limit=MAX_BODY,
    problems=(*_PROBLEMS, NoSuchMember, WrongContentType, InvalidItem, InvalidMember),
)
CHANGE_MEMBER = Operation(
    "Give a member another weight or zone",
    _ANSWERS,
    _ONE_AT_A_TIME,
    (_DRY_RUN,),
    {
        JSON: Content(
            {
                **shape(
                    "",
                    "weight zone",
                    weight={
                        "type": "number",
                        "exclusiveMinimum": 0,
                        "maximum": MAX_WEIGHT,
                        "description": "share of the keys, against 1 for an ordinary node",
                    },
                    zone={"type": "string", "description": "copies of a key lie in different zones, if there are enough"},
                ),
                "minProperties": 1,
            },
            {"weight": 2},
        )
    },
    body_limit=MAX_BODY,
    problems=(*_PROBLEMS, NoSuchMember, WrongContentType, InvalidItem, InvalidMember),
    below=_NODE,
)
CHANGE_CLUSTER = Operation(
    "Have another number of copies of each key, of copies that a write needs, or of vnodes of an ordinary node",
    _ANSWERS,
    "`min_in_sync` counts at once, and follows `replicas` where it is the usual one. With other `vnodes` most keys move that "
    f"would move in a cluster of other nodes: look at the dry run first. {_ONE_AT_A_TIME}",
    (_DRY_RUN, _FORCE),
    {
        JSON: Content(
            {
                **shape(
                    "",
                    "replicas min_in_sync vnodes",
                    replicas={"type": "integer", "minimum": 1, "maximum": MAX_COPIES},
                    min_in_sync={"type": "integer", "minimum": 1, "maximum": MAX_COPIES},
                    vnodes={"type": "integer", "minimum": MIN_TOKENS, "maximum": MAX_TOKENS},
                ),
                "minProperties": 1,
            },
            {"replicas": 2},
        )
    },
    body_limit=MAX_BODY,
    problems=(*_PROBLEMS, WrongContentType, InvalidItem, InvalidMember),
)
_PACED = shape(
    "epoch change dryRun rate paused progress",
    epoch={**_COUNT, "description": "of the document to which that was said"},
    change=shape("kind nodes what", **_CHANGE),
    dryRun={"type": "boolean"},
    rate=_RATE,
    paused={"type": "boolean"},
    progress={"type": "string"},
)
CHANGE_PACE = Operation(
    "Have the change of the ring that is under way go on at another rate, or pause",
    {
        202: ResponseDoc("It will, by one of the next documents", {JSON: Content(_PACED)}),
        200: ResponseDoc("It would; dryRun=1", {JSON: Content(_PACED)}),
    },
    "While it is paused nothing moves, and it does not end. Nodes that have come back are filled as ever, at their sources' "
    "--fill-rate. The pace is in the document, so whoever is restarted knows it, and ends with the change.",
    (_DRY_RUN,),
    {
        JSON: Content(
            {**shape("", "rate paused", rate=_RATE, paused={"type": "boolean"}), "minProperties": 1},
            {"rate": 5_000},
        )
    },
    body_limit=MAX_BODY,
    problems=(MemberConflict, WrongContentType, InvalidItem, InvalidMember, WrongParameter),
)
TAKE_BACK = Operation(
    "Take the change of the ring back that is under way, or about to begin",
    _ANSWERS,
    "The ring in force stays; a node that was about to join is refused until it is started anew.",
    (_DRY_RUN,),
    problems=(MemberConflict, WrongParameter),
)
