"""The descriptions of the routes that only a proxy has."""

from gkv.api.operation import Content, Operation, Parameter, ResponseDoc, Schema, array, ref, shape
from gkv.errors import InvalidItem, InvalidMember, MemberConflict, WrongContentType, WrongParameter
from gkv.proxy.described_changes import RUNNING
from gkv.proxy.words import MAX_BODY
from gkv.wire.blob import JSON

_CLUSTER_ID: Schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_INCARNATION: Schema = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
_ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"}
_URL = r"^https?://([a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:]+\]):[1-9][0-9]{0,4}$"
_NAMES = (
    "cluster generation epoch replicas min_in_sync lease_ms durability vnodes placement members next next_since "
    "rebuilt_from removed"
)
_PARTS: dict[str, Schema] = {
    "cluster": _CLUSTER_ID,
    "generation": _COUNT,
    "epoch": _COUNT,
    "replicas": _COUNT,
    "min_in_sync": _COUNT,
    "lease_ms": _COUNT,
    "durability": {"enum": ["sync", "async"]},
    "vnodes": _COUNT,
    "placement": _COUNT,
    "next": {
        "oneOf": [
            {"type": "null"},
            shape(
                "weights vnodes replicas placement",
                "zones tokens_of",
                weights=array(array({})),
                vnodes=_COUNT,
                replicas=_COUNT,
                placement=_COUNT,
                zones=array(array({}), description="of those nodes that have one"),
                tokens_of=array(array({}), description="of those nodes that have another one's place in the ring"),
            ),
        ],
        "description": "what the ring is to be; with one copy no write is accepted until it is",
    },
    "next_since": _COUNT,
    "rebuilt_from": array(array(_COUNT), description="generation and epoch of what was rebuilt"),
    "removed": array(_INCARNATION),
    "ended": array(_INCARNATION, description="with copies: processes that have certainly ended"),
    "pace": {
        **shape(
            "rate paused",
            rate={"type": ["integer", "null"], "minimum": 0, "description": "records a second and source, null: --fill-rate"},
            paused={"type": "boolean"},
        ),
        "description": "of the change of the ring that is under way, where it is not the usual one",
    },
}
_STATE: Schema = {
    "enum": ["up", "filling", "down"],
    "description": "up: it counts; filling: it is there, and is made equal to its keys' primaries; down: it does not serve",
}
CLUSTER = Operation(
    "Get the cluster document, and who has called in lately",
    {
        200: ResponseDoc(
            "The document in force; `answers` says whether a process was heard within the last second",
            {
                JSON: Content(
                    shape(
                        _NAMES + " waits_for",
                        "copies change ended pace",
                        members=array(
                            {
                                "allOf": [
                                    {"type": "object", "required": ["id", "url", "state", "incarnation", "empty", "answers"]},
                                    {
                                        "properties": {
                                            "answers": {"type": "boolean"},
                                            "state": _STATE,
                                            "keys": {
                                                "type": ["integer", "null"],
                                                "minimum": 0,
                                                "description": "with copies: keys that it holds, null if it says nothing",
                                            },
                                            "loss_in": {
                                                "type": "number",
                                                "minimum": 0,
                                                "description": "with copies, once its loss has been accepted: seconds until "
                                                "that takes effect, if it answers nobody meanwhile",
                                            },
                                            "removal_in": {
                                                "type": "number",
                                                "minimum": 0,
                                                "description": "once it is to be removed: seconds until that begins, if it "
                                                "answers nobody meanwhile",
                                            },
                                            "filling": {
                                                **shape(
                                                    "lists equal share taken dropped",
                                                    lists={**_COUNT, "description": "preference lists that it learns"},
                                                    equal={**_COUNT, "description": "those that are equal to their primaries'"},
                                                    share={**_SHARE, "description": "the part that is compared or taken"},
                                                    taken={**_COUNT, "description": "records taken since its start"},
                                                    dropped={**_COUNT, "description": "records dropped since then"},
                                                ),
                                                "description": "while it is being filled: how far it is",
                                            },
                                        }
                                    },
                                ]
                            }
                        ),
                        waits_for=array(
                            _ID,
                            description="members whose documents are still to be shown; with copies also those for one of "
                            "which keys wait that nobody answers for",
                        ),
                        copies=shape(
                            "wanted least missing unanswered",
                            wanted={**_COUNT, "description": "copies that each key is to have"},
                            least={**_COUNT, "description": "copies that count of the keys that have fewest"},
                            missing={**_SHARE, "description": "the share of keys that have fewer"},
                            unanswered={**_SHARE, "description": "the share of keys for which no node answers"},
                        ),
                        change={
                            "oneOf": [{"type": "null"}, RUNNING],
                            "description": "with copies: the change of the ring that is under way",
                        },
                        **_PARTS,
                    )
                )
            },
        )
    },
)
JOIN = Operation(
    "Join the cluster, or say that a member is alive; a node does this by itself, four times a second",
    {
        200: ResponseDoc(
            "The document in force", {JSON: Content(shape(_NAMES, "ended pace", members=array(ref("Member")), **_PARTS))}
        )
    },
    "The call tells, and decides nothing: who is a member is in one of the next documents. The url names the address that the "
    "call comes from, or a name of it, unless the call shows a member's token or certificate; and the node must answer there.",
    body={
        JSON: Content(
            shape(
                "id url incarnation",
                "weight zone pid cluster generation epoch digest records bare volatile era ran document reached equal ready "
                "orderly leaves complaints size fill_rate spare tidy standby",
                id=_ID,
                url={"type": "string", "format": "uri", "pattern": _URL},
                incarnation={**_INCARNATION, "description": "of this process, new at every start"},
                weight={"type": "number", "exclusiveMinimum": 0, "maximum": 1_000, "default": 1},
                zone={"type": "string"},
                pid=_COUNT,
                cluster={"type": ["string", "null"], "description": "whose document or records it has, null for nobody's"},
                generation=_COUNT,
                epoch={**_COUNT, "description": "of the document in force there"},
                digest={"type": "string", "pattern": "^([0-9a-f]{16})?$", "description": "of that document"},
                records={**_COUNT, "description": "keys with a value"},
                bare={"type": "boolean", "default": True, "description": "it holds neither a record nor a tombstone"},
                volatile={"type": "boolean", "default": False, "description": "it keeps its records in memory"},
                era={**_INCARNATION, "description": "generation and epoch that none of its records at the start is later than"},
                ran=array(_INCARNATION, description="processes that ran on its directory before"),
                document={"type": ["object", "null"], "description": "its document, if it is newer than the one here"},
                reached=array(_INCARNATION, description="members that have answered its calls lately"),
                equal={"type": "boolean", "default": False, "description": "it has all that its keys' primaries have"},
                ready={"type": "boolean", "default": False, "description": "and what is to come to it by the next ring"},
                orderly={"type": "boolean", "default": False, "description": "the process before it ended in an orderly way"},
                leaves={"type": "boolean", "default": False, "description": "it is about to end, and holds all writes"},
                complaints=array(array({"type": "string"}), description="members that do not do their part, and how"),
                size={**_COUNT, "description": "bytes of its keys and values"},
                fill_rate={**_COUNT, "description": "records a second that it gives to nodes that are filled, 0 for no bound"},
                standby={"type": "boolean", "default": False, "description": "it waits for an operator's word to be a member"},
                tidy={"type": "boolean", "default": False, "description": "it holds no record that is only others' by now"},
                spare={"type": "boolean", "default": False, "description": "no ring has it, and it holds nothing any more"},
            ),
            {"id": "n1", "url": "http://10.0.0.5:9000", "incarnation": "00c5a1f2b0d4e687"},
        )
    },
    body_limit=MAX_BODY,
    problems=(WrongContentType, InvalidItem, InvalidMember, MemberConflict),
)
_LOSS = shape(
    "node epoch dryRun acts keys fills waits_for progress",
    node={**_ID, "description": "whose loss it is"},
    epoch=_COUNT,
    dryRun={"type": "boolean"},
    acts=array(_ID, description="who will act for its keys with what it has: with one copy the node itself"),
    keys={"type": ["integer", "null"], "description": "that these have now, null if they do not say"},
    fills=array(_ID, description="with copies: who will be filled from that, and lose what it alone has"),
    waits_for=array(_ID, description="with copies: for one of these keys of the node will wait still"),
    progress={"type": "string"},
)
ACCEPT_LOSS = Operation(
    "Accept that what a member had is lost: it, or with copies the next one that has its keys, acts with what it has",
    {
        202: ResponseDoc("It will, by one of the next documents", {JSON: Content(_LOSS)}),
        200: ResponseDoc("It would; dryRun=1", {JSON: Content(_LOSS)}),
    },
    "What its directory held and those that act do not is lost, and reported missing from then on. With copies it is refused "
    "while the process that the document calls down answers anybody, and takes effect when all that it may have promised has "
    "run out: 1.05 leases and 10 s after its last answer, or the proxy's `--deadline` if that is longer; at once where the "
    "member is back without its directory. Until then `loss_in` in /v1/cluster says for how long, and the same call has the "
    "same answer. Of several members that were the last ones together, as after a restore, the one whose loss is accepted last "
    "acts, and the others are filled from it. While a lost document is being rebuilt, the member is not waited for any more.",
    (Parameter("dryRun", "1: only say what would happen", {"type": "integer", "enum": [0, 1], "default": 0}),),
    {JSON: Content(shape("node", node=_ID), {"node": "127.0.0.1:9000"})},
    problems=(WrongContentType, InvalidItem, InvalidMember, MemberConflict, WrongParameter),
)
