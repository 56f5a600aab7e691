"""What a node can be asked about itself, whatever epoch it believes in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Self

from gkv.model import Op
from gkv.wire.ops.frame import BadFrame, NodeAnswer, NodeRequest, line
from gkv.wire.strict import Pause, no_pause


@dataclass(slots=True)
class Status(NodeRequest):
    """Asks which process answers, answered by `Here`."""

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
    """Gives the node a cluster document, as JSON values; answered by `Here` once it is in force there."""

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
class Here(NodeAnswer):
    """The incarnation of the process that answers."""

    incarnation: int

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        text = header.get("incarnation")
        if start != len(frame) or not isinstance(text, str) or not re.fullmatch(r"[0-9a-f]{16}", text):
            raise BadFrame("an answer says which process it is")
        return cls(int(text, 16))

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        return line({"incarnation": f"{self.incarnation:016x}"})
