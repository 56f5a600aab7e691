"""The words of an authority about planned moves (A7): a plan, that it is given up, and the answer to both."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Self

from gkv.model import Op, split_era
from gkv.replication.events import Pair
from gkv.wire.ops.frame import BadFrame, NodeAnswer, NodeRequest, incarnation_from, line, pair_from, read_epoch, read_era
from gkv.wire.strict import Pause, no_pause

_number = re.compile(r"[1-9a-f][0-9a-f]{0,31}").fullmatch
"""The number of a plan has the authority's incarnation in it, which is more than a number of JSON may have."""


@dataclass(slots=True)
class PlanMove(NodeRequest):
    """Asks a primary to hold what would begin a write of these lists, and to answer with `Held` when all is settled."""

    op: ClassVar[Op] = Op.PLAN
    cluster: str
    era: int
    """Of the document under which that is to be."""
    incarnation: int
    """Of the process that is meant."""
    plan: int
    lists: tuple[Pair, ...]

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        if start != len(frame):
            raise BadFrame("a plan has no values")
        cluster, era = read_epoch(header)
        lists = header.get("lists")
        if not isinstance(lists, list):
            raise BadFrame("a plan has lists")
        pairs = tuple([pair_from(one) for one in lists])
        return cls(cluster, era, incarnation_from(header.get("incarnation")), _plan_from(header.get("plan")), pairs)

    def write(self) -> bytes:
        generation, epoch = split_era(self.era)
        return line(
            {
                "op": self.op.value,
                "cluster": self.cluster,
                "generation": generation,
                "epoch": epoch,
                "incarnation": f"{self.incarnation:016x}",
                "plan": f"{self.plan:x}",
                "lists": self.lists,
            }
        )


@dataclass(slots=True)
class GoOnWith(NodeRequest):
    """Says that a plan is given up; answered by `Held` at once."""

    op: ClassVar[Op] = Op.GO_ON
    incarnation: int
    plan: int

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        if start != len(frame):
            raise BadFrame("go-on has no values")
        return cls(incarnation_from(header.get("incarnation")), _plan_from(header.get("plan")))

    def write(self) -> bytes:
        return line({"op": self.op.value, "incarnation": f"{self.incarnation:016x}", "plan": f"{self.plan:x}"})


@dataclass(slots=True)
class Held(NodeAnswer):
    """The plan that is answered, and the era of the document in force there."""

    plan: int
    era: int

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        if start != len(frame):
            raise BadFrame("the answer to a plan has no values")
        return cls(_plan_from(header.get("held")), read_era(header))

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        generation, epoch = split_era(self.era)
        return line({"held": f"{self.plan:x}", "generation": generation, "epoch": epoch})


def _plan_from(text: Any) -> int:
    if not isinstance(text, str) or not _number(text):
        raise BadFrame("the number of a plan has hexadecimal digits")
    return int(text, 16)
