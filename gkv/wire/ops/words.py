"""The words of members to each other about copies: a message of `gkv.replication.messages`, with a header that says who
speaks, and under which document.

    {"op":"word","cluster":"5f1c...","generation":1,"epoch":7,"sender":"n1","incarnation":"93b1f0...","say":"copy","number":5,
     "writes":[{"version":"000100000000000700000000000000a1","at":1700000000000,"keys":["hi"],"sizes":[7]}],"settled":[]}
    "hello"

A message travels as a call, and its reply as that call's answer. Whether it is from the process that the document has, and of
the epoch of now, is for the machines of `gkv.replication` to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Self

from gkv.model import Op, Record, split_era
from gkv.replication.messages import Copy, FoundRecord, Message, Page, Reply
from gkv.wire.ops.fields import Payload
from gkv.wire.ops.frame import (
    BadFrame,
    Large,
    NodeAnswer,
    NodeRequest,
    NoRoom,
    incarnation_from,
    is_id,
    line,
    read_epoch,
    read_era,
)
from gkv.wire.ops.messages import fields_of, read_message
from gkv.wire.shown import join
from gkv.wire.strict import Pause, no_pause

_LATER = "a record is of a later era than the document"


@dataclass(slots=True)
class Word(NodeRequest):
    """A member says something to another one, answered by `Said`. `era` and `incarnation` are the speaker's."""

    op: ClassVar[Op] = Op.WORD
    cluster: str
    era: int
    sender: str
    incarnation: int
    message: Message

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        cluster, era = read_epoch(header)
        sender, incarnation = _speaker(header)
        message = read_message(header, frame, start, pause)
        _refuse_later(message, era)
        return cls(cluster, era, sender, incarnation, message)

    def write(self) -> bytes:
        generation, epoch = split_era(self.era)
        payload: Payload = []
        header = {
            "op": self.op.value,
            "cluster": self.cluster,
            "generation": generation,
            "epoch": epoch,
            "sender": self.sender,
            "incarnation": f"{self.incarnation:016x}",
            **fields_of(self.message, payload),
        }
        return line(header) + b"".join(payload)


@dataclass(slots=True)
class Said(NodeAnswer):
    """The answer to a word: the reply, None when there is nothing to say. `era` and `incarnation` are those of who answers."""

    era: int
    sender: str
    incarnation: int
    message: Reply | None = None

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        era = read_era(header)
        sender, incarnation = _speaker(header)
        if "say" in header:
            message = read_message(header, frame, start, pause)
            if not isinstance(message, Reply):
                raise BadFrame("a question is no answer")
            _refuse_later(message, era)
            return cls(era, sender, incarnation, message)
        if start != len(frame):
            raise BadFrame("who says nothing has no values")
        return cls(era, sender, incarnation)

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        generation, epoch = split_era(self.era)
        payload: Payload = []
        fields = {} if self.message is None else fields_of(self.message, payload)
        size = sum(map(len, payload))
        if size > room:
            raise NoRoom
        if size > most:
            raise Large(size)
        header = {
            "generation": generation,
            "epoch": epoch,
            "sender": self.sender,
            "incarnation": f"{self.incarnation:016x}",
            **fields,
        }
        return join([line(header), *payload], pause)


def _refuse_later(message: Message, era: int) -> None:
    """Raise BadFrame if a record is of a later era than the document it is sent under: all that is written to its key from now
    on would lose against it, and who holds it could not act any more (`View.act_as`).
    """
    if isinstance(message, Copy):
        for write in message.writes:
            if write.version.era > era:
                raise BadFrame(_LATER)
    elif isinstance(message, Page):
        if any(record.version.era > era for _, record in message.records):
            raise BadFrame(_LATER)
    elif isinstance(message, FoundRecord) and isinstance(message.record, Record) and message.record.version.era > era:
        raise BadFrame(_LATER)


def _speaker(header: Mapping[str, Any]) -> tuple[str, int]:
    sender = header.get("sender")
    if not isinstance(sender, str) or not is_id(sender):
        raise BadFrame("a word says who speaks")
    return sender, incarnation_from(header.get("incarnation"))
