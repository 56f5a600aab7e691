"""What a ring is, whichever twin computes it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from gkv.model import Node

HASH = "murmur3_x64_128"

DEFAULT_VNODES = 4096
"""Vnodes of a node of weight 1.

A node's share of the keys scatters about the mean by 1/sqrt(vnodes): 1.6 % here, so a fullest node of 1.08 times the mean
is five standard deviations away. With 1024, one ring in twenty lies above 1.08, with 2048 one in three hundred
(`benchmarks/ring_balance.py` prints a table). More would only cost: a token takes 14 bytes, or 0.9 MB for 16 nodes.
"""

MAX_NODES = 65_535
NO_PLACE = 0xFFFF
"""Stands in an array of places for a token that no node answers for."""
NOBODY = Node("~")
"""Stands where a node would, for keys that no node answers for; sorts behind the id of every node."""
MAX_VNODES = 1 << 26
"""In the whole ring: 0.9 GB of tokens, and a bound on what a wrong weight can ask for."""


def token_name(node: Node) -> str:
    """Return the name that a node's tokens are made of."""
    return node.tokens_of or node.id


def vnode_counts(nodes: Sequence[Node], vnodes: int) -> tuple[int, ...]:
    """Return how many vnodes each of these nodes has on one ring.

    Raise ValueError when they cannot make a ring: no node, an id that stands twice, a number out of bounds.
    """
    ids = [node.id for node in nodes]
    if not 1 <= len(ids) <= MAX_NODES:
        raise ValueError(f"a ring has 1 to {MAX_NODES} nodes, not {len(ids)}")
    if len(set(ids)) < len(ids):
        raise ValueError("a node id stands twice")
    if len(set(map(token_name, nodes))) < len(ids):
        raise ValueError("two nodes have the same tokens")
    if not 1 <= vnodes <= MAX_VNODES or not all(0 < node.weight <= MAX_VNODES for node in nodes):
        raise ValueError(f"vnodes and weights are above 0 and at most {MAX_VNODES}")
    counts = tuple(max(1, round(vnodes * node.weight)) for node in nodes)
    if sum(counts) > MAX_VNODES:
        raise ValueError(f"a ring has at most {MAX_VNODES} vnodes, not {sum(counts)}")
    return counts


Places = Sequence[int]
"""What `Ring.places` has made, for lookups in that ring."""

Share = tuple[Node, list[int], list[str]]
"""The part of a batch that is one node's: the node or NOBODY, where its keys stand in the batch, and the keys, in batch order.

A plain tuple: as a NamedTuple it made a split of 100 keys over 16 nodes 3 us (a third) slower.
"""


class Ring(ABC):
    """Consistent hashing with virtual nodes (Karger et al., 1997; Dynamo, SOSP 2007).

    A node has round(vnodes x weight) tokens, at least one: the hashes of "<node id>:<i>", or for a node that has taken the
    place of another one, of that one's. The owner of a key is the node of
    the first vnode token >= the key's token, wrapping round; equal tokens are ordered by node id.
    """

    __slots__ = ("counts", "nodes", "own", "vnodes")

    nodes: tuple[Node, ...]
    """The members, ascending by id. What follows names a node by its place here."""
    counts: tuple[int, ...]
    """How many vnodes each has."""
    vnodes: int
    """How many a node of weight 1 has."""
    own: Places
    """The place of each token's owner."""

    def __init__(self, nodes: Iterable[Node], vnodes: int = DEFAULT_VNODES) -> None:
        """Raise ValueError when there is no node, an id stands twice, or a number is out of bounds."""
        self.nodes = tuple(sorted(nodes, key=lambda node: node.id))
        self.vnodes = vnodes
        self.counts = vnode_counts(self.nodes, vnodes)
        self._build([token_name(node).encode() for node in self.nodes])

    @staticmethod
    @abstractmethod
    def token(key: str) -> int:
        """Return a key's token."""

    @abstractmethod
    def _build(self, ids: list[bytes]) -> None:
        """Compute the tokens of nodes with these ids and `self.counts` vnodes."""

    @property
    @abstractmethod
    def tokens(self) -> Sequence[int]:
        """All vnode tokens, ascending."""

    @property
    @abstractmethod
    def owners(self) -> Sequence[int]:
        """The place in `nodes` of each token's node."""

    @abstractmethod
    def find(self, key: str) -> int:
        """Return which of the ring's tokens is the first that is >= the key's, wrapping round. O(1) expected."""

    @abstractmethod
    def find_all(self, keys: Sequence[str]) -> list[int]:
        """Return the same for each of these keys, in one call. O(keys)."""

    @abstractmethod
    def places(self, by_token: Iterable[int]) -> Places:
        """Return an array that lookups take in place of the owners: for each token a place in `nodes`, or NO_PLACE.

        Raise ValueError for anything else.
        """

    @abstractmethod
    def node_of(self, key: str, places: Places) -> Node:
        """Return the node that answers for a key, or NOBODY. O(1) expected."""

    def owner(self, key: str) -> Node:
        """Return the node that owns a key. O(1) expected."""
        return self.node_of(key, self.own)

    @abstractmethod
    def preference(self, key: str, limit: int) -> list[Node]:
        """Return the first `limit` distinct nodes clockwise from a key, the owner first; all, if there are fewer."""

    def _checked(self, by_token: Iterable[int]) -> list[int]:
        places = list(by_token)
        if len(places) != len(self.tokens) or not set(places) - {NO_PLACE} <= set(range(len(self.nodes))):
            raise ValueError("an array of places has one of the ring's nodes for each of its tokens, or nobody")
        return places

    @abstractmethod
    def split(self, keys: Sequence[str], places: Places | None = None) -> list[Share]:
        """Group a batch by the node that answers for each key, ascending by id, NOBODY last, in one call. O(keys).

        Without `places` that is the owner.
        """

    def shares(self) -> dict[str, float]:
        """Return which part of all tokens each node owns; the sum is 1. O(V)."""
        owned = [0] * len(self.nodes)
        before = self.tokens[-1] - (1 << 64)
        for place, owner in zip(self.tokens, self.owners, strict=True):
            owned[owner] += place - before
            before = place
        return {node.id: part / (1 << 64) for node, part in zip(self.nodes, owned, strict=True)}

    def check(self) -> list[str]:
        """Return what is wrong with the ring, one line a problem; an empty list when all is well.

        O(V log V): each token is hashed and sorted anew.
        """
        problems = []
        found = list(zip(self.tokens, self.owners, strict=False))
        expected = sorted(
            (self.token(f"{token_name(node)}:{i}"), place)
            for place, (node, count) in enumerate(zip(self.nodes, self.counts, strict=True))
            for i in range(count)
        )
        if not len(self.tokens) == len(self.owners) == len(expected):
            problems.append(f"there are {len(self.tokens)} tokens and {len(self.owners)} owners of {len(expected)} vnodes")
        if [pair[0] for pair in found] != [pair[0] for pair in expected]:
            problems.append("the tokens are not those of the members, ascending")
        elif found != expected:
            problems.append("a token has the wrong owner")
        return problems

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.nodes)} nodes, {sum(self.counts)} vnodes>"
