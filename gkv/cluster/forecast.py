"""The forecast of a change of the ring: who gets how much from whom, before a byte moves. Pure.

Keys, bytes and time are estimates: of each arc of the ring so many keys as its length has of all. Whoever
gets a list that it does not have is filled from the list's primary, and nobody else moves anything.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, Layout, State
from gkv.cluster.lists import Lists
from gkv.cluster.placement import Placement, acting
from gkv.cluster.replacement import with_lines

_RING = 1 << 64

_Shares = Mapping[tuple[tuple[str, ...], tuple[str, ...]], float]
"""By a list and the next one, the share of keys that have these."""


@dataclass(frozen=True, slots=True, order=True)
class _Total:
    """All keys of a cluster, each counted once, about."""

    keys: float
    size: float
    """Bytes of keys and values."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The keys that one member gets from another one."""

    source: str
    to: str
    share: float
    """Of all keys, from 0 to 1."""
    keys: int | None = None
    """None while nobody says how many there are."""
    size: int | None = None
    """Bytes of these keys and their values."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """All that a change will move."""

    flows: tuple[Flow, ...]
    """Ascending by source and receiver."""
    moved: float
    """The share of all copies that move."""
    ideal: float
    """The share that has to move at least, for each member to have as much as it will."""
    keys: int | None
    """Copies of keys that move."""
    size: int | None
    seconds: float | None
    """The time that the slowest source takes at its rate; None where it is not known, or has no bound."""
    may_hold: Mapping[str, float] = field(default_factory=dict)
    """By id, the share of all keys that a member may hold after it, until it has dropped what is others' by then."""

    @property
    def gains(self) -> dict[str, float]:
        """By id, the share of all keys that a member is given."""
        gains: defaultdict[str, float] = defaultdict(float)
        for flow in self.flows:
            gains[flow.to] += flow.share
        return dict(gains)


def forecast(
    document: Document,
    layout: Layout,
    placement: Placement,
    calls: Mapping[str, CallIn],
    may_hold: Mapping[str, float] | None = None,
) -> Forecast:
    """Return what moves when the ring of a document becomes another one; `placement` is the document's, `calls` are by id.
    `may_hold` is that of the change before, if there was one.

    A newcomer need not be a member yet. O(tokens of both rings): 40 ms for 5 nodes, 20 s for 1,000.
    """
    nodes = with_lines(document, layout).nodes_of(layout)
    coming = Lists.of(nodes, layout.vnodes, layout.replicas, dict(layout.zones), (placement.coming, placement.lists))
    shares = _shares(placement.lists, coming)
    total = _total(document, shares, calls, may_hold)
    moved: defaultdict[tuple[str, str], float] = defaultdict(float)
    for (preference, then), share in shares.items():
        source = (*acting(preference, placement.standings), preference[0])[0]
        for gainer in then:
            if gainer not in preference:
                moved[source, gainer] += share
    flows = tuple(_flow(source, to, share, total) for (source, to), share in sorted(moved.items()))
    copies = sum(share * len(then) for (_, then), share in shares.items())
    before, after = _held(shares, 0), _held(shares, 1)
    ideal = sum(max(0.0, share - before.get(one, 0.0)) for one, share in after.items())
    return Forecast(
        flows,
        sum(moved.values()) / copies,
        ideal / copies,
        None if total is None else sum(flow.keys or 0 for flow in flows),
        None if total is None else sum(flow.size or 0 for flow in flows),
        seconds_of(flows, calls),
        _either(shares),
    )


def _flow(source: str, to: str, share: float, total: _Total | None) -> Flow:
    if total is None:
        return Flow(source, to, share)
    return Flow(source, to, share, round(total.keys * share), round(total.size * share))


def _shares(lists: Lists, coming: Lists) -> _Shares:
    """Return the pairs of a list and the next one that keys have, each with its share."""
    found: defaultdict[tuple[int, int], int] = defaultdict(int)
    for pair, arc in _arcs(lists, coming):
        found[pair] += arc
    return {(lists.lists[one], coming.lists[other]): arc / _RING for (one, other), arc in found.items()}


def _arcs(lists: Lists, coming: Lists) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield the arcs of both rings together: the places of their two lists, and how many tokens they have."""
    now, then = list(lists.ring.tokens), list(coming.ring.tokens)
    mine, next_ones = list(lists.by_token), list(coming.by_token)
    ends = sorted({*now, *then})
    before = ends[-1] - _RING
    i = j = 0
    for end in ends:
        yield (mine[i % len(mine)], next_ones[j % len(next_ones)]), end - before
        before = end
        i = _behind(now, i, end)
        j = _behind(then, j, end)


def _behind(tokens: Sequence[int], place: int, end: int) -> int:
    """Return the place of the first token behind one, from a place on."""
    while place < len(tokens) and tokens[place] <= end:
        place += 1
    return place


def _held(shares: _Shares, side: int) -> dict[str, float]:
    """Return by id the share of all keys that a member has, by the ring of now (0) or the next one (1)."""
    held: defaultdict[str, float] = defaultdict(float)
    for pair, share in shares.items():
        for node_id in pair[side]:
            held[node_id] += share
    return dict(held)


def _either(shares: _Shares) -> dict[str, float]:
    """Return by id the share of all keys that a member has by one ring or the other."""
    held: defaultdict[str, float] = defaultdict(float)
    for pair, share in shares.items():
        for node_id in {*pair[0], *pair[1]}:
            held[node_id] += share
    return dict(held)


def _total(
    document: Document, shares: _Shares, calls: Mapping[str, CallIn], may_hold: Mapping[str, float] | None
) -> _Total | None:
    """Return all that there is, by what members say that are up; None if none of them does.

    After a change members have more than is theirs, until they have dropped that. So those count that have. While nobody has,
    it is the one with the most for what it may hold still by the ring before, or the one with the least for its share if that
    is not known.
    """
    held = _held(shares, 0)
    up = [one.id for one in document.members if one.state is State.UP and one.id in calls and held.get(one.id)]
    if not up:
        return None
    if tidy := [one for one in up if calls[one].tidy]:
        share = sum(held[one] for one in tidy)
        return _Total(sum(calls[one].records for one in tidy) / share, sum(calls[one].size for one in tidy) / share)
    totals = {one: _Total(calls[one].records / held[one], calls[one].size / held[one]) for one in up}
    if may_hold is not None:
        part = {one: held[one] / max(held[one], may_hold.get(one, 0.0)) for one in up}
        return max(_Total(totals[one].keys * part[one], totals[one].size * part[one]) for one in up)
    return min(totals.values())


def seconds_of(flows: Sequence[Flow], calls: Mapping[str, CallIn], rate: int | None = None) -> float | None:
    """Return the time that the slowest source takes at its rate, or at another one; None where it is not known, or has no
    bound.
    """
    given: defaultdict[str, int] = defaultdict(int)
    for flow in flows:
        if flow.keys is None:
            return None
        given[flow.source] += flow.keys
    rates = {one: rate if rate is not None else calls[one].fill_rate if one in calls else 0 for one in given}
    if not all(rates.values()):
        return None
    return max([keys / rates[one] for one, keys in given.items()], default=0.0)
