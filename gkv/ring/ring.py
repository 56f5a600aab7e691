"""What a ring is, whichever twin computes it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from gkv.model import Node

HASH = "murmur3_x64_128"

DEFAULT_VNODES = 4096
"""Vnodes of a node of weight 1.

A node's share of the keys scatters about the mean by 1/sqrt(vnodes): 1.6 % here, so a fullest node of 1.08 times the mean
is five standard deviations away. 1024 would lie above 1.08 for about one ring in three, 2048 for one in a hundred
(`benchmarks/ring_balance.py` prints the table). More would only cost: a token takes 14 bytes, or 0.9 MB for 16 nodes.
"""

MAX_NODES = 65_536
MAX_VNODES = 1 << 26
"""In the whole ring: 0.9 GB of tokens, and a bound on what a wrong weight can ask for."""


Share = tuple[Node, list[int], list[str]]
"""The part of a batch that one node owns: the node, where its keys stand in the batch, and the keys, both in batch order.

A plain tuple: as a NamedTuple it made a split of 100 keys over 16 nodes 3 us (a third) slower.
"""


class Ring(ABC):
    """Consistent hashing with virtual nodes (Karger et al., 1997; Dynamo, SOSP 2007).

    A node has round(vnodes x weight) tokens, at least one: the hashes of "<node id>:<i>". The owner of a key is the node of
    the first vnode token >= the key's token, wrapping round; equal tokens are ordered by node id.
    """

    __slots__ = ("counts", "nodes", "vnodes")

    nodes: tuple[Node, ...]
    """The members, ascending by id. What follows names a node by its place here."""
    counts: tuple[int, ...]
    """How many vnodes each has."""
    vnodes: int
    """How many a node of weight 1 has."""

    def __init__(self, nodes: Iterable[Node], vnodes: int = DEFAULT_VNODES) -> None:
        """Raise ValueError when there is no node, an id stands twice, or a number is out of bounds."""
        self.nodes = tuple(sorted(nodes, key=lambda node: node.id))
        self.vnodes = vnodes
        ids = [node.id for node in self.nodes]
        if not 1 <= len(ids) <= MAX_NODES:
            raise ValueError(f"a ring has 1 to {MAX_NODES} nodes, not {len(ids)}")
        if len(set(ids)) < len(ids):
            raise ValueError("a node id stands twice")
        if vnodes < 1 or not all(0 < node.weight < MAX_VNODES for node in self.nodes):
            raise ValueError("vnodes and weights are above 0")
        self.counts = tuple(max(1, round(vnodes * node.weight)) for node in self.nodes)
        if sum(self.counts) > MAX_VNODES:
            raise ValueError(f"a ring has at most {MAX_VNODES} vnodes, not {sum(self.counts)}")
        self._build([node.id.encode() for node in self.nodes])

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
    def owner(self, key: str) -> Node:
        """Return the node that owns a key. O(1) expected."""

    @abstractmethod
    def preference(self, key: str, limit: int) -> list[Node]:
        """Return the first `limit` distinct nodes clockwise from a key, the owner first; all, if there are fewer."""

    @abstractmethod
    def split(self, keys: Sequence[str]) -> list[Share]:
        """Group a batch by owner, owners ascending by id, in one call. O(keys)."""

    def shares(self) -> dict[str, float]:
        """Return which part of all tokens each node owns; the sum is 1. O(V)."""
        owned = [0] * len(self.nodes)
        before = self.tokens[-1] - (1 << 64)
        for token, owner in zip(self.tokens, self.owners, strict=True):
            owned[owner] += token - before
            before = token
        return {node.id: part / (1 << 64) for node, part in zip(self.nodes, owned, strict=True)}

    def check(self) -> list[str]:
        """Return what is wrong with the ring, one line a problem; an empty list when all is well. O(V)."""
        problems = []
        pairs = list(zip(self.tokens, self.owners, strict=True))
        if pairs != sorted(pairs):
            problems.append("the vnodes are not in the order of (token, node id)")
        for place, (node, count) in enumerate(zip(self.nodes, self.counts, strict=True)):
            found = sum(owner == place for _, owner in pairs) if len(self.nodes) < 64 else count
            if found != count:
                problems.append(f"node {node.id} has {found} vnodes instead of {count}")
        if len(pairs) != sum(self.counts):
            problems.append(f"there are {len(pairs)} vnodes instead of {sum(self.counts)}")
        if not all(0 <= token < 1 << 64 and owner < len(self.nodes) for token, owner in pairs):
            problems.append("a token is out of range, or belongs to no member")
        return problems

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.nodes)} nodes, {sum(self.counts)} vnodes>"
