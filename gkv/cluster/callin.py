"""The words of a process that calls in at the authority."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import ujson

from gkv.cluster.document import MAX_EPOCH, MAX_GENERATION, Document, incarnation_from
from gkv.cluster.node import id_is_good, node_from_json, node_to_json
from gkv.duties import Fault
from gkv.errors import InvalidMember
from gkv.model import Node

_MEMBERS = frozenset(
    [
        "id",
        "url",
        "weight",
        "zone",
        "incarnation",
        "pid",
        "cluster",
        "generation",
        "epoch",
        "digest",
        "records",
        "bare",
        "volatile",
        "era",
        "ran",
        "document",
        "reached",
        "equal",
        "ready",
        "orderly",
        "complaints",
        "leaves",
        "filling",
        "size",
        "fill_rate",
        "spare",
        "tidy",
        "standby",
    ]
)
_FLAGS = ("equal", "ready", "orderly", "leaves", "spare", "tidy", "standby")
_FAULTS = frozenset(fault.value for fault in Fault)
MAX_COMPLAINTS = 256
MAX_RAN = 1_024
"""Incarnations that ran on a directory, in a call."""
MAX_REACHED = 4_096
"""Incarnations of members, likewise: an authority hears no more processes than these."""
_NO_DOCUMENT = (0, 0)
_MOST_COUNTED = 1 << 62


@dataclass(frozen=True, slots=True)
class FillProgress:
    """The progress of a member that is being filled."""

    lists: int
    """Preference lists that it learns."""
    equal: int
    """Those of them that are equal to their primaries'."""
    share: float
    """The part of them, from 0 to 1, that has been compared or taken."""
    taken: int
    """Records that were taken since its process began."""
    dropped: int

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read it from JSON values, of which all must be there; raise InvalidMember."""
        names = [field.name for field in fields(cls)]
        if not isinstance(data, Mapping) or data.keys() != set(names):
            raise _wrong("filling", f"filling has the members {', '.join(names)}")
        share: Any = data["share"]
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise _wrong("filling", "share is a number from 0 to 1")
        counts = [data[name] for name in ("lists", "equal", "taken", "dropped")]
        if not all(type(count) is int and 0 <= count <= _MOST_COUNTED for count in counts):
            raise _wrong("filling", f"the counts of filling are whole numbers from 0 to {_MOST_COUNTED}")
        lists, equal, taken, dropped = counts
        return cls(lists, equal, float(share), taken, dropped)


@dataclass(frozen=True, slots=True)
class CallIn:
    """A node says who it is, what it holds, and which document is in force there."""

    node: Node
    incarnation: int
    zone: str = ""
    pid: int = 0
    cluster: str | None = None
    """The one of its document, or of its records if it has none."""
    order: tuple[int, int] = _NO_DOCUMENT
    """Generation and epoch of the document in force there."""
    digest: str = ""
    """Of that document, as two of one order may differ."""
    records: int = 0
    """Keys with a value that it holds."""
    bare: bool = True
    """Whether it holds neither a record nor a tombstone."""
    volatile: bool = False
    """Whether it keeps its records in memory."""
    era: int = 0
    """An era that none of the records is later than which its directory had at its start."""
    ran: tuple[int, ...] = ()
    """Incarnations that ran on its directory before. Left out once its line has this process's, unless it shows a document."""
    document: Document | None = None
    """Shown to an authority whose own is older, or of another cluster."""
    reached: tuple[int, ...] = ()
    """Incarnations of the members that have answered its calls lately. While no records are copied nobody asks."""
    equal: bool = False
    """Whether, by that document, each of its lists has a primary, and it acts for it or is equal to it."""
    ready: bool = False
    """Whether that is so of the lists that are to come to it, too."""
    orderly: bool = False
    """Whether the process before it on its directory ended in an orderly way."""
    leaves: bool = False
    """Whether the process is about to end, holds all writes, and has settled those that it had begun."""
    complaints: tuple[tuple[str, str], ...] = ()
    """Members of that document that do not do their part, each with its `Fault`."""
    filling: FillProgress | None = None
    """Its progress, while it is being filled."""
    size: int = 0
    """Bytes of the keys and values that it holds."""
    fill_rate: int = 0
    """Records a second that it gives to those that are filled from it, 0 for as many as they ask for."""
    spare: bool = False
    """Whether no ring has it by that document, and it holds no record any more."""
    tidy: bool = False
    """Whether it has looked at all its records since the lists are those of now, and holds none that is others' alone."""

    standby: bool = False
    """Whether it is to become a member by an operator's word only."""

    @property
    def id(self) -> str:
        return self.node.id

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        members = node_to_json(self.node) | {
            "zone": self.zone,
            "incarnation": f"{self.incarnation:016x}",
            "pid": self.pid,
            "cluster": self.cluster,
            "generation": self.order[0],
            "epoch": self.order[1],
            "digest": self.digest,
            "records": self.records,
            "bare": self.bare,
            "volatile": self.volatile,
            "era": f"{self.era:016x}",
            "ran": [f"{one:016x}" for one in self.ran],
            "document": self.document and self.document.to_json(),
        }
        if self.reached:
            members["reached"] = [f"{one:016x}" for one in self.reached]
        if self.complaints:
            members["complaints"] = [list(one) for one in self.complaints]
        if self.filling is not None:
            members["filling"] = asdict(self.filling)
        if self.size:
            members["size"] = self.size
        if self.fill_rate:
            members["fill_rate"] = self.fill_rate
        return members | {name: True for name in _FLAGS if getattr(self, name)}

    def has(self, document: Document) -> bool:
        """Return whether this document is in force there."""
        return (self.cluster, self.order, self.digest) == (document.cluster, document.order, document.digest)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read it from JSON values, of which id, url and incarnation must be there; raise InvalidMember."""
        unknown = sorted(set(data) - _MEMBERS) if isinstance(data, Mapping) else []
        if unknown:
            raise InvalidMember(f"unknown member {ujson.dumps(unknown[0][:64])}")
        node = node_from_json(data)
        document = data.get("document")
        cluster, digest, zone = data.get("cluster"), data.get("digest", ""), data.get("zone", "")
        if cluster is not None and not isinstance(cluster, str):
            raise _wrong("cluster", "a cluster is a string or null")
        if not isinstance(digest, str) or not re.fullmatch(r"([0-9a-f]{16})?", digest):
            raise _wrong("digest", "a digest has 16 hexadecimal digits, or none")
        if not isinstance(zone, str) or not (zone == "" or id_is_good(zone)):
            raise _wrong("zone", "a zone is a name, or empty")
        return cls(
            node,
            _sixteen_digits("incarnation", data.get("incarnation")),
            zone,
            _number(data, "pid", 1 << 32),
            cluster,
            (_number(data, "generation", MAX_GENERATION), _number(data, "epoch", MAX_EPOCH)),
            digest,
            _number(data, "records", _MOST_COUNTED),
            _flag(data, "bare", default=True),
            _flag(data, "volatile"),
            _sixteen_digits("era", data.get("era", "0" * 16)),
            _incarnations(data, "ran", MAX_RAN),
            None if document is None else _document(document),
            _incarnations(data, "reached", MAX_REACHED),
            equal=_flag(data, "equal"),
            ready=_flag(data, "ready"),
            orderly=_flag(data, "orderly"),
            leaves=_flag(data, "leaves"),
            complaints=_complaints(data),
            filling=FillProgress.from_json(data["filling"]) if "filling" in data else None,
            size=_number(data, "size", _MOST_COUNTED),
            fill_rate=_number(data, "fill_rate", _MOST_COUNTED),
            spare=_flag(data, "spare"),
            tidy=_flag(data, "tidy"),
            standby=_flag(data, "standby"),
        )


def _wrong(name: str, detail: str) -> InvalidMember:
    return InvalidMember(detail, pointers=[(f"/{name}", "not that")])


def _number(data: Mapping[str, Any], name: str, most: int) -> int:
    number = data.get(name, 0)
    if type(number) is not int or not 0 <= number <= most:
        raise _wrong(name, f"{name} is a whole number from 0 to {most}")
    return number


def _flag(data: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    flag = data.get(name, default)
    if flag is True or flag is False:
        return bool(flag)
    raise _wrong(name, "it is true or false")


def _incarnations(data: Mapping[str, Any], name: str, most: int) -> tuple[int, ...]:
    found = data.get(name, [])
    if not isinstance(found, list) or len(found) > most:
        raise _wrong(name, f"{name} has at most {most} incarnations")
    return tuple(_sixteen_digits(name, one) for one in found)


def _complaints(data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = data.get("complaints", [])
    if not isinstance(found, list) or len(found) > MAX_COMPLAINTS or not all(map(_is_complaint, found)):
        raise _wrong("complaints", f"complaints has at most {MAX_COMPLAINTS} pairs of a member and its fault")
    return tuple((about, fault) for about, fault in found)


def _is_complaint(pair: Any) -> bool:
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
        return False
    return bool(id_is_good(pair[0])) and pair[1] in _FAULTS


def _sixteen_digits(name: str, text: Any) -> int:
    try:
        return incarnation_from(text)
    except ValueError:
        raise _wrong(name, "it has 16 hexadecimal digits") from None


def _document(data: Any) -> Document:
    try:
        return Document.from_json(data)
    except ValueError as error:
        raise _wrong("document", f"the document that is shown cannot be: {error}") from None
