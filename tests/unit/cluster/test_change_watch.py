"""The change of the ring that is under way, watched."""

from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster.callin import CallIn, FillProgress
from gkv.cluster.change_watch import ChangeWatch
from gkv.cluster.document import Document
from gkv.cluster.placement import Placement
from gkv.model import Node
from gkv.pace import Pace
from tests.documents import CLUSTER, with_copies

FOUR = with_copies({"d": {"weight": 0.0}}, "abcd")
COMING = replace(FOUR, next=replace(FOUR.layout, weights=tuple((one, 1.0) for one in "abcd")), next_since=7)
PLACEMENT = Placement.of(COMING)


def call(name: str, share: float | None = None, taken: int = 0, document: Document = COMING, **more: Any) -> CallIn:
    filling = None if share is None else FillProgress(4, 0, share, taken, 0)
    known = {"cluster": CLUSTER, "order": document.order, "digest": document.digest, "filling": filling}
    return CallIn(Node(name, f"http://{name}:1"), ord(name), **{"records": 300, "fill_rate": 10, **known, **more})


def watch(*seen: tuple[float, CallIn]) -> tuple[ChangeWatch, list[str]]:
    """Return a watch that has seen these calls of d, and what is said."""
    found = ChangeWatch(lambda call: call())
    others = {one: call(one) for one in "abc"}
    lines = [found.look(COMING, PLACEMENT, others | {"d": one}, at) for at, one in seen]
    return found, [line for line in lines if line is not None]


def test_nothing_is_under_way() -> None:
    found = ChangeWatch(lambda call: call())
    assert found.look(FOUR, PLACEMENT, {}, 1.0) is None
    assert (found.progress, found.expected) == (None, None)


def test_progress_rate_and_what_is_left() -> None:
    found, said = watch((100.0, call("d", 0.0, 50)), (105.0, call("d", 0.5, 150)), (110.0, call("d", 0.75, 200)))
    progress = found.progress
    assert progress is not None
    assert (progress.change.what, progress.since, progress.nodes) == ("d joins", 7, {"d": 0.75})
    assert (progress.share, progress.taken, progress.rate) == (pytest.approx(0.75), 150, 15.0)
    assert progress.left == pytest.approx(10 / 3)
    assert said == ["the ring is changing (d joins): 75% done, 150 records taken, 15 a second, about 3 s are left"]
    assert found.expected is not None
    assert found.expected.keys == pytest.approx(300 * found.expected.gains["d"], abs=5)


def test_what_was_taken_is_not_lost_when_the_process_is_another_one() -> None:
    found, _ = watch((1.0, call("d", 0.2, 100)), (2.0, call("d", 0.6, 160)), (3.0, call("d", 0.1, 7)), (4.0, call("d", 0.2, 9)))
    assert found.progress is not None
    assert (found.progress.taken, found.progress.share) == (69, 0.2)


def test_who_is_equal_is_done_and_who_says_nothing_stays_as_it_was() -> None:
    found, _ = watch((1.0, call("d", 0.2)), (2.0, call("d")), (3.0, call("d", ready=True)))
    assert found.progress is not None
    assert (found.progress.share, found.progress.left) == (1.0, 0.0)
    assert found.look(FOUR, PLACEMENT, {}, 4.0) is None
    assert found.progress is None


def test_time_that_is_left_is_what_is_expected_at_first() -> None:
    found, _ = watch((1.0, call("d", 0.0)))
    assert found.progress is not None
    assert found.expected is not None
    assert found.progress.left == found.expected.seconds is not None


def test_other_pace_is_reckoned_from_its_beginning_on() -> None:
    found, _ = watch((100.0, call("d", 0.0, 50)), (110.0, call("d", 0.1, 150)))
    others = {one: call(one) for one in "abc"}

    def look(pace: Pace, at: float, share: float, taken: int) -> str | None:
        document = replace(COMING, pace=pace)
        return found.look(document, PLACEMENT, others | {"d": call("d", share, taken, document)}, at)

    look(Pace(100), 111.0, 0.1, 150)
    assert (found.progress.rate, found.progress.pace) == (0.0, Pace(100))
    assert found.expected.seconds is not None
    assert found.progress.left == pytest.approx(0.9 * found.expected.seconds / 10)  # the nodes' own rate is 10
    look(Pace(100), 113.0, 0.5, 550)
    assert (found.progress.rate, found.progress.taken) == (200.0, 500)
    assert found.progress.left == pytest.approx(2.5)
    line = look(Pace(100, True), 121.0, 0.5, 550)
    assert line == "the change of the ring is paused (d joins): 50% done, 500 records taken"
    assert (found.progress.left, found.progress.pace.paused) == (None, True)
    look(Pace(0), 122.0, 0.5, 550)
    assert found.progress.left is None
