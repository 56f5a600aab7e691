"""The table of verdicts: what is said of a write, by what there is room for."""

import pytest

from gkv.engine.room import BYTES_FOR_A_RECORD, MARGIN, MAX_MAP, MIN_MAP, Demand, Figures, Room, Verdict

MIB = 1 << 20
ONE = Demand(1_000, 1, sets=True)
GONE = Demand(0, 1, sets=False)
PLENTY = Figures(end=10 * MIB, held=8 * MIB, free=1 << 30, size=10 * MIB, reserve=0)
NEED = 2 * ONE.values + MARGIN


def room(*, bound: int = 0, held: int = 0, full: bool = False, snapshot: bool = False) -> Room:
    room = Room(bound, 10 * MIB)
    room.written(held, sets=False)
    if full:
        room.disk_was_full()
    if snapshot:
        room.snapshot_begins(0.0)
    return room


@pytest.mark.parametrize(
    ("state", "demand", "figures", "verdict"),
    [
        ({}, ONE, None, Verdict.GOES),
        ({}, Demand(1 << 30, 9, sets=True), None, Verdict.GOES),  # it is tried, and the map grows
        ({"bound": 20 * MIB, "held": 19 * MIB}, ONE, None, Verdict.GOES),
        ({"bound": 20 * MIB, "held": 19 * MIB + 1}, ONE, None, Verdict.AT_BOUND),
        ({"bound": 20 * MIB, "held": 20 * MIB}, GONE, None, Verdict.GOES),
        ({"full": True}, GONE, PLENTY._replace(free=0), Verdict.GOES),
        ({"full": True}, ONE, PLENTY._replace(free=0, held=10 * MIB), Verdict.DISK_FULL),
        ({"full": True}, ONE, PLENTY._replace(free=0, held=10 * MIB - NEED + 1), Verdict.DISK_FULL),
        ({"full": True}, ONE, PLENTY._replace(free=0, held=10 * MIB - NEED), Verdict.GOES),  # in the file's own free pages
        ({"full": True}, ONE, PLENTY._replace(free=NEED, held=10 * MIB), Verdict.GOES),
        ({"full": True}, ONE, PLENTY._replace(free=NEED, held=10 * MIB, reserve=4 * MIB), Verdict.DISK_FULL),
        ({"full": True}, ONE, PLENTY._replace(free=NEED + 4 * MIB, held=10 * MIB, reserve=4 * MIB), Verdict.GOES),
        ({"snapshot": True}, ONE, PLENTY, Verdict.GOES),
        ({"snapshot": True}, ONE, PLENTY._replace(free=NEED + BYTES_FOR_A_RECORD), Verdict.GOES),
        ({"snapshot": True}, ONE, PLENTY._replace(free=NEED + BYTES_FOR_A_RECORD - 1), Verdict.SNAPSHOT),
        ({"snapshot": True}, GONE, PLENTY._replace(free=0), Verdict.SNAPSHOT),  # it must not be tried: it could not be given up
        ({"snapshot": True}, ONE, PLENTY._replace(free=0, size=20 * MIB), Verdict.GOES),  # room within the file
        ({"snapshot": True}, ONE, PLENTY._replace(end=MIN_MAP - MIB, size=MIN_MAP), Verdict.SNAPSHOT),  # of the map
        ({"snapshot": True, "full": True}, ONE, PLENTY._replace(free=0, held=10 * MIB), Verdict.DISK_FULL),
        ({"snapshot": True, "bound": 20 * MIB, "held": 20 * MIB}, ONE, PLENTY, Verdict.AT_BOUND),
    ],
)
def test_verdict(state: dict[str, int], demand: Demand, figures: Figures | None, verdict: Verdict) -> None:
    asked = room(**state)  # type: ignore[arg-type]
    assert asked.is_tight == (figures is not None or bool(state.get("full") or state.get("snapshot")))
    assert asked.verdict(demand, figures) is verdict


def test_disk_that_has_room_again_is_not_asked_about_any_more() -> None:
    asked = room(full=True)
    full = PLENTY._replace(free=0, held=10 * MIB)
    assert asked.verdict(ONE, full) is Verdict.DISK_FULL
    assert asked.verdict(ONE, PLENTY) is Verdict.GOES
    assert asked.is_tight  # a question changes nothing
    for figures, demand in [
        (full, ONE),
        (PLENTY._replace(free=NEED - 1), ONE),
        (PLENTY._replace(reserve=4 * MIB), ONE),
        (PLENTY, GONE),
    ]:
        asked.disk_has(figures, demand)
        assert asked.is_tight
    asked.disk_has(PLENTY._replace(free=NEED), ONE)
    assert not asked.is_tight


def test_end_of_a_snapshot_is_the_end_of_its_refusals() -> None:
    asked = room(snapshot=True)
    asked.snapshot_is_over()
    assert not asked.is_tight
    assert asked.verdict(GONE) is Verdict.GOES


@pytest.mark.parametrize(
    ("bound", "used", "first", "then"),
    [
        (0, 0, MIN_MAP, 2 * MIN_MAP),
        (0, MIN_MAP, 2 * MIN_MAP, 4 * MIN_MAP),
        (20 * MIB, 0, 20 * MIB, None),
        (100 * MIB, 0, MIN_MAP, 100 * MIB),
        (20 * MIB + 1, 0, 20 * MIB, None),
        (20 * MIB, 30 * MIB, 30 * MIB, None),  # the bound has been made smaller than what is there
    ],
)
def test_map_doubles_up_to_the_bound(bound: int, used: int, first: int, then: int | None) -> None:
    asked = Room(bound, used)
    assert (asked.map_bytes, asked.next_map()) == (first, then)


@pytest.mark.parametrize(
    ("bound", "figures", "least", "most"),
    [
        (0, PLENTY, 10 * MIB + (1 << 30), 11 * MIB + (1 << 30)),
        (0, PLENTY._replace(free=0), MIN_MAP, MIN_MAP),
        (0, PLENTY._replace(end=100 * MIB, free=0), 200 * MIB, 200 * MIB),
        (0, PLENTY._replace(free=1 << 60), MAX_MAP, MAX_MAP),
        (80 * MIB, PLENTY, 80 * MIB, 80 * MIB),
    ],
)
def test_map_before_a_snapshot_takes_what_the_file_may_become(bound: int, figures: Figures, least: int, most: int) -> None:
    assert least <= Room(bound, figures.size).map_for_snapshot(figures) <= most


def test_room_is_full_from_a_full_disk_on_until_somebody_finds_room() -> None:
    asked = room()
    assert not asked.is_full
    asked.disk_was_full()
    assert asked.is_full
    asked.disk_has(PLENTY, GONE)
    assert asked.is_full
    asked.disk_has(PLENTY, ONE)
    assert not asked.is_full
    assert room(bound=20 * MIB, held=19 * MIB + 1).is_full


def test_room_is_full_from_values_that_met_the_bound_on_until_others_are_written() -> None:
    asked = room(bound=20 * MIB, held=10 * MIB)
    assert not asked.is_full
    asked.bound_was_met()
    assert asked.is_full
    assert asked.verdict(ONE) is Verdict.GOES, "fewer values may fit"
    asked.written(10 * MIB, sets=False)
    assert asked.is_full
    asked.written(10 * MIB, sets=True)
    assert not asked.is_full
    asked.bound_was_met()
    asked.written(9 * MIB, sets=False)
    assert not asked.is_full, "deletes have made room"


def test_room_that_is_left_is_the_disks_or_what_the_bound_leaves_to_values() -> None:
    assert Room(0, 0).left(1_000) == 1_000
    room = Room(100 * MARGIN, 0)
    room.written(10 * MARGIN, sets=False)
    assert room.left(1_000 * MARGIN) == 85 * MARGIN  # the last twentieth is for deletes
    assert room.left(7) == 7
    room.written(99 * MARGIN, sets=False)
    assert room.left(1_000 * MARGIN) == 0
