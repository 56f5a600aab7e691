"""The cluster document: members, vnodes and epoch, frozen."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlsplit

from gkv.errors import InvalidMember
from gkv.model import Node, era_of
from gkv.ring import DEFAULT_VNODES, vnode_counts

MAX_WEIGHT = 1_000
MIN_TOKENS = 16
"""With fewer a node's share has little to do with its weight: it scatters by a quarter of it or more."""
MAX_TOKENS = 262_144
"""Of one node. Each takes 14 bytes in every process, and more of them make no share more even."""
_id_pattern = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}").fullmatch
_host_pattern = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?").fullmatch


@dataclass(frozen=True, slots=True)
class Document:
    """What all members agree on at one epoch.

    While `joining` is set a change is under way: no write is accepted anywhere, and the next epoch has the node among its
    members or not. Every change is a new document with a greater epoch.
    """

    cluster: str
    """A random id, so that nodes of two clusters are never taken for each other's."""
    epoch: int
    members: tuple[Node, ...] = ()
    """Ascending by id."""
    vnodes: int = DEFAULT_VNODES
    joining: Node | None = None
    replicas: int = 1
    """Copies of each record. This version keeps one."""
    generation: int = 1
    """Goes up when a lost document is rebuilt; documents are ordered by generation and epoch."""
    era: int = field(init=False, compare=False, repr=False)
    """Generation and epoch as one number: nodes ask for it at each request."""

    def __post_init__(self) -> None:
        """Raise ValueError when the members, with the joining one, cannot make a ring."""
        object.__setattr__(self, "era", era_of(self.generation, self.epoch))  # the one way in a frozen dataclass
        if self.members or self.joining:
            vnode_counts(self._with_joining(), self.vnodes)

    def _with_joining(self) -> tuple[Node, ...]:
        if self.joining is None:
            return self.members
        others = [node for node in self.members if node.id != self.joining.id]
        return tuple(sorted([*others, self.joining], key=lambda node: node.id))

    def begin_join(self, node: Node) -> Self:
        """Return the document under which nobody writes. Raise ValueError when there can be no ring with this node."""
        return replace(self, epoch=self.epoch + 1, joining=node)

    def finish_join(self) -> Self:
        """Return the document with the joining node among the members, in place of an older entry with its id."""
        if self.joining is None:
            raise ValueError("nobody is joining")
        return replace(self, epoch=self.epoch + 1, members=self._with_joining(), joining=None)

    def abandon_join(self) -> Self:
        """Return the document with the members as they were."""
        return replace(self, epoch=self.epoch + 1, joining=None)

    def member(self, node_id: str) -> Node | None:
        """Return the member with this id."""
        return next((node for node in self.members if node.id == node_id), None)

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON values."""
        return {
            "cluster": self.cluster,
            "epoch": self.epoch,
            "replicas": self.replicas,
            "vnodes": self.vnodes,
            "members": [node_to_json(node) for node in self.members],
            "joining": self.joining and node_to_json(self.joining),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a document; raise ValueError when it is none, or asks for what this version cannot do."""
        try:
            cluster, epoch, vnodes = data["cluster"], data["epoch"], data["vnodes"]
            entries = data["members"]
            members = tuple(node_from_json(entry) for entry in entries)
            joining = None if data["joining"] is None else node_from_json(data["joining"])
            replicas = data["replicas"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is no cluster document: {error}") from None
        except InvalidMember as error:
            raise ValueError(f"it names a node that cannot be: {error}") from None
        numbers = all(type(number) is int and number > 0 for number in (epoch, vnodes))
        if not (isinstance(entries, list) and isinstance(cluster, str) and re.fullmatch(r"[0-9a-f]{32}", cluster) and numbers):
            raise ValueError("it is no cluster document: cluster, epoch or vnodes is wrong")
        if [node.id for node in members] != sorted({node.id for node in members}):
            raise ValueError("it is no cluster document: the members are not in the order of their ids")
        if type(replicas) is not int or replicas != 1:
            raise ValueError(f"it asks for {replicas} replicas; this version keeps one")
        return cls(cluster, epoch, members, vnodes, joining)


def check_weight(node: Node, vnodes: int) -> None:
    """Raise InvalidMember, with advice, for a weight that no node may join with.

    Documents of earlier versions may have members of such a weight, which stay what they are.
    """
    tokens = round(vnodes * node.weight)
    if not MIN_TOKENS <= tokens <= MAX_TOKENS:
        raise InvalidMember(
            f"with a weight of {node.weight:g} {node.id} would have {tokens:,} tokens of {MIN_TOKENS} to {MAX_TOKENS:,}: "
            f"take a weight of {MIN_TOKENS / vnodes:g} to {MAX_TOKENS / vnodes:g}, where 1 is an ordinary node's",
            pointers=[("/weight", "not a weight for this cluster")],
        )


def node_to_json(node: Node) -> dict[str, Any]:
    """Return a node as JSON values."""
    return {"id": node.id, "url": node.url, "weight": node.weight}


def node_from_json(data: Any) -> Node:
    """Read a node from JSON values; raise InvalidMember, naming what is wrong."""
    if not isinstance(data, Mapping):
        raise InvalidMember("a node is an object")
    node_id, url, weight = data.get("id"), data.get("url"), data.get("weight", 1.0)
    if not isinstance(node_id, str) or not _id_pattern(node_id):
        raise InvalidMember(
            "an id has 1 to 64 letters, digits, '.', '_', ':' or '-', and starts with a letter or a digit",
            pointers=[("/id", "not a node id")],
        )
    if not isinstance(url, str) or not _is_node_url(url):
        raise InvalidMember("a url is http://HOST:PORT or https://HOST:PORT", pointers=[("/url", "not a node's URL")])
    number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if not number or not 0 < weight <= MAX_WEIGHT:  # which no NaN is
        raise InvalidMember(f"a weight is a number above 0, at most {MAX_WEIGHT}", pointers=[("/weight", "not a weight")])
    return Node(node_id, url, float(weight))


def _is_node_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    return bool(port and _host_pattern(host) and url in (f"http://{host}:{port}", f"https://{host}:{port}"))
