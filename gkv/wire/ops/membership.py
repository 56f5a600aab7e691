"""What a node can be asked about itself, whatever epoch it believes in."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Self

from gkv.model import Op
from gkv.wire.ops.frame import BadFrame, NodeAnswer, NodeRequest, line
from gkv.wire.strict import Pause, no_pause


@dataclass(slots=True)
class Status(NodeRequest):
    """Asks how many records the node holds, answered by `Held`."""

    op: ClassVar[Op] = Op.STATUS

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        if start != len(frame):
            raise BadFrame("status has no values")
        return cls()

    def write(self) -> bytes:
        return line({"op": self.op.value})


@dataclass(slots=True)
class Adopt(NodeRequest):
    """Gives the node a cluster document, as JSON values; answered by `Held` once it is in force there."""

    op: ClassVar[Op] = Op.ADOPT
    document: Mapping[str, Any]

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        document = header.get("document")
        if start != len(frame):
            raise BadFrame("adopt has no values")
        if not isinstance(document, dict):
            raise BadFrame("adopt comes with a document")
        return cls(document)

    def write(self) -> bytes:
        return line({"op": self.op.value, "document": self.document})


@dataclass(slots=True)
class Held(NodeAnswer):
    """How many records the node holds."""

    count: int

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        held = header.get("count")
        if start != len(frame) or type(held) is not int or held < 0:
            raise BadFrame("an answer says how many records there are")
        return cls(held)

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        return line({"count": self.count})
