"""What a node can be asked about itself, whatever epoch it believes in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar, Self

from gkv.addresses import is_url
from gkv.model import Op, Presence
from gkv.wire.ops.frame import BadFrame, NodeAnswer, NodeRequest, line
from gkv.wire.strict import Pause, no_pause

_digits = re.compile(r"[0-9a-f]{16}").fullmatch


@dataclass(slots=True)
class Status(NodeRequest):
    """Asks which process answers, answered by `Here`, which with `show` brings the document."""

    op: ClassVar[Op] = Op.STATUS
    show: bool = False

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        show = header.get("show", False)
        if start != len(frame):
            raise BadFrame("status has no values")
        if show is not True and show is not False:
            raise BadFrame("show is true or false")
        return cls(show)

    def write(self) -> bytes:
        return line({"op": self.op.value, "show": True} if self.show else {"op": self.op.value})


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
class CallAt(NodeRequest):
    """Tells a member where its cluster's authority is now, answered by `Here`."""

    op: ClassVar[Op] = Op.CALL_AT
    cluster: str
    url: str

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause) -> Self:
        cluster, url = header.get("cluster"), header.get("url")
        if start != len(frame):
            raise BadFrame("call-at has no values")
        if not isinstance(cluster, str) or not isinstance(url, str) or not is_url(url):
            raise BadFrame("call-at has a cluster and a URL")
        return cls(cluster, url)

    def write(self) -> bytes:
        return line({"op": self.op.value, "cluster": self.cluster, "url": self.url})


@dataclass(frozen=True, slots=True)
class Here(Presence, NodeAnswer):
    """The process that answers, and which document is in force there."""

    document: Mapping[str, Any] | None = field(default=None, hash=False)
    """That document as JSON values, if it was asked for."""

    @classmethod
    def read(cls, header: Mapping[str, Any], frame: bytes, start: int, pause: Pause, count: int) -> Self:
        text, era, cluster, order, digest = map(header.get, ("incarnation", "era", "cluster", "order", "digest"))
        document = header.get("document")
        if start != len(frame) or not isinstance(text, str) or not _digits(text):
            raise BadFrame("an answer says which process it is")
        if not isinstance(era, str) or not _digits(era):
            raise BadFrame("an era has 16 hexadecimal digits")
        if cluster is None:
            return cls(int(text, 16), era=int(era, 16))
        if not isinstance(cluster, str) or not isinstance(digest, str):
            raise BadFrame("a document has a cluster and a digest")
        if not isinstance(order, list) or len(order) != 2 or not all(type(one) is int and one >= 0 for one in order):
            raise BadFrame("a document has a generation and an epoch")
        if document is not None and not isinstance(document, dict):
            raise BadFrame("a document is an object")
        return cls(int(text, 16), cluster, (order[0], order[1]), digest, int(era, 16), document)

    def write(self, room: float = inf, pause: Pause = no_pause, most: float = inf) -> bytes:
        about: dict[str, Any] = (
            {} if self.cluster is None else {"cluster": self.cluster, "order": list(self.order), "digest": self.digest}
        )
        if self.document is not None:
            about["document"] = self.document
        return line({"incarnation": f"{self.incarnation:016x}", "era": f"{self.era:016x}", **about})
