"""The cluster document: everything that all members agree on at one epoch, frozen.

Promises: a document is a value; its order is (generation, epoch); `from_json` takes nothing that could not be in force. Leaves
to others: changes (`gkv.cluster.changes`), and the meaning for keys (`gkv.cluster.placement`).
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

import ujson

from gkv.cluster.node import id_is_good, node_from_json, number_in
from gkv.errors import InvalidMember
from gkv.model import Node, era_of
from gkv.pace import USUAL_PACE, Pace
from gkv.ring import DEFAULT_VNODES, vnode_counts

MAX_GENERATION = (1 << 16) - 1
MAX_EPOCH = (1 << 48) - 1
MAX_LEAP = 1_000_000
"""Epochs by which a document that comes from elsewhere may be ahead of the one that is known."""
MAX_COPIES = 5
PLACEMENT = 1
"""The way in which this version makes preference lists."""
LEASE_MS = 1_000
MAX_RATE = 9_999_999
"""Records a second."""
KEPT_ANCESTORS = 64
KEPT_REMOVED = 1_024
KEPT_ENDED = 64
OLD_FORM = "it is the member list of an older version, whose data this version cannot read either: begin with empty directories"


class State(StrEnum):
    """The state of a member."""

    UP = "up"
    FILLING = "filling"
    """It is there, and is to report that it has this document before it counts."""
    DOWN = "down"


class Durability(StrEnum):
    """The moment at which a write is acknowledged."""

    SYNC = "sync"
    """Once it is on disk."""
    ASYNC = "async"
    """Before."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member's line. `Document` says what epochs mean."""

    id: str
    url: str
    weight: float = 1.0
    """The share of the keys against 1 for an ordinary node; 0 while the ring does not have the member."""
    zone: str = ""
    incarnation: int = 0
    """Of the process that acts under this line, 64 random bits."""
    state: State = State.UP
    since: int = 1
    """The epoch of the line's last change."""
    left: int = 0
    """The epoch at which it last stopped being up; 0 if it never did, or if its loss was accepted."""
    rank: int = 0
    """The place among those that left at the same epoch: of them the greatest is the last one."""
    empty: bool = False
    """Whether its directory is not the one under which it wrote; it acts for no key then."""
    volatile: bool = False
    """Whether it keeps its records in memory, so that none of them outlives a process."""
    directory: int = 0
    """The last process that acted under this line: a directory on which it ran has all that the member holds."""
    tokens_of: str = ""
    """The member whose place in the ring it has taken, if it has; nobody else has that id meanwhile."""

    @property
    def acts(self) -> bool:
        """Whether it may answer for keys of which it is the only member left."""
        return self.state is State.UP or (self.state is State.FILLING and not self.empty)

    @property
    def is_first(self) -> bool:
        """Whether no process before can have granted what runs still. Who acts since its loss was accepted has a rank."""
        return not (self.left or self.rank)

    @property
    def node(self) -> Node:
        return Node(self.id, self.url, self.weight, self.tokens_of)


@dataclass(frozen=True, slots=True)
class Layout:
    """All that preference lists are made of."""

    weights: tuple[tuple[str, float], ...]
    """By id, ascending."""
    vnodes: int
    replicas: int = 1
    placement: int = PLACEMENT
    zones: tuple[tuple[str, str], ...] = ()
    """By id, ascending: of those nodes that have one. With one copy they make no difference, and there are none."""
    tokens_of: tuple[tuple[str, str], ...] = ()
    """By id, ascending: of those nodes that have taken another one's place, that one."""

    def __post_init__(self) -> None:
        if self.replicas == 1 and self.zones:
            object.__setattr__(self, "zones", ())  # the one way in a frozen dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """What all members agree on. Every change is a new document with the next epoch."""

    cluster: str
    """A random id, so that nodes of two clusters are never taken for each other's."""
    epoch: int
    members: tuple[Member, ...] = ()
    """Ascending by id."""
    vnodes: int = DEFAULT_VNODES
    generation: int = 1
    """Goes up when a document had to be rebuilt from what members still had."""
    replicas: int = 1
    """Copies of each record; fewer while the ring has fewer members."""
    min_in_sync: int = 0
    """Acting members of a list without which it takes no write. A document that is made with 0 gets the default."""
    lease_ms: int = LEASE_MS
    durability: Durability = Durability.SYNC
    placement: int = PLACEMENT
    next: Layout | None = None
    """The ring that is to come; members are filled by it meanwhile."""
    next_since: int = 0
    """The epoch since which that is so."""
    pace: Pace = USUAL_PACE
    """Of that change; it ends with it."""
    rebuilt_from: tuple[tuple[int, int], ...] = ()
    """Generation and epoch of each document that was rebuilt on the way to this one, oldest first."""
    removed: tuple[int, ...] = ()
    """Incarnations that may not come back."""
    ended: tuple[int, ...] = ()
    """Incarnations of processes that have certainly ended, the last ones: what was granted to them has run out. With one copy
    nothing is, and there are none.
    """
    era: int = field(init=False, compare=False, repr=False)
    """Generation and epoch as one number: nodes ask for it at each request."""
    _lines: dict[str, Member] = field(init=False, compare=False, repr=False, default_factory=dict)
    """The members by id."""
    _digest: list[str] = field(init=False, compare=False, repr=False, default_factory=list)
    """Once it was asked for, the digest."""

    def __post_init__(self) -> None:
        """Raise ValueError when the members cannot make a ring, or not the one that is to come, or for too many copies."""
        self._lines.update((member.id, member) for member in self.members)
        if not 1 <= self.replicas <= MAX_COPIES or not 0 <= self.min_in_sync <= self.replicas:
            raise ValueError(f"there are 1 to {MAX_COPIES} replicas, and min_in_sync is at most that")
        if self.min_in_sync == 0:
            object.__setattr__(self, "min_in_sync", default_min_in_sync(self.replicas))
        object.__setattr__(self, "era", era_of(self.generation, self.epoch))  # the one way in a frozen dataclass
        if self.nodes:
            vnode_counts(self.nodes, self.vnodes)
        if self.next is not None:
            vnode_counts(self.nodes_of(self.next), self.next.vnodes)

    @property
    def order(self) -> tuple[int, int]:
        """The place of this document among all of its cluster."""
        return self.generation, self.epoch

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that tell this document from others of its order. O(members) the first time."""
        if not self._digest:
            text = ujson.dumps(self.to_json(), sort_keys=True).encode()
            self._digest.append(hashlib.blake2b(text, digest_size=8).hexdigest())
        return self._digest[0]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The members that the ring has, ascending by id."""
        return tuple(member.node for member in self.members if member.weight)

    def nodes_of(self, layout: Layout) -> tuple[Node, ...]:
        """Return the members that another ring has. Raise ValueError when one is no member."""
        nodes = []
        tokens_of = dict(layout.tokens_of)
        for node_id, weight in layout.weights:
            member = self.member(node_id)
            if member is None:
                raise ValueError(f"the ring that is to come has {node_id}, which is no member")
            nodes.append(Node(node_id, member.url, weight, tokens_of.get(node_id, "")))
        return tuple(nodes)

    @property
    def layout(self) -> Layout:
        """What the ring in force is made of."""
        weights = tuple((node.id, node.weight) for node in self.nodes)
        tokens_of = tuple((node.id, node.tokens_of) for node in self.nodes if node.tokens_of)
        return Layout(weights, self.vnodes, self.replicas, self.placement, tuple(self.zones.items()), tokens_of)

    @property
    def zones(self) -> dict[str, str]:
        """By id, ascending, the zone of each member that the ring has and that has one."""
        return {member.id: member.zone for member in self.members if member.weight and member.zone}

    @property
    def copies_records(self) -> bool:
        """Whether members send records to each other, so that they follow the rules of copies: each key has several, or is
        to, or another ring is filled beside the one in force.
        """
        return self.replicas > 1 or (self.next is not None and (self.next.replicas > 1 or self.has_ring))

    @property
    def needed(self) -> int:
        """Acting members of a list without which it takes no write: no more than the ring has."""
        return min(self.min_in_sync, len(self.nodes))

    @property
    def has_ring(self) -> bool:
        """Whether the ring in force has members: another is filled beside it; the first of all has nothing to fill."""
        return any(member.weight for member in self.members)

    def has_left(self, node_id: str) -> bool:
        """Return whether a node is in no ring: a line that it has may go when it holds nothing."""
        line = self.member(node_id)
        coming = () if self.next is None else self.next.weights
        return self.has_ring and (line is None or not line.weight) and all(one != node_id for one, _ in coming)

    def member(self, node_id: str) -> Member | None:
        """Return the member with this id."""
        return self._lines.get(node_id)

    def with_member(self, member: Member) -> Self:
        """Return the document with this line, in place of an older one with its id."""
        others = [other for other in self.members if other.id != member.id]
        return replace(self, members=tuple(sorted([*others, member], key=lambda one: one.id)))

    def follows(self, known: Self) -> bool:
        """Return whether this one may take the place of a document that is known.

        Of the same generation it is a later epoch, not absurdly far ahead; of a later one it names the known generation as one
        that was rebuilt on the way.
        """
        if self.cluster != known.cluster:
            return False
        if self.generation == known.generation:
            return known.epoch < self.epoch <= known.epoch + MAX_LEAP
        return self.generation > known.generation and any(of == known.generation for of, _ in self.rebuilt_from)

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON values."""
        members: dict[str, Any] = {
            "cluster": self.cluster,
            "generation": self.generation,
            "epoch": self.epoch,
            "replicas": self.replicas,
            "min_in_sync": self.min_in_sync,
            "lease_ms": self.lease_ms,
            "durability": self.durability.value,
            "vnodes": self.vnodes,
            "placement": self.placement,
            "members": [member_to_json(member) for member in self.members],
            "next": self.next and _layout_to_json(self.next),
            "next_since": self.next_since,
            "rebuilt_from": [list(pair) for pair in self.rebuilt_from],
            "removed": [f"{incarnation:016x}" for incarnation in self.removed],
        }
        if self.pace != USUAL_PACE:
            members["pace"] = {"rate": self.pace.rate, "paused": self.pace.paused}
        return members | {"ended": [f"{one:016x}" for one in self.ended]} if self.ended else members

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read a document; raise ValueError when it is none, or asks for what this version cannot do."""
        if isinstance(data, Mapping) and "joining" in data and "generation" not in data:
            raise ValueError(OLD_FORM)
        try:
            return cls._read(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is no cluster document: {error}") from None
        except InvalidMember as error:
            raise ValueError(f"it names a node that cannot be: {error}") from None

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Self:
        cluster, entries = data["cluster"], data["members"]
        if not isinstance(entries, list) or not isinstance(cluster, str) or not re.fullmatch(r"[0-9a-f]{32}", cluster):
            raise ValueError("it is no cluster document: cluster or members is wrong")
        members = tuple(_member_from_json(entry) for entry in entries)
        if [member.id for member in members] != sorted({member.id for member in members}):
            raise ValueError("it is no cluster document: the members are not in the order of their ids")
        coming = data["next"]
        for copies in (data["replicas"], 1 if coming is None else coming["replicas"]):
            if type(copies) is not int or not 1 <= copies <= MAX_COPIES:
                raise ValueError(f"it asks for {copies} replicas; this version keeps at most {MAX_COPIES}")
        placement = number_in(data, "placement", 1, 1 << 16)
        if placement != PLACEMENT:
            raise ValueError(f"it asks for placement {placement}; this version has {PLACEMENT}")
        return cls(
            cluster,
            number_in(data, "epoch", 1, MAX_EPOCH),
            members,
            number_in(data, "vnodes", 1, 1 << 53),
            number_in(data, "generation", 1, MAX_GENERATION),
            data["replicas"],
            number_in(data, "min_in_sync", 1, data["replicas"]),
            lease_ms=number_in(data, "lease_ms", 1, 3_600_000),
            durability=_word(Durability, data["durability"]),
            next=None if coming is None else _layout_from_json(coming),
            next_since=number_in(data, "next_since", 0, MAX_EPOCH),
            pace=_pace_from_json(data["pace"]) if "pace" in data and coming is not None else USUAL_PACE,
            rebuilt_from=tuple(_pair(pair) for pair in _list(data, "rebuilt_from", KEPT_ANCESTORS)),
            removed=tuple(incarnation_from(text) for text in _list(data, "removed", KEPT_REMOVED)),
            ended=tuple(incarnation_from(text) for text in _list(data, "ended", KEPT_ENDED)) if "ended" in data else (),
        )


def member_to_json(member: Member) -> dict[str, Any]:
    """Return a member's line as JSON values."""
    line: dict[str, Any] = {
        "id": member.id,
        "url": member.url,
        "weight": member.weight,
        "zone": member.zone,
        "incarnation": f"{member.incarnation:016x}",
        "state": member.state.value,
        "since": member.since,
        "left": member.left,
        "rank": member.rank,
        "empty": member.empty,
        "volatile": member.volatile,
        "directory": f"{member.directory:016x}",
    }
    return line | {"tokens_of": member.tokens_of} if member.tokens_of else line


def _member_from_json(data: Any) -> Member:
    node = node_from_json(data, least=0)
    if not isinstance(data["zone"], str) or not (data["zone"] == "" or id_is_good(data["zone"])):
        raise ValueError("it is no cluster document: a zone is wrong")
    return Member(
        node.id,
        node.url,
        node.weight,
        data["zone"],
        incarnation_from(data["incarnation"]),
        _word(State, data["state"]),
        number_in(data, "since", 1, MAX_EPOCH),
        number_in(data, "left", 0, MAX_EPOCH),
        number_in(data, "rank", 0, 1 << 16),
        _flag(data, "empty"),
        _flag(data, "volatile"),
        incarnation_from(data["directory"]),
        _name(data["tokens_of"]) if "tokens_of" in data else "",
    )


def _layout_to_json(layout: Layout) -> dict[str, Any]:
    members: dict[str, Any] = {
        "weights": [list(pair) for pair in layout.weights],
        "vnodes": layout.vnodes,
        "replicas": layout.replicas,
        "placement": layout.placement,
    }
    if layout.zones:
        members["zones"] = [list(pair) for pair in layout.zones]
    return members | {"tokens_of": [list(pair) for pair in layout.tokens_of]} if layout.tokens_of else members


def _layout_from_json(data: Any) -> Layout:
    weights = []
    for pair in _list(data, "weights", 1 << 16):
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("it is no cluster document: the weights of next are wrong")
        weights.append((pair[0], node_from_json({"id": pair[0], "url": "http://h:1", "weight": pair[1]}).weight))
    if [pair[0] for pair in weights] != sorted({pair[0] for pair in weights}):
        raise ValueError("it is no cluster document: the weights of next are not in the order of ids")
    return Layout(
        tuple(weights),
        number_in(data, "vnodes", 1, 1 << 53),
        number_in(data, "replicas", 1, MAX_COPIES),
        number_in(data, "placement", PLACEMENT, PLACEMENT),
        _names_of(data, "zones", weights),
        _names_of(data, "tokens_of", weights),
    )


def _names_of(data: Mapping[str, Any], what: str, weights: Sequence[tuple[str, float]]) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(pair) for pair in data.get(what, [])]
    if not all(len(pair) == 2 and pair[0] in dict(weights) and id_is_good(pair[1]) for pair in pairs):
        raise ValueError(f"it is no cluster document: the {what} of next are wrong")
    if pairs != sorted(dict(pairs).items()):
        raise ValueError(f"it is no cluster document: the {what} of next are not in the order of ids")
    return tuple(pairs)


def _name(text: Any) -> str:
    if not isinstance(text, str) or not id_is_good(text):
        raise ValueError("it is no cluster document: tokens_of is wrong")
    return text


def _pace_from_json(data: Any) -> Pace:
    rate = data["rate"]
    return Pace(None if rate is None else number_in(data, "rate", 0, MAX_RATE), _flag(data, "paused"))


def default_min_in_sync(replicas: int) -> int:
    """Return the acting members of a list without which it takes no write, unless somebody says otherwise."""
    return 1 if replicas <= 2 else replicas - 1


def incarnation_from(text: Any) -> int:
    """Read an incarnation, 16 hexadecimal digits; raise ValueError."""
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-f]{16}", text):
        raise ValueError("it is no cluster document: an incarnation is wrong")
    return int(text, 16)


def _list(data: Mapping[str, Any], name: str, most: int) -> list[Any]:
    found = data[name]
    if not isinstance(found, list) or len(found) > most:
        raise ValueError(f"it is no cluster document: {name} is wrong")
    return found


def _flag(data: Mapping[str, Any], name: str) -> bool:
    if data[name] is True or data[name] is False:
        return bool(data[name])
    raise ValueError(f"it is no cluster document: {name} is wrong")


def _pair(data: Any) -> tuple[int, int]:
    if not isinstance(data, list) or len(data) != 2 or not all(type(number) is int and number > 0 for number in data):
        raise ValueError("it is no cluster document: rebuilt_from is wrong")
    if data[0] > MAX_GENERATION or data[1] > MAX_EPOCH:
        raise ValueError("it is no cluster document: rebuilt_from is beyond its bounds")
    return data[0], data[1]


def _word(kind: Any, text: Any) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"it is no cluster document: {str(text)[:32]!r} is no {kind.__name__.lower()}") from None
