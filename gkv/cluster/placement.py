"""Where a key lives: which nodes are to hold it, who of them answers for it, and who gets its writes.

A `Placement` is a pure function of the document, so all processes that know one document agree; it
never changes. No call switches greenlets or waits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Self

from gkv.cluster.document import Document, Member, State
from gkv.cluster.lists import Lists
from gkv.duties import Roles
from gkv.model import Node
from gkv.ring import NO_PLACE, NOBODY, Places, Ring, Share

_Pairs = Mapping[tuple[int, int], int]
_BEHIND = 1 << 64
"""Behind all tokens, where the arc of the first one goes on."""
_IN_A_ROW = 16
"""Tokens that are looked at together at first."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The placement of all keys at one epoch."""

    ring: Ring
    copies: int
    """Nodes that are to hold a key; fewer where there are fewer members."""
    primaries: Places
    """For each of the ring's tokens the place of the node that answers for its keys, or NO_PLACE."""
    roles: tuple[Roles, ...]
    """One for each list, or in a change of the ring for each pair of a list and the next one, that a key has."""
    lists: Lists
    coming: Lists | None
    """The lists by the ring that is to come."""
    pairs: _Pairs
    """In a change: by the places of a list and the next one, that of the roles."""
    standings: Mapping[str, tuple[State, int, int, bool]]
    """By id, all of a member's line that roles depend on."""

    @classmethod
    def of(cls, document: Document, before: Self | None = None) -> Self:
        """Make the placement of a document, whose ring must have members; `before` is of an earlier one.

        Its ring and lists are used again while they are made of the same, and the roles of lists
        whose members' lines are the same. For 5 and 16 nodes with 3 copies, on the native twin: all
        anew 6 and 110 ms (60 and 3,360 lists), a member that goes 2 and 16 ms, one that comes back
        0.3 and 7 ms; the beginning of a join 35 and 250 ms, its end 0.7 and 30 ms. With one copy: a
        new ring 1 and 3 ms, a member that goes 2 and 8 ms. A ring of 65,536 tokens whose lists all
        differ takes 65 ms, a member that goes 20 ms, the beginning of a change by one member 100 ms
        (`benchmarks/scale.py`).
        """
        known = () if before is None else (before.lists, before.coming)
        lists = Lists.of(document.nodes, document.vnodes, document.replicas, document.zones, known)
        coming = None
        pairs: _Pairs = {}
        layout = document.next
        if layout is not None:
            zones = dict(layout.zones)
            coming = Lists.of(document.nodes_of(layout), layout.vnodes, layout.replicas, zones, (lists, *known))
            same = before is not None and before.lists is lists and before.coming is coming
            pairs = before.pairs if before is not None and same else _pairs(lists, coming)
        standings = {member.id: _standing(member) for member in document.members}
        roles = _roles(lists, coming, pairs, standings, before)
        primaries = _primaries(lists, pairs, roles, before)
        return cls(lists.ring, document.replicas, primaries, roles, lists, coming, pairs, standings)

    def list_of(self, key: str) -> int:
        """Return the place in `roles` of those that are a key's."""
        place = self.lists.place(key)
        return place if self.coming is None else self.pairs[place, self.coming.place(key)]

    def lists_of(self, keys: Sequence[str]) -> list[int]:
        """Return the same for each of these keys. O(keys), in one call of each ring."""
        places = self.lists.places(keys)
        if self.coming is None:
            return places
        return list(map(self.pairs.__getitem__, zip(places, self.coming.places(keys), strict=True)))

    def preference(self, key: str) -> list[Node]:
        """Return the nodes that are to hold a key, in the order in which they would answer for it."""
        if self.copies == 1:
            return [self.ring.owner(key)]
        nodes = {node.id: node for node in self.ring.nodes}
        return [nodes[node_id] for node_id in self.lists.lists[self.lists.place(key)]]

    def primary(self, key: str) -> Node | None:
        """Return the node that answers for a key, None when nobody does."""
        node = self.ring.node_of(key, self.primaries)
        return None if node is NOBODY else node

    def led_by(self, member: str, keys: Sequence[str]) -> Sequence[str]:
        """Return those of keys for which a member answers. O(keys), in one call of the ring."""
        if len(self.ring.nodes) == 1 and self.roles[0].primary == member and len(self.roles) == 1:
            return keys
        roles = self.roles
        return [key for key, one in zip(keys, self.lists_of(keys), strict=True) if roles[one].primary == member]

    def strange_to(self, member: str, keys: Sequence[str]) -> list[str]:
        """Return those of keys that are in none of a member's lists, by the ring in force or the one to come. O(keys)."""
        strange = [is_strange(one, member) for one in self.roles]
        return [key for key, one in zip(keys, self.lists_of(keys), strict=True) if strange[one]]

    def awaited(self, member: str) -> tuple[str, ...]:
        """Return the members for one of which keys of a member wait, as nobody acts for them; ascending. O(lists)."""
        found: set[str] = set()
        for one in self.roles:
            if member in one.preference and not one.acting:
                found.update(last_ones(one.preference, self.standings))
        return tuple(sorted(found))

    def split(self, keys: Sequence[str]) -> list[Share]:
        """Group keys by primary, ascending by id, those of NOBODY last. O(keys), in one call of the ring."""
        return self.ring.split(keys, self.primaries)


def acting(preference: Sequence[str], standings: Mapping[str, tuple[State, int, int, bool]]) -> tuple[str, ...]:
    """Return the members of a list that act, the primary first.

    They are those that are up; if there are none, the last one that was, once it is filling and has
    the directory that it had.
    """
    up = tuple([one for one in preference if standings[one][0] is State.UP])
    if up or not preference:
        return up
    for one in last_ones(preference, standings):
        state, _, _, empty = standings[one]
        if state is State.FILLING and not empty:
            return (one,)
    return ()


def last_ones(preference: Sequence[str], standings: Mapping[str, tuple[State, int, int, bool]]) -> tuple[str, ...]:
    """Return those of a list that were the last to be up: one, or those that left together and are not ranked yet. While
    nobody is up, the list waits for the first of them that is there with the directory that it had.
    """
    last = max(standings[one][1:3] for one in preference)
    return tuple([one for one in preference if standings[one][1:3] == last])


def is_strange(roles: Roles, member: str) -> bool:
    """Return whether a member is in neither list: what it has of such keys may go."""
    return not roles.has(member)


def roles_of(
    preference: tuple[str, ...], coming: tuple[str, ...], standings: Mapping[str, tuple[State, int, int, bool]]
) -> Roles:
    """Return who does what for a list, and for the next one in a change of the ring."""
    act = acting(preference, standings)
    learners = [one for one in preference if standings[one][0] is State.FILLING and one not in act]
    learners += [one for one in coming if one not in preference and standings[one][0] is not State.DOWN]
    return Roles(preference, coming, act[0] if act else None, act, tuple(learners))


def _standing(member: Member) -> tuple[State, int, int, bool]:
    return member.state, member.left, member.rank, member.empty


def _pairs(lists: Lists, coming: Lists) -> dict[tuple[int, int], int]:
    """Return the pairs of a list and the next one that keys have: one for each arc of both rings together."""
    now, then = [*lists.ring.tokens, _BEHIND], [*coming.ring.tokens, _BEHIND]
    mine, others = [*lists.by_token, lists.by_token[0]], [*coming.by_token, coming.by_token[0]]
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(now):
        found.append((mine[i], others[j]))
        if now[i] != then[j]:
            if now[i] < then[j]:
                i += 1
            else:
                j += 1
            continue
        i += 1
        j += 1
        many = _IN_A_ROW
        while i < len(now) and now[i : i + many] == then[j : j + many]:  # a change of few members leaves long parts alone
            found += zip(mine[i : i + many], others[j : j + many], strict=True)
            i += many
            j += many
            many *= 2
    pairs: dict[tuple[int, int], int] = {}
    for pair in found:
        pairs.setdefault(pair, len(pairs))
    return pairs


def _roles(
    lists: Lists,
    coming: Lists | None,
    pairs: _Pairs,
    standings: Mapping[str, tuple[State, int, int, bool]],
    before: Placement | None,
) -> tuple[Roles, ...]:
    same = before is not None and before.lists is lists and before.coming is coming
    if before is not None and same:
        others = {one for one, standing in standings.items() if before.standings.get(one) != standing}
        if not others:
            return before.roles
        return tuple(
            [
                known
                if others.isdisjoint(known.preference) and others.isdisjoint(known.coming)
                else roles_of(known.preference, known.coming, standings)
                for known in before.roles
            ]
        )
    are_up = frozenset([one for one, (state, *_) in standings.items() if state is State.UP]).issuperset
    names = _named(lists, coming, pairs)
    made = tuple.__new__  # of 65,000: `Roles()` takes about twice as long
    return tuple(
        [
            made(Roles, (one, other, one[0], one, ()))
            if are_up(one) and (not other or other == one)
            else roles_of(one, other, standings)
            for one, other in names
        ]
    )


def _named(lists: Lists, coming: Lists | None, pairs: _Pairs) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    if coming is None:
        return zip(lists.lists, repeat(()))
    now, then = lists.lists, coming.lists
    return ((now[one], then[other]) for one, other in pairs)


def _primaries(lists: Lists, pairs: _Pairs, roles: tuple[Roles, ...], before: Placement | None) -> Places:
    """Return who answers for each token: the ring's owners if the first of every list does."""
    ring = lists.ring
    if all(one.primary == one.preference[0] for one in roles):
        return ring.own
    by_list = _by_list(lists, pairs, roles)
    if before is not None and before.lists is lists and by_list == _by_list(lists, before.pairs, before.roles):
        return before.primaries
    places: dict[str | None, int] = {node.id: place for place, node in enumerate(ring.nodes)}
    places[None] = NO_PLACE
    primaries = [places[one] for one in by_list]
    return ring.places([primaries[one] for one in lists.by_token])


def _by_list(lists: Lists, pairs: _Pairs, roles: tuple[Roles, ...]) -> list[str | None]:
    """Return for each list who answers for its keys, whatever the next one is."""
    if not pairs:
        return [one.primary for one in roles]
    primaries: list[str | None] = [None] * len(lists.lists)
    for (place, _), one in zip(pairs, roles, strict=True):
        primaries[place] = one.primary
    return primaries
