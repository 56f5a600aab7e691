"""The descriptions of the routes that only a proxy has."""

from gkv.api.operation import Content, Operation, ResponseDoc, Schema, ref
from gkv.api.operations import array, shape
from gkv.errors import ChangeInProgress, InvalidItem, InvalidMember, MemberConflict, WrongContentType
from gkv.wire.blob import JSON

_CLUSTER_ID: Schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
MAX_JOIN = 4_096
"""Bytes of a body."""
_COUNT: Schema = {"type": "integer", "minimum": 0}


def _document(member: Schema) -> Schema:
    return shape(
        "cluster epoch replicas vnodes members joining",
        cluster=_CLUSTER_ID,
        epoch=_COUNT,
        replicas=_COUNT,
        vnodes=_COUNT,
        members=array(member),
        joining={"oneOf": [ref("Node"), {"type": "null"}]},
    )


_MEMBER = shape(
    "id url weight state",
    id={"type": "string"},
    url={"type": "string"},
    weight={"type": "number"},
    state={"enum": ["up", "down"]},
)
CLUSTER = Operation(
    "Get the member list, and who has called in lately",
    {200: ResponseDoc("The member list in force", {JSON: Content(_document(_MEMBER))})},
)
JOIN = Operation(
    "Join the cluster, or say that a member is alive; a node does this by itself",
    {200: ResponseDoc("The member list in force", {JSON: Content(_document(ref("Node")))})},
    "The url names the address that the call comes from, and the node must answer there.",
    body={
        JSON: Content(
            shape(
                "id url",
                "weight cluster fresh",
                id={"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"},
                url={"type": "string", "format": "uri", "pattern": "^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?:[1-9][0-9]{0,4}$"},
                weight={"type": "number", "exclusiveMinimum": 0, "maximum": 1_000, "default": 1},
                cluster={"type": ["string", "null"], "description": "whose records the node holds, null for nobody's"},
                fresh={"type": "boolean", "default": False, "description": "its data directory is new"},
            ),
            {"id": "n1", "url": "http://10.0.0.5:9000", "weight": 1.0, "cluster": None, "fresh": True},
        )
    },
    body_limit=MAX_JOIN,
    problems=(WrongContentType, InvalidItem, InvalidMember, MemberConflict, ChangeInProgress),
)
