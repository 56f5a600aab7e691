"""Answers that take longer than others are to wait for: the ticket for one, and the question that asks for it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Self

from gkv.model import Op
from gkv.wire.ops.frame import BadFrame, NodeAnswer, NodeRequest, line
from gkv.wire.strict import Pause, no_pause

_ticket = re.compile(r"[0-9a-f]{16}").fullmatch


@dataclass(slots=True)
class Await(NodeRequest):
    """Asks for the answer that was put off; answered by that, or by `PutOff` with the same ticket."""

    op: ClassVar[Op] = Op.AWAIT
    ticket: int

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        if start != len(frame):
            raise BadFrame("a ticket has no values")
        return cls(_ticket_from(header.get("ticket")))

    def write(self) -> bytes:
        return line({"op": self.op.value, "ticket": f"{self.ticket:016x}"})


@dataclass(slots=True)
class PutOff(NodeAnswer):
    """Says that a request was begun and has no answer yet: that is to be asked for with this ticket."""

    ticket: int

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        if start != len(frame):
            raise BadFrame("a ticket has no values")
        return cls(_ticket_from(header.get("putOff")))

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        return line({"putOff": f"{self.ticket:016x}"})


def _ticket_from(text: Any) -> int:
    if not isinstance(text, str) or not _ticket(text):
        raise BadFrame("a ticket has 16 hexadecimal digits")
    return int(text, 16)
