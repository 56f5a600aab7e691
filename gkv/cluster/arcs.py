"""The parts of the ring whose keys have one list, in the order of tokens. Pure; no call waits or switches greenlets."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gkv.cluster.lists import Lists
from gkv.cluster.placement import Placement

LAST = (1 << 64) - 1
"""The greatest token."""
_TOKENS_AT_ONCE = 2_048
_OF_TOKENS, _OF_AN_ARC = 90, 3
"""About so many us it takes to look at so many tokens, and to make an arc."""


class Arc(NamedTuple):
    """All tokens from one to another."""

    first: int
    last: int
    mine: bool
    """Whether keys there have the list; else the arc only tells how far it has been looked."""
    cost: int
    """About so many us it has taken to find it."""


def arcs(placement: Placement, preference: tuple[str, ...], coming: tuple[str, ...], start: int) -> Iterator[Arc]:
    """Yield the arcs from a token on, ascending, whose keys have a list, and by the ring that is to come another one.

    What lies between two of them is left out, or yielded as not `mine`, so that who looks can stop at any time.
    """
    lists, then = placement.lists, placement.coming
    try:
        place = lists.lists.index(preference)
        other = ((),).index(coming) if then is None else then.lists.index(coming)
    except ValueError:
        return
    for arc in _arcs_of(lists, place, start):
        if arc.mine and then is not None:
            yield from _within(arc, then, other)
        else:
            yield arc


def _arcs_of(lists: Lists, place: int, start: int) -> Iterator[Arc]:
    tokens, by_token = lists.ring.tokens, _searchable(lists.by_token)
    count = len(tokens)
    at = bisect_left(tokens, start)
    while at < count:
        end = min(at + _TOKENS_AT_ONCE, count)
        try:
            found = by_token.index(place, at, end)
        except ValueError:
            yield Arc(max(start, _behind(tokens, at)), tokens[end - 1], False, _OF_TOKENS)
            at = end
            continue
        first = max(start, _behind(tokens, found))
        if first <= tokens[found]:  # of equal tokens the first has all
            yield Arc(first, tokens[found], True, _OF_AN_ARC)
        at = found + 1
    first = max(start, tokens[-1] + 1)
    if by_token[0] == place and first <= LAST:
        yield Arc(first, LAST, True, _OF_AN_ARC)


def _behind(tokens: Sequence[int], place: int) -> int:
    """Return where the arc of a token begins, of which the first one's has a second part behind the last token."""
    return tokens[place - 1] + 1 if place else 0


def _within(arc: Arc, then: Lists, other: int) -> Iterator[Arc]:
    """Yield the parts of an arc by another ring."""
    tokens, by_token = then.ring.tokens, then.by_token
    count = len(tokens)
    first, at = arc.first, bisect_left(tokens, arc.first)
    while first <= arc.last:
        last = arc.last if at == count else min(tokens[at], arc.last)
        if first <= last:
            yield Arc(first, last, by_token[at % count] == other, _OF_AN_ARC)
        first = max(first, last + 1)
        at += at < count


def _searchable(places: Sequence[int]) -> "array[int]":
    if isinstance(places, array):
        return places
    if isinstance(places, memoryview):
        found = array(places.format)
        found.frombytes(places.cast("B"))
        return found
    return array("I", places)
