"""Preference lists: the nodes that are to hold each key, in order. A pure function of a layout.

A list has the first N distinct nodes clockwise from a key. With zones a node is skipped while its
zone is in the list already; where that leaves too few, the skipped ones fill it up, clockwise. A
node without a zone shares none with anybody.

Promise: a node that joins changes only lists that it is in. No call switches greenlets or waits.
"""

from array import array
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import perm
from typing import Self

from gkv.model import Node
from gkv.ring import Ring, build


@dataclass(frozen=True, slots=True)
class Lists:
    """All lists of one ring."""

    ring: Ring
    copies: int
    """Nodes that a list has; fewer where the ring has fewer."""
    zones: tuple[str, ...]
    """Of each of the ring's nodes."""
    lists: tuple[tuple[str, ...], ...]
    """Those that occur, each once, as ids."""
    by_token: Sequence[int]
    """For each of the ring's tokens the place of its list."""

    @classmethod
    def of(
        cls, nodes: tuple[Node, ...], vnodes: int, copies: int, zones: Mapping[str, str], known: Iterable[Self | None] = ()
    ) -> Self:
        """Return the lists of these nodes, ascending by id; `zones` is by id.

        What is among those `known` is not made again. A ring takes about 1 ms for 5 nodes and 3 ms
        for 16 on the native twin, 15 ms for each node on the pure one; lists of three copies on it
        5 and 100 ms.
        """
        zoned = tuple(zones.get(node.id, "") for node in nodes)
        ring = None
        for one in known:
            if one is not None and (one.ring.nodes, one.ring.vnodes) == (nodes, vnodes):
                if (one.copies, one.zones) == (copies, zoned):
                    return one
                ring = one.ring
        if ring is None:
            ring = build(nodes, vnodes)
        ids = [node.id for node in nodes]
        if copies == 1:
            return cls(ring, copies, zoned, tuple((one,) for one in ids), ring.owners)
        kinds = [zone or place for place, zone in enumerate(zoned)]
        if len(set(kinds)) >= copies and perm(len(kinds), copies) > len(ring.tokens):
            lists, by_token = _numbered(_apart(ids, kinds, [*ring.owners], copies))
        else:
            found, by_token = _recurring(ring.owners, zoned, copies)
            lists = tuple(tuple(ids[place] for place in one) for one in found)
        return cls(ring, copies, zoned, lists, by_token)

    def place(self, key: str) -> int:
        """Return the place of a key's list. O(1) expected."""
        return self.by_token[self.ring.find(key)]

    def places(self, keys: Sequence[str]) -> list[int]:
        """Return the same for each of these keys. O(keys), in one call of the ring."""
        by_token = self.by_token
        return [by_token[at] for at in self.ring.find_all(keys)]


def choose(clockwise: Sequence[int], zones: Sequence[str], copies: int) -> tuple[int, ...]:
    """Return the list of a key, from all nodes as they follow it clockwise, each once.

    >>> choose((0, 1, 2, 3), ("a", "a", "b", ""), 3), choose((0, 1, 2), ("a", "a", "b"), 3)
    ((0, 2, 3), (0, 2, 1))
    """
    chosen: list[int] = []
    skipped = []
    seen = set()
    for place in clockwise:
        zone = zones[place]
        if zone and zone in seen:
            skipped.append(place)
            continue
        seen.add(zone)
        chosen.append(place)
        if len(chosen) == copies:
            return tuple(chosen)
    return (*chosen, *skipped[: copies - len(chosen)])


def _apart(ids: Sequence[str], kinds: Sequence[Hashable], owners: Sequence[int], copies: int) -> list[tuple[str, ...]]:
    """Return the list of each token where no list needs two nodes of one kind, be that a zone or a node without one.

    Most are the owners of so many tokens in a row. Where two of these are of a kind, the list has its owner, and of the list of
    the token behind it those of other kinds, as many as there is room for; so they are made counter-clockwise.
    """
    by_id = dict(zip(ids, kinds, strict=True))
    rows = [owners, *[[*owners[shift:], *owners[:shift]] for shift in range(1, copies)]]
    lists = list(zip(*[map(ids.__getitem__, row) for row in rows], strict=True))
    first: dict[Hashable, str] = {}
    for place in dict.fromkeys(owners):
        first.setdefault(kinds[place], ids[place])
    lists[0] = tuple(first.values())[:copies]
    of_kinds: Iterable[Iterable[Hashable]] = lists
    if len(set(kinds)) < len(kinds):
        of_kinds = zip(*[map(kinds.__getitem__, row) for row in rows], strict=True)
    for at in reversed([at for at, many in enumerate(map(len, map(set, of_kinds))) if many < copies]):
        owner = ids[owners[at]]
        kind = by_id[owner]
        behind = lists[at + 1 - len(lists)]
        lists[at] = (owner, *[one for one in behind if by_id[one] != kind][: copies - 1])
    return lists


def _numbered(by_token: Sequence[tuple[str, ...]]) -> tuple[tuple[tuple[str, ...], ...], Sequence[int]]:
    """Return the lists that occur, each once, and for each token the place of its list."""
    numbers: dict[tuple[str, ...], int] = {}
    places = array("I", [numbers.setdefault(one, len(numbers)) for one in by_token])
    return tuple(numbers), places


def _recurring(owners: Sequence[int], zones: Sequence[str], copies: int) -> tuple[list[tuple[int, ...]], Sequence[int]]:
    """Return the lists that occur, and for each token the place of its list, for any zones. Fast where few lists occur: for
    65,536 tokens whose lists all differ it takes 150 ms, `_apart` 30.

    Counter-clockwise: the nodes of a token's list, in the order in which they follow it (`window`),
    are its owner and nodes of the window of the token behind it. A node outside that has all of it
    before itself, so what keeps it out there keeps it out here. Going round from each token takes 10
    times as long.
    """
    lists: dict[tuple[int, ...], int] = {}
    windows: dict[tuple[int, ...], int] = {}
    known: list[tuple[int, tuple[int, ...], dict[int, int]]] = []
    """By number of a window: the place of its list, its nodes, and by the owner of the token before
    the number of that one's window.
    """

    def number(clockwise: list[int]) -> int:
        chosen = choose(clockwise, zones, copies)
        window = tuple([place for place in clockwise if place in chosen])
        found = windows.setdefault(window, len(windows))
        if found == len(known):
            known.append((lists.setdefault(chosen, len(lists)), window, {}))
        return found

    window = number([*dict.fromkeys(owners)])
    by_token = array("I", bytes(4 * len(owners)))
    at = len(owners)
    for owner in reversed(owners):
        _, nodes, before = known[window]
        found = before.get(owner)
        if found is None:
            clockwise = [*nodes]
            if owner in nodes:
                clockwise.remove(owner)
            clockwise.insert(0, owner)
            found = before[owner] = number(clockwise)
        window = found
        at -= 1
        by_token[at] = known[window][0]
    return list(lists), by_token
