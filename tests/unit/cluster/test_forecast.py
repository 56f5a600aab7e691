"""What a change of the ring will move, and how it is said."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, Layout, Member, State
from gkv.cluster.forecast import Forecast, forecast
from gkv.cluster.placement import Placement
from gkv.cluster.ring_change import Kind, ring_change
from gkv.model import Node
from tests.documents import CLUSTER

VNODES = 512
TOTAL = 10_000
"""Keys of the cluster."""


def cluster(ids: str = "abcd", **changes: Any) -> Document:
    lines = tuple(Member(one, f"http://{one}:1", incarnation=ord(one)) for one in ids)
    return Document(CLUSTER, 7, lines, VNODES, **{"replicas": 3, **changes})


def weights(**found: float) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(found.items()))


def calls(document: Document, **changes: Any) -> dict[str, CallIn]:
    """Return the calls of members that have equal shares of the keys."""
    each = TOTAL * document.replicas // len(document.nodes)
    said = {"records": each, "size": 100 * each, "fill_rate": 1_000, **changes}
    return {one.id: CallIn(Node(one.id, one.url), one.incarnation, **said) for one in document.members}


def expected(document: Document, layout: Layout, **changes: Any) -> Forecast:
    return forecast(document, layout, Placement.of(document), calls(document, **changes))


FOUR = cluster()
EVEN = dict.fromkeys("abcd", 1.0)
CHANGES = {
    "a join": (replace(FOUR.layout, weights=weights(**EVEN, e=1.0)), 1 / 5, {"e"}),
    "a leave": (replace(FOUR.layout, weights=weights(a=1.0, b=1.0, c=1.0)), 1 / 4, {"a", "b", "c"}),
    "a heavier node": (replace(FOUR.layout, weights=weights(**(EVEN | {"b": 2.0}))), None, {"b"}),
    "a lighter node": (replace(FOUR.layout, weights=weights(**(EVEN | {"b": 0.5}))), None, {"a", "c", "d"}),
    "fewer copies": (replace(FOUR.layout, replicas=2), 0.0, set()),
    "more copies": (replace(FOUR.layout, replicas=4), 1 / 4, {"a", "b", "c", "d"}),
}


@pytest.mark.parametrize(("layout", "share", "gainers"), CHANGES.values(), ids=CHANGES.keys())
def test_change_moves_what_it_has_to_and_to_those_that_gain_only(
    layout: Layout, share: float | None, gainers: set[str]
) -> None:
    found = expected(FOUR, layout)
    assert found.moved == pytest.approx(found.ideal, rel=0.1)
    assert share is None or found.moved == pytest.approx(share, rel=0.1)
    assert {flow.to for flow in found.flows} == gainers
    assert all(flow.source != flow.to for flow in found.flows)
    assert found.keys == pytest.approx(found.moved * TOTAL * layout.replicas, rel=0.06, abs=2)
    assert found.size == pytest.approx(100 * (found.keys or 0), rel=0.001)


def test_flows_are_what_placements_say() -> None:
    layout = replace(FOUR.layout, weights=weights(**EVEN, e=1.0))
    coming = replace(FOUR.with_member(Member("e", "http://e:1", 0.0)), next=layout, next_since=8)
    now, then = Placement.of(FOUR), Placement.of(coming)
    counts: dict[tuple[str | None, str], int] = {}
    keys = [f"key/{number}" for number in range(4_000)]
    for key in keys:
        roles = then.roles[then.list_of(key)]
        for one in roles.learners:
            counts[now.primary(key).id, one] = counts.get((now.primary(key).id, one), 0) + 1  # type: ignore[union-attr]
    flows = {(flow.source, flow.to): flow.share for flow in forecast(FOUR, layout, now, {}).flows}
    assert flows.keys() == counts.keys()
    assert flows == pytest.approx({pair: count / len(keys) for pair, count in counts.items()}, rel=0.15)
    assert flows == pytest.approx({(one.source, one.to): one.share for one in forecast(coming, layout, then, {}).flows})


def test_source_is_whoever_acts() -> None:
    down = FOUR.with_member(replace(FOUR.members[0], state=State.DOWN, left=5))
    layout = replace(FOUR.layout, weights=weights(b=1.0, c=1.0, d=1.0))
    assert {flow.source for flow in expected(down, layout).flows} == {"b", "c", "d"}


def test_time_is_that_of_the_slowest_source() -> None:
    layout = replace(FOUR.layout, weights=weights(**EVEN, e=1.0))
    found = expected(FOUR, layout)
    given: dict[str, int] = {}
    for flow in found.flows:
        given[flow.source] = given.get(flow.source, 0) + (flow.keys or 0)
    assert found.seconds == pytest.approx(max(given.values()) / 1_000)
    assert expected(FOUR, layout, fill_rate=0).seconds is None


def test_nothing_is_said_of_keys_that_nobody_reports() -> None:
    layout = replace(FOUR.layout, weights=weights(**EVEN, e=1.0))
    found = forecast(FOUR, layout, Placement.of(FOUR), {})
    assert (found.keys, found.size, found.seconds) == (None, None, None)
    assert found.moved > 0.15


def test_members_that_are_not_up_are_not_asked_how_many_keys_there_are() -> None:
    filling = FOUR.with_member(replace(FOUR.members[0], state=State.FILLING))
    reports = calls(filling) | {"a": CallIn(Node("a", "http://a:1"), ord("a"))}
    layout = replace(FOUR.layout, replicas=4)
    found = forecast(filling, layout, Placement.of(filling), reports)
    assert found.keys == pytest.approx(TOTAL, rel=0.05)


def test_after_a_change_those_count_that_have_dropped_what_is_others_by_now() -> None:
    """Right after three copies have become two every member has half as much again as is its own."""
    before = replace(FOUR, replicas=3)
    now = replace(FOUR, replicas=2)
    may_hold = expected(before, now.layout).may_hold

    def keys(reports: dict[str, CallIn], held: Mapping[str, float] | None) -> float:
        found = forecast(now, replace(now.layout, replicas=3), Placement.of(now), reports, held)
        assert found.size == pytest.approx(100 * (found.keys or 0), rel=0.01)
        return found.keys or 0

    untidy = calls(before)
    assert keys(untidy, None) == pytest.approx(1.5 * TOTAL, rel=0.05)
    assert keys(untidy, may_hold) == pytest.approx(TOTAL, rel=0.05)
    assert keys(calls(before, records=15_000, size=1_500_000), may_hold) == pytest.approx(2 * TOTAL, rel=0.05)  # more by now
    less = {"d": replace(untidy["d"], records=5_000, size=500_000)}
    assert keys(untidy | less, may_hold) == pytest.approx(TOTAL, rel=0.05)
    tidy = {"c": replace(untidy["c"], records=6_000, size=600_000, tidy=True)}
    assert keys(untidy | less | tidy, may_hold) == pytest.approx(1.2 * TOTAL, rel=0.05)


ZONED = replace(FOUR.layout, zones=(("a", "x"), ("b", "x")))
WORDS = {
    "nothing": (FOUR, FOUR.layout, Kind.NONE, (), "nothing changes"),
    "a join": (FOUR, replace(FOUR.layout, weights=weights(**EVEN, e=2.0)), Kind.JOIN, ("e",), "e joins"),
    "a leave": (FOUR, replace(FOUR.layout, weights=weights(a=1.0, b=1.0, d=1.0)), Kind.LEAVE, ("c",), "c leaves"),
    "a removal": (
        replace(FOUR, removed=(ord("c"),)),
        replace(FOUR.layout, weights=weights(a=1.0, b=1.0, d=1.0)),
        Kind.REMOVAL,
        ("c",),
        "c is removed",
    ),
    "a weight": (
        FOUR,
        replace(FOUR.layout, weights=weights(**(EVEN | {"b": 0.5}))),
        Kind.WEIGHT,
        ("b",),
        "the weight of b becomes 0.5 (now 1)",
    ),
    "zones": (FOUR, ZONED, Kind.ZONE, ("a", "b"), "a comes to the zone x, b comes to the zone x"),
    "copies": (FOUR, replace(FOUR.layout, replicas=2), Kind.COPIES, (), "each key has 2 copies (now 3)"),
    "vnodes": (FOUR, replace(FOUR.layout, vnodes=64), Kind.VNODES, (), "an ordinary node has 64 vnodes (now 512)"),
    "a replacement": (
        FOUR,
        replace(FOUR.layout, weights=weights(a=1.0, c=1.0, d=1.0, e=1.0), tokens_of=(("e", "b"),)),
        Kind.REPLACEMENT,
        ("b", "e"),
        "e replaces b",
    ),
    "several": (
        FOUR,
        replace(FOUR.layout, weights=weights(a=1.0, b=1.0, d=1.0, e=1.0)),
        Kind.JOIN,
        ("c", "e"),
        "e joins, c leaves",
    ),
}


@pytest.mark.parametrize(("document", "layout", "kind", "nodes", "what"), WORDS.values(), ids=WORDS.keys())
def test_change_in_words(document: Document, layout: Layout, kind: Kind, nodes: tuple[str, ...], what: str) -> None:
    found = ring_change(document, layout)
    assert (found.kind, found.nodes, found.what) == (kind, nodes, what)
